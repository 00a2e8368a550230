-- The game's builds: what the last check found, and what a job found for a person to read.

-- One row: the build that Steam publishes, since when left4me knows it, and when it last asked.
CREATE TABLE available_build (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    build        INTEGER NOT NULL CHECK (build > 0),
    published_at INTEGER,
    known_since  INTEGER NOT NULL,
    checked_at   INTEGER NOT NULL,
    -- The build for which an event was added.
    announced    INTEGER
) STRICT;

-- What a job found, if that is all it had to do: 'build 5 is current: nothing to do'.
ALTER TABLE jobs ADD COLUMN result TEXT;

-- Of the queued checks only the first one may start; it has no server by which it could be found.
CREATE INDEX jobs_ready_check ON jobs (id) WHERE state = 'queued' AND on_hold = 0 AND operation = 'check';
