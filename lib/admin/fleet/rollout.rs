//! What all verbs that begin a rollout share.

use std::time::Duration;

use clap::Args;

use super::super::{Context, hint};
use crate::base::fleet::Fleet;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, clock, output};
use crate::db::Db;
use crate::db::events::{self, NewEvent};
use crate::db::fleet::hosts::{self, Host};
use crate::db::fleet::{kept_blueprints, rollouts};
use crate::db::watch::Watch;
use crate::domain::duration;
use crate::domain::fleet::rollout::{Request, RolloutKind, RolloutState};
use crate::queue::fleet::seen_rollout::SeenRollout;
use crate::queue::wake;

#[derive(Args)]
pub(super) struct WaitArgs {
    /// Wait until it has ended; exit 0 if it succeeded, else 1
    #[arg(long)]
    wait: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// This host's part in the fleet.
///
/// Fails with 4 on a host that belongs to none; 77 on one that may not send orders.
pub(super) fn controller(context: &Context) -> Result<Fleet> {
    let fleet = member(context)?;
    match fleet.controls() {
        true => Ok(fleet),
        false => Err(Error::not_permitted(format!(
            "{} may not send orders: only a host with the role control may, which \
             `left4me fleet admit` gives",
            fleet.host
        ))),
    }
}

/// The same on a host that need not be a controller.
pub(super) fn member(context: &Context) -> Result<Fleet> {
    Fleet::read(&context.fleet.fleet_dir)?
        .ok_or_else(|| Error::conflict("this host belongs to no fleet: `left4me fleet join`"))
}

/// A host that can be sent orders.
///
/// Fails with 3 for an unknown one; 4 for one that was expelled.
pub(super) fn host(db: &Db, name: &FleetHost) -> Result<Host> {
    let host = hosts::find(db.connection(), name)?;
    match host.expelled_at {
        None => Ok(host),
        Some(at) => Err(Error::conflict(format!(
            "host {name} was expelled {}",
            clock::local(at)
        ))),
    }
}

/// A `NAME=VALUE` of `--label`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is needed, as in region=eu".to_owned()),
    }
}

/// A duration in ms.
pub(super) fn span(text: &str) -> Result<i64, String> {
    duration::parse(text)
        .filter(|ms| *ms <= 30 * 86_400_000)
        .ok_or_else(|| "a duration such as 90s, 30m or 2h, of at most 30 days".to_owned())
}

/// Writes the rollout down and wakes left4me-rollout, which drives it.
pub(super) fn begin(
    context: &Context,
    mut db: Db,
    (kind, request): (RolloutKind, &Request),
    wait: &WaitArgs,
) -> Result<()> {
    let id = Ulid::new(context.now);
    db.write(|tx| {
        if let Request::Moves(moves) = request {
            let others = rollouts::moved_by_others(tx, id)?;
            if let Some(one) = moves.moves.iter().find(|one| others.contains(&one.server)) {
                return Err(Error::conflict(format!(
                    "another rollout moves server '{}': `left4me fleet rollouts`",
                    one.name
                )));
            }
            for (server, blueprint) in &moves.blueprints {
                kept_blueprints::put(tx, *server, blueprint, context.now)?;
            }
        }
        rollouts::add(tx, id, kind, request, &context.actor, context.now)?;
        let detail = format!("{kind} {id}");
        let event = NewEvent::new("rollout.started", &context.actor, &detail);
        events::add(tx, context.now, &event)
    })?;
    // The rollout is on disk: without a driver it waits.
    if let Err(error) = wake(context) {
        hint(&error.to_string());
    }

    end(&db, id, wait, &id.to_string())
}

/// Waits for the end if that was asked for; else prints the rollout, or `line`.
pub(super) fn end(db: &Db, id: Ulid, wait: &WaitArgs, line: &str) -> Result<()> {
    match (wait.wait, wait.json) {
        (true, json) => follow(db, id, json),
        (false, true) => output::json(&seen(db, id)?),
        (false, false) => output::line(line),
    }
}

/// A rollout, as it is shown.
pub(super) fn seen(db: &Db, id: Ulid) -> Result<SeenRollout> {
    let rollout = rollouts::find(db.connection(), id)?;
    let hosts = hosts::all(db.connection())?;
    Ok(SeenRollout::of(rollout, &hosts, clock::now_ms()))
}

/// Wakes left4me-rollout. Its socket is beside that of left4me-link.
pub(super) fn wake(context: &Context) -> Result<()> {
    let socket = context.fleet.link_socket.with_file_name("rollout.sock");
    wake::rollout(&socket)
}

/// Waits for the end, and prints on standard error what it waits for.
///
/// Fails with 1 unless it succeeds.
pub(super) fn follow(db: &Db, id: Ulid, json: bool) -> Result<()> {
    let mut watch = Watch::new(db.path())?;
    let mut told = String::new();
    let seen = loop {
        let seen = seen(db, id)?;
        if seen.rollout.state.has_ended() {
            break seen;
        }
        let new = format!("{}: {}", seen.state(), seen.rollout.detail);
        if new != told {
            hint(&output::printable(&new));
            told = new;
        }
        watch.wait(Some(std::time::Instant::now() + Duration::from_secs(60)))?;
    };

    if json {
        output::json(&seen)?;
    }
    let rollout = seen.rollout;
    match rollout.state {
        RolloutState::Succeeded if json => Ok(()),
        RolloutState::Succeeded => output::line(&output::printable(&rollout.detail)),
        state => Err(Error::failed(format!(
            "{} {id} {state}: {}",
            rollout.kind, rollout.detail
        ))),
    }
}
