-- Move a batch on, if it is in the phase that this starts from.
-- Closes the race between a submission that comes to its end and whoever cancels it meanwhile.
--
-- KEYS  1 batch
-- ARGV  1 phase that it must be in  2 new phase
-- Returns the phase that it is in now.
local phase = redis.call('HGET', KEYS[1], 'phase')
if phase ~= ARGV[1] then return phase end
redis.call('HSET', KEYS[1], 'phase', ARGV[2])
return ARGV[2]
