-- Begin a batch, or go on with it.
-- Closes the race with a cancellation that comes while the manifest is read, which may take minutes:
-- no row of a cancelled batch may be paid for.
--
-- Returns whether it goes on.
--! keys BATCH
--! args entered unless now fields...
if unless ~= '' and redis.call('HGET', BATCH, 'phase') == unless then return 0 end
redis.call('HSETNX', BATCH, 'created_at', now)
redis.call('HSET', BATCH, 'phase', entered, unpack(fields))
return 1
