//! The kill escalation that ends a command's process tree. Pure: the caller passes the state of the
//! tree and the time, and gets the next step.
//!
//! first signal to the group -> grace -> SIGKILL to the group and cgroup.kill -> wait until the
//! tree is empty.
//!
//! The grace is for the command and its group. What is left after them (a child in a session of its
//! own, or one that holds our pipe) gets [`LINGER`], but no longer than the grace, and is then
//! killed. That is also so after a normal end.

use std::time::{Duration, Instant};

use crate::wire::{Cancel, EndedBy, Tree};

/// How long processes that a command left behind may run, and how long open pipes are waited for.
pub const LINGER: Duration = Duration::from_secs(1);

/// How long a killed tree may take to disappear.
pub const EMPTY_WAIT: Duration = Duration::from_secs(5);

/// The pause between kills meanwhile, for trees that fork while they die.
const KILL_AGAIN: Duration = Duration::from_millis(50);

/// The state of a process tree at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeState {
    /// The command's main process has ended.
    pub main_ended: bool,
    /// Its process group has no member.
    pub group_empty: bool,
    /// No process of its tree exists.
    pub tree_empty: bool,
    pub output_open: bool,
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Send the first signal to the group, then call again.
    Signal,
    /// Kill the group, the control group and every descendant, then call again.
    Kill,
    /// Wait until this time, or until something happens.
    Wait(Option<Instant>),
    /// The command has ended.
    Done(EndedBy, Tree),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Running,
    /// The first signal was sent.
    Signalled {
        until: Instant,
    },
    /// The group is gone; what it left behind may still run.
    Lingering {
        until: Instant,
    },
    Killed {
        until: Instant,
        again: Instant,
    },
}

/// The kill escalation of one command.
#[derive(Debug)]
pub struct Escalation {
    grace: Duration,
    phase: Phase,
    requested: Option<Cancel>,
    ended_by: EndedBy,
}

impl Escalation {
    /// Starts with a command that runs.
    pub fn new(grace: Duration) -> Self {
        Self {
            grace,
            phase: Phase::Running,
            requested: None,
            ended_by: EndedBy::Exit,
        }
    }

    /// Requests the end of the command. A kill overrides a terminate, never the other way round.
    pub fn request(&mut self, cancel: Cancel) {
        self.requested = self.requested.max(Some(cancel));
    }

    pub fn next(&mut self, state: TreeState, now: Instant) -> NextStep {
        match self.phase {
            Phase::Running if state.main_ended => self.linger(state, now, now + LINGER),
            Phase::Running => match self.requested {
                None => NextStep::Wait(None),
                Some(Cancel::Terminate) => {
                    self.ended_by = EndedBy::Terminate;
                    self.phase = Phase::Signalled {
                        until: now + self.grace,
                    };
                    NextStep::Signal
                }
                Some(Cancel::Kill) => self.kill(now),
            },
            Phase::Signalled { until } if state.main_ended && state.group_empty => {
                self.linger(state, now, until.min(now + LINGER))
            }
            Phase::Signalled { until } if self.requested == Some(Cancel::Kill) || now >= until => {
                self.kill(now)
            }
            Phase::Signalled { until } => NextStep::Wait(Some(until)),
            Phase::Lingering { until } => self.lingering(state, now, until),
            Phase::Killed { until, again } => self.killed(state, now, until, again),
        }
    }

    fn linger(&mut self, state: TreeState, now: Instant, until: Instant) -> NextStep {
        self.phase = Phase::Lingering { until };
        self.lingering(state, now, until)
    }

    fn lingering(&mut self, state: TreeState, now: Instant, until: Instant) -> NextStep {
        match (state.tree_empty, state.output_open) {
            (true, false) => NextStep::Done(self.ended_by, Tree::Empty),
            // A process outside the tree holds the pipe: nothing is left to kill.
            (true, true) if now >= until => NextStep::Done(self.ended_by, Tree::Empty),
            (false, _) if now >= until || self.requested == Some(Cancel::Kill) => self.kill(now),
            _ => NextStep::Wait(Some(until)),
        }
    }

    fn kill(&mut self, now: Instant) -> NextStep {
        // After a normal end only leftovers are killed, and the outcome stays a normal end.
        if !matches!(
            (self.phase, self.ended_by),
            (Phase::Lingering { .. }, EndedBy::Exit)
        ) {
            self.ended_by = EndedBy::Kill;
        }

        self.phase = Phase::Killed {
            until: now + EMPTY_WAIT,
            again: now + KILL_AGAIN,
        };

        NextStep::Kill
    }

    fn killed(
        &mut self,
        state: TreeState,
        now: Instant,
        until: Instant,
        again: Instant,
    ) -> NextStep {
        let gone = state.main_ended && state.tree_empty;
        if gone && !state.output_open {
            NextStep::Done(self.ended_by, Tree::Empty)
        } else if now >= until {
            NextStep::Done(self.ended_by, if gone { Tree::Empty } else { Tree::Left })
        } else if gone {
            // The rest of the output is read; a pipe that is held from outside delays this only
            // until the end of the wait.
            NextStep::Wait(Some(until))
        } else if now >= again {
            self.phase = Phase::Killed {
                until,
                again: now + KILL_AGAIN,
            };

            NextStep::Kill
        } else {
            NextStep::Wait(Some(again.min(until)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(10);
    const RUNNING: TreeState = TreeState {
        main_ended: false,
        group_empty: false,
        tree_empty: false,
        output_open: true,
    };
    const GONE: TreeState = TreeState {
        main_ended: true,
        group_empty: true,
        tree_empty: true,
        output_open: false,
    };
    const LEFTOVER: TreeState = TreeState {
        tree_empty: false,
        ..GONE
    };
    const HELD: TreeState = TreeState {
        output_open: true,
        ..GONE
    };

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// Milliseconds since the start, a request, the state, the expected step.
    type Moment = (u64, Option<Cancel>, TreeState, fn(Instant) -> NextStep);

    fn check(moments: &[Moment]) {
        let start = Instant::now();
        let mut escalation = Escalation::new(GRACE);
        for (i, (ms, request, state, expected)) in moments.iter().enumerate() {
            request
                .iter()
                .for_each(|&cancel| escalation.request(cancel));
            assert_eq!(
                escalation.next(*state, at(start, *ms)),
                expected(start),
                "step {i}"
            );
        }
    }

    #[test]
    fn a_normal_end_is_an_exit() {
        check(&[
            (0, None, RUNNING, |_| NextStep::Wait(None)),
            (5, None, GONE, |_| {
                NextStep::Done(EndedBy::Exit, Tree::Empty)
            }),
        ]);
    }

    #[test]
    fn leftovers_of_a_normal_end_are_killed_after_the_linger() {
        check(&[
            (0, None, LEFTOVER, |s| NextStep::Wait(Some(at(s, 1000)))),
            (1000, None, LEFTOVER, |_| NextStep::Kill),
            (1001, None, GONE, |_| {
                NextStep::Done(EndedBy::Exit, Tree::Empty)
            }),
        ]);
    }

    #[test]
    fn a_pipe_held_from_outside_is_waited_for_one_second() {
        check(&[
            (0, None, HELD, |s| NextStep::Wait(Some(at(s, 1000)))),
            (1000, None, HELD, |_| {
                NextStep::Done(EndedBy::Exit, Tree::Empty)
            }),
        ]);
    }

    #[test]
    fn an_end_within_the_grace_is_a_terminate() {
        check(&[
            (0, Some(Cancel::Terminate), RUNNING, |_| NextStep::Signal),
            (0, None, RUNNING, |s| NextStep::Wait(Some(at(s, 10_000)))),
            (9_000, None, GONE, |_| {
                NextStep::Done(EndedBy::Terminate, Tree::Empty)
            }),
        ]);
    }

    #[test]
    fn a_command_that_ignores_the_signal_is_killed_after_the_grace() {
        check(&[
            (0, Some(Cancel::Terminate), RUNNING, |_| NextStep::Signal),
            (9_999, Some(Cancel::Terminate), RUNNING, |s| {
                NextStep::Wait(Some(at(s, 10_000)))
            }),
            (10_000, None, RUNNING, |_| NextStep::Kill),
            (10_010, None, RUNNING, |s| {
                NextStep::Wait(Some(at(s, 10_050)))
            }),
            (10_050, None, RUNNING, |_| NextStep::Kill),
            (10_051, None, GONE, |_| {
                NextStep::Done(EndedBy::Kill, Tree::Empty)
            }),
        ]);
    }

    #[test]
    fn the_grace_is_for_the_group_and_the_linger_for_the_rest() {
        let group = TreeState {
            group_empty: false,
            ..LEFTOVER
        };

        check(&[
            (0, Some(Cancel::Terminate), RUNNING, |_| NextStep::Signal),
            (10, None, group, |s| NextStep::Wait(Some(at(s, 10_000)))),
            (5_000, None, LEFTOVER, |s| {
                NextStep::Wait(Some(at(s, 6_000)))
            }),
            (6_000, None, LEFTOVER, |_| NextStep::Kill),
            (6_001, None, GONE, |_| {
                NextStep::Done(EndedBy::Kill, Tree::Empty)
            }),
        ]);
    }

    #[test]
    fn leftovers_do_not_outlive_the_grace() {
        check(&[
            (0, Some(Cancel::Terminate), RUNNING, |_| NextStep::Signal),
            (9_900, None, LEFTOVER, |s| {
                NextStep::Wait(Some(at(s, 10_000)))
            }),
            (10_000, None, LEFTOVER, |_| NextStep::Kill),
            (10_001, None, GONE, |_| {
                NextStep::Done(EndedBy::Kill, Tree::Empty)
            }),
        ]);
    }

    #[test]
    fn a_kill_escalates_at_once_and_survivors_are_reported_as_left() {
        check(&[
            (0, Some(Cancel::Terminate), RUNNING, |_| NextStep::Signal),
            (100, Some(Cancel::Kill), RUNNING, |_| NextStep::Kill),
            (5_100, None, RUNNING, |_| {
                NextStep::Done(EndedBy::Kill, Tree::Left)
            }),
        ]);

        check(&[(0, Some(Cancel::Kill), RUNNING, |_| NextStep::Kill)]);
    }

    proptest! {
        #[test]
        fn every_request_leads_to_an_end_in_bounded_time(
            requests in prop::collection::vec((0_u64..20_000, prop::bool::ANY), 1..5),
            dies_at in prop::option::of(0_u64..30_000), group_at in 0_u64..30_000, tree_at in 0_u64..40_000,
            pipe_at in 0_u64..40_000,
        ) {
            let start = Instant::now();
            let mut escalation = Escalation::new(GRACE);
            let first = requests.iter().map(|(ms, _)| *ms).min().unwrap_or_default();
            let (mut ms, mut killed, mut done) = (0, false, None);

            while done.is_none() {
                for (_, kill) in requests.iter().filter(|(when, _)| *when <= ms) {
                    escalation.request(if *kill { Cancel::Kill } else { Cancel::Terminate });
                }

                let main_ended = dies_at.is_some_and(|at| at <= ms);
                let group_empty = main_ended && group_at <= ms;
                let tree_empty = group_empty && tree_at <= ms;
                let output_open = pipe_at > ms;
                let state = TreeState { main_ended, group_empty, tree_empty, output_open };
                match escalation.next(state, at(start, ms)) {
                    NextStep::Signal => prop_assert!(!killed && ms >= first),
                    NextStep::Kill => {
                        let forced = requests.iter().any(|(when, kill)| *kill && *when <= ms);
                        prop_assert!(main_ended || forced || ms >= first + 10_000);
                        killed = true;
                    }
                    NextStep::Wait(_) => ms += 10,
                    NextStep::Done(ended_by, tree) => {
                        prop_assert_eq!(tree == Tree::Empty, main_ended && tree_empty);
                        prop_assert!(killed || tree == Tree::Empty);
                        prop_assert!(ended_by != EndedBy::Exit || main_ended);
                        done = Some(ms);
                    }
                }

                prop_assert!(ms <= first.max(dies_at.unwrap_or(0)) + 10_000 + 1_000 + 5_000 + 100);
            }
        }
    }
}
