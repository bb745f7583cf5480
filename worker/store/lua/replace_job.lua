-- Write on a job that was lost which job runs in its place, and take it off the counters of its batch.
-- Closes the race between two retries of one job: the second changes nothing. And the race with a
-- cancellation of the batch, whose scan could not find the new job before this: it ends as well.
--! uses record ends tally
--! keys JOB NEW DUE BATCH ROWS ROW_JOBS
--! args again entry now
if redis.call('HEXISTS', JOB, 'state') == 0 or redis.call('HEXISTS', JOB, 'again') == 1 then return end
redis.call('HSET', JOB, 'again', again)
tell(JOB, entry)
-- The version before named the new job in its row instead, and took the lost one off itself.
if redis.call('HEXISTS', NEW, 'instead_of') == 1 then discount(JOB) end
local state = redis.call('HGET', NEW, 'state')
if (state == 'queued' or state == 'held' or state == 'admitted') and called_off(NEW) then
  redis.call('HSET', NEW, 'cancelled_by', 'batch cancel')
  redis.call('ZADD', DUE, now, again)
end
