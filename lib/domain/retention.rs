//! How long the history of jobs and events is kept. The rules are here only: what removes rows, and
//! what tells what would be removed, both ask them.
//!
//! Rows are asked about in the order of their ids, which is the order in which jobs and events came
//! to be. So a search ends at rows that are young enough, and costs as much as there is to remove,
//! however long the history is. Dates that are out of order, after the clock was set or because
//! a person wrote rows by hand, are found once a week, by a search that asks about every row.

/// Milliseconds of a day.
pub const DAY: i64 = 24 * 60 * 60 * 1000;

/// How far the clock of the rules may be ahead of the last time they were applied, ms. A host's
/// clock that is years ahead for an hour must not remove its history.
const STEP: i64 = 7 * DAY;

const WEEK: i64 = 7 * DAY;

/// How many rows in a row may be young before a search ends.
const PATIENCE: u32 = 1000;

/// The limits that an admin sets. None keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The age of an ended job, ms.
    pub jobs: Option<i64>,
    /// The age of an ended job whose log is removed, ms.
    pub logs: Option<i64>,
    /// The size of all logs together, bytes.
    pub log_bytes: Option<i64>,
    /// The age of an event, ms.
    pub events: Option<i64>,
    /// The age of an ended session, ms.
    pub sessions: Option<i64>,
    /// The age of the record of an alert that was sent or given up, ms.
    pub alerts: Option<i64>,
}

/// The limits at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    now: i64,
    limits: Limits,
    /// How many rows in a row may be young before a search ends.
    pub patience: u32,
}

/// What the rules ask of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// Unix ms.
    pub created_at: i64,
    /// Unix ms; none for a job that has not ended.
    pub ended_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Remove,
    Keep,
    /// Keep it, and all later ones if dates are in order.
    Young,
}

/// The time by which the rules go: the host's clock, but at most a week after `last`, when they
/// were last applied. A host that was off for long catches up by a week at each run.
pub fn clock(now: i64, last: Option<i64>) -> i64 {
    last.map_or(now, |last| now.min(last.saturating_add(STEP)))
}

/// Whether a search at this time asks about every row: once a week.
pub fn is_thorough(clock: i64, last: Option<i64>) -> bool {
    last.is_none_or(|last| last.div_euclid(WEEK) != clock.div_euclid(WEEK))
}

impl Retention {
    pub fn new(now: i64, limits: Limits) -> Self {
        Self {
            now,
            limits,
            patience: PATIENCE,
        }
    }

    /// The same rules for a search that asks about every row.
    pub fn thorough(self) -> Self {
        Self {
            patience: u32::MAX,
            ..self
        }
    }

    /// The time by which the rules go, unix ms.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// The limit of the logs' size, in bytes.
    pub fn log_bytes(&self) -> Option<i64> {
        self.limits.log_bytes
    }

    /// Whether a job is removed, with its log and all else that belongs to it.
    pub fn of_job(&self, job: Age) -> Verdict {
        self.judge(self.limits.jobs, job)
    }

    /// Whether a job's log is removed. `is_excess`: the logs of this job and of those after it are
    /// larger than their limit. The log of a job that ended within the last day is kept whatever
    /// its size: a person may be about to read it.
    pub fn of_log(&self, job: Age, is_excess: bool) -> Verdict {
        // A job that is removed takes its log along.
        let age = match (self.limits.logs, self.limits.jobs) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };

        match self.judge(age, job) {
            Verdict::Remove => Verdict::Remove,
            _ if is_excess && self.ended_before(job, DAY) => Verdict::Remove,
            _ if is_excess => Verdict::Keep,
            verdict => verdict,
        }
    }

    /// Whether an event of this time is removed.
    pub fn of_event(&self, at: i64) -> Verdict {
        let event = Age {
            created_at: at,
            ended_at: Some(at),
        };

        self.judge(self.limits.events, event)
    }

    /// Events before this time are removed, unix ms.
    pub fn events_before(&self) -> Option<i64> {
        self.limits.events.map(|age| self.now - age)
    }

    /// Sessions that ended before this time are removed, unix ms.
    pub fn sessions_before(&self) -> Option<i64> {
        self.limits.sessions.map(|age| self.now - age)
    }

    /// Records of alerts that were sent or given up before this time are removed, unix ms.
    pub fn alerts_before(&self) -> Option<i64> {
        self.limits.alerts.map(|age| self.now - age)
    }

    fn judge(&self, limit: Option<i64>, job: Age) -> Verdict {
        let Some(limit) = limit else {
            return Verdict::Young;
        };

        // Later jobs are no older. But the date of a job that comes from the future says nothing
        // about them: the clock was wrong.
        let young = self.now.saturating_sub(limit)..=self.now.saturating_add(DAY);
        match job.ended_at {
            Some(_) if self.ended_before(job, limit) => Verdict::Remove,
            _ if young.contains(&job.created_at) => Verdict::Young,
            _ => Verdict::Keep,
        }
    }

    fn ended_before(&self, job: Age, age: i64) -> bool {
        job.ended_at
            .is_some_and(|ended| ended < self.now.saturating_sub(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn rules(limits: Limits) -> Retention {
        Retention::new(NOW, limits)
    }

    /// A job that was created and ended this many days ago.
    fn job(created: i64, ended: Option<i64>) -> Age {
        Age {
            created_at: NOW - created * DAY,
            ended_at: ended.map(|days| NOW - days * DAY),
        }
    }

    #[test]
    fn what_ended_long_ago_goes_and_the_first_young_one_ends_the_search() {
        let rules = rules(Limits {
            jobs: Some(90 * DAY),
            ..Limits::default()
        });

        for (age, verdict) in [
            (job(92, Some(91)), Verdict::Remove),
            (job(92, Some(90)), Verdict::Keep),
            (job(92, Some(1)), Verdict::Keep),
            (job(400, None), Verdict::Keep),
            (job(90, Some(90)), Verdict::Young),
            (job(1, None), Verdict::Young),
        ] {
            assert_eq!(rules.of_job(age), verdict, "{age:?}");
        }
    }

    #[test]
    fn without_a_limit_everything_is_kept() {
        let rules = rules(Limits::default());
        assert_eq!(rules.of_job(job(9999, Some(9999))), Verdict::Young);
        assert_eq!(rules.of_event(0), Verdict::Young);
        assert_eq!(rules.sessions_before(), None);
        assert_eq!(rules.alerts_before(), None);
    }

    #[test]
    fn a_log_goes_by_its_age_with_its_job_or_by_size_after_a_day() {
        let rules = rules(Limits {
            jobs: Some(365 * DAY),
            logs: Some(90 * DAY),
            ..Limits::default()
        });

        assert_eq!(
            rules.of_log(job(91, Some(91)), false),
            Verdict::Remove,
            "its job stays"
        );
        assert_eq!(rules.of_log(job(5, Some(5)), false), Verdict::Young);
        assert_eq!(rules.of_log(job(5, Some(5)), true), Verdict::Remove);
        assert_eq!(rules.of_log(job(5, Some(1)), true), Verdict::Keep);
        assert_eq!(rules.of_log(job(5, None), true), Verdict::Keep);

        let short = Retention::new(
            NOW,
            Limits {
                jobs: Some(10 * DAY),
                logs: Some(90 * DAY),
                ..Limits::default()
            },
        );

        assert_eq!(short.of_log(job(20, Some(20)), false), Verdict::Remove);
    }

    #[test]
    fn a_date_in_the_future_neither_goes_nor_hides_what_is_old() {
        let rules = rules(Limits {
            jobs: Some(90 * DAY),
            events: Some(90 * DAY),
            ..Limits::default()
        });

        assert_eq!(rules.of_job(job(-3650, Some(-3650))), Verdict::Keep);
        assert_eq!(rules.of_event(NOW + 3650 * DAY), Verdict::Keep);
        assert_eq!(rules.of_event(i64::MIN), Verdict::Remove);
        assert_eq!(rules.of_event(i64::MAX), Verdict::Keep);
    }

    #[test]
    fn every_row_is_asked_about_at_first_and_once_a_week() {
        assert!(is_thorough(NOW, None));
        let week = NOW - NOW.rem_euclid(WEEK);
        assert!(!is_thorough(week + DAY, Some(week)));
        assert!(is_thorough(week + WEEK, Some(week + DAY)));
    }

    #[test]
    fn a_clock_years_ahead_costs_a_week_of_history_at_most() {
        assert_eq!(clock(NOW, None), NOW);
        assert_eq!(clock(NOW, Some(NOW - DAY)), NOW);
        assert_eq!(clock(NOW + 3650 * DAY, Some(NOW)), NOW + 7 * DAY);
        assert_eq!(clock(NOW, Some(NOW + 7 * DAY)), NOW, "once it is right");
        assert_eq!(clock(NOW, Some(i64::MAX)), NOW);
    }
}
