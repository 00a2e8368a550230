-- What the games answer: who plays, on which map, and whether a game answers at all.

-- The present run of a server that runs; the row goes when that run ends. players counts people. players, bots,
-- max_players, map and response_ms are NULL unless responding is 'yes': no answer is not an empty server.
CREATE TABLE server_game (
    server_id   INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    -- 'not-yet': it has not answered since its start. 'no': it did, but not when it was asked last.
    responding  TEXT    NOT NULL CHECK (responding IN ('yes', 'no', 'not-yet')),
    players     INTEGER,
    bots        INTEGER,
    max_players INTEGER,
    map         TEXT,
    response_ms INTEGER,
    -- When it answered last, and when it was asked last, unix ms.
    answered_at INTEGER,
    asked_at    INTEGER NOT NULL,
    -- Polls in a row without an answer.
    unanswered  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The players and bots of the last answer, in the game's order. seconds: since they connected.
CREATE TABLE server_players (
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    score     INTEGER NOT NULL,
    seconds   INTEGER NOT NULL,
    PRIMARY KEY (server_id, position)
) STRICT, WITHOUT ROWID;

-- NULL when the game did not answer. In samples_10min, players is the most within the ten minutes.
ALTER TABLE samples ADD COLUMN players INTEGER;
ALTER TABLE samples ADD COLUMN response_ms INTEGER;
ALTER TABLE samples_10min ADD COLUMN players INTEGER;
ALTER TABLE samples_10min ADD COLUMN response_ms INTEGER;

-- Whether the poller restarts the server when its game no longer answers.
ALTER TABLE servers ADD COLUMN restart_unresponsive INTEGER NOT NULL DEFAULT 0
    CHECK (restart_unresponsive IN (0, 1));

-- A sixth kind of drift. The CHECK of a column cannot be changed: the three columns of a drift are made again.
CREATE TABLE drifts_kept AS SELECT id, drift, drift_since, drift_why FROM servers WHERE drift IS NOT NULL;
ALTER TABLE servers DROP COLUMN drift_why;
ALTER TABLE servers DROP COLUMN drift_since;
ALTER TABLE servers DROP COLUMN drift;
ALTER TABLE servers ADD COLUMN drift TEXT
    CHECK (drift IN ('down', 'up', 'enabled', 'disabled', 'crashing', 'unresponsive'));
ALTER TABLE servers ADD COLUMN drift_since INTEGER CHECK ((drift_since IS NULL) = (drift IS NULL));
ALTER TABLE servers ADD COLUMN drift_why TEXT CHECK (drift_why IS NULL OR drift IS NOT NULL);
UPDATE servers SET (drift, drift_since, drift_why) =
        (SELECT k.drift, k.drift_since, k.drift_why FROM drifts_kept k WHERE k.id = servers.id)
    WHERE id IN (SELECT id FROM drifts_kept);
DROP TABLE drifts_kept;
