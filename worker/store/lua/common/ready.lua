-- The jobs that are ready to be resumed; common to the scripts that add or lease them.
-- `ready` is a sorted set of jobs, by the time from which a conductor may lease each. That time is by
-- the server's clock, because the clocks of workers and receivers differ. Idle conductors wait on the
-- list `ring`. A few words in it are enough: a conductor that takes one leases all it can work on.
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
  -- NX: a job that a conductor has leased keeps its lease, or a second conductor would resume it too.
  redis.call('ZADD', ready, 'NX', after(0), id)
  ring(list)
end
