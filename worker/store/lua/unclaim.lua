-- Give up the claim of a chord whose body could not be published. Its counted parts stay, so the body
-- can be published later.
-- Closes the race with a worker that claimed the chord after our claim had expired.
--
-- Returns whether the claim was ours.
--! keys CLAIM
--! args token
if redis.call('GET', CLAIM) == token then return redis.call('DEL', CLAIM) end
return 0
