//! Downloads of a log by badly behaved clients: they read nothing, or little, or lose their rights.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use left4me::base::names::JobId;
use left4me::db::logs;
use left4me::db::users::{Role, disable};
use left4me::wire::Stream;
use nix::sys::socket::{setsockopt, sockopt};

use crate::support::host::TestHost;
use crate::support::http::{Web, all, status};
use crate::support::until;

/// Lines of the long log, each of the greatest width: 24 MB.
const LINES: usize = 2000;

/// anna, and her job 1 with a long log.
fn with_a_long_log() -> TestHost {
    let host = TestHost::new();
    host.user("anna", Role::User);

    let wide = "漢".repeat(4096);
    let job = "INSERT INTO jobs (operation, requested_by, user_id, created_at, updated_at)
               VALUES ('stop', 'anna', 1, 1, 1)";

    host.db()
        .write(|tx| {
            tx.execute(job, [])?;
            (0..LINES).try_for_each(|_| logs::append(tx, JobId(1), 1, Stream::Stdout, &wide))
        })
        .unwrap();

    host
}

/// Requests the log without reading it.
fn download(web: &Web, session: &str) -> TcpStream {
    let mut stream = web.connect();
    let head = format!(
        "GET /jobs/1/log.txt HTTP/1.1\r\nHost: {}\r\nCookie: \
         left4me={session}\r\nConnection: close\r\n\r\n",
        web.addr
    );

    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// The same, with a small receive buffer.
fn small_download(web: &Web, session: &str) -> TcpStream {
    let stream = download(web, session);
    setsockopt(&stream, sockopt::RcvBuf, &4096).unwrap();
    stream
}

fn session(web: &Web) -> String {
    web.signed_in("anna").cookies["left4me"].clone()
}

fn begins(stream: &mut TcpStream) -> String {
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    String::from_utf8_lossy(&first).into_owned()
}

/// It has all lines and the end.
fn is_whole(answer: &str) -> bool {
    answer.matches('漢').count() == LINES * 4096 && answer.ends_with("0\r\n\r\n")
}

#[test]
fn downloads_are_counted_and_unread_ones_cost_little_memory() {
    let host = with_a_long_log();
    let web = Web::start(&host, &["--streams-per-user", "4"]);
    let session = session(&web);
    let before = web.resident();

    let mut idle: Vec<TcpStream> = (0..4).map(|_| small_download(&web, &session)).collect();
    for stream in &mut idle {
        assert_eq!(begins(stream), "HTTP/1.1 200");
    }

    let refused = all(&mut download(&web, &session));
    assert_eq!(status(&refused), 503, "{refused}");
    assert!(
        refused.contains("too many live pages or downloads open (4)"),
        "{refused}"
    );

    let after = web.resident();
    assert!(
        after < before + 12 * 1024,
        "{before} KiB before, {after} KiB now"
    );

    drop(idle);

    let whole = until("there is a place again", || {
        Some(all(&mut download(&web, &session))).filter(|answer| status(answer) == 200)
    });
    assert!(is_whole(&whole), "{} bytes", whole.len());
}

#[test]
fn a_download_breaks_off_when_its_reader_may_not_read_any_more() {
    let host = with_a_long_log();
    let web = Web::start(&host, &[]);
    let mut stream = download(&web, &session(&web));
    assert_eq!(begins(&mut stream), "HTTP/1.1 200");
    host.db()
        .write(|tx| disable(tx, 2, "test", &"anna".parse()?))
        .unwrap();

    let rest = all(&mut stream);
    assert!(
        !is_whole(&rest) && rest.len() < 12_000_000,
        "{} bytes",
        rest.len()
    );

    assert!(!rest.ends_with("\r\n0\r\n\r\n"), "it does not look whole");
}

#[test]
fn a_client_reading_byte_by_byte_is_dropped_but_a_slow_one_is_not() {
    let host = with_a_long_log();
    let web = Web::start(&host, &[]);
    let session = session(&web);
    let (web, session) = (&web, session.as_str());
    let begun = Instant::now();

    std::thread::scope(|scope| {
        let dripping = scope.spawn(move || {
            let mut stream = small_download(web, session);
            let mut byte = [0];
            while begun.elapsed() < Duration::from_secs(70) {
                // Data that was already sent can still be read.
                if stream.take_error().unwrap().is_some() {
                    return begun.elapsed();
                }
                stream.read_exact(&mut byte).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }

            panic!("it is still served after {:?}", begun.elapsed());
        });

        let slow = scope.spawn(move || {
            let mut stream = small_download(web, session);
            let (mut bytes, mut chunk) = (Vec::new(), [0; 1024]);
            while begun.elapsed() < Duration::from_secs(40) {
                let read = stream.read(&mut chunk).expect("it is served");
                bytes.extend_from_slice(&chunk[..read]);
                std::thread::sleep(Duration::from_millis(100));
            }

            String::from_utf8_lossy(&bytes).into_owned()
        });

        let quick = all(&mut download(web, session));
        assert!(is_whole(&quick), "{} bytes", quick.len());

        let dropped = dripping.join().unwrap();
        assert!(
            dropped > Duration::from_secs(25),
            "no client is dropped at once: {dropped:?}"
        );

        assert_eq!(status(&slow.join().unwrap()), 200);
    });
}
