-- Take a job away from a submit leg that has not announced it, so has sent nothing (announce.lua).
-- Closes the race with that leg, which may only be slow: it is refused when it announces the job.
--
-- Returns whether nothing was sent, nor will be.
--! keys JOB
--! args leg
local r = redis.call('HMGET', JOB, 'state', 'leg', 'announced')
-- The version before noted no leg with it: that could be this one.
if r[1] ~= 'submitting' or r[2] ~= leg or r[3] == leg or r[3] == '1' then return 0 end
redis.call('HSET', JOB, 'leg', '')
return 1
