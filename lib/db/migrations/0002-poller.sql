-- What the poller sees: how a server came to be what it is, whether that is what it shall be, how it fares.

-- version grows when something that was seen of a server changed, and not when it was merely looked at again.
ALTER TABLE servers ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
-- Since when it is in actual_state, and how its last run ended, in words; NULL while nobody knows.
ALTER TABLE servers ADD COLUMN actual_since INTEGER;
ALTER TABLE servers ADD COLUMN last_end TEXT;
-- systemd's NRestarts, and its monotonic times (microseconds since boot) of the last start and the last end: they tell
-- one start and one end from another.
ALTER TABLE servers ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE servers ADD COLUMN active_enter_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE servers ADD COLUMN exit_us INTEGER NOT NULL DEFAULT 0;
-- In which way it is not what it shall be, since when, and why; NULL when it is.
ALTER TABLE servers ADD COLUMN drift TEXT CHECK (drift IN ('down', 'up', 'enabled', 'disabled'));
ALTER TABLE servers ADD COLUMN drift_since INTEGER CHECK ((drift_since IS NULL) = (drift IS NULL));
ALTER TABLE servers ADD COLUMN drift_why TEXT CHECK (drift_why IS NULL OR drift IS NOT NULL);

-- Units of servers that are enabled or run, and have no row.
CREATE TABLE orphans (
    instance TEXT    PRIMARY KEY,
    enabled  INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    state    TEXT    NOT NULL,
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Servers of which a poll saw something new while they had a job: it left their rows alone, and whoever ends the job looks
-- once more.
CREATE TABLE missed_looks (
    server_id INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE
) STRICT;

-- The unit's last lines in the journal, kept with the event of a bad end. They come after the event.
CREATE TABLE event_journal (
    event_id INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE,
    lines    TEXT    NOT NULL CHECK (json_type(lines) = 'array')
) STRICT;

-- How servers that run fare: every poll for a day, and one poll of every ten minutes for 30 days. memory_bytes and
-- cpu_ns (since the unit's start) are NULL where systemd does not account for them.
CREATE TABLE samples (
    server_id    INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    at           INTEGER NOT NULL,
    memory_bytes INTEGER,
    cpu_ns       INTEGER,
    restarts     INTEGER NOT NULL,
    PRIMARY KEY (server_id, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE samples_10min (
    server_id    INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    at           INTEGER NOT NULL,
    memory_bytes INTEGER,
    cpu_ns       INTEGER,
    restarts     INTEGER NOT NULL,
    PRIMARY KEY (server_id, at)
) STRICT, WITHOUT ROWID;

-- When the poller looked last, and what kept it from seeing anything; one row.
CREATE TABLE poll (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    polled_at INTEGER,
    error     TEXT
) STRICT;
INSERT INTO poll (id) VALUES (1);
