//! What is said to players before the time of a job comes: a list of moments before it, and a text.

use std::str::FromStr;

use crate::base::names::{BadName, shown};
use crate::base::visible::visible;
use crate::domain::duration;
use crate::domain::operation::Operation;

/// The most warnings of a job.
const MOST: usize = 10;

/// The longest time between a warning and the deadline, in ms: a day.
const EARLIEST: i64 = 86_400_000;

/// The longest text, in characters: the game shows a line of chat only so far.
const TEXT_LIMIT: usize = 100;

/// When players are warned, and with which text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    /// Ms before the deadline; descending, no two are equal.
    before: Vec<i64>,
    /// None for the text of the operation.
    text: Option<String>,
}

/// A warning to be said now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueWarning {
    /// How many warnings are said, or left out, with this one.
    pub said: usize,
    /// Ms until the deadline, as the text gives it.
    pub left: i64,
}

impl Warnings {
    /// The warnings of a row. Their order is made anew, because the row may have been written by
    /// hand.
    pub fn from_row(mut before: Vec<i64>, text: Option<String>) -> Self {
        before.retain(|ms| (1..=EARLIEST).contains(ms));
        before.sort_unstable_by(|one, other| other.cmp(one));
        before.dedup();
        before.truncate(MOST);
        let text = text.map(|text| harmless(&text));
        Self { before, text }
    }

    /// Ms before the deadline, descending.
    pub fn before(&self) -> &[i64] {
        &self.before
    }

    /// The text that was given.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// In the words of an option: `600s,60s=Restart`.
    pub fn asked(&self) -> String {
        let before: Vec<String> = self
            .before
            .iter()
            .map(|ms| format!("{}s", ms / 1000))
            .collect();
        let text = self.text.as_ref().map(|text| format!("={text}"));
        format!("{}{}", before.join(","), text.unwrap_or_default())
    }

    /// How many of the warnings cannot be said any more when a job is accepted `left` ms before its
    /// deadline.
    pub fn missed(&self, left: i64) -> usize {
        let is_missed = |before: &&i64| !is_in_time(**before, left);
        self.before.iter().filter(is_missed).count()
    }

    /// When the next warning is to be said, unix ms, not counting one that is due at `now`.
    pub fn next_at(&self, deadline: i64, now: i64) -> Option<i64> {
        let mut moments = self.before.iter().map(|before| deadline - before);
        moments.find(|at| *at > now)
    }

    /// The warning to be said at `now`. If several are due, because no worker ran, only the last
    /// one is said. None at the deadline itself and later.
    pub fn due(&self, said: usize, deadline: i64, now: i64) -> Option<DueWarning> {
        let left = deadline - now;
        let due = self.before.iter().filter(|&&before| before >= left).count();
        if due <= said || left <= 0 {
            return None;
        }

        let nominal = self.before[due - 1];
        Some(DueWarning {
            said: due,
            left: match is_in_time(nominal, left) {
                true => nominal,
                false => left,
            },
        })
    }

    /// The line of chat for a warning: `The server restarts in 10 minutes`.
    pub fn line(&self, operation: Operation, left: i64) -> String {
        let text = self.text.as_deref().unwrap_or(match operation {
            Operation::Restart => "The server restarts",
            Operation::Reset => "The server is reset",
            Operation::Update => "The server stops for an update",
            _ => "The server stops",
        });
        format!("{text} in {}", spoken(left))
    }
}

impl FromStr for Warnings {
    type Err = BadName;

    /// Parses `10m,5m,1m,10s` or `10m,5m=Update tonight`.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let (list, said) = match text.split_once('=') {
            Some((list, said)) => (list, Some(said)),
            None => (text, None),
        };

        let mut before = Vec::new();
        for one in list.split(',') {
            let ms = duration::parse(one.trim()).filter(|ms| (1..=EARLIEST).contains(ms));
            before.push(ms.ok_or_else(|| {
                BadName::new(format!(
                    "'{}' is no time before the deadline: durations up to a day are needed, \
                     as in 10m,5m,1m,10s",
                    shown(one)
                ))
            })?);
        }

        before.sort_unstable_by(|one, other| other.cmp(one));
        before.dedup();
        if before.len() > MOST {
            return Err(BadName::new(format!(
                "{} warnings are too many: at most {MOST}",
                before.len()
            )));
        }

        let said = said.map(parse_text).transpose()?;
        Ok(Self { before, text: said })
    }
}

fn parse_text(text: &str) -> Result<String, BadName> {
    let said = harmless(text);
    if said.is_empty() {
        return Err(BadName::new("the text of the warnings is empty".to_owned()));
    }
    if said.chars().count() > TEXT_LIMIT {
        return Err(BadName::new(format!(
            "the text of the warnings is too long: at most {TEXT_LIMIT} characters"
        )));
    }
    Ok(said)
}

/// Whether a warning of so many ms before the deadline can be said `left` ms before it, with the
/// time as it was asked for. A little late is as good as in time: players need no odd seconds.
fn is_in_time(nominal: i64, left: i64) -> bool {
    nominal - left <= nominal / 10
}

/// The text without what the game's console gives a meaning: quotes, `;`, line breaks and other
/// control characters. Spaces in a row become one.
fn harmless(text: &str) -> String {
    let plain = text.replace(|c: char| c.is_control(), " ");
    let plain = plain.replace(['"', ';'], "");
    let words: Vec<&str> = plain.split_whitespace().collect();
    visible(&words.join(" ")).into_owned()
}

/// `10 minutes`, `1 hour`, `1 hour 30 minutes`, `10 seconds`. From two minutes on without seconds.
fn spoken(ms: i64) -> String {
    let seconds = (ms / 1000).max(1);
    let count = |number: i64, unit: &str| match number {
        0 => String::new(),
        1 => format!("1 {unit}"),
        _ => format!("{number} {unit}s"),
    };

    let (hours, minutes, rest) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    let parts = match seconds {
        ..120 if rest > 0 => [String::new(), count(seconds, "second")],
        _ => [count(hours, "hour"), count(minutes, "minute")],
    };
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn warnings(text: &str) -> Warnings {
        text.parse().unwrap()
    }

    fn refusal(text: &str) -> String {
        text.parse::<Warnings>().unwrap_err().to_string()
    }

    #[test]
    fn a_list_is_sorted_without_doubles_and_bounded() {
        let list = warnings("1m,10m, 60s,5m,10s");
        assert_eq!(list.before(), [600_000, 300_000, 60_000, 10_000]);
        assert_eq!(list.text(), None);

        for bad in ["", "0", "0s", "10", "5x", "-5m", "2d", "5m,,1m", "=text"] {
            assert!(refusal(bad).contains("durations up to a day"), "{bad}");
        }
        let many: Vec<String> = (1..=11).map(|minutes| format!("{minutes}m")).collect();
        assert!(refusal(&many.join(",")).contains("11 warnings are too many: at most 10"));
    }

    #[test]
    fn a_text_loses_what_the_console_would_act_upon() {
        let list = warnings("5m=Update; \"quit\"\r\nsoon\u{202e}  = yes");
        assert_eq!(list.text(), Some("Update quit soon\\u{202e} = yes"));
        assert_eq!(
            list.line(Operation::Restart, 300_000),
            "Update quit soon\\u{202e} = yes in 5 minutes"
        );

        assert!(refusal("5m= \";\"").contains("empty"));
        assert!(refusal(&format!("5m={}", "x".repeat(101))).contains("at most 100"));
    }

    #[test]
    fn players_hear_what_happens_and_when() {
        let list = warnings("10m");
        let said = |operation, ms| list.line(operation, ms);
        assert_eq!(
            [
                said(Operation::Restart, 600_000),
                said(Operation::Stop, 60_000),
                said(Operation::Update, 5_400_000),
                said(Operation::Delete, 10_000),
                said(Operation::Reset, 90_000),
            ],
            [
                "The server restarts in 10 minutes",
                "The server stops in 1 minute",
                "The server stops for an update in 1 hour 30 minutes",
                "The server stops in 10 seconds",
                "The server is reset in 90 seconds",
            ]
        );
    }

    #[test]
    fn of_warnings_that_are_overdue_only_the_last_is_said_with_the_time_that_is_left() {
        let list = warnings("10m,5m,1m");
        let due = |said, left: i64| list.due(said, 1_000_000, 1_000_000 - left);
        assert_eq!(due(0, 600_001), None);
        assert_eq!(
            due(0, 600_000),
            Some(DueWarning {
                said: 1,
                left: 600_000
            })
        );
        assert_eq!(
            due(0, 580_000),
            Some(DueWarning {
                said: 1,
                left: 600_000
            })
        );
        assert_eq!(due(1, 580_000), None, "it is said once");
        assert_eq!(
            due(0, 180_000),
            Some(DueWarning {
                said: 2,
                left: 180_000
            })
        );
        assert_eq!(due(2, 0), None, "it happens now");
        assert_eq!(list.next_at(1_000_000, 400_000), Some(700_000));
        assert_eq!((list.missed(300_000), list.missed(1_000)), (1, 3));
    }

    proptest! {
        #[test]
        fn no_text_brings_a_second_command(text in "\\PC{1,60}|.{1,60}") {
            let Ok(list) = format!("5m={text}").parse::<Warnings>() else { return Ok(()) };
            let line = list.line(Operation::Restart, 300_000);
            prop_assert!(!line.contains(|c: char| c.is_control() || matches!(c, '"' | ';')));
            prop_assert_eq!(Warnings::from_row(list.before.clone(), list.text.clone()), list);
        }

        #[test]
        fn each_warning_is_said_at_most_once_and_none_too_late(
            list in "[1-9]{1,3}[smh](,[1-9]{1,3}[sm]){0,4}", steps in proptest::collection::vec(1_i64..400_000, 1..60),
        ) {
            let Ok(list) = list.parse::<Warnings>() else { return Ok(()) };
            let deadline = 100_000_000;
            let (mut now, mut said) = (deadline - 90_000_000, list.missed(90_000_000));
            let mut lines = 0;
            for step in steps {
                now += step;
                if let Some(due) = list.due(said, deadline, now) {
                    prop_assert!(due.said > said && due.said <= list.before().len());
                    prop_assert!(now < deadline && due.left >= deadline - now);
                    (said, lines) = (due.said, lines + 1);
                }
                let unsaid = list.before().get(said).map(|before| deadline - before);
                prop_assert!(now >= deadline || list.next_at(deadline, now) == unsaid);
            }
            prop_assert!(lines <= list.before().len());
        }
    }
}
