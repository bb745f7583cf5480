-- Name those of some batches that have rows of a tenant.
-- One field of each tells, and most have none: a command for each would take ten times as long.
--! keys BATCHES
--! args field batch_ids...
local found = {}
for _, batch_id in ipairs(batch_ids) do
  if redis.call('HEXISTS', BATCHES .. batch_id, field) == 1 then found[#found + 1] = batch_id end
end
return found
