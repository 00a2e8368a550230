//! How a build comes to the servers: the scheduler's own ticks over a host that exists only here, so
//! that every order and every death of the worker can be tried.

use std::collections::BTreeMap;

use left4me::base::Error;
use left4me::base::builds::GameFiles;
use left4me::base::names::{InstanceName, JobId, ServerId, ServerRef};
use left4me::db::{Db, builds, crashes, events, jobs, rolls, servers};
use left4me::domain::build::Builds;
use left4me::domain::condition::Condition;
use left4me::domain::condition::warning::Warnings;
use left4me::domain::job::JobState;
use left4me::domain::operation::Operation;
use left4me::domain::task::{TaskKind, TaskState};
use left4me::domain::update::UpdateOptions;
use left4me::host::builds::{BuildState, InstanceGame};
use left4me::queue::enqueue::{JobRequest, Requester, Targets, enqueue};
use left4me::queue::recover;
use left4me::queue::slots::Slots;
use left4me::queue::tick::Engine;
use left4me::queue::waiting::Waiting;
use left4me::queue::wake::Waker;
use left4me::queue::work::{Ended, Work};

const SERVERS: i64 = 6;

/// What the host is like, and what it does.
struct Host {
    _dir: tempfile::TempDir,
    db: Db,
    engine: Engine,
    now: i64,
    /// What Steam publishes, and what steamcmd has installed.
    steam: u64,
    installed: u64,
    published: Vec<u64>,
    current: Option<u64>,
    games: BTreeMap<ServerId, GameFiles>,
    running: BTreeMap<ServerId, bool>,
    /// On which server which build does not come up; none for every server.
    bad: Vec<(Option<ServerId>, u64)>,
    /// The next publication finds damage in the build and replaces it.
    is_replaced: bool,
    /// This server crashes soon after it came up.
    crashes: Option<ServerId>,
    /// Nothing can be written for these.
    unwritable: Vec<ServerId>,
    /// How many servers were down at once.
    most_down: usize,
    /// What each task did.
    done: Vec<String>,
}

fn engine() -> Engine {
    let slots = Slots {
        count: 4,
        shared: true,
    };
    let waiting = Waiting::new(Waker::new().unwrap());
    Engine::new("worker".to_owned(), slots, waiting)
}

impl Host {
    /// All servers run build 5, which is current; Steam has build 6.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("left4me.db")).unwrap();
        db.connection()
            .execute_batch(&format!(
                "INSERT INTO users (name, password_hash, created_at, updated_at)
                 VALUES ('alice', '-', 1, 1);
                 INSERT INTO blueprints (user_id, name, created_at, updated_at)
                 VALUES (1, 'plain', 1, 1);
                 WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n
                 WHERE i < {SERVERS}) INSERT INTO servers (user_id, name, port, blueprint_id,
                     created_at, updated_at, desired_state, actual_state, build)
                     SELECT 1, 'S' || i, 27000 + i, 1, 1, 1, 'running', 'running', 5 FROM n;"
            ))
            .unwrap();
        let all = (1..=SERVERS).map(ServerId);
        Self {
            _dir: dir,
            db,
            engine: engine(),
            now: 1_000_000,
            steam: 6,
            installed: 5,
            published: vec![5],
            current: Some(5),
            games: all.clone().map(|id| (id, GameFiles::Build(5))).collect(),
            running: all.map(|id| (id, true)).collect(),
            bad: Vec::new(),
            is_replaced: false,
            crashes: None,
            unwritable: Vec::new(),
            most_down: 0,
            done: Vec::new(),
        }
    }

    fn enqueue(&mut self, operation: Operation, change: impl FnOnce(&mut JobRequest<'_>)) -> JobId {
        let mut request = JobRequest {
            operation,
            targets: Targets::None,
            unique: false,
            rolling: None,
            update: UpdateOptions::default(),
            condition: None,
            requester: Requester::local("anna"),
        };
        change(&mut request);
        enqueue(&mut self.db, &request, self.now).unwrap().job_id
    }

    fn update(&mut self) -> JobId {
        self.enqueue(Operation::Update, |_| {})
    }

    fn tick(&mut self) -> Vec<Work> {
        self.tick_with(false)
    }

    /// The last tick of a worker that was asked to stop.
    fn stop(&mut self) {
        assert!(self.tick_with(true).is_empty());
    }

    fn tick_with(&mut self, stopping: bool) -> Vec<Work> {
        self.now += 10;
        let (engine, now) = (&self.engine, self.now);
        let (jobs, result) = self
            .db
            .write(|tx| {
                let mut tick = engine.settle(tx, now)?;
                engine.schedule(&mut tick, stopping)?;
                Ok((tick.jobs, tick.result))
            })
            .unwrap();
        self.engine.commit(jobs);
        result.to_start
    }

    /// Runs tasks, in an order that `pick` chooses, until nothing is left to do or so many tasks have
    /// begun; then the worker dies. Gives whether it died.
    fn run(&mut self, pick: u64, lives_for: usize) -> bool {
        let (mut open, mut begun) = (Vec::new(), 0);
        loop {
            open.extend(self.tick());
            if open.is_empty() {
                return false;
            }
            let at = usize::try_from(pick).unwrap() % open.len();
            let work: Work = open.remove(at);
            begun += 1;
            if begun > lives_for {
                // What had begun may have happened or not.
                if pick.is_multiple_of(2) {
                    self.carry_out(&work);
                }
                return true;
            }
            let ended = self.carry_out(&work);
            self.engine.note(ended);
        }
    }

    fn drain(&mut self) {
        assert!(!self.run(0, usize::MAX));
    }

    /// The next worker.
    fn revive(&mut self) {
        self.engine = engine();
        recover::recover(&mut self.db, self.now).unwrap();
    }

    fn state(&self) -> Box<BuildState> {
        let instances = self.games.iter().map(|(&server, &game)| InstanceGame {
            instance: InstanceName::from(server),
            game,
            is_mounted: self.running[&server],
        });
        Box::new(BuildState {
            current: self.current,
            published: self.published.iter().rev().copied().collect(),
            instances: instances.collect(),
            is_replaced: false,
        })
    }

    fn comes_up(&self, server: ServerId) -> bool {
        let build = self.games[&server].build();
        !self
            .bad
            .iter()
            .any(|&(of, bad)| build == Some(bad) && of.is_none_or(|of| of == server))
    }

    fn carry_out(&mut self, work: &Work) -> Ended {
        let mut ended = Ended::succeeded(work.job, work.task);
        let kind = *work.kind.as_ref().unwrap();
        let on = work.server.map_or_else(String::new, |id| format!(" {id}"));
        self.done.push(format!("{kind}{on}"));
        if let Err(error) = self.try_to(kind, work, &mut ended) {
            ended.state = TaskState::Failed;
            ended.exit_code = 1;
            ended.error = Some(error.to_string());
        }
        let down = self.running.values().filter(|up| !**up).count();
        self.most_down = self.most_down.max(down);
        ended
    }

    fn try_to(&mut self, kind: TaskKind, work: &Work, ended: &mut Ended) -> Result<(), Error> {
        match kind {
            TaskKind::CheckBuild => {
                ended.builds = Some(Builds {
                    available: self.steam,
                    installed: self.current,
                    ..Builds::default()
                });
                ended.state_of_builds = Some(self.state());
            }
            TaskKind::InstallRuntime => {
                assert_eq!(self.state().on_installation().count(), 0);
                self.installed = self.steam;
            }
            TaskKind::PublishBuild => {
                if !self.published.contains(&self.installed) {
                    self.published.push(self.installed);
                }
                self.current = Some(self.installed);
                let mut state = self.state();
                state.is_replaced = std::mem::take(&mut self.is_replaced);
                ended.state_of_builds = Some(state);
            }
            TaskKind::UseBuild => {
                let wanted = work.options.build.or_else(|| {
                    let mut older = self.published.iter().rev();
                    older
                        .find(|build| {
                            Some(**build) < self.current && !work.rejected.contains(build)
                        })
                        .copied()
                });
                let wanted = wanted.ok_or_else(|| Error::conflict("no older build"))?;
                if !self.published.contains(&wanted) {
                    return Err(Error::not_found("that build is not kept"));
                }
                self.current = Some(wanted);
                ended.state_of_builds = Some(self.state());
            }
            TaskKind::RemoveBuilds => {}
            TaskKind::Stop => {
                let server = work.server.unwrap();
                ended.was_running = Some(self.running[&server] || work.should_run);
                ended.was_up = Some(self.running[&server]);
                self.running.insert(server, false);
            }
            TaskKind::Initialize => {
                let server = work.server.unwrap();
                if self.unwritable.contains(&server) {
                    return Err(Error::failed("no space left on device"));
                }
                if !self.running[&server] {
                    let game = self
                        .current
                        .map_or(GameFiles::Installation, GameFiles::Build);
                    self.games.insert(server, game);
                }
            }
            TaskKind::StartIfRan if work.was_running == Some(false) => {}
            TaskKind::Start | TaskKind::StartIfRan => {
                let server = work.server.unwrap();
                let build = self.games[&server].build();
                self.running.insert(server, self.comes_up(server));
                if self.running[&server] {
                    ended.came_up = Some(self.games[&server]);
                    if self.crashes == Some(server) {
                        let at = self.now + 11;
                        self.db.write(|tx| crashes::add(tx, server, 1, at)).unwrap();
                    }
                    return Ok(());
                }
                let Some(old) = work.last_build.filter(|_| work.last_build != build) else {
                    return Err(Error::failed("it does not come up"));
                };
                self.games.insert(server, GameFiles::Build(old));
                if self.comes_up(server) {
                    self.running.insert(server, true);
                    ended.came_up = Some(GameFiles::Build(old));
                    ended.failed_build = build;
                }
                return Err(Error::failed("it does not come up on the build"));
            }
            other => panic!("{other}"),
        }
        Ok(())
    }

    fn job_state(&self, id: JobId) -> JobState {
        jobs::state(self.db.connection(), id).unwrap().0
    }

    fn result(&self, id: JobId) -> String {
        let job = jobs::get(self.db.connection(), id).unwrap();
        job.result.unwrap_or_default()
    }

    fn on(&self, build: u64) -> usize {
        let games = self.games.values();
        games.filter(|game| game.build() == Some(build)).count()
    }

    /// The servers that were stopped, in order.
    fn stopped(&self) -> Vec<&str> {
        let stops = self.done.iter();
        stops
            .filter_map(|done| done.strip_prefix("stop "))
            .collect()
    }

    fn all_run(&self) -> bool {
        self.running.values().all(|up| *up)
    }

    fn rejected(&self) -> Vec<u64> {
        let rejected = builds::rejected(self.db.connection()).unwrap();
        rejected.iter().map(|one| one.build).collect()
    }

    fn events(&self, kind: &str) -> usize {
        let all = events::last(self.db.connection(), None, 5000).unwrap();
        all.iter().filter(|event| event.kind == kind).count()
    }
}

#[test]
fn an_update_downloads_beside_and_restarts_what_runs_the_old_build() {
    let mut host = Host::new();
    let job = host.update();
    host.drain();
    assert_eq!(host.job_state(job), JobState::Succeeded);
    assert_eq!(host.result(job), "build 6 is the current build");
    assert_eq!(
        host.done[..3],
        ["check-build", "install-runtime", "publish-build"],
        "no server is stopped before it is published"
    );
    assert_eq!(host.done.last().unwrap(), "remove-builds");
    assert!(host.all_run() && host.on(6) == 6);
    let builds: Vec<_> = (1..=SERVERS)
        .map(|id| servers::build(host.db.connection(), ServerId(id)).unwrap())
        .collect();
    assert_eq!(builds, [Some(6); 6], "it is known what each runs");

    host.done.clear();
    let again = host.update();
    host.drain();
    assert_eq!(host.result(again), "build 6 is current: nothing to do");
    assert_eq!(host.done, ["check-build", "remove-builds"]);
}

#[test]
fn a_rolling_update_keeps_its_order_and_its_number() {
    for pick in 0..4 {
        let mut host = Host::new();
        let rolling = |request: &mut JobRequest<'_>| request.rolling = std::num::NonZeroU16::new(2);
        let job = host.enqueue(Operation::Update, rolling);
        assert!(!host.run(pick, usize::MAX));
        assert_eq!(host.job_state(job), JobState::Succeeded);
        assert!(host.most_down <= 2, "{}", host.most_down);
        assert!(host.all_run() && host.on(6) == 6);
        let at = |id: &str| host.stopped().iter().position(|one| *one == id).unwrap();
        assert!(at("1") < at("3") && at("2") < at("4") && at("3") < at("5"));
    }
}

#[test]
fn a_build_that_crashes_is_given_up_after_the_first_server() {
    let mut host = Host::new();
    host.bad = vec![(None, 6)];
    let rolling = |request: &mut JobRequest<'_>| request.rolling = std::num::NonZeroU16::MIN.into();
    let job = host.enqueue(Operation::Update, rolling);
    host.drain();

    assert_eq!(host.job_state(job), JobState::Failed);
    assert_eq!(host.stopped(), ["1"], "five were never touched");
    assert!(host.all_run() && host.on(5) == 6);
    assert_eq!(host.current, Some(5), "nothing starts on it any more");
    assert_eq!(host.rejected(), [6]);
    assert_eq!(host.events("update.stopped"), 1);
    assert_eq!(host.events("server.went_back"), 1);

    host.done.clear();
    let next = host.update();
    host.drain();
    let said = host.result(next);
    assert!(
        said.starts_with("build 6 was rejected: nothing to do"),
        "{said}"
    );
    assert_eq!(
        host.done,
        ["check-build"],
        "the next night no player notices"
    );

    // Valve mends it.
    host.steam = 7;
    let mended = host.update();
    host.drain();
    assert_eq!(host.job_state(mended), JobState::Succeeded);
    assert!(host.all_run() && host.on(7) == 6);
}

#[test]
fn one_server_that_does_not_like_the_build_stops_the_roll_and_gives_up_nothing() {
    let mut host = Host::new();
    host.bad = vec![(Some(ServerId(3)), 6)];
    let rolling = |request: &mut JobRequest<'_>| request.rolling = std::num::NonZeroU16::MIN.into();
    host.enqueue(Operation::Update, rolling);
    host.drain();
    assert_eq!(host.stopped(), ["1", "2", "3"]);
    assert!(host.all_run() && host.on(6) == 2 && host.on(5) == 4);
    assert_eq!((host.current, host.rejected()), (Some(6), vec![]));

    // The nightly one does not go on by itself, or it would be no stop.
    host.done.clear();
    let job = host.update();
    host.drain();
    assert_eq!(host.done, ["check-build"]);
    let said = host.result(job);
    assert!(said.contains("the roll was stopped: server 3"), "{said}");

    host.enqueue(Operation::Restart, |request| request.targets = Targets::All);
    host.drain();
    assert!(host.all_run() && host.on(6) == 5 && host.on(5) == 1);

    // Its owner has mended it.
    host.bad.clear();
    host.enqueue(Operation::Restart, |request| {
        request.targets = Targets::Named(vec![ServerRef::Id(ServerId(3))]);
    });
    host.drain();
    assert!(host.all_run() && host.on(6) == 6);
}

/// The disk is full, for instance: the next server would stay down as well.
#[test]
fn a_server_for_which_nothing_can_be_written_stops_the_roll_and_is_tried_once_more() {
    let mut host = Host::new();
    host.unwritable = (1..=SERVERS).map(ServerId).collect();
    let rolling = |request: &mut JobRequest<'_>| request.rolling = std::num::NonZeroU16::MIN.into();
    host.enqueue(Operation::Update, rolling);
    assert!(!host.run(0, 100), "it ends: {:?}", host.done);
    assert_eq!(host.stopped(), ["1"]);
    assert_eq!(host.events("update.stopped"), 1);
    let tries = host.done.iter().filter(|done| *done == "initialize 1");
    assert_eq!(tries.count(), 2, "{:?}", host.done);
}

/// It should run, but its overlay is gone, for instance.
#[test]
fn a_server_that_was_down_and_cannot_start_is_not_tried_without_an_end() {
    let mut host = Host::new();
    host.running.insert(ServerId(3), false);
    host.unwritable = vec![ServerId(3)];
    host.update();
    assert!(!host.run(0, 100), "it ends: {:?}", host.done);
    assert_eq!(host.on(6), 5);
    assert_eq!(
        host.events("update.stopped"),
        0,
        "the build has no part in it"
    );
    let tries = host.done.iter().filter(|done| *done == "initialize 3");
    assert_eq!(tries.count(), 2, "{:?}", host.done);

    // Nor does it hold up what comes next.
    host.steam = 7;
    let next = host.update();
    assert!(!host.run(0, 100), "it ends: {:?}", host.done);
    assert_eq!((host.on(7), host.job_state(next)), (5, JobState::Failed));
}

#[test]
fn a_build_that_works_nowhere_is_left_for_the_one_that_ran_and_not_for_that_of_stopped_servers() {
    let mut host = Host::new();
    host.db
        .connection()
        .execute_batch(
            "UPDATE servers SET desired_state = 'stopped', actual_state = 'stopped', build = 3
             WHERE id > 1",
        )
        .unwrap();
    for id in 2..=SERVERS {
        host.running.insert(ServerId(id), false);
    }
    host.bad = vec![(None, 6)];
    host.update();
    host.drain();
    assert_eq!((host.current, host.rejected()), (Some(5), vec![6]));
    assert!(host.running[&ServerId(1)]);
}

#[test]
fn a_repair_does_not_go_on_with_a_roll_that_was_stopped() {
    let mut host = Host::new();
    host.bad = vec![(Some(ServerId(3)), 6)];
    let rolling = |request: &mut JobRequest<'_>| request.rolling = std::num::NonZeroU16::MIN.into();
    host.enqueue(Operation::Update, rolling);
    host.drain();
    let repair = |request: &mut JobRequest<'_>| request.update.validate = true;

    for _ in 0..2 {
        host.done.clear();
        let job = host.enqueue(Operation::Update, repair);
        host.drain();
        assert!(host.stopped().is_empty(), "{:?}", host.done);
        let said = host.result(job);
        assert!(said.contains("the roll was stopped: server 3"), "{said}");
    }

    // Nor does the nightly update after it.
    host.done.clear();
    host.update();
    host.drain();
    assert_eq!(host.done, ["check-build"]);

    // Servers that run on files which were damaged restart in any case.
    host.is_replaced = true;
    host.enqueue(Operation::Update, repair);
    host.drain();
    assert!(!host.stopped().is_empty() && host.all_run());
}

#[test]
fn more_failures_may_be_allowed() {
    let mut host = Host::new();
    host.bad = vec![(Some(ServerId(1)), 6), (Some(ServerId(3)), 6)];
    let job = host.enqueue(Operation::Update, |request| {
        request.rolling = Some(std::num::NonZeroU16::MIN);
        request.update.max_failures = std::num::NonZeroU16::new(3);
    });
    host.drain();
    assert_eq!(host.job_state(job), JobState::Failed, "two servers failed");
    assert!(host.all_run() && host.on(6) == 4 && host.on(5) == 2);
    assert_eq!(host.events("update.stopped"), 0);
}

#[test]
fn a_server_that_comes_up_on_neither_build_stops_the_roll_and_gives_up_nothing() {
    let mut host = Host::new();
    host.bad = vec![(Some(ServerId(1)), 6), (Some(ServerId(1)), 5)];
    let rolling = |request: &mut JobRequest<'_>| request.rolling = std::num::NonZeroU16::MIN.into();
    host.enqueue(Operation::Update, rolling);
    host.drain();
    // What it suffers from may be the host's, and would take down the next one, too.
    assert_eq!(host.stopped(), ["1"]);
    assert_eq!(host.events("update.stopped"), 1);
    assert!(host.rejected().is_empty() && host.current == Some(6));
}

#[test]
fn of_many_at_once_one_failure_gives_up_nothing_if_the_others_come_up() {
    for pick in 0..3 {
        let mut host = Host::new();
        host.bad = vec![(Some(ServerId(1)), 6)];
        host.update();
        assert!(!host.run(pick, usize::MAX));
        assert!(host.all_run() && host.on(6) == 5, "{:?}", host.games);
        assert!(host.rejected().is_empty() && host.current == Some(6));
        assert_eq!(host.events("update.stopped"), 1);
    }
}

#[test]
fn a_server_that_crashes_after_its_start_stops_the_roll() {
    let mut host = Host::new();
    host.crashes = Some(ServerId(2));
    let rolling = |request: &mut JobRequest<'_>| request.rolling = std::num::NonZeroU16::MIN.into();
    host.enqueue(Operation::Update, rolling);
    host.drain();
    assert_eq!(host.stopped(), ["1", "2"], "the third keeps its players");
    assert_eq!(host.events("update.stopped"), 1);
    assert!(host.rejected().is_empty());
}

fn when_empty() -> Option<Condition> {
    Some(Condition {
        when_empty: true,
        deadline: None,
        warnings: Warnings::default(),
    })
}

#[test]
fn under_a_condition_each_server_waits_for_itself_and_a_bad_build_ends_the_wait() {
    let mut host = Host::new();
    host.bad = vec![(None, 6)];
    let job = host.enqueue(Operation::Update, |request| {
        request.condition = when_empty()
    });
    host.drain();
    assert_eq!(host.job_state(job), JobState::Succeeded);
    assert!(host.stopped().is_empty() && host.on(5) == 6);

    let waiting = rolls::waiting(host.db.connection(), job).unwrap();
    assert_eq!(waiting.len(), 6, "one restart for each");

    // The first one empties.
    let now = host.now;
    host.db
        .write(|tx| left4me::queue::conditions::release(tx, waiting[3], "", now))
        .unwrap();
    host.drain();
    assert_eq!(host.stopped(), ["4"]);
    assert!(host.all_run() && host.on(5) == 6);
    assert_eq!((host.current, host.rejected()), (Some(5), vec![6]));
    let states = waiting.iter().map(|id| host.job_state(*id).to_string());
    let states: Vec<_> = states.collect();
    assert_eq!(
        states,
        [
            "cancelled",
            "cancelled",
            "cancelled",
            "failed",
            "cancelled",
            "cancelled"
        ]
    );
}

#[test]
fn a_second_update_queues_no_second_restart() {
    let mut host = Host::new();
    let first = host.enqueue(Operation::Update, |request| {
        request.condition = when_empty()
    });
    host.drain();
    host.enqueue(Operation::Update, |request| {
        request.condition = when_empty()
    });
    host.drain();
    let live = "SELECT count(*) FROM jobs WHERE operation = 'restart' AND state = 'queued'";
    let count: i64 = host
        .db
        .connection()
        .query_row(live, [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 6);
    assert_eq!(host.job_state(first), JobState::Succeeded);
}

#[test]
fn what_waits_for_an_older_build_makes_room_for_the_newer_one() {
    let mut host = Host::new();
    let first = host.enqueue(Operation::Update, |request| {
        request.condition = when_empty()
    });
    host.drain();
    host.steam = 7;
    let second = host.enqueue(Operation::Update, |request| {
        request.condition = when_empty()
    });
    host.drain();
    let waiting = |host: &Host, job| rolls::waiting(host.db.connection(), job).unwrap().len();
    assert_eq!((waiting(&host, first), waiting(&host, second)), (0, 6));

    // One for all at once needs no other restart after it.
    host.steam = 8;
    host.update();
    host.drain();
    assert!(host.all_run() && host.on(8) == 6);
    assert_eq!(waiting(&host, second), 0);
}

/// As at an upgrade of the package, or a shutdown of the host.
#[test]
fn a_start_that_the_end_of_the_worker_interrupts_is_no_failure_and_is_made_again() {
    let mut host = Host::new();
    let rolling = |request: &mut JobRequest<'_>| request.rolling = std::num::NonZeroU16::MIN.into();
    host.enqueue(Operation::Update, rolling);
    loop {
        let work = host.tick().remove(0);
        if work.kind == Ok(TaskKind::StartIfRan) {
            host.engine.note(Ended {
                interrupted: true,
                ..Ended::failed(work.job, work.task, "the worker is stopping".to_owned())
            });
            break;
        }
        let ended = host.carry_out(&work);
        host.engine.note(ended);
    }
    host.stop();
    host.revive();
    host.drain();
    assert!(host.all_run(), "{:?}", host.running);
    assert_eq!(host.events("update.stopped"), 0);

    host.update();
    host.drain();
    assert!(host.all_run() && host.on(6) == 6);
}

#[test]
fn a_server_that_was_down_before_is_last_and_stops_nothing() {
    let mut host = Host::new();
    host.bad = vec![(Some(ServerId(1)), 6), (Some(ServerId(1)), 5)];
    host.running.insert(ServerId(1), false);
    let rolling = |request: &mut JobRequest<'_>| request.rolling = std::num::NonZeroU16::MIN.into();
    host.enqueue(Operation::Update, rolling);
    host.drain();
    assert_eq!(host.stopped(), ["2", "3", "4", "5", "6", "1"]);
    assert_eq!(host.on(6), 5);
    assert_eq!(host.events("update.stopped"), 0);
}

#[test]
fn a_rollback_needs_no_download_and_keeps_updates_from_the_build() {
    let mut host = Host::new();
    host.update();
    host.drain();
    host.done.clear();

    let job = host.enqueue(Operation::Rollback, |_| {});
    host.drain();
    assert_eq!(host.job_state(job), JobState::Succeeded);
    assert_eq!(host.result(job), "build 5 is the current build");
    assert_eq!(host.done[0], "use-build");
    assert!(host.all_run() && host.on(5) == 6);
    assert_eq!(host.rejected(), [6]);

    let update = host.update();
    host.drain();
    assert!(host.result(update).contains("build 6 was rejected"));

    // Asked for by its number it comes again.
    host.enqueue(Operation::Rollback, |request| {
        request.update.build = Some(6)
    });
    host.drain();
    assert!(host.all_run() && host.on(6) == 6 && host.rejected().is_empty());

    let none = host.enqueue(Operation::Rollback, |request| {
        request.update.no_restart = true;
    });
    host.drain();
    assert_eq!(host.job_state(none), JobState::Succeeded);
    assert!(
        host.current == Some(5) && host.on(6) == 6,
        "nothing restarts"
    );
}

#[test]
fn a_repair_that_replaces_the_build_restarts_its_servers_and_another_does_not() {
    let mut host = Host::new();
    host.steam = 5;
    let repair = |request: &mut JobRequest<'_>| request.update.validate = true;
    host.enqueue(Operation::Update, repair);
    host.drain();
    assert!(host.stopped().is_empty());

    host.is_replaced = true;
    host.enqueue(Operation::Update, repair);
    host.drain();
    assert_eq!(host.stopped().len(), 6);
    assert!(host.all_run());
}

#[test]
fn a_host_of_before_builds_is_stopped_once() {
    let mut host = Host::new();
    (host.current, host.published) = (None, Vec::new());
    for game in host.games.values_mut() {
        *game = GameFiles::Installation;
    }
    let job = host.update();
    host.drain();
    assert_eq!(host.job_state(job), JobState::Succeeded);
    assert_eq!(host.done[1], "stop 1", "what it uses is about to change");
    assert_eq!(host.stopped().len(), 6, "once each");
    assert!(host.all_run() && host.on(6) == 6);
}

#[test]
fn a_stopped_server_stays_stopped_and_a_restart_by_hand_counts() {
    let mut host = Host::new();
    host.db
        .connection()
        .execute_batch(
            "UPDATE servers SET desired_state = 'stopped', actual_state = 'stopped' WHERE id = 2",
        )
        .unwrap();
    host.running.insert(ServerId(2), false);
    let job = host.enqueue(Operation::Update, |request| {
        request.update.no_restart = true;
    });
    host.drain();
    assert_eq!(host.job_state(job), JobState::Succeeded);
    assert!(host.stopped().is_empty() && host.on(5) == 6);

    host.enqueue(Operation::Restart, |request| {
        request.targets = Targets::Named(vec![ServerRef::Id(ServerId(4))]);
    });
    host.drain();
    assert_eq!(host.on(6), 1);

    host.done.clear();
    host.update();
    host.drain();
    assert_eq!(host.stopped(), ["1", "3", "5", "6"], "the rest of it");
    assert!(!host.running[&ServerId(2)]);
}

/// Whatever the worker has begun when it dies, and whether that happened: no server stays down, and
/// the next update goes through.
#[test]
fn the_worker_may_die_at_any_step() {
    for (is_bad, rolling) in [(false, 0), (false, 2), (true, 2)] {
        for lives_for in 0..24 {
            for pick in 0..2 {
                let mut host = Host::new();
                if is_bad {
                    host.bad = vec![(None, 6)];
                }
                host.enqueue(Operation::Update, |request| {
                    request.rolling = std::num::NonZeroU16::new(rolling);
                });
                let died = host.run(pick, lives_for);
                if !died {
                    continue;
                }
                host.revive();
                host.drain();
                let at = format!("bad {is_bad}, rolling {rolling}, {lives_for} steps, {pick}");
                assert!(host.all_run(), "{at}: {:?}", host.running);

                host.update();
                host.drain();
                assert!(host.all_run(), "{at}, the next one: {:?}", host.running);
                let expected = if is_bad { 5 } else { 6 };
                assert_eq!(host.on(expected), 6, "{at}: {:?}", host.games);
            }
        }
    }
}

/// The next worker may die, too, while it starts again what the first one had stopped.
#[test]
fn the_next_worker_may_die_as_well() {
    for lives_for in 3..12 {
        for second in 0..4 {
            for pick in 0..2 {
                let mut host = Host::new();
                host.enqueue(Operation::Update, |request| {
                    request.rolling = std::num::NonZeroU16::new(2);
                });
                let mut died = host.run(pick, lives_for);
                host.revive();
                died &= host.run(pick, second);
                host.revive();
                host.drain();
                let at = format!("{lives_for}, then {second} steps, {pick}");
                assert!(!died || host.all_run(), "{at}: {:?}", host.running);
            }
        }
    }
}

/// The rollback from a build that works nowhere is interrupted: the next update makes it, and takes
/// no server down for a build that was rejected.
#[test]
fn a_rejected_build_that_stayed_current_is_not_rolled_again() {
    let begun = || {
        let mut host = Host::new();
        host.bad = vec![(None, 6)];
        host.enqueue(Operation::Update, |request| {
            request.rolling = std::num::NonZeroU16::MIN.into();
        });
        host
    };
    let mut whole = begun();
    assert!(!whole.run(1, usize::MAX));
    let at = whole.done.iter().position(|done| done == "use-build");

    let mut host = begun();
    assert!(host.run(1, at.unwrap()), "the worker dies there");
    host.revive();
    host.drain();
    assert_eq!((host.current, host.rejected()), (Some(6), vec![6]));

    host.done.clear();
    let update = host.update();
    host.drain();
    assert!(host.result(update).starts_with("build 6 was rejected"));
    assert!(host.stopped().is_empty(), "{:?}", host.done);
    assert!(host.all_run() && host.on(5) == 6);
    assert_eq!(host.current, Some(5));
}

/// It would have to wait for another download, with its servers down.
#[test]
fn what_was_stopped_is_started_before_older_jobs() {
    let mut host = Host::new();
    host.enqueue(Operation::Update, |request| {
        request.rolling = std::num::NonZeroU16::new(2);
    });
    host.update();
    assert!(host.run(1, 4), "the worker dies with servers down");
    assert!(!host.all_run());
    host.done.clear();
    host.revive();
    host.drain();
    let at = |kind: &str| host.done.iter().position(|done| done.starts_with(kind));
    assert!(at("start ") < at("check-build"), "{:?}", host.done);
    assert!(host.all_run() && host.on(6) == 6);
}
