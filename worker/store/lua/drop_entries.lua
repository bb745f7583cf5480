-- Drop entries of the quarantine. Of two that drop the same one, the second finds it gone.
--
-- Returns how many there were.
--! uses quarantine
--! keys QUARANTINE INDEX UNREADABLE
--! args ids...
local dropped = 0
for _, id in ipairs(ids) do
  local entry = find(id)
  if entry then
    forget(entry)
    dropped = dropped + 1
  end
end
return dropped
