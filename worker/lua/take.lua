-- The resumed leg takes its event: the second compare-and-set of design.md §3.
-- Closes the race between messages that resume one job (a claim that the sweep thought stale and
-- its successor; a publish that was retried though it had arrived): whichever comes first works,
-- the others find the event taken. The same message may take it again: that is the broker
-- redelivering it after its worker died, or this script sent twice.
--
-- KEYS  1 record  2 due
-- ARGV  1 job_id  2 claim number  3 message id  4 redelivered: 1 or 0, where the broker gives
--       messages no id of their own  5 now  6 moment at which this taking is stale
-- Returns the event, or nil.
local r = redis.call('HMGET', KEYS[1], 'state', 'event', 'taken_by', 'taken_until')
if r[1] ~= 'resuming' then return nil end

local taker = ARGV[2] .. ':' .. ARGV[3]
if r[3] and tonumber(r[4]) > tonumber(ARGV[5]) then
  local same_claim = string.match(r[3], '^(%d+):') == ARGV[2]
  if r[3] ~= taker and not (same_claim and ARGV[4] == '1') then return nil end
end
redis.call('HSET', KEYS[1], 'taken_by', taker, 'taken_until', ARGV[6])
redis.call('ZADD', KEYS[2], ARGV[6], ARGV[1])
return r[2]
