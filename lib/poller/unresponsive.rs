//! Servers whose game no longer answers: makes sure that they do not load a map, reports them, and
//! restarts those that have the setting. It runs after everything else that a poll does, because it
//! asks a helper.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::base::names::{InstanceName, ServerId, ServerRef};
use crate::base::{Result, clock};
use crate::db::game::{self, ToRestart};
use crate::db::{Db, observations};
use crate::domain::game::{may_restart, no_map_load};
use crate::domain::operation::Operation;
use crate::host::units;
use crate::queue::enqueue::{Accepted, JobRequest, Requester, Targets, enqueue_in};
use crate::queue::observe::{self, StateReport};
use crate::wire::JournalEntry;

/// Who requests the restarts.
const POLLER: &str = "left4me-poller";

/// How many journal entries are read. A game prints a dozen lines for each map load; one that
/// hangs prints nothing.
const ENTRIES: u32 = 400;

/// How much time one poll spends on this. What is left, the next poll does.
const BUDGET: Duration = Duration::from_secs(1);

/// A helper that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Judges the servers that have been silent for long, and enqueues restarts.
pub(super) fn handle(db: &mut Db, silent: &[ServerId], helper: &Path) -> Result<()> {
    judge(db, silent, |server| {
        units::last_entries(helper, &InstanceName::from(server), ENTRIES, TIMEOUT)
    })?;
    restart(db, clock::now_ms()).map(drop)
}

/// Judges those whose journal rules out a map load.
fn judge(
    db: &mut Db,
    silent: &[ServerId],
    journal: impl Fn(ServerId) -> Result<Vec<JournalEntry>>,
) -> Result<()> {
    let begun = Instant::now();
    for &server in silent {
        if begun.elapsed() > BUDGET {
            break;
        }
        if game::is_unresponsive(db.connection(), server)? {
            continue;
        }

        let entries = match journal(server) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(
                    server_id = server.0,
                    "whether server {server} loads a map is not known: {error}"
                );
                break;
            }
        };

        let now = clock::now_ms();
        let lines = entries.iter().map(|entry| (entry.at, entry.line.as_str()));
        if no_map_load(lines, ENTRIES as usize, now) {
            let report = db.write(|tx| observe::judge_silent(tx, server, now))?;
            report.iter().for_each(StateReport::log);
        }
    }

    Ok(())
}

/// Enqueues a restart of each unresponsive server that has the setting, at most once an hour each.
/// True if a job was enqueued.
fn restart(db: &mut Db, now: i64) -> Result<bool> {
    let mut has_enqueued = false;
    for ToRestart { id, .. } in game::to_restart(db.connection())? {
        // Nothing is written, and waited for, for nothing: a server stays unresponsive for long.
        if !may_restart(game::last_restart(db.connection(), id, POLLER)?, now) {
            continue;
        }
        match db.write(|tx| restart_one(tx, id, now)) {
            Ok(None) => {}
            Ok(Some((accepted, reason))) => {
                has_enqueued |= accepted.added;
                tracing::warn!(
                    server_id = id.0,
                    job_id = accepted.job_id.0,
                    "job {} restarts server {id}: {reason}",
                    accepted.job_id
                );
            }
            Err(error) => tracing::warn!(
                server_id = id.0,
                "server {id} is not restarted although it does not answer: {error}"
            ),
        }
    }

    Ok(has_enqueued)
}

/// Enqueues the restart of one server, and gives its reason. None if it is not to be restarted any
/// more: it may have been stopped a moment ago.
fn restart_one(tx: &Connection, id: ServerId, now: i64) -> Result<Option<(Accepted, String)>> {
    let mut to_restart = game::to_restart(tx)?.into_iter();
    let Some(ToRestart { why, .. }) = to_restart.find(|server| server.id == id) else {
        return Ok(None);
    };
    let last = game::last_restart(tx, id, POLLER)?;
    if !may_restart(last, now) || observations::active_job(tx, id)?.is_some() {
        return Ok(None);
    }

    let reason = format!("its game does not answer: {why}");
    let requester = Requester {
        reason: &reason,
        ..Requester::local(POLLER)
    };
    let targets = Targets::Named(vec![ServerRef::Id(id)]);
    let request = JobRequest {
        unique: true,
        ..JobRequest::new(Operation::Restart, targets, requester)
    };
    let accepted = enqueue_in(tx, &request, now)?;
    Ok(Some((accepted, reason)))
}

#[cfg(test)]
mod tests;
