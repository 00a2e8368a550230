//! The history grows, and what it costs does not: each frequent operation reads as many pages of
//! the file beside many ended jobs as beside few, and after a while the file has its size.

use std::path::{Path, PathBuf};

use left4me::base::clock::Moment;
use left4me::base::names::{JobId, ServerId, TaskId, UserId};
use left4me::cancel::{self, CancelRequest};
use left4me::db::activity::{self, ActivityFilter};
use left4me::db::events::NewEvent;
use left4me::db::game::{self, PlayerRow};
use left4me::db::samples::{self, Sample};
use left4me::db::{
    Db, access, cancellations, change_feed, deliveries, events, job_rows, jobs, lists, logs,
    metrics, monitor, observations, overview, poll, retention, runners, sessions, tasks,
};
use left4me::domain::alert::pace;
use left4me::domain::game::{Figures, Game};
use left4me::domain::job::JobState;
use left4me::domain::operation::Operation;
use left4me::domain::retention::{DAY, Limits, Retention};
use left4me::domain::task::TaskState;
use left4me::domain::unit::Unit;
use left4me::domain::update::UpdateOptions;
use left4me::host::units::Observed;
use left4me::queue::claim::claim;
use left4me::queue::enqueue::{JobRequest, Requester, Targets, enqueue};
use left4me::queue::observe::{self, Cause};
use left4me::wire::{EndedBy, Stream};
use rusqlite::Connection;

use crate::support::POLLER;
use crate::support::host::TestHost;

/// The moment of all tests, unix ms.
const NOW: i64 = 1_800_000_000_000;

const SERVERS: i64 = 20;

/// The limits of a host that changed no setting.
const LIMITS: Limits = Limits {
    jobs: Some(365 * DAY),
    logs: Some(90 * DAY),
    log_bytes: Some(2 << 30),
    events: Some(365 * DAY),
    sessions: Some(sessions::RETENTION),
    alerts: Some(deliveries::RETENTION),
};

fn with_servers() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(&dir.path().join("left4me.db")).unwrap();
    db.connection()
        .execute_batch(&format!(
            "INSERT INTO users (name, password_hash, created_at, updated_at)
             VALUES ('alice', '-', 1, 1), ('bert', '-', 1, 1);
             INSERT INTO blueprints (user_id, name, created_at, updated_at)
             VALUES (1, 'plain', 1, 1);
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n
             WHERE i < {SERVERS}) INSERT INTO servers (user_id, name, port, blueprint_id,
                 created_at, updated_at) SELECT 1 + i % 2, 'S' || i, 27000 + i, 1, 1, 1 FROM n;"
        ))
        .unwrap();

    (dir, db)
}

/// A database with this many ended jobs of the last month, each with two tasks, a connection, three
/// lines and four events; one of a hundred was cancelled.
fn with_history(jobs: i64) -> (tempfile::TempDir, Db) {
    let (dir, db) = with_servers();
    db.connection()
        .execute_batch(&format!(
            "PRAGMA synchronous = OFF; BEGIN;
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {jobs})
             INSERT INTO jobs (operation, state, requested_by, user_id, created_at, updated_at,
                 started_at, finished_at, exit_code, worker_id)
             SELECT 'start', 'succeeded', 'x', 1 + i % 3 / 2, at, at, at, at, 0, 'w'
             FROM (SELECT i, {NOW} - 30 * {DAY} + i * (30 * {DAY} / {jobs}) AS at FROM n);
             INSERT INTO job_targets SELECT id, 1 + id % {SERVERS} FROM jobs;
             INSERT INTO tasks (job_id, position, kind, server_id, state, started_at, finished_at)
             SELECT id, p, 'start', 1 + id % {SERVERS}, 'succeeded', 1, 1
             FROM jobs, (SELECT 0 AS p UNION SELECT 1);
             INSERT INTO task_dependencies SELECT id, id - 1, 'success' FROM tasks
             WHERE position = 1;
             INSERT INTO runners (task_id, verb, started_at, ended_at, ended_by, tree)
             SELECT id, 'enable', 1, 1, 'exit', 'empty' FROM tasks WHERE position = 1;
             INSERT INTO cancellations (job_id, requested_by, previous_state, state, created_at,
                 finished_at) SELECT id, 'x', 'running', 'completed', 1, 1 FROM jobs
             WHERE id % 100 = 0;
             INSERT INTO job_logs (job_id, seq, at, stream, line)
             SELECT id, s, 1, 'stdout', 'a line of a job, of a usual length or a little more'
             FROM jobs, (SELECT 1 AS s UNION SELECT 2 UNION SELECT 3);
             INSERT INTO events (at, kind, actor, job_id, server_id)
             SELECT j.created_at, k.kind, 'x', j.id, iif(k.kind LIKE 'job.%', NULL,
                 1 + j.id % {SERVERS}) FROM jobs j CROSS JOIN (SELECT 'job.queued' AS kind
             UNION SELECT 'job.succeeded' UNION SELECT 'server.started'
             UNION SELECT 'task.succeeded') k;
             INSERT INTO alerts (name, kind, target, events, created_at, created_by)
             VALUES ('ops', 'mail', 'anna@example.org', '[\"crash\"]', 1, 'x');
             INSERT INTO alert_outbox (alert_id, event_id, class, state, created_at, ended_at)
             SELECT 1, id, 'crash', 'sent', at, at FROM events WHERE kind = 'server.started';
             COMMIT; PRAGMA synchronous = FULL; PRAGMA cache_size = 64;"
        ))
        .unwrap();

    db.checkpoint();
    (dir, db)
}

/// How many pages of the file this thread has read, since it began.
fn pages_read() -> i64 {
    let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let bytes = text
        .strip_prefix("rchar: ")
        .unwrap()
        .lines()
        .next()
        .unwrap();
    bytes.parse::<i64>().unwrap() / 4096
}

fn request(server: i64) -> JobRequest<'static> {
    JobRequest {
        operation: Operation::Restart,
        targets: Targets::Named(vec![format!("S{server}").parse().unwrap()]),
        unique: false,
        rolling: None,
        update: UpdateOptions::default(),
        condition: None,
        requester: Requester::local("x"),
    }
}

fn filter() -> jobs::Filter {
    jobs::Filter {
        limit: 50,
        ..jobs::Filter::default()
    }
}

type Operations = Vec<(&'static str, fn(&mut Db, JobId))>;

/// What programs and pages do all the time. They get the database and its newest ended job.
fn operations() -> Operations {
    let mut all = queue_operations();
    all.extend(list_operations());
    all.extend(page_operations());
    all
}

fn queue_operations() -> Operations {
    vec![
        ("enqueue", |db, _| {
            enqueue(db, &request(3), NOW).unwrap();
        }),
        ("enqueue --unique", |db, _| {
            let request = JobRequest {
                unique: true,
                ..request(3)
            };
            enqueue(db, &request, NOW).unwrap();
        }),
        ("claim", |db, _| {
            let claimed = db.write(|tx| claim(tx, "w", 4, &[], NOW)).unwrap();
            assert_eq!(claimed.len(), 1);
        }),
        ("a cancellation of the running job", |db, last| {
            let live = JobId(last.0 + 1);
            assert_eq!(
                jobs::state(db.connection(), live).unwrap().0,
                JobState::Running
            );
            cancel::request(db, &CancelRequest::new(live, "x"), NOW).unwrap();
        }),
        ("what a worker reads when it starts", |db, _| {
            let db = db.connection();
            runners::open(db).unwrap();
            runners::left(db).unwrap();
            cancellations::active(db).unwrap();
            cancellations::any_for_journal(db).unwrap();
            left4me::db::candidates::active(db).unwrap();
            left4me::db::candidates::held(db).unwrap();
        }),
        ("a poll", |db, _| write_poll(db, NOW)),
        ("an event that an alert tells, and its delivery", |db, _| {
            tell_a_crash(db);
        }),
        ("pruning when nothing is old", |db, _| {
            let rules = Retention::new(NOW, LIMITS);
            let none = retention::Pruned::default();
            assert_eq!(retention::count(db, &rules).unwrap(), none);
            assert_eq!(retention::prune(db, &rules).unwrap(), none);
            assert_eq!(db.shrink().unwrap(), 0);
        }),
    ]
}

fn list_operations() -> Operations {
    vec![
        ("left4me-job list", |db, _| {
            assert_eq!(jobs::list(db.connection(), &filter()).unwrap().len(), 50);
        }),
        ("left4me-job list --state queued", |db, _| {
            let states = vec![JobState::Queued];
            jobs::list(db.connection(), &jobs::Filter { states, ..filter() }).unwrap();
        }),
        ("left4me-job list --state failed", |db, _| {
            let states = vec![JobState::Failed];
            let filter = jobs::Filter { states, ..filter() };
            let none = jobs::list(db.connection(), &filter).unwrap();
            assert!(none.is_empty());
        }),
        ("left4me-job list --server", |db, _| {
            let server = Some(ServerId(3));
            let filter = jobs::Filter { server, ..filter() };
            assert_eq!(jobs::list(db.connection(), &filter).unwrap().len(), 50);
        }),
        ("left4me-job show", |db, last| {
            let db = db.connection();
            jobs::get(db, last).unwrap();
            runners::of_job(db, last).unwrap();
            cancellations::of_job(db, last).unwrap();
        }),
        ("left4me-job logs, and a page of a log", |db, last| {
            let db = db.connection();
            assert_eq!(logs::after(db, last, 0, 1000).unwrap().len(), 3);
            assert_eq!(logs::before(db, last, i64::MAX, 1000).unwrap().len(), 3);
            change_feed::replay(db, last, 0, 5000).unwrap();
        }),
        ("left4me-job events", |db, last| {
            let db = db.connection();
            events::last(db, None, 50).unwrap();
            assert_eq!(events::last(db, Some(last), 50).unwrap().len(), 4);
            events::after(db, None, change_feed::last_event(db).unwrap() - 9, 50).unwrap();
        }),
        ("left4me-job monitor", |db, _| {
            let db = db.connection();
            monitor::servers(db).unwrap();
            monitor::busy(db).unwrap();
            monitor::counts(db, 99).unwrap();
            monitor::live(db, 20).unwrap();
            monitor::queued(db, 20).unwrap();
            monitor::ended(db, 20, 200).unwrap();
        }),
    ]
}

fn page_operations() -> Operations {
    vec![
        ("the dashboard of an admin and of a user", |db, _| {
            let db = db.connection();
            for viewer in [None, Some(UserId(2))] {
                assert_eq!(job_rows::recent(db, viewer, 10).unwrap().len(), 10);
            }
            observations::all(db).unwrap();
            poll::last(db).unwrap();
        }),
        ("the overview", |db, _| {
            let db = db.connection();
            overview::servers(db).unwrap();
            overview::shared_job(db).unwrap();
        }),
        ("a server's page", |db, _| {
            let db = db.connection();
            let found = events::of_server(db, ServerId(3), 10).unwrap();
            assert_eq!(found.len(), 10);
            samples::since(db, ServerId(3), NOW - DAY, NOW).unwrap();
            samples::peak(db, ServerId(3), NOW - 2 * DAY, NOW - DAY).unwrap();
            game::players(db, ServerId(3)).unwrap();
        }),
        ("the activity log", |db, _| {
            let filter = ActivityFilter {
                limit: 100,
                ..ActivityFilter::default()
            };
            let found = activity::page(db.connection(), &filter).unwrap();
            assert_eq!(found.len(), 100);
        }),
        ("who may see a job", |db, last| {
            access::job(db.connection(), last, Some(UserId(2))).unwrap();
            access::viewers(db.connection(), last).unwrap();
        }),
        ("a live page after a commit", |db, _| {
            let db = db.connection();
            change_feed::server_versions(db).unwrap();
            change_feed::job_versions(db).unwrap();
            let last = change_feed::last_event(db).unwrap();
            change_feed::events_after(db, last - 5, 100).unwrap();
        }),
        ("a scrape of /metrics", |db, _| {
            db.read(|tx| metrics::snapshot(tx)).unwrap();
        }),
    ]
}

/// The pages whose total is counted, up to 1,000 rows beyond the page.
fn counted_operations() -> Operations {
    vec![
        ("a page of all jobs", |db, _| {
            assert_eq!(lists::jobs(db.connection(), &filter()).unwrap().1, 1050);
            job_rows::page(db.connection(), &filter(), None).unwrap();
        }),
        ("a page of a user's jobs", |db, _| {
            let viewer = Some(UserId(2));
            let filter = jobs::Filter { viewer, ..filter() };
            assert_eq!(lists::jobs(db.connection(), &filter).unwrap().1, 1050);
        }),
        ("a page of a server's jobs", |db, _| {
            let server = Some(ServerId(3));
            for viewer in [None, Some(UserId(2))] {
                let filter = jobs::Filter {
                    server,
                    viewer,
                    ..filter()
                };
                assert_eq!(lists::jobs(db.connection(), &filter).unwrap().1, 1050);
            }
        }),
        ("a page of the queue", |db, _| {
            let states = vec![JobState::Queued, JobState::Running];
            let filter = jobs::Filter { states, ..filter() };
            lists::jobs(db.connection(), &filter).unwrap();
        }),
        ("the jobs of the last day", |db, _| {
            overview::jobs_since(db.connection(), NOW - DAY).unwrap();
        }),
    ]
}

/// Adds an event that an alert listens for, and delivers it.
fn tell_a_crash(db: &mut Db) {
    let event = NewEvent {
        server: Some(ServerId(3)),
        ..NewEvent::new("server.crashed", "outside", "ended by signal 11")
    };
    db.write(|tx| events::add(tx, NOW, &event)).unwrap();

    let found = deliveries::destinations(db.connection()).unwrap();
    let alert = found[0].alert;
    let waiting = deliveries::waiting(db.connection(), alert).unwrap();
    deliveries::sent(db.connection(), alert, NOW - pace::MEMORY).unwrap();
    let told = deliveries::happenings(db.connection(), &[waiting[0].id]).unwrap();
    assert_eq!((waiting.len(), told.len()), (1, 1));
    db.write(|tx| deliveries::record_sent(tx, alert, &[waiting[0].id], false, NOW))
        .unwrap();
    assert!(!deliveries::any_pending(db.connection()).unwrap());
}

/// Records a poll of all servers; half of them run.
fn write_poll(db: &mut Db, now: i64) {
    let at = Moment {
        now,
        monotonic_us: 1 << 40,
        booted_at: 1,
    };

    let running = Unit {
        active: "active".into(),
        sub: "running".into(),
        active_enter_us: 7,
        ..Unit::default()
    };

    let rows = db.read(|tx| observations::all(tx)).unwrap();
    db.write(|tx| {
        let in_jobs = observations::in_jobs(tx, now)?;
        for watched in rows.iter().flatten() {
            if in_jobs.contains(&watched.id) {
                continue;
            }

            let runs = watched.id.0 % 2 == 0;
            let unit = if runs {
                running.clone()
            } else {
                Unit::unloaded(false)
            };

            observe::record_over(tx, watched, &Observed { unit, at }, &Cause::Outside)?;
            if runs {
                let sample = Sample {
                    at: now,
                    memory_bytes: Some(1 << 30),
                    cpu_ns: Some(now),
                    players: Some(4),
                    response_ms: Some(12),
                    ..Sample::default()
                };
                samples::add(tx, watched.id, &sample)?;
                write_game(tx, watched.id, now)?;
            }
        }

        events::without_journal(tx, now - 600_000, 64)?;
        poll::finished(tx, now, None)
    })
    .unwrap();
}

/// Records that four people play on the server.
fn write_game(tx: &Connection, server: ServerId, now: i64) -> left4me::base::Result<()> {
    let figures = Figures {
        players: 4,
        bots: 0,
        max_players: 8,
        map: "c1m1_hotel".to_owned(),
        response_ms: 12,
    };
    let players: Vec<PlayerRow> = (0..4)
        .map(|number| PlayerRow {
            name: format!("player {number}"),
            score: number,
            seconds: (now / 1000 % 1000) as u32,
        })
        .collect();

    let before = game::get(tx, server)?;
    let after = Game::after(before.as_ref(), Some(figures), now);
    game::record(tx, server, before.as_ref(), &after, &players)
}

/// The pages that each operation reads beside this many ended jobs.
fn costs(jobs: i64, operations: &Operations) -> Vec<i64> {
    let (_dir, mut db) = with_history(jobs);
    let cost = |(_, run): &(&str, fn(&mut Db, JobId))| {
        let before = pages_read();
        run(&mut db, JobId(jobs));
        pages_read() - before
    };

    operations.iter().map(cost).collect()
}

/// The cost may grow by the depth of the indexes' trees: one page more for each look-up.
#[track_caller]
fn assert_flat(operations: &Operations, few: i64, many: i64) {
    let (before, after) = (costs(few, operations), costs(many, operations));
    let mut grown = Vec::new();
    for (((name, _), few), many) in operations.iter().zip(before).zip(after) {
        println!("{few:6} {many:6}  {name}");
        if many > few * 2 + 20 {
            grown.push(format!("{name}: {few} pages, then {many}"));
        }
    }

    assert!(grown.is_empty(), "{grown:#?}");
}

#[test]
fn no_frequent_operation_reads_more_beside_a_long_history() {
    assert_flat(&operations(), 1000, 100_000);
}

#[test]
fn a_page_with_a_total_reads_no_more_beside_a_long_history() {
    assert_flat(&counted_operations(), 50_000, 150_000);
}

/// Runs the next job to its end, as a worker records it: its tasks with their connections, some
/// lines, the server's start.
fn run_job(db: &mut Db, now: i64) {
    let id = db.write(|tx| claim(tx, "w", 1, &[], now)).unwrap()[0];
    let job = jobs::get(db.connection(), id).unwrap();
    for task in &job.tasks {
        let runner = db
            .write(|tx| {
                tasks::start(tx, task.id, now)?;
                runners::begin(tx, task.id, "enable", now)
            })
            .unwrap();
        db.write(|tx| add_lines(tx, id, task.id, now)).unwrap();
        db.write(|tx| {
            let end = runners::End {
                exit: Some(0),
                ended_by: Some(EndedBy::Exit),
                tree: None,
            };
            runners::end(tx, runner, end, now)?;
            let finish = tasks::Finish {
                answered: None,
                was_up: None,
                interrupted: false,
                state: TaskState::Succeeded,
                exit_code: Some(0),
                error: None,
                was_running: None,
            };
            tasks::finish(tx, task.id, &finish, now)
        })
        .unwrap();
    }

    db.write(|tx| {
        let finish = jobs::Finish {
            state: JobState::Succeeded,
            exit_code: 0,
            error: None,
        };
        jobs::finish(tx, id, "w", &finish, now)?;
        for kind in ["job.succeeded", "server.started", "server.stopped"] {
            let event = NewEvent {
                job: Some(id),
                server: job.servers.first().copied(),
                ..NewEvent::new(kind, "worker", "as a worker and a poll tell it")
            };
            events::add(tx, now, &event)?;
        }
        Ok(())
    })
    .unwrap();
}

fn add_lines(tx: &Connection, job: JobId, task: TaskId, now: i64) -> left4me::base::Result<()> {
    let last = logs::last_seq(tx, job)?;
    for line in 1..=150 {
        let text = format!("line {line} of a command's output, as long as such lines are");
        logs::insert(tx, job, last + line, now, Stream::Stdout, Some(task), &text)?;
    }
    Ok(())
}

/// What is on the disk after a day.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    file: i64,
    used: i64,
    log: u64,
}

/// A day of a host: polls, a few jobs, and a prune at night. Each opens the file as a program does.
fn live_a_day(path: &Path, midnight: i64, limits: Limits) -> Sizes {
    for hour in (0..24).step_by(3) {
        let now = midnight + hour * (DAY / 24);
        let mut db = Db::open_existing(path).unwrap();
        write_poll(&mut db, now);
        db.checkpoint();

        let mut db = Db::open_existing(path).unwrap();
        enqueue(&mut db, &request(1 + hour % SERVERS), now).unwrap();
        run_job(&mut db, now + 1000);
    }

    let mut db = Db::open_existing(path).unwrap();
    retention::prune(&mut db, &Retention::new(midnight + DAY, limits)).unwrap();
    db.shrink().unwrap();
    db.checkpoint();

    let file = db.file_bytes().unwrap();
    Sizes {
        file,
        used: file - db.free_bytes().unwrap(),
        log: db.log_bytes(),
    }
}

#[test]
fn the_file_stops_growing_once_the_oldest_rows_go() {
    let (_dir, db) = with_servers();
    let path = db.path().to_owned();
    drop(db);

    // As by default, but in a thirtieth of the time. Samples stay for 30 days.
    let limits = Limits {
        jobs: Some(12 * DAY),
        logs: Some(6 * DAY),
        events: Some(12 * DAY),
        ..LIMITS
    };

    let days: Vec<Sizes> = (0..45)
        .map(|day| live_a_day(&path, NOW + day * DAY, limits))
        .collect();
    let (before, after) = days.split_at(32);
    let full = before.last().unwrap();
    for (day, sizes) in after.iter().enumerate() {
        assert!(
            sizes.file <= full.file * 21 / 20 && sizes.used <= full.used * 21 / 20,
            "day {}: {sizes:?}, and {full:?} on day 32",
            day + 33
        );
    }

    assert!(before[1].used * 2 < full.used, "{before:?}");
    assert!(days.iter().all(|sizes| sizes.log <= 2 << 20), "{days:?}");
}

fn size_of_log(host: &TestHost) -> u64 {
    let mut log: PathBuf = host.database();
    log.set_file_name("left4me.db-wal");
    log.metadata().map_or(0, |found| found.len())
}

/// No program stays, so each one finds the whole log of those before it.
#[test]
fn the_log_stays_short_while_only_short_programs_write() {
    let host = TestHost::with_servers(1);
    for _ in 0..4 {
        for _ in 0..50 {
            host.enqueue(&["stop", "--server", "S1"]);
        }

        poll(&host);
        assert!(size_of_log(&host) <= 1 << 20, "{}", size_of_log(&host));
    }
}

/// Without any poll, the commits themselves bound it.
#[test]
fn the_log_is_bounded_though_the_poller_is_off() {
    let host = TestHost::with_servers(1);
    let (mut largest, long) = (0, "what makes the log grow ".repeat(20));
    for round in 0..40 {
        // Each opens the file as a program does, and is alone with it.
        let mut db = host.db();
        db.write(|tx| {
            for line in 0..1000 {
                let event = NewEvent::new("x", "x", &long);
                events::add(tx, NOW + round * 1000 + line, &event)?;
            }
            Ok(())
        })
        .unwrap();
        drop(db);
        largest = largest.max(size_of_log(&host));
    }

    let file = host.database().metadata().unwrap().len();
    assert!(file > 8 << 20, "all of it is in the file: {file}");
    assert!(largest < 9 << 20, "{largest}");
}

/// Runs the poller, which has no systemd to ask here.
fn poll(host: &TestHost) {
    let mut command = host.command(POLLER, &[]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    assert_eq!(command.output().unwrap().status.code(), Some(69));
}

/// A reader that does not end, such as a backup of a large file, holds the log back.
#[test]
fn a_poll_cuts_off_the_log_that_a_long_reader_made_grow() {
    let host = TestHost::with_servers(1);
    let mut reader = host.db();
    let mut writer = host.db();
    reader
        .read(|tx| {
            tx.query_row("SELECT count(*) FROM events", [], |_| Ok(()))?;
            for _ in 0..60 {
                writer.write(|tx| {
                    for line in 0..1000 {
                        let event = NewEvent::new("x", "x", "what makes the log grow");
                        events::add(tx, NOW + line, &event)?;
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })
        .unwrap();
    drop(writer);
    let grown = size_of_log(&host);
    assert!(grown > 4 << 20, "{grown}");

    // Readers that are short, as pages are, are no obstacle.
    reader
        .read(|tx| Ok(tx.query_row("SELECT 1", [], |_| Ok(()))?))
        .unwrap();
    poll(&host);
    assert!(size_of_log(&host) < 1 << 20, "{}", size_of_log(&host));
}
