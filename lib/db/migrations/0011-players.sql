-- What the game itself answers: one row per server that was ever asked.
CREATE TABLE server_game (
    server_id   INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    responding  TEXT    NOT NULL DEFAULT 'not-yet' CHECK (responding IN ('yes', 'no', 'not-yet')),
    players     INTEGER,
    bots        INTEGER,
    max_players INTEGER,
    map         TEXT,
    response_ms INTEGER,
    answered_at INTEGER,
    asked_at    INTEGER,
    unanswered  INTEGER NOT NULL DEFAULT 0
) STRICT;
