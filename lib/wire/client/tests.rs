//! Tests of `wire::client`.

use super::*;
use crate::wire::RunnerRequest;
use std::borrow::Cow;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixListener;

fn served(answers: &'static str) -> (tempfile::TempDir, PathBuf, std::thread::JoinHandle<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runner.sock");
    let listener = UnixListener::bind(&path).unwrap();

    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(socket.try_clone().unwrap())
            .read_line(&mut request)
            .unwrap();
        socket.write_all(answers.as_bytes()).unwrap();
        request
    });

    (dir, path, server)
}

#[test]
fn answers_are_borrowed_and_end_with_exit() {
    let (_dir, path, server) =
        served("{\"stdout\":\"hello\"}\n{\"stderr\":\"a\\tb\"}\n{\"exit\":0,\"tree\":\"empty\"}\n");
    let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();

    let first = connection.next_answer().unwrap().unwrap();
    assert!(
        matches!(first.stdout, Some(Cow::Borrowed("hello"))),
        "{first:?}"
    );

    let second = connection.next_answer().unwrap().unwrap();
    assert_eq!(second, Answer::line(Stream::Stderr, "a\tb".into()));
    assert_eq!(
        connection.next_answer().unwrap().unwrap().tree,
        Some(Tree::Empty)
    );

    assert_eq!(connection.next_answer().unwrap(), None);

    assert_eq!(server.join().unwrap(), "{\"verb\":\"install\"}\n");
}

#[test]
fn a_server_that_goes_away_before_the_end_is_an_error() {
    for answers in [
        "",
        "{\"stdout\":\"x\"}\n",
        "{\"stdout\":\"half",
        "not json\n",
    ] {
        let (_dir, path, _server) = served(answers);
        let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();

        let error = loop {
            match connection.next_answer() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no end was sent"),
                Err(error) => break error,
            }
        };

        assert!(error.to_string().contains("runner.sock"), "{error}");
    }
}

#[test]
fn the_deadline_ends_the_wait_even_while_answers_come() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut connection = Connection::over(ours, PathBuf::from("helper.sock"));
    connection.set_deadline(Instant::now() + Duration::from_millis(50));
    let line = b"{\"stdout\":\"x\"}\n";
    let talk = std::thread::spawn(move || while (&theirs).write_all(line).is_ok() {});

    let error = loop {
        if let Err(error) = connection.next_answer() {
            break error;
        }
    };

    assert!(error.to_string().contains("in time"), "{error}");

    drop(connection);
    talk.join().unwrap();
}

#[test]
fn the_server_pid_comes_from_the_kernel() {
    let (_dir, path, _server) = served("{\"started\":{\"unit\":\"x\",\"pid\":1}}\n{\"exit\":0}\n");
    let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();

    assert_eq!(connection.server_pid(), None);
    assert!(connection.next_answer().unwrap().unwrap().started.is_some());
    assert_eq!(
        connection.server_pid(),
        Some(std::process::id()),
        "a thread of this process"
    );

    assert_eq!(connection.next_answer().unwrap().unwrap().exit, Some(0));
}

#[test]
fn an_invalid_answer_breaks_the_connection() {
    let flood = "{\"started\":{\"unit\":\"x\",\"pid\":1}}\n"
        .repeat(STARTED_LIMIT + 1)
        .leak();
    for answers in [
        "{}\n",
        "[]\n",
        "{\"exit\":256}\n",
        "{\"exit\":-1}\n",
        "{\"exit\":99999999999}\n",
        "{\"exit\":0,\"stdout\":\"x\"}\n",
        "{\"stdout\":\"x\",\"stderr\":\"x\"}\n",
        "{\"tree\":\"empty\"}\n",
        "{\"stdout\":\"x\",\"tree\":\"left\"}\n",
        "{\"started\":{\"unit\":\"x\",\"pid\":-1}}\n",
        flood,
    ] {
        let (_dir, path, _server) = served(answers);
        let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();
        let end = (0..=STARTED_LIMIT).find_map(|_| connection.next_answer().err());
        let is_named = |error: Error| error.to_string().contains("runner.sock");
        assert!(end.is_some_and(is_named), "{answers:.60}");
    }

    let (_dir, path, _server) = served("{\"exit\":0}\n{\"exit\":1}\nnonsense");
    let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();
    assert_eq!(connection.next_answer().unwrap().unwrap().exit, Some(0));
    assert_eq!(
        connection.next_answer().unwrap(),
        None,
        "what follows the end is not read"
    );
}

#[test]
fn a_missing_socket_names_its_unit_and_exits_69() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("helper.sock");

    let error = Connection::open(&path, &RunnerRequest::Install {})
        .err()
        .expect("no socket");
    assert_eq!(error.exit.code(), 69);
    assert!(
        error
            .to_string()
            .contains("systemctl status left4me-helper.socket"),
        "{error}"
    );

    drop(UnixListener::bind(&path).unwrap());
    let error = Connection::open(&path, &RunnerRequest::Install {})
        .err()
        .expect("no listener");
    assert_eq!(error.exit.code(), 69);
    assert!(error.to_string().contains("no service listens"), "{error}");
}

#[test]
fn dropping_a_connection_closes_it_although_a_canceller_lives() {
    let (_dir, path, server) = served("{\"stdout\":\"x\"}\n");
    let connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();
    let canceller = connection.canceller();
    server.join().unwrap();

    drop(connection);
    assert!(canceller.send(Cancel::Kill).is_err());
}
