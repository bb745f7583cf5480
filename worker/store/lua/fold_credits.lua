-- Add the credits that tenants without jobs have spent to those of the tenant `other`. Otherwise `totals`
-- would keep each tenant for ever. A tenant that is named in `kept` has a series of its own in the metrics,
-- and its counter must not fall.
-- Closes the race with a script that counts credits meanwhile: none are lost.
--! keys TOTALS TENANTS
--! args other kept...
local stays = {[other] = true}
for _, tenant in ipairs(kept) do stays[tenant] = true end
for _, tenant in ipairs(redis.call('SMEMBERS', TENANTS)) do stays[tenant] = true end
local all = redis.call('HGETALL', TOTALS)
for i = 1, #all, 2 do
  local tenant, operation = string.match(all[i], '^credits/([^/]*)/(.*)$')
  if tenant and not stays[tenant] then
    redis.call('HINCRBY', TOTALS, 'credits/' .. other .. '/' .. operation, all[i + 1])
    redis.call('HDEL', TOTALS, all[i])
  end
end
