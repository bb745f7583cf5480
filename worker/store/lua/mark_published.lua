-- Mark a message as published: move its job's due time from `stale_at`, which is near, to `until_at`,
-- from which on the message counts as lost.
-- Closes the race with a worker that already took the message and set a due time of its own: the due
-- time moves only if it is still the one that the publisher had set.
--! keys DUE JOB
--! args job_id stale_at until_at
if tonumber(redis.call('ZSCORE', DUE, job_id) or '-1') ~= tonumber(stale_at) then return end
local due = tonumber(until_at)
local r = redis.call('HMGET', JOB, 'state', 'deadline_at')
-- Until a worker begins the job, its deadline ends it, however long its message may stand in a queue.
if r[2] and (r[1] == 'queued' or r[1] == 'admitted') then due = math.min(due, r[2]) end
redis.call('ZADD', DUE, string.format('%.6f', due), job_id)
