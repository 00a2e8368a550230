//! The timers of schedules: transient units, whose files PID 1 writes below /run/systemd/transient.
//! They stay across a reload of systemd and are gone after a boot, or once they are stopped.

use std::time::Duration;

use zbus::{OwnedVariant, Variant};
use zruntime::SharedRuntime;

use super::{Bus, Done, Systemd, SystemdFailure};
use crate::base::Error;
use crate::base::names::{ScheduleId, schedule_timer, timer_schedule};
use crate::base::systemd::{ListedUnit, TIMER};
use crate::wire::timers::{Timer, TimerState};

/// How long PID 1 may take for a request. While it reloads, it answers nobody.
const PATIENCE: Duration = Duration::from_secs(60);

/// A unit that was stopped is there for a moment longer: so often, and in these intervals, its name
/// is tried again.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// How exact the timers are. systemd's default is a minute.
const ACCURACY_US: u64 = 1_000_000;

/// Runs `work` with a connection to PID 1.
///
/// Fails with 69 if PID 1 does not answer.
pub(in crate::helper) fn with_systemd<T>(
    work: impl AsyncFnOnce(&Timers) -> Done<T>,
) -> Result<T, Error> {
    let end = zruntime::block_on(async {
        let runtime = SharedRuntime::current().map_err(|error| SystemdFailure::of(69, error))?;
        let done = async {
            let systemd = Systemd::connect(&runtime).await?;
            work(&Timers(systemd)).await
        };
        match runtime.timeout(PATIENCE, done).await {
            Ok(end) => end,
            Err(_) => Err(SystemdFailure::of(69, "systemd does not answer")),
        }
    });
    end.map_err(|failure| match failure.code {
        69 => Error::unavailable(failure.message),
        _ => Error::failed(failure.message),
    })
}

/// PID 1, for requests about timers.
pub(in crate::helper) struct Timers(Systemd);

impl Timers {
    /// The timers that systemd has loaded.
    pub(in crate::helper) async fn list(&self) -> Done<Vec<TimerState>> {
        let bus = &self.0.bus;
        let body = (Vec::<&str>::new(), vec!["left4me-schedule@*.timer"]);
        let reply = bus.call("ListUnitsByPatterns", &body).await?;
        let units: Vec<ListedUnit> = reply
            .body()
            .deserialize()
            .map_err(|error| SystemdFailure::of(1, error))?;

        let mut timers = Vec::new();
        for unit in units {
            let (name, active) = (unit.0, unit.3);
            if let Some(schedule) = timer_schedule(&name) {
                timers.push(state(bus, schedule, &name, active == "active").await?);
            }
        }
        timers.sort_unstable_by_key(|timer| timer.schedule);
        Ok(timers)
    }

    /// Makes the timer, in the place of another one of that name, and starts it.
    pub(in crate::helper) async fn set(&self, timer: &Timer) -> Done {
        self.remove(timer.schedule).await?;

        let (unit, properties) = (schedule_timer(timer.schedule), properties(timer));
        let others: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let body = (unit.as_str(), "replace", properties, others);
        let mut tries = 0;
        let reply = loop {
            match self.0.bus.call("StartTransientUnit", &body).await {
                Err(failure) if failure.exists() && tries < TRIES => tries += 1,
                end => break end?,
            }
            self.0.bus.runtime.sleep(PAUSE).await;
        };
        self.0.end_of(&reply, "start", &unit).await
    }

    /// Stops the timer, with which it is gone. One that is not there is no error.
    pub(in crate::helper) async fn remove(&self, schedule: ScheduleId) -> Done {
        let unit = schedule_timer(schedule);
        self.0.job("StopUnit", &unit).await?;
        self.0.forget_failure(&unit).await;
        Ok(())
    }
}

async fn state(bus: &Bus, schedule: ScheduleId, unit: &str, active: bool) -> Done<TimerState> {
    let get = async |property| -> Done<OwnedVariant> {
        let value = bus.ask(unit, TIMER, property).await;
        let value = value.map_err(|error| SystemdFailure::of(1, error))?;
        value.map_err(|error| SystemdFailure::from(&error))
    };

    let calendars = get("TimersCalendar").await?;
    let calendars = Vec::<(String, String, u64)>::try_from(calendars).unwrap_or_default();
    let persistent = bool::try_from(get("Persistent").await?).unwrap_or(false);
    let next = u64::try_from(get("NextElapseUSecRealtime").await?).unwrap_or(0);
    Ok(TimerState {
        schedule,
        active,
        // A second one, of a drop-in, makes it another timer than was asked for.
        calendar: calendars
            .iter()
            .map(|(_, calendar, _)| calendar.as_str())
            .collect::<Vec<_>>()
            .join("; "),
        persistent,
        next_at: next_at(next),
    })
}

/// systemd has 0 or the greatest number for never.
fn next_at(us: u64) -> Option<i64> {
    let ms = i64::try_from(us / 1000).ok()?;
    (us != 0 && us != u64::MAX).then_some(ms)
}

fn properties(timer: &Timer) -> Vec<(&'static str, Variant<'static>)> {
    let description = format!("left4me schedule {}", timer.schedule);
    let calendars = vec![("OnCalendar".to_owned(), timer.on_calendar())];
    vec![
        ("Description", Variant::from(description)),
        ("TimersCalendar", Variant::from(calendars)),
        ("Persistent", Variant::from(timer.persistent)),
        ("AccuracyUSec", Variant::from(ACCURACY_US)),
        // With left4me.target they stop, and left4me-schedules.service, which it starts, makes them
        // again.
        ("PartOf", Variant::from(vec!["left4me.target".to_owned()])),
        (
            "CollectMode",
            Variant::from("inactive-or-failed".to_owned()),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_never_elapses_again_has_no_next_time() {
        assert_eq!(next_at(0), None);
        assert_eq!(next_at(u64::MAX), None);
        assert_eq!(next_at(1_795_176_000_000_000), Some(1_795_176_000_000));
    }
}
