-- Times are unix milliseconds, UTC. Every table is STRICT; CHECKs repeat the states and tie columns to them.
-- Ids are AUTOINCREMENT where history outlives rows: an id is never given twice.

CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    is_admin      INTEGER NOT NULL DEFAULT 0 CHECK (is_admin IN (0, 1)),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    disabled_at   INTEGER
) STRICT;

CREATE TABLE tokens (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;
CREATE INDEX tokens_of_user ON tokens (user_id);

CREATE TABLE sessions (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id      INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    ended_at     INTEGER
) STRICT;
CREATE INDEX sessions_of_user ON sessions (user_id) WHERE ended_at IS NULL;

CREATE TABLE overlays (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL UNIQUE,
    ref        TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE blueprints (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id    INTEGER NOT NULL REFERENCES users (id),
    name       TEXT    NOT NULL,
    arguments  TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(arguments) = 'array'),
    config     TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(config) = 'array'),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (user_id, name)
) STRICT;

-- The topmost overlay has position 0.
CREATE TABLE blueprint_overlays (
    blueprint_id INTEGER NOT NULL REFERENCES blueprints (id) ON DELETE CASCADE,
    position     INTEGER NOT NULL CHECK (position >= 0),
    overlay_id   INTEGER NOT NULL REFERENCES overlays (id),
    PRIMARY KEY (blueprint_id, position),
    UNIQUE (blueprint_id, overlay_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX blueprint_overlays_of_overlay ON blueprint_overlays (overlay_id);

CREATE TABLE servers (
    id                      INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id                 INTEGER NOT NULL REFERENCES users (id),
    name                    TEXT    NOT NULL,
    port                    INTEGER NOT NULL UNIQUE CHECK (port BETWEEN 1 AND 65535),
    blueprint_id            INTEGER NOT NULL REFERENCES blueprints (id),
    desired_state           TEXT    NOT NULL DEFAULT 'stopped' CHECK (desired_state IN ('running', 'stopped')),
    actual_state            TEXT    NOT NULL DEFAULT 'unknown'
        CHECK (actual_state IN ('running', 'starting', 'stopping', 'stopped', 'failed', 'unknown')),
    actual_sub_state        TEXT,
    actual_state_updated_at INTEGER,
    enabled                 INTEGER CHECK (enabled IN (0, 1)),
    last_error              TEXT,
    created_at              INTEGER NOT NULL,
    updated_at              INTEGER NOT NULL,
    UNIQUE (user_id, name)
) STRICT;
CREATE INDEX servers_of_blueprint ON servers (blueprint_id);

-- operation has no CHECK: a word that this program does not know fails that job when it is claimed, cleanly.
CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    operation    TEXT    NOT NULL,
    state        TEXT    NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')),
    requested_by TEXT    NOT NULL,
    user_id      INTEGER REFERENCES users (id) ON DELETE SET NULL,
    retry_of     INTEGER REFERENCES jobs (id) ON DELETE SET NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    started_at   INTEGER,
    finished_at  INTEGER,
    exit_code    INTEGER,
    error        TEXT,
    worker_id    TEXT,
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (exit_code IS NOT NULL)),
    CHECK (state <> 'queued' OR (started_at IS NULL AND worker_id IS NULL)),
    CHECK (state NOT IN ('running', 'cancelling') OR (started_at IS NOT NULL AND worker_id IS NOT NULL))
) STRICT;
-- The cost of claiming and of looking at the queue grows with the jobs that live, not with those that ended.
CREATE INDEX jobs_queued ON jobs (id) WHERE state = 'queued';
CREATE INDEX jobs_queued_exclusive ON jobs (id) WHERE state = 'queued' AND operation IN ('install', 'update');
CREATE INDEX jobs_live ON jobs (id) WHERE state IN ('running', 'cancelling');
CREATE INDEX jobs_retry_of ON jobs (retry_of) WHERE retry_of IS NOT NULL;

-- No foreign key to servers: a job's history stays when its server is removed, and ids are never given twice.
CREATE TABLE job_targets (
    job_id    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    server_id INTEGER NOT NULL,
    PRIMARY KEY (job_id, server_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_targets_of_server ON job_targets (server_id, job_id);

-- was_running: what a stop task found; a start-if-ran task of the same server reads it.
CREATE TABLE tasks (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id      INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL CHECK (position >= 0),
    kind        TEXT    NOT NULL,
    server_id   INTEGER,
    state       TEXT    NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'skipped')),
    started_at  INTEGER,
    finished_at INTEGER,
    exit_code   INTEGER,
    error       TEXT,
    was_running INTEGER CHECK (was_running IN (0, 1)),
    UNIQUE (job_id, position),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled', 'skipped')) = (finished_at IS NOT NULL)),
    CHECK (state NOT IN ('running', 'cancelling', 'succeeded', 'failed') OR started_at IS NOT NULL)
) STRICT;
CREATE INDEX tasks_live ON tasks (job_id) WHERE state IN ('running', 'cancelling');

-- needs: 'success' of that task, or merely its 'end'.
CREATE TABLE task_dependencies (
    task_id    INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    depends_on INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    needs      TEXT    NOT NULL DEFAULT 'success' CHECK (needs IN ('success', 'end')),
    PRIMARY KEY (task_id, depends_on),
    CHECK (depends_on < task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_dependencies_on ON task_dependencies (depends_on);

-- One row per connection to a runner or helper.
CREATE TABLE runners (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id    INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    verb       TEXT    NOT NULL,
    unit       TEXT,
    pid        INTEGER,
    cgroup     TEXT,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    exit_code  INTEGER,
    ended_by   TEXT CHECK (ended_by IN ('exit', 'terminate', 'kill', 'lost')),
    tree       TEXT CHECK (tree IN ('empty', 'left')),
    CHECK ((ended_at IS NULL) = (ended_by IS NULL))
) STRICT;
CREATE INDEX runners_of_task ON runners (task_id);
CREATE INDEX runners_live ON runners (id) WHERE ended_at IS NULL;

CREATE TABLE job_logs (
    job_id  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL CHECK (seq >= 1),
    at      INTEGER NOT NULL,
    stream  TEXT    NOT NULL CHECK (stream IN ('stdout', 'stderr')),
    task_id INTEGER,
    line    TEXT    NOT NULL,
    PRIMARY KEY (job_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE cancellations (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id         INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    task_id        INTEGER REFERENCES tasks (id) ON DELETE CASCADE,
    requested_by   TEXT    NOT NULL,
    user_id        INTEGER REFERENCES users (id) ON DELETE SET NULL,
    reason         TEXT    NOT NULL DEFAULT '',
    force          INTEGER NOT NULL DEFAULT 0 CHECK (force IN (0, 1)),
    cascade        INTEGER NOT NULL DEFAULT 1 CHECK (cascade IN (0, 1)),
    previous_state TEXT    NOT NULL,
    state          TEXT    NOT NULL DEFAULT 'requested' CHECK (state IN ('requested', 'running', 'completed', 'failed')),
    created_at     INTEGER NOT NULL,
    finished_at    INTEGER,
    message        TEXT,
    CHECK ((state IN ('completed', 'failed')) = (finished_at IS NOT NULL))
) STRICT;
CREATE INDEX cancellations_of_job ON cancellations (job_id);
CREATE INDEX cancellations_live ON cancellations (id) WHERE state IN ('requested', 'running');

CREATE TABLE cancellation_steps (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    cancellation_id INTEGER NOT NULL REFERENCES cancellations (id) ON DELETE CASCADE,
    step            TEXT    NOT NULL CHECK (step IN ('block', 'identify', 'terminate', 'settle', 'clean', 'verify', 'finish')),
    started_at      INTEGER NOT NULL,
    finished_at     INTEGER,
    ok              INTEGER CHECK (ok IN (0, 1)),
    detail          TEXT
) STRICT;
CREATE INDEX cancellation_steps_of ON cancellation_steps (cancellation_id);

-- What happened, and who did it; only ever added to.
CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    user_id    INTEGER REFERENCES users (id) ON DELETE SET NULL,
    job_id     INTEGER,
    task_id    INTEGER,
    server_id  INTEGER,
    detail     TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX events_of_job ON events (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX events_of_server ON events (server_id) WHERE server_id IS NOT NULL;

-- One row: whether claiming is paused.
CREATE TABLE queue (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    paused_at INTEGER,
    paused_by TEXT,
    reason    TEXT,
    CHECK ((paused_at IS NULL) = (paused_by IS NULL))
) STRICT;
INSERT INTO queue (id) VALUES (1);
