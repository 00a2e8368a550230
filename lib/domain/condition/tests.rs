//! What is refused, when times of day come, and who waits for whom.

use super::hold::{Done, Doubt, Hold, Occupancy, ServerSeen, Verdict, void};
use super::*;
use crate::base::names::JobId;
use crate::domain::server::ActualState;
use proptest::prelude::*;

const MINUTE: i64 = 60_000;

fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn at(until: &str, now: &str) -> String {
    let until: Until = until.parse().unwrap();
    let at = until.at(ms(now), &berlin()).unwrap();
    jiff::Timestamp::from_millisecond(at).unwrap().to_string()
}

#[test]
fn a_time_of_day_is_its_next_occurrence_in_the_hosts_zone() {
    assert_eq!(at("06:00", "2026-11-29T04:59:00Z"), "2026-11-29T05:00:00Z");
    assert_eq!(at("6:00", "2026-11-29T05:00:00Z"), "2026-11-30T05:00:00Z");
    assert_eq!(at("23:59", "2026-12-31T23:30:00Z"), "2027-01-01T22:59:00Z");
}

#[test]
fn a_time_that_the_clocks_skip_or_show_twice_comes_as_they_show_it() {
    // On 2026-03-29, 02:00 CET becomes 03:00 CEST.
    assert_eq!(at("02:30", "2026-03-29T00:00:00Z"), "2026-03-29T01:30:00Z");
    assert_eq!(at("02:30", "2026-03-29T01:30:00Z"), "2026-03-30T00:30:00Z");

    // On 2026-10-25, 03:00 CEST becomes 02:00 CET.
    assert_eq!(at("02:30", "2026-10-25T00:00:00Z"), "2026-10-25T00:30:00Z");
    assert_eq!(at("02:30", "2026-10-25T00:45:00Z"), "2026-10-25T01:30:00Z");
    assert_eq!(at("02:30", "2026-10-25T01:30:00Z"), "2026-10-26T01:30:00Z");
}

#[test]
fn a_duration_counts_from_now() {
    assert_eq!(at("1h30m", "2026-11-29T00:00:00Z"), "2026-11-29T01:30:00Z");
    assert_eq!(at("90s", "2026-11-29T00:00:00Z"), "2026-11-29T00:01:30Z");
    assert_eq!(at("30d", "2026-11-29T00:00:00Z"), "2026-12-29T00:00:00Z");
}

#[test]
fn what_is_no_time_is_refused() {
    for bad in [
        "",
        "6",
        "24:00",
        "06:60",
        "6:0",
        "06:00:00",
        "-1h",
        "1h-",
        "1m1h",
        "1h1h",
        "2 h",
        "31d",
        "99999999999999999999h",
        "1x",
        "h",
        "+6:00",
        "06:+1",
        "٣:00",
        "soon",
    ] {
        let error = bad.parse::<Until>().unwrap_err().to_string();
        assert!(error.contains("neither a time of day"), "{bad}: {error}");
    }
    for over in ["0m", "0h0m", "0s"] {
        let error = over.parse::<Until>().unwrap_err().to_string();
        assert!(error.contains("longer than 0"), "{over}: {error}");
    }
}

fn request(words: &str) -> ConditionRequest {
    let mut request = ConditionRequest::default();
    for word in words.split_whitespace() {
        match word.split_once('=') {
            None => request.when_empty = true,
            Some(("until", value)) => request.until = Some(value.parse().unwrap()),
            Some(("then", value)) => request.then = Some(value.parse().unwrap()),
            Some((_, value)) => request.warn = Some(value.parse().unwrap()),
        }
    }
    request
}

fn resolve(operation: Operation, words: &str) -> Result<Option<Condition>, String> {
    let resolved = request(words).resolve(operation, 0, &TimeZone::UTC, |name| format!("--{name}"));
    resolved.map_err(|bad| bad.to_string())
}

#[test]
fn parts_that_do_not_fit_together_are_refused_with_what_to_do() {
    for (words, why) in [
        ("empty then=go", "--then needs --until"),
        ("empty warn=5m", "--warn needs --until"),
        ("empty until=1h", "needs --then go or --then give-up"),
        ("until=1h then=give-up", "--then give-up needs --when-empty"),
        (
            "empty until=1h then=give-up warn=5m",
            "does not fit to --then give-up",
        ),
    ] {
        let error = resolve(Operation::Restart, words).unwrap_err();
        assert!(error.contains(why), "{words}: {error}");
    }

    for operation in Operation::ALL {
        let taken = resolve(operation, "empty").is_ok();
        assert_eq!(taken, operation.takes_condition(), "{operation}");
        assert_eq!(resolve(operation, ""), Ok(None));
    }
}

#[test]
fn a_condition_is_told_and_compared_as_it_was_asked_for() {
    let of = |words| resolve(Operation::Restart, words).unwrap().unwrap();
    assert_eq!(of("empty").message(), "when empty");
    assert_eq!(of("until=2h").message(), "until 2h, then go");
    let both = of("empty until=06:00 then=give-up");
    assert_eq!(both.message(), "when empty, until 06:00, then give-up");

    let later = request("until=2h").resolve(Operation::Stop, 500, &TimeZone::UTC, str::to_owned);
    assert!(of("until=2h").is_same_request(&later.unwrap().unwrap()));
    assert!(!of("until=2h").is_same_request(&of("until=3h")));
    assert!(!of("empty").is_same_request(&of("empty until=3h then=go")));
    assert!(!of("until=3h").is_same_request(&of("until=3h warn=1m")));
}

/// A server that runs and answered at 1000.
fn friday(players: i64) -> ServerSeen {
    ServerSeen {
        name: "Friday".to_owned(),
        actual: ActualState::Running,
        polled_at: Some(1000),
        players: Some(players),
        answered_at: Some(1000),
        unanswered: 0,
    }
}

fn hold(words: &str, servers: Vec<ServerSeen>) -> Hold {
    Hold {
        condition: resolve(Operation::Restart, words).unwrap().unwrap(),
        servers,
        doubt: None,
        fresh_since: 1000,
        void: None,
    }
}

/// What is different about a server.
type Change = fn(&mut ServerSeen);

#[test]
fn only_an_answer_says_that_a_server_is_empty() {
    let changed = |change: Change| {
        let mut server = friday(0);
        change(&mut server);
        server.occupancy(1000)
    };

    assert_eq!(changed(|_| {}), Occupancy::Empty);
    assert_eq!(changed(|s| s.players = Some(3)), Occupancy::Players(3));
    let cases: [(Change, &str); 7] = [
        (|s| s.unanswered = 1, "Friday does not answer"),
        (
            |s| s.answered_at = Some(999),
            "Friday has not answered lately",
        ),
        (|s| s.answered_at = None, "Friday has not answered lately"),
        (|s| s.players = None, "Friday has not answered yet"),
        (
            |s| s.actual = ActualState::Unknown,
            "Friday is in an unknown state",
        ),
        (|s| s.actual = ActualState::Starting, "Friday is starting"),
        (
            |s| (s.actual, s.polled_at) = (ActualState::Stopped, Some(999)),
            "Friday was not checked lately",
        ),
    ];
    for (change, why) in cases {
        assert_eq!(changed(change), Occupancy::Unknown(why.to_owned()));
    }

    // Nothing answers where nothing runs.
    let down = |s: &mut ServerSeen| {
        (s.actual, s.players, s.answered_at, s.unanswered) =
            (ActualState::Failed, Some(4), None, 9);
    };
    assert_eq!(changed(down), Occupancy::Empty);
}

#[test]
fn a_job_says_what_it_waits_for() {
    let named = |name: &str, players| ServerSeen {
        name: name.to_owned(),
        ..friday(players)
    };
    let silent = ServerSeen {
        unanswered: 1,
        ..named("Sunday", 0)
    };

    let told = |servers| hold("empty", servers).waiting(Some("06:00"));
    assert_eq!(told(vec![friday(3)]), "3 players on Friday (until 06:00)");
    assert_eq!(told(vec![friday(1)]), "1 player on Friday (until 06:00)");
    assert_eq!(told(vec![friday(0)]), "no players on Friday (until 06:00)");
    assert_eq!(told(vec![]), "no server runs (until 06:00)");
    assert_eq!(
        told(vec![
            friday(2),
            named("Saturday", 1),
            named("Monday", 0),
            silent.clone()
        ]),
        "2 players on Friday, 1 on Saturday; Sunday does not answer (until 06:00)"
    );
    assert_eq!(
        told(vec![
            friday(2),
            named("A", 1),
            named("B", 5),
            named("C", 1),
            silent
        ]),
        "2 players on Friday, 1 on A, 5 on B; and 2 more (until 06:00)"
    );

    assert_eq!(
        hold("empty", vec![friday(3)]).waiting(None),
        "3 players on Friday"
    );
    assert_eq!(
        hold("until=2h", vec![friday(3)]).waiting(Some("06:00")),
        "until 06:00"
    );
}

#[test]
fn after_a_doubt_only_newer_answers_count() {
    let mut doubtful = hold("empty", vec![friday(0)]);
    assert_eq!(doubtful.verdict(2000), Verdict::Empty);
    doubtful.doubt = Some(Doubt {
        at: 1500,
        why: "1 player on Friday".to_owned(),
    });
    assert_eq!(doubtful.verdict(2000), Verdict::Wait);
    assert_eq!(doubtful.waiting(None), "1 player on Friday");

    doubtful.servers[0].answered_at = Some(1501);
    assert_eq!(doubtful.verdict(2000), Verdict::Empty);
}

#[test]
fn the_deadline_decides_whoever_plays() {
    let deadline = 120 * MINUTE;
    for (words, before, then) in [
        ("empty until=2h then=go", Verdict::Wait, Verdict::Go),
        (
            "empty until=2h then=give-up",
            Verdict::Wait,
            Verdict::GiveUp,
        ),
        ("until=2h", Verdict::Wait, Verdict::Go),
    ] {
        let hold = hold(words, vec![friday(3)]);
        assert_eq!(hold.verdict(deadline - 1), before, "{words}");
        assert_eq!(hold.verdict(deadline), then, "{words}");
    }

    let empty = hold("until=2h", vec![friday(0)]);
    assert_eq!(
        empty.verdict(0),
        Verdict::Wait,
        "it was not to wait for players"
    );
    let warned = hold("until=2h warn=10m,1m", vec![]);
    assert_eq!(
        [0, 110, 119].map(|minutes| warned.next_at(minutes * MINUTE)),
        [110, 119, 120].map(|minutes| Some(minutes * MINUTE))
    );
}

#[test]
fn a_job_is_void_when_its_purpose_was_served_on_each_server() {
    let done = |id, operation| {
        vec![Done {
            id: JobId(id),
            operation,
        }]
    };
    use Operation::{Delete, Initialize, Restart, Start, Stop, Update};
    let told = void(Restart, &[done(9, Restart)]).unwrap();
    assert_eq!(
        told,
        "no longer needed: job 9 (restart) has succeeded meanwhile"
    );
    assert!(
        void(Restart, &[done(9, Stop)]).is_some(),
        "it was stopped on purpose"
    );
    assert!(void(Stop, &[done(9, Delete)]).is_some());
    assert!(void(Update, &[done(9, Update)]).is_some());

    assert_eq!(void(Restart, &[done(9, Start)]), None);
    assert_eq!(void(Stop, &[done(9, Restart)]), None);
    assert_eq!(void(Restart, &[done(9, Initialize)]), None);
    assert_eq!(
        void(Restart, &[done(9, Restart), vec![]]),
        None,
        "one server is left"
    );
    assert_eq!(void(Restart, &[]), None);
}

fn server() -> impl Strategy<Value = ServerSeen> {
    let actual = proptest::sample::select(ActualState::ALL.to_vec());
    let moment = || proptest::option::of(0_i64..3000);
    (
        actual,
        moment(),
        proptest::option::of(0_i64..4),
        moment(),
        0_i64..2,
    )
        .prop_map(
            |(actual, polled_at, players, answered_at, unanswered)| ServerSeen {
                name: "S".to_owned(),
                actual,
                polled_at,
                players,
                answered_at,
                unanswered,
            },
        )
}

proptest! {
    #[test]
    fn no_job_goes_ahead_before_its_time_unless_every_server_is_known_to_be_empty(
        servers in proptest::collection::vec(server(), 0..5), now in 0_i64..4000,
        fresh_since in 0_i64..3000, doubted_at in proptest::option::of(0_i64..3000),
        deadline in proptest::option::of(0_i64..4000), go in any::<bool>(),
    ) {
        let then = if go { AtDeadline::Go } else { AtDeadline::GiveUp };
        let hold = Hold {
            condition: Condition {
                when_empty: true,
                deadline: deadline.map(|at| Deadline { at, asked: "1s".to_owned(), then }),
                warnings: Warnings::default(),
            },
            doubt: doubted_at.map(|at| Doubt { at, why: "x".to_owned() }),
            servers, fresh_since, void: None,
        };

        let is_over = deadline.is_some_and(|at| at <= now);
        match hold.verdict(now) {
            Verdict::Empty => {
                prop_assert!(!is_over);
                for server in &hold.servers {
                    let down = matches!(server.actual, ActualState::Stopped | ActualState::Failed);
                    let answered = server.answered_at.is_some_and(|at| at >= fresh_since
                        && doubted_at.is_none_or(|doubted| at > doubted));
                    prop_assert!(down && server.polled_at.is_some_and(|at| at >= fresh_since)
                        || server.actual == ActualState::Running && server.players == Some(0)
                            && server.unanswered == 0 && answered);
                }
            }
            Verdict::Go => prop_assert!(is_over && go),
            Verdict::GiveUp => prop_assert!(is_over && !go),
            Verdict::Wait => prop_assert!(!is_over),
            Verdict::Void => prop_assert!(false),
        }
        prop_assert!(!hold.waiting(None).is_empty());
    }

    #[test]
    fn a_deadline_is_always_after_now_and_never_beyond_its_span(
        hour in 0_i64..24, minute in 0_i64..60, now in 0_i64..4_000_000_000_000,
    ) {
        let until: Until = format!("{hour:02}:{minute:02}").parse().unwrap();
        let at = until.at(now, &berlin()).unwrap();
        prop_assert!(at > now && at - now <= 26 * 60 * MINUTE, "{} h", (at - now) / 3_600_000);
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in ".{0,30}") {
        let _ = text.parse::<Until>().map(|until| until.at(0, &berlin()));
        let _ = text.parse::<Warnings>();
    }
}
