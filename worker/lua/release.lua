-- Admit who waits before the gate, for as long as it is open: interactive before batch, and the
-- tenants of each by their shares (start-time fair queuing).
-- Closes the race between workers that release at once: each job goes to one of them.
--
-- KEYS  1 prefix of the records  2 due  3 jobs  4-8 the gate's (gate.lua)
-- ARGV  1 now  2 moment at which a job that was not published is stale  3 how many at most
--       4-8 limits (gate.lua)  9 JSON: the share of each tenant that is not 1
-- Returns {job ids, moment to ask again ('' where nobody waits, or only an event can open the
-- gate)}.
local now, most, limits, weights = tonumber(ARGV[1]), tonumber(ARGV[3]), read_limits(4), cjson.decode(ARGV[9])

local function next_class()
  local waiting = {}
  for _, class in ipairs(CLASSES) do
    if redis.call('EXISTS', LANES .. class) == 1 then table.insert(waiting, class) end
  end
  if #waiting < 2 then return waiting[1] end
  local served = tonumber(redis.call('HGET', GATE, 'served') or '0')
  return served % BATCH_TURN == BATCH_TURN - 1 and 'batch' or 'interactive'
end

local function admit(id, cost)
  pass(id, limits, cost, now)
  redis.call('HINCRBY', GATE, 'served', 1)
  redis.call('ZADD', ADMITTED, now, id)
  redis.call('HSET', KEYS[1] .. id, 'state', 'admitted')
  redis.call('ZADD', KEYS[2], ARGV[2], id)
  tell(KEYS[1] .. id, cjson.encode({at = now, what = 'admit', state = 'admitted'}), TURN_ROOM)
end

redis.call('ZREMRANGEBYSCORE', ADMITTED, '-inf', now - AWAY_SECONDS)
most = math.min(most, ON_THEIR_WAY - redis.call('ZCARD', ADMITTED))
local admitted, again = {}, ARGV[1]
-- Bounded: one call must not stop the server for long, however many were cancelled meanwhile.
for _ = 1, 20 * most do
  local class = next_class()
  if not class or most < 1 then again = '' end
  if not class or #admitted >= most then break end
  local tenant, share = unpack(redis.call('ZRANGE', LANES .. class, 0, 0, 'WITHSCORES'))
  redis.call('HSET', GATE, 'virtual:' .. class, share)
  local held = HELD .. class .. ':' .. tenant
  local id = redis.call('ZRANGE', held, 0, 0)[1]
  if not id then
    -- Not when its last job left: whoever comes one by one has no more than their share either.
    redis.call('ZREM', LANES .. class, tenant)
  else
    local r = redis.call('HMGET', KEYS[1] .. id, 'state', 'cost', 'cancelled_by')
    -- One that was cancelled is not submitted: the sweep ends it in its turn (due.lua).
    if r[1] == 'held' and not r[3] then
      local why, at = closed(limits, tonumber(r[2]), now)
      if why then
        again = at or ''
        break
      end
      admit(id, tonumber(r[2]))
      redis.call('ZADD', LANES .. class, share + 1 / (weights[tenant] or 1), tenant)
      table.insert(admitted, id)
    end
    redis.call('ZREM', held, id)
  end
end
return {admitted, again}
