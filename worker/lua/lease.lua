-- Lease the jobs that are ready to be resumed, and hand out what their legs need of their records.
-- Closes the race between conductors: any number may run, and each job goes to one of them. A
-- conductor that dies loses nothing, for its jobs are ready again when their leases end.
--
-- KEYS  1 ready  2 prefix of the records
-- ARGV  1 seconds of the lease  2 how many at most
-- Returns for each job {job_id, operation, message, event, how often it was leased, clip_id,
-- provider_task_id}, the longest ready first.
local leased = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', after(0), 'LIMIT', 0, ARGV[2])) do
  local job = KEYS[2] .. id
  local r = redis.call('HMGET', job, 'state', 'operation', 'event', 'clip_id', 'provider_task_id')
  if r[1] == 'resuming' then
    redis.call('ZADD', KEYS[1], after(ARGV[1]), id)
    local claims = redis.call('HINCRBY', job, 'claims', 1)
    table.insert(leased, {id, r[2], message(job), r[3], claims, r[4] or '', r[5] or ''})
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return leased
