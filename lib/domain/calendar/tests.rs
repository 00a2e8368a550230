//! What is read and how it is written, when times come, and what is refused.

use super::*;
use proptest::prelude::*;

fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// The next times of an expression, in the zone that it names.
fn next_times(expression: &str, from: &str, count: usize) -> Vec<String> {
    let (calendar, zone) = Calendar::with_zone(expression).unwrap();
    let zone = zone.map_or(TimeZone::UTC, |zone| zone.zone().clone());
    let next = |at: &i64| calendar.next_after(*at, &zone);
    let times = std::iter::successors(next(&ms(from)), next).take(count);
    times
        .map(|at| jiff::Timestamp::from_millisecond(at).unwrap().to_string())
        .collect()
}

#[test]
fn times_come_in_order() {
    assert_eq!(
        next_times("Mon..Fri 05:00", "2026-11-27T05:00:00Z", 2),
        ["2026-11-30T05:00:00Z", "2026-12-01T05:00:00Z"]
    );
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in ".*") {
        let _ = Calendar::with_zone(&text);
    }
}
