-- Drop entries of the quarantine. Of two that drop the same one, the second finds it gone.
--
-- KEYS  1 quarantine  2 index  3 the unreadable ones
-- ARGV  ids of entries
-- Returns how many there were.
local dropped = 0
for _, id in ipairs(ARGV) do
  local entry = find(id)
  if entry then
    forget(entry)
    dropped = dropped + 1
  end
end
return dropped
