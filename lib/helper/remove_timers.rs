//! `remove-timers`: removes the timers of schedules.

use super::manager::timers::with_systemd;
use super::set_timers::is_id;
use crate::base::Result;
use crate::base::names::ScheduleId;
use crate::process::{Outcome, Supervisor};

/// Removes each timer. One that is not there is no error.
pub(super) fn run(_: &mut Supervisor, schedules: &[ScheduleId]) -> Result<Outcome> {
    for &schedule in schedules {
        is_id(schedule)?;
    }

    with_systemd(async |systemd| {
        for &schedule in schedules {
            systemd.remove(schedule).await?;
        }
        Ok(())
    })?;
    Ok(Outcome::exit(0))
}
