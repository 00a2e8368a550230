//! An order for a job.

use std::str::FromStr;

use rusqlite::Connection;

use super::Performed;
use crate::base::names::{BadName, ServerRef};
use crate::base::{Error, Result, clock};
use crate::db::fleet::ulids;
use crate::domain::condition::{Condition, ConditionRequest};
use crate::domain::fleet::order::{Enqueue, Order, OrderedCondition};
use crate::domain::operation::Operation;
use crate::queue::enqueue::{JobRequest, Requester, Targets, enqueue_in};

/// Accepts the job, as `left4me-job enqueue` does.
pub(super) fn enqueue(
    tx: &Connection,
    order: &Order,
    asked: &Enqueue,
    now: i64,
) -> Result<Performed> {
    let operation: Operation = asked.operation.parse()?;
    let targets = match (asked.all, asked.servers.is_empty()) {
        (true, true) => Targets::All,
        (true, false) => return Err(Error::usage("either servers or all of them, not both")),
        (false, true) => Targets::None,
        (false, false) => {
            let servers = ulids::find_all(tx, &asked.servers)?;
            Targets::Named(servers.into_iter().map(ServerRef::Id).collect())
        }
    };

    let requester = Requester {
        reason: &asked.reason,
        ..Requester::local(&order.from)
    };
    let request = JobRequest {
        unique: asked.unique,
        rolling: asked.rolling,
        update: asked.update.clone(),
        condition: condition(operation, asked.condition.as_ref(), now)?,
        ..JobRequest::new(operation, targets, requester)
    };
    Ok(Performed::Job(enqueue_in(tx, &request, now)?.job_id))
}

/// The condition, as this host's clock and time zone have it.
fn condition(
    operation: Operation,
    asked: Option<&OrderedCondition>,
    now: i64,
) -> Result<Option<Condition>> {
    let Some(asked) = asked else {
        return Ok(None);
    };
    let request = ConditionRequest {
        when_empty: asked.when_empty,
        until: parse(asked.until.as_deref())?,
        then: parse(asked.then.as_deref())?,
        warn: parse(asked.warn.as_deref())?,
    };
    Ok(request.resolve(operation, now, &clock::zone(), str::to_owned)?)
}

fn parse<T: FromStr<Err = BadName>>(text: Option<&str>) -> Result<Option<T>> {
    Ok(text.map(str::parse).transpose()?)
}
