-- The gate before the provider; prepended to the scripts that open it, close it or pass it.
--
-- Its keys follow the script's own three: KEYS 4 gate  5 flight  6 lanes  7 held  8 wake.
-- `gate` is a hash: free_at (rate), reserved, spent, balance (credits, in thousandths), breaker
-- and probe_at, served, virtual:<class>. `flight` holds who is at the provider, with the cost.
-- `lanes<class>` holds the tenants that have somebody waiting, by the share they have had;
-- `held<class>:<tenant>` who waits there, by when. Both names are prefixes: Fermata's broker is
-- one server, never a cluster.
local GATE, FLIGHT, LANES, HELD, WAKE = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local CLASSES = {'interactive', 'batch'}
-- Of ten that are served while both wait, one is of the batch: it is slowed, never starved.
local BATCH_TURN = 10

local function wake()
  redis.call('LPUSH', WAKE, '1')
  redis.call('LTRIM', WAKE, 0, 0)
end

-- Give a job's place at the provider back, and what it was expected to cost.
local function land(job_id, charged)
  local cost = redis.call('ZSCORE', FLIGHT, job_id)
  if not cost then return end
  redis.call('ZREM', FLIGHT, job_id)
  redis.call('HINCRBY', GATE, 'reserved', -tonumber(cost))
  -- The balance that we know is older than this charge.
  if charged then redis.call('HINCRBY', GATE, 'spent', cost) end
  wake()
end

-- Let a job wait in its lane. A lane that was empty joins where the others are by now.
local function hold(job_id, lane, now)
  local class, tenant = string.match(lane, '^(%l+):(.*)$')
  redis.call('ZADD', HELD .. lane, now, job_id)
  local virtual = redis.call('HGET', GATE, 'virtual:' .. class) or '0'
  redis.call('ZADD', LANES .. class, 'NX', virtual, tenant)
  wake()
end

local function anybody_waits()
  return redis.call('EXISTS', LANES .. CLASSES[1], LANES .. CLASSES[2]) > 0
end

-- The operator's limits, as the last five arguments before `at`; '' where there is none.
local function read_limits(at)
  return {
    spacing = tonumber(ARGV[at]), burst = tonumber(ARGV[at + 1]),
    in_flight = tonumber(ARGV[at + 2]), floor = tonumber(ARGV[at + 3]),
    probe_seconds = tonumber(ARGV[at + 4]),
  }
end

-- Say why nobody may pass now, and from when on that may be different (nil: when one settles).
local function closed(limits, cost, now)
  local g = redis.call('HMGET', GATE, 'breaker', 'probe_at', 'balance', 'spent', 'reserved', 'free_at')
  if g[1] and now < tonumber(g[2]) then return g[1], g[2] end
  if limits.in_flight and redis.call('ZCARD', FLIGHT) >= limits.in_flight then
    return 'as many are at the provider as may be'
  end
  if limits.floor and g[3] then
    local left = tonumber(g[3]) - tonumber(g[4] or '0') - tonumber(g[5] or '0') - cost
    if left < limits.floor then return 'the credits left are not enough' end
  end
  if limits.spacing then
    local opens = tonumber(g[6] or '0') - limits.spacing * (limits.burst - 1)
    if now < opens then return 'as many are submitted in a second as may be', tostring(opens) end
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
    local free = math.max(tonumber(redis.call('HGET', GATE, 'free_at') or '0'), now)
    redis.call('HSET', GATE, 'free_at', string.format('%.6f', free + limits.spacing))
  end
  if redis.call('ZADD', FLIGHT, 'NX', cost, job_id) == 1 then
    redis.call('HINCRBY', GATE, 'reserved', cost)
  end
end
