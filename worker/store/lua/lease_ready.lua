-- Lease the jobs that are ready to be resumed, and return the fields that their legs need.
-- Closes the race between conductors: any number may run, and each job goes to one of them. If a
-- conductor dies, its jobs are ready again when their leases end.
--
-- Returns for each job {job_id, operation, message, event, how often it was leased, clip_id,
-- provider_task_id, created_at, lane, traceparent, event_traceparent}, the longest ready first.
--! uses record ready
--! keys READY RECORDS
--! args seconds most
local leased = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', READY, '-inf', after(0), 'LIMIT', 0, most)) do
  local job = RECORDS .. id
  local r = redis.call('HMGET', job, 'state', 'operation', 'event', 'clip_id', 'provider_task_id',
    'created_at', 'lane', 'traceparent', 'event_traceparent')
  if r[1] == 'resuming' then
    redis.call('ZADD', READY, after(seconds), id)
    local claims = redis.call('HINCRBY', job, 'claims', 1)
    table.insert(leased, {id, r[2], message(job), r[3], claims, r[4] or '', r[5] or '',
      r[6] or '', r[7] or '', r[8] or '', r[9] or ''})
  else
    redis.call('ZREM', READY, id)
  end
end
return leased
