-- Begin the submit leg of a job, if the gate is open; else let the job wait before it.
-- Closes the races between legs of one job (one of them begins), and between all workers that
-- would each keep to the limits, and break them together.
--
-- KEYS  1 record  2 due  3 jobs  4-8 the gate's (gate.lua)
-- ARGV  1 job_id  2 now  3 leg  4 moment at which a leg that says nothing is dead
--       5 deadline, where it is the first submission  6 moment until which it may be held
--       7 lane  8 expected cost in thousandths of a credit
--       9 timeline entry of the submission  10-14 limits (gate.lua)
--       15 ',state,' it may start from  16 n fields to set, then n × (field, value)
-- Returns {'submitting' | 'held' | '', state before}; '' where another leg has begun.
local job, now, leg, cost = KEYS[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[8])
local state = redis.call('HGET', job, 'state') or ''

-- The reply to this very call was lost and the client sent it again: it had begun.
if state == 'submitting' and redis.call('HGET', job, 'leg') == leg then return {'submitting', state} end
if not allowed(state, ARGV[15]) then return {'', state} end

if state == '' then
  redis.call('HSET', job, 'created_at', ARGV[2])
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
end
for i = 17, 16 + 2 * tonumber(ARGV[16]), 2 do set(job, ARGV[i], ARGV[i + 1]) end
redis.call('HSET', job, 'lane', ARGV[7], 'cost', ARGV[8])

if state ~= 'admitted' then
  local limits = read_limits(10)
  -- Whoever comes later waits behind those that wait already.
  local why = closed(limits, cost, now) or (anybody_waits() and 'others wait before it')
  if why then
    tell(job, cjson.encode({at = now, what = 'hold', state = 'held', why = why}), TURN_ROOM)
    hold(ARGV[1], job, ARGV[7], now, ARGV[6])
    return {'held', state}
  end
  pass(ARGV[1], limits, cost, now)
end

arrive(ARGV[1])
redis.call('HSET', job, 'state', 'submitting', 'leg', leg, 'begun_at', ARGV[2])
let_time_go_on(job, now)
if redis.call('HINCRBY', job, 'attempts', 1) == 1 then
  redis.call('HSET', job, 'deadline_at', ARGV[5])
end
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
tell(job, ARGV[9], TURN_ROOM)
return {'submitting', state}
