//! Makes systemd's timers equal to the schedules, through the helper. The rows count: a timer
//! without one is removed, and one that differs is replaced.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::super::Context;
use crate::base::names::{BadName, ScheduleId};
use crate::base::{Result, notify};
use crate::db::Db;
use crate::db::schedules::{self, Schedule};
use crate::domain::calendar::ZoneName;
use crate::host;
use crate::wire::timers::{self, Timer, TimerState};

/// How long the helper may take for one request. systemd answers nobody while it reloads.
const TIMEOUT: Duration = Duration::from_secs(90);

pub(super) fn run(context: &Context) -> Result<()> {
    // Before the rows are read: what is changed later starts this once more.
    if let Some(socket) = notify::passed_socket() {
        drain(socket)?;
    }

    let mut db = context.db()?;
    let rows = schedules::all(db.connection())?;
    let helper = &context.sockets.helper_socket;
    let before = host::timers::list(helper, TIMEOUT)?;

    let plan = plan(&rows, &before);
    let mut failed = plan.invalid.clone();
    let requests = timers::remove(&plan.remove).into_iter();
    for request in requests.chain(timers::set(&plan.set)) {
        let failures = host::timers::change(helper, &request, TIMEOUT)?;
        failed.extend(failures.into_iter().map(|one| (one.schedule, one.why)));
    }

    // Of the timers that stay, all is known.
    let after = match plan.set.is_empty() {
        true => before,
        false => host::timers::list(helper, TIMEOUT)?,
    };
    record(&mut db, &rows, &after, &failed)?;
    tracing::info!(
        "{} schedules: {} timers made, {} removed, {} not possible",
        rows.len(),
        plan.set.len(),
        plan.remove.len(),
        failed.len()
    );
    for (schedule, why) in failed {
        tracing::warn!("schedule {schedule} has no timer: {why}");
    }
    Ok(())
}

/// Reads what waits in the socket: systemd would start this again and again for it.
fn drain(socket: OwnedFd) -> Result<()> {
    let socket = UnixDatagram::from(socket);
    socket.set_nonblocking(true)?;
    while socket.recv(&mut [0; 16]).is_ok() {}
    Ok(())
}

/// What has to be done.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    set: Vec<Timer>,
    remove: Vec<ScheduleId>,
    /// Rows of which no timer can be made, and why.
    invalid: HashMap<ScheduleId, String>,
}

fn plan(rows: &[Schedule], timers: &[TimerState]) -> Plan {
    let mut plan = Plan::default();
    let mut kept = HashSet::new();
    for row in rows.iter().filter(|row| !row.paused) {
        match timer(row) {
            Ok(timer) => {
                kept.insert(row.id);
                let is_there = timers
                    .iter()
                    .any(|state| state.schedule == row.id && state.is(&timer));
                plan.set.extend((!is_there).then_some(timer));
            }
            Err(error) => drop(plan.invalid.insert(row.id, error.to_string())),
        }
    }

    let others = timers.iter().map(|state| state.schedule);
    plan.remove = others.filter(|id| !kept.contains(id)).collect();
    plan
}

/// The timer of a row. The zone may be gone from this host since.
fn timer(row: &Schedule) -> Result<Timer, BadName> {
    Ok(Timer {
        schedule: row.id,
        calendar: row.on.parse()?,
        zone: row
            .zone
            .as_deref()
            .map(str::parse::<ZoneName>)
            .transpose()?,
        persistent: row.persistent,
    })
}

/// Records when each timer elapses, or why there is none.
fn record(
    db: &mut Db,
    rows: &[Schedule],
    timers: &[TimerState],
    failed: &HashMap<ScheduleId, String>,
) -> Result<()> {
    let timers: HashMap<ScheduleId, &TimerState> =
        timers.iter().map(|state| (state.schedule, state)).collect();
    db.write(|tx| {
        for row in rows.iter().filter(|row| !row.paused) {
            let next_at = timers.get(&row.id).and_then(|state| state.next_at);
            let error = failed.get(&row.id).map(String::as_str);
            schedules::record_timer(tx, row.id, next_at, error)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, zone: Option<&str>) -> Schedule {
        Schedule {
            zone: zone.map(str::to_owned),
            ..Schedule::sample(id)
        }
    }

    fn state(id: i64, calendar: &str) -> TimerState {
        TimerState {
            schedule: ScheduleId(id),
            active: true,
            calendar: calendar.to_owned(),
            persistent: false,
            next_at: Some(7),
        }
    }

    fn ids(plan: &Plan) -> (Vec<i64>, Vec<i64>) {
        let set = plan.set.iter().map(|timer| timer.schedule.0).collect();
        (set, plan.remove.iter().map(|id| id.0).collect())
    }

    #[test]
    fn what_is_missing_or_differs_is_made_and_what_has_no_row_is_removed() {
        let paused = Schedule {
            paused: true,
            ..row(4, None)
        };
        let rows = [
            row(1, None),
            row(2, Some("Europe/Berlin")),
            row(3, None),
            paused,
        ];
        assert_eq!(ids(&plan(&rows, &[])), (vec![1, 2, 3], vec![]));

        let there = [
            state(1, "*-*-* 05:00:00"),
            state(2, "*-*-* 05:00:00"),
            state(4, "*-*-* 05:00:00"),
            state(9, "*-*-* 05:00:00"),
        ];
        assert_eq!(ids(&plan(&rows, &there)), (vec![2, 3], vec![4, 9]));

        let right = [
            state(1, "*-*-* 05:00:00"),
            state(2, "*-*-* 05:00:00 Europe/Berlin"),
            state(3, "*-*-* 05:00:00"),
        ];
        assert_eq!(plan(&rows, &right), Plan::default());
    }

    #[test]
    fn a_row_without_a_valid_time_keeps_no_other_from_its_timer() {
        let rows = [row(1, Some("Atlantis/Poseidonis")), row(2, None)];
        let plan = plan(&rows, &[state(1, "*-*-* 05:00:00")]);
        assert_eq!(ids(&plan), (vec![2], vec![1]));
        assert!(plan.invalid[&ScheduleId(1)].contains("Atlantis"));
    }
}
