-- Add jobs to the indexes of common/overview.lua that were recorded before there were any.
-- Closes the race with a script that moves such a job meanwhile: a job is added where it stands now.
--! keys STATES TENANTS RECORDS
--! args job_ids...
for _, id in ipairs(job_ids) do
  local r = redis.call('HMGET', RECORDS .. id, 'state', 'operation', 'created_at', 'lane')
  if r[1] and r[2] and r[3] then
    local name = r[1] .. ':' .. r[2]
    redis.call('SADD', STATES, name)
    -- NX: a job that has moved since has a better time there.
    redis.call('ZADD', STATES .. ':' .. name, 'NX', r[3], id)
    local tenant = r[4] and string.match(r[4], ':(.*)$') or 'default'
    redis.call('SADD', TENANTS, tenant)
    redis.call('ZADD', TENANTS .. ':' .. tenant, 'NX', r[3], id)
  end
end
