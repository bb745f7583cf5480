-- Give up a chord's claim, and keep all that was counted for it: its body could not be published.
-- Closes the race with whoever claimed the chord after ours had expired.
--
-- Returns whether it was ours.
--! keys CLAIM
--! args token
if redis.call('GET', CLAIM) == token then return redis.call('DEL', CLAIM) end
return 0
