-- Lease the jobs whose moment has come: move each a little into the future and return it.
-- Closes the race between sweeps: any number may run, and each job goes to one of them. A
-- sweep that dies loses nothing, for its jobs come due again when the lease ends.
--
-- KEYS  1 due
-- ARGV  1 now  2 end of the lease  3 how many at most
-- Returns job ids, the longest overdue first.
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], ARGV[2], id) end
return ids
