-- Common to the scripts that change the quarantine: a stream of entries, and an index beside it.
-- The index is a hash. It maps the fingerprint of each delivery to its entry, so that a copy is found,
-- and its field `bytes` counts the size of all entries, so that the limit needs no scan.

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
