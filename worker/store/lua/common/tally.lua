-- Count how the jobs of a batch end. So reading a batch's progress costs the same for 10 rows as for
-- 10,000. Common to the scripts that end jobs. BATCH, ROWS and ROW_JOBS are prefixes.

-- Say whether the batch of a job was cancelled. A cancellation scans the jobs once. A job that begins
-- behind the scan (a row in submission, a follow-up of a job that has just succeeded) finds it here,
-- and is not paid for.
local function called_off(job)
  local batch = redis.call('HGET', job, 'batch')
  return batch and redis.call('HGET', BATCH .. batch, 'phase') == 'cancelled'
end

local function count(job, before, to)
  local batch = redis.call('HGET', job, 'batch')
  if not batch then return end
  local counters = BATCH .. batch
  if before ~= '' and not ENDS[to] then return end
  if before == '' then redis.call('HINCRBY', counters, 'jobs', 1) end
  -- Renew the batch's time to live. If it expired first, a second run would buy the rows again.
  local retained = redis.call('HGET', counters, 'retained_seconds')
  for _, prefix in ipairs(retained and {BATCH, ROWS, ROW_JOBS} or {}) do
    redis.call('EXPIRE', prefix .. batch, retained)
  end
  if not ENDS[to] then return end
  redis.call('HINCRBY', counters, to, 1)
  local r = redis.call('HMGET', job, 'cost', 'error_type')
  if to == 'succeeded' then redis.call('HINCRBY', counters, 'spent', r[1] or '0') end
  if r[2] then redis.call('HINCRBY', counters, 'error:' .. r[2], 1) end
end

-- Take a job off the counters: another one runs in its place. A row names the first of its jobs, and
-- finds the others from there, so the record is kept for as long as the batch.
local function discount(job)
  local r = redis.call('HMGET', job, 'batch', 'state', 'error_type')
  local counters = BATCH .. (r[1] or '')
  local retained = redis.call('HGET', counters, 'retained_seconds')
  if not (r[1] and retained) then return end
  redis.call('HINCRBY', counters, 'jobs', -1)
  redis.call('HINCRBY', counters, r[2], -1)
  if r[3] then redis.call('HINCRBY', counters, 'error:' .. r[3], -1) end
  retain(job, retained)
end
