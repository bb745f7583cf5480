-- Reserve the next of evenly spaced times: the generic cell rate algorithm without a burst.
-- Closes the race between sweeps that would each keep to the rate, and break it together. The times are
-- by the server's clock: a worker whose clock is ahead would keep all others waiting.
--
-- Returns the seconds until the reserved time.
--! keys NEXT
--! args spacing
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local at = math.max(tonumber(redis.call('GET', NEXT) or '0'), now)
local free = at + spacing
redis.call('SET', NEXT, string.format('%.6f', free), 'PX', math.ceil((free - now) * 1000) + 1000)
return string.format('%.6f', at - now)
