-- Builds beside each other: how updates go, and which build each server runs.

-- What was asked of an update or rollback, as JSON; NULL for what is asked by default.
ALTER TABLE jobs ADD COLUMN options TEXT CHECK (options IS NULL OR json_type(options) = 'object');

-- A repair that an earlier version has queued has no task that asks Steam.
UPDATE jobs SET options = '{"validate":true}' WHERE state = 'queued' AND operation = 'update'
    AND NOT EXISTS (SELECT 1 FROM tasks WHERE job_id = jobs.id AND kind = 'check-build');

-- What waits gets the plan of this version: it downloads beside the servers and no longer waits for them itself.
UPDATE jobs SET on_hold = 0 WHERE on_hold = 1 AND operation = 'update';
DELETE FROM tasks WHERE job_id IN (SELECT id FROM jobs WHERE state = 'queued' AND operation IN ('install', 'update'));
INSERT INTO tasks (job_id, position, kind)
    SELECT id, 0, iif(operation = 'update' AND options IS NULL, 'check-build', 'install-runtime') FROM jobs
    WHERE state = 'queued' AND operation IN ('install', 'update') ORDER BY id;
INSERT INTO tasks (job_id, position, kind)
    SELECT job_id, 1, 'publish-build' FROM tasks WHERE kind = 'install-runtime' AND state = 'pending'
    AND job_id IN (SELECT id FROM jobs WHERE state = 'queued') ORDER BY job_id;
INSERT INTO task_dependencies (task_id, depends_on)
    SELECT p.id, i.id FROM tasks p JOIN tasks i ON i.job_id = p.job_id AND i.position = 0
    WHERE p.kind = 'publish-build';

-- The build that an update or rollback has made the current one; and, of a restart, the job for which it waits until nobody plays.
ALTER TABLE jobs ADD COLUMN build INTEGER;
CREATE INDEX jobs_build ON jobs (build) WHERE build IS NOT NULL;
ALTER TABLE jobs ADD COLUMN roll_of INTEGER REFERENCES jobs (id) ON DELETE SET NULL;
CREATE INDEX jobs_roll_of ON jobs (roll_of) WHERE roll_of IS NOT NULL;

-- For a stop before a start on another build: whether the game answered, and so has to answer there too.
ALTER TABLE tasks ADD COLUMN answered INTEGER CHECK (answered IN (0, 1));

-- For a stop: whether the server was up. One that was down before is no fault of the build.
ALTER TABLE tasks ADD COLUMN was_up INTEGER CHECK (was_up IN (0, 1));

-- Whether the worker, not the task, was the reason for its end: that says nothing about a server.
ALTER TABLE tasks ADD COLUMN interrupted INTEGER NOT NULL DEFAULT 0 CHECK (interrupted IN (0, 1));

-- For a start: the build on which the server did not come up.
ALTER TABLE tasks ADD COLUMN failed_build INTEGER;
CREATE INDEX tasks_failed_build ON tasks (failed_build) WHERE failed_build IS NOT NULL;

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

-- The starts of what an interrupted job had stopped.
CREATE INDEX jobs_ready_again ON jobs (id)
    WHERE state = 'queued' AND on_hold = 0 AND operation = 'start' AND requested_by = 'left4me-worker';
