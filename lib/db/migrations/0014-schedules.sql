-- Schedules: what is done at set times. The row is the truth; systemd's timers are made from it.

-- calendar: systemd's canonical form, without zone. zone: a name, NULL for the host's own. What a job waits for is kept as it
-- was asked for: a time of day belongs to the day of the run. owner_id: whose rights it has, NULL for the command line.
-- since: when it was added, or resumed. What a timer makes up for from before that is not done.
-- last_job_id is no foreign key: removing old jobs needs no search here. next_at and timer_error are what systemd said last.
CREATE TABLE schedules (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    operation   TEXT    NOT NULL
                CHECK (operation IN ('restart', 'stop', 'start', 'initialize', 'reset', 'update', 'backup')),
    of_all      INTEGER NOT NULL DEFAULT 0 CHECK (of_all IN (0, 1)),
    calendar    TEXT    NOT NULL,
    zone        TEXT,
    persistent  INTEGER NOT NULL DEFAULT 0 CHECK (persistent IN (0, 1)),
    paused      INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    rolling     INTEGER CHECK (rolling BETWEEN 1 AND 65535),
    when_empty  INTEGER NOT NULL DEFAULT 0 CHECK (when_empty IN (0, 1)),
    until_asked TEXT,
    at_deadline TEXT    CHECK (at_deadline IN ('go', 'give-up')),
    -- Ms before the deadline, descending.
    warn        TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(warn) = 'array'),
    warn_text   TEXT,
    owner_id    INTEGER REFERENCES users (id) ON DELETE CASCADE,
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    since       INTEGER NOT NULL DEFAULT 0,
    last_run_at INTEGER,
    last_job_id INTEGER,
    last_error  TEXT,
    next_at     INTEGER,
    timer_error TEXT,
    CHECK (operation NOT IN ('update', 'backup') OR (of_all = 0 AND rolling IS NULL)),
    CHECK (at_deadline IS NULL OR until_asked IS NOT NULL)
) STRICT;
CREATE INDEX schedules_of_owner ON schedules (owner_id);

CREATE TABLE schedule_servers (
    schedule_id INTEGER NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    server_id   INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    PRIMARY KEY (schedule_id, server_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX schedule_servers_of_server ON schedule_servers (server_id);
