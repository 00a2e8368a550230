//! `set-timers`: makes the timers of schedules.

use super::manager::timers::with_systemd;
use crate::base::names::ScheduleId;
use crate::base::{Error, Result};
use crate::process::{Outcome, Supervisor};
use crate::wire::Stream;
use crate::wire::timers::{Timer, TimerFailure};

/// Makes each timer; one that cannot be made does not keep the others from it.
///
/// The exit code is 1 if any cannot be made; each of these is a line of JSON in the output.
pub(super) fn run(supervisor: &mut Supervisor, timers: &[Timer]) -> Result<Outcome> {
    for timer in timers {
        is_id(timer.schedule)?;
    }

    let failed = with_systemd(async |systemd| {
        let mut failed = Vec::new();
        for timer in timers {
            if let Err(failure) = systemd.set(timer).await {
                failed.push(TimerFailure {
                    schedule: timer.schedule,
                    why: failure.message,
                });
            }
        }
        Ok(failed)
    })?;
    for failure in &failed {
        let line = serde_json::to_string(failure)
            .map_err(|error| Error::failed(format!("schedule {}: {error}", failure.schedule)))?;
        supervisor.write_line(Stream::Stdout, &line);
    }
    Ok(Outcome::exit(i32::from(!failed.is_empty())))
}

/// A number in JSON may be one that no row has.
///
/// Fails with 2 for such a number.
pub(super) fn is_id(schedule: ScheduleId) -> Result<()> {
    schedule.to_string().parse::<ScheduleId>()?;
    Ok(())
}
