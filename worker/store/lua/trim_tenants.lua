-- Drop the jobs of tenants that were recorded before a time, and tenants that have none left.
-- Closes the race with a script that adds a tenant's first job meanwhile: that tenant stays.
--! keys TENANTS
--! args before tenants_named...
for _, tenant in ipairs(tenants_named) do
  local jobs = TENANTS .. ':' .. tenant
  redis.call('ZREMRANGEBYSCORE', jobs, '-inf', before)
  if redis.call('EXISTS', jobs) == 0 then redis.call('SREM', TENANTS, tenant) end
end
