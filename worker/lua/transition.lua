-- Take one turn, if the state still allows it: a compare-and-set over the whole record.
-- Closes every race in which two processes decide about one job at once: exactly one of
-- two turns from the same state wins, and the other changes nothing.
--
-- KEYS  1 record  2 due  3 jobs  4-8 the gate's (gate.lua)  9-11 prefixes of batches (tally.lua)  12 ready
-- ARGV  1 job_id  2 ',state,state,' it may start from  3 new state ('' keeps it)
--       4 next moment ('' keeps it, '-' forgets it)  5 seconds to retain ('' for ever)
--       6 timeline entry  7 now  8 leg: the run of the submit leg that takes the turn, or for
--       which the sweep does ('' none)  9 counter to increment ('' none)
--       10 n fields to set, then n × (field, value), then the fields to drop
-- A job without a record has the state '': what is noted there (that it was cancelled) waits for it.
-- Returns {won, state before}.
local state = redis.call('HGET', KEYS[1], 'state') or ''
local to, leg = ARGV[3], ARGV[8]

if leg ~= '' then
  local owner = redis.call('HGET', KEYS[1], 'leg')
  -- The reply to this very call was lost and the client sent it again: it had won.
  if state == to and owner == leg then return {1, state} end
  -- Another leg has begun meanwhile: what this one has to say is about the past. Without this
  -- fence a delayed "not accepted" would put a job back that its successor is submitting.
  if to ~= 'submitting' and owner ~= leg then return {0, state} end
end
if not allowed(state, ARGV[2]) then
  return {0, state}
end

if state == '' and to ~= '' then
  redis.call('HSET', KEYS[1], 'created_at', ARGV[7])
  redis.call('ZADD', KEYS[3], ARGV[7], ARGV[1])
end
if to ~= '' then redis.call('HSET', KEYS[1], 'state', to) end
if leg ~= '' then redis.call('HSET', KEYS[1], 'leg', leg) end
if ARGV[9] ~= '' then redis.call('HINCRBY', KEYS[1], ARGV[9], 1) end

local n = tonumber(ARGV[10])
for i = 11, 10 + 2 * n, 2 do set(KEYS[1], ARGV[i], ARGV[i + 1]) end
for i = 11 + 2 * n, #ARGV do drop(KEYS[1], ARGV[i]) end
tell(KEYS[1], ARGV[6], to ~= '' and TURN_ROOM or 0)

count(KEYS[1], state, to)

if to == 'waiting' then
  -- The provider took it: whatever had closed the gate is over.
  if state == 'submitting' or state == 'unconfirmed' then
    charge(ARGV[1])
  else
    take_place(ARGV[1], KEYS[1], tonumber(ARGV[7]))
  end
  redis.call('HDEL', GATE, 'failures')
  open(KEYS[1], tonumber(ARGV[7]))
elseif to == 'held' then
  hold(ARGV[1], KEYS[1], redis.call('HGET', KEYS[1], 'lane'), tonumber(ARGV[7]), ARGV[4])
elseif ARGV[4] == '-' or (to ~= '' and to ~= 'submitting' and to ~= 'unconfirmed') then
  -- Also where its record is gone: a place at the provider must not be lost with it.
  if state == 'unconfirmed' then charge(ARGV[1]) end
  land(ARGV[1])
  arrive(ARGV[1])
end

local due = ARGV[4]
local deadline = redis.call('HGET', KEYS[1], 'deadline_at')
-- A job that only waits is looked at when its deadline comes, whatever it waits for.
if deadline and (to == 'queued' or to == 'waiting' or to == 'unconfirmed')
    and tonumber(due) > tonumber(deadline) then
  due = deadline
end
if state == '' and to ~= '' and called_off(KEYS[1]) then
  -- On record, so that it ends natively and is counted: the sweep ends it, or its submit leg.
  redis.call('HSET', KEYS[1], 'cancelled_by', 'batch cancel')
  due = ARGV[7]
end
if due == '-' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[12], ARGV[1])
elseif due ~= '' then
  redis.call('ZADD', KEYS[2], due, ARGV[1])
end
if ARGV[5] ~= '' then retain(KEYS[1], ARGV[5]) end
return {1, state}
