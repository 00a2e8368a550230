//! `left4me fleet rollouts` and `abort`.

use clap::Args;
use rusqlite::Connection;

use super::super::{Context, facts, hint, print_list, when};
use super::rollout;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, output};
use crate::db::events::{self, NewEvent};
use crate::db::fleet::rollouts;
use crate::domain::fleet::rollout::RolloutKind;
use crate::queue::fleet::seen_rollout::{self, SeenRollout};

/// How many are listed.
const SHOWN: u32 = 50;

#[derive(Args)]
pub(in crate::admin) struct RolloutsArgs {
    /// Show this one, with each server or host
    id: Option<Ulid>,
    /// Wait until it has ended; exit 0 if it succeeded, else 1
    #[arg(long, requires = "id")]
    wait: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(in crate::admin) struct AbortArgs {
    /// The rollout's id
    id: Ulid,
}

pub(super) fn run(context: &Context, args: &RolloutsArgs) -> Result<()> {
    let db = context.db()?;
    match args.id {
        Some(id) if args.wait => rollout::follow(&db, id, args.json),
        Some(id) => show(&rollout::seen(&db, id)?, args.json),
        None => {
            super::say_if_away(context, &db)?;
            print_list(
                &seen_rollout::newest(db.connection(), super::first(SHOWN), context.now)?,
                args.json,
                "no rollout is known: `left4me fleet place`, `move`, `drain`, `update` begin one",
                ["ID", "WHAT", "STATE", "DRIVEN BY", "BY", "BEGAN", "DETAIL"],
                &["BEGAN"],
                |seen| {
                    let one = &seen.rollout;
                    [
                        one.id.to_string(),
                        one.kind.to_string(),
                        seen.state(),
                        seen.driver_text(),
                        one.requested_by.clone(),
                        when(Some(one.created_at)),
                        one.detail.clone(),
                    ]
                },
            )
        }
    }
}

fn show(seen: &SeenRollout, json: bool) -> Result<()> {
    if json {
        return output::json(seen);
    }
    let one = &seen.rollout;
    let mut shown = vec![
        ("id", one.id.to_string()),
        ("what", one.kind.to_string()),
        ("state", seen.state()),
        ("driven by", seen.driver_text()),
        ("by", one.requested_by.clone()),
        ("began", when(Some(one.created_at))),
        ("ended", when(one.ended_at)),
        ("detail", one.detail.clone()),
    ];
    for server in &one.progress.moves {
        let from = server.from.as_ref().map(|host| format!("from {host} "));
        let to = server.to.as_ref().map(|host| format!("to {host}: "));
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        let why = match server.why.as_str() {
            "" => String::new(),
            why => format!(", {why}"),
        };
        shown.push((
            "server",
            format!("'{}' {from}{to}{}{why}", server.name, server.step),
        ));
    }
    for (name, host) in one.progress.update.iter().flat_map(|update| &update.hosts) {
        let why = match host.why.as_str() {
            "" => host.fate.to_string(),
            why => why.to_owned(),
        };
        shown.push(("host", format!("{name}: {why}")));
    }
    facts(&shown)
}

/// Begins nothing more. What has begun comes to its end, which the rollout tells.
pub(super) fn abort(context: &Context, args: &AbortArgs) -> Result<()> {
    let mut db = context.db()?;
    let kind = db.write(|tx| abort_in(tx, context, args.id))?;
    if let Err(error) = rollout::wake(context) {
        hint(&error.to_string());
    }
    output::line(&format!(
        "{kind} {} begins nothing more; `left4me fleet rollouts {} --wait` waits for its end",
        args.id, args.id
    ))
}

/// Gives the kind of the rollout. It may be taken over, or end, at any moment: so this is one transaction.
fn abort_in(tx: &Connection, context: &Context, id: Ulid) -> Result<RolloutKind> {
    let rollout = rollouts::find(tx, id)?;
    let kind = rollout.kind;
    if let Some(driver) = rollout.driver.filter(|_| !rollout.state.has_ended()) {
        return Err(Error::conflict(format!(
            "{driver} drives {kind} {id}: abort it there, or take it over first with `left4me fleet take-over {id}`"
        )));
    }
    if rollout.taken_from.is_some() {
        return Err(Error::conflict(format!(
            "{kind} {id} is not driven here yet: the engine does not have the take-over"
        )));
    }
    if rollouts::abort(tx, id, context.now)? {
        let detail = format!("{kind} {id}");
        let event = NewEvent::new("rollout.aborting", &context.actor, &detail);
        events::add(tx, context.now, &event)?;
    } else if rollout.state.has_ended() {
        return Err(Error::conflict(format!(
            "{kind} {id} has ended: it {}",
            rollout.state
        )));
    }
    Ok(kind)
}
