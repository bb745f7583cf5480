-- Keep a delivery that came too late to end its job. The first one is kept; if it was not final, the
-- first final one takes its place. A record that has ended gets its retention anew.
-- Closes the race between copies of one delivery: one of them is kept.
--
-- Returns whether it was kept.
--! uses record receipts
--! keys JOB TOTALS DELIVERIES
--! args job_id sources late is_final seconds entry
local r = redis.call('HMGET', JOB, 'state', 'late', 'late_is_final')
local state = r[1] or ''
if not allowed(state, sources) then return 0 end
-- The version before wrote no flag: what it kept says so itself, as json.dumps writes it.
local is_kept_final = r[3] == '1' or (r[2] and not r[3] and string.find(r[2], '"final": true', 1, true))
if r[2] and (is_kept_final or is_final == '0') then return 0 end
redis.call('HSET', JOB, 'late', late, 'late_is_final', is_final)
give_receipt(job_id, 'late', entry)
tell(JOB, entry, TURN_ROOM)
if state ~= 'resuming' then retain(JOB, seconds) end
return 1
