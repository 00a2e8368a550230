//! The web front when it is not used: a socket and nothing else. The first who comes starts it, in
//! its sandbox.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::lab::{Lab, s, wait_until};

const WEB: &str = "left4me-web.service";

/// So many cold starts are measured.
const STARTS: usize = 5;

pub fn the_first_page_comes_from_nothing_and_leaves_nothing(lab: &Lab) {
    lab.in_its_network(
        "the_first_page_comes_from_nothing_and_leaves_nothing",
        |lab| {
            lab.run_with(
                "root",
                &[
                    "left4me",
                    "user",
                    "add",
                    "anna",
                    "--admin",
                    "--password-stdin",
                ],
                "correct horse 7",
            )
            .ends_with(0);

            lab.set("LEFT4ME_WEB_IDLE_SECONDS=2");
            nothing_is_resident(lab);
            // Figures for docs/benchmarks.md.
            let mut taken: Vec<Duration> = (0..STARTS).map(|_| a_cold_start(lab)).collect();
            taken.sort();
            let memory = resident(lab);
            println!(
                "{:?}: first page after {taken:?}, resident {memory} kB",
                lab.suite()
            );

            a_broken_start_leaves_the_socket(lab);
            assert_eq!(
                lab.sh("systemctl list-units --failed --plain --no-legend"),
                "",
                "failed units"
            );
        },
    );
}

/// Asks for a page; gives its head and text.
#[track_caller]
fn page(path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 8000)).expect("the socket listens");
    stream.set_read_timeout(Some(s(30))).expect("a time limit");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .expect("the request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// From no process to the last byte of a page.
#[track_caller]
fn a_cold_start(lab: &Lab) -> Duration {
    nothing_is_resident(lab);
    let begun = Instant::now();
    let answer = page("/login");
    let taken = begun.elapsed();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.trim_end().ends_with("</html>"),
        "{answer}"
    );

    assert_eq!(lab.unit(WEB, "ActiveState"), "active");
    taken
}

#[track_caller]
fn nothing_is_resident(lab: &Lab) {
    wait_until("the web front has left", s(20), || {
        lab.unit(WEB, "ActiveState") == "inactive"
    });
    assert_eq!(
        lab.run(&["pgrep", "--list-full", "left4me-web"]).stdout,
        "",
        "processes"
    );

    assert_eq!(lab.unit("left4me-web.socket", "ActiveState"), "active");
    assert_eq!(lab.unit(WEB, "Result"), "success");
}

/// kB, once it has served.
#[track_caller]
fn resident(lab: &Lab) -> u64 {
    page("/login");
    let pid = lab.unit(WEB, "MainPID");
    let status = lab.ok(&["cat", &format!("/proc/{pid}/status")]);
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or_else(|_| panic!("no memory in {status}"))
}

/// A database that cannot be opened: a request gets no answer, and a page as soon as it is mended.
fn a_broken_start_leaves_the_socket(lab: &Lab) {
    const DATABASE: &str = "/var/lib/left4me/db/left4me.db";
    nothing_is_resident(lab);
    // A poll would fail, too: none is due, and none under way.
    lab.sh(&format!(
        "systemctl stop left4me-poller.timer left4me-poller.service; chmod 000 {DATABASE}"
    ));
    let mut asked = TcpStream::connect((Ipv4Addr::LOCALHOST, 8000)).expect("the socket listens");
    asked.set_read_timeout(Some(s(60))).expect("a time limit");
    asked
        .write_all(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n")
        .expect("it is taken");
    wait_until("it has failed to start", s(20), || {
        lab.unit(WEB, "NRestarts")
            .parse()
            .is_ok_and(|restarts: u32| restarts > 0)
    });

    assert_eq!(lab.unit("left4me-web.socket", "ActiveState"), "active");
    lab.sh(&format!(
        "chmod 660 {DATABASE}; systemctl start left4me-poller.timer"
    ));
    let mut answer = String::new();
    asked.read_to_string(&mut answer).expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 200 OK"),
        "who waited is served: {answer}"
    );

    nothing_is_resident(lab);
}
