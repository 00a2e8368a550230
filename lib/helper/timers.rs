//! `timers`: the timers of schedules that systemd has.

use super::manager::timers::with_systemd;
use crate::base::{Error, Result};
use crate::process::{Outcome, Supervisor};
use crate::wire::Stream;

/// Writes one line of JSON for each timer.
pub(super) fn run(supervisor: &mut Supervisor) -> Result<Outcome> {
    for timer in with_systemd(async |systemd| systemd.list().await)? {
        let line = serde_json::to_string(&timer)
            .map_err(|error| Error::failed(format!("timer {}: {error}", timer.schedule)))?;
        supervisor.write_line(Stream::Stdout, &line);
    }
    Ok(Outcome::exit(0))
}
