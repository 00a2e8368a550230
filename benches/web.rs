//! left4me-web under load, with the real programs on temporary data: a thousand subscribers of a
//! log, ten thousand connections over the limit, and the dashboard at a steady rate. Figures are in
//! docs/benchmarks.md.
//!
//!     cargo bench --bench web                          all
//!     cargo bench --bench web -- followers [COUNT] [LINES A SECOND] [SECONDS]
//!     cargo bench --bench web -- idle [COUNT]
//!     cargo bench --bench web -- dashboard [REQUESTS A SECOND] [SECONDS]

#![allow(
    clippy::disallowed_methods,
    reason = "it starts the programs it measures, and reads the clock that is asked for"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use left4me::db::users::Role;

use support::host::TestHost;
use support::http::{Web, status};
use support::subscribers::{Received, Subscribers, many_files};

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let number = |i: usize, usual: u32| {
        arguments
            .get(i)
            .and_then(|word| word.parse().ok())
            .unwrap_or(usual)
    };

    match arguments.first().map(String::as_str) {
        Some("print") => print(&arguments[1], number(2, 0), number(3, 0)),
        Some("followers") => followers(number(1, 1000), number(2, 1000), number(3, 20)),
        Some("idle") => idle(number(1, 10_000)),
        Some("dashboard") => dashboard(number(1, 200), number(2, 20)),
        Some(other) => panic!("there is no {other}: followers, idle, dashboard"),
        None => {
            followers(1000, 1000, 20);
            idle(10_000);
            dashboard(200, 20);
        }
    }
}

/// Unix time in microseconds.
fn now_us() -> u64 {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    time.as_micros().try_into().expect("not yet")
}

/// A histogram of times in steps of 0.1 ms.
struct Times(Vec<u32>);

impl Times {
    fn new() -> Self {
        Self(vec![0; 100_000])
    }

    fn add(&mut self, us: u64) {
        let class = usize::try_from(us / 100)
            .unwrap_or(usize::MAX)
            .min(self.0.len() - 1);
        self.0[class] += 1;
    }

    fn at(&self, part: f64) -> f64 {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let mut left = (all as f64 * part).ceil() as u64;
        let class = self.0.iter().position(|count| {
            left = left.saturating_sub(u64::from(*count));
            left == 0
        });
        (class.unwrap_or(0) + 1) as f64 / 10.0
    }

    fn words(&self) -> String {
        let [half, most, nearly, all] = [0.5, 0.99, 0.999, 1.0].map(|part| self.at(part));
        format!("p50 {half:.1} ms, p99 {most:.1} ms, p99.9 {nearly:.1} ms, max {all:.1} ms")
    }
}

/// The CPU time of a process in seconds.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .expect("a name")
        .1
        .split_whitespace()
        .collect();
    let ticks: f64 =
        fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
    ticks / 100.0
}

/// Signs a new user in over HTTP; returns the session's cookie.
fn sign_in(host: &TestHost, web: &Web, role: Role) -> String {
    host.user("bench", role);
    web.signed_in("bench").cookie()
}

/// The command of the job: prints `count` lines at an even rate, each with its time.
fn print(go: &str, count: u32, pace: u32) {
    println!("ready");
    support::until("it may begin", || {
        std::path::Path::new(go).exists().then_some(())
    });
    let begun = Instant::now();
    let mut out = std::io::stdout().lock();

    for i in 0..count {
        let due = begun + Duration::from_secs(1) * i / pace;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        writeln!(
            out,
            "{} Update state (0x61) downloading, progress: line {i} of {count}",
            now_us()
        )
        .expect("received");
    }
}

/// Subscribers of a job that prints lines, with the real worker, runner and left4me-web.
fn followers(count: u32, pace: u32, seconds: u32) {
    let lines = pace * seconds;
    println!("== {count} followers of a job that prints {pace} lines a second for {seconds} s");
    many_files();

    let host = TestHost::new();
    let program = std::env::current_exe().expect("this program");
    let go = host.root.join("go");

    // steamcmd is called once to update itself, and again after a failure.
    let _runner = host.runner(&format!(
        "#!/bin/sh\n[ \"$3\" = +quit ] && exit 0\nmkdir {0}.once \
         || exit 5\nexec {1} print {0} {lines} {pace}\n",
        go.display(),
        program.display()
    ));

    let web = Web::start(
        &host,
        &["--connections", "4000", "--streams-per-user", "3000"],
    );

    let cookie = sign_in(&host, &web, Role::Admin);
    let job = host.enqueue(&["install"]);
    let mut worker = host.worker(0);

    support::until("it prints", || {
        host.lines(job).contains(&"ready".to_owned()).then_some(())
    });

    let mut subscribers = Subscribers::new(web.addr, format!("/jobs/{job}/logs"));
    let begun = Instant::now();
    for _ in 0..count {
        subscribers.join(&cookie);
    }

    subscribers.until(
        "all follow",
        |_, _, _| {},
        |all| all.iter().all(|subscriber| subscriber.last > 0),
    );

    println!(
        "all have the first lines after {:.2} s; web: {} KiB",
        begun.elapsed().as_secs_f64(),
        web.resident()
    );

    let (cpu_before, begun) = (cpu(web.pid()), Instant::now());
    std::fs::write(&go, "").expect("told");
    let mut printed: Vec<u64> = Vec::new();
    let (mut times, mut closed, mut taken_apart) = (Times::new(), 0, 0_u64);

    while subscribers
        .all
        .iter()
        .any(|subscriber| !subscriber.ended && subscriber.is_open())
    {
        // Read the clock once per read.
        let (mut now, mut before) = (0, usize::MAX);
        let received = |which: usize, _: &mut _, received: Received<'_>| match received {
            Received::Line(seq, data) => {
                let place = usize::try_from(seq).expect("positive");
                if printed.len() <= place {
                    printed.resize(place + 1, 0);
                }

                // Parse the lines of a few subscribers only; the others get the same bytes.
                if printed[place] == 0 || which.is_multiple_of(200) {
                    let data: serde_json::Value = serde_json::from_slice(data).expect("JSON");
                    assert_eq!(data["seq"], seq);
                    let stamp = data["line"]
                        .as_str()
                        .and_then(|line| line.split(' ').next()?.parse().ok());
                    printed[place] = stamp.unwrap_or(1);
                    taken_apart += 1;
                }

                if before != which {
                    (now, before) = (now_us(), which);
                }

                if printed[place] > 1 {
                    times.add(now.saturating_sub(printed[place]));
                }
            }
            Received::Closed => closed += 1,
            Received::Event(_) | Received::Status(_) => {}
        };

        assert!(
            subscribers.turn(support::PATIENCE, received),
            "nothing comes any more"
        );
    }

    let (took, used) = (begun.elapsed().as_secs_f64(), cpu(web.pid()) - cpu_before);
    print_received(&subscribers, taken_apart);
    println!("from print to arrival: {}", times.words());
    println!(
        "web: {} KiB, at most {} KiB; {:.0} % of a CPU",
        web.resident(),
        web.peak(),
        used / took * 100.0
    );

    let whole = host.lines(job).len() as i64;
    let all = &subscribers.all;
    assert!(
        all.iter()
            .all(|one| one.ended && (one.lost, one.repeated, one.last) == (0, 0, whole)),
        "of {whole}"
    );

    assert!(whole > i64::from(lines) && closed <= count);

    support::ended(&mut worker);
}

/// Prints how many lines arrived.
fn print_received(subscribers: &Subscribers, taken_apart: u64) {
    let all = &subscribers.all;
    let sum = |of: fn(&support::subscribers::Subscriber) -> i64| all.iter().map(of).sum::<i64>();
    println!(
        "lines {}, lost {}, repeated {}, streams that ended early {}, taken apart {taken_apart}",
        sum(|one| one.lines),
        sum(|one| one.lost),
        sum(|one| one.repeated),
        all.iter().filter(|subscriber| !subscriber.ended).count(),
    );
}

/// More subscribers than the limit allows, of a job without output.
fn idle(count: u32) {
    println!("== {count} idle followers, the usual limits");
    let files = many_files();
    let host = TestHost::new();
    let web = Web::start(&host, &[]);
    let cookie = sign_in(&host, &web, Role::Admin);
    let job = host.enqueue(&["install"]);
    let mut subscribers = Subscribers::new(web.addr, format!("/jobs/{job}/logs"));
    let begun = Instant::now();

    for _ in 0..u64::from(count).min(files - 500) {
        subscribers.join(&cookie);
        while subscribers.turn(Duration::ZERO, |_, _, _| {}) {}
    }

    let asked = begun.elapsed();
    let begun = Instant::now();
    let page = web.get("/login");
    let page_took = begun.elapsed();

    while subscribers.turn(Duration::from_secs(1), |_, _, _| {}) {}
    let with = |status| subscribers.with_status(status);

    let live = subscribers
        .all
        .iter()
        .filter(|subscriber| subscriber.is_open())
        .count();
    println!(
        "{} asked in {:.1} s: {live} live, {} refused with 503, {} closed without a word",
        subscribers.all.len(),
        asked.as_secs_f64(),
        with(503),
        with(0)
    );

    println!(
        "a page meanwhile: {} after {:.1} ms",
        status(&page),
        page_took.as_secs_f64() * 1000.0
    );

    println!("web: {} KiB, at most {} KiB", web.resident(), web.peak());
}

/// Requests the dashboard at an even rate, whether or not the responses arrive.
fn dashboard(pace: u32, seconds: u32) {
    println!("== the dashboard with 100 servers, {pace} requests a second for {seconds} s");
    let host = TestHost::with_servers(100);
    furnish(&host);

    let web = Web::start(&host, &[]);
    let cookie = sign_in(&host, &web, Role::Admin);
    let fresh = web.resident();
    let begun = Instant::now() + Duration::from_millis(200);

    const CONNECTIONS: u32 = 16;
    let (addr, cookie) = (web.addr, cookie.as_str());
    let cpu_before = cpu(web.pid());
    let results: Vec<(Vec<u64>, usize)> = std::thread::scope(|scope| {
        let one = |which: u32| {
            let mut stream = TcpStream::connect(addr).expect("a connection");
            stream.set_nodelay(true).expect("a flag");
            stream
                .set_read_timeout(Some(support::PATIENCE))
                .expect("a time limit");

            let request = format!("GET / HTTP/1.1\r\nHost: {addr}\r\nCookie: {cookie}\r\n\r\n");
            let (mut times, mut length) = (Vec::new(), 0);
            let mut page = vec![0; 1024 * 1024];

            for i in (which..pace * seconds).step_by(CONNECTIONS as usize) {
                let due = begun + Duration::from_secs(1) * i / pace;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                stream.write_all(request.as_bytes()).expect("sent");
                length = answer(&mut stream, &mut page);
                // Measure from when the request was due, so that waiting for a previous one counts.
                times.push(due.elapsed().as_micros().try_into().expect("short"));
            }

            (times, length)
        };

        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|which| scope.spawn(move || one(which)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });

    let used = cpu(web.pid()) - cpu_before;
    let mut times = Times::new();
    results
        .iter()
        .flat_map(|(one, _)| one)
        .for_each(|us| times.add(*us));
    println!(
        "{} pages of {} bytes: {}",
        pace * seconds,
        results[0].1,
        times.words()
    );

    println!(
        "CPU for a page: {:.2} ms",
        used * 1000.0 / f64::from(pace * seconds)
    );

    println!(
        "web: {} KiB, at most {} KiB; {fresh} KiB after signing in",
        web.resident(),
        web.peak()
    );
}

/// Reads one response; returns the length of its body.
fn answer(stream: &mut TcpStream, page: &mut [u8]) -> usize {
    let mut have = 0;
    let mut whole = None;
    while whole.is_none_or(|whole| have < whole) {
        let read = stream.read(&mut page[have..]).expect("an answer");
        assert!(
            read > 0,
            "it closed: {}",
            String::from_utf8_lossy(&page[..have])
        );

        have += read;

        if whole.is_none()
            && let Some(end) = page[..have].windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&page[..end]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let length = head.split_once("content-length: ").expect("a length").1;
            let digits = length.split("\r\n").next().expect("a line");
            whole = Some(end + 4 + digits.parse::<usize>().expect("a number"));
        }
    }

    have
}

/// Creates servers in all states, some with drift, some with jobs, and a history.
fn furnish(host: &TestHost) {
    let db = host.db();
    let now = now_us() / 1000;
    db.connection()
        .execute_batch(&format!(
            "BEGIN; UPDATE servers
             SET desired_state = CASE id % 2 WHEN 0 THEN 'running' ELSE 'stopped' END,
             actual_state = CASE id % 6 WHEN 0 THEN 'running' WHEN 1 THEN 'starting'
             WHEN 2 THEN 'stopping' WHEN 3 THEN 'stopped' WHEN 4 THEN 'failed' ELSE 'unknown' END,
             actual_state_updated_at = {now} - id * 60000, last_error = CASE id % 6
             WHEN 4 THEN 'the unit failed: exit code 1' END, actual_since = {now} - id * 60000,
             drift = CASE id % 12 WHEN 4 THEN 'down' END, drift_since = CASE id % 12
             WHEN 4 THEN {now} - id * 1000 END, drift_why = CASE id % 12
             WHEN 4 THEN 'crashed: signal 9' END; WITH RECURSIVE n(i) AS (VALUES (1)
             UNION ALL SELECT i + 1 FROM n
             WHERE i < 10000) INSERT INTO jobs (operation, state, requested_by, created_at,
             updated_at, started_at, finished_at, exit_code, worker_id) SELECT 'start',
             'succeeded', 'anna', {now} - 900000, 1, {now} - 800000, {now} - 700000, 0, 'w'
             FROM n; WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n
             WHERE i < 10) INSERT INTO jobs (operation, requested_by, created_at,
             updated_at) SELECT 'start', 'anna', {now} - 9000, 1
             FROM n; INSERT INTO job_targets SELECT id, 1 + id % 100 FROM jobs; COMMIT; ANALYZE;"
        ))
        .expect("rows");
}
