//! A model of updates: how a build comes to the servers, with every order of their tasks, deaths of
//! the worker, power cuts and cancellations. Plans, readiness and schedule are the code's own.
//!
//! | in the model | in the code |
//! |---|---|
//! | `plan`, `after_check`, `roll` | domain/plan.rs itself |
//! | `checked` | `settle` of queue/build.rs |
//! | `roll`, `failed` | `begin` and `started` of queue/roll.rs |
//! | `start_game` | `start` and `go_back` of queue/start.rs |
//! | `effect` | the other tasks: queue/build_tasks.rs, host/builds.rs, the publisher, runner and helper |
//! | `after` | queue/give_up.rs |
//! | `left_stopped`, `start_again` | db/rolls.rs, queue/start_again.rs |
//! | `cancel` | cancel/, as far as it matters here: all running tasks of the job end |
//! | `Dies`, `PowerCut`, `Revives` | queue/recover.rs; at boot systemd starts what is enabled |
//! | `schedule`, `can_start` | domain/schedule.rs itself |
//!
//! An interrupted task has done nothing, half of it or all. Left out: updates in place, builds
//! other than the old and the new one, servers that should be stopped, a disk that is full.

mod state;
mod steps;

use left4me::domain::operation::Operation::{self, Rollback, Update};
use stateright::{Model, Property};

use crate::explore::{holds, rules_that_matter};
use state::{Budget, NEW, OLD, Phase, Rules, State, World};
use steps::Action;

const NO_SERVER_IS_LEFT_DOWN: &str = "no server is left down";
const SO_MANY_AT_ONCE: &str = "no more servers are down at once than the roll may";
const REJECTED_IS_LEFT_ALONE: &str = "no update takes a rejected build";
const NEEDED_BUILDS_STAY: &str = "no build is removed that is current or used";
const ONLY_WHOLE_BUILDS: &str = "no server uses half a build";
const A_STOPPED_ROLL_ENDS: &str = "no server is touched once the roll was stopped";
const STAYS_STOPPED: &str = "what was to stay stopped is not started";
const BAD_IS_NOT_CURRENT: &str = "a build that works nowhere does not stay the current one";

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.apply(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let witnesses = witnesses().into_iter();
        let witnesses = witnesses.filter(|witness| self.witnesses.contains(&witness.name));
        promises().into_iter().chain(witnesses).collect()
    }
}

fn promises() -> Vec<Property<World>> {
    let always = Property::<World>::always;
    vec![
        always(NO_SERVER_IS_LEFT_DOWN, |_, s| {
            !s.is_quiet() || s.down() == 0
        }),
        always(SO_MANY_AT_ONCE, |world, s| s.down() <= world.at_once),
        always(REJECTED_IS_LEFT_ALONE, |_, s| {
            !s.violations.took_a_rejected_build
        }),
        always(NEEDED_BUILDS_STAY, |_, s| {
            !s.violations.removed_a_needed_build
        }),
        always(ONLY_WHOLE_BUILDS, |_, s| !s.violations.used_half_a_build),
        always(A_STOPPED_ROLL_ENDS, |_, s| !s.violations.went_on),
        always(STAYS_STOPPED, |_, s| {
            !s.violations.started_what_was_to_stay_stopped
        }),
        always(BAD_IS_NOT_CURRENT, |world, s| {
            let is_stopped = s.jobs.iter().any(|job| job.is_stopped);
            let is_bad = is_stopped && world.bad.iter().all(|bad| *bad);
            !s.is_quiet() || !is_bad || s.current == OLD || s.is_left_current
        }),
    ]
}

fn all_on(s: &State, build: u64) -> bool {
    s.is_quiet() && s.game.iter().all(|game| *game == build)
}

fn witnesses() -> Vec<Property<World>> {
    let some = Property::<World>::sometimes;
    vec![
        some("all run the new build", |_, s| {
            s.down() == 0 && all_on(s, NEW)
        }),
        some("the old build is removed", |_, s| {
            !s.published.contains(&OLD)
        }),
        some("a server went back", |_, s| s.has_gone_back),
        some("given up", |_, s| {
            all_on(s, OLD) && s.current == OLD && s.rejected.contains(&NEW)
        }),
        some("one server dislikes the build", |_, s| {
            s.is_quiet() && s.current == NEW && s.game.contains(&OLD) && s.game.contains(&NEW)
        }),
        some("a rollback brings all back", |_, s| {
            all_on(s, OLD) && s.asked == 2 && s.rejected.contains(&NEW)
        }),
        some("a server stays stopped", |_, s| {
            s.is_quiet() && s.is_left.contains(&true)
        }),
        some("a restart waits", |_, s| {
            s.is_quiet() && s.jobs.iter().any(|job| job.phase == Phase::Queued)
        }),
        some("an own job is repeated", |_, s| {
            s.jobs.iter().filter(|job| job.is_own).count() > 1
        }),
    ]
}

const NOTHING_GOES_WRONG: Budget = Budget {
    cancels: 0,
    deaths: 0,
    power_cuts: 0,
};

fn world(bad: &'static [bool], requests: &'static [Operation]) -> World {
    World {
        rules: Rules::TRUE,
        bad,
        requests,
        at_once: 1,
        waits: false,
        later: false,
        keep: 2,
        budget: NOTHING_GOES_WRONG,
        witnesses: &[],
    }
}

/// A good build; the worker dies twice, and only one build is kept.
fn good() -> World {
    World {
        keep: 1,
        budget: Budget {
            deaths: 2,
            ..NOTHING_GOES_WRONG
        },
        witnesses: &[
            "all run the new build",
            "the old build is removed",
            "an own job is repeated",
        ],
        ..world(&[false, false], &[Update, Update])
    }
}

/// The power fails, too.
fn power() -> World {
    World {
        budget: Budget {
            deaths: 1,
            power_cuts: 1,
            ..NOTHING_GOES_WRONG
        },
        witnesses: &["a server went back"],
        ..world(&[false, true], &[Update])
    }
}

/// Two at a time, and it is cancelled.
fn cancelled() -> World {
    World {
        at_once: 2,
        budget: Budget {
            cancels: 1,
            deaths: 1,
            ..NOTHING_GOES_WRONG
        },
        witnesses: &["all run the new build", "a server stays stopped"],
        ..world(&[false, false, false], &[Update])
    }
}

/// A build that works nowhere; the next night's update comes, too.
fn bad() -> World {
    World {
        keep: 1,
        budget: Budget {
            deaths: 1,
            power_cuts: 1,
            ..NOTHING_GOES_WRONG
        },
        witnesses: &["a server went back", "given up"],
        ..world(&[true, true], &[Update, Update])
    }
}

/// One server of three does not come up on it.
fn disliked() -> World {
    World {
        at_once: 2,
        budget: Budget {
            deaths: 1,
            ..NOTHING_GOES_WRONG
        },
        witnesses: &["a server went back", "one server dislikes the build"],
        ..world(&[false, true, false], &[Update, Update])
    }
}

/// Each server is restarted when it is empty; only one build is kept.
fn waiting() -> World {
    World {
        waits: true,
        at_once: 2,
        keep: 1,
        budget: Budget {
            cancels: 1,
            deaths: 1,
            ..NOTHING_GOES_WRONG
        },
        witnesses: &["all run the new build", "a restart waits"],
        ..world(&[false, false], &[Update, Update])
    }
}

/// The same with a build that works nowhere.
fn waiting_bad() -> World {
    World {
        witnesses: &["given up", "a server went back"],
        ..World {
            bad: &[true, true],
            requests: &[Update],
            ..waiting()
        }
    }
}

/// An admin goes back, and the next update leaves the build alone.
fn rollback() -> World {
    World {
        budget: Budget {
            deaths: 1,
            ..NOTHING_GOES_WRONG
        },
        witnesses: &["a rollback brings all back"],
        ..world(&[false, false], &[Update, Rollback, Update])
    }
}

/// An admin goes back for later: all servers still run the new build.
fn later() -> World {
    World {
        later: true,
        keep: 1,
        budget: Budget {
            cancels: 1,
            ..NOTHING_GOES_WRONG
        },
        ..world(&[false, false], &[Update, Rollback])
    }
}

#[test]
fn a_good_build_keeps_all_promises() {
    holds("good", good());
}

#[test]
fn a_power_cut_keeps_all_promises() {
    holds("power", power());
}

#[test]
fn a_cancelled_update_keeps_all_promises() {
    holds("cancelled", cancelled());
}

#[test]
fn a_bad_build_keeps_all_promises() {
    holds("bad", bad());
}

#[test]
fn a_disliked_build_keeps_all_promises() {
    holds("disliked", disliked());
}

#[test]
fn waiting_for_players_keeps_all_promises() {
    holds("waiting", waiting());
}

#[test]
fn waiting_with_a_bad_build_keeps_all_promises() {
    holds("waiting, bad", waiting_bad());
}

#[test]
fn a_rollback_keeps_all_promises() {
    holds("rollback", rollback());
}

#[test]
fn a_rollback_for_later_keeps_all_promises() {
    holds("later", later());
}

rules_that_matter! {
    restarts_so_many_at_once in good keeps SO_MANY_AT_ONCE;
    a_failure_stops_the_roll in bad keeps A_STOPPED_ROLL_ENDS;
    a_failure_stops_waiting_restarts in waiting_bad keeps A_STOPPED_ROLL_ENDS;
    a_build_that_works_nowhere_is_given_up in bad keeps BAD_IS_NOT_CURRENT;
    rejected_builds_are_not_downloaded in rollback keeps REJECTED_IS_LEFT_ALONE;
    a_rejected_current_build_is_not_rolled in bad keeps REJECTED_IS_LEFT_ALONE;
    goes_back_by_itself in bad keeps NO_SERVER_IS_LEFT_DOWN;
    starts_again_after_its_end in cancelled keeps NO_SERVER_IS_LEFT_DOWN;
    starts_again_after_a_death in good keeps NO_SERVER_IS_LEFT_DOWN;
    what_was_stopped_goes_first in good keeps SO_MANY_AT_ONCE;
    repeats_its_own_starts_after_a_death in good keeps NO_SERVER_IS_LEFT_DOWN;
    leaves_stopped_what_it_was_told_to in cancelled keeps STAYS_STOPPED;
    keeps_builds_in_use in waiting keeps NEEDED_BUILDS_STAY;
    keeps_the_current_build in later keeps NEEDED_BUILDS_STAY;
    publishes_whole_builds in good keeps ONLY_WHOLE_BUILDS;
}
