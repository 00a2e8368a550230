-- A fleet: several hosts that exchange orders and events. Rows are the truth; the engine between the hosts only
-- carries them, and may lose all it has. See docs/fleet.md.

-- A server's name in the fleet: a ULID, which it keeps when it moves to another host. NULL until a program of this
-- version has given it one.
ALTER TABLE servers ADD COLUMN ulid TEXT CHECK (ulid IS NULL OR length(ulid) = 26);
CREATE UNIQUE INDEX servers_ulid ON servers (ulid) WHERE ulid IS NOT NULL;

-- The order that an event is about. Events of a job that an order asked for have it by fleet_orders_in.job_id.
ALTER TABLE events ADD COLUMN order_id TEXT CHECK (order_id IS NULL OR length(order_id) = 26);

-- Orders to other hosts. body holds the bytes that are signed: every attempt sends the same ones.
CREATE TABLE fleet_orders_out (
    id          TEXT    PRIMARY KEY CHECK (length(id) = 26),
    to_host     TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    body        BLOB    NOT NULL,
    summary     TEXT    NOT NULL,
    requested_by TEXT   NOT NULL,
    reason      TEXT    NOT NULL DEFAULT '',
    rollout_id  TEXT,
    -- kept: here, not yet with the engine. sent: with the engine. accepted: the host has it, and its job has not ended.
    -- The rest are final: refused by the host; succeeded, failed, cancelled as its job did; withdrawn before the host had
    -- it; unknown: its time is over without an answer.
    state       TEXT    NOT NULL DEFAULT 'kept'
        CHECK (state IN ('kept', 'sent', 'accepted', 'refused', 'succeeded', 'failed', 'cancelled', 'withdrawn', 'unknown')),
    attempt     INTEGER NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    -- When left4me-link first had it. Before that it can be withdrawn at once.
    taken_at    INTEGER,
    -- The order that withdraws it.
    withdrawal  TEXT    CHECK (withdrawal IS NULL OR length(withdrawal) = 26),
    -- Of the newest attempt, once the engine has acknowledged it; NULL while it has to be sent.
    sent_at     INTEGER,
    generation  TEXT,
    sequence    INTEGER,
    remote_job  INTEGER,
    detail      TEXT    NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    not_after   INTEGER NOT NULL,
    settled_at  INTEGER,
    CHECK ((state IN ('kept', 'sent', 'accepted')) = (settled_at IS NULL))
) STRICT;
CREATE INDEX fleet_orders_out_open ON fleet_orders_out (id) WHERE settled_at IS NULL;
CREATE INDEX fleet_orders_out_of_rollout ON fleet_orders_out (rollout_id) WHERE rollout_id IS NOT NULL;

-- Orders from other hosts, each once: the primary key is what keeps an order that arrives twice from running twice. A
-- tombstone is an order that was withdrawn before it arrived.
CREATE TABLE fleet_orders_in (
    id           TEXT    PRIMARY KEY CHECK (length(id) = 26),
    kind         TEXT    NOT NULL,
    from_name    TEXT    NOT NULL,
    from_host    TEXT    NOT NULL,
    -- The controller's key that signed it.
    signed_by    TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('accepted', 'refused', 'tombstone')),
    detail       TEXT    NOT NULL DEFAULT '',
    job_id       INTEGER REFERENCES jobs (id) ON DELETE SET NULL,
    received_at  INTEGER NOT NULL,
    not_after    INTEGER NOT NULL,
    -- How its end was told, for what has no job, or once the job's row is gone.
    ended        TEXT    CHECK (ended IN ('succeeded', 'failed', 'cancelled', 'refused', 'withdrawn')),
    -- When its receipt was told last: an order that comes again and again does not fill the table of events.
    told_at      INTEGER NOT NULL
) STRICT;
-- Not unique: an order that asks for a job that is queued already gets that one.
CREATE INDEX fleet_orders_in_of_job ON fleet_orders_in (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX fleet_orders_in_by_age ON fleet_orders_in (received_at);

-- How far each stream of the engine has been read: committed with what was read. A stream that was lost and made again
-- has another generation, and is read from its beginning. Buckets are always read whole.
CREATE TABLE fleet_cursors (
    stream      TEXT    PRIMARY KEY CHECK (stream IN ('orders', 'events', 'hosts', 'roster', 'places', 'rollouts')),
    generation  TEXT    NOT NULL,
    sequence    INTEGER NOT NULL CHECK (sequence >= 0),
    -- Up to where noise has been counted: what is read again is not counted again.
    counted     INTEGER NOT NULL DEFAULT 0 CHECK (counted >= 0),
    updated_at  INTEGER NOT NULL
) STRICT;

-- This host's part in the fleet; one row, from the first `left4me fleet init` or `join` on.
CREATE TABLE fleet_self (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    -- The newest event that the engine has acknowledged, in the stream of this generation. Pruning stops here.
    events_sent  INTEGER NOT NULL DEFAULT 0,
    events_generation TEXT,
    cordoned     INTEGER NOT NULL DEFAULT 0 CHECK (cordoned IN (0, 1)),
    cordoned_by  TEXT,
    -- What left4me-link said last, and when. connected_since is NULL while it has no connection; then disconnected_since
    -- is when it lost it.
    link_at      INTEGER,
    connected_since    INTEGER,
    disconnected_since INTEGER,
    -- Why it has no connection, or that a copy of this host has its place.
    link_error   TEXT,
    is_clone     INTEGER NOT NULL DEFAULT 0 CHECK (is_clone IN (0, 1)),
    -- Messages that were no orders, events or statuses, or not signed by whom they should be.
    noise        INTEGER NOT NULL DEFAULT 0,
    -- Whether an event has told that there has been no connection for minutes, and that orders have no answer.
    told_away    INTEGER NOT NULL DEFAULT 0 CHECK (told_away IN (0, 1)),
    told_late    INTEGER NOT NULL DEFAULT 0 CHECK (told_late IN (0, 1)),
    -- The greatest version of the roster that was accepted.
    roster       INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The hosts of the fleet, from the signed roster. status is the newest signed status document of each; NULL on a host
-- without the view role, and until one has come.
CREATE TABLE fleet_hosts (
    name        TEXT    PRIMARY KEY,
    key         TEXT    NOT NULL,
    seal_key    TEXT    NOT NULL,
    labels      TEXT    NOT NULL DEFAULT '{}',
    roles       TEXT    NOT NULL DEFAULT '',
    admitted_at INTEGER NOT NULL,
    expelled_at INTEGER,
    status      TEXT,
    -- By that host's clock, and by this one's.
    status_at   INTEGER,
    status_received_at INTEGER,
    -- Whether an event has told that it is silent.
    told_silent INTEGER NOT NULL DEFAULT 0 CHECK (told_silent IN (0, 1))
) STRICT;

-- What other hosts told, for the pages of the fleet. It can be thrown away at any time. A server's row is that of the
-- newest status of its host.
CREATE TABLE fleet_servers (
    host        TEXT    NOT NULL REFERENCES fleet_hosts (name) ON DELETE CASCADE,
    server      TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    document    TEXT    NOT NULL,
    PRIMARY KEY (host, server)
) STRICT, WITHOUT ROWID;
CREATE INDEX fleet_servers_by_server ON fleet_servers (server);

CREATE TABLE fleet_events (
    host        TEXT    NOT NULL,
    seq         INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    actor       TEXT    NOT NULL DEFAULT '',
    order_id    TEXT,
    job         INTEGER,
    server      TEXT,
    detail      TEXT    NOT NULL DEFAULT '',
    received_at INTEGER NOT NULL,
    PRIMARY KEY (host, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX fleet_events_by_age ON fleet_events (at);
CREATE INDEX fleet_events_of_order ON fleet_events (order_id) WHERE order_id IS NOT NULL;

-- How far the events of each other host are here. whole: up to this event none is missing that the host still has.
-- asked_at: when it was asked for the missing ones after that; 0 once it has answered.
CREATE TABLE fleet_gaps (
    host        TEXT    PRIMARY KEY,
    whole       INTEGER NOT NULL DEFAULT 0,
    asked_at    INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE fleet_jobs (
    host        TEXT    NOT NULL,
    job         INTEGER NOT NULL,
    operation   TEXT    NOT NULL DEFAULT '',
    state       TEXT    NOT NULL,
    order_id    TEXT,
    updated_at  INTEGER NOT NULL,
    detail      TEXT    NOT NULL DEFAULT '',
    PRIMARY KEY (host, job)
) STRICT, WITHOUT ROWID;

-- Where each server belongs: the host, and the epoch, which grows with each move. On a host: what it was told, so that it
-- stops what has moved away. On a viewer: what the engine's bucket says.
CREATE TABLE fleet_places (
    server      TEXT    PRIMARY KEY CHECK (length(server) = 26),
    host        TEXT    NOT NULL,
    epoch       INTEGER NOT NULL CHECK (epoch >= 1),
    -- 1 while it has been decided here and the engine's bucket does not say so yet.
    unpublished INTEGER NOT NULL DEFAULT 0 CHECK (unpublished IN (0, 1)),
    -- The rollout that decided it, and what the bucket said before: another controller may take the rollout over first.
    rollout_id  TEXT,
    former_host TEXT,
    former_epoch INTEGER,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX fleet_places_unpublished ON fleet_places (server) WHERE unpublished = 1;

-- What this host was told of servers by orders, which are signed: up to which epoch, and whether the server is here. One
-- that has moved away is not started here any more; its files stay. moved_to is '' where the order named no host.
CREATE TABLE fleet_told (
    server      TEXT    PRIMARY KEY CHECK (length(server) = 26),
    epoch       INTEGER NOT NULL CHECK (epoch >= 1),
    moved_to    TEXT,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What each server was placed with from here: its blueprint as JSON, for when its host is dead and cannot hand it over.
CREATE TABLE fleet_blueprints (
    server      TEXT    PRIMARY KEY CHECK (length(server) = 26),
    document    TEXT    NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The digest of each overlay's files, so that hosts can compare them. fingerprint is that of names, sizes and times: as
-- long as it stays the same, the files are not read again.
CREATE TABLE fleet_overlays (
    reference   TEXT    PRIMARY KEY,
    fingerprint TEXT    NOT NULL,
    digest      TEXT    NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Moves of servers and updates in waves, driven by left4me-rollout.service on the host that they were asked on, or on
-- the controller that took them over. Those that others drive are shown as the engine's bucket has them.
CREATE TABLE fleet_rollouts (
    id           TEXT    PRIMARY KEY CHECK (length(id) = 26),
    kind         TEXT    NOT NULL CHECK (kind IN ('place', 'move', 'drain', 'evacuate', 'update')),
    -- What was asked for, and how far it is: JSON. request is NULL where another host drives it and only controllers may
    -- read it, or all of it was too long for a message.
    request      TEXT,
    progress     TEXT    NOT NULL DEFAULT '{}',
    state        TEXT    NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'aborting', 'succeeded', 'failed', 'aborted')),
    requested_by TEXT    NOT NULL,
    detail       TEXT    NOT NULL DEFAULT '',
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    ended_at     INTEGER,
    -- The host that drives it; NULL for this one. epoch grows with each take-over, version with each change.
    driver       TEXT,
    epoch        INTEGER NOT NULL DEFAULT 1 CHECK (epoch >= 1),
    version      INTEGER NOT NULL DEFAULT 1 CHECK (version >= 1),
    -- The version that the bucket has; when it got it, and with which streams, so that a lost one is published again.
    -- Where another host drives it, published_at is when that host published it.
    published    INTEGER NOT NULL DEFAULT 0,
    published_at INTEGER,
    published_generation TEXT,
    -- While this host takes it over: the version from which it goes on. It drives nothing until the bucket has that.
    taken_from   INTEGER,
    -- When another host took it over from here.
    lost_at      INTEGER,
    -- Orders of its former driver to give servers up whose end is not known: JSON.
    orders       TEXT    NOT NULL DEFAULT '[]',
    CHECK ((state IN ('running', 'aborting')) = (ended_at IS NULL)),
    CHECK (driver IS NOT NULL OR request IS NOT NULL)
) STRICT;
CREATE INDEX fleet_rollouts_open ON fleet_rollouts (id) WHERE ended_at IS NULL;
