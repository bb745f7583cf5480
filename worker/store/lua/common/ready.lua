-- Who waits to be resumed; common to the scripts that add to them or lease them.
-- `ready` is a sorted set: each job by the time from which on a conductor may lease it, by the
-- server's clock, for those of workers and receivers differ. `ring` is a list that idle conductors
-- wait on; a few words in it are enough, for whoever hears one leases all that it can work on.
local WORDS = 8

local function ring(list)
  redis.call('LPUSH', list, '1')
  redis.call('LTRIM', list, 0, WORDS - 1)
end

-- The server's clock, so many seconds from now.
local function after(seconds)
  local clock = redis.call('TIME')
  return string.format('%.6f', clock[1] + clock[2] / 1e6 + seconds)
end

local function make_ready(ready, list, id)
  redis.call('ZADD', ready, 'NX', after(0), id)
  ring(list)
end
