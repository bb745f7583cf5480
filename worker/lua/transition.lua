-- Take one turn, if the state still allows it: a compare-and-set over the whole record.
-- Closes every race in which two processes decide about one job at once: exactly one of
-- two turns from the same state wins, and the other changes nothing.
--
-- KEYS  1 record  2 due  3 jobs
-- ARGV  1 job_id  2 ',state,state,' it may start from  3 new state ('' keeps it)
--       4 next moment ('' keeps it, '-' forgets it)  5 seconds to retain ('' for ever)
--       6 timeline entry  7 now  8 leg ('' none)  9 counter to increment ('' none)
--       10 n fields to set, then n × (field, value), then the fields to drop
-- Returns {won, state before}.
local state = redis.call('HGET', KEYS[1], 'state') or ''
local to, leg = ARGV[3], ARGV[8]

-- The reply to this very call was lost and the client sent it again: it had won.
if leg ~= '' and state == to and redis.call('HGET', KEYS[1], 'leg') == leg then
  return {1, state}
end
if not allowed(state, ARGV[2]) then
  return {0, state}
end

if state == '' then
  redis.call('HSET', KEYS[1], 'created_at', ARGV[7])
  redis.call('ZADD', KEYS[3], ARGV[7], ARGV[1])
end
if to ~= '' then redis.call('HSET', KEYS[1], 'state', to) end
if leg ~= '' then redis.call('HSET', KEYS[1], 'leg', leg) end
if ARGV[9] ~= '' then redis.call('HINCRBY', KEYS[1], ARGV[9], 1) end

local n = tonumber(ARGV[10])
for i = 11, 10 + 2 * n, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = 11 + 2 * n, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
tell(KEYS[1], ARGV[6], to ~= '' and TURN_ROOM or 0)

if ARGV[4] == '-' then
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
end
if ARGV[5] ~= '' then redis.call('EXPIRE', KEYS[1], ARGV[5]) end
return {1, state}
