-- Take a job away from a silent submit leg, if the leg has not announced it (announce.lua). A leg
-- announces before it sends, so nothing was sent.
-- Closes the race with a leg that is only slow: announce.lua refuses it, so it sends nothing later.
--
-- Returns whether nothing was sent, nor will be.
--! keys JOB
--! args leg
local r = redis.call('HMGET', JOB, 'state', 'leg', 'announced')
-- '1': the previous version noted no leg. It could be this one, so something may have been sent.
if r[1] ~= 'submitting' or r[2] ~= leg or r[3] == leg or r[3] == '1' then return 0 end
redis.call('HSET', JOB, 'leg', '')
return 1
