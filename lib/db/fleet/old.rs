//! Which rows of a fleet are old. What an order from another host did is remembered for longer than
//! the engine could bring it again.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::db::{execute, first};
use crate::domain::fleet::rules::KEPT_AFTER;
use crate::domain::retention::DAY;

/// How long events wait for an engine that does not answer, ms. It keeps none for longer.
pub const EVENTS_WAIT: i64 = 90 * DAY;

/// How many events, and how many jobs, of one other host are kept.
const OF_A_HOST: i64 = 50_000;

/// Deletes at most `most` old rows of each table: orders from here by their age since `before`,
/// what other hosts told by its age and its amount, orders from other hosts by their time. Whether
/// there may be more.
pub fn prune(tx: &Connection, now: i64, before: Option<i64>, most: i64) -> Result<bool> {
    let mut more = false;
    let mut drop_rows = |sql: &str, limit: i64| -> Result<()> {
        let count = execute(tx, sql, params![limit, most])?;
        more |= i64::try_from(count).is_ok_and(|count| count >= most);
        Ok(())
    };

    let sql = "DELETE FROM fleet_orders_in WHERE id IN (SELECT id FROM fleet_orders_in
               WHERE received_at < ?1 AND not_after < ?1 LIMIT ?2)";
    drop_rows(sql, now.saturating_sub(KEPT_AFTER))?;

    // What this host was told of a server that it does not have: an order that is older cannot come
    // any more.
    let sql = "DELETE FROM fleet_told WHERE server IN (SELECT t.server FROM fleet_told t
               WHERE t.updated_at < ?1
               AND NOT EXISTS (SELECT 1 FROM servers s WHERE s.ulid = t.server) LIMIT ?2)";
    drop_rows(sql, now.saturating_sub(KEPT_AFTER))?;

    // However much a host tells, and whatever times it says. CROSS JOIN: host by host, as the innermost query walks over
    // all rows of one.
    let sql = "DELETE FROM fleet_events WHERE (host, seq) IN (SELECT e.host, e.seq
               FROM fleet_hosts h CROSS JOIN fleet_events e ON e.host = h.name
               AND e.seq <= (SELECT seq FROM fleet_events WHERE host = h.name
                             ORDER BY seq DESC LIMIT 1 OFFSET ?1) LIMIT ?2)";
    drop_rows(sql, OF_A_HOST)?;
    let sql = "DELETE FROM fleet_jobs WHERE (host, job) IN (SELECT j.host, j.job
               FROM fleet_hosts h CROSS JOIN fleet_jobs j ON j.host = h.name
               AND j.job <= (SELECT job FROM fleet_jobs WHERE host = h.name
                             ORDER BY job DESC LIMIT 1 OFFSET ?1) LIMIT ?2)";
    drop_rows(sql, OF_A_HOST)?;

    if let Some(before) = before {
        let sql = "DELETE FROM fleet_rollouts WHERE id IN (SELECT id FROM fleet_rollouts
                   WHERE ended_at < ?1 LIMIT ?2)";
        drop_rows(sql, before)?;
        // Those of a host that is gone have no end.
        let sql = "DELETE FROM fleet_rollouts WHERE id IN (SELECT id FROM fleet_rollouts
                   WHERE driver IS NOT NULL AND published_at < ?1 LIMIT ?2)";
        drop_rows(sql, before)?;
        // A server that no host has. One that has told nothing yet may have it.
        let sql = "DELETE FROM fleet_blueprints WHERE server IN (SELECT b.server FROM fleet_blueprints b
                   WHERE b.updated_at < ?1
                   AND NOT EXISTS (SELECT 1 FROM fleet_servers s WHERE s.server = b.server)
                   AND NOT EXISTS (SELECT 1 FROM fleet_places p JOIN fleet_hosts h ON h.name = p.host
                                   WHERE p.server = b.server AND h.status IS NULL) LIMIT ?2)";
        drop_rows(sql, before)?;
        let sql = "DELETE FROM fleet_orders_out WHERE id IN (SELECT id FROM fleet_orders_out
                   WHERE settled_at < ?1 LIMIT ?2)";
        drop_rows(sql, before)?;
        let sql = "DELETE FROM fleet_jobs WHERE (host, job) IN (SELECT host, job FROM fleet_jobs
                   WHERE updated_at < ?1 LIMIT ?2)";
        drop_rows(sql, before)?;
        let sql =
            "DELETE FROM fleet_events WHERE (host, seq) IN (SELECT host, seq FROM fleet_events
                   WHERE at < ?1 LIMIT ?2)";
        drop_rows(sql, before)?;
    }
    Ok(more)
}

/// The newest event that may be deleted: the engine has it, or it has waited for too long. None where
/// there is no fleet, which sets no limit.
pub fn last_told(connection: &Connection, now: i64) -> Result<Option<i64>> {
    let sql = "SELECT max(events_sent, coalesce((SELECT id FROM events WHERE at < ?1
               ORDER BY id DESC LIMIT 1), 0)) FROM fleet_self";
    first(connection, sql, [now.saturating_sub(EVENTS_WAIT)], |row| {
        row.get(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{one, with_servers};

    #[test]
    fn a_host_fills_no_table_and_what_is_of_use_stays() {
        let tx = with_servers(1);
        let now = 1_000 * DAY;
        let recent = now - DAY;
        let sql = format!(
            "UPDATE servers SET ulid = '01KBA6T5R8Y3W9M2F4B7C1D001';
             INSERT INTO fleet_hosts (name, key, seal_key, admitted_at, status)
             VALUES ('ams-1', '', '', 1, '{{}}'), ('par-1', '', '', 1, '{{}}'), ('new-1', '', '', 1, NULL);
             WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 50100)
             INSERT INTO fleet_events (host, seq, at, kind, received_at)
             SELECT 'ams-1', i, {now} * 2, 'x', 1 FROM n;
             INSERT INTO fleet_jobs (host, job, state, updated_at)
             SELECT host, seq, 'queued', at FROM fleet_events;
             INSERT INTO fleet_events (host, seq, at, kind, received_at)
             VALUES ('par-1', 1, {recent}, 'x', 1);
             INSERT INTO fleet_told (server, epoch, moved_to, updated_at)
             VALUES ('01KBA6T5R8Y3W9M2F4B7C1D001', 2, 'par-1', 1),
                    ('01KBA6T5R8Y3W9M2F4B7C1D002', 2, 'par-1', 1),
                    ('01KBA6T5R8Y3W9M2F4B7C1D003', 2, 'par-1', {recent});
             INSERT INTO fleet_rollouts (id, kind, request, requested_by, state, created_at, updated_at, ended_at)
             VALUES ('01KBA6T5R8Y3W9M2F4B7C1D001', 'move', '{{}}', '', 'running', 1, 1, NULL),
                    ('01KBA6T5R8Y3W9M2F4B7C1D002', 'move', '{{}}', '', 'failed', 1, 1, 1),
                    ('01KBA6T5R8Y3W9M2F4B7C1D003', 'move', '{{}}', '', 'failed', 1, 1, {recent});
             INSERT INTO fleet_servers (host, server, name, document)
             VALUES ('par-1', '01KBA6T5R8Y3W9M2F4B7C1D001', '', '');
             INSERT INTO fleet_places (server, host, epoch, updated_at)
             VALUES ('01KBA6T5R8Y3W9M2F4B7C1D002', 'par-1', 1, 1),
                    ('01KBA6T5R8Y3W9M2F4B7C1D003', 'new-1', 1, 1);
             INSERT INTO fleet_blueprints (server, document, updated_at)
             VALUES ('01KBA6T5R8Y3W9M2F4B7C1D001', '', 1), ('01KBA6T5R8Y3W9M2F4B7C1D002', '', 1),
                    ('01KBA6T5R8Y3W9M2F4B7C1D003', '', 1), ('01KBA6T5R8Y3W9M2F4B7C1D004', '', {recent});"
        );
        tx.execute_batch(&sql).unwrap();

        while prune(&tx, now, Some(now - 30 * DAY), 64).unwrap() {}

        let left = |sql: &str| one(&tx, sql, [], |row| row.get::<_, String>(0)).unwrap();
        let range = "SELECT min(seq) || ' ' || max(seq) FROM fleet_events WHERE host = 'ams-1'";
        assert_eq!(left(range), "101 50100");
        let range = "SELECT min(job) || ' ' || max(job) FROM fleet_jobs";
        assert_eq!(left(range), "101 50100");
        assert_eq!(
            left("SELECT seq || '' FROM fleet_events WHERE host = 'par-1'"),
            "1"
        );
        let last = |column: &str, table: &str| {
            left(&format!(
                "SELECT group_concat(substr({column}, 26), '' ORDER BY {column}) FROM {table}"
            ))
        };
        assert_eq!(last("server", "fleet_told"), "13");
        assert_eq!(last("id", "fleet_rollouts"), "13");
        assert_eq!(last("server", "fleet_blueprints"), "134");
    }
}
