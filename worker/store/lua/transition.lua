-- Take one turn, if the state still allows it: a compare-and-set over the whole record.
-- Closes every race in which two processes decide about one job at once: exactly one of
-- two turns from the same state wins, and the other changes nothing.
--
-- A job without a record has the state ''. A note may be written even then: a cancellation waits there
-- for its job.
-- Returns {won, state before}.
--! uses record gate ends tally overview receipts
--! keys JOB DUE JOBS GATE FLIGHT LANES HELD WAKE BATCH ROWS ROW_JOBS READY
--! keys STATES TENANTS TOTALS MINUTES DAYS TURNS DELIVERIES
--! args job_id sources to due_at retain_seconds entry now leg counter receipt dropped fields...
local state = redis.call('HGET', JOB, 'state') or ''

if leg ~= '' then
  local owner = redis.call('HGET', JOB, 'leg')
  -- The reply to this very call was lost and the client sent it again: the turn was taken.
  if state == to and owner == leg then return {1, state} end
  -- Another leg has begun meanwhile, so this turn is out of date. Without this fence a delayed "not
  -- accepted" would put back a job that another leg is submitting.
  if to ~= 'submitting' and owner ~= leg then return {0, state} end
end
if not allowed(state, sources) then
  return {0, state}
end
if receipt ~= '' then give_receipt(job_id, receipt, entry) end

if state == '' and to ~= '' then
  redis.call('HSET', JOB, 'created_at', now)
  redis.call('ZADD', JOBS, now, job_id)
end
if to ~= '' then redis.call('HSET', JOB, 'state', to) end
if leg ~= '' then redis.call('HSET', JOB, 'leg', leg) end
if counter ~= '' then redis.call('HINCRBY', JOB, counter, 1) end

for i = 1, #fields, 2 do set(JOB, fields[i], fields[i + 1]) end
for field in string.gmatch(dropped, '%S+') do drop(JOB, field) end
tell(JOB, entry, to ~= '' and TURN_ROOM or 0)

count(JOB, state, to)
if to ~= '' then show_turn(job_id, JOB, state, to, now) end

if to == 'waiting' then
  -- The provider took the job, so the reason for a closed gate is over.
  if state == 'submitting' or state == 'unconfirmed' then
    charge(job_id)
  else
    take_place(job_id, JOB, tonumber(now))
  end
  redis.call('HDEL', GATE, 'failures')
  open(JOB, tonumber(now))
elseif to == 'held' then
  local at, pause, why = tonumber(now), pause_of(JOB)
  if why then tell(JOB, cjson.encode({at = at, what = 'hold', state = 'held', why = why}), TURN_ROOM) end
  hold(job_id, JOB, redis.call('HGET', JOB, 'lane'), at, due_at, pause)
elseif due_at == '-' or (to ~= '' and to ~= 'submitting' and to ~= 'unconfirmed') then
  -- Also if the record is gone: otherwise the job would keep its place at the provider for ever.
  if state == 'unconfirmed' then charge(job_id) end
  land(job_id)
  arrive(job_id)
end

local due = due_at
local deadline = redis.call('HGET', JOB, 'deadline_at')
-- A waiting job is due at its deadline at the latest, whatever it waits for.
if deadline and (to == 'queued' or to == 'waiting' or to == 'unconfirmed')
    and tonumber(due) > tonumber(deadline) then
  due = deadline
end
if state == '' and to ~= '' and called_off(JOB) then
  -- The job gets its record all the same, so that it is counted and its canvas ends natively. The sweep
  -- or its submit leg ends it.
  redis.call('HSET', JOB, 'cancelled_by', 'batch cancel')
  due = now
end
if due == '-' then
  redis.call('ZREM', DUE, job_id)
  redis.call('ZREM', READY, job_id)
elseif due ~= '' then
  redis.call('ZADD', DUE, due, job_id)
end
if retain_seconds ~= '' then retain(JOB, retain_seconds) end
return {1, state}
