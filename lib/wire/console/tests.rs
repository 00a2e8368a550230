//! Tests of `wire::console`.

use super::*;
use crate::wire::parse;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;

fn request(id: u32, verb: ConsoleVerb) -> ConsoleRequest {
    ConsoleRequest {
        id,
        server: "7".parse().unwrap(),
        port: 27015,
        verb,
    }
}

fn info() -> GameInfo {
    GameInfo {
        name: "Friday".to_owned(),
        map: "c1m1_hotel".to_owned(),
        game: "Left 4 Dead 2".to_owned(),
        players: 3,
        bots: 1,
        max_players: 8,
        password: false,
        vac: true,
        version: "2.2.4.3".to_owned(),
        response_ms: 12,
    }
}

#[test]
fn requests_have_the_agreed_shape() {
    let exec = ConsoleVerb::Exec {
        command: "say \"hi\"".to_owned(),
    };
    for (verb, line) in [
        (
            ConsoleVerb::Info,
            r#"{"id":1,"server":"7","port":27015,"verb":"info"}"#,
        ),
        (
            ConsoleVerb::Players,
            r#"{"id":1,"server":"7","port":27015,"verb":"players"}"#,
        ),
        (
            ConsoleVerb::Rules,
            r#"{"id":1,"server":"7","port":27015,"verb":"rules"}"#,
        ),
        (
            ConsoleVerb::Look,
            r#"{"id":1,"server":"7","port":27015,"verb":"look"}"#,
        ),
        (
            exec,
            r#"{"id":1,"server":"7","port":27015,"verb":"exec","command":"say \"hi\""}"#,
        ),
    ] {
        let whole = request(1, verb);
        assert_eq!(serde_json::to_string(&whole).unwrap(), line);
        assert_eq!(parse::<ConsoleRequest>(line).unwrap(), whole);
    }
}

#[test]
fn unknown_verbs_fields_and_bad_names_are_refused() {
    for bad in [
        r#"{"id":1,"server":"7","port":27015,"verb":"quit"}"#,
        r#"{"id":1,"server":"7","port":27015,"verb":"exec"}"#,
        r#"{"id":1,"server":"7","port":27015,"verb":"info","command":"status"}"#,
        r#"{"id":1,"server":"7","port":27015,"verb":"info","host":"192.0.2.1"}"#,
        r#"{"id":1,"server":"../7","port":27015,"verb":"info"}"#,
        r#"{"id":1,"server":"7","port":70000,"verb":"info"}"#,
        r#"{"id":-1,"server":"7","port":27015,"verb":"info"}"#,
        r#"{"server":"7","port":27015,"verb":"info"}"#,
        r#"[1,"7",27015,"info"]"#,
    ] {
        assert!(parse::<ConsoleRequest>(bad).is_err(), "{bad}");
    }
}

#[test]
fn answers_have_the_agreed_shape() {
    let player = Player {
        name: "Zoë".to_owned(),
        score: -1,
        seconds: 61,
    };
    let info_json = r#"{"name":"Friday","map":"c1m1_hotel","game":"Left 4 Dead 2","players":3,"bots":1,"max_players":8,"password":false,"vac":true,"version":"2.2.4.3","response_ms":12}"#;
    let player_json = r#"{"name":"Zoë","score":-1,"seconds":61}"#;

    for (result, rest) in [
        (
            ConsoleResult::Info(info()),
            format!(r#""info":{info_json}"#),
        ),
        (
            ConsoleResult::Players(vec![player.clone()]),
            format!(r#""players":[{player_json}]"#),
        ),
        (
            ConsoleResult::Rules(vec![("coop".to_owned(), "1".to_owned())]),
            r#""rules":[["coop","1"]]"#.to_owned(),
        ),
        (
            ConsoleResult::Look {
                info: info(),
                players: vec![player],
            },
            format!(r#""look":{{"info":{info_json},"players":[{player_json}]}}"#),
        ),
        (
            ConsoleResult::Output {
                text: "a\n".to_owned(),
                cut: false,
            },
            r#""output":{"text":"a\n","cut":false}"#.to_owned(),
        ),
        (
            ConsoleResult::Failed {
                kind: Failure::NotListening,
                message: "no".to_owned(),
            },
            r#""failed":{"kind":"not-listening","message":"no"}"#.to_owned(),
        ),
    ] {
        let (answer, line) = (
            ConsoleAnswer { id: 7, result },
            format!(r#"{{"id":7,{rest}}}"#),
        );
        assert_eq!(serde_json::to_string(&answer).unwrap(), line);
        assert_eq!(
            serde_json::from_str::<ConsoleAnswer>(&line).unwrap(),
            answer
        );
    }
}

#[test]
fn a_failures_word_is_the_one_in_json() {
    for kind in [
        Failure::NoAnswer,
        Failure::NotListening,
        Failure::WrongPassword,
        Failure::Banned,
        Failure::NoPassword,
        Failure::BadAnswer,
        Failure::TimedOut,
        Failure::Refused,
        Failure::Busy,
    ] {
        let word = serde_json::to_string(&kind).unwrap();
        assert_eq!(word, format!("\"{kind}\""));
    }
}

/// A program that reads `count` requests and answers with `answer` of each line, last one first.
fn served(
    count: usize,
    answer: impl Fn(ConsoleRequest) -> String + Send + 'static,
) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let lines = BufReader::new(socket.try_clone().unwrap()).lines();
        let mut read: Vec<_> = lines
            .take(count)
            .map(|line| parse(&line.unwrap()).unwrap())
            .collect();
        read.reverse();
        for request in read {
            socket.write_all(answer(request).as_bytes()).unwrap();
        }
    });
    (dir, path)
}

fn output(id: u32, text: &str) -> String {
    let result = ConsoleResult::Output {
        text: text.to_owned(),
        cut: false,
    };
    serde_json::to_string(&ConsoleAnswer { id, result }).unwrap() + "\n"
}

#[test]
fn many_answers_come_in_any_order_and_each_has_its_id() {
    let requests: Vec<_> = (0..5000).map(|id| request(id, ConsoleVerb::Look)).collect();
    let (_dir, path) = served(5000, |request| output(request.id, &"x".repeat(100)));

    let mut ids = Vec::new();
    ask_many(&path, &requests, Duration::from_secs(60), |answer| {
        ids.push(answer.id);
    })
    .unwrap();
    assert_eq!(ids, (0..5000).rev().collect::<Vec<_>>());
}

#[test]
fn answers_that_nobody_asked_for_are_not_passed_on() {
    let (_dir, path) = served(1, |_| {
        output(9, "forged") + &output(1, "own") + &output(1, "twice")
    });
    let result = ask(
        &path,
        &request(1, ConsoleVerb::Info),
        Duration::from_secs(60),
    )
    .unwrap();
    assert!(matches!(result, ConsoleResult::Output { text, .. } if text == "own"));
}

#[test]
fn a_missing_or_broken_program_is_exit_69_with_a_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let ask = |path: &Path, time| ask(path, &request(1, ConsoleVerb::Info), time).unwrap_err();

    let error = ask(&dir.path().join("console.sock"), Duration::from_secs(60));
    assert_eq!(error.exit.code(), 69);
    assert!(
        error
            .to_string()
            .contains("systemctl status left4me-console.socket"),
        "{error}"
    );

    for (answers, why) in [
        ("", "closed"),
        ("{\"id\":1,\"output\":", "closed"),
        ("nonsense\n", "expected"),
        ("{\"error\":\"not permitted for user id 7\"}\n", "user id 7"),
    ] {
        let (_dir, path) = served(1, |_| answers.to_owned());
        let error = ask(&path, Duration::from_secs(60));
        assert_eq!(error.exit.code(), 69);
        assert!(error.to_string().contains(why), "{error}");
        assert!(
            error.to_string().contains("journalctl -u left4me-console"),
            "{error}"
        );
    }

    let silent = dir.path().join("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    let error = ask(&silent, Duration::from_millis(50));
    assert!(
        error.to_string().contains("no answer within 0.05 s"),
        "{error}"
    );
}
