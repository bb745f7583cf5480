-- Renew the leases of jobs that a conductor works on, or put off what it cannot work on now.
-- A job that has settled meanwhile has none.
--! uses ready
--! keys READY
--! args seconds job_ids...
for _, id in ipairs(job_ids) do redis.call('ZADD', READY, 'XX', after(seconds), id) end
