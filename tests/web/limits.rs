//! The web front's limits with badly behaved clients (slow, long, many), and its start and exit.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::host::TestHost;
use crate::support::http::{Web, all, closes, status};
use crate::support::{PASSWORD, PATIENCE, ended, start, until};

fn request(web: &Web, head: &str, body: &str) -> String {
    let length = body.len();
    let address = web.addr;
    web.raw(&format!(
        "{head}Host: {address}\r\nOrigin: http://{address}\r\nConnection: \
                     close\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

#[test]
fn slow_and_silent_clients_are_dropped_and_others_served() {
    let host = TestHost::new();
    let web = Web::start(&host, &[]);
    let begun = Instant::now();
    let mut silent = web.connect();
    let mut slow = web.connect();

    slow.write_all(b"GET /login HTTP/1.1\r\nHost: lo").unwrap();

    // One page, then nothing: a kept-alive connection is treated like a new one.
    let mut kept = web.connect();
    kept.write_all(format!("GET /login HTTP/1.1\r\nHost: {}\r\n\r\n", web.addr).as_bytes())
        .unwrap();

    // A body that never comes.
    let mut half = web.connect();
    let head = format!(
        "POST /login HTTP/1.1\r\nHost: {0}\r\nOrigin: \
         http://{0}\r\nContent-Length: 50\r\n\r\nname=",
        web.addr
    );

    half.write_all(head.as_bytes()).unwrap();

    assert_eq!(status(&web.get("/login")), 200, "meanwhile");
    for (what, stream) in [
        ("silent", &mut silent),
        ("slow", &mut slow),
        ("kept", &mut kept),
    ] {
        assert!(
            closes(stream, PATIENCE),
            "{what} is still there after {:?}",
            begun.elapsed()
        );
    }

    assert!(
        begun.elapsed() >= Duration::from_secs(8),
        "no client is dropped at once: {:?}",
        begun.elapsed()
    );

    half.set_read_timeout(Some(PATIENCE * 2)).unwrap();

    let answer = all(&mut half);
    assert_eq!(status(&answer), 503, "{answer}");
    assert_eq!(status(&web.get("/login")), 200, "afterwards");
}

#[test]
fn what_is_too_long_is_refused_with_its_own_status() {
    let host = TestHost::new();
    let web = Web::start(&host, &[]);
    let post = "POST /login HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n";

    assert_eq!(
        status(&request(
            &web,
            post,
            &format!("name=anna&password={}", "x".repeat(60 * 1024))
        )),
        422,
        "within the limit"
    );

    let answer = request(&web, post, &format!("name={}", "x".repeat(70 * 1024)));
    assert_eq!(status(&answer), 413, "{answer}");
    assert!(
        answer.contains("65536"),
        "it says how long it may be: {answer}"
    );

    let chunked = format!(
        "{post}Transfer-Encoding: chunked\r\nHost: {0}\r\nOrigin: http://{0}\r\n\r\n",
        web.addr
    );

    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    assert_eq!(
        status(&web.raw(&format!("{chunked}{}0\r\n\r\n", chunk.repeat(3)))),
        413,
        "in chunks"
    );

    let answer = request(
        &web,
        &format!(
            "GET /login HTTP/1.1\r\nX-Long: {}\r\n",
            "x".repeat(40 * 1024)
        ),
        "",
    );

    assert_eq!(status(&answer), 431, "{answer}");

    let answer = request(
        &web,
        &format!("GET /{} HTTP/1.1\r\n", "x".repeat(40 * 1024)),
        "",
    );

    assert!([414, 431].contains(&status(&answer)), "{answer}");
    assert_eq!(status(&web.raw("NONSENSE\r\n\r\n")), 400);
    assert_eq!(status(&web.get("/login")), 200);
}

#[test]
fn of_two_thousand_connections_some_get_503_until_others_close() {
    let host = TestHost::new();
    let web = Web::start(&host, &[]);

    // All at once: a client that the kernel refuses retries after a second, and the first ones are
    // dropped after ten.
    let web = &web;
    let subscribers: Vec<TcpStream> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..40)
            .map(|_| scope.spawn(|| (0..50).map(|_| web.connect()).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });

    let answer = until("it is full", || {
        Some(web.get("/login")).filter(|answer| answer.starts_with("HTTP/1.1 503 "))
    });
    assert!(
        answer.contains("Retry-After: 5") && answer.contains("try again"),
        "{answer}"
    );

    assert!(web.resident() < 100 * 1024, "{} KiB", web.resident());

    let refused = subscribers.iter().filter(|stream| {
        let (mut stream, mut words) = (*stream, [0; 13]);
        stream.set_nonblocking(true).unwrap();
        stream
            .read(&mut words)
            .is_ok_and(|read| words[..read] == *b"HTTP/1.1 503 ")
    });

    assert!(refused.count() > 50, "the others got a 503 or were closed");
    drop(subscribers);

    until("there is room again", || {
        (status(&web.get("/login")) == 200).then_some(())
    });
}

#[test]
fn the_number_of_consoles_is_limited_with_retry_after() {
    let host = TestHost::with_servers(33);
    host.user("anna", left4me::db::users::Role::Admin);

    let web = Web::start(&host, &["--streams-per-user", "64"]);
    let mut client = web.signed_in("anna");

    let cookie = client.cookie();
    let watch = |server: usize| {
        let (mut stream, mut head) = (web.connect(), vec![0; 4096]);
        let request = format!(
            "GET /servers/{server}/log/stream HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n",
            web.addr, cookie
        );

        stream.write_all(request.as_bytes()).unwrap();

        let read = stream.read(&mut head).unwrap();
        (
            stream,
            String::from_utf8_lossy(&head[..read]).to_ascii_lowercase(),
        )
    };

    let open: Vec<_> = (1..=32).map(watch).collect();

    assert!(
        open.iter()
            .all(|(_, head)| head.starts_with("http/1.1 200 ")),
        "{open:?}"
    );

    let answer = client.get("/servers/33/log/stream");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("10")),
        "{}",
        answer.body
    );

    assert!(
        answer.body.contains("oo many consoles are open"),
        "{}",
        answer.body
    );

    assert!(
        watch(32).1.starts_with("http/1.1 200 "),
        "one that is followed already"
    );

    let threads = std::fs::read_dir(format!("/proc/{}/task", web.pid()))
        .unwrap()
        .count();
    assert!(
        threads <= 51,
        "{threads}: left4me-web.service says how many there may be"
    );

    drop(open);
    until("there is room again", || {
        watch(33).1.starts_with("http/1.1 200 ").then_some(())
    });
}

#[test]
fn a_listener_from_systemd_is_served_until_idle() {
    let host = TestHost::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut envs = host.root.envs();
    envs.push(("LEFT4ME_WEB_IDLE_SECONDS".into(), "2".into()));

    let mut child = start(
        &[crate::support::WEB],
        &envs,
        listener.try_clone().unwrap(),
        std::process::Stdio::inherit(),
    );

    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(format!("GET /login HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())
        .unwrap();

    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");

    // The connection is still open but unused: that does not keep the process.
    assert_eq!(ended(&mut child), 0);

    // A client that connects while no process serves waits in the listener's queue for the next
    // one.
    let mut late = TcpStream::connect(address).unwrap();
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    late.write_all(
        format!("GET /login HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )
    .unwrap();

    let mut next = start(
        &[crate::support::WEB],
        &envs,
        listener,
        std::process::Stdio::inherit(),
    );

    assert_eq!(status(&all(&mut late)), 200);
    assert_eq!(ended(&mut next), 0);
}

#[test]
fn running_requests_are_answered_before_exit() {
    let host = TestHost::new();
    host.user("anna", left4me::db::users::Role::User);

    let web = Web::start(&host, &[]);
    let address = web.addr;
    let body = format!("name=anna&password={PASSWORD}").replace(' ', "+");
    let mut stream = web.connect();

    let head = format!(
        "POST /login HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\nContent-Type: \
        application/x-www-form-urlencoded\r\nContent-Length: {1}\r\nExpect: 100-continue\r\n\r\n",
        web.addr,
        body.len()
    );

    stream.write_all(head.as_bytes()).unwrap();

    // It asks for the body, so the request is running from here on.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

    let leaving = std::thread::spawn(move || web.stop());
    until("the listener is closed", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(status(&all(&mut stream)), 303);
    assert_eq!(leaving.join().unwrap(), 0);
}

#[test]
fn systemd_hears_from_it_however_busy_it_is() {
    let host = TestHost::new();
    let socket = std::os::unix::net::UnixDatagram::bind(host.root.join("notify.sock")).unwrap();
    socket.set_nonblocking(true).unwrap();

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut envs = host.root.envs();
    envs.push((
        "NOTIFY_SOCKET".into(),
        host.root.join("notify.sock").display().to_string(),
    ));

    envs.push(("WATCHDOG_USEC".into(), "1000000".into()));

    let mut child = start(
        &[crate::support::WEB],
        &envs,
        listener,
        std::process::Stdio::inherit(),
    );

    let mut beats = 0;

    until(
        "beats of the watchdog between requests that never pause",
        || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();

            let request =
                format!("GET /login HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            assert_eq!(status(&all(&mut stream)), 200);

            let mut words = [0; 512];
            while let Ok(read) = socket.recv(&mut words) {
                beats += String::from_utf8_lossy(&words[..read])
                    .matches("WATCHDOG=1")
                    .count();
            }

            (beats >= 4).then_some(())
        },
    );

    child.kill().unwrap();
    child.wait().unwrap();
}

/// A request that writes, sent without waiting for the response.
fn begin_to_write(web: &Web, client: &crate::support::http::Client) -> TcpStream {
    let mut stream = web.connect();
    let (cookie, body) = (
        client.cookies.iter().next().unwrap(),
        format!("csrf={}", client.csrf),
    );

    let head = format!(
        "POST /logout HTTP/1.1\r\nHost: {}\r\nCookie: {}={}\r\nSec-Fetch-Site: \
        same-origin\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        web.addr,
        cookie.0,
        cookie.1,
        body.len()
    );

    stream.write_all(head.as_bytes()).unwrap();

    stream
}

#[test]
fn a_long_write_elsewhere_blocks_neither_reads_nor_exit() {
    let host = TestHost::new();
    host.user("anna", left4me::db::users::Role::User);

    let web = Web::start(&host, &[]);
    let clients: Vec<_> = (0..10).map(|_| web.signed_in("anna")).collect();

    let mut reader = web.signed_in("anna");

    let db = host.db();
    db.connection().execute_batch("BEGIN IMMEDIATE").unwrap();

    let writers: Vec<TcpStream> = clients
        .iter()
        .map(|client| begin_to_write(&web, client))
        .collect();
    for _ in 0..3 {
        assert_eq!(reader.get("/account").status, 200);
    }

    for writer in &writers {
        writer.set_nonblocking(true).unwrap();
        let waits = (&*writer)
            .read(&mut [0; 16])
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(waits, "the page came only when a writer had given up");
    }

    assert_eq!(web.stop(), 0, "asked to stop while they wait");
    db.connection().execute_batch("ROLLBACK").unwrap();
}

#[test]
fn clients_that_disconnect_start_no_more_password_checks() {
    let host = TestHost::new();
    let web = Web::start(&host, &[]);
    for number in 0..300 {
        // Disconnects right after sending.
        let mut stream = web.connect();
        let body = format!("name=user{number}&password=wrong+wrong+wrong");
        let head = format!(
            "POST /login HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\nContent-Type: \
            application/x-www-form-urlencoded\r\nContent-Length: {1}\r\n\r\n{body}",
            web.addr,
            body.len()
        );

        stream.write_all(head.as_bytes()).unwrap();
    }

    let peak = web.peak();
    assert!(
        peak < 120 * 1024,
        "two passwords at a time take 38 MiB, not {peak} KiB"
    );

    assert_eq!(status(&web.get("/login")), 200);
}
