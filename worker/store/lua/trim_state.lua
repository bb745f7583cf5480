-- Take the jobs out of an index of common/overview.lua that do not stand there: a worker of an earlier
-- version has moved them, or their records are gone. The oldest are looked at, because these stay.
-- Closes the race with a script that moves a job meanwhile: a job that stands there now stays.
--
-- Returns the jobs that were taken out.
--! keys STATES RECORDS
--! args name most
local index, out = STATES .. ':' .. name, {}
for _, id in ipairs(redis.call('ZRANGE', index, 0, most - 1)) do
  local r = redis.call('HMGET', RECORDS .. id, 'state', 'operation')
  if not r[1] or r[1] .. ':' .. (r[2] or 'unknown') ~= name then
    redis.call('ZREM', index, id)
    table.insert(out, id)
  end
end
return out
