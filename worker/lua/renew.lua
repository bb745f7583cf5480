-- Renew the leases of jobs that a conductor works on, or put off what it cannot work on now.
-- A job that has settled meanwhile has none.
--
-- KEYS  1 ready
-- ARGV  1 seconds from now to the end of the leases  2… job ids
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', after(ARGV[1]), ARGV[i]) end
