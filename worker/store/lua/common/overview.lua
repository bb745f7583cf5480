-- What people look at: indexes of the jobs, counters, and a stream of the latest turns. Common to the
-- scripts that change a job's state. Nothing here decides anything about a job.
--
-- `states` is a set of names '<state>:<operation>'. Each name has a sorted set: the jobs that stand there,
-- by the time since when. `tenants` is a set of tenants. Each has a sorted set of its jobs, by the time of
-- their records. `totals` is a hash of counters that only grow. `minutes:<n>` and `days:<n>` are hashes of
-- the same kind, for the n-th minute or day since 1970. Credits are in thousandths.
-- The names of counters are read by worker/store/counters.py and nothing else.
local TURNS_KEPT = 10000
local DAY_SECONDS, YEAR_SECONDS = 86400, 400 * 86400
-- The upper bounds of the histograms, in seconds.
local WAITS = {5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600}
local LAGS = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
local DEFAULT_TENANT = 'default'
local BY_PROVIDER = {webhook = true, poll = true}

local function of_minute(now, name, amount)
  local minute = MINUTES .. ':' .. math.floor(now / 60)
  redis.call('HINCRBY', minute, name, amount)
  redis.call('EXPIRE', minute, DAY_SECONDS + 3600)
end

local function of_day(now, name, amount)
  local day = DAYS .. ':' .. math.floor(now / DAY_SECONDS)
  redis.call('HINCRBY', day, name, amount)
  redis.call('EXPIRE', day, YEAR_SECONDS)
end

local function bound(bounds, seconds)
  for _, each in ipairs(bounds) do
    if seconds <= each then return tostring(each) end
  end
  return '+Inf'
end

local function observe(name, operation, bounds, seconds)
  local under = bound(bounds, seconds)
  redis.call('HINCRBY', TOTALS, name .. '/' .. operation .. '/' .. under, 1)
  redis.call('HINCRBY', TOTALS, name .. '_ms/' .. operation, math.floor(seconds * 1000))
  return under
end

local OUTCOMES = {waiting = 'accepted', queued = 'postponed', unconfirmed = 'unknown'}

-- A submission is over: the job leaves the state `submitting`.
local function count_submission(operation, to, source)
  local outcome = OUTCOMES[to]
  if source == 'answer' then outcome = 'answered' end
  if BY_PROVIDER[source] then outcome = 'accepted' end
  if outcome then redis.call('HINCRBY', TOTALS, 'submissions/' .. outcome .. '/' .. operation, 1) end
end

-- A job without an event was ended by a person or the sweep, or its request was refused here.
local SOURCES = {cancelled = 'cancel', expired = 'sweep'}

local function count_end(operation, tenant, to, source, cost, now)
  source = source or SOURCES[to] or 'none'
  redis.call('HINCRBY', TOTALS, 'settled/' .. source .. '/' .. to .. '/' .. operation, 1)
  of_minute(now, 'settled/' .. source .. '/' .. to .. '/' .. operation, 1)
  of_day(now, 'settled/' .. to .. '/' .. tenant, 1)
  -- A whole number, whatever stands on the record: a counter must not stop a job from ending.
  local spent = string.format('%d', tonumber(cost or '') or 0)
  if to == 'succeeded' and spent ~= '0' then
    redis.call('HINCRBY', TOTALS, 'credits/' .. tenant .. '/' .. operation, spent)
    of_minute(now, 'credits', spent)
    of_day(now, 'credits/' .. tenant, spent)
  end
end

-- A job has moved from the state `before` ('' if it is new) to the state `to`.
local function show_turn(job_id, job, before, to, at)
  local now = tonumber(at)
  local r = redis.call('HMGET', job, 'operation', 'lane', 'source', 'cost', 'created_at')
  local operation, source = r[1] or 'unknown', r[3]
  local tenant = r[2] and string.match(r[2], ':(.*)$') or DEFAULT_TENANT

  local since
  if before ~= '' then
    local left = STATES .. ':' .. before .. ':' .. operation
    since = tonumber(redis.call('ZSCORE', left, job_id) or '')
    redis.call('ZREM', left, job_id)
  end
  -- The record of a job that was sent by name may have its tenant only when a worker begins or holds it.
  -- Until then the job is the default tenant's.
  if before == '' or to == 'submitting' or to == 'held' then
    if before ~= '' and tenant ~= DEFAULT_TENANT then
      redis.call('ZREM', TENANTS .. ':' .. DEFAULT_TENANT, job_id)
    end
    redis.call('SADD', TENANTS, tenant)
    -- Lists that end at a time rely on this order.
    redis.call('ZADD', TENANTS .. ':' .. tenant, 'NX', r[5] or now, job_id)
  end
  redis.call('SADD', STATES, to .. ':' .. operation)
  redis.call('ZADD', STATES .. ':' .. to .. ':' .. operation, now, job_id)

  local waited = since and math.max(now - since, 0)
  if before == 'submitting' then count_submission(operation, to, to == 'resuming' and source) end
  if to == 'resuming' then
    if waited and BY_PROVIDER[source] and (before == 'waiting' or before == 'submitting') then
      of_minute(now, 'wait/' .. observe('wait', operation, WAITS, waited), 1)
    end
  elseif ENDS[to] then
    if waited and before == 'resuming' then observe('lag', operation, LAGS, waited) end
    count_end(operation, tenant, to, source, r[4], now)
  end
  redis.call('XADD', TURNS, 'MAXLEN', '~', TURNS_KEPT, '*', 'job', job_id, 'state', to,
    'operation', operation, 'tenant', tenant)
end
