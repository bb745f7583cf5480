-- Let jobs pass again, because the provider has answered one. If the gate is closed for want of credits,
-- only a job that cost some opens it: a free one proves nothing.
--! uses gate
--! keys JOB DUE GATE FLIGHT LANES HELD WAKE
--! args now paid
redis.call('HDEL', GATE, 'failures')
if paid == '1' or redis.call('HGET', GATE, 'breaker') ~= 'OutOfCredits' then
  open(JOB, tonumber(now))
end
