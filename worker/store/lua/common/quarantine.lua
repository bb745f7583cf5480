-- Common to the scripts that change the quarantine.
-- The index maps the fingerprint of each delivery to its entry, and counts their bytes.

local function find(id)
  return redis.call('XRANGE', QUARANTINE, id, id)[1]
end

local function forget(entry)
  local kept = {}
  for i = 1, #entry[2], 2 do kept[entry[2][i]] = entry[2][i + 1] end
  redis.call('XDEL', QUARANTINE, entry[1])
  redis.call('HDEL', INDEX, kept.fingerprint)
  redis.call('LREM', UNREADABLE, 1, entry[1])
  redis.call('HINCRBY', INDEX, 'bytes', -kept.size)
end
