-- Move a batch on, if it is in the phase that this starts from.
-- Closes the race between a submission that comes to its end and whoever cancels it meanwhile.
--! keys BATCH
--! args only_from entered
if redis.call('HGET', BATCH, 'phase') == only_from then
  redis.call('HSET', BATCH, 'phase', entered)
end
