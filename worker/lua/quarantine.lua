-- Common to the scripts that change the quarantine; prepended to each of them.
-- The index maps the fingerprint of each delivery to its entry, and counts their bytes.
--
-- KEYS  1 quarantine  2 index  3 the unreadable ones

local function find(id)
  return redis.call('XRANGE', KEYS[1], id, id)[1]
end

local function forget(entry)
  local kept = {}
  for i = 1, #entry[2], 2 do kept[entry[2][i]] = entry[2][i + 1] end
  redis.call('XDEL', KEYS[1], entry[1])
  redis.call('HDEL', KEYS[2], kept.fingerprint)
  redis.call('LREM', KEYS[3], 1, entry[1])
  redis.call('HINCRBY', KEYS[2], 'bytes', -kept.size)
end
