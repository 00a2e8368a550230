//! A model of queue, notification, idle exit, claim, cancel, crash and recovery, explored in full
//! by stateright. It is worth what it mirrors: when you change a right-hand side, check the left.
//!
//! | in the model | in the code |
//! |---|---|
//! | `Enqueue`, `Notify`, `ClientDies` | `enqueue` of queue/enqueue.rs, then queue/wake.rs; between them a client may die |
//! | `Cancel`, `CancelNotify`, `RequesterDies` | `request` of cancel/request.rs (`jobs::cancel`, `jobs::set_cancelling`), then `poke` |
//! | `Pause`, `Resume`, `ResumeNotify` | cli/control.rs |
//! | `State::notified` | the datagrams in worker.sock: the kernel keeps them while no process reads (`FlushPending=no`) |
//! | `Start`, `Worker::restart` | left4me-worker.socket; `Restart=on-failure` of left4me-worker.service |
//! | `PollerNotifies` | `wake_worker` of poller/mod.rs |
//! | `At::Open` to `At::FailJobs` | `serve` of worker/mod.rs: `Wake::open`, `lock::take`, `DeadWorker::find`, `wait_for_orphans`, `close_rows`, `cancel::recover`, `recover` |
//! | `At::Tick` to `At::Exit`, `Wake`, `IdleTime` | `Scheduler::run` and `Wake::wait`: tick, `is_pending`, `has_claimable`, poll, the signal, drain |
//! | `tick`, `finish`, `pick`, `claim` | `Scheduler::run_queue`; `Engine::settle`, `schedule` of queue/tick.rs, `finish_jobs` of queue/finish.rs; `claim` of queue/claim.rs |
//! | `World::startable` | domain/schedule.rs itself |
//! | `Hold`, `look`, `Answer`, `Expire` | `look`, `ask`, `answered` of queue/conditions.rs, worker/holds.rs; `candidates::confirmed`; domain/condition/hold.rs |
//! | `Poll`, `can_act` | `needs_worker` of queue/conditions.rs, which `wake_worker` of poller/mod.rs calls |
//! | `advance`, `conclude`, `Report` | `Tracked::begin` of cancel/tracked.rs, `terminate`, `finish` of cancel/conclude.rs; cancel/cleaner.rs |
//! | `FindsNothing` | `settle` of queue/build.rs, in the same tick |
//! | `Connect`, `EndsByItself`, `EndsOnSignal` | a task's thread: `TaskContext::send` and `Connections::keep` of queue/context.rs, then `Log::ended` |
//! | `Batch`, `BatchCloses`, `BatchEnds`, `HelperDies` | `Sessions` of wire/session.rs, which tasks of all jobs share; helper/batch.rs |
//! | `Row`, `Trace` | `runner_began`, `runner_started`, `runner_ended` of queue/log.rs |
//! | `Kill9`, `OrphanEnds` | the worker dies, its connections close, runner and helper end the commands by the kill escalation |
//! | `Survives`, `Row::Held` | `tree = 'left'`: `candidates::held`, `recover::release` |
//! | `State::set` | each guarded UPDATE of lib/db/jobs.rs |
//!
//! A transaction is one step, since SQLite allows one writer at a time. The model has no time: what
//! a clock would trigger may happen or not, and no promise relies on it. So it leaves out the
//! worker's check every second and half a watchdog, which would repair a lost wake-up late. The
//! exception is the check that finds an unkillable process dead later. The poller comes only where
//! nothing else can know: when a client died before its notification, or when a worker that read
//! the notification was stopped.
//!
//! Assumed: a command that is cancelled ends within the time limit, or is unkillable and reported
//! as such; and a command's row is committed when the command starts
//! (`commands_write_their_row_first`; really a moment later, which is why recovery waits for every
//! runner that exists). Left out: cancelling single tasks, --force, a database that cannot be
//! written, a reboot.
//!
//! No run is endless: [`count_and_find_no_cycle`] finds no cycle. So what must happen eventually is
//! checked in the states in which nothing has to happen any more. stateright's own `eventually` is
//! not needed, and it overlooks cases where paths join.

mod driving;
mod explore;
mod fleet;
mod moves;
mod rolls;
mod rules;
mod state;
mod steps;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use left4me::domain::job::JobState::{Cancelled, Cancelling, Running, Succeeded};
use stateright::{Checker as _, HasDiscoveries, Model, Property};

use moves::Action;
use rules::{Rules, Spec, World};
use state::{At, Batch, Budget, Command, HAND, Hold, Job, Record, State, UNIT, each};
use steps::busy;

const NO_LOST_WAKE_UP: &str = "no wake-up is lost";
const NO_ENDLESS_WAIT: &str = "no job waits for what has happened";
const THROWS_NOBODY_OUT: &str = "no player is thrown out before the time";
const DOES_NOTHING_FOR_NOTHING: &str = "no update goes on that has nothing to do";
const NO_JOB_LEFT_BEHIND: &str = "no job is left behind";
const NO_DOUBLE_RUN: &str = "no command runs twice";
const NO_CONFLICT: &str = "no conflicting jobs run at once";
const TERMINAL_IS_FINAL: &str = "no terminal state is left";
const NEVER_STARTS: &str = "an ended job never starts";
const ANSWERED: &str = "every cancel request is answered";
const AGREES: &str = "record and state agree";
const ONLY_ITS_OWN: &str = "a cancellation ends only its own commands";
const NOTHING_LEFT: &str = "no process of a cancelled job runs";

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.budget)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.forced(state, actions);
        self.free(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        self.apply(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let witnesses = witnesses()
            .into_iter()
            .filter(|witness| self.witnesses.contains(&witness.name));
        promises().into_iter().chain(witnesses).collect()
    }
}

/// What holds in every state; some of them only in states in which nothing has to happen any more.
fn promises() -> Vec<Property<World>> {
    let always = Property::<World>::always;
    vec![
        always(NO_LOST_WAKE_UP, |world, s| {
            let has_room = busy(s, u8::MAX) < world.slots;
            let held = s.mask(|job| job.unkillable);
            let live = s.mask(Job::is_live) | held;
            s.paused || !has_room || world.startable(live, s.ready()) == 0 || !world.is_quiet(s)
        }),
        always(NO_ENDLESS_WAIT, |world, s| {
            let may_go = |job| !s.playing && world.could_start(s, job);
            !each(s.waiting()).any(|job| s.due || may_go(job)) || !world.is_quiet(s)
        }),
        always(THROWS_NOBODY_OUT, |_, s| !s.violations.threw_out),
        always(DOES_NOTHING_FOR_NOTHING, |_, s| !s.violations.went_on),
        always(NO_JOB_LEFT_BEHIND, |world, s| {
            let is_served =
                |job: usize| s.jobs[job].command == Command::Running && s.owner(job).is_some();
            each(s.mask(|job| job.is(Running))).all(is_served) || !world.is_quiet(s)
        }),
        always(NO_DOUBLE_RUN, |_, s| !s.violations.ran_twice),
        always(NO_CONFLICT, |world, s| {
            let working = s.mask(Job::works);
            each(working)
                .all(|one| each(working).all(|other| one == other || !world.conflict(one, other)))
        }),
        always(TERMINAL_IS_FINAL, |_, s| {
            !s.violations.left_a_terminal_state
        }),
        always(NEVER_STARTS, |_, s| !s.violations.started_after_its_end),
        always(ONLY_ITS_OWN, |_, s| !s.violations.ended_by_another),
        always(ANSWERED, |world, s| {
            !s.jobs
                .iter()
                .any(|job| job.record == Record::Live || job.is(Cancelling))
                || !world.is_quiet(s)
        }),
        always(AGREES, |_, s| {
            s.jobs.iter().all(|job| match job.record {
                Record::None => !job.is(Cancelling) && !job.is(Cancelled),
                Record::Live => job.is(Cancelling),
                Record::BeforeExecution | Record::GaveUp => job.is(Cancelled),
                Record::Completed | Record::Failed => job.is(Cancelled),
            })
        }),
        // The record names an unkillable process.
        always(NOTHING_LEFT, |_, s| {
            let is_gone =
                |job: &Job| !job.has_command() && (!job.unkillable || job.record == Record::Failed);
            s.jobs.iter().all(|job| !job.is(Cancelled) || is_gone(job))
        }),
    ]
}

/// What must happen in some run, so that the promises are not empty.
fn witnesses() -> Vec<Property<World>> {
    let some = Property::<World>::sometimes;
    vec![
        some("all ends well", |world, s| {
            (0..world.specs.len()).all(|job| s.jobs[job].is(Succeeded))
        }),
        some("two at once", |_, s| {
            s.mask(|job| job.command == Command::Running).count_ones() == 2
        }),
        some("cancelled in the queue", |_, s| {
            s.jobs
                .iter()
                .any(|job| job.record == Record::BeforeExecution)
        }),
        some("cancelled while it runs", |_, s| {
            s.jobs
                .iter()
                .any(|job| job.begun != 0 && job.record == Record::Completed)
        }),
        some("cancelled by the next worker", |_, s| {
            s.workers[UNIT].at == At::FinishCancelled && s.jobs.iter().any(|job| job.is(Cancelling))
        }),
        some("failed by the next worker", |_, s| {
            s.workers[UNIT].at == At::FailJobs && s.jobs.iter().any(|job| job.is(Running))
        }),
        some("a notification without a worker", |_, s| {
            s.notified && s.workers[UNIT].at == At::Down
        }),
        some("a stopped worker leaves a notification", |_, s| {
            s.notified && s.workers[UNIT].at == At::Exit && s.workers[UNIT].stopping
        }),
        some("a cancellation names an unkillable process", |_, s| {
            s.jobs.iter().any(|job| job.record == Record::Failed)
        }),
        some("an unkillable process holds the next job", |world, s| {
            s.jobs[0].unkillable && s.queued() == 0b10 && world.is_quiet(s)
        }),
        some("a second worker is refused", |_, s| {
            s.workers[UNIT].restart && s.workers[HAND].jobs != 0
        }),
        some("a batch of two", |_, s| {
            s.batch == Batch::Open
                && s.mask(|job| job.command == Command::Running).count_ones() == 2
        }),
        some("one of a batch is cancelled", |_, s| {
            s.jobs[0].command == Command::Ending && s.jobs[1].command == Command::Running
        }),
        some("a batch closes and another opens", |_, s| {
            s.batch == Batch::Closing && s.jobs.iter().any(|job| job.command == Command::Spawned)
        }),
        some("a job overtakes one that waits", |world, s| {
            s.waiting() == 1 && s.jobs[1].is(Succeeded) && world.is_quiet(s)
        }),
        some("a job goes although somebody plays", |_, s| {
            s.due && s.playing && s.jobs[0].command == Command::Running
        }),
        some("a job gives up", |_, s| s.jobs[0].record == Record::GaveUp),
        some("somebody came after the poll", |_, s| {
            s.jobs[0].hold == Hold::Asking && s.playing
        }),
        some("an update ends after its check", |_, s| {
            s.jobs[0].is(Succeeded) && s.jobs[0].begun == 0b1
        }),
        some("an update goes on after its check", |_, s| {
            s.jobs[0].is(Succeeded) && s.jobs[0].begun == 0b11
        }),
        some("paused with a queue", |world, s| {
            s.paused && s.queued() != 0 && world.is_quiet(s)
        }),
    ]
}

const ONE: Spec = Spec {
    servers: &[1],
    tasks: 1,
    asks: false,
    checks: false,
    waits: false,
};
const ONE_TWICE: Spec = Spec {
    servers: &[1],
    tasks: 2,
    asks: false,
    checks: false,
    waits: false,
};
const WAITS: Spec = Spec {
    servers: &[1],
    tasks: 1,
    asks: false,
    checks: false,
    waits: true,
};
const TWO: Spec = Spec {
    servers: &[2],
    tasks: 1,
    asks: false,
    checks: false,
    waits: false,
};
const ALONE: Spec = Spec {
    servers: &[],
    tasks: 1,
    asks: false,
    checks: false,
    waits: false,
};
const UPDATE: Spec = Spec {
    tasks: 2,
    checks: true,
    ..ALONE
};
const CHECK: Spec = Spec {
    asks: true,
    ..ALONE
};
const NOTHING_GOES_WRONG: Budget = Budget {
    cancels: 0,
    crashes: 0,
    sigterms: 0,
    deaths: 0,
    unkillable: 0,
    pauses: 0,
    by_hand: 0,
    helper_deaths: 0,
    joins: 0,
    deadlines: 0,
    expiries: 0,
};

/// Jobs of two servers, and between them a job that runs alone.
fn three_jobs() -> World {
    let budget = Budget {
        cancels: 1,
        crashes: 1,
        deaths: 1,
        ..NOTHING_GOES_WRONG
    };

    let witnesses = &[
        "all ends well",
        "two at once",
        "cancelled in the queue",
        "a notification without a worker",
    ];

    World::new(&[ONE, ALONE, TWO], 2, budget, witnesses)
}

/// One server, one slot, a job of two tasks; workers are killed.
fn one_slot() -> World {
    let budget = Budget {
        cancels: 2,
        crashes: 2,
        deaths: 1,
        ..NOTHING_GOES_WRONG
    };

    let witnesses = &[
        "all ends well",
        "cancelled while it runs",
        "cancelled by the next worker",
        "failed by the next worker",
    ];

    World::new(&[ONE_TWICE, ONE], 1, budget, witnesses)
}

/// As [`one_slot`], and a worker is stopped.
fn stopped() -> World {
    let budget = Budget {
        cancels: 1,
        crashes: 1,
        sigterms: 1,
        deaths: 1,
        ..NOTHING_GOES_WRONG
    };

    World::new(
        &[ONE_TWICE, ONE],
        1,
        budget,
        &["all ends well", "a stopped worker leaves a notification"],
    )
}

/// A second worker in the foreground.
fn by_hand() -> World {
    let budget = Budget {
        cancels: 1,
        crashes: 1,
        deaths: 1,
        by_hand: 1,
        ..NOTHING_GOES_WRONG
    };

    World::new(
        &[ONE, ONE],
        2,
        budget,
        &[
            "all ends well",
            "cancelled while it runs",
            "a second worker is refused",
        ],
    )
}

/// A process that no signal ends.
fn unkillable() -> World {
    let budget = Budget {
        cancels: 1,
        crashes: 1,
        unkillable: 1,
        ..NOTHING_GOES_WRONG
    };

    let witnesses = &[
        "a cancellation names an unkillable process",
        "an unkillable process holds the next job",
    ];

    World::new(&[ONE, ONE, TWO], 2, budget, witnesses)
}

/// Two servers whose commands share a connection to the helper, which may die.
fn batch() -> World {
    let budget = Budget {
        cancels: 1,
        crashes: 1,
        helper_deaths: 1,
        ..NOTHING_GOES_WRONG
    };

    let witnesses = &[
        "all ends well",
        "a batch of two",
        "one of a batch is cancelled",
        "a batch closes and another opens",
    ];

    World::new(&[ONE_TWICE, TWO], 2, budget, witnesses).with_batches()
}

/// A job that waits until nobody plays, and one of the same server that does not.
fn waiting() -> World {
    let budget = Budget {
        cancels: 1,
        crashes: 1,
        deaths: 1,
        joins: 1,
        deadlines: 1,
        expiries: 1,
        ..NOTHING_GOES_WRONG
    };

    let witnesses = &[
        "all ends well",
        "a job overtakes one that waits",
        "a job goes although somebody plays",
        "somebody came after the poll",
    ];

    World::new(&[WAITS, ONE], 1, budget, witnesses)
}

/// A job that gives up at its time, beside one of another server that may take the only slot.
fn giving_up() -> World {
    let world = waiting();
    let witnesses = &["all ends well", "a job gives up", "cancelled in the queue"];
    World::new(&[WAITS, TWO], 1, world.budget, witnesses).giving_up()
}

/// Claiming is paused and resumed.
fn paused() -> World {
    let budget = Budget {
        cancels: 1,
        crashes: 1,
        pauses: 1,
        ..NOTHING_GOES_WRONG
    };

    World::new(
        &[ONE, TWO],
        1,
        budget,
        &["all ends well", "paused with a queue"],
    )
}

/// An update that may find nothing to do, and a job of a server.
fn update() -> World {
    let budget = Budget {
        cancels: 1,
        crashes: 1,
        deaths: 1,
        ..NOTHING_GOES_WRONG
    };

    let witnesses = &[
        "all ends well",
        "an update ends after its check",
        "an update goes on after its check",
        "cancelled while it runs",
    ];

    World::new(&[UPDATE, ONE], 2, budget, witnesses)
}

/// Two checks, and a job of a server beside them.
fn checks() -> World {
    let budget = Budget {
        cancels: 1,
        crashes: 1,
        ..NOTHING_GOES_WRONG
    };

    World::new(
        &[CHECK, CHECK, ONE],
        2,
        budget,
        &["all ends well", "two at once", "cancelled while it runs"],
    )
}

/// Explores all states.
fn holds(name: &str, world: &World) {
    let begin = Instant::now();
    let checker = world.clone().checker().threads(2).spawn_bfs().join();
    let (states, steps, depth) = (
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
    );

    println!(
        "{name}: {states} states, {steps} steps, {depth} deep, {:.1} s",
        begin.elapsed().as_secs_f64()
    );

    checker.assert_properties();
    assert_eq!(
        count_and_find_no_cycle(world),
        states,
        "not all was explored"
    );

    println!(
        "{name}: no cycle, {:.1} s in all",
        begin.elapsed().as_secs_f64()
    );
}

/// Walks all states again, depth first and without stateright, and fails when a run returns to an
/// earlier state. Returns the number of states.
fn count_and_find_no_cycle(world: &World) -> usize {
    let print = |state: &State| {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        hasher.finish()
    };

    let steps = |state: &State| {
        let mut actions = Vec::new();
        world.actions(state, &mut actions);
        actions
    };

    let first = State::new(world.budget);
    // The value says whether the current run contains the state.
    let mut known = HashMap::from([(print(&first), true)]);
    let mut run = vec![(first, steps(&first))];

    while let Some((state, actions)) = run.last_mut() {
        let Some(action) = actions.pop() else {
            known.insert(print(state), false);
            run.pop();
            continue;
        };

        let mut next = *state;
        world.apply(&mut next, action);
        let is_in_run = known.get(&print(&next)).copied();
        assert_ne!(
            is_in_run,
            Some(true),
            "an endless run: {action:?} leads back to {next:?}"
        );

        if is_in_run.is_none() {
            known.insert(print(&next), true);
            run.push((next, steps(&next)));
        }
    }

    known.len()
}

#[test]
fn three_jobs_keep_all_promises() {
    holds("three jobs", &three_jobs());
}

#[test]
fn one_slot_keeps_all_promises() {
    holds("one slot", &one_slot());
}

#[test]
fn a_stop_keeps_all_promises() {
    holds("stopped", &stopped());
}

#[test]
fn a_second_worker_keeps_all_promises() {
    holds("by hand", &by_hand());
}

#[test]
fn an_unkillable_process_keeps_all_promises() {
    holds("unkillable", &unkillable());
}

#[test]
fn a_shared_connection_keeps_all_promises() {
    holds("batch", &batch());
}

#[test]
fn waiting_for_players_keeps_all_promises() {
    holds("waiting", &waiting());
}

#[test]
fn giving_up_keeps_all_promises() {
    holds("giving up", &giving_up());
}

#[test]
fn an_update_keeps_all_promises() {
    holds("update", &update());
}

#[test]
fn checks_keep_all_promises() {
    holds("checks", &checks());
}

#[test]
fn a_pause_keeps_all_promises() {
    holds("paused", &paused());
}

/// This check only saves a start by systemd: the socket keeps unread notifications, so no promise
/// depends on it.
#[test]
fn the_promises_hold_without_the_check_of_the_socket_before_exit() {
    let rules = Rules {
        checks_the_socket_before_exit: false,
        ..Rules::TRUE
    };

    holds(
        "three jobs, without a check of the socket",
        &three_jobs().with(rules),
    );
}

/// With the rule broken, the promise is not kept: so the rule is what keeps it.
fn breaks(world: &World, rules: Rules, promise: &'static str) {
    let begin = Instant::now();
    let finish = HasDiscoveries::AllOf([promise].into());
    let checker = world
        .with(rules)
        .checker()
        .finish_when(finish)
        .spawn_bfs()
        .join();

    let Some(path) = checker.discovery(promise) else {
        panic!(
            "it is kept without the rule; broken promises: {:?}",
            checker.discoveries().keys()
        );
    };

    let (states, seconds) = (checker.unique_state_count(), begin.elapsed().as_secs_f64());
    println!("{promise}: not any more, after {states} states, {seconds:.1} s");

    for (state, action) in path.into_vec() {
        match action {
            Some(Action::Step(at)) => println!("    worker {at}: {:?}", state.workers[at].at),
            Some(action) => println!("    {action:?}"),
            None => {}
        }
    }
}

macro_rules! rules_that_matter {
    ($($rule:ident in $world:ident keeps $promise:ident;)*) => {
        mod without {
            $(#[test]
            fn $rule() {
                super::breaks(&super::$world(), super::Rules { $rule: false, ..super::Rules::TRUE }, super::$promise);
            })*
        }
    };
}

rules_that_matter! {
    commits_before_it_notifies in three_jobs keeps NO_LOST_WAKE_UP;
    cancel_of_running_notifies in one_slot keeps ANSWERED;
    cancel_of_queued_notifies in three_jobs keeps NO_LOST_WAKE_UP;
    cancel_is_guarded_by_running in one_slot keeps TERMINAL_IS_FINAL;
    resume_notifies in paused keeps NO_LOST_WAKE_UP;
    socket_keeps_notifications in three_jobs keeps NO_LOST_WAKE_UP;
    restarts_on_failure in three_jobs keeps NO_JOB_LEFT_BEHIND;
    poller_notifies in three_jobs keeps NO_LOST_WAKE_UP;
    drains_before_it_checks in three_jobs keeps NO_LOST_WAKE_UP;
    stopping_keeps_notifications in stopped keeps NO_LOST_WAKE_UP;
    takes_the_lock in by_hand keeps NO_CONFLICT;
    checks_the_queue_before_exit in unkillable keeps NO_LOST_WAKE_UP;
    checks_cancellations_without_free_slots in one_slot keeps ANSWERED;
    waiting_jobs_hold_no_server in waiting keeps NO_LOST_WAKE_UP;
    asks_before_it_starts in waiting keeps THROWS_NOBODY_OUT;
    confirmations_expire in giving_up keeps THROWS_NOBODY_OUT;
    an_answer_wakes_the_worker in waiting keeps NO_LOST_WAKE_UP;
    poller_wakes_for_waiting_jobs in waiting keeps NO_ENDLESS_WAIT;
    the_time_ends_the_wait in giving_up keeps NO_ENDLESS_WAIT;
    claim_is_guarded_by_queued in three_jobs keeps NEVER_STARTS;
    claim_asks_the_schedule in three_jobs keeps NO_CONFLICT;
    unkillable_processes_hold_their_target in unkillable keeps NO_CONFLICT;
    a_check_skips_the_rest in update keeps DOES_NOTHING_FOR_NOTHING;
    finish_is_guarded_by_running in one_slot keeps AGREES;
    cancelled_jobs_start_nothing in one_slot keeps NOTHING_LEFT;
    cancel_waits_for_the_ends in one_slot keeps NOTHING_LEFT;
    late_connections_are_cancelled in one_slot keeps ANSWERED;
    a_closed_batch_takes_no_more in batch keeps NO_JOB_LEFT_BEHIND;
    a_cancellation_ends_one_operation in batch keeps ONLY_ITS_OWN;
    a_broken_batch_ends_its_operations in batch keeps NO_JOB_LEFT_BEHIND;
    running_becomes_failed in one_slot keeps NO_DOUBLE_RUN;
    waits_for_the_dead in one_slot keeps NO_CONFLICT;
    rows_are_lost_after_the_wait in one_slot keeps NO_CONFLICT;
    recovery_finishes_records in one_slot keeps AGREES;
    commands_write_their_row_first in one_slot keeps NO_CONFLICT;
}
