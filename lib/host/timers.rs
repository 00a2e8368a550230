//! The timers of schedules, through the helper.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::base::{Error, Result};
use crate::wire::client::{Connection, Output};
use crate::wire::timers::{TimerFailure, TimerState};
use crate::wire::{HelperRequest, Stream};

/// The timers that systemd has.
pub fn list(helper: &Path, limit: Duration) -> Result<Vec<TimerState>> {
    let (timers, exit) = ask(helper, &HelperRequest::Timers {}, limit)?;
    match exit {
        0 => Ok(timers),
        _ => Err(failed("timers", exit)),
    }
}

/// Makes or removes timers. Gives those with which that failed.
pub fn change(
    helper: &Path,
    request: &HelperRequest,
    limit: Duration,
) -> Result<Vec<TimerFailure>> {
    let (failures, exit) = ask(helper, request, limit)?;
    match exit {
        0 => Ok(Vec::new()),
        1 if !failures.is_empty() => Ok(failures),
        _ => Err(failed(request.verb(), exit)),
    }
}

fn failed(verb: &str, exit: i32) -> Error {
    Error::unavailable(format!("the helper's {verb} failed with exit code {exit}"))
}

/// The lines of the reply that are such documents, and the exit code.
fn ask<T: DeserializeOwned>(
    helper: &Path,
    request: &HelperRequest,
    limit: Duration,
) -> Result<(Vec<T>, i32)> {
    let mut connection = Connection::open(helper, request)?;
    connection.set_deadline(Instant::now() + limit);

    let mut found = Vec::new();
    let end = connection.run(|output| {
        if let Output::Lines(lines) = output {
            let documents = lines.iter().filter(|(stream, _)| *stream == Stream::Stdout);
            found.extend(documents.filter_map(|(_, line)| serde_json::from_str(line).ok()));
        }
        Ok(())
    })?;
    match end.refused {
        Some(why) => Err(Error::unavailable(format!("the helper: {why}"))),
        None => Ok((found, end.exit)),
    }
}
