//! The live feeds on a real database with a scripted helper: what clients get in every situation.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use left4me::base::names::{JobId, ServerId, ServerRef, UserId};
use left4me::db::{Db, jobs, logs, queue, users};
use left4me::domain::job::JobState;
use left4me::domain::operation::Operation;
use left4me::domain::update::UpdateOptions;
use left4me::queue::enqueue::{JobRequest, Requester, Targets, enqueue};
use left4me::web::live::{Hub, LiveSettings, Reader, Viewer};
use left4me::wire::Stream;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::host::TestHost;
use crate::support::{PATIENCE, SocketUnit, until};

/// A test installation, its hub, and a runtime for the streams.
struct Site {
    host: TestHost,
    hub: Hub,
    runtime: Runtime,
}

impl Site {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut LiveSettings)) -> Self {
        let host = TestHost::with_servers(3);
        let mut settings =
            LiveSettings::new(host.database(), host.root.join("helper.sock"), 100_000);
        settings.retry = Duration::from_millis(20);
        settings.linger = Duration::from_millis(20);
        change(&mut settings);

        let hub = Hub::start(settings).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self { host, hub, runtime }
    }

    fn enqueue(&self, operation: Operation, servers: &[i64]) -> JobId {
        let named: Vec<_> = servers
            .iter()
            .map(|id| ServerRef::Id(ServerId(*id)))
            .collect();
        let targets = if named.is_empty() {
            Targets::None
        } else {
            Targets::Named(named)
        };

        let request = JobRequest {
            operation,
            targets,
            unique: false,
            rolling: None,
            update: UpdateOptions::default(),
            condition: None,
            requester: Requester::local("test"),
        };

        enqueue(&mut self.host.db(), &request, 1).unwrap().job_id
    }

    /// A running job.
    fn running(&self) -> Job {
        let id = self.enqueue(Operation::Start, &[1]);
        let mut db = self.host.db();
        assert!(db.write(|tx| jobs::claim(tx, id, "test", 2)).unwrap());
        Job { id, db, seq: 0 }
    }

    fn follow(&self, job: JobId, after: Option<i64>) -> Received {
        self.subscribe(self.hub.job(job, after, reader()))
    }

    fn changes(&self, viewer: Viewer, id: Option<&str>) -> Received {
        self.subscribe(self.hub.changes(viewer, id, Vec::new(), reader()))
    }

    fn console(&self, id: Option<&str>) -> Received {
        self.subscribe(self.hub.console(ServerId(1), id, reader()).unwrap())
    }

    fn subscribe(
        &self,
        body: impl Body<Data = Bytes, Error = std::convert::Infallible> + Send + 'static,
    ) -> Received {
        let runtime = self.runtime.handle().clone();
        Received {
            body: body.boxed_unsync(),
            events: VecDeque::new(),
            comments: 0,
            runtime,
            last: None,
        }
    }
}

/// A client with all rights.
fn reader() -> Reader {
    Reader {
        check: Box::new(|| Box::pin(std::future::ready(true))),
        guard: Box::new(()),
    }
}

/// A job that a test runs.
struct Job {
    id: JobId,
    db: Db,
    seq: i64,
}

impl Job {
    /// Prints lines `line 1`, `line 2`, … in one commit.
    fn print(&mut self, count: i64) {
        let (id, from) = (self.id, self.seq);
        let insert = |tx: &rusqlite::Transaction<'_>| {
            (from + 1..=from + count).try_for_each(|seq| {
                logs::insert(tx, id, seq, 5, Stream::Stdout, None, &format!("line {seq}"))
            })
        };

        self.db.write(insert).unwrap();
        self.seq += count;
    }

    fn finish(&mut self) {
        let end = jobs::Finish {
            state: JobState::Succeeded,
            exit_code: 0,
            error: None,
        };

        assert!(
            self.db
                .write(|tx| jobs::finish(tx, self.id, "test", &end, 9))
                .unwrap()
        );
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Event {
    id: Option<String>,
    name: String,
    data: Value,
}

impl Event {
    fn seq(&self) -> Option<i64> {
        self.id.as_ref().map(|id| id.parse().unwrap())
    }

    fn line(&self) -> &str {
        self.data["line"].as_str().unwrap_or_default()
    }
}

/// A stream, as its client sees it.
struct Received {
    body: UnsyncBoxBody<Bytes, std::convert::Infallible>,
    events: VecDeque<Event>,
    comments: usize,
    runtime: tokio::runtime::Handle,
    /// As a browser keeps it.
    last: Option<String>,
}

impl Received {
    /// The next event; none at the end.
    fn next(&mut self) -> Option<Event> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.events.is_empty() {
            let Self { runtime, body, .. } = self;
            let frame =
                runtime.block_on(async { tokio::time::timeout_at(deadline, body.frame()).await });
            let bytes = frame
                .expect("an event in time")?
                .unwrap()
                .into_data()
                .unwrap();
            self.take(std::str::from_utf8(&bytes).unwrap());
        }

        let event = self.events.pop_front();
        self.last = event
            .as_ref()
            .and_then(|event| event.id.clone())
            .or(self.last.take());
        event
    }

    fn take(&mut self, text: &str) {
        assert!(text.ends_with("\n\n"), "{text:?}");

        for block in text.split_terminator("\n\n") {
            if block == ":" {
                self.comments += 1;
                continue;
            }

            let lines: Vec<_> = block
                .lines()
                .map(|line| line.split_once(": ").unwrap())
                .collect();
            let field = |name| {
                lines
                    .iter()
                    .find(|(field, _)| *field == name)
                    .map(|(_, value)| (*value).to_owned())
            };

            let event = Event {
                id: field("id"),
                name: field("event").unwrap(),
                data: serde_json::from_str(&field("data").unwrap()).unwrap(),
            };

            assert_eq!(lines.len(), 2 + usize::from(event.id.is_some()), "{block}");

            self.events.push_back(event);
        }
    }

    /// The texts of the next `count` lines. Skips other events.
    fn lines(&mut self, count: usize) -> Vec<String> {
        let events = std::iter::from_fn(|| self.next()).filter(|event| event.id.is_some());
        events
            .take(count)
            .map(|event| event.line().to_owned())
            .collect()
    }

    /// The seqs of the next `count` lines.
    fn seqs(&mut self, count: usize) -> Vec<i64> {
        std::iter::from_fn(|| self.next())
            .filter_map(|event| event.seq())
            .take(count)
            .collect()
    }

    /// Everything up to the end.
    fn rest(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Polls once, like a connection that can take more.
    fn poll_once(&mut self) {
        let Self { runtime, body, .. } = self;
        assert!(
            runtime
                .block_on(async { tokio::time::timeout(Duration::ZERO, body.frame()).await })
                .is_err()
        );
    }

    /// Waits a moment to prove that nothing comes.
    fn is_quiet(&mut self) -> bool {
        let Self { runtime, body, .. } = self;
        let frame = runtime.block_on(async {
            tokio::time::timeout(Duration::from_millis(100), body.frame()).await
        });
        self.events.is_empty() && frame.is_err()
    }
}

fn event(id: Option<i64>, name: &str, data: Value) -> Event {
    Event {
        id: id.map(|id| id.to_string()),
        name: name.to_owned(),
        data,
    }
}

// ---- job logs
// -------------------------------------------------------------------------------------

#[test]
fn a_log_is_replayed_then_live_and_ends_after_the_last_line() {
    let site = Site::new();
    let mut job = site.running();
    job.print(2);

    let mut received = site.follow(job.id, None);
    let line = |seq| {
        event(
            Some(seq),
            "stdout",
            json!({"seq": seq, "at": 5, "task": null, "line": format!("line {seq}")}),
        )
    };

    assert_eq!(
        received.next(),
        Some(event(None, "state", json!({"state": "running"})))
    );

    assert_eq!(
        [received.next(), received.next()],
        [Some(line(1)), Some(line(2))]
    );
    job.print(1);
    assert_eq!(received.next(), Some(line(3)));
    job.print(1);
    job.finish();

    let end = event(None, "end", json!({"state": "succeeded", "exit_code": 0}));
    assert_eq!(received.rest(), [line(4), end.clone()]);
    for after in [4, 999] {
        assert_eq!(
            site.follow(job.id, Some(after)).rest(),
            std::slice::from_ref(&end)
        );
    }

    assert_eq!(site.follow(job.id, Some(2)).rest(), [line(3), line(4), end]);
    assert_eq!(site.follow(JobId(999), None).rest(), []);
}

#[test]
fn each_state_is_sent_once_and_before_the_end() {
    let site = Site::new();
    let id = site.enqueue(Operation::Start, &[1]);
    let mut received = site.follow(id, None);
    let mut db = site.host.db();

    assert_eq!(received.next().unwrap().data["state"], "queued");
    db.write(|tx| jobs::claim(tx, id, "test", 2)).unwrap();
    assert_eq!(received.next().unwrap().data["state"], "running");
    db.write(|tx| jobs::set_cancelling(tx, id, 3)).unwrap();
    assert_eq!(
        received.next().unwrap(),
        event(None, "state", json!({"state": "cancelling"}))
    );

    db.write(|tx| {
        logs::append(tx, id, 4, Stream::Stderr, "cancelled by me")?;
        jobs::cancel(tx, id, JobState::Cancelling, "cancelled", 4)
    })
    .unwrap();

    let rest = received.rest();
    assert_eq!(
        (rest[0].name.as_str(), rest[0].line(), rest[0].seq()),
        ("stderr", "cancelled by me", Some(1))
    );

    assert_eq!(
        rest[1..],
        [event(
            None,
            "end",
            json!({"state": "cancelled", "exit_code": 1})
        )]
    );
}

#[test]
fn a_client_that_reconnects_gets_each_line_once() {
    // Rings so short that they overflow constantly, and one that never does.
    for ring_bytes in [1, 3000, 1 << 20] {
        let site = Site::with(|settings| settings.ring_bytes = ring_bytes);
        let mut job = site.running();
        let id = job.id;

        let writer = std::thread::spawn(move || {
            for i in 0..300 {
                job.print(i * 7919 % 11 + 1);
                if i % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }

            job.finish();
            job.seq
        });

        let readers: Vec<_> = (1..5_u64)
            .map(|seed| {
                let mut random = seed;
                let (mut seen, mut ended) = (Vec::new(), false);
                while !ended {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);

                    let mut received = site.follow(id, seen.last().copied());
                    for _ in 0..(random >> 33) % 150 {
                        let event = received.next().expect("no end before the end");
                        seen.extend(event.seq());
                        if event.name == "end" {
                            ended = true;
                            break;
                        }
                    }
                }

                seen
            })
            .collect();

        let all: Vec<i64> = (1..=writer.join().unwrap()).collect();
        readers.into_iter().for_each(|seen| assert_eq!(seen, all));
    }
}

#[test]
fn a_slow_reader_gets_every_line_though_the_ring_has_long_forgotten_them() {
    let site = Site::with(|settings| settings.ring_bytes = 1000);
    let mut job = site.running();
    job.print(1);

    let (mut slow, mut quick) = (site.follow(job.id, None), site.follow(job.id, None));
    assert_eq!((slow.seqs(1), quick.seqs(1)), (vec![1], vec![1]));

    for from in 0..30 {
        job.print(100);
        assert_eq!(
            quick.seqs(100),
            (from * 100 + 2..from * 100 + 102).collect::<Vec<_>>()
        );
    }

    let before = site.hub.counts().pages;
    assert_eq!(slow.seqs(3000), (2..=3001).collect::<Vec<_>>());
    assert!(site.hub.counts().pages > before);
}

#[test]
fn a_cut_replay_says_so_and_does_not_change_the_resume_point() {
    let site = Site::with(|settings| settings.replay_limit = 10);
    let mut job = site.running();
    job.print(50);

    let mut received = site.follow(job.id, None);
    let first = received.next().unwrap();

    assert_eq!((first.id.clone(), first.name.as_str()), (None, "stderr"));
    assert_eq!(
        (&first.data["dropped"], &first.data["seq"]),
        (&json!(40), &json!(40))
    );

    assert!(first.line().contains("40 earlier lines"));
    assert_eq!(received.seqs(10), (41..=50).collect::<Vec<_>>());
    assert_eq!(
        site.follow(job.id, Some(40)).seqs(10),
        (41..=50).collect::<Vec<_>>()
    );

    assert_eq!(
        site.follow(job.id, Some(30)).next().unwrap().data["dropped"],
        10
    );

    // Lines that arrive while it reads are not part of the replay.
    job.print(30);
    assert_eq!(received.seqs(30), (51..=80).collect::<Vec<_>>());
}

#[test]
fn a_hostile_line_is_one_event_with_text_in_it() {
    let site = Site::new();
    let mut job = site.running();
    let wide = "界".repeat(4096);
    let hostile = [
        "<b>\u{1b}[31mx\u{1b}[0m</b>",
        "a\r\n\r\nevent: end\ndata: {}\n\n",
        "data: event: id: 9",
        &wide,
        "\0\u{2028}",
    ];

    job.db
        .write(|tx| {
            hostile
                .iter()
                .try_for_each(|line| logs::append(tx, job.id, 1, Stream::Stdout, line))
        })
        .unwrap();
    job.finish();

    let mut received = site.follow(job.id, None);
    let lines = received.lines(5);

    assert_eq!(lines[0], "<b>x</b>");
    assert_eq!(lines[1], "a␍␊␍␊event: end␊data: {}␊␊");
    assert_eq!(lines[2..4], [hostile[2], &wide]);
    assert_eq!(lines[4], "␀\\u{2028}");
    assert_eq!(received.next().unwrap().name, "end");
}

#[test]
fn all_subscribers_of_a_job_cost_one_database_read_per_commit() {
    let site = Site::new();
    let mut job = site.running();
    let mut all: Vec<_> = (0..100).map(|_| site.follow(job.id, None)).collect();
    all.iter_mut()
        .for_each(|received| assert_eq!(received.next().unwrap().name, "state"));

    let before = site.hub.counts();
    assert_eq!(before.streams, 100);

    for seq in 1..=20 {
        job.print(1);
        all.iter_mut()
            .for_each(|received| assert_eq!(received.seqs(1), [seq]));
    }

    let after = site.hub.counts();
    assert!(
        (1..=20).contains(&(after.reads - before.reads)),
        "{before:?} {after:?}"
    );

    assert_eq!(after.pages, before.pages);
    drop(all);
    until("no stream is left", || {
        (site.hub.counts().streams == 0).then_some(())
    });
}

// ---- who may read
// ---------------------------------------------------------------------------------

/// A client whose rights the flag decides, and the number of checks.
fn checked(may: &Arc<AtomicBool>) -> (Reader, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (may, counted) = (Arc::clone(may), Arc::clone(&asked));
    let check = move || -> left4me::web::live::RightsCheck {
        counted.fetch_add(1, Ordering::SeqCst);
        let may = Arc::clone(&may);
        Box::pin(async move {
            tokio::task::yield_now().await;
            may.load(Ordering::SeqCst)
        })
    };

    (
        Reader {
            check: Box::new(check),
            guard: Box::new(()),
        },
        asked,
    )
}

#[test]
fn a_heartbeat_is_a_comment_and_asks_again_whether_the_reader_may_read() {
    let site = Site::with(|settings| settings.heartbeat = Duration::from_millis(20));
    let mut job = site.running();
    let may = Arc::new(AtomicBool::new(true));
    let (reader, asked) = checked(&may);
    let mut received = site.subscribe(site.hub.job(job.id, None, reader));

    assert_eq!(received.next().unwrap().name, "state");
    until("three heartbeats", || {
        (!received.is_quiet() && asked.load(Ordering::SeqCst) >= 3).then_some(())
    });
    job.print(1);
    assert_eq!(received.seqs(1), [1]);
    may.store(false, Ordering::SeqCst);
    assert_eq!(received.next(), None);
    assert!(received.body.is_end_stream());
}

#[test]
fn a_stream_ends_when_its_session_does_without_waiting_for_a_heartbeat() {
    let site = Site::with(|settings| settings.heartbeat = Duration::from_secs(3600));
    let mut job = site.running();
    let mut db = site.host.db();
    let sql = "INSERT INTO sessions (user_id, hash, created_at, last_seen_at, expires_at)
               VALUES (1, randomblob(32), 1, 1, 9)";
    db.write(|tx| Ok(tx.execute(sql, [])?)).unwrap();

    let (may, others) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicBool::new(true)),
    );

    let (reader, asked) = checked(&may);
    let mut received = site.subscribe(site.hub.job(job.id, None, reader));
    let mut changes =
        site.subscribe(
            site.hub
                .changes(Viewer::Admin, None, Vec::new(), checked(&may).0),
        );

    let mut other = site.subscribe(site.hub.job(job.id, None, checked(&others).0));

    assert_eq!(
        (received.next().unwrap().name, other.next().unwrap().name),
        ("state".into(), "state".into())
    );

    job.print(1);
    assert_eq!(received.seqs(1), [1]);
    db.write(|tx| Ok(tx.execute("UPDATE sessions SET last_seen_at = 7", [])?))
        .unwrap();
    db.write(|tx| Ok(tx.execute(sql, [])?)).unwrap();
    job.print(1);
    assert_eq!(received.seqs(1), [2]);
    assert_eq!(
        asked.load(Ordering::SeqCst),
        0,
        "neither a line nor a sign-in takes a right"
    );

    may.store(false, Ordering::SeqCst);
    db.write(|tx| users::set_password(tx, 8, "test", &"alice".parse()?, "new"))
        .unwrap();
    assert_eq!(received.next(), None);
    assert_eq!(changes.next(), None);
    job.print(1);
    assert_eq!(other.seqs(3), [1, 2, 3]);
}

#[test]
fn a_guard_goes_with_its_stream_and_a_shutdown_ends_them_all() {
    let site = Site::new();
    let _helper = journal(&site, 3);
    let job = site.running();
    let guard = Arc::new(());
    let guarded = || Reader {
        guard: Box::new(Arc::clone(&guard)),
        ..reader()
    };

    let one = site.subscribe(site.hub.job(job.id, None, guarded()));

    assert_eq!(Arc::strong_count(&guard), 2);
    drop(one);
    assert_eq!(Arc::strong_count(&guard), 1);

    let mut all = [
        site.follow(job.id, None),
        site.changes(Viewer::Admin, None),
        site.console(None),
    ];

    assert_eq!(all[0].next().unwrap().name, "state");
    assert_eq!(all[2].lines(3).len(), 3);
    site.hub.shutdown();
    all.iter_mut()
        .for_each(|received| assert_eq!(received.next(), None));
    assert_eq!(site.follow(job.id, None).next(), None);
    assert_eq!(site.console(None).next(), None);
}

// ---- changes
// --------------------------------------------------------------------------------------

#[test]
fn a_change_is_sent_to_those_who_may_see_it() {
    let site = Site::new();
    let mut db = site.host.db();
    db.write(|tx| users::create(tx, 1, "test", &"ben".parse()?, users::Role::User, "-"))
        .unwrap();
    db.write(|tx| Ok(tx.execute("UPDATE servers SET user_id = 2 WHERE id = 3", [])?))
        .unwrap();

    let viewers = [
        Viewer::Admin,
        Viewer::User(UserId(1)),
        Viewer::User(UserId(2)),
    ];

    let mut received = viewers.map(|viewer| site.changes(viewer, Some("x")));
    for received in &mut received {
        let first = received.next().unwrap();
        assert_eq!(
            (first.name.as_str(), &first.data["all"]),
            ("changed", &json!(true))
        );
    }

    let mut next_data = || {
        received
            .each_mut()
            .map(|received| received.next().unwrap().data)
    };
    let job = site.enqueue(Operation::Start, &[1]);

    // It should run now, so the server has changed too.
    let mine = json!({"servers": [1], "jobs": [job], "queue": true});
    let none = json!({"servers": [], "jobs": [], "queue": true});

    assert_eq!(next_data(), [mine.clone(), mine, none.clone()]);
    db.write(|tx| queue::set_paused(tx, 5, "test", None))
        .unwrap();
    assert_eq!(next_data(), [none.clone(), none.clone(), none]);

    // A user sees no job for servers of two owners. All changes within a moment are one event.
    let job = site.enqueue(Operation::Stop, &[2, 3]);
    db.write(|tx| {
        Ok(tx.execute(
            "UPDATE servers SET version = version + 1 WHERE id IN (2, 3)",
            [],
        )?)
    })
    .unwrap();

    let mut seen = [(vec![], vec![]), (vec![], vec![]), (vec![], vec![])];
    while seen[0].0.len() < 2
        || seen[0].1.is_empty()
        || seen[1].0.is_empty()
        || seen[2].0.is_empty()
    {
        for (seen, data) in seen.iter_mut().zip(next_data()) {
            let ids = |name: &str| {
                data[name]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|id| id.as_i64().unwrap())
                    .collect::<Vec<_>>()
            };

            seen.0.extend(ids("servers"));
            seen.1.extend(ids("jobs"));
        }

        if seen[0].0.len() < 2 {
            db.write(|tx| queue::set_resumed(tx, 5, "test")).unwrap();
        }
    }

    assert_eq!(
        seen,
        [
            (vec![2, 3], vec![job.0]),
            (vec![2], vec![]),
            (vec![3], vec![])
        ]
    );
}

#[test]
fn only_admins_are_told_that_something_of_the_fleet_changed() {
    let site = Site::new();
    let mut received =
        [Viewer::Admin, Viewer::User(UserId(1))].map(|viewer| site.changes(viewer, Some("x")));
    for received in &mut received {
        assert_eq!(received.next().unwrap().data["all"], true);
    }

    crate::fleet::seed(&site.host, 1_000_000);
    let [admin, user] = &mut received;
    assert_eq!(admin.next().unwrap().data["fleet"], true);
    let job = site.enqueue(Operation::Start, &[1]);
    let told = user.next().unwrap().data;
    assert_eq!(told["jobs"], json!([job]), "nothing before");
    assert_eq!(told.get("fleet"), None);
}

#[test]
fn a_client_that_reconnects_gets_missed_changes_or_all() {
    let site = Site::new();
    let mut admin = site.changes(Viewer::Admin, None);
    let mut other = site.changes(Viewer::Admin, Some("other-1"));
    assert_eq!(other.next().unwrap().data["all"], true);

    let first = site.enqueue(Operation::Start, &[1]);
    assert_eq!(admin.next().unwrap().data["jobs"], json!([first]));

    let id = admin.last.clone();
    drop(admin);

    let second = site.enqueue(Operation::Start, &[2]);
    while other.next().unwrap().data["jobs"] != json!([second]) {}
    let mut back = site.changes(Viewer::Admin, id.as_deref());
    assert_eq!(
        back.next().unwrap().data,
        json!({"servers": [2], "jobs": [second], "queue": true})
    );

    // Without subscribers the hub does not know what was missed.
    drop((back, other));

    until("the feed is let go", || {
        let event = site.changes(Viewer::Admin, id.as_deref()).next()?;
        (event.data["all"] == true).then_some(())
    });
}

#[test]
fn an_installs_percentage_is_a_change_but_its_other_lines_are_not() {
    let site = Site::new();
    let id = site.enqueue(Operation::Install, &[]);
    let mut db = site.host.db();
    db.write(|tx| jobs::claim(tx, id, "test", 2)).unwrap();

    let mut received = site.changes(Viewer::Admin, Some("now"));
    assert_eq!(received.next().unwrap().data["all"], true);

    for percent in [10, 11] {
        let line = format!(" Update state (0x61) downloading, progress: {percent}.20 (1 / 10)");
        db.write(|tx| logs::append(tx, id, 1, Stream::Stdout, &line))
            .unwrap();
        assert_eq!(
            received.next().unwrap().data,
            json!({"servers": [], "jobs": [id], "queue": false})
        );
    }

    db.write(|tx| logs::append(tx, id, 1, Stream::Stdout, "something else"))
        .unwrap();

    // The next event is the next change, and contains nothing else.
    let next = site.enqueue(Operation::Start, &[1]);
    assert_eq!(received.next().unwrap().data["jobs"], json!([next]));
}

#[test]
fn with_a_hundred_thousand_queued_jobs_only_news_is_sent() {
    let site = Site::new();
    let mut db = site.host.db();
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
                WHERE i < 100000) INSERT INTO jobs (operation, requested_by, created_at,
                updated_at) SELECT 'start', 'x', 1, 1 FROM n";
    db.write(|tx| Ok(tx.execute(many, [])?)).unwrap();

    let mut received = site.changes(Viewer::Admin, Some("now"));
    assert_eq!(received.next().unwrap().data["all"], true);

    let job = site.enqueue(Operation::Start, &[1]);
    assert_eq!(received.next().unwrap().data["jobs"], json!([job]));

    // More at once than can be listed.
    let many = "INSERT INTO events (at, kind, actor, job_id) SELECT 1, 'job.queued', 'x', id
                FROM jobs LIMIT 2000";
    db.write(|tx| Ok(tx.execute(many, [])?)).unwrap();
    assert_eq!(
        received.next().unwrap().data,
        json!({"all": true, "servers": [], "jobs": [], "queue": true})
    );
}

// ---- consoles
// -------------------------------------------------------------------------------------

/// A helper whose journal is the file `journal`, one entry per line. It fails while a file `down`
/// exists, and does not answer requests for pages while a file `silent` exists.
const JOURNAL: &str = r#"
read -r request <&3
echo "$request" >> "$LEFT4ME_ROOT/requests"
[[ ! -e $LEFT4ME_ROOT/silent || $request == *'"follow":true'* ]] || read -r -u 3 _ || exit 0
[[ ! -e $LEFT4ME_ROOT/down ]] || exit 0
exec 4< "$LEFT4ME_ROOT/journal"
n=1 skip=0 lines=1000000
[[ ! $request =~ \"lines\":([0-9]+) ]] || lines=${BASH_REMATCH[1]}
if [[ $request =~ \"after\":\"s=0+\;i=([0-9a-f]+)\; ]]; then
    skip=$((16#${BASH_REMATCH[1]}))
else
    mapfile -t all < "$LEFT4ME_ROOT/journal"
    ((skip = ${#all[@]} > lines ? ${#all[@]} - lines : 0)) || true
fi
echo '{"started":{"unit":"","pid":1}}' >&3
sent=0
while :; do
    if IFS= read -r text <&4; then
        if ((n > skip)); then
            [[ $request == *'"follow":true'* ]] || ((sent++ < lines)) || break
            printf '{"stdout":"{\\"cursor\\":\\"s=%032x;i=%x;b=%032x;m=1;t=1;x=1\\",\\"at\\":5,\\"from\\":\\"srcds\\",\\"line\\":\\"%s\\"}"}\n' 0 $n 0 "$text" >&3 || exit 0
        fi
        ((n++))
    elif [[ $request == *'"follow":true'* ]]; then
        read -r -t 0.02 -u 3 _
        (($? > 128)) || exit 0
        [[ ! -e $LEFT4ME_ROOT/down ]] || exit 0
    else
        break
    fi
done
echo '{"exit":0,"ended_by":"exit","tree":"empty"}' >&3
"#;

/// Serves a journal of `count` lines.
fn journal(site: &Site, count: usize) -> SocketUnit {
    site.host.root.write("journal", "");
    write(site, 1..=count);
    site.host.helper(JOURNAL)
}

fn write(site: &Site, numbers: std::ops::RangeInclusive<usize>) {
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(site.host.root.join("journal"))
        .unwrap();
    file.write_all(
        texts(numbers)
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
            .as_bytes(),
    )
    .unwrap();
}

fn texts(numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(|number| format!("entry {number}")).collect()
}

fn requests(site: &Site) -> Vec<String> {
    let text = std::fs::read_to_string(site.host.root.join("requests")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_console_begins_with_the_last_lines_and_one_follow_serves_all() {
    let site = Site::new();
    let helper = journal(&site, 300);
    let mut first = site.console(None);
    let event = first.next().unwrap();

    assert_eq!(
        (event.name.as_str(), &event.data),
        (
            "stdout",
            &json!({"at": 5, "from": "srcds", "line": "entry 101"})
        )
    );

    assert_eq!(first.lines(199), texts(102..=300));
    write(&site, 301..=302);
    assert_eq!(first.lines(2), texts(301..=302));

    let mut second = site.console(None);
    assert_eq!(second.lines(200), texts(103..=302));
    write(&site, 303..=303);
    assert_eq!(
        (first.lines(1), second.lines(1)),
        (texts(303..=303), texts(303..=303))
    );

    assert_eq!(helper.started(), 1);
    drop((first, second));

    until("the follow ends with its last reader", || {
        (helper.running() == 0).then_some(())
    });
}

#[test]
fn a_console_goes_on_where_its_reader_was_also_in_another_run_of_the_web() {
    let site = Site::new();
    let _helper = journal(&site, 10);
    let mut received = site.console(None);
    assert_eq!(received.lines(5), texts(1..=5));

    let id = received.last.clone();

    // From the ring, while another client reads.
    assert_eq!(site.console(id.as_deref()).lines(5), texts(6..=10));
    drop(received);

    // More lines than a ring holds, without subscribers, on a new hub.
    write(&site, 11..=2500);

    let settings = LiveSettings::new(site.host.database(), site.host.root.join("helper.sock"), 10);

    let hub = Hub::start(settings).unwrap();
    let mut received = site.subscribe(hub.console(ServerId(1), id.as_deref(), reader()).unwrap());

    assert_eq!(received.lines(2495), texts(6..=2500));
    write(&site, 2501..=2510);
    assert_eq!(received.lines(10), texts(2501..=2510));

    // The newest entry: nothing comes before a new line does.
    let mut same = site.subscribe(
        hub.console(ServerId(1), received.last.as_deref(), reader())
            .unwrap(),
    );

    assert!(same.is_quiet());
    write(&site, 2511..=2511);
    assert_eq!(
        (same.lines(1), received.lines(1)),
        (texts(2511..=2511), texts(2511..=2511))
    );
}

#[test]
fn a_reader_with_the_newest_line_of_a_new_follow_gets_only_what_is_new() {
    let site = Site::new();
    let _helper = journal(&site, 20);
    let mut received = site.console(Some(&format!("s={:032x};i=14;b={:032x};m=1;t=1;x=1", 0, 0)));
    assert!(received.is_quiet());
    write(&site, 21..=22);
    assert_eq!(received.lines(2), texts(21..=22));
    assert_eq!(site.console(Some("no cursor\n")).lines(22), texts(1..=22));
}

#[test]
fn a_console_that_breaks_says_so_and_goes_on_without_gap_or_repetition() {
    let site = Site::new();
    let _helper = journal(&site, 3);
    let mut received = site.console(None);
    assert_eq!(received.lines(3), texts(1..=3));
    site.host.root.write("down", "");

    let broken = received.next().unwrap();
    assert_eq!(
        (
            broken.id.clone(),
            broken.name.as_str(),
            &broken.data["from"]
        ),
        (None, "stderr", &json!("left4me"))
    );

    assert!(broken.line().contains("interrupted"), "{broken:?}");
    assert!(
        site.console(None)
            .next()
            .unwrap()
            .line()
            .contains("interrupted"),
        "a new client is informed too"
    );

    let tries = requests(&site).len();
    until("it is tried again", || {
        (requests(&site).len() > tries + 1).then_some(())
    });
    write(&site, 4..=1500);
    std::fs::remove_file(site.host.root.join("down")).unwrap();
    assert_eq!(received.next().unwrap().line(), "The console is back.");
    assert_eq!(received.lines(1497), texts(4..=1500));
    assert!(requests(&site).last().unwrap().contains("\"after\""));
}

#[test]
fn a_console_without_a_helper_says_so_in_words_for_players() {
    let site = Site::new();
    let mut received = site.console(None);
    let words = received.next().unwrap();
    assert!(
        words.line().contains("interrupted") && words.line().contains("left4me doctor"),
        "{words:?}"
    );

    assert!(
        !words.line().contains(".sock") && !words.line().contains("journalctl"),
        "{words:?}"
    );

    let _helper = journal(&site, 2);
    assert_eq!(received.next().unwrap().line(), "The console is back.");
    assert_eq!(received.lines(2), texts(1..=2));
}

#[test]
fn a_slow_reader_of_a_console_is_brought_up_with_pages() {
    let site = Site::new();
    let _helper = journal(&site, 1);
    let (mut slow, mut quick) = (site.console(None), site.console(None));
    assert_eq!(
        (slow.lines(1), quick.lines(1)),
        (texts(1..=1), texts(1..=1))
    );

    for from in (2..4000).step_by(500) {
        write(&site, from..=from + 499);
        assert_eq!(quick.lines(500), texts(from..=from + 499));
    }

    assert_eq!(slow.lines(4000), texts(2..=4001));
    assert!(
        requests(&site)
            .iter()
            .any(|request| request.contains("\"follow\":false"))
    );
}

/// A helper that accepts requests and never answers.
struct Silent {
    /// Requests for a page so far, those running now, and the most at once.
    pages: Arc<Mutex<(usize, usize, usize)>>,
}

impl Silent {
    /// It ends with its client; one that is `deaf` only when the client has closed both directions.
    fn serve(site: &Site, deaf: bool) -> Self {
        let listener = UnixListener::bind(site.host.root.join("helper.sock")).unwrap();
        let pages = Arc::new(Mutex::new((0, 0, 0)));
        let counted = Arc::clone(&pages);
        std::thread::spawn(move || {
            listener
                .incoming()
                .for_each(|one| Self::listen(one.unwrap(), deaf, &counted))
        });

        Self { pages }
    }

    fn listen(mut socket: UnixStream, deaf: bool, pages: &Arc<Mutex<(usize, usize, usize)>>) {
        let pages = Arc::clone(pages);

        std::thread::spawn(move || {
            let mut request = String::new();
            BufReader::new(socket.try_clone().unwrap())
                .read_line(&mut request)
                .unwrap();

            let page = usize::from(request.contains("\"follow\":false"));
            let count =
                |change: &dyn Fn(&mut (usize, usize, usize))| change(&mut pages.lock().unwrap());

            count(&|(all, now, most)| {
                (*all, *now, *most) = (*all + page, *now + page, (*now + page).max(*most))
            });
            socket.read_to_end(&mut Vec::new()).ok();
            while deaf && socket.write_all(b"{\"stderr\":\"\"}\n").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }

            count(&|(_, now, _)| *now -= page);
        });
    }

    fn pages(&self) -> (usize, usize, usize) {
        *self.pages.lock().unwrap()
    }
}

/// The cursor of an entry.
fn place(number: usize) -> String {
    format!("s={:032x};i={number:x};b={:032x};m=1;t=1;x=1", 0, 0)
}

#[test]
fn few_pages_are_read_at_once_however_many_streams_are_opened_and_closed() {
    for deaf in [false, true] {
        let site = Site::with(|settings| settings.page_time = Duration::from_millis(300));
        let helper = Silent::serve(&site, deaf);
        for number in 1..=100 {
            site.console(Some(&place(number))).poll_once();
        }

        let open: Vec<_> = (1..=20)
            .map(|number| {
                let mut received = site.console(Some(&place(number)));
                received.poll_once();
                received
            })
            .collect();

        let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
        assert!(threads < 60, "{threads} threads");
        until("pages are read", || (helper.pages().1 > 0).then_some(()));
        drop(open);
        until("no page is read without a client", || {
            (helper.pages().1 == 0).then_some(())
        });
        assert!(helper.pages().2 <= 3, "{:?}", helper.pages());
    }
}

#[test]
fn a_late_page_is_an_interruption_and_is_retried() {
    let site = Site::with(|settings| settings.page_time = Duration::from_millis(100));
    let _helper = journal(&site, 400);
    site.host.root.write("silent", "");

    let mut received = site.console(Some(&place(5)));
    let words = received.next().unwrap();
    assert!(
        words.id.is_none() && words.line().contains("interrupted"),
        "{words:?}"
    );

    let tries = requests(&site).len();
    until("it is asked for again", || {
        assert!(received.is_quiet(), "it is said once");
        (requests(&site).len() > tries).then_some(())
    });

    std::fs::remove_file(site.host.root.join("silent")).unwrap();
    assert_eq!(received.next().unwrap().line(), "The console is back.");
    assert_eq!(received.lines(395), texts(6..=400));
}

#[test]
fn so_many_consoles_are_followed_and_no_more_until_one_is_let_go() {
    let site = Site::new();
    let watch = |server| site.hub.console(ServerId(server), None, reader());
    let mut open: Vec<_> = (1..=32).map(|server| watch(server).unwrap()).collect();
    let error = watch(33).err().expect("one too many");

    assert_eq!(error.exit.code(), 69);
    assert!(
        error.to_string().contains("too many consoles are open"),
        "{error}"
    );

    open.push(watch(32).expect("one that is followed already"));
    open.remove(0);

    until("there is room again", || watch(33).ok());
}
