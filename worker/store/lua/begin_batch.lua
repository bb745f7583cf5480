-- Begin a batch, or go on with it.
-- Closes the race with whoever cancels it while its manifest is read: that may take minutes, and
-- what was cancelled meanwhile must not be paid for.
--
-- Returns whether it goes on.
--! keys BATCH
--! args entered unless now fields...
if unless ~= '' and redis.call('HGET', BATCH, 'phase') == unless then return 0 end
redis.call('HSETNX', BATCH, 'created_at', now)
redis.call('HSET', BATCH, 'phase', entered, unpack(fields))
return 1
