-- Keep what was delivered of a job that ends, or has ended, without it. The first such delivery
-- is kept, or the first end of a song after what was none yet; a record that has ended is then
-- kept for as long again.
-- Closes the race between copies of one delivery.
--
-- Returns whether it was kept.
--! uses record
--! keys JOB
--! args sources late seconds entry
local function final(document)
  -- As json.dumps writes it: within a text of the document, the quotes would be escaped.
  return string.find(document, '"final": true', 1, true) ~= nil
end

local state = redis.call('HGET', JOB, 'state') or ''
if not allowed(state, sources) then return 0 end
local kept = redis.call('HGET', JOB, 'late')
if kept and (final(kept) or not final(late)) then return 0 end
redis.call('HSET', JOB, 'late', late)
tell(JOB, entry, TURN_ROOM)
if state ~= 'resuming' then retain(JOB, seconds) end
return 1
