//! One transaction: rows, history, drift, orphans, samples; and what the journal is told of it.

use std::collections::HashSet;

use rusqlite::Connection;

use crate::base::names::ServerId;
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
use crate::queue::observe::{self, Cause, Told, Written};

use super::look::{Before, Seen};

/// What there is to tell of a server.
struct News {
    server: ServerId,
    changes: Vec<Change>,
    told: Vec<Told>,
}

/// Writes down what was seen, and tells what is new.
pub(super) fn seen(db: &mut Db, before: &Before, seen: &Seen) -> Result<()> {
    let (news, found, lost) = db.write(|tx| {
        // Again: a job may have come since the rows were read.
        let in_jobs = observations::in_jobs(tx)?;
        let mut news = Vec::new();
        for watched in before.watched.iter().filter(|watched| !in_jobs.contains(&watched.id)) {
            news.extend(server(tx, watched, &seen.of(watched.id), before)?);
        }
        let ids = servers::all_ids(tx)?.into_iter().collect();
        let (found, lost) = write_orphans(tx, &before.orphans, seen.orphans(&ids), seen.at.now)?;
        poll::finished(tx, seen.at.now, None)?;
        Ok((news, found, lost))
    })?;
    news.iter().for_each(tell);
    for orphan in found {
        tracing::warn!("{}", orphan.words());
    }
    for orphan in lost {
        tracing::info!("{} is gone or has its server", orphan.unit());
    }
    if before.last.error.is_some() {
        tracing::info!("systemd can be asked again");
    }
    Ok(())
}

/// Nobody can tell what servers are: that is what their rows say, and never that they are stopped.
pub(super) fn unreadable(db: &mut Db, before: &Before, error: &Error) -> Result<()> {
    let now = crate::base::clock::now_ms();
    db.write(|tx| {
        let in_jobs = observations::in_jobs(tx)?;
        let ids: Vec<ServerId> =
            before.watched.iter().map(|watched| watched.id).filter(|id| !in_jobs.contains(id)).collect();
        observations::forget(tx, &ids, now)?;
        poll::finished(tx, now, Some(&error.to_string()))
    })
}

/// One server's row.
fn server(tx: &Connection, watched: &Watched, observed: &Observed, before: &Before) -> Result<Option<News>> {
    let Written::Done(changes, after) = observe::record_over(tx, watched, observed, &Cause::Outside)? else {
        return Ok(None);
    };
    let id = watched.id;
    let told = observe::settle_drift(tx, &after, &Cause::Outside, observed.at.now)?;
    let at = observed.at.now;
    let unit = &observed.unit;
    if unit.actual() == ActualState::Running {
        let number = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
        let sample = Sample {
            at,
            memory_bytes: number(unit.memory_bytes),
            cpu_ns: number(unit.cpu_ns),
            restarts: unit.restarts,
        };
        samples::add(tx, id, &sample)?;
    } else if before.last.polled_at.is_none_or(|last| last / samples::COARSE != at / samples::COARSE) {
        samples::prune_idle(tx, id, at)?;
    }
    Ok((!changes.is_empty() || !told.is_empty()).then_some(News { server: id, changes, told }))
}

/// Gives those that are new and those that are gone.
fn write_orphans(
    tx: &Connection,
    before: &[Orphan],
    orphans: Vec<Orphan>,
    now: i64,
) -> Result<(Vec<Orphan>, Vec<Orphan>)> {
    let known: HashSet<&str> = before.iter().map(|orphan| orphan.instance.as_str()).collect();
    let still: HashSet<&str> = orphans.iter().map(|orphan| orphan.instance.as_str()).collect();
    let lost: Vec<Orphan> = before.iter().filter(|orphan| !still.contains(orphan.instance.as_str())).cloned().collect();
    for orphan in &lost {
        poll::remove_orphan(tx, &orphan.instance)?;
        orphan_event(tx, now, "server.drift_ended", &format!("{} is gone or has its server", orphan.unit()))?;
    }
    for orphan in &orphans {
        poll::set_orphan(tx, orphan)?;
        if !known.contains(orphan.instance.as_str()) {
            orphan_event(tx, now, "server.drifted", &orphan.words())?;
        }
    }
    let found = orphans.iter().filter(|orphan| !known.contains(orphan.instance.as_str())).cloned().collect();
    Ok((found, lost))
}

fn orphan_event(tx: &Connection, now: i64, kind: &str, detail: &str) -> Result<()> {
    events::add(tx, now, &NewEvent { kind, actor: OUTSIDE, detail, ..NewEvent::default() }).map(drop)
}

fn tell(news: &News) {
    let id = news.server;
    for change in &news.changes {
        let (server_id, what) = (id.0, change.kind().trim_start_matches("server."));
        if change.is_bad() {
            tracing::warn!(server_id, "server {id} {what}: {}", change.words());
        } else {
            tracing::info!(server_id, "server {id} {what}: {}", change.words());
        }
    }
    for told in &news.told {
        let server_id = id.0;
        match told {
            Told::Began(kind, why) => {
                let (mend, accept) = kind.remedies();
                tracing::warn!(
                    server_id,
                    "server {id} {why} (left4me does nothing about it: `left4me-job enqueue {mend} --server {id}` does; `{accept}` takes it as it is)"
                );
            }
            Told::Ended(kind) => tracing::info!(server_id, "server {id} is no longer {kind}: it is what it shall be"),
        }
    }
}
