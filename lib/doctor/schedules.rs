//! Checks schedules: whether systemd has the timer of each, and what came of its last run.

use std::path::Path;
use std::time::Duration;

use super::Finding;
use super::finding::Advice;
use crate::base::Exit;
use crate::db::Db;
use crate::db::schedules::{self, Schedule};
use crate::domain::calendar::Calendar;
use crate::domain::job::JobState;
use crate::host::timers;
use crate::wire::timers::TimerState;

/// How long the helper may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A finding for each schedule with a problem. Nothing without schedules, and if the database cannot
/// be read, which is a finding of another check.
pub(super) fn check(database: &Path, helper: &Path) -> Vec<Finding> {
    let rows = Db::peek(database, |tx| schedules::all(tx)).unwrap_or_default();
    if rows.is_empty() {
        return Vec::new();
    }

    let mut findings: Vec<Finding> = rows.iter().filter_map(last_run).collect();
    match timers::list(helper, TIMEOUT) {
        Ok(timers) => findings.push(of_timers(&rows, &timers)),
        // The helper has a finding of its own.
        Err(error) if error.exit == Exit::NotPermitted => {
            findings.push(Finding::skip(
                "timers",
                "only left4me and root may ask for them",
            ));
        }
        Err(error) => findings.push(Finding::skip("timers", error.to_string())),
    }
    findings
}

fn last_run(row: &Schedule) -> Option<Finding> {
    let name = format!("schedule {}", row.id);
    let show = format!("left4me schedule show {}", row.id);
    if let Some(why) = &row.timer_error {
        let advice = Advice::run(format!("left4me schedule remove {}", row.id))
            .after("add it again as it should be");
        return Some(Finding::warn(
            name,
            format!("it has no timer: {why}"),
            advice,
        ));
    }
    if let Some(why) = &row.last_error {
        let found = format!("its last run failed: {why}");
        return Some(Finding::warn(name, found, Advice::run(show)));
    }

    let job = row.last_job_id?;
    let advice = Advice::run(format!("left4me-job show {job}"));
    (row.last_job_state == Some(JobState::Failed))
        .then(|| Finding::warn(name, format!("its last job, {job}, failed"), advice))
}

fn of_timers(rows: &[Schedule], timers: &[TimerState]) -> Finding {
    let expected = rows
        .iter()
        .filter(|row| !row.paused && row.timer_error.is_none());
    let is_right = |row: &&Schedule| {
        let timer = timers.iter().find(|timer| timer.schedule == row.id);
        timer.is_some_and(|timer| timer.active && is_same(&timer.calendar, &row.when()))
    };
    let (right, wrong): (Vec<&Schedule>, Vec<&Schedule>) = expected.partition(is_right);
    let is_meant = |timer: &&TimerState| {
        let row = rows.iter().find(|row| row.id == timer.schedule);
        row.is_some_and(|row| !row.paused)
    };
    let others = timers.iter().filter(|timer| !is_meant(timer));

    let missing = wrong
        .iter()
        .map(|row| format!("schedule {} has none, or another one", row.id));
    let others = others.map(|timer| format!("schedule {} is paused or gone", timer.schedule));
    let problems: Vec<String> = missing.chain(others).collect();
    match problems.as_slice() {
        [] => Finding::ok(
            "timers",
            match right.len() {
                1 => "systemd has the timer of 1 schedule".to_owned(),
                count => format!("systemd has the timers of {count} schedules"),
            },
        ),
        some => Finding::fail(
            "timers",
            format!("they are not those of the schedules: {}", some.join(", ")),
            Advice::root("systemctl start left4me-schedules.service"),
        )
        .unit_of("left4me-schedules.service"),
    }
}

/// Whether two expressions mean the same.
fn is_same(one: &str, other: &str) -> bool {
    match (Calendar::with_zone(one), Calendar::with_zone(other)) {
        // systemd has open repetitions with an end.
        (Ok((one, zone)), Ok((other, others))) => {
            one.bounded() == other.bounded() && zone == others
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::{JobId, ScheduleId};
    use crate::doctor::Severity;

    #[test]
    fn a_schedule_is_told_of_while_its_last_run_or_its_timer_failed() {
        let row = Schedule::sample(3);
        assert_eq!(last_run(&row), None);

        let ended = |state| Schedule {
            last_job_id: Some(JobId(7)),
            last_job_state: Some(state),
            ..row.clone()
        };
        assert_eq!(last_run(&ended(JobState::Succeeded)), None);
        let found = last_run(&ended(JobState::Failed)).unwrap();
        assert_eq!(found.command.as_deref(), Some("left4me-job show 7"));

        let failed = Schedule {
            last_error: Some("its owner 'ben' is disabled".to_owned()),
            ..row.clone()
        };
        let found = last_run(&failed).unwrap();
        assert_eq!(
            found.found,
            "its last run failed: its owner 'ben' is disabled"
        );
        let without = Schedule {
            timer_error: Some("no such zone".to_owned()),
            ..failed
        };
        let found = last_run(&without).unwrap();
        assert_eq!(found.found, "it has no timer: no such zone");
    }

    #[test]
    fn timers_are_those_of_the_schedules_that_are_not_paused() {
        let paused = Schedule {
            paused: true,
            ..Schedule::sample(2)
        };
        let rows = [Schedule::sample(1), paused];
        let timer = |id, calendar: &str| TimerState {
            schedule: ScheduleId(id),
            active: true,
            calendar: calendar.to_owned(),
            persistent: false,
            next_at: None,
        };
        let right = timer(1, "*-*-* 05:00:00");
        let found = of_timers(&rows, std::slice::from_ref(&right));
        assert_eq!(found.severity, Severity::Ok, "{found:?}");

        for wrong in [
            vec![],
            vec![timer(1, "*-*-* 06:00:00")],
            vec![right.clone(), timer(2, "*-*-* 05:00:00")],
            vec![right, timer(9, "*-*-* 05:00:00")],
        ] {
            let found = of_timers(&rows, &wrong);
            assert_eq!(found.severity, Severity::Fail, "{found:?}");
            let command = found.command.as_deref();
            assert_eq!(command, Some("systemctl start left4me-schedules.service"));
        }
    }
}
