-- Begin the submit leg of a job if the gate is open; else hold the job.
-- Closes the races between legs of one job (one of them begins), and between all workers that
-- would each keep to the limits, and break them together.
--
-- A leg that calls this `unseen` has not looked at the record before. It begins a job that nobody has begun
-- and that is still wanted; otherwise nothing changes, and the leg looks why.
--
-- Returns {'submitting' | 'held' | '', state before}; '' if another leg has begun.
--! uses record gate ends overview
--! keys JOB DUE JOBS GATE FLIGHT LANES HELD WAKE
--! keys STATES TENANTS TOTALS MINUTES DAYS TURNS
--! args job_id now leg dead_at deadline_at held_until lane cost entry sources unseen
--! args spacing burst in_flight floor probe_seconds fields...
local at, price = tonumber(now), tonumber(cost)
local state = redis.call('HGET', JOB, 'state') or ''

-- The reply to this very call was lost and the client sent it again: the leg had begun.
if state == 'submitting' and redis.call('HGET', JOB, 'leg') == leg then return {'submitting', state} end
if not allowed(state, sources) then return {'', state} end
if unseen ~= '' then
  local r = redis.call('HMGET', JOB, 'attempts', 'cancelled_by', 'deadline_at')
  local over = r[3] and tonumber(r[3]) <= at
  if state == 'admitted' or r[1] or r[2] or over then return {'', state} end
end

if state == '' then
  redis.call('HSET', JOB, 'created_at', now)
  redis.call('ZADD', JOBS, now, job_id)
end
for i = 1, #fields, 2 do
  -- A job on record has its message already. Without one, nothing could resume the job.
  if fields[i] ~= 'parked' or not message(JOB) then set(JOB, fields[i], fields[i + 1]) end
end
redis.call('HSET', JOB, 'lane', lane, 'cost', cost)

if state ~= 'admitted' then
  local limits = read_limits()
  local pause, why = pause_of(JOB)
  -- If other jobs wait already, this one waits behind them, although the gate may be open.
  why = why or closed(limits, price, at) or (anybody_waits() and 'others wait before it')
  if why then
    tell(JOB, cjson.encode({at = at, what = 'hold', state = 'held', why = why}), TURN_ROOM)
    hold(job_id, JOB, lane, at, held_until, pause)
    show_turn(job_id, JOB, state, 'held', now)
    return {'held', state}
  end
  pass(job_id, limits, price, at)
end

arrive(job_id)
redis.call('HSET', JOB, 'state', 'submitting', 'leg', leg, 'begun_at', now)
let_time_go_on(JOB, at)
if redis.call('HINCRBY', JOB, 'attempts', 1) == 1 then
  redis.call('HSET', JOB, 'deadline_at', deadline_at)
end
redis.call('ZADD', DUE, dead_at, job_id)
tell(JOB, entry, TURN_ROOM)
show_turn(job_id, JOB, state, 'submitting', now)
return {'submitting', state}
