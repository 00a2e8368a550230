//! Conditions on jobs: a job can wait until its servers are empty, until a time, or for whichever
//! comes first. This file parses what people ask for; [`hold`] decides whether a job still waits,
//! and [`warning`] what is said to the players before the time comes.

use std::str::FromStr;

use jiff::ToSpan as _;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::base::names::{BadName, shown};
use crate::base::words::words;
use crate::domain::duration;
use crate::domain::operation::Operation;
use warning::Warnings;

pub mod hold;
pub mod warning;

/// The longest duration, in ms: 30 days.
const LONGEST: i64 = 30 * 24 * 3_600_000;

words! {
    /// What a job does when its time has come and its servers are not empty.
    pub enum AtDeadline ("what to do at the time of --until") {
        /// It goes ahead.
        Go = "go",
        /// It is cancelled.
        GiveUp = "give-up",
    }
}

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// It goes ahead as soon as nobody plays on any of its servers.
    pub when_empty: bool,
    pub deadline: Option<Deadline>,
    /// Only with a deadline at which it goes ahead.
    pub warnings: Warnings,
}

/// When a job stops waiting, and what it does then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Unix ms.
    pub at: i64,
    /// As it was asked for: `06:00`, `2h`.
    pub asked: String,
    pub then: AtDeadline,
}

impl Condition {
    /// Whether two conditions were asked for in the same words. The same duration counts as the
    /// same, although it ends at another time.
    pub fn is_same_request(&self, other: &Self) -> bool {
        let asked = |one: &Self| {
            let deadline = one.deadline.as_ref();
            deadline.map(|deadline| (deadline.asked.clone(), deadline.then))
        };
        self.when_empty == other.when_empty
            && asked(self) == asked(other)
            && self.warnings == other.warnings
    }

    /// In words, for the job's first event: `when empty, until 06:00, then go`.
    pub fn message(&self) -> String {
        let empty = self.when_empty.then(|| "when empty".to_owned());
        let until = self
            .deadline
            .as_ref()
            .map(|deadline| format!("until {}, then {}", deadline.asked, deadline.then));
        let parts: Vec<String> = empty.into_iter().chain(until).collect();
        parts.join(", ")
    }
}

/// A condition as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConditionRequest {
    pub when_empty: bool,
    pub until: Option<Until>,
    pub then: Option<AtDeadline>,
    pub warn: Option<Warnings>,
}

impl ConditionRequest {
    /// The condition of a job that is accepted at `now` (unix ms), on a host in `zone`. None if
    /// nothing was asked for.
    ///
    /// Fails with what to change if the parts do not fit together or to the operation. `option`
    /// names a part as the caller's interface does: `--until`, or `until`.
    pub fn resolve(
        &self,
        operation: Operation,
        now: i64,
        zone: &TimeZone,
        option: fn(&str) -> String,
    ) -> Result<Option<Condition>, BadName> {
        let refuse = |message: String| Err(BadName::new(message));
        let (until, then) = (option("until"), option("then"));
        if *self == Self::default() {
            return Ok(None);
        }

        if !operation.takes_condition() {
            return refuse(format!(
                "{operation} takes no condition: it ends no player's game; \
                 restart, stop, reset, delete, update and rollback do"
            ));
        }

        let Some(asked) = &self.until else {
            return match (self.then, &self.warn) {
                (Some(_), _) => refuse(format!("{then} needs {until}")),
                (_, Some(_)) => {
                    let warn = option("warn");
                    refuse(format!("{warn} needs {until}: it says when the time comes"))
                }
                _ => Ok(Some(Condition {
                    when_empty: self.when_empty,
                    deadline: None,
                    warnings: Warnings::default(),
                })),
            };
        };

        let empty = option("when-empty");
        let at_deadline = match (self.then, self.when_empty) {
            (Some(AtDeadline::GiveUp), false) => {
                return refuse(format!(
                    "{then} give-up needs {empty}: without it there is nothing else to wait for"
                ));
            }
            (Some(at_deadline), _) => at_deadline,
            (None, false) => AtDeadline::Go,
            (None, true) => {
                return refuse(format!(
                    "{until} with {empty} needs {then} go or {then} give-up: \
                     what to do when somebody still plays at that time"
                ));
            }
        };

        if self.warn.is_some() && at_deadline == AtDeadline::GiveUp {
            let warn = option("warn");
            return refuse(format!(
                "{warn} does not fit to {then} give-up: nothing happens to the players then"
            ));
        }

        let at = asked.at(now, zone).ok_or_else(|| {
            BadName::new(format!("{until} {}: there is no such time", asked.asked))
        })?;
        Ok(Some(Condition {
            when_empty: self.when_empty,
            deadline: Some(Deadline {
                at,
                asked: asked.asked.clone(),
                then: at_deadline,
            }),
            warnings: self.warn.clone().unwrap_or_default(),
        }))
    }
}

/// A time of day, or a duration from now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Until {
    asked: String,
    when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// The next time that clocks show this hour and minute.
    TimeOfDay(i8, i8),
    /// Ms from now.
    After(i64),
}

impl FromStr for Until {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let asked = text.trim().to_owned();
        let when = match asked.split_once(':') {
            Some((hour, minute)) => time_of_day(hour, minute),
            None => duration::parse(&asked)
                .filter(|ms| *ms <= LONGEST)
                .map(When::After),
        };

        let when = when.ok_or_else(|| {
            BadName::new(format!(
                "'{}' is neither a time of day such as 06:00 nor a duration such as 30m, 2h or \
                 1h30m, of at most 30 days",
                shown(text)
            ))
        })?;
        if when == When::After(0) {
            return Err(BadName::new(format!(
                "'{}' is over already: a duration must be longer than 0",
                shown(text)
            )));
        }
        Ok(Self { asked, when })
    }
}

impl Until {
    /// As it was asked for: `06:00`, `2h`.
    pub fn asked(&self) -> &str {
        &self.asked
    }

    /// The first such time after `now`, unix ms. Where clocks show a time twice, each of them
    /// counts; where they skip it, the time that they show instead. None beyond the calendar.
    fn at(&self, now: i64, zone: &TimeZone) -> Option<i64> {
        let (hour, minute) = match self.when {
            When::After(ms) => return now.checked_add(ms),
            When::TimeOfDay(hour, minute) => (hour, minute),
        };

        let now = jiff::Timestamp::from_millisecond(now).ok()?;
        let today = now.to_zoned(zone.clone()).date();
        for day in 0..3 {
            let date = today.checked_add(day.days()).ok()?;
            let local = zone.to_ambiguous_zoned(date.at(hour, minute, 0, 0));
            let times = match local.offset() {
                AmbiguousOffset::Fold { .. } => {
                    vec![local.clone().earlier(), local.later()]
                }
                _ => vec![local.compatible()],
            };
            let times = times.into_iter().flatten().map(|zoned| zoned.timestamp());
            if let Some(next) = times.into_iter().find(|at| *at > now) {
                return Some(next.as_millisecond());
            }
        }
        None
    }
}

fn time_of_day(hour: &str, minute: &str) -> Option<When> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_written_so = (1..=2).contains(&hour.len()) && minute.len() == 2;
    if !is_written_so || !digits(hour) || !digits(minute) {
        return None;
    }

    let (hour, minute) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(When::TimeOfDay(hour, minute))
}

/// Whether a job of `done` that has succeeded for a server makes one of `held` for the same server
/// pointless: what was wanted has been done, or the server was taken out of service on purpose.
pub fn serves(held: Operation, done: Operation) -> bool {
    use Operation::{Delete, Reset, Restart, Stop, Update};
    match held {
        Restart => matches!(done, Restart | Reset | Stop | Delete),
        Stop => matches!(done, Stop | Delete),
        Reset => matches!(done, Reset | Delete),
        Delete => done == Delete,
        Update => done == Update,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
