-- Count for a batch what becomes of its jobs, so that watching it costs the same however long it
-- is. Prepended to the scripts that end jobs; KEYS 9-11 are the prefixes of the
-- counters, of the rows, and of the jobs of the rows.
local ENDS = {succeeded = true, failed = true, cancelled = true, expired = true}

-- Say whether the batch of a job was cancelled: what begins behind the one who cancels (a row that
-- is just being submitted, a follow-up of a job that has just succeeded) must not be paid for.
local function called_off(job)
  local batch = redis.call('HGET', job, 'batch')
  return batch and redis.call('HGET', KEYS[9] .. batch, 'phase') == 'cancelled'
end

local function count(job, before, to)
  local batch = redis.call('HGET', job, 'batch')
  if not batch then return end
  local counters = KEYS[9] .. batch
  if before ~= '' and not ENDS[to] then return end
  if before == '' then redis.call('HINCRBY', counters, 'jobs', 1) end
  -- From here on its rows are known for as long again, or they would be bought a second time.
  local retained = redis.call('HGET', counters, 'retained_seconds')
  for i = 9, retained and 11 or 0 do redis.call('EXPIRE', KEYS[i] .. batch, retained) end
  if not ENDS[to] then return end
  redis.call('HINCRBY', counters, to, 1)
  local r = redis.call('HMGET', job, 'cost', 'error')
  if to == 'succeeded' then redis.call('HINCRBY', counters, 'spent', r[1] or '0') end
  -- Not by cjson: half a surrogate pair, as a provider may cut it, is more than that takes.
  local failure = r[2] and string.match(r[2], '^{"type": "(%w+)"')
  if failure then redis.call('HINCRBY', counters, 'error:' .. failure, 1) end
end
