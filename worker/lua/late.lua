-- Keep what was delivered of a job that ends, or has ended, without it. The first such delivery
-- is kept; a record that has ended is then kept for as long again.
-- Closes two races: that between copies of one delivery, and that with the failing event (a
-- deadline, a cancellation) that won the job moments before and waits for its worker.
--
-- KEYS  1 record
-- ARGV  1 ',state,' of the ends  2 document  3 seconds to retain  4 timeline entry
-- Returns whether it was kept.
local r = redis.call('HMGET', KEYS[1], 'state', 'event')
local ended = allowed(r[1] or '', ARGV[1])
-- An event without the provider's words is a failing one; see Event.dumps.
local failing = r[1] == 'resuming' and r[2] and string.find(r[2], '"body": null', 1, true)
if not (ended or failing) then return 0 end
if redis.call('HSETNX', KEYS[1], 'late', ARGV[2]) == 0 then return 0 end
if ended then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
tell(KEYS[1], ARGV[4], TURN_ROOM)
return 1
