-- When old rows were last removed by the settings' rules, unix ms.
ALTER TABLE poll ADD COLUMN pruned_at INTEGER;

-- Lists of jobs that failed or were cancelled: few among many that succeeded.
CREATE INDEX jobs_unsuccessful ON jobs (id) WHERE state IN ('failed', 'cancelled');
