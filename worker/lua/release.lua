-- Admit who waits before the gate, for as long as it is open: interactive before batch, and the
-- tenants of each by their shares (start-time fair queuing).
-- Closes the race between workers that release at once: each job goes to one of them.
--
-- KEYS  1 prefix of the records  2 due  3 jobs  4-8 the gate's (gate.lua)
-- ARGV  1 now  2 moment at which a job that was not published is stale  3 how many at most
--       4-8 limits (gate.lua)
-- Returns {job ids, moment to ask again ('' where only an event can open the gate),
-- anybody waits: 1 or 0}.
local now, limits = tonumber(ARGV[1]), read_limits(4)

local function next_class()
  local waiting = {}
  for _, class in ipairs(CLASSES) do
    if redis.call('EXISTS', LANES .. class) == 1 then table.insert(waiting, class) end
  end
  if #waiting < 2 then return waiting[1] end
  local served = tonumber(redis.call('HGET', GATE, 'served') or '0')
  return served % BATCH_TURN == BATCH_TURN - 1 and 'batch' or 'interactive'
end

local function leave_lane(class, tenant, job_id)
  local held = HELD .. class .. ':' .. tenant
  redis.call('ZREM', held, job_id)
  if redis.call('EXISTS', held) == 0 then redis.call('ZREM', LANES .. class, tenant) end
end

local function charge_lane(class, tenant, share, weight)
  redis.call('HINCRBY', GATE, 'served', 1)
  redis.call('HSET', GATE, 'virtual:' .. class, share)
  redis.call('ZADD', LANES .. class, share + 1 / weight, tenant)
end

local admitted, again = {}, ''
-- Bounded: one call must not stop the server for long, however many were cancelled meanwhile.
for _ = 1, 20 * tonumber(ARGV[3]) do
  local class = next_class()
  if not class or #admitted == tonumber(ARGV[3]) then break end
  local lane = redis.call('ZRANGE', LANES .. class, 0, 0, 'WITHSCORES')
  local id = redis.call('ZRANGE', HELD .. class .. ':' .. lane[1], 0, 0)[1]
  local job = KEYS[1] .. (id or '')
  local r = redis.call('HMGET', job, 'state', 'cost', 'weight')
  if r[1] == 'held' then
    local why, at = closed(limits, tonumber(r[2]), now)
    if why then
      again = at or ''
      break
    end
    pass(id, limits, tonumber(r[2]), now)
    charge_lane(class, lane[1], tonumber(lane[2]), tonumber(r[3] or '1'))
    redis.call('HSET', job, 'state', 'admitted')
    redis.call('ZADD', KEYS[2], ARGV[2], id)
    tell(job, cjson.encode({at = now, what = 'admit', state = 'admitted'}), TURN_ROOM)
    table.insert(admitted, id)
  end
  leave_lane(class, lane[1], id or '')
end
return {admitted, again, anybody_waits() and 1 or 0}
