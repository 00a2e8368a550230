//! Reads calendar expressions. Each function fails with the reason alone.

use super::chain::{Chain, Field};
use super::{Calendar, Weekdays};

/// Words that stand for an expression; `anually` is systemd's own misspelling.
const WORDS: [(&str, &str); 13] = [
    ("minutely", "*-*-* *:*"),
    ("hourly", "*-*-* *:00"),
    ("daily", "*-*-*"),
    ("weekly", "Mon"),
    ("monthly", "*-*-01"),
    ("quarterly", "*-01,04,07,10-01"),
    ("semiannually", "*-01,07-01"),
    ("semi-annually", "*-01,07-01"),
    ("biannually", "*-01,07-01"),
    ("bi-annually", "*-01,07-01"),
    ("yearly", "*-01-01"),
    ("annually", "*-01-01"),
    ("anually", "*-01-01"),
];

const LONG_NAMES: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// An expression: days of the week, date and time, of which any two may be missing.
pub(super) fn calendar(text: &str) -> Result<Calendar, String> {
    let word = WORDS
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text));
    let text = word.map_or(text, |(_, expression)| expression);
    if text.starts_with('@') {
        return Err("@ names one moment; write its date and time".to_owned());
    }

    let mut calendar = Calendar {
        weekdays: Weekdays::ALL,
        years: Chain::ANY,
        months: Chain::ANY,
        days: Chain::ANY,
        from_end: false,
        hours: Chain::only(0),
        minutes: Chain::only(0),
        seconds: Chain::only(0),
    };
    let mut parts = text.split(' ').filter(|part| !part.is_empty()).peekable();
    if parts.peek().is_none() {
        return Err("it is empty".to_owned());
    }

    if let Some(part) = parts.next_if(|part| part.starts_with(char::is_alphabetic)) {
        calendar.weekdays = weekdays(part)?;
    }
    if let Some(part) = parts.next_if(|part| !part.contains(':')) {
        date(part, &mut calendar)?;
    }
    if let Some(part) = parts.next() {
        time(part, &mut calendar)?;
    }
    match parts.next() {
        Some(part) if part.starts_with(char::is_alphabetic) => {
            Err(format!("a time zone such as '{part}' is given separately"))
        }
        Some(part) => Err(format!("'{part}' is too much")),
        None => Ok(calendar),
    }
}

/// `Mon..Fri,Sunday`, also `Mon-Fri`.
fn weekdays(text: &str) -> Result<Weekdays, String> {
    let list = text.strip_suffix(',').unwrap_or(text);
    let mut bits = 0;
    for part in list.split(',') {
        let range = part.split_once("..").or_else(|| part.split_once('-'));
        let (first, last) = match range {
            Some((first, last)) => (weekday(first)?, weekday(last)?),
            None => (weekday(part)?, weekday(part)?),
        };
        if first > last {
            return Err(format!(
                "the range {part} goes beyond Sunday; write two, such as Sat..Sun,Mon"
            ));
        }
        bits |= (first..=last).fold(0, |bits, day| bits | 1 << day);
    }
    Ok(Weekdays(bits))
}

fn weekday(text: &str) -> Result<usize, String> {
    let position = |names: [&str; 7]| {
        names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text))
    };
    position(Weekdays::NAMES)
        .or_else(|| position(LONG_NAMES))
        .ok_or_else(|| format!("'{text}' is no day of the week; those are Mon to Sun"))
}

/// `2026-11-29`, `11-29`, `*-*~01`.
fn date(text: &str, calendar: &mut Calendar) -> Result<(), String> {
    let from_end = text.contains('~');
    let (rest, day) = if from_end {
        text.split_once('~')
    } else {
        text.rsplit_once('-')
    }
    .ok_or_else(|| format!("'{text}' is neither a date such as *-*-01 nor a time such as 05:00"))?;

    let month = match rest.split_once('-') {
        Some((year, month)) => {
            calendar.years = Chain::parse(year, Field::YEAR)?;
            month
        }
        None => rest,
    };
    calendar.months = Chain::parse(month, Field::MONTH)?;

    let field = if from_end {
        Field::DAY_FROM_END
    } else {
        Field::DAY
    };
    calendar.days = Chain::parse(day, field)?;
    calendar.from_end = from_end && !calendar.days.is_any();
    Ok(())
}

/// `05:00`, `*:0/15:30`.
fn time(text: &str, calendar: &mut Calendar) -> Result<(), String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, *second),
        _ => return Err(format!("'{text}' is not a time such as 05:00 or 05:00:30")),
    };
    calendar.hours = Chain::parse(hour, Field::HOUR)?;
    calendar.minutes = Chain::parse(minute, Field::MINUTE)?;
    calendar.seconds = Chain::parse(second, Field::SECOND)?;
    Ok(())
}
