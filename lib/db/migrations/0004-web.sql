-- The web front.

-- A form that is sent twice, or an API call that is repeated, is one job: the same key of the same user finds it again.
CREATE TABLE request_keys (
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key        TEXT    NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    job_id     INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX request_keys_of_job ON request_keys (job_id);
CREATE INDEX request_keys_created ON request_keys (created_at);

-- A user's own jobs that have no server.
CREATE INDEX jobs_of_user ON jobs (user_id, id) WHERE user_id IS NOT NULL;
-- Sessions that are over can be forgotten.
CREATE INDEX sessions_expiring ON sessions (expires_at);
