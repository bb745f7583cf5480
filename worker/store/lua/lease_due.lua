-- Lease the jobs whose moment has come: move each a little into the future and return it.
-- Closes the race between sweeps: any number may run, and each job goes to one of them. A
-- sweep that dies loses nothing, for its jobs come due again when the lease ends.
--
-- What is cancelled or expires before the gate may be thousands at once, and each ends by a leg of
-- its own. So these wait aside, and few at a time stand before the jobs whose webhooks come.
--
-- A job that was claimed before its worker was upgraded stands here and not with the ready ones.
--
-- Returns job ids, the longest overdue first.
--! uses ends ready
--! keys DUE RECORDS ENDING LEAVING READY RING
--! args now until_at most
-- A worker ends so many in less than half a second. Who is not back in a minute is given up.
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
  -- What something else has ended, or resumed, meanwhile has its own moment.
  local _, ends = look(id)
  if ends then
    redis.call('ZADD', LEAVING, now, id)
    lease(id)
  end
end
return leased
