-- Keep what was delivered of a job that ends, or has ended, without it. The first such delivery
-- is kept, or the first end of a song after what was none yet; a record that has ended is then
-- kept for as long again.
-- Closes the race between copies of one delivery.
--
-- Returns whether it was kept.
--! uses record
--! keys JOB
--! args sources late is_final seconds entry
local r = redis.call('HMGET', JOB, 'state', 'late', 'late_is_final')
local state = r[1] or ''
if not allowed(state, sources) then return 0 end
-- The version before wrote no flag: what it kept gives way to the end of a song.
if r[2] and (r[3] == '1' or is_final == '0') then return 0 end
redis.call('HSET', JOB, 'late', late, 'late_is_final', is_final)
tell(JOB, entry, TURN_ROOM)
if state ~= 'resuming' then retain(JOB, seconds) end
return 1
