//! Reads the figures for `/metrics`. Triggers (migration 0005) keep counters as sums, so a scrape
//! costs the same with a million ended jobs as with none, and no counter decreases when `left4me
//! prune` removes jobs.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};

use crate::base::Result;
use crate::base::names::ServerId;
use crate::db::under_way::{self, UnderWay};
use crate::db::{poll, queue, text};
use crate::domain::cancellation::Step;
use crate::domain::drift::Drift;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::server::ActualState;

/// The label of an unknown operation. A row may hold any word, and each would become a series.
pub const OTHER: &str = "other";

/// All figures at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Jobs that have not ended, by operation and state.
    pub live: BTreeMap<(&'static str, &'static str), u64>,
    /// Jobs that have ended, in total, by operation and state.
    pub ended: BTreeMap<(&'static str, &'static str), u64>,
    /// Time from start to end, by operation. Jobs that never started are not counted.
    pub job_durations: BTreeMap<&'static str, Durations>,
    /// Time from acceptance to start.
    pub queue_wait: Durations,
    /// Whether claiming is paused.
    pub paused: bool,
    /// When the oldest queued job was accepted, unix ms.
    pub oldest_queued: Option<i64>,
    /// The jobs that are running or being cancelled.
    pub under_way: Vec<UnderWay>,
    /// Cancellation requests in total, for a `job` or for a `task`.
    pub cancellation_requests: BTreeMap<&'static str, u64>,
    /// Time from a cancellation's request to its end.
    pub cancellation_duration: Durations,
    /// Failed cancellations in total.
    pub cancellation_failures: u64,
    /// Cancellations in total in which a command outlived its grace.
    pub cancellation_timeouts: u64,
    /// Failed steps of cancellations in total.
    pub step_failures: BTreeMap<&'static str, u64>,
    /// Commands that cancellations ended, in total, by the signal that was needed.
    pub runners_terminated: BTreeMap<&'static str, u64>,
    /// Servers by actual state.
    pub servers: BTreeMap<&'static str, u64>,
    /// Servers with a drift.
    pub drifted: Vec<DriftedServer>,
    /// Crashes of each server in total.
    pub crashes: Vec<CrashedServer>,
    /// When the poller last read all units, unix ms; none when it never did.
    pub polled_at: Option<i64>,
}

/// A server and its number of crashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashedServer {
    /// The row's id.
    pub id: ServerId,
    /// Its display name, as stored.
    pub name: String,
    /// The number of crashes.
    pub count: u64,
}

/// A server with a drift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftedServer {
    /// The row's id.
    pub id: ServerId,
    /// Its display name, as stored.
    pub name: String,
    /// The kind of drift.
    pub kind: Drift,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// By upper bound (ms, ascending, `i64::MAX` last): how many durations lie between the bound
    /// before it and this one.
    pub counts: BTreeMap<i64, u64>,
    /// The sum of all durations, ms.
    pub total_ms: f64,
}

/// The words in the runners' rows, and their labels. SIGINT counts as SIGTERM; `lost` is a command
/// whose connection broke.
const SIGNALS: [(&str, &str); 3] = [("terminate", "SIGTERM"), ("kill", "SIGKILL"), ("lost", "lost")];

/// Reads all figures. Call it in a read transaction, for figures of one moment. Its cost grows with
/// the queued jobs and with the servers, not with ended jobs.
///
/// # Errors
/// 69 when the database cannot be read.
pub fn snapshot(connection: &Connection) -> Result<Snapshot> {
    let mut snapshot = Snapshot {
        paused: queue::pause(connection)?.is_some(),
        oldest_queued: oldest_queued(connection)?,
        under_way: under_way::all(connection)?,
        drifted: drifted(connection)?,
        crashes: crashes(connection)?,
        polled_at: poll::last(connection)?.polled_at,
        ..nothing(bounds(connection)?)
    };

    count_live(connection, &mut snapshot)?;
    count_servers(connection, &mut snapshot)?;
    add_sums(connection, &mut snapshot)?;

    Ok(snapshot)
}

/// Every series that always exists, at zero: Prometheus sees a first failure only as an increase
/// from 0.
fn nothing(bounds: Vec<i64>) -> Snapshot {
    let none = Durations { counts: bounds.into_iter().map(|bound| (bound, 0)).collect(), total_ms: 0.0 };
    let operations = || Operation::ALL.map(Operation::as_str);
    let states = |terminal: bool| JobState::ALL.into_iter().filter(move |state| state.is_terminal() == terminal);
    let by_state = |terminal: bool| {
        let pairs = operations().into_iter().flat_map(|word| states(terminal).map(move |state| (word, state.as_str())));
        pairs.map(|pair| (pair, 0)).collect()
    };

    Snapshot {
        live: by_state(false),
        ended: by_state(true),
        job_durations: operations().into_iter().map(|word| (word, none.clone())).collect(),
        queue_wait: none.clone(),
        paused: false,
        oldest_queued: None,
        under_way: Vec::new(),
        cancellation_requests: ["job", "task"].map(|scope| (scope, 0)).into(),
        cancellation_duration: none,
        cancellation_failures: 0,
        cancellation_timeouts: 0,
        step_failures: Step::ALL.map(|step| (step.as_str(), 0)).into(),
        runners_terminated: SIGNALS.map(|(_, signal)| (signal, 0)).into(),
        servers: ActualState::ALL.map(|state| (state.as_str(), 0)).into(),
        drifted: Vec::new(),
        crashes: Vec::new(),
        polled_at: None,
    }
}

/// The upper bounds of the histograms in ms; the last is `i64::MAX`.
fn bounds(connection: &Connection) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached("SELECT le FROM metric_bounds ORDER BY le")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// When the oldest queued job was accepted.
fn oldest_queued(connection: &Connection) -> Result<Option<i64>> {
    let mut statement =
        connection.prepare_cached("SELECT created_at FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1")?;
    Ok(statement.query_map([], |row| row.get(0))?.next().transpose()?)
}

/// Counts the jobs that have not ended, by the partial indexes.
fn count_live(connection: &Connection, snapshot: &mut Snapshot) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT operation, state, count(*) FROM jobs WHERE state = 'queued' GROUP BY operation
         UNION ALL SELECT operation, state, count(*) FROM jobs WHERE state IN ('running', 'cancelling') GROUP BY 1, 2",
    )?;

    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(state) = text(row, 1)?.parse::<JobState>() else { continue };
        *snapshot.live.entry((operation(&text(row, 0)?), state.as_str())).or_default() += count(row, 2)?;
    }

    Ok(())
}

fn count_servers(connection: &Connection, snapshot: &mut Snapshot) -> Result<()> {
    let mut statement =
        connection.prepare_cached("SELECT actual_state, count(*) FROM servers GROUP BY actual_state")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        *snapshot.servers.entry(row.get::<_, ActualState>(0)?.as_str()).or_default() += count(row, 1)?;
    }
    Ok(())
}

fn drifted(connection: &Connection) -> Result<Vec<DriftedServer>> {
    let mut statement =
        connection.prepare_cached("SELECT id, name, drift FROM servers WHERE drift IS NOT NULL ORDER BY id")?;
    let rows = statement
        .query_map([], |row| Ok(DriftedServer { id: ServerId(row.get(0)?), name: text(row, 1)?, kind: row.get(2)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn crashes(connection: &Connection) -> Result<Vec<CrashedServer>> {
    let mut statement = connection.prepare_cached(
        "SELECT s.id, s.name, coalesce(m.n, 0) FROM servers s LEFT JOIN metric_sums m
             ON m.metric = 'server_crashes' AND m.label = CAST(s.id AS TEXT) AND m.state = '' AND m.le = 0
         ORDER BY s.id",
    )?;

    let rows = statement.query_map([], |row| {
        Ok(CrashedServer { id: ServerId(row.get(0)?), name: text(row, 1)?, count: count(row, 2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Adds the sums that the triggers keep.
fn add_sums(connection: &Connection, to: &mut Snapshot) -> Result<()> {
    let mut statement = connection.prepare_cached("SELECT metric, label, state, le, n, total_ms FROM metric_sums")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (metric, label, state) = (text(row, 0)?, text(row, 1)?, text(row, 2)?);
        let (le, total_ms) = (row.get::<_, i64>(3)?, row.get::<_, f64>(5)?);
        let n = count(row, 4)?;
        let durations = match metric.as_str() {
            "queue_wait" => &mut to.queue_wait,
            "cancellation_duration" => &mut to.cancellation_duration,
            "job_duration" => to.job_durations.entry(operation(&label)).or_insert_with(|| Durations {
                counts: to.queue_wait.counts.keys().map(|&bound| (bound, 0)).collect(),
                total_ms: 0.0,
            }),
            _ => {
                if let Some(count) = counter(to, &metric, &label, &state) {
                    *count += n;
                }
                continue;
            }
        };
        *durations.counts.entry(le).or_default() += n;
        durations.total_ms += total_ms;
    }

    Ok(())
}

/// The counter for a row of sums; none for a row that left4me did not write.
fn counter<'a>(to: &'a mut Snapshot, metric: &str, label: &str, state: &str) -> Option<&'a mut u64> {
    match metric {
        "jobs" => {
            let state = state.parse::<JobState>().ok().filter(|state| state.is_terminal())?;
            Some(to.ended.entry((operation(label), state.as_str())).or_default())
        }
        "cancellation_requests" => to.cancellation_requests.get_mut(label),
        "cancellation_failures" => Some(&mut to.cancellation_failures),
        "cancellation_timeouts" => Some(&mut to.cancellation_timeouts),
        "cancellation_step_failures" => to.step_failures.get_mut(label),
        "runners_terminated" => {
            let (_, signal) = SIGNALS.into_iter().find(|(word, _)| *word == label)?;
            to.runners_terminated.get_mut(signal)
        }
        _ => None,
    }
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

fn operation(word: &str) -> &'static str {
    word.parse::<Operation>().map_or(OTHER, Operation::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::{CancellationId, JobId, TaskId};
    use crate::db::{Db, cancellations, jobs, upkeep};
    use crate::domain::cancellation::Progress;

    const LIFE: &str = "
        INSERT INTO jobs (operation, requested_by, created_at, updated_at) VALUES
            ('start', 'x', 1000, 1000), ('start', 'x', 1000, 1000), ('install', 'x', 1000, 1000), ('stop', 'x', 2000, 1000),
            ('stop', 'x', 1000, 1000), ('sing', 'x', 9000, 1000), ('dance', 'x', 1000, 1000);
        INSERT INTO tasks (job_id, position, kind) VALUES (3, 0, 'install-runtime');
        INSERT INTO runners (task_id, verb, started_at, ended_at, ended_by) VALUES (1, 'install', 1, 2, 'kill'), (1, 'install', 1, 2, 'exit');
        INSERT INTO cancellations (job_id, requested_by, previous_state, created_at) VALUES (3, 'x', 'running', 1000);
        INSERT INTO cancellations (job_id, task_id, requested_by, previous_state, created_at) VALUES (3, 1, 'x', 'running', 1000);
        INSERT INTO cancellation_steps (cancellation_id, step, started_at) VALUES (1, 'clean', 1), (1, 'verify', 1);
        UPDATE jobs SET state = 'running', worker_id = 'w', started_at = 1040 WHERE id IN (1, 2, 3, 7);
        UPDATE jobs SET state = 'succeeded', exit_code = 0, finished_at = 1100 WHERE id IN (1, 7);
        UPDATE jobs SET state = 'failed', exit_code = 1, finished_at = 9223372036854775807 WHERE id = 2;
        UPDATE jobs SET state = 'cancelled', exit_code = 1, finished_at = 900 WHERE id IN (3, 5);
        UPDATE cancellation_steps SET ok = step = 'verify', finished_at = 2;
        UPDATE runners SET cancellation_id = 1 WHERE ended_by = 'kill';
        UPDATE cancellations SET state = 'failed', finished_at = 3000 WHERE id = 1;
        UPDATE cancellations SET state = 'completed', finished_at = 1000 WHERE id = 2;";

    fn sizes(durations: &Durations) -> Vec<(i64, u64)> {
        durations.counts.iter().filter(|(_, n)| **n > 0).map(|(le, n)| (*le, *n)).collect()
    }

    #[test]
    fn jobs_and_cancellations_are_counted_as_they_happen() {
        let db = crate::db::with_servers(1);
        db.execute_batch(LIFE).unwrap();

        let seen = snapshot(&db).unwrap();
        let ended: Vec<_> = seen.ended.iter().filter(|(_, n)| **n > 0).collect();

        assert_eq!(
            ended,
            [
                (&("install", "cancelled"), &1),
                (&("other", "succeeded"), &1),
                (&("start", "failed"), &1),
                (&("start", "succeeded"), &1),
                (&("stop", "cancelled"), &1)
            ]
        );

        let live: Vec<_> = seen.live.iter().filter(|(_, n)| **n > 0).collect();
        assert_eq!(live, [(&("other", "queued"), &1), (&("stop", "queued"), &1)]);
        assert_eq!(sizes(&seen.queue_wait), [(50, 4)]);
        assert_eq!(sizes(&seen.job_durations["start"]), [(100, 1), (i64::MAX, 1)]);
        assert_eq!(sizes(&seen.job_durations["install"]), [(50, 1)], "a clock that went back is no time at all");
        assert_eq!(sizes(&seen.job_durations["stop"]), [], "it never started");
        assert_eq!(sizes(&seen.cancellation_duration), [(50, 1), (2500, 1)]);
        assert!((seen.cancellation_duration.total_ms - 2000.0).abs() < 0.1);
        assert_eq!((seen.cancellation_failures, seen.oldest_queued), (1, Some(2000)));
        assert_eq!(seen.cancellation_requests, [("job", 1), ("task", 1)].into());
        assert_eq!(seen.runners_terminated, [("SIGTERM", 0), ("SIGKILL", 1), ("lost", 0)].into());
        assert_eq!((seen.step_failures["clean"], seen.step_failures["verify"]), (1, 0));
        assert_eq!((seen.servers["unknown"], seen.servers["running"]), (1, 0));
    }

    #[test]
    fn what_happened_before_the_sums_were_kept_is_in_them() {
        let old = Connection::open_in_memory().unwrap();
        for step in [
            include_str!("migrations/0001-spine.sql"),
            include_str!("migrations/0002-poller.sql"),
            include_str!("migrations/0003-cancel.sql"),
            include_str!("migrations/0004-web.sql"),
        ] {
            old.execute_batch(step).unwrap();
        }

        old.execute_batch(LIFE).unwrap();
        old.execute_batch(include_str!("migrations/0005-metrics.sql")).unwrap();

        let new = crate::db::with_servers(0);
        new.execute_batch(LIFE).unwrap();
        assert_eq!(snapshot(&old).unwrap(), snapshot(&new).unwrap());
    }

    #[test]
    fn a_grace_that_was_over_is_counted_once_and_those_of_the_past_too() {
        let timeouts = |db: &Connection| snapshot(db).unwrap().cancellation_timeouts;
        let new = crate::db::with_servers(1);

        new.execute_batch(LIFE).unwrap();
        for _ in 0..2 {
            cancellations::set_timed_out(&new, CancellationId(1)).unwrap();
        }
        assert_eq!(timeouts(&new), 1);

        let old = Connection::open_in_memory().unwrap();
        for step in [
            include_str!("migrations/0001-spine.sql"),
            include_str!("migrations/0003-cancel.sql"),
            include_str!("migrations/0005-metrics.sql"),
        ] {
            old.execute_batch(step).unwrap();
        }

        old.execute_batch(LIFE).unwrap();
        old.execute_batch(include_str!("migrations/0009-records.sql")).unwrap();
        assert_eq!(
            old.query_row("SELECT n FROM metric_sums WHERE metric = 'cancellation_timeouts'", [], |row| row.get(0)),
            Ok(1)
        );
    }

    #[test]
    fn what_is_pruned_stays_counted() {
        let directory = tempfile::tempdir().unwrap();
        let mut db = Db::open(&directory.path().join("left4me.db")).unwrap();
        db.connection().execute_batch(LIFE).unwrap();
        let before = snapshot(db.connection()).unwrap();
        assert_eq!(upkeep::prune(&mut db, 5000, upkeep::Depth::Everything).unwrap().jobs, 4);
        assert_eq!(snapshot(db.connection()).unwrap(), before);
    }

    /// Rows written by hand must not keep a job or a cancellation from ending.
    #[test]
    fn no_time_and_no_word_in_a_row_is_too_odd_to_be_counted() {
        for (created, started) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (i64::MAX, i64::MAX), (0, 0)] {
            let db = crate::db::with_servers(1);
            let sql =
                "INSERT INTO jobs (operation, requested_by, created_at, updated_at) VALUES ('a\u{7}\"\n', 'x', ?1, 1)";

            for _ in 0..3 {
                db.execute(sql, [created]).unwrap();
                let id = JobId(db.last_insert_rowid());
                assert!(jobs::claim(&db, id, "w", started).unwrap());
                let finish = jobs::Finish { state: JobState::Failed, exit_code: 1, error: None };
                assert!(jobs::finish(&db, id, "w", &finish, created).unwrap());
            }

            let seen = snapshot(&db).unwrap();
            assert_eq!((seen.ended[&(OTHER, "failed")], seen.queue_wait.counts.values().sum::<u64>()), (3, 3));
        }
    }

    /// The insert's row id must stay that of the requested row, not that of a row which a trigger
    /// adds.
    #[test]
    fn counting_does_not_disturb_whoever_writes() {
        let db = crate::db::with_servers(1);
        db.execute_batch(LIFE).unwrap();

        let new = cancellations::New {
            job: JobId(4),
            task: Some(TaskId(1)),
            requested_by: "x",
            reason: "",
            force: false,
            cascade: true,
            previous_state: "queued",
        };
        let id = cancellations::insert(&db, &new, 5000).unwrap();

        assert_eq!(id, CancellationId(3));
        assert!(cancellations::finish(&db, id, Progress::Failed, "", 5000).unwrap());
        assert!(!cancellations::finish(&db, id, Progress::Failed, "", 5000).unwrap());
        assert_eq!(snapshot(&db).unwrap().cancellation_failures, 2);
    }
}
