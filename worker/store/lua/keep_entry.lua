-- Keep a delivery in quarantine, once. If there is no room, push entries out: the oldest unreadable one
-- first, because an orphan may hold a song that was paid for. The newest entry always stays.
-- Closes the race between copies of one delivery: a provider that repeats itself takes one place, and
-- cannot push the other entries out.
--
-- Returns {id of the entry, how many were pushed out}.
--! uses quarantine receipts
--! keys QUARANTINE INDEX UNREADABLE TOTALS DELIVERIES
--! args job_id said fingerprint size most most_bytes is_unreadable fields...
-- An operator may have deleted the stream by hand. Its index would still count the old bytes.
if redis.call('XLEN', QUARANTINE) == 0 then redis.call('DEL', INDEX, UNREADABLE) end
local known = redis.call('HGET', INDEX, fingerprint)
if known and find(known) then return {known, 0} end

local id = redis.call('XADD', QUARANTINE, '*', 'fingerprint', fingerprint, 'size', size, unpack(fields))
redis.call('HSET', INDEX, fingerprint, id)
give_receipt(job_id, 'quarantined', said, id)

local function next_out()
  for _, unreadable in ipairs(redis.call('LRANGE', UNREADABLE, 0, -1)) do
    local entry = find(unreadable)
    if entry then return entry end
  end
  return redis.call('XRANGE', QUARANTINE, '-', '+', 'COUNT', 1)[1]
end

local bytes = redis.call('HINCRBY', INDEX, 'bytes', size)
local count, out = redis.call('XLEN', QUARANTINE), 0
while count > 1 and (count > tonumber(most) or bytes > tonumber(most_bytes)) do
  forget(next_out())
  count, out = count - 1, out + 1
  bytes = tonumber(redis.call('HGET', INDEX, 'bytes'))
end
if is_unreadable == '1' then redis.call('RPUSH', UNREADABLE, id) end
return {id, out}
