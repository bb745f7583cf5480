-- Common to the scripts that change a record; prepended to each of them.
-- A record that does not exist has the state ''.

local TIMELINE_LIMIT = 32768
-- Notes stop at the limit; turns have this much more, so that a full timeline still tells the end.
local TURN_ROOM = 8192

local function allowed(state, sources)
  return string.find(sources, ',' .. state .. ',', 1, true) ~= nil
end

-- Bounded, so that a provider that repeats itself cannot grow a record without end.
local function tell(job, entry, room)
  local timeline = redis.call('HGET', job, 'timeline') or ''
  if entry ~= '' and #timeline < TIMELINE_LIMIT + (room or 0) then
    redis.call('HSET', job, 'timeline', timeline .. entry .. '\n')
  end
end
