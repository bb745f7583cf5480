-- Move a batch on, if it is in the phase that this starts from.
-- Closes the race between a submission that comes to its end and whoever cancels it meanwhile.
--
-- KEYS  1 batch
-- ARGV  1 phase that it must be in  2 new phase
if redis.call('HGET', KEYS[1], 'phase') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'phase', ARGV[2])
end
