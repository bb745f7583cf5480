-- Begin a batch, or go on with it.
-- Closes the race with whoever cancels it while its manifest is read: that may take minutes, and
-- what was cancelled meanwhile must not be paid for.
--
-- KEYS  1 batch
-- ARGV  1 phase to enter  2 phase in which nothing is done ('' none)  3 now  4… fields and their values
-- Returns whether it goes on.
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'phase') == ARGV[2] then return 0 end
redis.call('HSETNX', KEYS[1], 'created_at', ARGV[3])
redis.call('HSET', KEYS[1], 'phase', ARGV[1], unpack(ARGV, 4))
return 1
