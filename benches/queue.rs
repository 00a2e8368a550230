//! Benchmarks of the queue: enqueue a job, claim from a long queue, write log lines, wake a
//! watcher; and record a poll. Run `cargo bench --features benches --bench queue`. Figures are in
//! docs/benchmarks.md.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use left4me::base::clock::Moment;
use left4me::base::names::{JobId, TaskId};
use left4me::db::game::{self, PlayerRow};
use left4me::db::samples::{self, Sample};
use left4me::db::watch::Watch;
use left4me::db::{Db, metrics, observations};
use left4me::domain::game::{Figures, Game};
use left4me::domain::operation::Operation;
use left4me::domain::unit::Unit;
use left4me::host::units::Observed;
use left4me::queue::claim::claim;
use left4me::queue::enqueue::{JobRequest, Requester, Targets, enqueue};
use left4me::queue::log;
use left4me::queue::observe::{self, Cause};
use left4me::web::metrics::Metrics;
use left4me::wire::Stream;

/// A database with `finished` and `queued` jobs for 300 servers.
fn queue(finished: i64, queued: i64) -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::open(&dir.path().join("left4me.db")).expect("a database");
    db.connection()
        .execute_batch(&format!(
            "BEGIN; INSERT INTO users (name, password_hash, created_at, updated_at)
             VALUES ('alice', '-', 1, 1); INSERT INTO blueprints (user_id, name, created_at,
             updated_at) VALUES (1, 'plain', 1, 1); WITH RECURSIVE n(i) AS (VALUES (1)
             UNION ALL SELECT i + 1 FROM n
             WHERE i < 300) INSERT INTO servers (user_id, name, port, blueprint_id, created_at,
             updated_at) SELECT 1, 'S' || i, 27000 + i, 1, 1, 1
             FROM n; WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n
             WHERE i < {finished}) INSERT INTO jobs (operation, state, requested_by, created_at,
             updated_at, started_at, finished_at, exit_code, worker_id) SELECT 'start',
             'succeeded', 'x', 1, 1, 1, 1, 0, 'w' FROM n
             WHERE {finished} > 0; WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1
             FROM n
             WHERE i < {queued}) INSERT INTO jobs (operation, requested_by, created_at,
             updated_at) SELECT 'start', 'x', 1, 1 FROM n
             WHERE {queued} > 0; INSERT INTO job_targets SELECT id, 1 + id % 300
             FROM jobs; COMMIT; ANALYZE;"
        ))
        .expect("rows");

    (dir, db)
}

fn claiming(c: &mut Criterion) {
    let (_dir, mut db) = queue(1_000_000, 100_000);
    c.bench_function("claim 4 of 100,000 queued beside 1,000,000 finished", |b| {
        b.iter(|| {
            // Roll back, so that each round finds the same queue.
            let round = db.write::<()>(|tx| {
                black_box(claim(tx, "w", 4, &[], 5)?);
                Err(left4me::base::Error::failed("rolled back"))
            });

            assert!(round.is_err());
        });
    });

    // The worst case: all of the queue is for one server, and that server is busy.
    db.connection()
        .execute_batch(
            "UPDATE job_targets SET server_id = 1;
             UPDATE jobs SET state = 'running', started_at = 1, worker_id = 'w'
             WHERE id = 1000001;",
        )
        .expect("rows");

    c.bench_function(
        "claim when all 100,000 queued wait for one busy server",
        |b| {
            b.iter(|| db.write(|tx| claim(tx, "w", 4, &[], 5)).expect("claims"));
        },
    );
}

/// Reads and renders the metrics of a scrape.
fn scraping(c: &mut Criterion) {
    for (finished, queued) in [(1_000_000, 0), (1_000_000, 100_000)] {
        let (_dir, mut db) = queue(finished, queued);
        let own = Metrics::new(0).expect("metrics");
        c.bench_function(
            &format!("a scrape beside {finished} jobs that ended and {queued} that wait"),
            |b| {
                b.iter(|| {
                    let tables = db.read(|tx| metrics::snapshot(tx)).expect("reads");
                    own.render(&tables, 1_800_000_000_000)
                        .expect("prints")
                        .len()
                });
            },
        );
    }
}

/// Records a poll: each server's row; then a sample of each running server, and who plays there.
/// Nothing else has changed, as in most polls.
fn polling(c: &mut Criterion) {
    for (name, finished, queued) in [
        ("", 0, 0),
        (
            ", beside 1,000,000 jobs that ended and 100,000 that wait",
            1_000_000,
            100_000,
        ),
    ] {
        let (_dir, mut db) = queue(finished, queued);
        // All jobs are for the last hundred servers, which are down.
        db.connection()
            .execute_batch("UPDATE job_targets SET server_id = 201 + server_id % 100")
            .expect("rows");

        let mut now = 1_800_000_000_000;
        c.bench_function(
            &format!("write down 300 servers, 200 of them running with 8 players each{name}"),
            |b| {
                b.iter(|| {
                    now += 30_000;
                    look(&mut db, now)
                });
            },
        );
    }
}

fn look(db: &mut Db, now: i64) {
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

    let rows = db.read(|tx| observations::all(tx)).expect("rows");
    let mut running_servers = Vec::new();
    db.write(|tx| {
        let in_jobs = observations::in_jobs(tx, now)?;
        for watched in rows
            .iter()
            .flatten()
            .filter(|watched| !in_jobs.contains(&watched.id))
        {
            let runs = watched.id.0 <= 200;
            let unit = if runs {
                running.clone()
            } else {
                Unit::unloaded(false)
            };

            observe::record_over(tx, watched, &Observed { unit, at }, &Cause::Outside)?;
            if runs {
                running_servers.push((watched.id, at.now));
            }
        }

        Ok(())
    })
    .expect("written");

    // The second commit: eight people play on each server, and each has other scores than before.
    db.write(|tx| {
        for &(server, now) in &running_servers {
            let sample = Sample {
                at: now,
                memory_bytes: Some(1 << 30),
                cpu_ns: Some(now),
                players: Some(8),
                response_ms: Some(12),
                ..Sample::default()
            };
            samples::add(tx, server, &sample)?;

            let before = game::get(tx, server)?;
            let after = Game::after(before.as_ref(), Some(figures()), now);
            game::record(tx, server, before.as_ref(), &after, &players(now))?;
        }

        Ok(())
    })
    .expect("written");
}

fn figures() -> Figures {
    Figures {
        players: 8,
        bots: 0,
        max_players: 8,
        map: "c1m1_hotel".to_owned(),
        response_ms: 12,
    }
}

fn players(now: i64) -> Vec<PlayerRow> {
    (0..8)
        .map(|number| PlayerRow {
            name: format!("player {number} with a name"),
            score: number + (now / 30_000 % 1000) as i32,
            seconds: (now / 1000 % 100_000) as u32,
        })
        .collect()
}

fn accepting(c: &mut Criterion) {
    let (_dir, mut db) = queue(0, 0);
    let names = vec!["S1".parse().expect("a name")];
    c.bench_function("accept a job (synchronous=FULL)", |b| {
        b.iter_batched(
            || JobRequest {
                operation: Operation::Restart,
                targets: Targets::Named(names.clone()),
                unique: false,
                rolling: None,
                update: left4me::domain::update::UpdateOptions::default(),
                condition: None,
                requester: Requester::local("x"),
            },
            |request| enqueue(&mut db, &request, 5).expect("accepted"),
            BatchSize::SmallInput,
        );
    });
}

fn logging(c: &mut Criterion) {
    const LINES: u64 = 200_000;
    let mut group = c.benchmark_group("log writer");
    group
        .throughput(Throughput::Elements(LINES))
        .sample_size(10);
    group.bench_function("200,000 lines into job_logs", |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                let (dir, db) = queue(0, 1);
                let chunks: Vec<Vec<_>> = (0..LINES / 200)
                    .map(|chunk| {
                        (0..200)
                            .map(|line| {
                                (
                                    Stream::Stdout,
                                    format!("line {} of a job's output", chunk * 200 + line),
                                )
                            })
                            .collect()
                    })
                    .collect();

                let start = Instant::now();
                let (log, writer) =
                    log::start::<()>(&dir.path().join("left4me.db"), |()| {}).expect("a writer");
                for chunk in chunks {
                    log.lines(JobId(1), TaskId(1), chunk);
                }

                drop(log);
                writer.finish(false);
                took += start.elapsed();
                drop(db);
            }

            took
        });
    });

    group.finish();
}

fn waking(c: &mut Criterion) {
    let (dir, mut db) = queue(0, 0);
    let path = dir.path().join("left4me.db");

    // A new value each time: SQLite does not write an unchanged value, and the watcher would sleep.
    let mut value = 0_u64;
    c.bench_function("commit to a watcher's wake-up", |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            let (told, hear) = std::sync::mpsc::channel();
            let (go, gone) = std::sync::mpsc::channel();
            let path = path.clone();

            let watcher = std::thread::spawn(move || {
                let mut watch = Watch::new(&path).expect("a watch");
                told.send(Instant::now()).expect("heard");
                while gone.recv().is_ok() {
                    assert!(
                        watch
                            .wait(Some(Instant::now() + Duration::from_secs(10)))
                            .expect("waits")
                    );

                    told.send(Instant::now()).expect("heard");
                }
            });

            hear.recv().expect("ready");
            for _ in 0..rounds {
                value += 1;
                go.send(()).expect("waits");
                db.write(|tx| Ok(tx.execute("UPDATE queue SET reason = ?1", [value.to_string()])?))
                    .expect("written");
                let committed = Instant::now();
                took += hear
                    .recv()
                    .expect("woken")
                    .saturating_duration_since(committed);
            }

            drop(go);
            watcher.join().expect("the watcher");
            took
        });
    });
}

criterion_group!(
    benches, claiming, scraping, polling, accepting, logging, waking
);
criterion_main!(benches);
