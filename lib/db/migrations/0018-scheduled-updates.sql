-- How the updates of a schedule restart servers: so many at a time, or none. `rolling` is for operations that take servers:
-- a CHECK of that table keeps it NULL for an update.
ALTER TABLE schedules ADD COLUMN update_rolling INTEGER
    CHECK (update_rolling IS NULL OR (operation = 'update' AND update_rolling BETWEEN 1 AND 65535));
ALTER TABLE schedules ADD COLUMN no_restart INTEGER NOT NULL DEFAULT 0
    CHECK (no_restart = 0 OR (operation = 'update' AND no_restart = 1));
