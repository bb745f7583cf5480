-- The latest deliveries, and what became of each; common to the scripts that hear of one. Nothing here
-- decides anything. `deliveries` is a stream. It holds for each delivery its job, its receipt, the line
-- of the job's timeline that tells of it, and its entry in quarantine ('' if it has none).
local DELIVERIES_KEPT = 1000

local function give_receipt(job_id, receipt, said, kept_as)
  redis.call('HINCRBY', TOTALS, 'deliveries/' .. receipt, 1)
  redis.call('XADD', DELIVERIES, 'MAXLEN', '~', DELIVERIES_KEPT, '*', 'job', job_id,
    'receipt', receipt, 'said', said, 'entry', kept_as or '')
end
