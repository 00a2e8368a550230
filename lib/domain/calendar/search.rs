//! Finds the next time of an expression, in the same steps as systemd: from the year down to the
//! second, each field gets the lowest value that fits; then a time that the clocks do not show is
//! replaced by the one that they show instead, and the search goes on from there.
//!
//! So a time that is skipped when clocks are put forward comes an hour later if the expression
//! fits that time too, else not on that day. When clocks are put back, the times of the repeated
//! hour come once, in its first turn, unless the search begins in the second.

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::Calendar;
use super::chain::Chain;

/// An expression that needs more steps than this never comes; systemd gives up after as many.
const STEPS: usize = 1000;

/// The last year, as systemd has it.
const LAST_YEAR: i32 = 2199;

/// Year, month, day, hour, minute and second. While searching they can be too large.
type Fields = [i32; 6];
const DAY: usize = 2;
const SECOND: usize = 5;
const LOWEST: Fields = [1970, 1, 1, 0, 0, 0];

/// The first time after `at`; both in unix ms.
pub(super) fn next(calendar: &Calendar, at: i64, zone: &TimeZone) -> Option<i64> {
    let begin = Timestamp::from_second(at.max(0).div_euclid(1000)).ok()?;
    let mut clock = Clock {
        zone,
        offset: zone.to_offset(begin),
    };
    let mut fields = fields_of(zone.to_datetime(begin));

    // The second that has begun is over.
    let mut is_over = true;
    for _ in 0..STEPS {
        fields = clock.shown(fields)?;
        match step(calendar, &mut clock, fields, &mut is_over)? {
            Step::Found(found) => return clock.instant(found).map(Timestamp::as_millisecond),
            Step::From(later) => fields = later,
        }
    }
    None
}

/// What came of one pass over the fields.
enum Step {
    Found(Fields),
    /// Nothing fits before these; they may be too large.
    From(Fields),
}

/// Goes over the fields once. None if the expression never comes again.
fn step(
    calendar: &Calendar,
    clock: &mut Clock<'_>,
    mut fields: Fields,
    is_over: &mut bool,
) -> Option<Step> {
    for field in 0..fields.len() {
        let least = fields[field] + i32::from(field == SECOND && *is_over);
        let value = lowest_that_fits(calendar, field, least, fields);
        if value.is_some_and(|value| value != fields[field]) {
            reset_below(&mut fields, field);
            *is_over = false;
        }
        fields[field] = value.unwrap_or(fields[field]);

        let settled = value.map_or(Settled::Impossible, |_| clock.settle(&mut fields));
        match (settled, field) {
            (Settled::Kept, _) => {}
            (_, 0) => return None,
            (Settled::Moved, _) => return Some(Step::From(fields)),
            (Settled::Impossible, _) => return Some(following(fields, field - 1, is_over)),
        }

        if field == DAY && !calendar.weekdays.contains(date(fields)?.weekday()) {
            return Some(following(fields, DAY, is_over));
        }
    }
    Some(Step::Found(fields))
}

/// The begin of the next value of a field.
fn following(mut fields: Fields, field: usize, is_over: &mut bool) -> Step {
    fields[field] += 1;
    reset_below(&mut fields, field);
    *is_over = false;
    Step::From(fields)
}

fn reset_below(fields: &mut Fields, field: usize) {
    fields[field + 1..].copy_from_slice(&LOWEST[field + 1..]);
}

fn lowest_that_fits(calendar: &Calendar, field: usize, least: i32, fields: Fields) -> Option<i32> {
    let chains: [&Chain; 6] = [
        &calendar.years,
        &calendar.months,
        &calendar.days,
        &calendar.hours,
        &calendar.minutes,
        &calendar.seconds,
    ];
    if field == DAY && calendar.from_end {
        let last = i32::from(date([fields[0], fields[1], 1, 0, 0, 0])?.days_in_month());
        return chains[field].at_least_from_end(least, last);
    }
    chains[field].at_least(least)
}

/// What the clocks of a zone show.
struct Clock<'a> {
    zone: &'a TimeZone,
    /// The offset of the instant that was looked at last. It tells the two turns of a repeated hour
    /// apart, as the C library's mktime does.
    offset: Offset,
}

/// What became of fields that were tried.
enum Settled {
    Kept,
    /// No clock shows them; they were replaced by a later time.
    Moved,
    Impossible,
}

impl Clock<'_> {
    /// The time that clocks show for fields that may be too large or skipped.
    fn shown(&mut self, fields: Fields) -> Option<Fields> {
        let instant = self.instant(fields)?;
        Some(fields_of(self.zone.to_datetime(instant)))
    }

    fn instant(&mut self, fields: Fields) -> Option<Timestamp> {
        let local = civil(fields)?;
        let offset = match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } => before,
            AmbiguousOffset::Fold { after, .. } if self.offset == after => after,
            AmbiguousOffset::Fold { before, .. } => before,
        };
        let instant = offset.to_timestamp(local).ok()?;
        self.offset = self.zone.to_offset(instant);
        Some(instant)
    }

    fn settle(&mut self, fields: &mut Fields) -> Settled {
        if fields[0] > LAST_YEAR {
            return Settled::Impossible;
        }
        let Some(mut shown) = self.shown(*fields) else {
            return Settled::Impossible;
        };
        let Some(changed) = (0..fields.len()).find(|field| shown[*field] != fields[*field]) else {
            return Settled::Kept;
        };
        if shown[changed] < fields[changed] {
            return Settled::Impossible;
        }
        if let Some(below) = shown.get_mut(changed + 1) {
            *below = LOWEST[changed + 1];
        }
        *fields = shown;
        Settled::Moved
    }
}

fn fields_of(local: DateTime) -> Fields {
    [
        local.year().into(),
        local.month().into(),
        local.day().into(),
        local.hour().into(),
        local.minute().into(),
        local.second().into(),
    ]
}

/// The date of fields that are not too large.
fn date(fields: Fields) -> Option<Date> {
    let [year, month, day, ..] = fields;
    Date::new(
        year.try_into().ok()?,
        month.try_into().ok()?,
        day.try_into().ok()?,
    )
    .ok()
}

/// The time of fields that may be too large.
fn civil(fields: Fields) -> Option<DateTime> {
    let [year, month, day, hour, minute, second] = fields;
    let months = year * 12 + month - 1;
    let first = date([months.div_euclid(12), months.rem_euclid(12) + 1, 1, 0, 0, 0])?;
    let days = i64::from(day) - 1;
    let seconds = ((days * 24 + i64::from(hour)) * 60 + i64::from(minute)) * 60;
    let since = SignedDuration::from_secs(seconds + i64::from(second));
    first.at(0, 0, 0, 0).checked_add(since).ok()
}
