//! left4me reads calendar expressions as systemd does: what it refuses, the canonical form, and the
//! times, above all around the nights in which clocks are changed.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use left4me::domain::calendar::Calendar;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::lab::Lab;

/// How many expressions are made up, and how many times of each are compared.
const EXPRESSIONS: usize = 300;
const TIMES: usize = 5;

/// From the manual page, and what people write.
const WRITTEN: &str = "
    minutely; hourly; daily; weekly; monthly; quarterly; semiannually; semi-annually; biannually
    bi-annually; yearly; annually; anually; DAILY; weekly Europe/Berlin; hourly UTC
    Sat,Thu,Mon..Wed,Sat..Sun; Mon,Sun 12-*-* 2,1:23; Wed *-1; Wed..Wed,Wed *-1; Wed, 17:48
    Wed..Sat,Tue 12-10-15 1:2:3; *-*-7 0:0:0; 10-15; monday *-12-* 17:00
    Mon,Fri *-*-3,1,2 *:30:45; 12,14,13,12:20,10,30; 12..14:10,20,30
    mon,fri *-1/2-1,3 *:30:45; 03-05 08:05:40; 08:05:40; 05:40; Sat,Sun 12-05 08:05:40
    Sat,Sun 08:05:40; 2003-03-05 05:40; 2003-02..04-05; 2003-03-05 05:40 UTC; 2003-03-05
    03-05; *:2/3; *-05~03; Mon *-05~07/1; *-*~1..7/2; *-*~*; *-*-31; *-02-29; *-02-30; *-02~28
    Mon-Fri 5:0; Mon, 5:00; Mon..Sun 5:00; 1,1,2:00; 2,1..5,2..3:00; 1/2,1..5/2,1:00; *:5..59/60
    5..6/2:00; 0/23:00; *:*:*; *:*:0/1; *:*:0/1,5; 05:00:00/5; 05:00:00..59/1; 70-1-1; 69-*-*
    2199-12-31 23:59:59; 1970-01-01; 2000/7-1-1; 00002030-1-1; Sun,Mon; Fri..Sun *-*-13
    05:00 Europe/Berlin; Mon  05:00";

const REFUSED: &str = "
    Fri..Mon; *; 5; :5; 5:; 5:00:; 24:00; *:60; 00:00:60; *-13-1; *-0-1; *-*-32; *-*-0; *-*~29
    *-*~0; 3000-01-01; 1969-1-1; 100-1-1; 6..5:00; *-*~03..01; 0/24:00; 5/0:00; *-*-1/31; *:1/59
    *-12/1-1; *-*~1/3; *,1:00; 1,*:00; */2:00; 5,:00; 5..:00; 5/:00; +5:00; Mon 5:00 6:00; Foo
    Mon,,Tue; Mon,05:00; Mon.. 5:00; Mon..Tue..Wed; 1-2-3-4; 1~2~3; *~1-1; 2026-1-1T05:00; UTC
    05:00 Europe/Nowhere; 05:00 ../etc/passwd; 05:00 europe//berlin; 99999999999999999999:00
    5:00 Mon; 05:00 /UTC; *-*-*-* 5:00";

/// Zones, with the time of a change of their clocks; one has none. Only zones of which no new rule is
/// to be expected: the lab's copy of the time zone database may be older than the one here.
const CHANGES: [(&str, &str); 12] = [
    ("Europe/Berlin", "2026-03-29T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("America/New_York", "2027-03-14T07:00:00Z"),
    ("America/New_York", "2027-11-07T06:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Atlantic/Azores", "2026-03-29T01:00:00Z"),
    ("Atlantic/Azores", "2026-10-25T01:00:00Z"),
    ("America/Halifax", "2026-11-01T05:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Asia/Kolkata", "2026-11-29T18:30:00Z"),
    ("UTC", "2028-02-29T00:00:00Z"),
];

/// An expression that is asked for, and the time from which on its times are.
#[derive(Debug)]
struct Question {
    text: String,
    from: Timestamp,
}

pub fn calendar_expressions_mean_what_they_mean_to_systemd(lab: &Lab) {
    let listed = |list: &str| -> Vec<String> {
        let texts = list.split([';', '\n']).map(str::trim);
        let texts = texts.filter(|text| !text.is_empty());
        texts.map(str::to_owned).collect()
    };
    let from: Timestamp = "2026-02-27T23:59:59Z".parse().unwrap();
    let written = listed(WRITTEN).into_iter().chain(listed(REFUSED));
    let mut questions: Vec<_> = written.map(|text| Question { text, from }).collect();
    questions.extend(made_up());

    let answers = ask_systemd(lab, &questions);
    let mut refused = 0;
    let mut different = Vec::new();
    for (question, systemds) in questions.iter().zip(&answers) {
        let ours = answer(question);
        refused += usize::from(ours.is_empty());
        if ours != *systemds {
            let Question { text, from } = question;
            different.push(format!(
                "'{text}' from {from}:\n{ours}--- systemd:\n{systemds}"
            ));
        }
    }

    let count = different.len();
    assert!(count == 0, "{count} differ:\n{}", different.join("\n"));
    assert!(refused < EXPRESSIONS / 2, "{refused} were refused by both");
}

/// The canonical form and the next times, one on a line; nothing if it is refused.
fn answer(question: &Question) -> String {
    let Ok((calendar, zone)) = Calendar::with_zone(&question.text) else {
        return String::new();
    };
    let mut lines = match &zone {
        Some(zone) => format!("{calendar} {zone}\n"),
        None => format!("{calendar}\n"),
    };
    let zone = zone.map_or(TimeZone::UTC, |zone| zone.zone().clone());
    let next = |at: &i64| calendar.next_after(*at, &zone);
    let times = std::iter::successors(next(&question.from.as_millisecond()), next);
    for time in times.take(TIMES) {
        let time = Timestamp::from_millisecond(time).unwrap();
        writeln!(lines, "{}", time.strftime("%a %Y-%m-%d %H:%M:%S UTC")).unwrap();
    }
    if lines.lines().count() == 1 {
        lines.push_str("never\n");
    }
    lines
}

/// systemd's answers in the same form, asked for by one script. The times are those of the form
/// that timers get.
fn ask_systemd(lab: &Lab, questions: &[Question]) -> Vec<String> {
    let mut script = String::from("export TZ=UTC\nexec 2>/dev/null </dev/null\n");
    for Question { text, from } in questions {
        let bounded = Calendar::with_zone(text).map(|(calendar, zone)| {
            let zone = zone.map(|zone| format!(" {zone}")).unwrap_or_default();
            format!("{}{zone}", calendar.bounded())
        });
        let bounded = bounded.unwrap_or_else(|_| text.clone());
        let base = from.strftime("%Y-%m-%d %H:%M:%S UTC");
        writeln!(
            script,
            "echo ==; systemd-analyze calendar --base-time='2026-06-15 12:00:00 UTC' '{text}' || :\n\
             echo --; systemd-analyze calendar --base-time='{base}' --iterations={TIMES} '{bounded}' || :"
        )
        .unwrap();
    }

    lab.write("/root/calendar", &script);
    let output = lab.ok(&["bash", "-eu", "/root/calendar"]);
    let answers = output.split("==\n").skip(1);
    let answers: Vec<_> = answers.map(essence).collect();
    assert_eq!(answers.len(), questions.len(), "an answer to each question");
    answers
}

/// The lines of an answer that count.
fn essence(answer: &str) -> String {
    let (form, times) = answer.split_once("--\n").unwrap_or((answer, ""));
    let values = |text: &str, names: &[&str]| -> String {
        let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
        let wanted = lines.filter(|(name, _)| names.iter().any(|wanted| name.starts_with(wanted)));
        wanted.map(|(_, value)| format!("{value}\n")).collect()
    };
    values(form, &["Normalized"]) + &values(times, &["Next elapse", "Iter"])
}

/// Expressions with a zone, and times around a change of its clocks. The same ones in each run.
fn made_up() -> Vec<Question> {
    let mut runner = TestRunner::deterministic();
    let question = (expression(), prop::sample::select(&CHANGES[..]), around());
    let question = question.prop_map(|(text, (zone, change), seconds)| Question {
        text: format!("{text} {zone}"),
        from: change.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds),
    });
    let mut make = || question.new_tree(&mut runner).unwrap().current();
    (0..EXPRESSIONS).map(|_| make()).collect()
}

/// Seconds before or after a change: mostly some hours, sometimes days or months.
fn around() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -10_800..10_800_i64,
        2 => (-12..12_i64).prop_map(|quarter| quarter * 900),
        1 => -400_000..400_000_i64,
        1 => -20_000_000..20_000_000_i64,
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let day = || {
        prop_oneof![
            4 => field(1, 31).prop_map(|day| format!("-{day}")),
            1 => field(1, 28).prop_map(|day| format!("~{day}")),
        ]
    };
    let date = prop_oneof![
        4 => Just(String::new()),
        2 => Just("*-*-* ".to_owned()),
        3 => (field(1, 12), day()).prop_map(|(month, day)| format!("{month}{day} ")),
        1 => (field(2011, 2031), field(1, 12), day())
            .prop_map(|(year, month, day)| format!("{year}-{month}{day} ")),
    ];
    let time = prop_oneof![
        6 => (field(0, 3), field(0, 59)).prop_map(|(h, m)| format!("{h}:{m}")),
        2 => (field(0, 23), field(0, 59)).prop_map(|(h, m)| format!("{h}:{m}")),
        2 => (field(0, 23), field(0, 59), field(0, 59)).prop_map(|(h, m, s)| format!("{h}:{m}:{s}")),
    ];
    let all = (prop::option::weighted(0.2, weekdays()), date, time);
    all.prop_map(|(days, date, time)| match days {
        Some(days) => format!("{days} {date}{time}"),
        None => format!("{date}{time}"),
    })
}

fn weekdays() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "Mon",
        "tue",
        "Wednesday",
        "THU",
        "friday",
        "Sat",
        "Sunday",
        "Fri",
    ]);
    let part = prop_oneof![
        3 => name.clone().prop_map(str::to_owned),
        1 => (name.clone(), name).prop_map(|(first, last)| format!("{first}..{last}")),
    ];
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(","))
}

/// A field of an expression, of which some parts cannot be.
fn field(lowest: u32, highest: u32) -> impl Strategy<Value = String> {
    let value = lowest..=highest;
    let beyond = lowest..=highest + 1;
    let step = prop_oneof![9 => 1..30_u32, 1 => 0..70_u32];
    // What follows the range's begin. systemd forgives an end that is too large and not reached,
    // but no end of seconds that is the begin.
    let range = (lowest..highest, 1..10_u32);
    let range = range.prop_map(move |(first, more)| (first, (first + more).min(highest)));
    let begin = lowest..=lowest + 3;
    let part = prop_oneof![
        8 => value.prop_map(|value| value.to_string()),
        1 => beyond.clone().prop_map(|value| value.to_string()),
        3 => range.clone().prop_map(|(first, last)| format!("{first}..{last}")),
        2 => (range, step.clone()).prop_map(|((first, last), step)| format!("{first}..{last}/{step}")),
        3 => (begin, step.clone()).prop_map(move |(first, step)| {
            format!("{first}/{}", step.min(highest - first))
        }),
        1 => (beyond, step).prop_map(|(first, step)| format!("{first}/{step}")),
    ];
    prop_oneof![
        2 => Just("*".to_owned()),
        3 => prop::collection::vec(part, 1..4).prop_map(|parts| parts.join(",")),
    ]
}
