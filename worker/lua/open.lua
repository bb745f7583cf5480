-- Let jobs pass again: the provider answers. Of credits, only what costs some tells.
--
-- KEYS  1 record  2 due  3 jobs  4-8 the gate's (gate.lua)
-- ARGV  1 now  2 1 where the job cost credits
redis.call('HDEL', GATE, 'failures')
if ARGV[2] == '1' or redis.call('HGET', GATE, 'breaker') ~= 'OutOfCredits' then
  open(KEYS[1], tonumber(ARGV[1]))
end
