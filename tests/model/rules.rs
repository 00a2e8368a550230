//! The rules of the real code, each of which can be broken, and the worlds they are tried in.

use left4me::base::names::{JobId, ServerId};
use left4me::domain::schedule::{Candidate, Schedule};

use super::state::{Budget, JOBS};

/// What the code does. A rule that is false is the fault that the code was written to avoid.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    // queue/enqueue.rs, cancel/request.rs, cli/control.rs
    pub commits_before_it_pokes: bool,
    pub cancel_of_running_pokes: bool,
    pub cancel_of_queued_pokes: bool,
    pub cancel_is_guarded_by_running: bool,
    pub resume_pokes: bool,
    // systemd/left4me-worker.{socket,service}, poller/mod.rs
    pub socket_keeps_pokes: bool,
    pub restarts_on_failure: bool,
    pub poller_pokes: bool,
    // worker/{mod,wake}.rs
    pub drains_before_it_looks: bool,
    pub stopping_leaves_pokes: bool,
    pub takes_the_lock: bool,
    pub looks_for_cancellations_without_room: bool,
    pub looks_at_the_socket_before_leaving: bool,
    pub looks_at_the_queue_before_leaving: bool,
    // queue/{claim,turn}.rs
    pub claim_is_guarded_by_queued: bool,
    pub claim_asks_the_schedule: bool,
    pub the_undying_hold_their_target: bool,
    pub finish_is_guarded_by_running: bool,
    pub cancelled_jobs_begin_nothing: bool,
    // cancel/tracker.rs, queue/hands.rs
    pub cancel_waits_for_the_ends: bool,
    pub late_connections_are_told: bool,
    // queue/{recover,log}.rs, cancel/recover.rs
    pub running_becomes_failed: bool,
    pub waits_for_the_dead: bool,
    pub rows_are_lost_after_the_wait: bool,
    pub recovery_finishes_records: bool,
    pub commands_leave_a_trace_first: bool,
}

impl Rules {
    pub const TRUE: Self = Self {
        commits_before_it_pokes: true,
        cancel_of_running_pokes: true,
        cancel_of_queued_pokes: true,
        cancel_is_guarded_by_running: true,
        resume_pokes: true,
        socket_keeps_pokes: true,
        restarts_on_failure: true,
        poller_pokes: true,
        drains_before_it_looks: true,
        stopping_leaves_pokes: true,
        takes_the_lock: true,
        looks_for_cancellations_without_room: true,
        looks_at_the_socket_before_leaving: true,
        looks_at_the_queue_before_leaving: true,
        claim_is_guarded_by_queued: true,
        claim_asks_the_schedule: true,
        the_undying_hold_their_target: true,
        finish_is_guarded_by_running: true,
        cancelled_jobs_begin_nothing: true,
        cancel_waits_for_the_ends: true,
        late_connections_are_told: true,
        running_becomes_failed: true,
        waits_for_the_dead: true,
        rows_are_lost_after_the_wait: true,
        recovery_finishes_records: true,
        commands_leave_a_trace_first: true,
    };
}

/// A job of a world: its servers (none: it runs alone), and how many tasks it has, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub servers: &'static [i64],
    pub tasks: u8,
}

/// What there is, and how often something may go wrong.
#[derive(Clone, Debug)]
pub struct World {
    pub rules: Rules,
    pub specs: &'static [Spec],
    pub slots: u32,
    pub budget: Budget,
    /// What must be reachable, so that the properties say something.
    pub witnesses: &'static [&'static str],
    /// By the jobs that run and those that wait, two masks: which may start, as domain/schedule.rs says.
    startable: [[u8; 1 << JOBS]; 1 << JOBS],
}

impl World {
    pub fn new(specs: &'static [Spec], slots: u32, budget: Budget, witnesses: &'static [&'static str]) -> Self {
        let candidate = |at: usize| Candidate {
            id: JobId(at as i64 + 1),
            exclusive: specs[at].servers.is_empty(),
            servers: specs[at].servers.iter().map(|&id| ServerId(id)).collect(),
        };

        let of = |mask: usize| (0..specs.len()).filter(move |at| mask & (1 << at) != 0);
        let mut startable = [[0; 1 << JOBS]; 1 << JOBS];
        for (running, row) in startable.iter_mut().enumerate() {
            for (queued, found) in row.iter_mut().enumerate() {
                let live: Vec<_> = of(running).map(candidate).collect();
                let mut schedule = Schedule::with_running(&live);
                *found = of(queued).filter(|&at| schedule.consider(&candidate(at))).map(|at| 1 << at).sum();
            }
        }

        Self { rules: Rules::TRUE, specs, slots, budget, witnesses, startable }
    }

    pub fn with(&self, rules: Rules) -> Self {
        Self { rules, ..self.clone() }
    }

    pub fn startable(&self, running: u8, queued: u8) -> u8 {
        self.startable[usize::from(running)][usize::from(queued)]
    }

    pub fn conflict(&self, one: usize, other: usize) -> bool {
        let (one, other) = (self.specs[one].servers, self.specs[other].servers);
        one.is_empty() || other.is_empty() || one.iter().any(|server| other.contains(server))
    }
}
