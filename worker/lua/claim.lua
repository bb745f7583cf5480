-- Claim a parked job for the event that ends it, and make it ready to be resumed.
-- Closes the race between a webhook, its duplicates, a poll, a cancellation, the deadline and the
-- submit leg's own answer: one of them moves the job to resuming, the others see that it has moved.
--
-- KEYS  1 record  2 due  3 ready  4-8 the gate's (gate.lua)  9 ring
-- ARGV  1 job_id  2 ',state,' it may start from  3 event  4 1 if the provider says so, 0 if we do
--       5 timeline entry
--       6 leg: only while this run of the submit leg is the last, and then safe to send twice ('' any)
--       7 digest of a delivery ('' none)  8 ',state,' in which the same one again is nothing new
--       9 timeline entry for that
-- Returns 1 if the event won, 2 if the delivery that won before was the same, else 0.
local r = redis.call('HMGET', KEYS[1], 'state', 'leg', 'announced', 'event', 'heard')
local state, leg, digest = r[1] or '', ARGV[6], ARGV[7]
local mine = leg ~= '' and r[2] == leg
-- The reply to this very call was lost and the client sent it again: it had won.
if state == 'resuming' and mine and r[4] == ARGV[3] then return 1 end
if digest ~= '' and r[5] == digest and allowed(state, ARGV[8]) then
  tell(KEYS[1], ARGV[9])
  return 2
end
if not allowed(state, ARGV[2]) or (leg ~= '' and not mine) or not message(KEYS[1]) then return 0 end
-- Our own endings wait until PARKED is stored: see announce.lua.
if state == 'submitting' and ARGV[4] == '0' and not r[3] and not mine then return 0 end

arrive(ARGV[1])
redis.call('HSET', KEYS[1], 'state', 'resuming', 'event', ARGV[3])
if digest ~= '' then redis.call('HSET', KEYS[1], 'heard', digest) end
-- Accepted, as far as anybody knows.
charge(ARGV[1])
land(ARGV[1])
tell(KEYS[1], ARGV[5], TURN_ROOM)
redis.call('ZREM', KEYS[2], ARGV[1])
make_ready(KEYS[3], KEYS[9], ARGV[1])
return 1
