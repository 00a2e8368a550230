//! The outbox of alerts: one row for each event and each alert that listens for it. Rows are added
//! in the transaction of the event, so an alert is neither lost nor sent for what did not happen.

use rusqlite::{Connection, params};

use crate::base::Result;
use crate::base::names::{AlertId, JobId, ServerId};
use crate::db::{exists, first, query, run, text, text_or_null};
use crate::domain::alert::{self, AlertClass, Candidate, Subscription};
use crate::domain::drift::Drift;
use crate::domain::operation::Operation;

/// What an event is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    /// `events.id`.
    pub(super) event: i64,
    pub(super) kind: &'a str,
    pub(super) job: Option<JobId>,
    pub(super) server: Option<ServerId>,
}

/// Adds the rows of an event. Reads nothing for most kinds of events, and one page while there are
/// no alerts.
pub(super) fn fill(tx: &Connection, now: i64, about: About<'_>) -> Result<()> {
    let Some(candidate) = alert::candidate(about.kind) else {
        return Ok(());
    };
    let alerts = subscriptions(tx)?;
    if alerts.is_empty() {
        return Ok(());
    }

    let classes = match candidate {
        Candidate::Of(class) => vec![class],
        Candidate::Drift => alert::of_drift(drift(tx, about.server)?),
        // A nightly update that had nothing to do is no news.
        Candidate::Job { failed: false } if has_result(tx, about.job)? => Vec::new(),
        Candidate::Job { failed } => alert::of_job(operation(tx, about.job)?, failed),
    };
    if classes.is_empty() {
        return Ok(());
    }
    let servers = match about.server {
        Some(server) => vec![server],
        None => targets(tx, about.job)?,
    };

    for (alert, subscription) in alerts {
        if let Some(class) = subscription.takes(&classes, &servers, now) {
            add(tx, now, alert, class, about)?;
        }
    }
    Ok(())
}

fn add(
    tx: &Connection,
    now: i64,
    alert: AlertId,
    class: AlertClass,
    about: About<'_>,
) -> Result<()> {
    let sql = "INSERT INTO alert_outbox (alert_id, event_id, class, server_id, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let class = class.as_str();
    run(
        tx,
        sql,
        params![alert, about.event, class, about.server, now],
    )
}

/// What each alert listens for. An alert with a damaged row gets nothing.
fn subscriptions(tx: &Connection) -> Result<Vec<(AlertId, Subscription)>> {
    let sql = "SELECT id, events, servers, muted_until FROM alerts ORDER BY id";
    let rows = query(tx, sql, [], |row| {
        let subscription = subscription(&text(row, 1)?, &text(row, 2)?, row.get(3)?);
        Ok((row.get(0)?, subscription))
    })?;
    Ok(rows
        .into_iter()
        .filter_map(|(id, subscription)| Some((id, subscription?)))
        .collect())
}

/// Reads the two JSON columns. Unknown words are left out.
pub(super) fn subscription(
    events: &str,
    servers: &str,
    muted_until: Option<i64>,
) -> Option<Subscription> {
    let classes: Vec<String> = serde_json::from_str(events).ok()?;
    Some(Subscription {
        classes: classes
            .iter()
            .filter_map(|word| AlertClass::parse(word))
            .collect(),
        servers: serde_json::from_str(servers).ok()?,
        muted_until,
    })
}

/// The drift in a server's row: the one that begins or, at its end, the one that ends.
fn drift(tx: &Connection, server: Option<ServerId>) -> Result<Option<Drift>> {
    let sql = "SELECT drift FROM servers WHERE id = ?1";
    let found = first(tx, sql, [server], |row| text_or_null(row, 0))?;
    Ok(found.flatten().and_then(|word| Drift::parse(&word)))
}

fn operation(tx: &Connection, job: Option<JobId>) -> Result<Option<Operation>> {
    let sql = "SELECT operation FROM jobs WHERE id = ?1";
    let word = first(tx, sql, [job], |row| text(row, 0))?;
    Ok(word.and_then(|word| Operation::parse(&word)))
}

/// Whether a job only found something out.
fn has_result(tx: &Connection, job: Option<JobId>) -> Result<bool> {
    let sql = "SELECT 1 FROM jobs WHERE id = ?1 AND result IS NOT NULL";
    exists(tx, sql, [job])
}

fn targets(tx: &Connection, job: Option<JobId>) -> Result<Vec<ServerId>> {
    let sql = "SELECT server_id FROM job_targets WHERE job_id = ?1";
    query(tx, sql, [job], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::alerts::{self, NewAlert};
    use crate::db::events::{self, NewEvent};
    use crate::db::with_servers;
    use crate::domain::alert::{Channel, Target};

    fn listen(db: &Connection, name: &str, classes: &[AlertClass], servers: &[i64]) {
        let target = Target::new(Channel::Ntfy, "https://ntfy.sh/x").unwrap();
        let servers: Vec<ServerId> = servers.iter().copied().map(ServerId).collect();
        let new = NewAlert {
            name: &name.parse().unwrap(),
            target: &target,
            classes,
            servers: &servers,
        };
        alerts::create(db, 1, "anna", &new).unwrap();
    }

    /// Adds an event, and gives the alerts that get it, with the class.
    fn told(db: &Connection, kind: &str, server: Option<i64>, job: Option<i64>) -> Vec<String> {
        let event = NewEvent {
            server: server.map(ServerId),
            job: job.map(JobId),
            ..NewEvent::new(kind, "x", "")
        };
        events::add(db, 5, &event).unwrap();
        let id = db.last_insert_rowid();
        let sql = "SELECT a.name || ' ' || o.class FROM alert_outbox o
                   JOIN alerts a ON a.id = o.alert_id
                   WHERE o.event_id = (SELECT max(id) FROM events) ORDER BY a.name";
        assert!(id > 0);
        query(db, sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_event_is_put_into_the_outbox_of_each_alert_that_listens_for_it() {
        let db = with_servers(3);
        listen(&db, "all", &AlertClass::ALL, &[]);
        listen(&db, "crash of 2", &[AlertClass::Crash], &[2]);
        listen(&db, "drift", &[AlertClass::Drift], &[]);

        assert_eq!(
            told(&db, "server.crashed", Some(2), None),
            ["all crash", "crash of 2 crash"]
        );
        assert_eq!(told(&db, "server.crashed", Some(1), None), ["all crash"]);
        assert!(told(&db, "server.started", Some(1), None).is_empty());

        db.execute_batch("UPDATE servers SET drift = 'down', drift_since = 1 WHERE id = 1")
            .unwrap();
        assert_eq!(
            told(&db, "server.drifted", Some(1), None),
            ["all drift", "drift drift"]
        );
        db.execute_batch("UPDATE servers SET drift = 'crashing' WHERE id = 1")
            .unwrap();
        assert_eq!(
            told(&db, "server.drift_ended", Some(1), None),
            ["all crash", "drift drift"]
        );
        listen(&db, "silence", &[AlertClass::Unresponsive], &[]);
        db.execute_batch("UPDATE servers SET drift = 'unresponsive' WHERE id = 1")
            .unwrap();
        for kind in ["server.unresponsive", "server.drift_ended"] {
            assert_eq!(
                told(&db, kind, Some(1), None),
                ["all unresponsive", "silence unresponsive"]
            );
        }
        assert_eq!(
            told(&db, "server.drifted", None, None),
            ["all drift", "drift drift"],
            "a unit that belongs to no server"
        );
    }

    #[test]
    fn a_job_belongs_to_its_servers_and_an_update_to_all() {
        let db = with_servers(3);
        listen(&db, "all", &AlertClass::ALL, &[]);
        listen(&db, "of 2", &[AlertClass::JobFailed], &[2]);
        db.execute_batch(
            "INSERT INTO jobs (id, operation, requested_by, created_at, updated_at)
             VALUES (1, 'start', 'x', 1, 1), (2, 'start', 'x', 1, 1), (3, 'update', 'x', 1, 1);
             INSERT INTO job_targets VALUES (1, 1), (1, 2), (2, 1);",
        )
        .unwrap();

        assert_eq!(
            told(&db, "job.failed", None, Some(1)),
            ["all job-failed", "of 2 job-failed"]
        );
        assert_eq!(
            told(&db, "job.failed", Some(1), Some(2)),
            ["all job-failed"]
        );
        assert!(told(&db, "job.succeeded", Some(1), Some(2)).is_empty());
        assert_eq!(
            told(&db, "job.failed", None, Some(3)),
            ["all update", "of 2 job-failed"]
        );
        assert_eq!(told(&db, "job.succeeded", None, Some(3)), ["all update"]);

        db.execute_batch("UPDATE jobs SET result = 'build 5 is current' WHERE id = 3")
            .unwrap();
        assert!(told(&db, "job.succeeded", None, Some(3)).is_empty());
        assert_eq!(
            told(&db, "job.failed", None, Some(3)),
            ["all update", "of 2 job-failed"]
        );
        assert_eq!(
            told(&db, "update.available", None, Some(3)),
            ["all update"],
            "once per build, whichever job finds it"
        );
    }

    #[test]
    fn a_muted_alert_gets_nothing_and_what_waited_is_dropped() {
        let db = with_servers(1);
        let name = "all".parse().unwrap();
        listen(&db, "all", &AlertClass::ALL, &[]);
        assert_eq!(told(&db, "disk.low", None, None), ["all disk"]);

        alerts::mute(&db, 2, "anna", &name, Some(10)).unwrap();
        assert_eq!(alerts::find(&db, &name).unwrap().pending, 0);
        assert!(told(&db, "disk.ok", None, None).is_empty());
        alerts::mute(&db, 3, "anna", &name, None).unwrap();
        assert_eq!(told(&db, "disk.low", None, None), ["all disk"]);

        alerts::remove(&db, 4, "anna", &name).unwrap();
        assert!(told(&db, "disk.ok", None, None).is_empty());
        assert!(alerts::all(&db).unwrap().is_empty());
    }

    #[test]
    fn a_damaged_row_of_an_alert_stops_no_event() {
        let db = with_servers(1);
        listen(&db, "all", &AlertClass::ALL, &[]);
        db.execute_batch("UPDATE alerts SET events = '[\"moon\", 1]', target = 'x\ny'")
            .unwrap();
        assert!(told(&db, "disk.low", None, None).is_empty());
        let shown = &alerts::all(&db).unwrap()[0];
        assert_eq!((shown.destination.as_str(), shown.events.len()), ("?", 0));
    }
}
