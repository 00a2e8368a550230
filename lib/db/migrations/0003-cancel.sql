-- Cancelling: what a cancellation is about, and what it came to.

-- The tasks that a cancellation is about, as they were when it came; caused_by: the task whose cancelling made theirs
-- necessary (cascade), NULL for those that were meant.
CREATE TABLE cancellation_tasks (
    cancellation_id INTEGER NOT NULL REFERENCES cancellations (id) ON DELETE CASCADE,
    task_id         INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    previous_state  TEXT    NOT NULL,
    caused_by       INTEGER,
    PRIMARY KEY (cancellation_id, task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX cancellation_tasks_of_task ON cancellation_tasks (task_id);

-- One cancellation of a job, and one of a task, at a time: repeating a request finds the record that is there.
CREATE UNIQUE INDEX cancellations_live_of_job ON cancellations (job_id)
    WHERE task_id IS NULL AND state IN ('requested', 'running');
CREATE UNIQUE INDEX cancellations_live_of_task ON cancellations (task_id)
    WHERE task_id IS NOT NULL AND state IN ('requested', 'running');
CREATE INDEX cancellations_failed ON cancellations (id) WHERE state = 'failed';
CREATE INDEX cancellations_of_task ON cancellations (task_id) WHERE task_id IS NOT NULL;

-- A task that was cancelled with --no-cascade: for what depends on it, it counts as succeeded.
ALTER TABLE tasks ADD COLUMN waived INTEGER NOT NULL DEFAULT 0 CHECK (waived IN (0, 1));

-- The cancellation that ended this connection's command.
ALTER TABLE runners ADD COLUMN cancellation_id INTEGER REFERENCES cancellations (id) ON DELETE SET NULL;
CREATE INDEX runners_of_cancellation ON runners (cancellation_id) WHERE cancellation_id IS NOT NULL;
-- Processes that would not die: what they work on is held until they are gone, and then tree becomes 'empty'.
CREATE INDEX runners_left ON runners (id) WHERE tree = 'left';

-- Why, in the words of who did it.
ALTER TABLE events ADD COLUMN reason TEXT NOT NULL DEFAULT '';
-- What has happened has happened.
CREATE TRIGGER events_are_only_added BEFORE UPDATE OF id, at, kind, actor, job_id, task_id, server_id, detail, reason ON events
BEGIN
    SELECT raise(ABORT, 'events are only ever added');
END;
