-- Stale files: what servers have written that hides newer game files, as the last search found it.

-- One row per server that was searched, with what was found altogether.
CREATE TABLE stale_searches (
    server_id INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    found_at  INTEGER NOT NULL,
    count     INTEGER NOT NULL CHECK (count >= 0),
    size      INTEGER NOT NULL CHECK (size >= 0),
    is_whole  INTEGER NOT NULL CHECK (is_whole IN (0, 1))
) STRICT;

-- The first of them by name, up to a limit; `path` is for people, with what is odd in it escaped.
CREATE TABLE stale_files (
    server_id INTEGER NOT NULL REFERENCES stale_searches (server_id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    path      TEXT    NOT NULL,
    size      INTEGER NOT NULL CHECK (size >= 0),
    PRIMARY KEY (server_id, position)
) STRICT, WITHOUT ROWID;
