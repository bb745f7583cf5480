-- Drop entries of the quarantine, each with its place in the index.
-- Closes the race between two that drop the same entry: the second finds it gone, and the bytes are
-- subtracted once.
--
-- Returns how many were there to drop.
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
