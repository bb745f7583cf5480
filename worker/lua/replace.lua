-- Let another job stand in a row for one that failed, and count that one no more.
-- Closes the race between two retries of one row: the second changes nothing.
--
-- KEYS  1 jobs of the rows  2 batch
-- ARGV  1 row_id  2 its jobs as they were read  3 its jobs now  4… counters to take one from
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
for i = 4, #ARGV do redis.call('HINCRBY', KEYS[2], ARGV[i], -1) end
