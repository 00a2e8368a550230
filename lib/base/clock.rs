//! The wall clock. Only this file reads it; all other code takes `now` as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Unix time in milliseconds, UTC. A clock set before 1970 reads as 0.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}

/// The same moment on two clocks: the wall clock, and CLOCK_MONOTONIC, which systemd's timestamps
/// use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Moment {
    /// Unix ms, UTC.
    pub now: i64,
    pub monotonic_us: u64,
    /// When the host booted, unix ms. A step of the wall clock after the boot makes it wrong by
    /// that step.
    pub booted_at: i64,
}

impl Moment {
    pub fn now() -> Self {
        let now = now_ms();
        // Unlike CLOCK_MONOTONIC, this clock also counts while the host sleeps.
        let since_boot = microseconds(ClockId::CLOCK_BOOTTIME) / 1000;

        Self {
            now,
            monotonic_us: microseconds(ClockId::CLOCK_MONOTONIC),
            booted_at: now - i64::try_from(since_boot).unwrap_or(0),
        }
    }

    /// Converts systemd's monotonic time `us` to unix ms. Gives `now` for 0 (it never happened) and
    /// for a time in the future.
    pub fn wall(&self, us: u64) -> i64 {
        let ago = if us == 0 {
            0
        } else {
            self.monotonic_us.saturating_sub(us) / 1000
        };
        self.now - i64::try_from(ago).unwrap_or(0)
    }
}

/// Reads a clock, in microseconds. Gives 0 if the kernel does not have it; Linux has both.
fn microseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).map_or(std::time::Duration::ZERO, std::time::Duration::from);
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// `ms` in the time zone of the host, or in that of the user's TZ, with the zone's name:
/// `2026-11-20 21:44:07 CET`.
pub fn local(ms: i64) -> String {
    zoned(ms, "%Y-%m-%d %H:%M:%S %Z")
}

/// The date of `ms` alone: `2026-11-20`.
pub fn day(ms: i64) -> String {
    zoned(ms, "%Y-%m-%d")
}

/// The begin and the end of the day before that of `ms`, unix ms; the end belongs to the next day.
/// A day on which clocks change has 23 or 25 hours. None beyond the calendar.
pub fn day_before(ms: i64) -> Option<(i64, i64)> {
    day_before_in(ms, &zone())
}

fn day_before_in(ms: i64, zone: &jiff::tz::TimeZone) -> Option<(i64, i64)> {
    let at = jiff::Timestamp::from_millisecond(ms).ok()?;
    let today = at.to_zoned(zone.clone()).date();
    let begin = |date: jiff::civil::Date| {
        let zoned = date.to_zoned(zone.clone()).ok()?;
        Some(zoned.timestamp().as_millisecond())
    };

    Some((begin(today.yesterday().ok()?)?, begin(today)?))
}

/// The name of the time zone at `ms`: `CET`, or `CEST` in summer; `UTC` if no zone can be read.
pub fn zone_name(ms: i64) -> String {
    zoned(ms, "%Z")
}

/// `ms` in the host's time zone, for a file name: `20261120-214407`.
pub fn stamp(ms: i64) -> String {
    zoned(ms, "%Y%m%d-%H%M%S")
}

/// `ms` in the host's time zone, to the minute: `06:00`; with the date if that is more than a day
/// away from `now`: `2026-12-01 06:00`.
pub fn minute(ms: i64, now: i64) -> String {
    let is_near = ms.abs_diff(now) < 24 * 3_600_000;
    zoned(ms, if is_near { "%H:%M" } else { "%Y-%m-%d %H:%M" })
}

/// `ms` in the host's time zone, without the date: `21:44:07`.
pub fn time_of_day(ms: i64) -> String {
    zoned(ms, "%H:%M:%S")
}

/// `ms` for programs: `2026-11-20T20:44:07Z`.
pub fn iso(ms: i64) -> String {
    jiff::Timestamp::from_second(ms.div_euclid(1000))
        .map_or_else(|_| "-".to_owned(), |at| at.to_string())
}

/// `ms` for the header of a mail: `Fri, 20 Nov 2026 20:44:07 +0000`.
pub fn rfc_2822(ms: i64) -> String {
    jiff::Timestamp::from_second(ms.div_euclid(1000)).map_or_else(
        |_| "Thu, 01 Jan 1970 00:00:00 +0000".to_owned(),
        |at| at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string(),
    )
}

/// The UTC offsets of the host's time zone around `ms`, for a program that shows times and has no
/// time zone database. The format is `SINCE MINUTES NAME`, separated by commas, with SINCE in unix
/// ms and MINUTES ahead of UTC. The first entry covers the time before the last change of the
/// clocks, the last one begins at the next change.
pub fn offsets(ms: i64) -> String {
    let Ok(at) = jiff::Timestamp::from_millisecond(ms) else {
        return String::new();
    };
    let zone = zone();
    let entry = |since: i64, info: &jiff::tz::TimeZoneOffsetInfo<'_>| {
        format!(
            "{since} {} {}",
            info.offset().seconds() / 60,
            info.abbreviation()
        )
    };

    // A change at exactly this moment counts as the last one.
    let after = at
        .checked_add(jiff::SignedDuration::from_millis(1))
        .unwrap_or(at);
    let last = zone
        .preceding(after)
        .next()
        .map_or(jiff::Timestamp::UNIX_EPOCH, |change| change.timestamp());
    let before = (last.as_millisecond() - 1).max(0);
    let moments = [
        Some(before),
        Some(last.as_millisecond()),
        zone.following(at)
            .next()
            .map(|change| change.timestamp().as_millisecond()),
    ];

    let entries = moments.into_iter().flatten().filter_map(|since| {
        let at = jiff::Timestamp::from_millisecond(since).ok()?;
        Some(entry(
            if since == before { 0 } else { since },
            &zone.to_offset_info(at),
        ))
    });

    entries.collect::<Vec<_>>().join(",")
}

/// The zone that TZ names, or the host's. Falls back to UTC, which is then also the name that is
/// shown.
pub fn zone() -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::try_system()
        .ok()
        .or_else(without_rule)
        .unwrap_or(jiff::tz::TimeZone::UTC)
}

/// The zone of this name in the host's time zone database; upper and lower case are the same there.
pub fn zone_named(name: &str) -> Option<jiff::tz::TimeZone> {
    jiff::tz::TimeZone::get(name).ok()
}

/// A zone such as `CET-1CEST`, which names summer time without its dates. The C library uses the
/// dates of the USA. So does left4me, or its times would differ from those of `date` and
/// journalctl.
fn without_rule() -> Option<jiff::tz::TimeZone> {
    let name = std::env::var("TZ").ok()?;
    jiff::tz::TimeZone::posix(&format!("{name},M3.2.0,M11.1.0")).ok()
}

fn zoned(ms: i64, format: &str) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => at.to_zoned(zone()).strftime(format).to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// A duration for people: `340 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.
pub fn span(ms: i64) -> String {
    let seconds = ms / 1000;
    match ms {
        ..=0 => "0 s".to_owned(),
        1..=999 => format!("{ms} ms"),
        1_000..=59_999 => format!("{seconds} s"),
        60_000..=3_599_999 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600_000..=86_399_999 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::{Moment, day_before_in, iso, span};

    #[test]
    fn a_monotonic_time_becomes_one_on_the_wall() {
        let moment = Moment {
            now: 1_000_000,
            monotonic_us: 5_000_000,
            booted_at: 995_000,
        };

        assert_eq!(
            [0, 5_000_000, 3_000_000, 9_000_000].map(|us| moment.wall(us)),
            [1_000_000, 1_000_000, 998_000, 1_000_000]
        );

        let (first, second) = (Moment::now(), Moment::now());
        assert!(first.monotonic_us > 0 && second.monotonic_us >= first.monotonic_us);
        assert!(first.booted_at > 0 && first.booted_at < first.now);
    }

    #[test]
    fn a_time_for_programs_is_in_utc_and_has_no_fraction() {
        assert_eq!(iso(1_763_671_447_999), "2025-11-20T20:44:07Z");
        assert_eq!(iso(i64::MAX), "-");
    }

    #[test]
    fn the_day_before_has_as_many_hours_as_the_clocks_showed() {
        const HOUR: i64 = 3_600_000;
        // What glibc and systemd understand too; in such a zone clocks change in March and October.
        let zone = jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        // 2026-10-26 and 2026-03-30, 12:00 UTC: the days after the changes.
        for (now, hours) in [
            (1_792_929_600_000 + 86_400_000, 25),
            (1_774_872_000_000, 23),
        ] {
            let (begin, end) = day_before_in(now, &zone).unwrap();
            assert_eq!((end - begin) / HOUR, hours, "{}", iso(begin));
            assert!(end <= now && now - end < 24 * HOUR);
        }

        let utc = jiff::tz::TimeZone::UTC;
        assert_eq!(
            day_before_in(10 * 24 * HOUR + 5, &utc),
            Some((9 * 24 * HOUR, 10 * 24 * HOUR))
        );
        assert_eq!(day_before_in(i64::MAX, &utc), None);
    }

    #[test]
    fn a_span_is_told_in_the_two_largest_units() {
        assert_eq!(
            [span(0), span(340), span(12_345), span(200_000)],
            ["0 s", "340 ms", "12 s", "3 min 20 s"]
        );

        assert_eq!(
            [span(7_500_000), span(356_400_000)],
            ["2 h 5 min", "4 d 3 h"]
        );
    }
}
