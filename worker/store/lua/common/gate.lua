-- The gate before the provider; common to the scripts that open it, close it or pass it.
--
-- `gate` is a hash: free_at (rate); reserved, spent, balance, and spent_before, which the balance
-- knows of (credits, in thousandths); breaker, closed_at and probe_at; served, last:<priority>,
-- virtual:<class>. `flight` holds who is at the provider, with the cost.
-- `lanes<class>` holds the tenants that have somebody waiting, by the share they have had (and
-- those that had just now, until the others caught up); `held<class>:<tenant>` who waits there,
-- by when. Both names are prefixes: Fermata's broker is one server, never a cluster.
-- Slow operations have workers of their own: who waits for those keeps nobody else.
local CLASSES = {'interactive', 'interactive.slow', 'batch', 'batch.slow'}
-- Of each class, who is on the way to a worker, by when they were admitted.
local ADMITTED = GATE .. ':admitted:'
-- Seconds by which the clocks of workers may differ at most; the start-up checks refuse less already.
local CLOCKS_DIFFER = 30

local function wake()
  redis.call('LPUSH', WAKE, '1')
  redis.call('LTRIM', WAKE, 0, 0)
end

local function waits(class)
  return redis.call('EXISTS', LANES .. class) == 1
end

local function anybody_waits()
  for _, class in ipairs(CLASSES) do
    if waits(class) then return true end
  end
  return false
end

-- A job that was admitted is in a worker's hands, or has ended.
local function arrive(job_id)
  for _, class in ipairs(CLASSES) do
    if redis.call('ZREM', ADMITTED .. class, job_id) == 1 and anybody_waits() then wake() end
  end
end

-- Move what a job was expected to cost from what is reserved to what is spent: the provider
-- charges when it accepts, and the balance that we know is older than that.
local function charge(job_id)
  local cost = redis.call('ZSCORE', FLIGHT, job_id)
  if not cost then return end
  redis.call('ZADD', FLIGHT, 0, job_id)
  redis.call('HINCRBY', GATE, 'reserved', string.format('%d', -tonumber(cost)))
  redis.call('HINCRBY', GATE, 'spent', string.format('%d', cost))
end

-- Let the time of a job that was held go on, which stood still meanwhile.
local function let_time_go_on(job, now)
  local time_left = redis.call('HGET', job, 'time_left')
  if not time_left then return end
  redis.call('HSET', job, 'deadline_at', string.format('%.6f', now + tonumber(time_left)))
  redis.call('HDEL', job, 'time_left')
end

-- Give a job's place at the provider back, and what is still reserved for it.
-- Counts are written as whole numbers: a Redis 7 takes the -0 of a free operation for none.
local function land(job_id)
  local cost = redis.call('ZSCORE', FLIGHT, job_id)
  if not cost then return end
  redis.call('ZREM', FLIGHT, job_id)
  redis.call('HINCRBY', GATE, 'reserved', string.format('%d', -tonumber(cost)))
  if anybody_waits() then wake() end
end

-- Give a place to a job that stands before the gate, or is just being submitted again: the provider works on
-- a submission that was given up. What that may have cost was charged then.
local function take_place(job_id, job, now)
  arrive(job_id)
  land(job_id)
  redis.call('ZADD', FLIGHT, 0, job_id)
  let_time_go_on(job, now)
end

-- Let a job wait in its lane. A lane that was empty joins where the others are by now. How long
-- it may wait is set once, however often it comes back; its own deadline stands still meanwhile.
local function hold(job_id, job, lane, now, latest)
  local class, tenant = string.match(lane, '^([%l.]+):(.*)$')
  -- Whoever waits in another class may do so for a reason of its own.
  if not waits(class) then wake() end
  redis.call('ZADD', HELD .. lane, now, job_id)
  local virtual = redis.call('HGET', GATE, 'virtual:' .. class) or '0'
  redis.call('ZADD', LANES .. class, 'NX', virtual, tenant)
  local r = redis.call('HMGET', job, 'attempts', 'deadline_at')
  if r[1] then redis.call('HSET', job, 'time_left', r[2] - now) end
  redis.call('HSETNX', job, 'held_until', latest)
  local held_until = redis.call('HGET', job, 'held_until')
  redis.call('HSET', job, 'state', 'held', 'deadline_at', held_until)
  redis.call('ZADD', DUE, held_until, job_id)
end

-- The operator's limits; nil if there is none.
local function read_limits()
  return {
    spacing = tonumber(spacing), burst = tonumber(burst),
    in_flight = tonumber(in_flight), floor = tonumber(floor),
    probe_seconds = tonumber(probe_seconds),
  }
end

-- A stored moment, unless it lies further ahead than can be: whoever set it had a clock that was
-- wrong, or another limit, and must not keep the gate closed. Between clocks that differ by little
-- the moment holds, or each would submit at the full rate.
local function moment(field, now, furthest)
  local at = tonumber(redis.call('HGET', GATE, field) or '0')
  return at <= now + furthest + CLOCKS_DIFFER and at or 0
end

-- Open the gate after a job that the provider took, or answered. One that was submitted before the gate
-- closed says nothing of what came after it.
local function open(job, now)
  if moment('closed_at', now, 0) > tonumber(redis.call('HGET', job, 'begun_at') or now) then return end
  if redis.call('HDEL', GATE, 'breaker', 'closed_at', 'probe_at') > 0 then wake() end
end

-- The moment that is free next, by the generic cell rate algorithm.
local function free_at(limits, now)
  return moment('free_at', now, limits.spacing * limits.burst)
end

-- Say why nobody may pass now, and from when on that may be different (nil: when one settles).
local function closed(limits, cost, now)
  local g = redis.call('HMGET', GATE, 'breaker', 'balance', 'spent', 'reserved', 'spent_before')
  if g[1] then
    local probe_at = moment('probe_at', now, limits.probe_seconds)
    if now < probe_at then return g[1], string.format('%.6f', probe_at) end
  end
  if limits.in_flight and redis.call('ZCARD', FLIGHT) >= limits.in_flight then
    return 'as many are at the provider as may be'
  end
  if limits.floor and cost > 0 then
    if not g[2] then return 'the balance is not known yet' end
    -- What was accepted since the balance was asked for, and what may yet be.
    local since = tonumber(g[3] or '0') - tonumber(g[5] or '0')
    local left = tonumber(g[2]) - since - tonumber(g[4] or '0') - cost
    if left < limits.floor then return 'the credits left are not enough' end
  end
  if limits.spacing then
    local opens = free_at(limits, now) - limits.spacing * (limits.burst - 1)
    if now < opens then
      return 'as many are submitted in a second as may be', string.format('%.6f', opens)
    end
  end
  return nil
end

-- Lease a place at the provider: it is held from here to settlement.
local function pass(job_id, limits, cost, now)
  if redis.call('HEXISTS', GATE, 'breaker') == 1 then
    -- The gate is open for one, to see how it fares.
    redis.call('HSET', GATE, 'probe_at', now + limits.probe_seconds)
  end
  if limits.spacing then
    -- Whoever wakes for the moment comes a little late; that much is made up for.
    local late = math.min(limits.spacing / 2, 0.1)
    local free = math.max(free_at(limits, now), now - late) + limits.spacing
    redis.call('HSET', GATE, 'free_at', string.format('%.6f', free))
  end
  if redis.call('ZADD', FLIGHT, 'NX', cost, job_id) == 1 then
    redis.call('HINCRBY', GATE, 'reserved', string.format('%d', cost))
  end
end
