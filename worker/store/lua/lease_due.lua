-- Lease the jobs that are due: move each due time to `until_at`, and return the jobs.
-- Closes the race between sweeps: any number may run, and each job goes to one of them. If a sweep
-- dies, its jobs come due again when the lease ends.
--
-- Thousands of jobs may be cancelled or expire at the gate at once, and each ends by a resumed leg. So
-- these jobs move from `due` to `ending`, and only a few are `leaving` at a time: otherwise they would
-- stand before the jobs whose webhooks arrive.
--
-- A job that the previous version claimed is in `due`, not in `ready`. It is moved there.
--
-- Returns job ids, the longest overdue first.
--! uses ends ready
--! keys DUE RECORDS ENDING LEAVING READY RING
--! args now until_at most
-- A worker ends 100 jobs in less than half a second. A job that has not ended in a minute counts no more.
local ON_THEIR_WAY, AWAY_SECONDS = 100, 60
-- Bounded: one call must not stop the server for long.
local LOOKED_AT = 5000
local now, most, leased = tonumber(now), tonumber(most), {}

local function lease(id)
  redis.call('ZADD', DUE, until_at, id)
  table.insert(leased, id)
end

local function look(id)
  local r = redis.call('HMGET', RECORDS .. id, 'state', 'cancelled_by')
  return r[1], r[1] == 'held' or (r[2] and (r[1] == 'queued' or r[1] == 'admitted'))
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, LOOKED_AT)) do
  if #leased == most then break end
  local state, ends = look(id)
  if ends then
    redis.call('ZREM', DUE, id)
    redis.call('ZADD', ENDING, 'NX', now, id)
  elseif state == 'resuming' then
    redis.call('ZREM', DUE, id)
    make_ready(READY, RING, id)
  else
    lease(id)
  end
end

redis.call('ZREMRANGEBYSCORE', LEAVING, '-inf', now - AWAY_SECONDS)
for _, id in ipairs(redis.call('ZRANGE', LEAVING, 0, -1)) do
  local state = redis.call('HGET', RECORDS .. id, 'state')
  if not state or ENDS[state] then redis.call('ZREM', LEAVING, id) end
end
local room = math.min(most, ON_THEIR_WAY - redis.call('ZCARD', LEAVING))
for _, id in ipairs(room > 0 and redis.call('ZRANGE', ENDING, 0, room - 1) or {}) do
  redis.call('ZREM', ENDING, id)
  -- If something else has ended or resumed the job meanwhile, there is nothing left to lease.
  local _, ends = look(id)
  if ends then
    redis.call('ZADD', LEAVING, now, id)
    lease(id)
  end
end
return leased
