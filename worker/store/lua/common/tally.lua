-- Count for a batch what becomes of its jobs, so that watching it costs the same however long it
-- is. Common to the scripts that end jobs. BATCH, ROWS and ROW_JOBS are prefixes.

-- Say whether the batch of a job was cancelled: what begins behind the one who cancels (a row that
-- is just being submitted, a follow-up of a job that has just succeeded) must not be paid for.
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
  -- From here on its rows are known for as long again, or they would be bought a second time.
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
