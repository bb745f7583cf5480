-- Take a job away from a submit leg that has not announced it, so has sent nothing (announce.lua).
-- Closes the race with that leg, which may only be slow: it is refused when it announces the job.
--
-- KEYS  1 record
-- ARGV  1 leg
-- Returns whether nothing was sent, nor will be.
local r = redis.call('HMGET', KEYS[1], 'state', 'leg', 'announced')
-- The version before noted no leg with it: that could be this one.
if r[1] ~= 'submitting' or r[2] ~= ARGV[1] or r[3] == ARGV[1] or r[3] == '1' then return 0 end
redis.call('HSET', KEYS[1], 'leg', '')
return 1
