-- Reserve the next of evenly spaced moments: the generic cell rate algorithm without a burst.
-- Closes the race between sweeps that would each keep to the rate, and break it together. By the
-- server's own clock: a worker whose clock is ahead must not keep all others waiting.
--
-- KEYS  1 the moment that is free next
-- ARGV  1 seconds between two
-- Returns the seconds until the moment reserved.
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local free = at + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.6f', free), 'PX', math.ceil((free - now) * 1000) + 1000)
return string.format('%.6f', at - now)
