//! Many streams over real HTTP: each client gets each line once, whatever happens. Clients that do
//! not read, or are refused, affect no others.

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use left4me::base::clock;
use left4me::base::names::{JobId, UserId};
use left4me::db::users::{self, Role};
use left4me::db::{logs, sessions};
use nix::sys::signal::Signal;
use nix::sys::socket::{Backlog, listen};

use crate::support::host::{TestHost, stop};
use crate::support::http::{Web, status};
use crate::support::subscribers::{Received, Subscriber, Subscribers, many_files};
use crate::support::{WEB, ended, start, until};

/// Signed-in users; the cookie of each.
fn new_sessions(host: &TestHost, count: usize) -> Vec<String> {
    let (now, mut db) = (clock::now_ms(), host.db());
    let cookie = |number: usize| {
        let text = format!("{number:064x}");
        db.write(|tx| {
            let user = users::create(
                tx,
                1,
                "test",
                &format!("user{number}").parse()?,
                Role::Admin,
                "-",
            )?;

            sessions::begin(tx, UserId(user.id.0), &text, now, now + 3_600_000)
        })
        .unwrap();

        format!("left4me={text}")
    };

    (0..count).map(cookie).collect()
}

/// Serves the runner's socket: a job that connects prints the output of `lines` and fails.
fn printing(host: &TestHost, lines: &str) -> crate::support::SocketUnit {
    let once = host.root.join("once");
    // steamcmd is called first to update itself, and again after a failure.
    host.runner(&format!(
        "#!/bin/bash\n[[ $3 != +quit ]] && mkdir {} || exit 5\n{lines}\nexit 5\n",
        once.display()
    ))
}

fn whole(host: &TestHost, job: JobId) -> Vec<(i64, String)> {
    let lines = logs::after(host.db().connection(), job, 0, 1_000_000).unwrap();
    lines
        .into_iter()
        .map(|line| (line.seq, line.line))
        .collect()
}

/// A front for a listener that the test keeps, as systemd does.
fn serve(host: &TestHost, listener: &TcpListener) -> Child {
    let mut envs = host.root.envs();
    envs.push(("LEFT4ME_WEB_STREAMS_PER_USER".into(), "300".into()));
    envs.push(("LEFT4ME_WEB_IDLE_SECONDS".into(), "0".into()));
    start(
        &[WEB],
        &envs,
        listener.try_clone().unwrap(),
        Stdio::inherit(),
    )
}

#[test]
fn two_hundred_clients_get_each_line_once_across_restarts() {
    const LINES: i64 = 4000;

    let host = TestHost::new();
    let cookie = new_sessions(&host, 1).remove(0);
    let _runner = printing(
        &host,
        &format!(
            "for ((i = 1; i <= {LINES}; i++)); do echo \"line $i\"; ((i % 20)) || sleep 0.02; done"
        ),
    );

    let job = host.enqueue(&["install"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();

    // While no process serves, all of them wait in its queue.
    listen(&listener, Backlog::new(1024).unwrap()).unwrap();

    let mut web = serve(&host, &listener);
    let mut subscribers =
        Subscribers::new(listener.local_addr().unwrap(), format!("/jobs/{job}/logs"));
    (0..200).for_each(|_| subscribers.join(&cookie));
    subscribers.until(
        "all follow",
        |_, _, _| {},
        |all| all.iter().all(|subscriber| subscriber.status == 200),
    );

    let mut worker = host.worker(0);

    let (mut random, mut stops, mut hung_up) = (1_u64, 0, 0);
    let mut read = vec![Vec::new(); 5];
    while !subscribers.all.iter().all(|subscriber| subscriber.ended) {
        let something =
            subscribers.turn(crate::support::PATIENCE, |which, subscriber, received| {
                let Received::Line(seq, data) = received else {
                    return;
                };
                if let Some(read) = read.get_mut(which) {
                    let data: serde_json::Value = serde_json::from_slice(data).unwrap();
                    assert_eq!(data["seq"], seq);
                    read.push((seq, data["line"].as_str().unwrap().to_owned()));
                }

                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);

                if (random >> 33).is_multiple_of(400) {
                    hung_up += 1;
                    subscriber.hang_up();
                }
            });

        assert!(something, "nothing comes any more");

        if subscribers.all[0].last > LINES / 3 * (stops + 1) && stops < 2 {
            stop(
                &web,
                [Signal::SIGTERM, Signal::SIGKILL][usize::try_from(stops).unwrap()],
            );

            assert_eq!(ended(&mut web), [0, 137][usize::try_from(stops).unwrap()]);
            web = serve(&host, &listener);
            stops += 1;
        }

        for which in 0..subscribers.all.len() {
            let subscriber = &subscribers.all[which];
            if !subscriber.is_open() && !subscriber.ended {
                subscribers.open(which);
            }
        }
    }

    let lines = whole(&host, job);
    let count = i64::try_from(lines.len()).unwrap();

    assert!(
        count > LINES && stops == 2 && hung_up > 500,
        "{count} lines, {stops} stops, {hung_up} hung up"
    );

    for subscriber in &subscribers.all {
        assert_eq!(
            (
                subscriber.lost,
                subscriber.repeated,
                subscriber.lines,
                subscriber.last
            ),
            (0, 0, count, count)
        );
    }

    read.iter().for_each(|read| assert_eq!(*read, lines));
    stop(&web, Signal::SIGTERM);
    assert_eq!((ended(&mut web), ended(&mut worker)), (0, 0));
}

#[test]
fn a_client_that_stops_reading_is_dropped_and_costs_no_memory() {
    let host = TestHost::new();
    let cookie = new_sessions(&host, 1).remove(0);

    // Twenty million bytes: far more than the kernel buffers for a connection.
    let _runner = printing(
        &host,
        "printf -v long '%04000d' 0; for ((i = 1; i <= 5000; i++)); \
         do echo \"$i $long\"; ((i % 200)) || sleep 0.1; done",
    );

    let job = host.enqueue(&["install"]);
    let web = Web::start(&host, &["--streams-per-user", "64"]);
    let mut subscribers = Subscribers::new(web.addr, format!("/jobs/{job}/logs"));
    (0..30).for_each(|_| subscribers.join(&cookie));

    let mut deaf = Subscribers::new(web.addr, format!("/jobs/{job}/logs"));
    (0..10).for_each(|_| deaf.join(&cookie));
    for subscribers in [&mut subscribers, &mut deaf] {
        subscribers.until(
            "all follow",
            |_, _, _| {},
            |all| all.iter().all(|subscriber| subscriber.status == 200),
        );
    }

    let mut worker = host.worker(0);
    let open = || {
        let scrape = web.get("/metrics");
        let line = scrape
            .lines()
            .find_map(|line| line.strip_prefix("left4me_web_streams{kind=\"job\"} "));
        line.unwrap().parse::<usize>().unwrap()
    };

    assert_eq!(open(), 40);

    let mut most = 0;
    subscribers.until(
        "the end",
        |_, _, received| {
            if matches!(received, Received::Line(seq, _) if seq % 500 == 0) {
                most = web.resident().max(most);
            }
        },
        |all| all.iter().all(|subscriber| subscriber.ended),
    );

    assert!(most > 0 && most < 100 * 1024, "{most} KiB");

    let count = i64::try_from(whole(&host, job).len()).unwrap();
    assert!(count > 5000);
    for subscriber in &subscribers.all {
        assert_eq!(
            (subscriber.lost, subscriber.repeated, subscriber.last),
            (0, 0, count)
        );
    }

    // Half a minute after it last read something.
    let deadline = Instant::now() + crate::support::PATIENCE * 2;
    while open() > 0 {
        assert!(Instant::now() < deadline, "who takes nothing is dropped");
        std::thread::sleep(Duration::from_millis(100));
    }

    deaf.until(
        "what was on its way",
        |_, _, _| {},
        |all| !all.iter().any(Subscriber::is_open),
    );

    for subscriber in &deaf.all {
        assert!(
            !subscriber.ended
                && subscriber.last < count
                && subscriber.lost + subscriber.repeated == 0
        );
    }

    // It reconnects, as a browser does, and has missed nothing.
    deaf.open(0);
    deaf.until("the rest", |_, _, _| {}, |all| all[0].ended);

    let back = &deaf.all[0];
    assert_eq!((back.lost, back.repeated, back.lines), (0, 0, count));
    assert_eq!(ended(&mut worker), 0);
}

#[test]
fn of_ten_thousand_streams_those_beyond_the_limit_get_503() {
    let count = many_files().saturating_sub(500).min(10_000);
    let host = TestHost::new();
    let cookies = new_sessions(&host, 40);
    let web = Web::start(&host, &[]);
    let job = host.enqueue(&["install"]);

    let mut subscribers = Subscribers::new(web.addr, format!("/jobs/{job}/logs"));
    for number in 0..usize::try_from(count).unwrap() {
        subscribers.join(&cookies[number % cookies.len()]);
        while subscribers.turn(Duration::ZERO, |_, _, _| {}) {}
    }

    let page = until("a page", || {
        Some(web.get("/login")).filter(|answer| status(answer) == 200)
    });
    assert!(page.contains("Sign in"));
    subscribers.until(
        "every one has its answer",
        |_, _, _| {},
        |all| {
            all.iter()
                .all(|subscriber| subscriber.status != 0 || !subscriber.is_open())
        },
    );

    let with = |status| subscribers.with_status(status);

    // Three quarters of the connections may be streams.
    assert!((300..=384).contains(&with(200)), "{} live", with(200));
    assert_eq!(
        with(503) + with(200),
        subscribers.all.len(),
        "each gets a response, none is just closed"
    );

    assert!(web.peak() < 100 * 1024, "{} KiB", web.peak());

    // A refused client takes no connection from others.
    let head = format!(
        "GET /jobs/{job}/logs HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n",
        web.addr, cookies[0]
    );

    let answer = web.raw(&head).to_ascii_lowercase();
    assert!(
        status(&answer) == 503 && answer.contains("\r\nconnection: close\r\n"),
        "{answer}"
    );

    // The accepted ones are served: the job is cancelled while it is queued.
    let (code, _, err) = host.job(&["cancel", &job.to_string()]);
    assert_eq!(code, 0, "{err}");

    let live = |subscriber: &Subscriber| subscriber.status == 200;
    subscribers.until(
        "the end",
        |_, _, _| {},
        |all| {
            all.iter()
                .all(|subscriber| subscriber.ended == live(subscriber))
        },
    );
}

#[test]
fn ids_are_checked_however_the_bytes_are_cut() {
    let event = |seq| format!("id: {seq}\nevent: stdout\ndata: {{\"seq\":{seq}}}\n\n");
    let chunk = |text: String| format!("{:x}\r\n{text}\r\n", text.len());
    let body = [
        chunk("event: state\ndata: {}\n\n".to_owned() + &event(1)),
        chunk(":\n\n".to_owned()),
        chunk(event(2) + &event(2) + &event(5)),
        chunk("event: end\ndata: {}\n\n".to_owned()),
    ]
    .concat();

    let all = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    for cut in 1..all.len() {
        let mut subscriber = Subscriber::default();
        let mut events = Vec::new();
        for part in all.as_bytes().chunks(cut) {
            subscriber.take(part, &mut |_: &mut Subscriber, received: Received<'_>| {
                events.push(match received {
                    Received::Line(seq, _) => seq.to_string(),
                    other => format!("{other:?}"),
                });
            });
        }

        assert_eq!(
            (
                subscriber.lines,
                subscriber.lost,
                subscriber.repeated,
                subscriber.ended
            ),
            (4, 2, 1, true),
            "{cut}"
        );

        assert_eq!(events.len(), 8, "{events:?}");
    }
}
