//! The rules of the real code, each of which can be broken, and the worlds in which they are
//! tested.

use left4me::base::names::{JobId, ServerId};
use left4me::domain::schedule::{Candidate, Schedule};

use super::state::{Budget, JOBS};

/// What the code does. A rule that is false is the fault that the code avoids.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    // queue/enqueue.rs, cancel/request.rs, cli/control.rs
    pub commits_before_it_notifies: bool,
    pub cancel_of_running_notifies: bool,
    pub cancel_of_queued_notifies: bool,
    pub cancel_is_guarded_by_running: bool,
    pub resume_notifies: bool,
    // systemd/left4me-worker.{socket,service}, poller/mod.rs
    pub socket_keeps_notifications: bool,
    pub restarts_on_failure: bool,
    pub poller_notifies: bool,
    // worker/{mod,scheduler,wake}.rs
    pub drains_before_it_checks: bool,
    pub stopping_keeps_notifications: bool,
    pub takes_the_lock: bool,
    pub checks_cancellations_without_free_slots: bool,
    pub checks_the_socket_before_exit: bool,
    pub checks_the_queue_before_exit: bool,
    // queue/{claim,tick}.rs
    pub waiting_jobs_hold_no_server: bool,
    pub claim_is_guarded_by_queued: bool,
    pub claim_asks_the_schedule: bool,
    pub unkillable_processes_hold_their_target: bool,
    pub finish_is_guarded_by_running: bool,
    pub cancelled_jobs_start_nothing: bool,
    // queue/build.rs
    pub a_check_skips_the_rest: bool,
    // queue/conditions.rs, worker/holds.rs, poller/mod.rs
    pub asks_before_it_starts: bool,
    pub confirmations_expire: bool,
    pub an_answer_wakes_the_worker: bool,
    pub poller_wakes_for_waiting_jobs: bool,
    pub the_time_ends_the_wait: bool,
    // cancel/tracker.rs, queue/context.rs
    pub cancel_waits_for_the_ends: bool,
    pub late_connections_are_cancelled: bool,
    // wire/session.rs, helper/batch.rs
    pub a_closed_batch_takes_no_more: bool,
    pub a_cancellation_ends_one_operation: bool,
    pub a_broken_batch_ends_its_operations: bool,
    // queue/{recover,log}.rs, cancel/recover.rs
    pub running_becomes_failed: bool,
    pub waits_for_the_dead: bool,
    pub rows_are_lost_after_the_wait: bool,
    pub recovery_finishes_records: bool,
    pub commands_write_their_row_first: bool,
}

impl Rules {
    pub const TRUE: Self = Self {
        commits_before_it_notifies: true,
        cancel_of_running_notifies: true,
        cancel_of_queued_notifies: true,
        cancel_is_guarded_by_running: true,
        resume_notifies: true,
        socket_keeps_notifications: true,
        restarts_on_failure: true,
        poller_notifies: true,
        drains_before_it_checks: true,
        stopping_keeps_notifications: true,
        takes_the_lock: true,
        checks_cancellations_without_free_slots: true,
        checks_the_socket_before_exit: true,
        checks_the_queue_before_exit: true,
        waiting_jobs_hold_no_server: true,
        claim_is_guarded_by_queued: true,
        claim_asks_the_schedule: true,
        unkillable_processes_hold_their_target: true,
        finish_is_guarded_by_running: true,
        cancelled_jobs_start_nothing: true,
        a_check_skips_the_rest: true,
        asks_before_it_starts: true,
        confirmations_expire: true,
        an_answer_wakes_the_worker: true,
        poller_wakes_for_waiting_jobs: true,
        the_time_ends_the_wait: true,
        cancel_waits_for_the_ends: true,
        late_connections_are_cancelled: true,
        a_closed_batch_takes_no_more: true,
        a_cancellation_ends_one_operation: true,
        a_broken_batch_ends_its_operations: true,
        running_becomes_failed: true,
        waits_for_the_dead: true,
        rows_are_lost_after_the_wait: true,
        recovery_finishes_records: true,
        commands_write_their_row_first: true,
    };
}

/// A job of a world: its servers (none: it runs alone, unless it only asks Steam), and the number of
/// its tasks, which run one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub servers: &'static [i64],
    pub tasks: u8,
    /// Whether it only asks Steam.
    pub asks: bool,
    /// Whether its first task may find that nothing is left to do.
    pub checks: bool,
    /// Whether it waits until nobody plays.
    pub waits: bool,
}

impl Spec {
    fn is_exclusive(&self) -> bool {
        self.servers.is_empty() && !self.asks
    }
}

/// A setting to explore: rules, jobs, slots, and how often something may go wrong.
#[derive(Clone, Debug)]
pub struct World {
    pub rules: Rules,
    pub specs: &'static [Spec],
    pub slots: u32,
    pub budget: Budget,
    /// Whether the commands of all jobs share a connection.
    pub batches: bool,
    /// What waiting jobs do when their time has come.
    pub gives_up: bool,
    /// What must be reachable, so that the promises are not empty.
    pub witnesses: &'static [&'static str],
    /// Indexed by the masks of running and of waiting jobs: which may start, from
    /// domain/schedule.rs.
    startable: [[u8; 1 << JOBS]; 1 << JOBS],
}

impl World {
    pub fn new(
        specs: &'static [Spec],
        slots: u32,
        budget: Budget,
        witnesses: &'static [&'static str],
    ) -> Self {
        let candidate = |at: usize| Candidate {
            id: JobId(at as i64 + 1),
            exclusive: specs[at].is_exclusive(),
            asks: specs[at].asks,
            servers: specs[at].servers.iter().map(|&id| ServerId(id)).collect(),
        };

        let of = |mask: usize| (0..specs.len()).filter(move |at| mask & (1 << at) != 0);
        let mut startable = [[0; 1 << JOBS]; 1 << JOBS];
        for (running, row) in startable.iter_mut().enumerate() {
            for (queued, found) in row.iter_mut().enumerate() {
                let live: Vec<_> = of(running).map(candidate).collect();
                let mut schedule = Schedule::with_running(&live);
                *found = of(queued)
                    .filter(|&at| schedule.consider(&candidate(at)))
                    .map(|at| 1 << at)
                    .sum();
            }
        }

        Self {
            rules: Rules::TRUE,
            specs,
            slots,
            budget,
            batches: false,
            gives_up: false,
            witnesses,
            startable,
        }
    }

    pub fn with(&self, rules: Rules) -> Self {
        Self {
            rules,
            ..self.clone()
        }
    }

    pub fn with_batches(self) -> Self {
        Self {
            batches: true,
            ..self
        }
    }

    pub fn giving_up(self) -> Self {
        Self {
            gives_up: true,
            ..self
        }
    }

    pub fn startable(&self, running: u8, queued: u8) -> u8 {
        self.startable[usize::from(running)][usize::from(queued)]
    }

    pub fn conflict(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.specs[one], &self.specs[other]);
        let share = one.servers.iter().any(|id| other.servers.contains(id));
        one.is_exclusive() || other.is_exclusive() || one.asks && other.asks || share
    }
}
