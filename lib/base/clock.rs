//! The wall clock, in one place: everything above takes `now` as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds, UTC. A clock before 1970 reads as 0.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// `ms` in the host's time zone as `2026-11-20 21:44:07`, for people.
#[must_use]
pub fn local(ms: i64) -> String {
    zoned(ms, "%Y-%m-%d %H:%M:%S")
}

/// `ms` in the host's time zone, compact enough for a file name: `20261120-214407`.
#[must_use]
pub fn stamp(ms: i64) -> String {
    zoned(ms, "%Y%m%d-%H%M%S")
}

fn zoned(ms: i64, format: &str) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => at.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// A length of time for people: `340 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.
#[must_use]
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
    use super::span;

    #[test]
    fn a_span_is_told_in_the_two_largest_units() {
        assert_eq!([span(0), span(340), span(12_345), span(200_000)], ["0 s", "340 ms", "12 s", "3 min 20 s"]);
        assert_eq!([span(7_500_000), span(356_400_000)], ["2 h 5 min", "4 d 3 h"]);
    }
}
