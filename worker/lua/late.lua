-- Keep what was delivered of a job that ends, or has ended, without it. The first such delivery
-- is kept, or the first end of a song after what was none yet; a record that has ended is then
-- kept for as long again.
-- Closes the race between copies of one delivery.
--
-- KEYS  1 record
-- ARGV  1 ',state,' in which it is kept  2 document  3 seconds to retain  4 timeline entry
-- Returns whether it was kept.
local function final(document)
  -- As json.dumps writes it: within a text of the document, the quotes would be escaped.
  return string.find(document, '"final": true', 1, true) ~= nil
end

local state = redis.call('HGET', KEYS[1], 'state') or ''
if not allowed(state, ARGV[1]) then return 0 end
local kept = redis.call('HGET', KEYS[1], 'late')
if kept and (final(kept) or not final(ARGV[2])) then return 0 end
redis.call('HSET', KEYS[1], 'late', ARGV[2])
tell(KEYS[1], ARGV[4], TURN_ROOM)
if state ~= 'resuming' then retain(KEYS[1], ARGV[3]) end
return 1
