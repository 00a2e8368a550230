//! A job of another host, and an order from here.

use std::process::ExitCode;

use serde::Serialize;

use super::get;
use crate::base::names::{FleetHost, JobId};
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, clock, output};
use crate::cli::Context;
use crate::db::fleet::jobs;
use crate::db::fleet::orders_out::OrderOut;
use crate::queue::fleet::ask_for;
use crate::queue::fleet::seen::{SeenJob, all_hosts};

/// An order, and where it is.
#[derive(Serialize)]
struct FullOrder {
    #[serde(flatten)]
    order: OrderOut,
    /// In words.
    whereabouts: String,
}

/// Prints a job of `host`, as that host told it last.
///
/// Fails with 3 if it has told of no such job.
pub fn job(context: &Context, host: &FleetHost, id: JobId, json: bool) -> Result<ExitCode> {
    let connection = context.db.connection();
    ask_for::check_host(connection, host)?;
    let job = jobs::get(connection, host.as_str(), id.0)?.ok_or_else(|| {
        Error::not_found(format!(
            "{host} has told of no job {id}; `left4me-job --host {host} list` lists those that it \
             has told of"
        ))
    })?;
    let seen = SeenJob::of(job, &all_hosts(connection, clock::now_ms())?);
    if json {
        output::json(&seen)?;
        return Ok(ExitCode::SUCCESS);
    }

    let state = seen.state();
    let job = seen.job;
    let order = job.order.map(|order| order.to_string());
    let lines = [
        ("job", format!("{} on {}", job.job, job.host)),
        ("operation", job.operation),
        ("state", state),
        ("changed", clock::local(job.updated_at)),
        ("order", order.unwrap_or_default()),
        ("detail", job.detail),
    ];
    print(&lines)
}

/// Prints an order that was sent from here.
///
/// Fails with 3 if it was not.
pub fn order(context: &Context, id: Ulid, json: bool) -> Result<ExitCode> {
    let order = get(context, id)?;
    let whereabouts = ask_for::way(context.db.connection(), &order, clock::now_ms())?;
    if json {
        output::json(&FullOrder { order, whereabouts })?;
        return Ok(ExitCode::SUCCESS);
    }

    let time = |at: Option<i64>| at.map(clock::local).unwrap_or_default();
    let lines = [
        ("order", order.id.to_string()),
        ("to", order.to_host),
        ("what", order.summary),
        ("by", order.requested_by),
        ("reason", order.reason),
        ("state", format!("{}: {whereabouts}", order.state)),
        ("attempt", order.attempt.to_string()),
        ("made", time(Some(order.created_at))),
        ("sent", time(order.sent_at)),
        ("good until", time(Some(order.not_after))),
        ("ended", time(order.settled_at)),
    ];
    print(&lines)
}

/// Prints what is known, a line each.
fn print(lines: &[(&str, String)]) -> Result<ExitCode> {
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        output::line(&format!("{name:<12} {}", output::printable(value)))?;
    }
    Ok(ExitCode::SUCCESS)
}
