-- Reserve the next of evenly spaced moments: the generic cell rate algorithm without a burst.
-- Closes the race between sweeps that would each keep to the rate, and break it together.
--
-- KEYS  1 the moment that is free next
-- ARGV  1 now  2 seconds between two
-- Returns the moment reserved.
local at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1]))
local free = at + tonumber(ARGV[2])
redis.call('SET', KEYS[1], string.format('%.6f', free), 'PX', math.ceil((free - ARGV[1]) * 1000) + 1000)
return string.format('%.6f', at)
