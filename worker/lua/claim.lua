-- Claim the right to resume a parked job, and keep the event that won it.
-- Closes the race between a webhook, its duplicates, a poll, the deadline and the sweep: one
-- of them moves the job to resuming, the others see that it has moved.
--
-- With push, the parked message goes to its Redis queue in the same step, so that there is no
-- moment between claim and publish in which a dying process could lose the job.
--
-- KEYS  1 record  2 due  3 jobs  4-8 the gate's (gate.lua)
-- ARGV  1 job_id  2 ',state,' it may start from  3 event ('' keeps the one there is)
--       4 moment at which a claim that was not published is stale
--       5 moment at which a claim that was published is stale  6 timeline entry  7 push: 1 or 0
--       8 leg: only while this run of the submit leg is the last, and then safe to send twice ('' any)
-- Returns {won, state before, claim number, parked message, pushed}.
local state = redis.call('HGET', KEYS[1], 'state') or ''
local parked = redis.call('HMGET', KEYS[1], 'parked', 'list_key')
local r = redis.call('HMGET', KEYS[1], 'leg', 'announced', 'event', 'claims')
local mine = ARGV[8] ~= '' and r[1] == ARGV[8]
-- The reply to this very call was lost and the client sent it again: it had won.
if state == 'resuming' and mine and r[3] == ARGV[3] then
  return {1, state, tonumber(r[4]), parked[1], (ARGV[7] == '1' and parked[2]) and 1 or 0}
end
if not allowed(state, ARGV[2]) or not parked[1] or (ARGV[8] ~= '' and not mine) then
  return {0, state}
end
-- What does not come from the provider waits until PARKED is stored: see announce.lua.
local ours = string.find(ARGV[3], '"body": null', 1, true)
if state == 'submitting' and ours and not r[2] and not mine then return {0, state} end

arrive(ARGV[1])
redis.call('HSET', KEYS[1], 'state', 'resuming')
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'event', ARGV[3]) end
-- Accepted, as far as anybody knows.
charge(ARGV[1])
land(ARGV[1])
local claim = redis.call('HINCRBY', KEYS[1], 'claims', 1)
tell(KEYS[1], ARGV[6], TURN_ROOM)

local pushed = 0
-- A parked message carries the number of the first claim; later ones are renumbered outside.
if ARGV[7] == '1' and parked[2] and claim == 1 then
  -- To the end that workers take from: it waited for minutes, and is done in milliseconds.
  redis.call('RPUSH', parked[2], parked[1])
  pushed = 1
end
redis.call('ZADD', KEYS[2], pushed == 1 and ARGV[5] or ARGV[4], ARGV[1])
return {1, state, claim, parked[1], pushed}
