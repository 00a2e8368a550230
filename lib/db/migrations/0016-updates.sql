-- Builds beside each other: how updates go, and which build each server runs.

-- What was asked of an update or rollback, as JSON; NULL for what is asked by default.
ALTER TABLE jobs ADD COLUMN options TEXT CHECK (options IS NULL OR json_type(options) = 'object');

-- A repair that an earlier version has queued has no task that asks Steam.
UPDATE jobs SET options = '{"validate":true}' WHERE state = 'queued' AND operation = 'update'
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE job_id = jobs.id AND kind = 'check-build');

-- The update or rollback for which a restart waits until nobody plays.
ALTER TABLE jobs ADD COLUMN roll_of INTEGER REFERENCES jobs (id) ON DELETE SET NULL;
CREATE INDEX jobs_roll_of ON jobs (roll_of) WHERE roll_of IS NOT NULL;

-- For a stop before a start on another build: whether the game answered, and so has to answer there too.
ALTER TABLE tasks ADD COLUMN answered INTEGER CHECK (answered IN (0, 1));

-- For a start: the build on which the server did not come up.
ALTER TABLE tasks ADD COLUMN failed_build INTEGER;

-- The build on which a server last came up, and since when; NULL if that was not recorded.
ALTER TABLE servers ADD COLUMN build INTEGER CHECK (build > 0);
ALTER TABLE servers ADD COLUMN build_since INTEGER;

-- Whether the servers that the cancelled job has stopped stay stopped.
ALTER TABLE cancellations ADD COLUMN leave_stopped INTEGER NOT NULL DEFAULT 0 CHECK (leave_stopped IN (0, 1));

-- Builds that updates leave alone: somebody, or a failed update, went back from them.
CREATE TABLE rejected_builds (
    build INTEGER PRIMARY KEY CHECK (build > 0),
    at    INTEGER NOT NULL,
    actor TEXT    NOT NULL,
    why   TEXT    NOT NULL
) STRICT;

DROP INDEX jobs_ready_exclusive;
CREATE INDEX jobs_ready_exclusive ON jobs (id)
    WHERE state = 'queued' AND on_hold = 0 AND operation IN ('install', 'update', 'rollback');
