-- Give up a chord's claim, and keep all that was counted for it: its body could not be published.
-- Closes the race with whoever claimed the chord after ours had expired.
--
-- KEYS  1 the claim
-- ARGV  1 our token
-- Returns whether it was ours.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
