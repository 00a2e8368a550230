//! What is read and how it is written, when times come, and what is refused. A lab compares all of
//! that with systemd: `tests/lab/calendar.rs`.

use super::*;
use proptest::prelude::*;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

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

fn canonical(text: &str) -> String {
    let calendar: Calendar = text.parse().unwrap();
    calendar.to_string()
}

fn refusal(text: &str) -> String {
    Calendar::with_zone(text).unwrap_err().to_string()
}

#[test]
fn the_canonical_form_is_that_of_systemd() {
    for (text, form) in [
        ("05:00", "*-*-* 05:00:00"),
        (" *-*-*  5:0 ", "*-*-* 05:00:00"),
        ("Mon-Fri", "Mon..Fri *-*-* 00:00:00"),
        ("sunday,Mon, 5:00", "Mon,Sun *-*-* 05:00:00"),
        ("Mon..Sun 5:00", "*-*-* 05:00:00"),
        (
            "Sat,Thu,Mon..Wed,Sat..Sun",
            "Mon..Thu,Sat,Sun *-*-* 00:00:00",
        ),
        ("12-*-* 2,1:23", "2012-*-* 01,02:23:00"),
        ("99-1-1", "1999-01-01 00:00:00"),
        ("Mon *-05~07/1", "Mon *-05~07/1 00:00:00"),
        ("*-*~1..7/2", "*-*~01..07/2 00:00:00"),
        ("*-*~*", "*-*-* 00:00:00"),
        ("1..4/2,5..6/2:*:5..5", "*-*-* 01..03/2,05:*:05"),
        ("00:00:0/1,7", "*-*-* 00:00:*"),
        ("0/1:00..59/1", "*-*-* 00/1:00..59:00"),
        ("Weekly", "Mon *-*-* 00:00:00"),
        ("quarterly", "*-01,04,07,10-01 00:00:00"),
        ("semiannually", "*-01,07-01 00:00:00"),
    ] {
        assert_eq!(canonical(text), form, "{text}");
    }
}

#[test]
fn a_refusal_says_what_is_wrong_and_gives_an_example() {
    for (text, reason) in [
        ("", "it is empty"),
        (
            "0 5 * * *",
            "'0' is neither a date such as *-*-01 nor a time such as 05:00",
        ),
        (
            "Fri..Mon 05:00",
            "the range Fri..Mon goes beyond Sunday; write two, such as Sat..Sun,Mon",
        ),
        (
            "Someday",
            "'Someday' is no day of the week; those are Mon to Sun",
        ),
        ("25:00", "the hour 25 is not from 0 to 23"),
        (
            "05:00:00.5",
            "a fraction of a second is not possible, only whole seconds",
        ),
        (
            "05:00:1..2.5",
            "a fraction of a second is not possible, only whole seconds",
        ),
        ("@1790000000", "@ names one moment; write its date and time"),
        ("3000-01-01", "the year 3000 is not from 1970 to 2199"),
        (
            "*-*~29",
            "the day from the end of the month 29 is not from 1 to 28",
        ),
        (
            "6..5:00",
            "the range 6..5 of the hour ends before it begins",
        ),
        ("0/24:00", "the repetition 0/24 of the hour comes only once"),
        ("*:0/0", "a repetition of 0 is none"),
        (
            "*/2:00",
            "* stands alone, without a list, a range or a repetition",
        ),
        ("5,:00", "a hour is missing"),
        ("05:00 06:00", "'06:00' is too much"),
        ("1-2-3-4", "'2-3' is no month: a number or * is needed"),
        (
            "99999999999:00",
            "'99999999999' is no hour: the number is too large",
        ),
        (&"5".repeat(201), "it is longer than 200 bytes"),
    ] {
        let refusal = refusal(text);
        let example = "; an example is 'Mon..Fri *-*-* 05:00'";
        let said = refusal.strip_suffix(example).expect("an example");
        assert!(
            said.ends_with(&format!(" is not a calendar expression: {reason}")),
            "{refusal}"
        );
    }
}

#[test]
fn an_expression_may_end_with_a_zone_that_the_host_knows() {
    let (calendar, zone) = Calendar::with_zone("weekly europe/berlin").unwrap();
    assert_eq!(calendar.to_string(), "Mon *-*-* 00:00:00");
    assert_eq!(zone.unwrap().to_string(), "Europe/Berlin");
    assert_eq!(
        Calendar::with_zone("Mon 05:00 utc")
            .unwrap()
            .1
            .unwrap()
            .as_str(),
        "UTC"
    );
    assert_eq!(Calendar::with_zone("Mon 05:00").unwrap().1, None);

    assert!(refusal("05:00 CEST").starts_with("there is no time zone 'CEST' on this host"));
    let without: BadName = "05:00 UTC".parse::<Calendar>().unwrap_err();
    assert!(
        without
            .to_string()
            .contains("a time zone such as 'UTC' is given separately")
    );
}

#[test]
fn a_zone_is_a_name_of_the_database_and_no_path() {
    for name in [
        "UTC",
        "Europe/Berlin",
        "America/Argentina/Buenos_Aires",
        "Etc/GMT+1",
    ] {
        assert_eq!(name.parse::<ZoneName>().unwrap().as_str(), name);
    }
    for name in [
        "",
        "local",
        "localtime",
        "posixrules",
        "Factory",
        "posix/UTC",
        "right/UTC",
        "/UTC",
        "../zoneinfo/UTC",
        "Europe/../UTC",
        "Europe//Berlin",
        "Europe/Berlin/",
        "Europe",
        "/etc/localtime",
        "zone.tab",
        "Europe/Berlin\n",
        "Europe/B\u{e9}rlin",
        " UTC",
        "CET-1CEST",
    ] {
        assert!(name.parse::<ZoneName>().is_err(), "{name:?}");
    }
    assert!("A".repeat(65).parse::<ZoneName>().is_err());
}

#[test]
fn times_come_in_order() {
    for (expression, from, times) in [
        (
            "Mon..Fri 05:00",
            "2026-11-27T05:00:00Z",
            ["2026-11-30T05:00:00Z", "2026-12-01T05:00:00Z"],
        ),
        (
            "*:0/15",
            "2026-12-31T23:44:59.999Z",
            ["2026-12-31T23:45:00Z", "2027-01-01T00:00:00Z"],
        ),
        (
            "*:*:*",
            "2026-12-31T23:59:58Z",
            ["2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"],
        ),
        (
            "*-02-29",
            "2026-11-29T00:00:00Z",
            ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        ),
        (
            "*-*~01",
            "2027-01-31T00:00:00Z",
            ["2027-02-28T00:00:00Z", "2027-03-31T00:00:00Z"],
        ),
        (
            "Mon *-05~07/1",
            "2026-11-29T00:00:00Z",
            ["2027-05-31T00:00:00Z", "2028-05-29T00:00:00Z"],
        ),
    ] {
        assert_eq!(next_times(expression, from, 2), times, "{expression}");
    }
}

#[test]
fn what_never_comes_again_has_no_next_time() {
    let never = |expression| next_times(expression, "2026-11-29T00:00:00Z", 1).is_empty();
    assert!(never("2026-11-29"));
    assert!(never("*-02-30"));
    assert!(never("Mon 2026-12-01"));
    assert!(never("2011-12-30 12:00 Pacific/Apia"));
    assert!(!never("2199-12-31 23:59:59"));

    let daily: Calendar = "daily".parse().unwrap();
    for at in [i64::MIN, -1, ms("2199-12-31T00:00:00Z"), i64::MAX] {
        let next = daily.next_after(at, &TimeZone::UTC);
        assert_eq!(next, (at < 0).then_some(DAY), "{at}");
    }
}

#[test]
fn a_time_that_the_clocks_skip_does_not_come_that_day() {
    assert_eq!(
        next_times("02:30 Europe/Berlin", "2026-03-28T23:00:00Z", 1),
        ["2026-03-30T00:30:00Z"]
    );
    assert_eq!(
        next_times("2..3:15 Europe/Berlin", "2026-03-28T23:00:00Z", 1),
        ["2026-03-29T01:15:00Z"]
    );
    assert_eq!(
        next_times("02:15 Australia/Lord_Howe", "2026-10-03T14:00:00Z", 1),
        ["2026-10-04T15:15:00Z"]
    );
}

#[test]
fn a_time_that_the_clocks_show_twice_comes_once() {
    assert_eq!(
        next_times("02:30 America/New_York", "2026-10-31T12:00:00Z", 1),
        ["2026-11-01T07:30:00Z"]
    );
    assert_eq!(
        next_times("01:30 America/New_York", "2026-11-01T05:00:00Z", 2),
        ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]
    );

    // Who begins in the second turn finds the time there.
    assert_eq!(
        next_times("01:30 America/New_York", "2026-11-01T06:10:00Z", 1),
        ["2026-11-01T06:30:00Z"]
    );
}

#[test]
fn timers_get_a_form_without_open_repetitions() {
    let bounded = |text: &str| text.parse::<Calendar>().unwrap().bounded().to_string();
    assert_eq!(bounded("3/4:0/15"), "*-*-* 03..23/4:00..45/15:00");
    assert_eq!(bounded("*-*~7/4 1,2..3:00"), "*-*~03..07/4 01,02..03:00:00");
    assert_eq!(
        bounded("2027/5-2/7-2/5 *:*:*"),
        "2027..2197/5-02..09/7-02..27/5 *:*:*"
    );

    // systemd itself finds no time of 3/4:00 then.
    assert_eq!(
        next_times("3/4:00 Europe/Berlin", "2026-03-28T22:30:00Z", 1),
        ["2026-03-29T01:00:00Z"]
    );
}

#[test]
fn the_shortest_gap_is_found_over_midnight_and_over_months() {
    let gap = |expression: &str| {
        let calendar: Calendar = expression.parse().unwrap();
        calendar.shortest_gap(ms("2026-11-29T12:00:00Z"), &TimeZone::UTC)
    };
    assert_eq!(gap("*:*:*"), Some(1000));
    assert_eq!(gap("*:0/5"), Some(5 * MINUTE));
    assert_eq!(gap("05:00"), Some(DAY));
    assert_eq!(gap("0,23:00,58"), Some(2 * MINUTE));
    assert_eq!(gap("*-*-1,28 0,23:01,59"), Some(2 * MINUTE));
    assert_eq!(gap("*-12-31"), Some(365 * DAY));
    assert_eq!(gap("2027-01-01"), None);
    assert_eq!(gap("2026-01-01"), None);
}

/// A field's text.
fn field(lowest: u32, highest: u32) -> impl Strategy<Value = String> {
    let part = prop_oneof![
        (lowest..=highest).prop_map(|value| value.to_string()),
        (lowest..highest, 1..9_u32, 1..4_u32).prop_map(move |(first, more, step)| {
            format!("{first}..{}/{step}", (first + more).min(highest))
        }),
        (lowest..=lowest + 3, 1..20_u32)
            .prop_map(move |(first, step)| { format!("{first}/{}", step.min(highest - first)) }),
    ];
    let list = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(","));
    prop_oneof![Just("*".to_owned()), list]
}

fn expression() -> impl Strategy<Value = String> {
    let weekdays = prop::sample::select(vec!["", "Mon ", "Tue..Thu,Sun ", "Sat,Sun "]);
    let day = (
        prop_oneof![field(1, 12), Just("*".to_owned())],
        "-",
        field(1, 31),
    );
    let time = (field(0, 23), field(0, 59), field(0, 59));
    (weekdays, day, time).prop_map(|(weekdays, (month, dash, day), (hour, minute, second))| {
        format!("{weekdays}{month}{dash}{day} {hour}:{minute}:{second}")
    })
}

fn zones() -> impl Strategy<Value = TimeZone> {
    let names = vec![
        "UTC",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "America/Havana",
    ];
    prop::sample::select(names).prop_map(|name| name.parse::<ZoneName>().unwrap().zone().clone())
}

proptest! {
    #[test]
    fn the_canonical_form_means_the_same(text in expression()) {
        let calendar: Calendar = text.parse().unwrap();
        let bounded = calendar.bounded();
        prop_assert_eq!(bounded.to_string().parse::<Calendar>().unwrap(), bounded);
        prop_assert_eq!(calendar.to_string().parse::<Calendar>().unwrap(), calendar);
    }

    #[test]
    fn the_next_time_is_later_and_fits(
        text in expression(),
        at in 0..4_102_444_800_000_i64,
        zone in zones(),
    ) {
        let calendar: Calendar = text.parse().unwrap();
        if let Some(next) = calendar.next_after(at, &zone) {
            prop_assert!(next > at && next % 1000 == 0);
            let shown = zone.to_datetime(jiff::Timestamp::from_millisecond(next).unwrap());
            let fits = |chain: &Chain, value: i32| chain.at_least(value) == Some(value);
            prop_assert!(calendar.weekdays.contains(shown.weekday()));
            prop_assert!(fits(&calendar.months, shown.month().into()));
            prop_assert!(fits(&calendar.days, shown.day().into()));
            prop_assert!(fits(&calendar.hours, shown.hour().into()));
            prop_assert!(fits(&calendar.minutes, shown.minute().into()));
            prop_assert!(fits(&calendar.seconds, shown.second().into()));
        }
    }

    #[test]
    fn any_text_is_read_or_refused_in_one_line(text in ".*|[-~*0-9:,./ a-z]{0,40}") {
        if let Err(bad) = Calendar::with_zone(&text) {
            prop_assert_eq!(bad.to_string().lines().count(), 1);
        }
    }
}
