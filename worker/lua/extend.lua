-- Mark a message as published: its job's moment moves from the short lease to the long one.
-- Closes the race with the worker that already took the message and set a moment of its own:
-- the moment moves only if it is still the one that the publisher had set.
--
-- KEYS  1 due  2 record
-- ARGV  1 job_id  2 the moment set before publishing  3 the new moment
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '-1') ~= tonumber(ARGV[2]) then return end
local due = tonumber(ARGV[3])
local r = redis.call('HMGET', KEYS[2], 'state', 'deadline_at')
-- While no worker has begun it, its deadline ends it, however long its message may stand in a queue.
if r[2] and (r[1] == 'queued' or r[1] == 'admitted') then due = math.min(due, r[2]) end
redis.call('ZADD', KEYS[1], string.format('%.6f', due), ARGV[1])
