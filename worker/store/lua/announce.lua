-- Note which leg submits a job now: its PARKED state is stored in the result backend.
-- Closes the race with a cancellation: claimed before, its FAILURE could be overwritten with PARKED,
-- for good. Until this note it is only marked (claim.lua refuses), and the leg itself ends the job.
--
-- Returns {state, whether the leg is still the job's last, who cancelled it ('' nobody)}; nil
-- where there is no record.
--! keys JOB
--! args leg
local r = redis.call('HMGET', JOB, 'state', 'leg', 'cancelled_by')
if not r[1] then return nil end
if r[1] ~= 'submitting' or r[2] ~= leg then return {r[1], 0, r[3] or ''} end
redis.call('HSET', JOB, 'announced', leg)
return {r[1], 1, r[3] or ''}
