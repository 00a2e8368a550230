-- What a cancellation's record says besides its request and its steps.

-- When --force was added; NULL when the request had it from the start, or never got it.
ALTER TABLE cancellations ADD COLUMN escalated_at INTEGER;

-- Whether a command was still there when its grace was over, without any --force.
ALTER TABLE cancellations ADD COLUMN timed_out INTEGER NOT NULL DEFAULT 0
    CHECK (timed_out IN (0, 1));

-- A job that was cancelled while it waited needs no worker: 1 until one has logged it.
ALTER TABLE cancellations ADD COLUMN for_journal INTEGER NOT NULL DEFAULT 0
    CHECK (for_journal IN (0, 1));
CREATE INDEX cancellations_for_journal ON cancellations (id) WHERE for_journal = 1;

-- Of the past only this much is known: a kill without force came after the grace.
UPDATE cancellations SET timed_out = 1
WHERE force = 0
    AND EXISTS (SELECT 1 FROM runners r WHERE r.cancellation_id = cancellations.id AND r.ended_by = 'kill');
INSERT INTO metric_sums (metric, n)
    SELECT 'cancellation_timeouts', count(*) FROM cancellations WHERE timed_out = 1;
CREATE TRIGGER metrics_of_cancellations_timed_out AFTER UPDATE OF timed_out ON cancellations
WHEN old.timed_out = 0 AND new.timed_out = 1
BEGIN
    INSERT INTO metric_seen VALUES ('cancellation_timeouts', '', '', NULL);
END;
