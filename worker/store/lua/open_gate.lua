-- Let jobs pass again: the provider answers. Of credits, only what costs some tells.
--! uses gate
--! keys JOB DUE GATE FLIGHT LANES HELD WAKE
--! args now paid
redis.call('HDEL', GATE, 'failures')
if paid == '1' or redis.call('HGET', GATE, 'breaker') ~= 'OutOfCredits' then
  open(JOB, tonumber(now))
end
