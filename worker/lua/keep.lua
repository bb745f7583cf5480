-- Keep a delivery in quarantine, once, and push out those that there is no room for: the oldest
-- unreadable one first, as an orphan may hold a song that was paid for. The newest always stays.
-- Closes the race between copies of one delivery: a provider that repeats itself, however often
-- and at once, takes one place and cannot push the others out.
--
-- KEYS  1 quarantine  2 index  3 the unreadable ones
-- ARGV  1 fingerprint  2 size  3 entries at most  4 bytes at most  5 whether it is unreadable: 1
--       or 0  6… fields and values
-- Returns {id of the entry, how many were pushed out}.

-- Somebody may have deleted the stream by hand, and left its index behind.
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[2], KEYS[3]) end
local known = redis.call('HGET', KEYS[2], ARGV[1])
if known and find(known) then return {known, 0} end

local id = redis.call('XADD', KEYS[1], '*', 'fingerprint', ARGV[1], 'size', ARGV[2], unpack(ARGV, 6))
redis.call('HSET', KEYS[2], ARGV[1], id)

local function next_out()
  for _, unreadable in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
    local entry = find(unreadable)
    if entry then return entry end
  end
  return redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
end

local bytes = redis.call('HINCRBY', KEYS[2], 'bytes', ARGV[2])
local count, out = redis.call('XLEN', KEYS[1]), 0
while count > 1 and (count > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4])) do
  forget(next_out())
  count, out = count - 1, out + 1
  bytes = tonumber(redis.call('HGET', KEYS[2], 'bytes'))
end
if ARGV[5] == '1' then redis.call('RPUSH', KEYS[3], id) end
return {id, out}
