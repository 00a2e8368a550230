//! Records a poll of the units in one transaction: rows, history, drift and orphans. Reports changes
//! in the journal. The samples are recorded later, with what the games answer.

use std::collections::HashSet;

use rusqlite::Connection;

use crate::base::names::{ServerId, overlay_unit};
use crate::base::{Error, Result};
use crate::db::Db;
use crate::db::events::{self, NewEvent, OUTSIDE};
use crate::db::observations::{self, Watched};
use crate::db::poll::{self, Orphan};
use crate::db::samples::{self, Sample};
use crate::db::servers;
use crate::domain::history::Change;
use crate::domain::server::ActualState;
use crate::host::units::Observed;
use crate::queue::observe::{self, Cause, StateReport, Written};

use super::read::{PollResult, PreviousRows};

/// Records what was read, and reports what changed. Returns the samples of the servers that run.
pub(super) fn seen(
    db: &mut Db,
    before: &PreviousRows,
    seen: &PollResult,
) -> Result<Vec<(ServerId, Sample)>> {
    let mut samples = Vec::new();
    let (reports, found, lost) = db.write(|tx| {
        // Read again here, because a job may have been added since the rows were read.
        let in_jobs = observations::in_jobs(tx, seen.at.now)?;

        let mut reports = Vec::new();
        for watched in &before.watched {
            let Some(observed) = seen.of(watched.id) else {
                continue;
            };
            if !in_jobs.contains(&watched.id) {
                reports.extend(server(tx, watched, &observed, before, &mut samples)?);
            } else if watched.known.is_outdated_by(&observed.unit) {
                observations::miss(tx, watched.id)?;
            }
        }

        let ids = servers::all_ids(tx)?.into_iter().collect();
        let (found, lost) = write_orphans(tx, &before.orphans, seen.orphans(&ids), seen.at.now)?;
        poll::finished(tx, seen.at.now, None)?;
        Ok((reports, found, lost))
    })?;

    reports.iter().for_each(StateReport::log);
    for orphan in found {
        tracing::warn!("{}", orphan.message());
    }

    for orphan in lost {
        tracing::info!("{} is gone or belongs to a server again", orphan.unit());
    }

    if before.last.error.is_some() {
        tracing::info!("systemd answers again");
    }

    Ok(samples)
}

/// Records that the state of the servers is unknown. Their rows never show them as stopped because
/// of that.
pub(super) fn unreadable(db: &mut Db, before: &PreviousRows, error: &Error) -> Result<()> {
    let now = crate::base::clock::now_ms();

    db.write(|tx| {
        let in_jobs = observations::in_jobs(tx, now)?;
        let rows: Vec<(ServerId, i64)> = before
            .watched
            .iter()
            .filter(|watched| !in_jobs.contains(&watched.id))
            .map(|watched| (watched.id, watched.version))
            .collect();
        observations::forget(tx, &rows, now)?;

        poll::finished(tx, now, Some(&error.to_string()))
    })
}

/// Records the state of one server.
fn server(
    tx: &Connection,
    watched: &Watched,
    observed: &Observed,
    before: &PreviousRows,
    samples: &mut Vec<(ServerId, Sample)>,
) -> Result<Option<StateReport>> {
    let Written::Done(changes, after) =
        observe::record_over(tx, watched, observed, &Cause::Outside)?
    else {
        return Ok(None);
    };

    let id = watched.id;

    // No job clears an error that the poller itself has recorded.
    let is_overlays = |error: &String| error.starts_with(&overlay_unit(id));
    if changes
        .iter()
        .any(|change| matches!(change, Change::Started(_)))
        && watched.last_error.as_ref().is_some_and(is_overlays)
    {
        servers::set_last_error(tx, id, None, observed.at.now)?;
    }

    let told = observe::update_drift(tx, &after, &Cause::Outside, observed.at.now)?;
    let at = observed.at.now;

    let unit = &observed.unit;
    if unit.actual() == ActualState::Running {
        let number = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
        let sample = Sample {
            at,
            memory_bytes: number(unit.memory_bytes),
            cpu_ns: number(unit.cpu_ns),
            restarts: unit.restarts,
            ..Sample::default()
        };

        samples.push((id, sample));
    } else if before
        .last
        .polled_at
        .is_none_or(|last| last / samples::COARSE != at / samples::COARSE)
    {
        samples::prune_idle(tx, id, at)?;
    }

    Ok(StateReport::new(id, changes, told))
}

/// Records the orphans. Gives those that are new and those that are gone.
fn write_orphans(
    tx: &Connection,
    before: &[Orphan],
    orphans: Vec<Orphan>,
    now: i64,
) -> Result<(Vec<Orphan>, Vec<Orphan>)> {
    let known: HashSet<&str> = before
        .iter()
        .map(|orphan| orphan.instance.as_str())
        .collect();
    let still: HashSet<&str> = orphans
        .iter()
        .map(|orphan| orphan.instance.as_str())
        .collect();

    let lost: Vec<Orphan> = before
        .iter()
        .filter(|orphan| !still.contains(orphan.instance.as_str()))
        .cloned()
        .collect();
    for orphan in &lost {
        poll::remove_orphan(tx, &orphan.instance)?;
        orphan_event(
            tx,
            now,
            "server.drift_ended",
            &format!("{} is gone or belongs to a server again", orphan.unit()),
        )?;
    }

    for orphan in &orphans {
        poll::set_orphan(tx, orphan)?;
        if !known.contains(orphan.instance.as_str()) {
            orphan_event(tx, now, "server.drifted", &orphan.message())?;
        }
    }

    let found = orphans
        .iter()
        .filter(|orphan| !known.contains(orphan.instance.as_str()))
        .cloned()
        .collect();
    Ok((found, lost))
}

fn orphan_event(tx: &Connection, now: i64, kind: &str, detail: &str) -> Result<()> {
    events::add(tx, now, &NewEvent::new(kind, OUTSIDE, detail))
}
