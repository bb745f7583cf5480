-- Mark a message as published: its job's moment moves from the short lease to the long one.
-- Closes the race with the worker that already took the message and set a moment of its own:
-- the moment moves only if it is still the one that the publisher had set.
--
-- KEYS  1 due
-- ARGV  1 job_id  2 the moment set before publishing  3 the new moment
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '-1') == tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
