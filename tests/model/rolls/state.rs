//! The state at one moment: the database, the host, the worker.

use std::collections::BTreeSet;

use left4me::domain::operation::Operation;
use left4me::domain::task::{Needs, TaskKind, TaskState};

/// What all servers run at the start, and what Steam publishes.
pub const OLD: u64 = 5;
pub const NEW: u64 = 6;

/// What the code does. A rule that is false is the fault that the code avoids.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    // domain/plan.rs, queue/roll.rs
    pub restarts_so_many_at_once: bool,
    pub a_failure_stops_the_roll: bool,
    pub a_failure_stops_waiting_restarts: bool,
    pub a_build_that_works_nowhere_is_given_up: bool,
    // queue/build.rs
    pub rejected_builds_are_not_downloaded: bool,
    pub a_rejected_current_build_is_not_rolled: bool,
    // queue/start.rs
    pub goes_back_by_itself: bool,
    // queue/start_again.rs, queue/recover.rs, queue/claim.rs, cancel/
    pub starts_again_after_its_end: bool,
    pub starts_again_after_a_death: bool,
    pub what_was_stopped_goes_first: bool,
    pub repeats_its_own_starts_after_a_death: bool,
    pub leaves_stopped_what_it_was_told_to: bool,
    // host/builds.rs
    pub keeps_builds_in_use: bool,
    pub keeps_the_current_build: bool,
    // publisher/
    pub publishes_whole_builds: bool,
}

impl Rules {
    pub const TRUE: Self = Self {
        restarts_so_many_at_once: true,
        a_failure_stops_the_roll: true,
        a_failure_stops_waiting_restarts: true,
        a_build_that_works_nowhere_is_given_up: true,
        rejected_builds_are_not_downloaded: true,
        a_rejected_current_build_is_not_rolled: true,
        goes_back_by_itself: true,
        starts_again_after_its_end: true,
        starts_again_after_a_death: true,
        what_was_stopped_goes_first: true,
        repeats_its_own_starts_after_a_death: true,
        leaves_stopped_what_it_was_told_to: true,
        keeps_builds_in_use: true,
        keeps_the_current_build: true,
        publishes_whole_builds: true,
    };
}

/// How often each may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub cancels: u8,
    pub deaths: u8,
    pub power_cuts: u8,
}

/// A setting to explore.
#[derive(Clone, Debug)]
pub struct World {
    pub rules: Rules,
    /// On which servers the new build does not come up, one for each server.
    pub bad: &'static [bool],
    /// What is asked for, one after the other.
    pub requests: &'static [Operation],
    /// How many servers a roll restarts at a time.
    pub at_once: usize,
    /// Whether the updates wait, for each server, until it is empty.
    pub waits: bool,
    /// Whether rollbacks restart no server.
    pub later: bool,
    /// How many builds are kept.
    pub keep: usize,
    pub budget: Budget,
    /// What must be reachable, so that the promises are not empty.
    pub witnesses: &'static [&'static str],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    pub kind: TaskKind,
    pub server: Option<usize>,
    pub after: Vec<(usize, Needs)>,
    pub state: TaskState,
    /// For a stop.
    pub was_running: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Queued,
    Running,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub operation: Operation,
    pub phase: Phase,
    pub servers: Vec<usize>,
    pub tasks: Vec<Task>,
    /// The update whose build this restart brings.
    pub roll_of: Option<usize>,
    /// It waits until its server is empty.
    pub waits: bool,
    pub no_restart: bool,
    /// The worker itself asked for it.
    pub is_own: bool,
    /// Its roll was stopped.
    pub is_stopped: bool,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Violations {
    pub took_a_rejected_build: bool,
    pub removed_a_needed_build: bool,
    pub used_half_a_build: bool,
    /// A server was stopped for a roll that was stopped.
    pub went_on: bool,
    pub started_what_was_to_stay_stopped: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub jobs: Vec<Job>,
    /// How many requests have been made.
    pub asked: usize,
    pub worker: bool,
    pub running: Vec<bool>,
    /// Whether systemd starts it at boot.
    pub enabled: Vec<bool>,
    /// The build below each server.
    pub game: Vec<u64>,
    /// The build on which it last came up, as it is recorded.
    pub last: Vec<u64>,
    /// It did not come up on the new build, ever, and since it last did.
    pub has_gone_back: bool,
    pub failed_on_new: Vec<bool>,
    /// A cancellation said to leave it stopped.
    pub is_left: Vec<bool>,
    pub installed: u64,
    pub published: BTreeSet<u64>,
    pub current: u64,
    /// The new build is only half copied; only with a broken rule.
    pub is_half: bool,
    pub rejected: BTreeSet<u64>,
    /// The rollback from a build that was given up was interrupted: the next check makes it.
    pub is_left_current: bool,
    pub left: Budget,
    pub violations: Violations,
}

impl State {
    pub fn new(world: &World) -> Self {
        let servers = world.bad.len();
        Self {
            jobs: Vec::new(),
            asked: 0,
            worker: true,
            running: vec![true; servers],
            enabled: vec![true; servers],
            game: vec![OLD; servers],
            last: vec![OLD; servers],
            has_gone_back: false,
            failed_on_new: vec![false; servers],
            is_left: vec![false; servers],
            installed: OLD,
            published: [OLD].into(),
            current: OLD,
            is_half: false,
            rejected: BTreeSet::new(),
            is_left_current: false,
            left: world.budget,
            violations: Violations::default(),
        }
    }

    /// How many servers are down that should run.
    pub fn down(&self) -> usize {
        let both = self.running.iter().zip(&self.is_left);
        both.filter(|(runs, is_left)| !**runs && !**is_left).count()
    }

    /// Whether nothing has to happen any more. A restart may wait for players to leave.
    pub fn is_quiet(&self) -> bool {
        self.worker && !self.jobs.iter().any(|job| job.phase == Phase::Running)
    }
}

impl Job {
    /// Whether an end of the job must leave no server down that it stopped.
    pub fn starts_again(&self) -> bool {
        self.operation.rolls_out() || self.roll_of.is_some()
    }
}
