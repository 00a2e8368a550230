//! Records the state of a server: its row, what happened since the last poll, and drift. Worker and
//! poller both use this file, so that they record the same in the same way.

use rusqlite::Connection;

use crate::base::journal::info_or_warn;
use crate::base::names::{JobId, ServerId};
use crate::base::{Result, clock};
use crate::db::crashes;
use crate::db::events::{self, NewEvent, OUTSIDE};
use crate::db::game;
use crate::db::observations::{self, Seen, Watched};
use crate::domain::drift::{Crashes, Drift, Faults, Judgement, judge};
use crate::domain::history::{Change, Known, Start, booted_at, changes};
use crate::domain::server::ActualState;
use crate::host::units::Observed;

#[derive(Clone, Copy, Debug)]
pub enum Cause<'a> {
    /// A job, and who requested it.
    Job(JobId, &'a str),
    /// systemd by itself, or a person with systemctl.
    Outside,
}

/// The result of recording a state.
#[derive(Clone, Debug)]
pub enum Written {
    /// It is recorded: what happened since the last poll, and the new row.
    Done(Vec<Change>, Box<Watched>),
    /// Nothing was written: the row has changed since it was read, or the server is gone.
    Outdated,
}

/// A drift that began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriftReport {
    /// It began: its kind and the reason.
    Began(Drift, String),
    Ended(Drift),
}

/// What to report about a server after the commit.
#[derive(Clone, Debug)]
pub struct StateReport {
    pub server: ServerId,
    pub changes: Vec<Change>,
    /// Drifts that began or ended.
    pub drifts: Vec<DriftReport>,
}

impl StateReport {
    /// None if there is nothing to report.
    pub fn new(server: ServerId, changes: Vec<Change>, drifts: Vec<DriftReport>) -> Option<Self> {
        let is_empty = changes.is_empty() && drifts.is_empty();
        (!is_empty).then_some(Self {
            server,
            changes,
            drifts,
        })
    }

    /// Writes it to the journal: problems as warnings, everything else as info.
    pub fn log(&self) {
        let (id, server_id) = (self.server, self.server.0);
        for change in &self.changes {
            let what = change.kind().trim_start_matches("server.");
            let message = change.message();
            info_or_warn!(change.is_bad(), server_id, "server {id} {what}: {message}");
        }

        for drifts in &self.drifts {
            match drifts {
                DriftReport::Began(kind, why) => {
                    tracing::warn!(server_id, "server {id} {why} ({})", advice(*kind, id));
                }
                DriftReport::Ended(kind) => {
                    tracing::info!(server_id, "server {id} is no longer {kind}")
                }
            }
        }
    }
}

/// What an admin can do about a drift.
fn advice(kind: Drift, id: ServerId) -> String {
    let (mend, accept) = kind.remedies();
    match kind {
        Drift::Crashing => Drift::crash_advice(id),
        Drift::Unresponsive => format!(
            "`left4me-job enqueue {mend} --server {id}` restarts it; \
             `left4me server set {id} --restart-unresponsive yes` lets left4me do so"
        ),
        _ => format!(
            "left4me does not correct it: \
             `left4me-job enqueue {mend} --server {id}` does; `{accept}` accepts it"
        ),
    }
}

impl Cause<'_> {
    fn event<'e>(&'e self, kind: &'e str, server: ServerId, detail: &'e str) -> NewEvent<'e> {
        let (actor, job) = match *self {
            Cause::Job(job, by) => (by, Some(job)),
            Cause::Outside => (OUTSIDE, None),
        };

        NewEvent {
            job,
            server: Some(server),
            ..NewEvent::new(kind, actor, detail)
        }
    }
}

/// Records the state that a job saw. It is newer than everything known before. Gives what happened,
/// if anything.
pub fn record(
    tx: &Connection,
    server: ServerId,
    observed: &Observed,
    cause: &Cause<'_>,
) -> Result<Option<StateReport>> {
    let Some(watched) = observations::get(tx, server)? else {
        return Ok(None);
    };
    let changes = match record_over(tx, &watched, observed, cause)? {
        Written::Done(changes, _) => changes,
        Written::Outdated => Vec::new(),
    };
    Ok(StateReport::new(server, changes, Vec::new()))
}

/// How late a state may be recorded, in ms.
const LATE: i64 = 60_000;

/// Records and judges the state of a server without a job. Does nothing if a newer state is already
/// recorded.
pub fn record_outside(
    tx: &Connection,
    server: ServerId,
    observed: &Observed,
) -> Result<Vec<StateReport>> {
    let Some(watched) = observations::get(tx, server)? else {
        return Ok(Vec::new());
    };
    // A recorded time further in the future is from before the clock was set back, and so is older
    // than this state.
    let latest = observed.at.now.saturating_add(LATE);
    if watched
        .known
        .looked_at
        .is_some_and(|at| at > observed.at.now && at <= latest)
    {
        return Ok(Vec::new());
    }

    let mut reports = Vec::from_iter(record(tx, server, observed, &Cause::Outside)?);
    reports.extend(judge_server(tx, server, &Cause::Outside, observed.at.now)?);
    Ok(reports)
}

/// Records the state of a server, unless its row has changed since `watched` was read.
pub fn record_over(
    tx: &Connection,
    watched: &Watched,
    observed: &Observed,
    cause: &Cause<'_>,
) -> Result<Written> {
    let Observed { unit, at } = observed;
    let happened = changes(&watched.known, unit, booted_at(&watched.known, unit, at));
    let known = watched.known.after(unit, at.now);
    let end = happened
        .iter()
        .rfind(|change| !matches!(change, Change::Started(_)))
        .map(Change::message);

    let since = match known.actual {
        ActualState::Running => at.wall(unit.active_enter_us),
        ActualState::Stopped | ActualState::Failed if known.exit_us != watched.known.exit_us => {
            at.wall(known.exit_us)
        }
        _ => at.now,
    };

    let seen = Seen {
        known: &known,
        sub: Some(unit.sub.as_str()).filter(|sub| !sub.is_empty()),
        last_end: end.as_deref().or(watched.last_end.as_deref()),
        since,
        now: at.now,
    };

    if !observations::write(tx, watched.id, watched.version, &seen)? {
        return Ok(Written::Outdated);
    }

    if ends_run(&watched.known, &known) {
        game::forget(tx, watched.id)?;
    }

    for change in &happened {
        match change {
            Change::Crashed { more, .. } => {
                crashes::add(tx, watched.id, more.saturating_add(1), at.now)?
            }
            // systemd resets its counter when a server is started on purpose, so the crashes are
            // reset too. A restart by systemd can look like a start if the poll happened during it.
            Change::Started(Start::Started | Start::Restarted) if unit.restarts == 0 => {
                crashes::forget(tx, watched.id)?;
            }
            _ => {}
        }

        events::add(
            tx,
            at.now,
            &cause.event(change.kind(), watched.id, &change.message()),
        )?;
    }

    let after = Watched {
        last_end: end.or_else(|| watched.last_end.clone()),
        known,
        ..watched.clone()
    };

    Ok(Written::Done(happened, Box::new(after)))
}

/// Whether the run that was known before has ended: what its game answered says nothing about
/// another run. An unknown state ends none.
fn ends_run(before: &Known, now: &Known) -> bool {
    let is_same_start = before.active_enter_us == now.active_enter_us;
    match now.actual {
        ActualState::Unknown => false,
        ActualState::Running => !is_same_start,
        actual => actual != before.actual || !is_same_start,
    }
}

/// Judges whether the desired and the actual state of a server differ, and reports a change once. A
/// server with an unfinished job is not judged, unless the job has waited or run for too long.
pub fn judge_server(
    tx: &Connection,
    server: ServerId,
    cause: &Cause<'_>,
    now: i64,
) -> Result<Option<StateReport>> {
    judge_idle(tx, server, cause, false, now)
}

/// Like [`judge_server`], for a server of which the journal rules out that it loads a map: if its
/// game is still silent, that is a drift.
pub fn judge_silent(tx: &Connection, server: ServerId, now: i64) -> Result<Option<StateReport>> {
    judge_idle(tx, server, &Cause::Outside, true, now)
}

fn judge_idle(
    tx: &Connection,
    server: ServerId,
    cause: &Cause<'_>,
    loads_no_map: bool,
    now: i64,
) -> Result<Option<StateReport>> {
    if observations::job_under_way(tx, server, now)?.is_some_and(|job| job.is_in_time) {
        return Ok(None);
    }
    let Some(watched) = observations::get(tx, server)? else {
        return Ok(None);
    };
    let drifts = judged(tx, &watched, cause, loads_no_map, now)?;
    Ok(StateReport::new(server, Vec::new(), drifts))
}

/// Like [`judge_server`], for a row that was just read or written and whose server has no active
/// job.
pub fn update_drift(
    tx: &Connection,
    watched: &Watched,
    cause: &Cause<'_>,
    now: i64,
) -> Result<Vec<DriftReport>> {
    judged(tx, watched, cause, false, now)
}

fn judged(
    tx: &Connection,
    watched: &Watched,
    cause: &Cause<'_>,
    loads_no_map: bool,
    now: i64,
) -> Result<Vec<DriftReport>> {
    let id = watched.id;
    let before = watched.drift.as_ref();
    let crashes = crashes::count(tx, id, now)?;
    let faults = faults(tx, watched, crashes, loads_no_map)?;
    let Known {
        actual, enabled, ..
    } = watched.known;
    let found = match judge(watched.desired, actual, enabled, faults) {
        Judgement::Open => return Ok(Vec::new()),
        Judgement::InOrder => None,
        Judgement::Drifted(kind) => {
            let mut reason = why(tx, kind, watched, cause, crashes)?;
            // A job that hangs does not cause crashes, nor silence.
            if !matches!(kind, Drift::Crashing | Drift::Unresponsive)
                && let Some(job) = observations::job_under_way(tx, id, now)?
            {
                reason = format!("{reason}; {}", slow(&job, now));
            }
            Some((kind, reason))
        }
    };

    let mut drifts = Vec::new();
    match (before, &found) {
        (None, None) => return Ok(drifts),
        (Some(before), Some((kind, why))) if before.kind == *kind => {
            // The reason may become known later, or the server may have ended again in another way.
            // The part of a job in the reason is kept.
            let is_new = match kind {
                Drift::Down => watched
                    .last_end
                    .as_ref()
                    .is_some_and(|end| !before.why.contains(end)),
                Drift::Crashing => before.why != *why,
                _ => false,
            };

            if is_new {
                observations::set_drift(tx, id, Some((*kind, before.since, why)))?;
            }
            return Ok(drifts);
        }
        _ => {}
    }

    if let Some(before) = before {
        let detail = format!(
            "was {}: it should be {} and is {}",
            before.kind, watched.desired, watched.known.actual
        );

        events::add(tx, now, &cause.event("server.drift_ended", id, &detail))?;
        drifts.push(DriftReport::Ended(before.kind));
    }

    observations::set_drift(
        tx,
        id,
        found.as_ref().map(|(kind, why)| (*kind, now, why.as_str())),
    )?;

    if let Some((kind, why)) = found {
        let detail = format!("{}: {why}", kind.message(watched.known.actual));
        // Whoever waits for this one need not read the details of all drifts.
        let event = match kind {
            Drift::Unresponsive => "server.unresponsive",
            _ => "server.drifted",
        };
        events::add(tx, now, &cause.event(event, id, &detail))?;
        drifts.push(DriftReport::Began(kind, detail));
    }

    Ok(drifts)
}

/// What is wrong with a server although it runs.
fn faults(
    tx: &Connection,
    watched: &Watched,
    crashes: Crashes,
    loads_no_map: bool,
) -> Result<Faults> {
    let drift = watched.drift.as_ref();
    let was = |kind| drift.is_some_and(|drifted| drifted.kind == kind);

    // Once it is unresponsive, only an answer or the end of its run ends that.
    let unresponsive = match was(Drift::Unresponsive) {
        true => game::get(tx, watched.id)?.is_some_and(|game| game.unanswered > 0),
        false => loads_no_map && game::get(tx, watched.id)?.is_some_and(|game| game.is_silent()),
    };

    Ok(Faults {
        crashing: crashes.keep_coming(was(Drift::Crashing)),
        unresponsive,
    })
}

/// Since when the game has not answered. The text stays the same while the drift does.
fn silence(tx: &Connection, id: ServerId) -> Result<String> {
    let answered_at = game::get(tx, id)?.and_then(|game| game.answered_at);
    Ok(answered_at.map_or_else(
        || "it has not answered since its start".to_owned(),
        |at| format!("its last answer was at {}", clock::local(at)),
    ))
}

/// The job that the server waits for, and for how long.
fn slow(job: &observations::ActiveJob, now: i64) -> String {
    let how = if job.is_queued {
        "has waited"
    } else {
        "has run"
    };

    format!(
        "job {} ({}) {how} for {}",
        job.id,
        job.operation,
        clock::span(now - job.since)
    )
}

/// The reason of a drift, as far as it is known. A failed job is part of it if it is the job that
/// ends now, or if there is no other reason.
fn why(
    tx: &Connection,
    kind: Drift,
    watched: &Watched,
    cause: &Cause<'_>,
    crashes: Crashes,
) -> Result<String> {
    let failed_job = watched
        .last_error
        .as_ref()
        .map(|error| match error.starts_with("job ") {
            true => error.clone(),
            false => format!("the last job failed: {error}"),
        });

    let by_job = failed_job
        .clone()
        .filter(|_| matches!(cause, Cause::Job(..)));
    Ok(match kind {
        Drift::Down => {
            let mut reasons: Vec<String> = watched.last_end.iter().cloned().collect();
            reasons.extend(if reasons.is_empty() {
                failed_job
            } else {
                by_job
            });

            if reasons.is_empty() {
                reasons.push("it has not been started".to_owned());
            }
            if watched.known.enabled == Some(false) {
                reasons.push("its unit is disabled".to_owned());
            }
            reasons.join("; ")
        }
        Drift::Up => by_job.unwrap_or_else(|| "it was started outside left4me".to_owned()),
        Drift::Enabled => {
            by_job.unwrap_or_else(|| "its unit was enabled outside left4me".to_owned())
        }
        Drift::Disabled => "its unit was disabled outside left4me".to_owned(),
        Drift::Unresponsive => silence(tx, watched.id)?,
        Drift::Crashing => {
            let last = watched
                .last_end
                .as_ref()
                .map_or_else(String::new, |end| format!(", last by {end}"));
            format!("{crashes}{last}")
        }
    })
}

#[cfg(test)]
mod tests;
