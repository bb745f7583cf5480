-- Keep a delivery in quarantine, once, and drop the oldest ones that there is no room for.
-- Closes the race between copies of one delivery: a provider that repeats itself, however often
-- and at once, takes one place and cannot push the others out.
--
-- KEYS  1 quarantine  2 index
-- ARGV  1 fingerprint  2 size  3 entries at most  4 bytes at most  5… fields and values
-- Returns the id of the entry.

-- Somebody may have deleted the stream by hand, and left its index behind.
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) end
local known = redis.call('HGET', KEYS[2], ARGV[1])
if known and find(known) then return known end

local id = redis.call('XADD', KEYS[1], '*', 'fingerprint', ARGV[1], 'size', ARGV[2], unpack(ARGV, 5))
redis.call('HSET', KEYS[2], ARGV[1], id)
local bytes = redis.call('HINCRBY', KEYS[2], 'bytes', ARGV[2])
local count = redis.call('XLEN', KEYS[1])
while count > 1 and (count > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4])) do
  forget(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1])
  count = count - 1
  bytes = tonumber(redis.call('HGET', KEYS[2], 'bytes'))
end
return id
