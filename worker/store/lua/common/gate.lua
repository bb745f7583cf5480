-- The gate before the provider; common to the scripts that open it, close it or pass it.
--
-- `gate` is a hash: free_at (rate); reserved, spent, balance, and spent_before, which the balance
-- knows of (credits, in thousandths); breaker, closed_at and probe_at; paused (by whom) and paused_at;
-- paused:tenant:<tenant> and paused:operation:<operation> (JSON: by whom, and when); served,
-- last:<priority>, virtual:<class>. `flight` holds who is at the provider, with the cost.
-- `lanes<class>` holds the tenants that have jobs waiting, by the share they have had. A tenant whose
-- last job has left stays until the others have caught up. `held<class>:<tenant>` holds the waiting
-- jobs of a tenant, by the time they came. Both names are prefixes of keys that are not declared:
-- Fermata's state is on one server, never a cluster.
-- Slow operations have workers and classes of their own, so that they hold up no quick job.
-- A job whose tenant or operation is paused waits aside, where it holds up nobody:
-- `held:paused:<what is paused>/<lane>` holds such jobs, and the set `lanes:paused` the names of these.
local CLASSES = {'interactive', 'interactive.slow', 'batch', 'batch.slow'}
-- The jobs of each class that are on their way to a worker, by the time they were admitted.
local ADMITTED = GATE .. ':admitted:'
-- The jobs that wait aside.
local PAUSED = HELD .. 'paused:'
local ASIDE = LANES .. 'paused'
-- When the gate closed, opened, was paused and resumed; worker/store/gate.py writes there too.
local HISTORY, HISTORY_KEPT = GATE .. ':history', 100
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

-- The provider charges when it accepts a job, and the balance that we know is older than that. So
-- move the job's expected cost from `reserved` to `spent`.
local function charge(job_id)
  local cost = redis.call('ZSCORE', FLIGHT, job_id)
  if not cost then return end
  redis.call('ZADD', FLIGHT, 0, job_id)
  redis.call('HINCRBY', GATE, 'reserved', string.format('%d', -tonumber(cost)))
  redis.call('HINCRBY', GATE, 'spent', string.format('%d', cost))
end

-- A deadline stands still while its job is held. Set it anew from the time that was left.
local function let_time_go_on(job, now)
  local time_left = redis.call('HGET', job, 'time_left')
  if not time_left then return end
  redis.call('HSET', job, 'deadline_at', string.format('%.6f', now + tonumber(time_left)))
  redis.call('HDEL', job, 'time_left')
end

-- Give back a job's place at the provider, and its reserved cost.
-- '%d' writes a whole number: Redis 7 would get "-0" for a free operation, and refuse it.
local function land(job_id)
  local cost = redis.call('ZSCORE', FLIGHT, job_id)
  if not cost then return end
  redis.call('ZREM', FLIGHT, job_id)
  redis.call('HINCRBY', GATE, 'reserved', string.format('%d', -tonumber(cost)))
  if anybody_waits() then wake() end
end

-- The provider works on a submission of this job that we had given up, while the job waits at the gate
-- or is submitted again. Give the job a place. Its cost is 0: what the first submission may have cost
-- was charged when we gave it up.
local function take_place(job_id, job, now)
  arrive(job_id)
  land(job_id)
  redis.call('ZADD', FLIGHT, 0, job_id)
  let_time_go_on(job, now)
end

-- Say what of a job is paused, and why it therefore may not pass; nil if nothing is.
local function pause_of(job)
  local r = redis.call('HMGET', job, 'lane', 'operation')
  local parts = {'tenant:' .. (string.match(r[1] or '', ':(.*)$') or ''), 'operation:' .. (r[2] or '')}
  local found = redis.call('HMGET', GATE, 'paused:' .. parts[1], 'paused:' .. parts[2])
  for i, pause in ipairs(parts) do
    if found[i] then
      return pause, string.gsub(pause, ':', ' ', 1) .. ' is paused by ' .. cjson.decode(found[i]).by
    end
  end
end

-- Put a job in its lane, by the time since when it waits; or aside, if a part of all jobs is paused to
-- which it belongs. A tenant that was idle starts at the current virtual time, so it cannot claim the
-- share it did not use.
local function line_up(job_id, lane, since, pause)
  if pause then
    local aside = pause .. '/' .. lane
    redis.call('ZADD', PAUSED .. aside, since, job_id)
    redis.call('SADD', ASIDE, aside)
    return
  end
  local class, tenant = string.match(lane, '^([%l.]+):(.*)$')
  -- The first job of its class wakes the admission: jobs of other classes may wait for other reasons.
  if not waits(class) then wake() end
  redis.call('ZADD', HELD .. lane, since, job_id)
  local virtual = redis.call('HGET', GATE, 'virtual:' .. class) or '0'
  redis.call('ZADD', LANES .. class, 'NX', virtual, tenant)
end

-- Let a job wait. `held_until` is set once, so a job that comes back waits no longer. Its own deadline
-- stands still while it is held.
local function hold(job_id, job, lane, now, latest, pause)
  line_up(job_id, lane, now, pause)
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

-- A stored time. If it lies further ahead than the limits allow, a worker with a wrong clock or other
-- limits has set it: ignore it, or it would keep the gate closed. Clocks may differ a little: within
-- CLOCKS_DIFFER the time counts, or each worker would submit at the full rate.
local function moment(field, now, furthest)
  local at = tonumber(redis.call('HGET', GATE, field) or '0')
  return at <= now + furthest + CLOCKS_DIFFER and at or 0
end

-- Open the gate after the provider has taken or answered a job. A job that was submitted before the
-- gate closed proves nothing: the reason for closing came after it.
local function open(job, now)
  if moment('closed_at', now, 0) > tonumber(redis.call('HGET', job, 'begun_at') or now) then return end
  local why = redis.call('HGET', GATE, 'breaker')
  if redis.call('HDEL', GATE, 'breaker', 'closed_at', 'probe_at') > 0 then wake() end
  if why then
    redis.call('LPUSH', HISTORY, cjson.encode({at = now, what = 'opened', why = why}))
    redis.call('LTRIM', HISTORY, 0, HISTORY_KEPT - 1)
  end
end

-- The next free time for a submission, by the generic cell rate algorithm.
local function free_at(limits, now)
  return moment('free_at', now, limits.spacing * limits.burst)
end

-- Say why no job may pass now, and when to ask again (nil: when a job settles, or the balance comes).
local function closed(limits, cost, now)
  local paused_by = redis.call('HGET', GATE, 'paused')
  if paused_by then return 'paused by ' .. paused_by end
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
    -- The balance does not know of charges since it was asked for, nor of reserved costs.
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

-- Give a job a place at the provider. The job keeps it until it is claimed, put back, or settled.
local function pass(job_id, limits, cost, now)
  if redis.call('HEXISTS', GATE, 'breaker') == 1 then
    -- This job is the probe. No other job passes until probe_at.
    redis.call('HSET', GATE, 'probe_at', now + limits.probe_seconds)
  end
  if limits.spacing then
    -- A worker that waits for free_at wakes a little late. Count that as on time,
    -- up to 0.1 s or half a spacing.
    local late = math.min(limits.spacing / 2, 0.1)
    local free = math.max(free_at(limits, now), now - late) + limits.spacing
    redis.call('HSET', GATE, 'free_at', string.format('%.6f', free))
  end
  if redis.call('ZADD', FLIGHT, 'NX', cost, job_id) == 1 then
    redis.call('HINCRBY', GATE, 'reserved', string.format('%d', cost))
  end
end
