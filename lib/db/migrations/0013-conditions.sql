-- Jobs that wait until nobody plays, or until a time.

-- 1 while a queued job waits for its condition: it takes no part in the schedule. All searches for what may start, and for
-- what a server is busy with, use indexes without such jobs, because they may be queued for days.
ALTER TABLE jobs ADD COLUMN on_hold INTEGER NOT NULL DEFAULT 0
    CHECK (on_hold IN (0, 1) AND (on_hold = 0 OR state = 'queued'));
CREATE INDEX jobs_ready ON jobs (id) WHERE state = 'queued' AND on_hold = 0;
CREATE INDEX jobs_on_hold ON jobs (id) WHERE on_hold = 1;
DROP INDEX jobs_queued_exclusive;
CREATE INDEX jobs_ready_exclusive ON jobs (id)
    WHERE state = 'queued' AND on_hold = 0 AND operation IN ('install', 'update');

-- What a job waits for, and how far that is. The row stays with the job. What it waits for in words is never stored.
CREATE TABLE job_conditions (
    job_id       INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    when_empty   INTEGER NOT NULL CHECK (when_empty IN (0, 1)),
    until_at     INTEGER,
    until_asked  TEXT,
    at_deadline  TEXT    CHECK (at_deadline IN ('go', 'give-up')),
    -- Warnings to players: ms before until_at, descending; how many of them are said or left out.
    warn         TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(warn) = 'array'),
    warn_text    TEXT,
    warned       INTEGER NOT NULL DEFAULT 0 CHECK (warned >= 0),
    -- When the game last answered that nobody plays, right before the start; when it did not, and what was found.
    confirmed_at INTEGER,
    doubted_at   INTEGER,
    doubt        TEXT,
    -- When it stopped waiting and became an ordinary queued job.
    released_at  INTEGER,
    CHECK (when_empty = 1 OR until_at IS NOT NULL),
    CHECK ((until_at IS NULL) = (until_asked IS NULL)),
    CHECK ((until_at IS NULL) = (at_deadline IS NULL)),
    CHECK ((doubted_at IS NULL) = (doubt IS NULL))
) STRICT;

-- A job that waited for its condition did not wait for a worker meanwhile.
DROP TRIGGER metrics_of_jobs_begun;
CREATE TRIGGER metrics_of_jobs_begun AFTER UPDATE OF started_at ON jobs
WHEN old.started_at IS NULL AND new.started_at IS NOT NULL
BEGIN
    INSERT INTO metric_seen VALUES ('queue_wait', '', '', new.started_at - coalesce(
        (SELECT released_at FROM job_conditions WHERE job_id = new.id), new.created_at));
END;
