-- Move a batch to its next phase, if it is in the phase `only_from`.
-- Closes the race between a submission that ends and a cancellation: a cancelled batch stays cancelled.
--! keys BATCH
--! args only_from entered
if redis.call('HGET', BATCH, 'phase') == only_from then
  redis.call('HSET', BATCH, 'phase', entered)
end
