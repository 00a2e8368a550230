//! Calendar expressions: systemd's syntax for recurring times, as systemd.time(7) describes it. The
//! canonical form is the one that `systemd-analyze calendar` prints, and the times are those at
//! which a timer of systemd elapses, also where clocks are changed.
//!
//! Not taken, although systemd does: fractions of seconds, `@` with a number, and the names that a
//! zone's clocks show, such as CEST.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::base::names::{BadName, shown};
use chain::{Chain, Field};
pub use zone::ZoneName;

mod chain;
mod parse;
mod search;
mod zone;

/// The longest expression, in bytes.
pub const LONGEST: usize = 200;

/// How many times [`Calendar::shortest_gap`] looks at, and over how many ms: four years.
const TIMES: usize = 1000;
const SPAN: i64 = 4 * 366 * 86_400_000;

/// A calendar expression without its zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Calendar {
    weekdays: Weekdays,
    years: Chain,
    months: Chain,
    days: Chain,
    /// Whether `days` are counted from the end of the month: 1 is its last day.
    from_end: bool,
    hours: Chain,
    minutes: Chain,
    seconds: Chain,
}

impl Calendar {
    /// An expression that may have a zone at its end: `*-*-* 05:00 Europe/Berlin`.
    pub fn with_zone(text: &str) -> Result<(Self, Option<ZoneName>), BadName> {
        check_length(text)?;
        let text = text.trim_matches(' ');
        match text.rsplit_once(' ') {
            Some((expression, zone)) if zone.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                Ok((expression.parse()?, Some(zone.parse()?)))
            }
            _ => Ok((text.parse()?, None)),
        }
    }

    /// The same times with an end in each repetition: `03..23/4` for `03/4`. Timers are given this
    /// form, because systemd searches in vain for a repetition without end in some nights in which
    /// clocks are changed; their timer would stand still.
    #[must_use]
    pub fn bounded(&self) -> Self {
        let day = if self.from_end {
            Field::DAY_FROM_END
        } else {
            Field::DAY
        };
        Self {
            weekdays: self.weekdays,
            years: self.years.bounded(Field::YEAR),
            months: self.months.bounded(Field::MONTH),
            days: self.days.bounded(day),
            from_end: self.from_end,
            hours: self.hours.bounded(Field::HOUR),
            minutes: self.minutes.bounded(Field::MINUTE),
            seconds: self.seconds.bounded(Field::SECOND),
        }
    }

    /// The first time after `at` that the expression names, as clocks in `zone` show it; both in
    /// unix ms. None if there is none until the year 2199.
    pub fn next_after(&self, at: i64, zone: &TimeZone) -> Option<i64> {
        search::next(&self.bounded(), at, zone)
    }

    /// The shortest time between two runs after `from`, in ms: among the next 1000, and within four
    /// years. None if there are not two.
    pub fn shortest_gap(&self, from: i64, zone: &TimeZone) -> Option<i64> {
        let bounded = self.bounded();
        let mut shortest: Option<i64> = None;
        let mut earlier = search::next(&bounded, from, zone)?;
        for _ in 0..TIMES {
            let Some(later) = search::next(&bounded, earlier, zone) else {
                break;
            };
            let gap = later - earlier;
            shortest = Some(shortest.map_or(gap, |shortest| shortest.min(gap)));
            if later - from > SPAN {
                break;
            }
            earlier = later;
        }
        shortest
    }
}

impl FromStr for Calendar {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        check_length(text)?;
        parse::calendar(text.trim_matches(' ')).map_err(|reason| refused(text, &reason))
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.weekdays != Weekdays::ALL {
            write!(f, "{} ", self.weekdays)?;
        }
        write!(f, "{:04}-{:02}", self.years, self.months)?;
        write!(
            f,
            "{}{:02} ",
            if self.from_end { '~' } else { '-' },
            self.days
        )?;
        write!(
            f,
            "{:02}:{:02}:{:02}",
            self.hours, self.minutes, self.seconds
        )
    }
}

impl TryFrom<String> for Calendar {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Calendar> for String {
    fn from(calendar: Calendar) -> Self {
        calendar.to_string()
    }
}

fn check_length(text: &str) -> Result<(), BadName> {
    if text.len() > LONGEST {
        return Err(refused(text, &format!("it is longer than {LONGEST} bytes")));
    }
    Ok(())
}

fn refused(text: &str, reason: &str) -> BadName {
    BadName::new(format!(
        "'{}' is not a calendar expression: {reason}; an example is 'Mon..Fri *-*-* 05:00'",
        shown(text)
    ))
}

/// A set of days of the week; bit 0 is Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weekdays(u8);

impl Weekdays {
    const ALL: Self = Self(0b111_1111);
    const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

    fn contains(self, weekday: jiff::civil::Weekday) -> bool {
        self.0 & (1 << weekday.to_monday_zero_offset()) != 0
    }
}

/// Three days or more in a row are a range.
impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |day: usize| day < 7 && self.0 & (1 << day) != 0;
        let mut day = 0;
        let mut comma = "";
        while day < 7 {
            if !has(day) {
                day += 1;
                continue;
            }
            let last = (day..7).take_while(|day| has(*day)).last().unwrap_or(day);
            write!(f, "{comma}{}", Self::NAMES[day])?;
            match last - day {
                0 => {}
                1 => write!(f, ",{}", Self::NAMES[last])?,
                _ => write!(f, "..{}", Self::NAMES[last])?,
            }
            comma = ",";
            day = last + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
