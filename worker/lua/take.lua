-- The resumed leg takes its event: the second compare-and-set of design.md §3.
-- Closes the race between two messages that resume one job (a claim that the sweep thought
-- stale, and its successor): whichever comes first works, the other finds the event taken.
-- The same claim may take it again: that is the broker redelivering after its worker died.
--
-- KEYS  1 record  2 due
-- ARGV  1 job_id  2 claim number  3 now  4 moment at which this taking is stale
-- Returns the event, or nil.
local r = redis.call('HMGET', KEYS[1], 'state', 'event', 'taken_by', 'taken_until')
if r[1] ~= 'resuming' then return nil end
if r[3] and r[3] ~= ARGV[2] and tonumber(r[4]) > tonumber(ARGV[3]) then return nil end
redis.call('HSET', KEYS[1], 'taken_by', ARGV[2], 'taken_until', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
return r[2]
