-- Common to the scripts that change a record.
-- A record that does not exist has the state ''.

local TIMELINE_LIMIT = 32768
-- Notes stop at the limit; turns have this much more, so that a full timeline still tells the end.
local TURN_ROOM = 8192

local function allowed(state, sources)
  return string.find(sources, ',' .. state .. ',', 1, true) ~= nil
end

-- The message and the timeline are long. They have keys of their own, so that Redis keeps the hash
-- of a record in its compact form. Scripts set and drop the message as the field 'parked'.
-- A record of the previous version has both in its hash, so readers look in both places.
local MESSAGE, TIMELINE = '/message', '/timeline'

local function message(job)
  return redis.call('GET', job .. MESSAGE) or redis.call('HGET', job, 'parked')
end

local function set(job, field, value)
  if field == 'parked' then
    redis.call('SET', job .. MESSAGE, value)
  else
    redis.call('HSET', job, field, value)
  end
end

local function drop(job, field)
  if field == 'parked' then redis.call('DEL', job .. MESSAGE) end
  redis.call('HDEL', job, field)
end

local function retain(job, seconds)
  redis.call('EXPIRE', job, seconds)
  redis.call('EXPIRE', job .. TIMELINE, seconds)
  redis.call('EXPIRE', job .. MESSAGE, seconds)
end

-- Bounded, so that a provider that repeats itself cannot grow a record without end.
local function tell(job, entry, room)
  local timeline = redis.call('GET', job .. TIMELINE) or ''
  if entry ~= '' and #timeline < TIMELINE_LIMIT + (room or 0) then
    -- Not APPEND: Redis would reserve as much memory again, for growth that may never come.
    redis.call('SET', job .. TIMELINE, timeline .. entry .. '\n', 'KEEPTTL')
    -- If the previous version ended this job, the record expires but this new timeline would not.
    local left = timeline == '' and redis.call('TTL', job) or -1
    if left > 0 then redis.call('EXPIRE', job .. TIMELINE, left) end
  end
end
