//! The values that one field of an expression may have: `*`, or a list of numbers, of ranges
//! `1..5`, and of repetitions `0/15` and `1..9/2`.

use std::fmt;

/// A field of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    name: &'static str,
    lowest: i32,
    highest: i32,
}

impl Field {
    pub(super) const YEAR: Self = Self::new("year", 1970, 2199);
    pub(super) const MONTH: Self = Self::new("month", 1, 12);
    pub(super) const DAY: Self = Self::new("day", 1, 31);
    /// Every month has that many.
    pub(super) const DAY_FROM_END: Self = Self::new("day from the end of the month", 1, 28);
    pub(super) const HOUR: Self = Self::new("hour", 0, 23);
    pub(super) const MINUTE: Self = Self::new("minute", 0, 59);
    pub(super) const SECOND: Self = Self::new("second", 0, 59);

    const fn new(name: &'static str, lowest: i32, highest: i32) -> Self {
        Self {
            name,
            lowest,
            highest,
        }
    }
}

/// The values of a field, sorted. None at all: any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain(Vec<Component>);

/// Sorted as systemd does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Component {
    start: i32,
    stop: Option<i32>,
    /// The distance of the values from `start` on; 0: there is only `start`.
    repeat: i32,
}

impl Chain {
    pub(super) const ANY: Self = Self(Vec::new());

    pub(super) fn only(value: i32) -> Self {
        Self(vec![Component {
            start: value,
            stop: None,
            repeat: 0,
        }])
    }

    pub(super) fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a field. Fails with the reason.
    pub(super) fn parse(text: &str, field: Field) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::ANY);
        }

        let parts = text.split(',').map(|part| Component::parse(part, field));
        let mut parts: Vec<Component> = parts.collect::<Result<_, _>>()?;
        parts.sort_unstable();
        parts.dedup();
        if field == Field::DAY_FROM_END {
            check_days_from_end(&parts)?;
        }

        let every_second = Component {
            start: 0,
            stop: None,
            repeat: 1,
        };
        if field == Field::SECOND && parts.contains(&every_second) {
            return Ok(Self::ANY);
        }
        Ok(Self(parts))
    }

    /// The same values, with an end in each repetition.
    pub(super) fn bounded(&self, field: Field) -> Self {
        let parts = self.0.iter().map(|part| part.bounded(field));
        let mut parts: Vec<Component> = parts.collect();
        parts.sort_unstable();
        parts.dedup();
        Self(parts)
    }

    /// The lowest of the values that is at least `value`. It can be beyond the field's highest.
    pub(super) fn at_least(&self, value: i32) -> Option<i32> {
        self.lowest_of(value, |part| *part)
    }

    /// As [`Chain::at_least`], for days counted from the end of a month with `last` days.
    pub(super) fn at_least_from_end(&self, value: i32, last: i32) -> Option<i32> {
        let day = |from_end: i32| last + 1 - from_end;
        self.lowest_of(value, |part| Component {
            start: day(part.stop.unwrap_or(part.start)),
            stop: part.stop.map(|_| day(part.start)),
            repeat: part.repeat,
        })
    }

    fn lowest_of(&self, value: i32, as_seen: impl Fn(&Component) -> Component) -> Option<i32> {
        if self.is_any() {
            return Some(value);
        }
        let values = self.0.iter();
        values
            .filter_map(|part| as_seen(part).at_least(value))
            .min()
    }
}

impl Component {
    fn parse(text: &str, field: Field) -> Result<Self, String> {
        let (range, repeat) = match text.split_once('/') {
            Some((range, repeat)) => (range, Some(number(repeat, field)?)),
            None => (text, None),
        };
        let (start, stop) = match range.split_once("..") {
            Some((start, stop)) => (number(start, field)?, Some(number(stop, field)?)),
            None => (number(range, field)?, None),
        };
        if repeat == Some(0) {
            return Err("a repetition of 0 is none".to_owned());
        }

        let (start, stop) = (within(start, field)?, stop.map(|stop| within(stop, field)));
        match stop.transpose()? {
            Some(stop) if stop < start => Err(format!(
                "the range {range} of the {} ends before it begins",
                field.name
            )),
            Some(stop) => Ok(Self::range(start, stop, repeat.unwrap_or(1))),
            None => Self::repeated(start, repeat.unwrap_or(0), field),
        }
    }

    /// A range that ends at a value that is reached.
    fn range(start: i32, stop: i32, repeat: i32) -> Self {
        let stop = stop - (stop - start) % repeat;
        if stop == start {
            return Self {
                start,
                stop: None,
                repeat: 0,
            };
        }
        Self {
            start,
            stop: Some(stop),
            repeat,
        }
    }

    fn repeated(start: i32, repeat: i32, field: Field) -> Result<Self, String> {
        let is_reached = if field == Field::DAY_FROM_END {
            start - repeat >= field.lowest
        } else {
            repeat <= field.highest - start
        };
        if !is_reached {
            return Err(format!(
                "the repetition {start}/{repeat} of the {} comes only once",
                field.name
            ));
        }
        Ok(Self {
            start,
            stop: None,
            repeat,
        })
    }

    fn bounded(self, field: Field) -> Self {
        if self.repeat == 0 || self.stop.is_some() {
            return self;
        }
        if field == Field::DAY_FROM_END {
            let first = field.lowest + (self.start - field.lowest) % self.repeat;
            return Self::range(first, self.start, self.repeat);
        }
        Self::range(self.start, field.highest, self.repeat)
    }

    fn at_least(self, value: i32) -> Option<i32> {
        if self.start >= value {
            return Some(self.start);
        }
        if self.repeat == 0 {
            return None;
        }

        let beyond = (value - self.start) % self.repeat;
        let next = value + (self.repeat - beyond) % self.repeat;
        self.stop.is_none_or(|stop| next <= stop).then_some(next)
    }
}

/// In a list of such days, systemd takes three fewer of them for each part than for the one before.
fn check_days_from_end(parts: &[Component]) -> Result<(), String> {
    let mut highest = Field::DAY_FROM_END.highest;
    for part in parts {
        let day = part.stop.unwrap_or(part.start);
        if day > highest {
            return Err(format!(
                "systemd takes no day {day} from the end of the month in such a list; \
                 make its parts fewer"
            ));
        }
        highest -= 3;
    }
    Ok(())
}

fn number(text: &str, field: Field) -> Result<i32, String> {
    let refuse = |reason: &str| Err(format!("'{text}' is no {}{reason}", field.name));
    if text.is_empty() {
        return Err(format!("a {} is missing", field.name));
    }
    if field == Field::SECOND && text.contains('.') {
        return Err("a fraction of a second is not possible, only whole seconds".to_owned());
    }
    if text == "*" {
        return Err("* stands alone, without a list, a range or a repetition".to_owned());
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return refuse(": a number or * is needed");
    }
    // No field's highest value has that many digits.
    match text.trim_start_matches('0') {
        "" => Ok(0),
        digits if digits.len() <= 6 => digits.parse().or_else(|_| refuse("")),
        _ => refuse(": the number is too large"),
    }
}

/// The value, with a century if it is a year of two digits.
fn within(value: i32, field: Field) -> Result<i32, String> {
    let value = match value {
        0..70 if field == Field::YEAR => value + 2000,
        70..100 if field == Field::YEAR => value + 1900,
        _ => value,
    };
    if value < field.lowest || value > field.highest {
        return Err(format!(
            "the {} {value} is not from {} to {}",
            field.name, field.lowest, field.highest
        ));
    }
    Ok(value)
}

/// The formatter's width is that of the numbers: `{:02}`.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("*");
        }
        let width = f.width().unwrap_or(0);
        for (index, part) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{:0width$}", part.start)?;
            if let Some(stop) = part.stop {
                write!(f, "..{stop:0width$}")?;
            }
            if part.repeat > i32::from(part.stop.is_some()) {
                write!(f, "/{}", part.repeat)?;
            }
        }
        Ok(())
    }
}
