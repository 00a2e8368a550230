//! `left4me-job --host HOST`: the same verbs for another host of the fleet. What is asked for goes
//! there as an order; what is shown is what that host told last.

mod list;
mod logs;
mod show;
mod wait;

use std::process::ExitCode;
use std::str::FromStr;

use super::{Context, PROGRAM};
use crate::base::fleet::Fleet;
use crate::base::names::{BadName, FleetHost, JobId, ServerRef};
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, caller, clock, output};
use crate::db::fleet::orders_out::{self, OrderOut};
use crate::domain::duration;
use crate::domain::fleet::order::What;
use crate::queue::fleet::ask_for;
use crate::queue::fleet::send::{self, Draft};
use crate::queue::wake;

pub use list::list;
pub use logs::{Options as LogOptions, logs};
pub use show::{job, order};
pub use wait::wait;

/// A job by its number, or an order by its ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOrOrder {
    Job(JobId),
    Order(Ulid),
}

impl FromStr for JobOrOrder {
    type Err = BadName;

    fn from_str(text: &str) -> std::result::Result<Self, BadName> {
        match text.parse() {
            Ok(order) => Ok(Self::Order(order)),
            Err(_) => text.parse().map(Self::Job),
        }
    }
}

/// How an order is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// For how long it is good, in ms.
    pub good_for: Option<i64>,
    pub reason: &'a str,
    pub wait: bool,
    pub json: bool,
}

/// Parses `--good-for`.
pub fn good_for(text: &str) -> std::result::Result<i64, BadName> {
    duration::parse(text)
        .filter(|ms| (1..=send::LONGEST).contains(ms))
        .ok_or_else(|| {
            BadName::new(
                "a duration such as 30m, 2h or 1d is needed, of at most 29 days".to_owned(),
            )
        })
}

/// The servers of another host, by their ULIDs.
///
/// Fails with 3 for one that the host has not told of.
pub fn servers(context: &Context, host: &FleetHost, asked: &[ServerRef]) -> Result<Vec<Ulid>> {
    ask_for::servers(context.db.connection(), host, asked)
}

/// Sends an order, prints its id, and waits for its end on request.
pub fn send(
    context: &mut Context,
    host: &FleetHost,
    what: What,
    options: Options<'_>,
) -> Result<ExitCode> {
    let fleet = ask_for::controller(&context.fleet.fleet_dir)?;
    ask_for::check_host(context.db.connection(), host)?;
    let draft = Draft {
        id: None,
        to: host,
        what,
        by: &caller::caller(),
        here: &fleet.host,
        reason: options.reason,
        good_for: options.good_for,
        rollout: None,
    };
    let id = send::send(&mut context.db, &draft, clock::now_ms())?;
    wake::link(&context.fleet.link_socket);

    let order = get(context, id)?;
    if options.json {
        output::json(&order)?;
    } else {
        output::line(&id.to_string())?;
    }
    if options.wait {
        return wait(context, id);
    }
    say(context, &order)?;
    Ok(ExitCode::SUCCESS)
}

/// Says on standard error where the order is.
fn say(context: &Context, order: &OrderOut) -> Result<()> {
    let way = ask_for::way(context.db.connection(), order, clock::now_ms())?;
    eprintln!("{PROGRAM}: order {}: {}", order.id, output::printable(&way));
    Ok(())
}

/// An order that was sent from here.
///
/// Fails with 3 for one that was not.
pub fn get(context: &Context, id: Ulid) -> Result<OrderOut> {
    orders_out::get(context.db.connection(), id)?.ok_or_else(|| {
        Error::not_found(format!(
            "order {id} was not sent from here; `left4me fleet orders` lists those that were"
        ))
    })
}

/// The other host that `--host` names. None for this host itself.
///
/// Fails with 4 where this host belongs to no fleet.
pub fn other_host(
    fleet_dir: &std::path::Path,
    host: Option<FleetHost>,
) -> Result<Option<FleetHost>> {
    let Some(host) = host else {
        return Ok(None);
    };
    let Fleet { host: here, .. } = ask_for::member(fleet_dir)?;
    Ok((here != host).then_some(host))
}

/// Refuses an option that only concerns this host.
pub fn refuse(is_given: bool, option: &str, instead: &str) -> Result<()> {
    match is_given {
        false => Ok(()),
        true => Err(Error::usage(format!(
            "{option} does not go with --host: {instead}"
        ))),
    }
}
