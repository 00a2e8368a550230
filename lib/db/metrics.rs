//! Reads the figures for `/metrics`. Triggers (migration 0005) keep counters as sums, so a scrape
//! costs the same with a million ended jobs as with none, and no counter decreases when `left4me
//! prune` removes jobs.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};

use crate::base::Result;
use crate::base::names::ServerId;
use crate::db::fleet::hosts;
use crate::db::fleet::overview::{self, Unsettled};
use crate::db::fleet::self_row::{self, SelfRow};
use crate::db::game::{self, NamedGame};
use crate::db::under_way::{self, UnderWay};
use crate::db::{builds, conditions, first, poll, query, queue, schedules, text};
use crate::domain::alert::OutboxState;
use crate::domain::cancellation::Step;
use crate::domain::drift::Drift;
use crate::domain::fleet::view::Seen;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::scheduled::ScheduleState;
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
    pub paused: bool,
    /// Jobs that wait for a condition, by what they wait for.
    pub waiting: BTreeMap<&'static str, u64>,
    /// Schedules by how they stand.
    pub schedules: BTreeMap<&'static str, u64>,
    /// When the oldest queued job was accepted, unix ms.
    pub oldest_queued: Option<i64>,
    /// The jobs that are running or being cancelled.
    pub under_way: Vec<UnderWay>,
    /// Cancellation requests in total, for a `job` or for a `task`.
    pub cancellation_requests: BTreeMap<&'static str, u64>,
    /// Time from a cancellation's request to its end.
    pub cancellation_duration: Durations,
    pub cancellation_failures: u64,
    /// Cancellations in total in which a command outlived its grace.
    pub cancellation_timeouts: u64,
    /// Failed steps of cancellations in total.
    pub step_failures: BTreeMap<&'static str, u64>,
    /// Commands that cancellations ended, in total, by the signal that was needed.
    pub runners_terminated: BTreeMap<&'static str, u64>,
    pub servers: BTreeMap<&'static str, u64>,
    pub drifted: Vec<DriftedServer>,
    /// Crashes of each server in total.
    pub crashes: Vec<CrashedServer>,
    /// Events that alerts were to tell of, in total, by the alert's name and what came of them.
    pub alerts: BTreeMap<(String, &'static str), u64>,
    /// The games of the servers that run.
    pub games: Vec<NamedGame>,
    pub builds: BuildFigures,
    /// The fleet; none on a host that belongs to none.
    pub fleet: Option<FleetFigures>,
    /// When the poller last read all units, unix ms; none when it never did.
    pub polled_at: Option<i64>,
}

/// The fleet, as this host knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetFigures {
    /// Each host's name, what its state is decided from.
    pub hosts: Vec<(String, Seen)>,
    /// What left4me-link said last.
    pub own: SelfRow,
    pub orders: Unsettled,
    /// Events of this host that the engine has not acknowledged.
    pub events_behind: u32,
}

/// The builds of the game.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildFigures {
    /// The build that servers take at their next start. Not from the database: the caller sets it.
    pub current: Option<u64>,
    /// The build that Steam publishes, as the last check found it.
    pub available: Option<u64>,
    /// Whether updates leave that one alone.
    pub is_rejected: bool,
    /// The servers that run, by the build on which they came up; none if that was not recorded.
    pub servers: BTreeMap<Option<u64>, u64>,
}

/// A server and its number of crashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashedServer {
    pub id: ServerId,
    /// Its display name, as stored.
    pub name: String,
    pub count: u64,
}

/// A server with a drift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftedServer {
    pub id: ServerId,
    /// Its display name, as stored.
    pub name: String,
    pub kind: Drift,
}

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
const SIGNALS: [(&str, &str); 3] = [
    ("terminate", "SIGTERM"),
    ("kill", "SIGKILL"),
    ("lost", "lost"),
];

/// Reads all figures. Call it in a read transaction, for figures of one moment. Its cost grows with
/// the queued jobs and with the servers, not with ended jobs.
pub fn snapshot(connection: &Connection) -> Result<Snapshot> {
    let mut snapshot = Snapshot {
        paused: queue::pause(connection)?.is_some(),
        waiting: conditions::counts(connection)?,
        oldest_queued: oldest_queued(connection)?,
        under_way: under_way::all(connection)?,
        drifted: drifted(connection)?,
        crashes: crashes(connection)?,
        alerts: alerts(connection)?,
        games: game::all(connection)?,
        builds: build_figures(connection)?,
        fleet: fleet_figures(connection)?,
        polled_at: poll::last(connection)?.polled_at,
        ..nothing(bounds(connection)?)
    };

    count_live(connection, &mut snapshot)?;
    for (state, count) in schedules::states(connection)? {
        *snapshot.schedules.entry(state.as_str()).or_default() += count;
    }
    count_servers(connection, &mut snapshot)?;
    add_sums(connection, &mut snapshot)?;

    Ok(snapshot)
}

/// Every series that always exists, at zero: Prometheus sees a first failure only as an increase
/// from 0.
fn nothing(bounds: Vec<i64>) -> Snapshot {
    let none = Durations {
        counts: bounds.into_iter().map(|bound| (bound, 0)).collect(),
        total_ms: 0.0,
    };

    let operations = || Operation::ALL.map(Operation::as_str);
    let states = |terminal: bool| {
        JobState::ALL
            .into_iter()
            .filter(move |state| state.is_terminal() == terminal)
    };

    let by_state = |terminal: bool| {
        let pairs = operations()
            .into_iter()
            .flat_map(|word| states(terminal).map(move |state| (word, state.as_str())));
        pairs.map(|pair| (pair, 0)).collect()
    };

    Snapshot {
        live: by_state(false),
        ended: by_state(true),
        job_durations: operations()
            .into_iter()
            .map(|word| (word, none.clone()))
            .collect(),
        queue_wait: none.clone(),
        paused: false,
        waiting: BTreeMap::new(),
        schedules: ScheduleState::ALL.map(|state| (state.as_str(), 0)).into(),
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
        alerts: BTreeMap::new(),
        games: Vec::new(),
        builds: BuildFigures::default(),
        fleet: None,
        polled_at: None,
    }
}

fn fleet_figures(connection: &Connection) -> Result<Option<FleetFigures>> {
    let Some(own) = self_row::get(connection)? else {
        return Ok(None);
    };
    let hosts = hosts::all(connection)?.into_iter();
    Ok(Some(FleetFigures {
        hosts: hosts.map(|host| (host.name.clone(), host.seen())).collect(),
        own,
        orders: overview::unsettled(connection)?,
        events_behind: overview::events_behind(connection)?,
    }))
}

/// The upper bounds of the histograms in ms; the last is `i64::MAX`.
fn bounds(connection: &Connection) -> Result<Vec<i64>> {
    let sql = "SELECT le FROM metric_bounds ORDER BY le";
    query(connection, sql, [], |row| row.get(0))
}

/// When the oldest queued job was accepted, of those that do not wait for a condition; for one that
/// did, when it stopped waiting.
fn oldest_queued(connection: &Connection) -> Result<Option<i64>> {
    let sql = "SELECT coalesce((SELECT released_at FROM job_conditions c
               WHERE c.job_id = jobs.id), created_at) FROM jobs WHERE state = 'queued' AND on_hold = 0
               ORDER BY id LIMIT 1";
    first(connection, sql, [], |row| row.get(0))
}

/// Counts the jobs that have not ended, by the partial indexes.
fn count_live(connection: &Connection, snapshot: &mut Snapshot) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT operation, state, count(*) FROM jobs WHERE state = 'queued' GROUP BY operation
         UNION ALL SELECT operation, state, count(*) FROM jobs
         WHERE state IN ('running', 'cancelling') GROUP BY 1, 2",
    )?;

    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(state) = text(row, 1)?.parse::<JobState>() else {
            continue;
        };
        *snapshot
            .live
            .entry((operation(&text(row, 0)?), state.as_str()))
            .or_default() += count(row, 2)?;
    }

    Ok(())
}

fn count_servers(connection: &Connection, snapshot: &mut Snapshot) -> Result<()> {
    let mut statement = connection
        .prepare_cached("SELECT actual_state, count(*) FROM servers GROUP BY actual_state")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        *snapshot
            .servers
            .entry(row.get::<_, ActualState>(0)?.as_str())
            .or_default() += count(row, 1)?;
    }

    Ok(())
}

fn build_figures(connection: &Connection) -> Result<BuildFigures> {
    let available = builds::available(connection)?.map(|available| available.build);
    let rejected = builds::rejected(connection)?;
    let sql = "SELECT build, count(*) FROM servers
               WHERE actual_state IN ('running', 'starting') GROUP BY build";
    let servers = query(connection, sql, [], |row| {
        let build = row.get::<_, Option<i64>>(0)?;
        Ok((build.map(i64::unsigned_abs), count(row, 1)?))
    })?;

    Ok(BuildFigures {
        current: None,
        available,
        is_rejected: rejected.iter().any(|one| Some(one.build) == available),
        servers: servers.into_iter().collect(),
    })
}

fn drifted(connection: &Connection) -> Result<Vec<DriftedServer>> {
    let sql = "SELECT id, name, drift FROM servers WHERE drift IS NOT NULL ORDER BY id";
    query(connection, sql, [], |row| {
        Ok(DriftedServer {
            id: row.get(0)?,
            name: text(row, 1)?,
            kind: row.get(2)?,
        })
    })
}

fn crashes(connection: &Connection) -> Result<Vec<CrashedServer>> {
    let sql = "SELECT s.id, s.name, coalesce(m.n, 0) FROM servers s
               LEFT JOIN metric_sums m ON m.metric = 'server_crashes'
               AND m.label = CAST(s.id AS TEXT) AND m.state = '' AND m.le = 0 ORDER BY s.id";
    query(connection, sql, [], |row| {
        Ok(CrashedServer {
            id: row.get(0)?,
            name: text(row, 1)?,
            count: count(row, 2)?,
        })
    })
}

/// Every alert with every result, at zero.
fn alerts(connection: &Connection) -> Result<BTreeMap<(String, &'static str), u64>> {
    let names = query(connection, "SELECT name FROM alerts", [], |row| {
        text(row, 0)
    })?;
    let ended = OutboxState::ALL.map(OutboxState::as_str);
    let ended = ended.iter().filter(|state| **state != "pending");
    let of_name = |name: String| ended.clone().map(move |state| ((name.clone(), *state), 0));
    Ok(names.into_iter().flat_map(of_name).collect())
}

/// Adds the sums that the triggers keep.
fn add_sums(connection: &Connection, to: &mut Snapshot) -> Result<()> {
    let mut statement = connection
        .prepare_cached("SELECT metric, label, state, le, n, total_ms FROM metric_sums")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (metric, label, state) = (text(row, 0)?, text(row, 1)?, text(row, 2)?);
        let (le, total_ms) = (row.get::<_, i64>(3)?, row.get::<_, f64>(5)?);
        let n = count(row, 4)?;
        let durations = match metric.as_str() {
            "queue_wait" => &mut to.queue_wait,
            "cancellation_duration" => &mut to.cancellation_duration,
            "job_duration" => to
                .job_durations
                .entry(operation(&label))
                .or_insert_with(|| Durations {
                    counts: to
                        .queue_wait
                        .counts
                        .keys()
                        .map(|&bound| (bound, 0))
                        .collect(),
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
fn counter<'a>(
    to: &'a mut Snapshot,
    metric: &str,
    label: &str,
    state: &str,
) -> Option<&'a mut u64> {
    match metric {
        "jobs" => {
            let state = state
                .parse::<JobState>()
                .ok()
                .filter(|state| state.is_terminal())?;
            Some(
                to.ended
                    .entry((operation(label), state.as_str()))
                    .or_default(),
            )
        }
        "cancellation_requests" => to.cancellation_requests.get_mut(label),
        "alerts" => {
            let state = OutboxState::parse(state)?.as_str();
            to.alerts.get_mut(&(label.to_owned(), state))
        }
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
mod tests;
