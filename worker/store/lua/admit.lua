-- Admit held jobs while the gate is open: interactive before batch, and the tenants of each by their
-- shares (start-time fair queuing). Jobs whose tenant or operation is paused are set aside, and others
-- pass; when the pause is over, they come back to the place that they had.
-- Closes the race between workers that admit at once: each job goes to one of them.
--
-- Returns {job ids, when to ask again}. The time is '' if no job waits, or if only an event can open
-- the gate or make room on the way to a worker.
--! uses record gate ends overview
--! keys RECORDS DUE GATE FLIGHT LANES HELD WAKE
--! keys STATES TENANTS TOTALS MINUTES DAYS TURNS
--! args now stale_at most spacing burst in_flight floor probe_seconds weights
local at, room, limits, share_of = tonumber(now), tonumber(most), read_limits(), cjson.decode(weights)
-- Of ten jobs admitted while both wait, one is of the batch: a batch is slowed, never starved.
local BATCH_TURN = 10
-- So many jobs of a class may be on their way to a worker at once. A job that is published without
-- waiting here then queues behind these few, not behind a whole batch. A job that no worker takes within
-- `seconds` counts no more: its workers are away. A slow operation keeps its worker for minutes.
local QUICK, SLOW = {most = 20, seconds = 60}, {most = 4, seconds = 900}

-- So many jobs are looked at in one call, which must not stop the server for long, however many were
-- cancelled or paused meanwhile.
local LOOKED_AT = 20 * room

local function has_room(class)
  local way = string.match(class, '%.slow$') and SLOW or QUICK
  redis.call('ZREMRANGEBYSCORE', ADMITTED .. class, '-inf', at - way.seconds)
  return redis.call('ZCARD', ADMITTED .. class) < way.most
end

-- The quick and the slow class of a priority take turns, as long as both have jobs and room.
local function next_of(priority)
  local ready = {}
  for _, class in ipairs({priority, priority .. '.slow'}) do
    if waits(class) and has_room(class) then table.insert(ready, class) end
  end
  local last = redis.call('HGET', GATE, 'last:' .. priority)
  return ready[1] == last and ready[2] or ready[1]
end

local function next_class()
  local interactive, batch = next_of('interactive'), next_of('batch')
  if not interactive or not batch then return interactive or batch end
  local served = tonumber(redis.call('HGET', GATE, 'served') or '0')
  return served % BATCH_TURN == BATCH_TURN - 1 and batch or interactive
end

local function admit(id, cost, class)
  pass(id, limits, cost, at)
  redis.call('HINCRBY', GATE, 'served', 1)
  redis.call('HSET', GATE, 'last:' .. string.match(class, '^%l+'), class)
  redis.call('ZADD', ADMITTED .. class, at, id)
  redis.call('HSET', RECORDS .. id, 'state', 'admitted')
  redis.call('ZADD', DUE, stale_at, id)
  tell(RECORDS .. id, cjson.encode({at = at, what = 'admit', state = 'admitted'}), TURN_ROOM)
  show_turn(id, RECORDS .. id, 'held', 'admitted', now)
end

local function set_aside(id, lane, since, pause, why)
  line_up(id, lane, since, pause)
  tell(RECORDS .. id, cjson.encode({at = at, what = 'hold', state = 'held', why = why}), TURN_ROOM)
end

-- Put the jobs back whose pause is over, and forget those that have ended meanwhile. Say whether that
-- is done.
local function let_back()
  local left = LOOKED_AT
  for _, name in ipairs(redis.call('SMEMBERS', ASIDE)) do
    local aside, pause, lane = PAUSED .. name, string.match(name, '^(.-)/(.*)$')
    local goes_on = redis.call('HEXISTS', GATE, 'paused:' .. pause) == 1
    while true do
      local id, since = unpack(redis.call('ZRANGE', aside, 0, 0, 'WITHSCORES'))
      if not id then
        redis.call('SREM', ASIDE, name)
        break
      end
      local is_held = redis.call('HGET', RECORDS .. id, 'state') == 'held'
      if is_held and goes_on then break end
      if left == 0 then return false end
      left = left - 1
      redis.call('ZREM', aside, id)
      -- If something else of it is paused too, it is set aside again as soon as it stands first.
      if is_held then line_up(id, lane, since) end
    end
  end
  return true
end

local all_back, admitted, again = let_back(), {}, now
for _ = 1, LOOKED_AT do
  local class = next_class()
  if not class then again = '' end
  if not class or #admitted >= room then break end
  local tenant, share = unpack(redis.call('ZRANGE', LANES .. class, 0, 0, 'WITHSCORES'))
  redis.call('HSET', GATE, 'virtual:' .. class, share)
  local held = HELD .. class .. ':' .. tenant
  local id, since = unpack(redis.call('ZRANGE', held, 0, 0, 'WITHSCORES'))
  if not id then
    -- The tenant leaves only now, not with its last job. A tenant that submits its jobs one by one keeps
    -- its place in the order this way, and gets no more than its share.
    redis.call('ZREM', LANES .. class, tenant)
  else
    local r = redis.call('HMGET', RECORDS .. id, 'state', 'cost', 'cancelled_by')
    -- A cancelled job is not submitted. The sweep ends it (lease_due.lua).
    if r[1] == 'held' and not r[3] then
      local pause, paused_why = pause_of(RECORDS .. id)
      if pause then
        set_aside(id, class .. ':' .. tenant, since, pause, paused_why)
      else
        local why, opens_at = closed(limits, tonumber(r[2]), at)
        if why then
          again = opens_at or ''
          break
        end
        admit(id, tonumber(r[2]), class)
        redis.call('ZADD', LANES .. class, share + 1 / (share_of[tenant] or 1), tenant)
        table.insert(admitted, id)
      end
    end
    redis.call('ZREM', held, id)
  end
end
return {admitted, all_back and again or now}
