-- Note that the PARKED state of a job is stored in the result backend, and by which leg. If this server is
-- the result backend, `parked` has the state, and is stored here: as Celery would, and a SUCCESS stays.
-- Closes the race with a cancellation. If a cancellation claimed the job earlier, this leg could
-- overwrite its FAILURE with PARKED, for good. So until this note claim.lua refuses a cancellation, which
-- only marks the job, and the leg itself ends it.
--
-- Returns {state, whether the leg is still the job's last, who cancelled it ('' if nobody did)}; nil
-- if there is no record.
--! keys JOB RESULT
--! args leg parked seconds
local r = redis.call('HMGET', JOB, 'state', 'leg', 'cancelled_by')
if not r[1] then return nil end
if r[1] ~= 'submitting' or r[2] ~= leg then return {r[1], 0, r[3] or ''} end
if parked ~= '' then
  local stored = redis.call('GET', RESULT)
  if not (stored and cjson.decode(stored).status == 'SUCCESS') then
    redis.call('SET', RESULT, parked, 'EX', seconds)
    redis.call('PUBLISH', RESULT, parked)
  end
end
redis.call('HSET', JOB, 'announced', leg)
return {r[1], 1, r[3] or ''}
