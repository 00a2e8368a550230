-- What /metrics counts. Kept as sums when it happens: a scrape then costs the same with a million ended jobs as with
-- none, and no counter goes down when `left4me prune` removes what it counted. (A counter that goes down is a restart to
-- Prometheus, which then counts all of it once more.)

-- Upper bounds of durations, milliseconds; the last one is for whatever takes longer.
CREATE TABLE metric_bounds (le INTEGER PRIMARY KEY) STRICT;
INSERT INTO metric_bounds (le) VALUES (50), (100), (250), (500), (1000), (2500), (5000), (10000), (30000), (60000),
    (120000), (300000), (900000), (1800000), (3600000), (7200000), (9223372036854775807);

-- le is 0 for what has no duration; n counts those above the bound before it, and not above le. total_ms is REAL: times
-- that somebody changed by hand must not overflow it, and so keep a job from ending.
CREATE TABLE metric_sums (
    metric   TEXT    NOT NULL,
    label    TEXT    NOT NULL DEFAULT '',
    state    TEXT    NOT NULL DEFAULT '',
    le       INTEGER NOT NULL DEFAULT 0,
    n        INTEGER NOT NULL DEFAULT 0,
    total_ms REAL    NOT NULL DEFAULT 0,
    PRIMARY KEY (metric, label, state, le)
) STRICT, WITHOUT ROWID;

-- Whoever inserts here counts. So a trigger is one line, and the arithmetic is in one place.
CREATE VIEW metric_seen (metric, label, state, ms) AS SELECT '', '', '', NULL WHERE 0;
CREATE TRIGGER metric_seen_is_added INSTEAD OF INSERT ON metric_seen
BEGIN
    INSERT INTO metric_sums (metric, label, state, le, n, total_ms)
    VALUES (new.metric, new.label, new.state,
            iif(new.ms IS NULL, 0, coalesce((SELECT min(le) FROM metric_bounds WHERE le >= new.ms), 9223372036854775807)),
            1, max(0.0, coalesce(new.ms, 0.0)))
    ON CONFLICT (metric, label, state, le) DO UPDATE SET n = n + 1, total_ms = total_ms + excluded.total_ms;
END;

CREATE TRIGGER metrics_of_jobs_begun AFTER UPDATE OF started_at ON jobs
WHEN old.started_at IS NULL AND new.started_at IS NOT NULL
BEGIN
    INSERT INTO metric_seen VALUES ('queue_wait', '', '', new.started_at - new.created_at);
END;
CREATE TRIGGER metrics_of_jobs_ended AFTER UPDATE OF finished_at ON jobs
WHEN old.finished_at IS NULL AND new.finished_at IS NOT NULL
BEGIN
    INSERT INTO metric_seen VALUES ('jobs', new.operation, new.state, NULL);
    INSERT INTO metric_seen SELECT 'job_duration', new.operation, '', new.finished_at - new.started_at
        WHERE new.started_at IS NOT NULL;
END;
CREATE TRIGGER metrics_of_cancellations_asked AFTER INSERT ON cancellations
BEGIN
    INSERT INTO metric_seen VALUES ('cancellation_requests', iif(new.task_id IS NULL, 'job', 'task'), '', NULL);
END;
CREATE TRIGGER metrics_of_cancellations_ended AFTER UPDATE OF finished_at ON cancellations
WHEN old.finished_at IS NULL AND new.finished_at IS NOT NULL
BEGIN
    INSERT INTO metric_seen VALUES ('cancellation_duration', '', '', new.finished_at - new.created_at);
    INSERT INTO metric_seen SELECT 'cancellation_failures', '', '', NULL WHERE new.state = 'failed';
END;
CREATE TRIGGER metrics_of_steps_failed AFTER UPDATE OF ok ON cancellation_steps
WHEN old.ok IS NULL AND new.ok = 0
BEGIN
    INSERT INTO metric_seen VALUES ('cancellation_step_failures', new.step, '', NULL);
END;
CREATE TRIGGER metrics_of_runners_terminated AFTER UPDATE OF cancellation_id ON runners
WHEN old.cancellation_id IS NULL AND new.cancellation_id IS NOT NULL
BEGIN
    INSERT INTO metric_seen VALUES ('runners_terminated', coalesce(new.ended_by, 'lost'), '', NULL);
END;

-- What has happened so far; jobs, the many, are read once.
WITH jobs_seen AS MATERIALIZED (
    SELECT operation, iif(finished_at IS NULL, '', state) AS state,
           iif(wait IS NULL, 0, coalesce((SELECT min(le) FROM metric_bounds WHERE le >= wait), 9223372036854775807)) AS wait_le,
           iif(ran IS NULL, 0, coalesce((SELECT min(le) FROM metric_bounds WHERE le >= ran), 9223372036854775807)) AS ran_le,
           count(*) AS n, total(max(0, wait)) AS wait_ms, total(max(0, ran)) AS ran_ms
    FROM (SELECT operation, state, finished_at, started_at - created_at AS wait, finished_at - started_at AS ran
          FROM jobs WHERE started_at IS NOT NULL OR finished_at IS NOT NULL)
    GROUP BY 1, 2, 3, 4
), seen (metric, label, state, le, n, ms) AS (
    SELECT 'queue_wait', '', '', wait_le, n, wait_ms FROM jobs_seen WHERE wait_le > 0
    UNION ALL SELECT 'jobs', operation, state, 0, n, 0 FROM jobs_seen WHERE state <> ''
    UNION ALL SELECT 'job_duration', operation, '', ran_le, n, ran_ms FROM jobs_seen WHERE ran_le > 0
    UNION ALL SELECT 'cancellation_requests', iif(task_id IS NULL, 'job', 'task'), '', 0, 1, 0 FROM cancellations
    UNION ALL SELECT 'cancellation_duration', '', '', (SELECT coalesce(min(le), 9223372036854775807) FROM metric_bounds
                     WHERE le >= finished_at - created_at), 1, max(0, finished_at - created_at)
              FROM cancellations WHERE finished_at IS NOT NULL
    UNION ALL SELECT 'cancellation_failures', '', '', 0, 1, 0 FROM cancellations WHERE state = 'failed'
    UNION ALL SELECT 'cancellation_step_failures', step, '', 0, 1, 0 FROM cancellation_steps WHERE ok = 0
    UNION ALL SELECT 'runners_terminated', coalesce(ended_by, 'lost'), '', 0, 1, 0 FROM runners
              WHERE cancellation_id IS NOT NULL
)
INSERT INTO metric_sums (metric, label, state, le, n, total_ms)
SELECT metric, label, state, le, sum(n), total(ms) FROM seen GROUP BY metric, label, state, le;
