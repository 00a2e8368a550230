//! Checks whether each service starts and answers. All services are asked at once, each within a
//! time limit, in the way the programs ask them. This creates no job: the worker is woken, the web
//! front gets a health request, the helper shows a server that does not exist, and runner and
//! publisher get a request that they refuse.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::geteuid;
use serde::Serialize;

use super::finding::Advice;
use super::units::{self, Unit, Units};
use super::{DoctorPaths, Finding};
use crate::base::users::{self, LEFT4ME};
use crate::base::{Exit, Result};
use crate::queue::wake;
use crate::wire::REFUSED;
use crate::wire::client::Connection;

/// How long a service may take. On a busy host it needs seconds to start.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The pause between two reads of a unit.
const PAUSE: Duration = Duration::from_millis(60);

const WEB: &str = "left4me-web.service";

/// The longest answer that is read, in bytes.
const ANSWER: usize = 4096;

/// A request that neither runner nor publisher knows. They refuse it and run nothing. The name shows
/// in the journal where the request comes from.
#[derive(Serialize)]
struct Unknown {
    verb: &'static str,
}

/// The server that the helper is asked to show. It does not exist: ids start at 1.
#[derive(Serialize)]
struct Show {
    verb: &'static str,
    server: &'static str,
}

/// Checks all services. `is_whole`: the services can open the database without changing it.
pub(super) fn check(paths: &DoctorPaths, units: &Units, is_whole: bool) -> Vec<Finding> {
    // Only this thread runs systemctl. It waits for SIGCHLD of its child, and no other thread may
    // receive that signal. New threads inherit this thread's signal mask.
    let _ = SigSet::from(Signal::SIGCHLD).thread_block();
    let fails = AtomicBool::new(false);
    let findings = thread::scope(|scope| {
        let front = scope.spawn(|| interruptible(|| web(units, is_whole, &fails)));
        let sockets = [
            scope.spawn(|| interruptible(|| helper(&paths.sockets.helper_socket))),
            scope.spawn(|| interruptible(|| refusing("runner", &paths.sockets.runner_socket))),
            scope
                .spawn(|| interruptible(|| refusing("publisher", &paths.sockets.publisher_socket))),
        ];

        let mut findings = worker(paths, units, is_whole);
        // Notice a web front that fails meanwhile, which ends the wait for its answer.
        let mut looked = Instant::now();
        while !front.is_finished() {
            thread::sleep(PAUSE / 6);
            if looked.elapsed() > PAUSE * 4 {
                fails.store(
                    look(WEB).is_some_and(|unit| unit.is_looping()),
                    Ordering::Relaxed,
                );

                looked = Instant::now();
            }
        }

        findings.extend(front.join().unwrap_or_default());
        findings.extend(
            sockets
                .into_iter()
                .flat_map(|one| one.join().unwrap_or_default()),
        );

        findings
    });

    interruptible(|| findings)
}

/// Unblocks the signals that end a program in this thread, so that Ctrl-C works, and runs `work`.
/// Running systemctl leaves these signals blocked.
fn interruptible<T>(work: impl FnOnce() -> T) -> T {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .for_each(|signal| signals.add(signal));
    let _ = signals.thread_unblock();
    work()
}

/// Reads the current state of one unit.
fn look(name: &str) -> Option<Unit> {
    units::ask([name]).ok()?.into_iter().next()
}

/// Why access to a socket is denied. Root asks as user left4me, which every socket must accept.
fn denied() -> &'static str {
    if users::uid(LEFT4ME) == Some(geteuid()) {
        "user left4me may not connect to its socket: see the findings about sockets"
    } else {
        "needs root (`sudo left4me doctor`)"
    }
}

fn is_up(units: &Units, name: &str) -> bool {
    units.get(name).is_some_and(|unit| unit.active == "active")
}

/// The finding for a service that is not asked: its units have a problem, which the check of the
/// units explains, or its start would change the database.
fn before(check: &str, units: &Units, name: &str, is_whole: bool) -> Option<Vec<Finding>> {
    if !is_up(units, &format!("{name}.socket"))
        || units
            .get(&format!("{name}.service"))
            .is_none_or(Unit::is_looping)
    {
        return Some(vec![Finding::skip(
            check,
            "see the findings about its units",
        )]);
    }

    if !is_whole && !is_up(units, &format!("{name}.service")) {
        return Some(vec![Finding::skip(
            check,
            "its start would change the database: see the findings about the database",
        )]);
    }

    None
}

fn worker(paths: &DoctorPaths, units: &Units, is_whole: bool) -> Vec<Finding> {
    let (check, name) = ("worker", "left4me-worker.service");
    if let Some(findings) = before(check, units, "left4me-worker", is_whole) {
        return findings;
    }

    if is_up(units, name) {
        return vec![Finding::ok(check, "it runs")];
    }

    if let Err(error) = wake::worker(&paths.worker_socket) {
        let advice = Advice::root("systemctl restart left4me-worker.socket");
        return vec![match error.exit {
            Exit::NotPermitted => Finding::skip(check, denied()),
            _ => Finding::fail(check, format!("it cannot be woken: {error}"), advice),
        }];
    }

    let since = units.get(name).map_or(0, |unit| unit.active_since);
    vec![match started(name, since) {
        Some(took) => Finding::ok(check, format!("it started in {} ms", took.as_millis())),
        None => silent(check, "it does not start", name),
    }]
}

/// Waits for a service that was woken. Gives how long the start took; none if it failed or took too
/// long.
fn started(name: &str, since: u64) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < TIMEOUT {
        let unit = look(name)?;
        // It may have started and already exited because it was idle.
        if unit.active == "active" || unit.active_since > since {
            return Some(begun.elapsed());
        }

        if unit.is_looping() {
            return None;
        }

        thread::sleep(PAUSE);
    }

    None
}

fn silent(check: &str, found: impl Into<String>, unit: &str) -> Finding {
    Finding::fail(
        check,
        found,
        "remove the cause, which is in the unit's log; no restart is needed",
    )
    .unit_of(unit)
}

/// Checks each address of the web front.
fn web(units: &Units, is_whole: bool, fails: &AtomicBool) -> Vec<Finding> {
    let check = "web front";
    if let Some(findings) = before(check, units, "left4me-web", is_whole) {
        return findings;
    }

    let listen = units
        .get("left4me-web.socket")
        .map(|unit| unit.listen.clone())
        .unwrap_or_default();
    let streams: Vec<String> = listen
        .into_iter()
        .filter(|(_, kind)| kind == "Stream")
        .map(|(at, _)| at)
        .collect();
    if streams.is_empty() {
        let advice =
            "give left4me-web.socket a ListenStream= (`systemctl edit left4me-web.socket`)";
        return vec![Finding::fail(check, "its socket has no address", advice)];
    }

    thread::scope(|scope| {
        let tries: Vec<_> = streams
            .iter()
            .map(|at| scope.spawn(move || ask_web(at, fails)))
            .collect();
        tries
            .into_iter()
            .filter_map(|one| one.join().ok())
            .collect()
    })
}

fn ask_web(at: &str, fails: &AtomicBool) -> Finding {
    let check = "web front";
    match answer(at, fails) {
        Ok(answer) if is_ours(&answer) => Finding::ok(check, format!("{at} answers")),
        Ok(answer) if answer.is_empty() => silent(check, format!("{at} does not answer"), WEB),
        Ok(answer) => {
            let line = answer.lines().next().unwrap_or_default();
            let found = format!(
                "{at} answers '{}', which left4me never sends",
                crate::base::names::shown(line)
            );

            let advice = "another program may also listen there: see `ss -tlnp`, as root";
            Finding::fail(check, found, advice)
        }
        Err(error) if error.raw_os_error() == Some(Errno::EACCES as i32) => {
            Finding::skip(check, format!("{at}: {}", denied()))
        }
        Err(error) => {
            let advice = Advice::root("systemctl restart left4me-web.socket");
            Finding::fail(
                check,
                format!("{at} refuses the connection: {error}"),
                advice,
            )
            .unit_of("left4me-web.socket")
        }
    }
}

fn is_ours(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200")
}

/// Sends a health request, as a monitoring system does. Empty if no answer comes, or if the service
/// `fails` meanwhile.
fn answer(at: &str, fails: &AtomicBool) -> std::io::Result<String> {
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \
                   left4me-doctor\r\nConnection: close\r\n\r\n";
    let step = Some(PAUSE);
    let mut reply: Box<dyn Read> = match address(at) {
        Some(address) => {
            let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
            stream.set_read_timeout(step)?;
            stream.write_all(request)?;
            Box::new(stream)
        }
        None => {
            let mut stream = connect_unix(at)?;
            stream.set_read_timeout(step)?;
            stream.write_all(request)?;
            Box::new(stream)
        }
    };

    let (begun, mut bytes, mut chunk) = (Instant::now(), Vec::new(), [0; 512]);
    while begun.elapsed() < TIMEOUT && bytes.len() < ANSWER {
        match reply.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if is_slow(&error) && !fails.load(Ordering::Relaxed) => {}
            Err(_) => break,
        }
    }

    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_slow(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// `0.0.0.0` and `::` mean every address; one address of this host is asked.
fn address(at: &str) -> Option<SocketAddr> {
    let mut address: SocketAddr = at.parse().ok()?;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }

    Some(address)
}

/// Connects to a path, or to `@` and an abstract name.
fn connect_unix(at: &str) -> std::io::Result<UnixStream> {
    use std::os::linux::net::SocketAddrExt as _;
    match at.strip_prefix('@') {
        Some(name) => {
            UnixStream::connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)
        }
        None => UnixStream::connect(at),
    }
}

fn helper(socket: &Path) -> Vec<Finding> {
    let request = Show {
        verb: "show",
        server: "0",
    };
    vec![judged("helper", ask(socket, &request), 0)]
}

/// A service that refuses what is no request.
fn refusing(name: &str, socket: &Path) -> Vec<Finding> {
    let answered = ask(socket, &Unknown { verb: "doctor" });
    vec![judged(name, answered, REFUSED)]
}

/// Sends a request and gives the exit code at the end of the answer.
fn ask(socket: &Path, request: &impl Serialize) -> Result<i32> {
    let mut connection = Connection::open(socket, request)?;
    connection.set_deadline(Instant::now() + TIMEOUT);
    Ok(connection.run(|_| Ok(()))?.exit)
}

fn judged(name: &str, answered: Result<i32>, wanted: i32) -> Finding {
    let units = format!("left4me-{name}@*.service");
    match answered {
        Ok(code) if code == wanted => Finding::ok(name, "it answers"),
        Ok(code) => silent(name, format!("it answers with exit code {code}"), &units),
        Err(error) if error.exit == Exit::NotPermitted => Finding::skip(name, denied()),
        Err(error) if error.exit == Exit::Unavailable => {
            let advice = Advice::root(format!("systemctl restart left4me-{name}.socket"));
            Finding::fail(name, without_advice(&error.to_string()), advice)
        }
        Err(error) => silent(name, without_advice(&error.to_string()), &units),
    }
}

/// Removes `; see …` at the end of a message, because the advice of the finding is better.
fn without_advice(message: &str) -> String {
    let end = message
        .find("; see `")
        .or_else(|| message.find(": see `"))
        .unwrap_or(message.len());
    message.get(..end).unwrap_or(message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Error;
    use crate::doctor::Severity;

    #[test]
    fn an_answer_counts_when_it_is_the_one_that_was_to_come() {
        assert_eq!(
            judged("runner", Ok(REFUSED), REFUSED).severity,
            Severity::Ok
        );

        let wrong = judged("helper", Ok(1), 0);
        assert!(
            wrong.severity == Severity::Fail
                && wrong.unit.as_deref() == Some("left4me-helper@*.service")
        );

        assert_eq!(
            judged("helper", Err(Error::not_permitted("x")), 0).severity,
            Severity::Skip
        );

        let away = judged(
            "helper",
            Err(Error::unavailable(
                "/x does not exist: see `systemctl status x`",
            )),
            0,
        );

        assert_eq!(away.found, "/x does not exist");
        assert!(is_ours("HTTP/1.1 200 OK\r\n") && !is_ours("HTTP/1.0 404 File not found"));
    }

    #[test]
    fn an_address_for_all_interfaces_is_asked_at_this_hosts_own() {
        for (at, asked) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:8", "192.0.2.1:8"),
        ] {
            assert_eq!(address(at).unwrap().to_string(), asked);
        }

        assert_eq!(address("/run/left4me-web.sock"), None);
    }

    #[test]
    fn a_web_front_that_answers_is_told_from_one_that_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let serve = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });

        assert!(is_ours(
            &answer(path.to_str().unwrap(), &AtomicBool::new(false)).unwrap()
        ));
        assert!(
            serve
                .join()
                .unwrap()
                .starts_with("GET /health HTTP/1.1\r\nHost: localhost\r\n")
        );

        assert!(
            answer(path.to_str().unwrap(), &AtomicBool::new(false)).is_err(),
            "the listener is gone"
        );
    }
}
