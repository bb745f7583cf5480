-- Renew the leases of jobs that a conductor works on, or put off jobs that it cannot work on now.
-- XX: a job that has settled meanwhile has left `ready`, and must not come back.
--! uses ready
--! keys READY
--! args seconds job_ids...
for _, id in ipairs(job_ids) do redis.call('ZADD', READY, 'XX', after(seconds), id) end
