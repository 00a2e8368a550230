-- Servers that keep crashing: each crash for a day, and a fifth kind of drift.

-- One row for each crash since the last deliberate start. Rows older than a day are removed when the next one comes.
CREATE TABLE server_crashes (
    id        INTEGER PRIMARY KEY,
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    at        INTEGER NOT NULL
) STRICT;
CREATE INDEX crashes_of_server ON server_crashes (server_id, at);

-- For /metrics, by the server's id: the sum stays when rows go.
CREATE TRIGGER metrics_of_crashes AFTER INSERT ON server_crashes
BEGIN
    INSERT INTO metric_seen VALUES ('server_crashes', CAST(new.server_id AS TEXT), '', NULL);
END;
CREATE TRIGGER metrics_of_removed_servers AFTER DELETE ON servers
BEGIN
    DELETE FROM metric_sums WHERE metric = 'server_crashes' AND label = CAST(old.id AS TEXT);
END;

-- The CHECK of a column cannot be changed: the three columns of a drift are made again.
CREATE TABLE drifts_kept AS SELECT id, drift, drift_since, drift_why FROM servers WHERE drift IS NOT NULL;
ALTER TABLE servers DROP COLUMN drift_why;
ALTER TABLE servers DROP COLUMN drift_since;
ALTER TABLE servers DROP COLUMN drift;
ALTER TABLE servers ADD COLUMN drift TEXT CHECK (drift IN ('down', 'up', 'enabled', 'disabled', 'crashing'));
ALTER TABLE servers ADD COLUMN drift_since INTEGER CHECK ((drift_since IS NULL) = (drift IS NULL));
ALTER TABLE servers ADD COLUMN drift_why TEXT CHECK (drift_why IS NULL OR drift IS NOT NULL);
UPDATE servers SET (drift, drift_since, drift_why) =
        (SELECT k.drift, k.drift_since, k.drift_why FROM drifts_kept k WHERE k.id = servers.id)
    WHERE id IN (SELECT id FROM drifts_kept);
DROP TABLE drifts_kept;
