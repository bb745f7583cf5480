-- Claim a parked job for the event that ends it, and make it ready to be resumed.
-- Closes the race between a webhook, its duplicates, a poll, a cancellation, the deadline and the
-- submit leg's own answer: one of them moves the job to resuming, the others see that it has moved.
--
-- Returns 1 if the event won, 2 if the same delivery has won before, else 0.
--! uses record gate ready ends overview receipts
--! keys JOB DUE READY GATE FLIGHT LANES HELD WAKE RING
--! keys STATES TENANTS TOTALS MINUTES DAYS TURNS DELIVERIES
--! args job_id now sources event source by_provider entry leg digest again_in entry_again event_traceparent
local r = redis.call('HMGET', JOB, 'state', 'leg', 'announced', 'event', 'heard')
local state, mine = r[1] or '', leg ~= '' and r[2] == leg
-- The reply to this very call was lost and the client sent it again: it had won.
if state == 'resuming' and mine and r[4] == event then return 1 end
if digest ~= '' and r[5] == digest and allowed(state, again_in) then
  tell(JOB, entry_again)
  give_receipt(job_id, 'without effect', entry_again)
  return 2
end
if not allowed(state, sources) or (leg ~= '' and not mine) or not message(JOB) then return 0 end
-- An event of ours (a cancellation, an expiry) must wait until PARKED is stored: see announce.lua.
if state == 'submitting' and by_provider == '0' and not r[3] and not mine then return 0 end

arrive(job_id)
redis.call('HSET', JOB, 'state', 'resuming', 'event', event, 'source', source)
-- A poll that ends nothing counts itself in a note; this one writes none.
if source == 'poll' then redis.call('HINCRBY', JOB, 'polls', 1) end
if event_traceparent ~= '' then redis.call('HSET', JOB, 'event_traceparent', event_traceparent) end
if digest ~= '' then
  redis.call('HSET', JOB, 'heard', digest)
  give_receipt(job_id, 'resumed', entry)
end
-- The provider may have accepted the job, so its cost counts as spent.
charge(job_id)
land(job_id)
tell(JOB, entry, TURN_ROOM)
redis.call('ZREM', DUE, job_id)
make_ready(READY, RING, job_id)
show_turn(job_id, JOB, state, 'resuming', now)
return 1
