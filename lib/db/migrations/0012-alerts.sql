-- Alerts: destinations outside this host, what each listens for, and what waits to be sent there.

-- target is a secret: whoever knows it can post there. events: classes; servers: ids, none for all of them.
-- failures and retry_at are about the destination: while it fails, nothing else is tried there.
CREATE TABLE alerts (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL UNIQUE,
    kind        TEXT    NOT NULL CHECK (kind IN ('discord', 'webhook', 'ntfy', 'mail')),
    target      TEXT    NOT NULL,
    events      TEXT    NOT NULL CHECK (json_type(events) = 'array'),
    servers     TEXT    NOT NULL DEFAULT '[]' CHECK (json_type(servers) = 'array'),
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    muted_until INTEGER,
    failures    INTEGER NOT NULL DEFAULT 0,
    retry_at    INTEGER,
    last_error  TEXT
) STRICT;

-- One row for each event and each alert that listens for it, written in the transaction of the event. No foreign key to
-- events: removing old ones needs no search here. Of the rows that one message told of, the first is 'sent' and counts the
-- others in more; these are 'merged'. is_mixed: it told of everything, not of what this row is about.
CREATE TABLE alert_outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id    INTEGER NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    event_id    INTEGER NOT NULL,
    class       TEXT    NOT NULL,
    server_id   INTEGER,
    state       TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'failed', 'merged')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    merged_into INTEGER,
    more        INTEGER NOT NULL DEFAULT 0,
    is_mixed    INTEGER NOT NULL DEFAULT 0 CHECK (is_mixed IN (0, 1)),
    last_error  TEXT,
    UNIQUE (alert_id, event_id),
    CHECK ((state = 'pending') = (ended_at IS NULL)),
    CHECK ((state = 'merged') = (merged_into IS NOT NULL))
) STRICT;
CREATE INDEX alert_outbox_pending ON alert_outbox (alert_id, id) WHERE state = 'pending';
CREATE INDEX alert_outbox_sent ON alert_outbox (alert_id, ended_at) WHERE state = 'sent';
CREATE INDEX alert_outbox_ended ON alert_outbox (ended_at) WHERE ended_at IS NOT NULL;

-- For /metrics, by the alert's name.
CREATE TRIGGER metrics_of_alerts AFTER UPDATE OF state ON alert_outbox
WHEN old.state = 'pending' AND new.state <> 'pending'
BEGIN
    INSERT INTO metric_seen SELECT 'alerts', name, new.state, NULL FROM alerts WHERE id = new.alert_id;
END;
CREATE TRIGGER metrics_of_removed_alerts AFTER DELETE ON alerts
BEGIN
    DELETE FROM metric_sums WHERE metric = 'alerts' AND label = old.name;
END;

-- Since when the disk of the database has been almost full, unix ms.
ALTER TABLE poll ADD COLUMN disk_low_since INTEGER;
