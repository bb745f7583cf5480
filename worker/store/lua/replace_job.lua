-- Put a new job in the row of a batch, in place of one that failed, and take that one off the counters.
-- Closes the race between two retries of one row: the second changes nothing.
--! keys ROW_JOBS BATCH
--! args row_id before after counters...
if redis.call('HGET', ROW_JOBS, row_id) ~= before then return end
redis.call('HSET', ROW_JOBS, row_id, after)
for _, counter in ipairs(counters) do redis.call('HINCRBY', BATCH, counter, -1) end
