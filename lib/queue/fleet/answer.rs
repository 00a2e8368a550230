//! What other hosts ask at once, and people on them: a job, its log, events that they have missed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::outbox;
use crate::base::names::{FleetHost, JobId};
use crate::base::{Error, Result};
use crate::db::fleet::{events_out, hosts};
use crate::db::logs::Line;
use crate::db::{Db, jobs, logs};
use crate::domain::fleet::event::FleetEvent;
use crate::domain::fleet::question::Question;

/// The most lines of a log in one answer, and about the most bytes: sealing makes a third more of them.
const LINES: u32 = 1000;
const BYTES: usize = 300 * 1024;

/// The most events in one answer.
const EVENTS: usize = 500;

/// A part of a job's log.
#[derive(Serialize)]
struct LogPart {
    lines: Vec<Line>,
    /// Whether the job has ended, and these are its last lines.
    is_end: bool,
}

/// A part of the events.
#[derive(Serialize, Deserialize)]
pub struct EventPart {
    pub events: Vec<FleetEvent>,
    /// The newest event here.
    pub newest: i64,
}

/// Answers a host that is told about others.
///
/// Fails with 77 for another host; 3 for an unknown job.
pub fn answer(
    db: &mut Db,
    here: &FleetHost,
    from: &FleetHost,
    question: &Question,
) -> Result<Value> {
    let asker = hosts::get(db.connection(), from.as_str())?;
    let may_ask = asker.is_some_and(|host| host.expelled_at.is_none() && host.views());
    if !may_ask {
        return Err(Error::not_permitted(format!(
            "host {from} may not ask {here}: it has not the role view"
        )));
    }

    let value = match *question {
        Question::Job { job } => serde_json::to_value(jobs::get(db.connection(), job_id(job)?)?),
        Question::Log { job, after } => serde_json::to_value(log(db, job_id(job)?, after)?),
        Question::Events { after } => serde_json::to_value(events(db, here, after)?),
    };
    value.map_err(|error| Error::failed(format!("the answer: {error}")))
}

fn job_id(number: i64) -> Result<JobId> {
    Ok(number.to_string().parse()?)
}

fn log(db: &mut Db, job: JobId, after: i64) -> Result<LogPart> {
    db.read(|tx| {
        let (state, _) = jobs::state(tx, job)?;
        let lines = logs::page(tx, job, after, LINES, BYTES)?;
        let last = lines.last().map_or(after, |line| line.seq);
        Ok(LogPart {
            is_end: state.is_terminal() && last >= logs::last_seq(tx, job)?,
            lines,
        })
    })
}

fn events(db: &mut Db, here: &FleetHost, after: i64) -> Result<EventPart> {
    db.read(|tx| {
        let mut events = Vec::new();
        let mut bytes = 0;
        for event in events_out::after(tx, after, EVENTS)? {
            let event = outbox::event(here, event);
            bytes += event.detail.len() + 256;
            if bytes > BYTES {
                break;
            }
            events.push(event);
        }
        Ok(EventPart {
            events,
            newest: events_out::newest(tx)?,
        })
    })
}
