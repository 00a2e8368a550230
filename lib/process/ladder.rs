//! How a command's tree is ended, decided purely: the caller says what it sees and what time it is, and is told the
//! next step.
//!
//! first signal to the group -> grace -> SIGKILL to the group and cgroup.kill -> wait for the tree to be empty.
//!
//! The grace is for the command and its group. What is left once these are gone (a child that moved to a session of
//! its own, or holds our pipe) gets [`LINGER`], but no longer than the grace, and is then killed, also after a normal end.

use std::time::{Duration, Instant};

use crate::wire::{Cancel, EndedBy, Tree};

/// How long what a command left behind may go on, and how long pipes it holds open are waited for.
pub const LINGER: Duration = Duration::from_secs(1);

/// How long a killed tree may take to be gone.
pub const EMPTY_WAIT: Duration = Duration::from_secs(5);

/// How often the kill is repeated meanwhile, for trees that fork while they die.
const KILL_AGAIN: Duration = Duration::from_millis(50);

/// What the caller sees at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The command's main process has ended.
    pub main_ended: bool,
    /// Its process group has no member.
    pub group_empty: bool,
    /// No process of its tree exists.
    pub tree_empty: bool,
    /// Output may still come.
    pub output_open: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the first signal to the group, then ask again.
    Ask,
    /// SIGKILL to the group, then cgroup.kill and every descendant, then ask again.
    Kill,
    /// Nothing before this time, unless something happens.
    Wait(Option<Instant>),
    /// It is over.
    Done(EndedBy, Tree),
}

#[derive(Clone, Copy, Debug)]
enum Rung {
    Running,
    /// The first signal was sent.
    Asked {
        until: Instant,
    },
    /// The group is gone; the rest is waited for.
    Leaving {
        until: Instant,
    },
    Killed {
        until: Instant,
        again: Instant,
    },
}

/// The state of one command's end.
#[derive(Debug)]
pub struct Ladder {
    grace: Duration,
    rung: Rung,
    wanted: Option<Cancel>,
    ended_by: EndedBy,
}

impl Ladder {
    /// A command that runs.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { grace, rung: Rung::Running, wanted: None, ended_by: EndedBy::Exit }
    }

    /// Somebody wants it to end. A kill escalates; a second, weaker wish changes nothing.
    pub fn want(&mut self, cancel: Cancel) {
        self.wanted = self.wanted.max(Some(cancel));
    }

    /// The next step.
    pub fn next(&mut self, seen: Seen, now: Instant) -> Step {
        match self.rung {
            Rung::Running if seen.main_ended => self.leave(seen, now, now + LINGER),
            Rung::Running => match self.wanted {
                None => Step::Wait(None),
                Some(Cancel::Terminate) => {
                    self.ended_by = EndedBy::Terminate;
                    self.rung = Rung::Asked { until: now + self.grace };
                    Step::Ask
                }
                Some(Cancel::Kill) => self.kill(now),
            },
            Rung::Asked { until } if seen.main_ended && seen.group_empty => {
                self.leave(seen, now, until.min(now + LINGER))
            }
            Rung::Asked { until } if self.wanted == Some(Cancel::Kill) || now >= until => self.kill(now),
            Rung::Asked { until } => Step::Wait(Some(until)),
            Rung::Leaving { until } => self.leaving(seen, now, until),
            Rung::Killed { until, again } => self.killed(seen, now, until, again),
        }
    }

    fn leave(&mut self, seen: Seen, now: Instant, until: Instant) -> Step {
        self.rung = Rung::Leaving { until };
        self.leaving(seen, now, until)
    }

    fn leaving(&mut self, seen: Seen, now: Instant, until: Instant) -> Step {
        match (seen.tree_empty, seen.output_open) {
            (true, false) => Step::Done(self.ended_by, Tree::Empty),
            // Somebody outside the tree holds the pipe: nothing of ours is left to end.
            (true, true) if now >= until => Step::Done(self.ended_by, Tree::Empty),
            (false, _) if now >= until || self.wanted == Some(Cancel::Kill) => self.kill(now),
            _ => Step::Wait(Some(until)),
        }
    }

    fn kill(&mut self, now: Instant) -> Step {
        // After a normal end only leftovers are killed: the command itself ended by itself.
        if !matches!((self.rung, self.ended_by), (Rung::Leaving { .. }, EndedBy::Exit)) {
            self.ended_by = EndedBy::Kill;
        }
        self.rung = Rung::Killed { until: now + EMPTY_WAIT, again: now + KILL_AGAIN };
        Step::Kill
    }

    fn killed(&mut self, seen: Seen, now: Instant, until: Instant, again: Instant) -> Step {
        let gone = seen.main_ended && seen.tree_empty;
        if gone && !seen.output_open {
            Step::Done(self.ended_by, Tree::Empty)
        } else if now >= until {
            Step::Done(self.ended_by, if gone { Tree::Empty } else { Tree::Left })
        } else if gone {
            // What is still in the pipes is read; one that is held from outside is not waited for long.
            Step::Wait(Some(until))
        } else if now >= again {
            self.rung = Rung::Killed { until, again: now + KILL_AGAIN };
            Step::Kill
        } else {
            Step::Wait(Some(again.min(until)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(10);
    const RUNNING: Seen = Seen { main_ended: false, group_empty: false, tree_empty: false, output_open: true };
    const GONE: Seen = Seen { main_ended: true, group_empty: true, tree_empty: true, output_open: false };
    const LEFTOVER: Seen = Seen { main_ended: true, group_empty: true, tree_empty: false, output_open: false };
    const HELD: Seen = Seen { main_ended: true, group_empty: true, tree_empty: true, output_open: true };

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    /// Milliseconds, a wish, what is seen, the step that follows.
    type Chapter = (u64, Option<Cancel>, Seen, fn(Instant) -> Step);

    fn story(steps: &[Chapter]) {
        let start = Instant::now();
        let mut ladder = Ladder::new(GRACE);
        for (i, (ms, wish, seen, expected)) in steps.iter().enumerate() {
            wish.iter().for_each(|&wish| ladder.want(wish));
            assert_eq!(ladder.next(*seen, at(start, *ms)), expected(start), "step {i}");
        }
    }

    #[test]
    fn a_normal_end_is_an_exit() {
        story(&[(0, None, RUNNING, |_| Step::Wait(None)), (5, None, GONE, |_| Step::Done(EndedBy::Exit, Tree::Empty))]);
    }

    #[test]
    fn leftovers_of_a_normal_end_are_killed_after_the_linger_and_it_stays_an_exit() {
        story(&[
            (0, None, LEFTOVER, |s| Step::Wait(Some(at(s, 1000)))),
            (1000, None, LEFTOVER, |_| Step::Kill),
            (1001, None, GONE, |_| Step::Done(EndedBy::Exit, Tree::Empty)),
        ]);
    }

    #[test]
    fn a_pipe_that_is_held_from_outside_is_waited_for_one_second() {
        story(&[
            (0, None, HELD, |s| Step::Wait(Some(at(s, 1000)))),
            (1000, None, HELD, |_| Step::Done(EndedBy::Exit, Tree::Empty)),
        ]);
    }

    #[test]
    fn who_obeys_within_the_grace_ended_by_terminate() {
        story(&[
            (0, Some(Cancel::Terminate), RUNNING, |_| Step::Ask),
            (0, None, RUNNING, |s| Step::Wait(Some(at(s, 10_000)))),
            (9_000, None, GONE, |_| Step::Done(EndedBy::Terminate, Tree::Empty)),
        ]);
    }

    #[test]
    fn who_ignores_the_request_is_killed_after_the_grace_and_not_before() {
        story(&[
            (0, Some(Cancel::Terminate), RUNNING, |_| Step::Ask),
            (9_999, Some(Cancel::Terminate), RUNNING, |s| Step::Wait(Some(at(s, 10_000)))),
            (10_000, None, RUNNING, |_| Step::Kill),
            (10_010, None, RUNNING, |s| Step::Wait(Some(at(s, 10_050)))),
            (10_050, None, RUNNING, |_| Step::Kill),
            (10_051, None, GONE, |_| Step::Done(EndedBy::Kill, Tree::Empty)),
        ]);
    }

    #[test]
    fn the_grace_goes_on_while_the_group_has_members_and_the_rest_gets_the_linger() {
        let group = Seen { group_empty: false, ..LEFTOVER };
        story(&[
            (0, Some(Cancel::Terminate), RUNNING, |_| Step::Ask),
            (10, None, group, |s| Step::Wait(Some(at(s, 10_000)))),
            (5_000, None, LEFTOVER, |s| Step::Wait(Some(at(s, 6_000)))),
            (6_000, None, LEFTOVER, |_| Step::Kill),
            (6_001, None, GONE, |_| Step::Done(EndedBy::Kill, Tree::Empty)),
        ]);
    }

    #[test]
    fn who_obeys_at_the_end_of_the_grace_leaves_nothing_that_outlives_it() {
        story(&[
            (0, Some(Cancel::Terminate), RUNNING, |_| Step::Ask),
            (9_900, None, LEFTOVER, |s| Step::Wait(Some(at(s, 10_000)))),
            (10_000, None, LEFTOVER, |_| Step::Kill),
            (10_001, None, GONE, |_| Step::Done(EndedBy::Kill, Tree::Empty)),
        ]);
    }

    #[test]
    fn a_kill_escalates_at_once_and_what_will_not_die_is_told_as_left() {
        story(&[
            (0, Some(Cancel::Terminate), RUNNING, |_| Step::Ask),
            (100, Some(Cancel::Kill), RUNNING, |_| Step::Kill),
            (5_100, None, RUNNING, |_| Step::Done(EndedBy::Kill, Tree::Left)),
        ]);
        story(&[(0, Some(Cancel::Kill), RUNNING, |_| Step::Kill)]);
    }

    proptest! {
        #[test]
        fn every_wish_leads_to_an_end_in_bounded_time_and_never_back_down(
            wishes in prop::collection::vec((0_u64..20_000, prop::bool::ANY), 1..5),
            dies_at in prop::option::of(0_u64..30_000), group_at in 0_u64..30_000, tree_at in 0_u64..40_000,
            pipe_at in 0_u64..40_000,
        ) {
            let start = Instant::now();
            let mut ladder = Ladder::new(GRACE);
            let first = wishes.iter().map(|(ms, _)| *ms).min().unwrap_or_default();
            let (mut ms, mut killed, mut done) = (0, false, None);
            while done.is_none() {
                for (when, kill) in &wishes {
                    if *when <= ms { ladder.want(if *kill { Cancel::Kill } else { Cancel::Terminate }); }
                }
                let main_ended = dies_at.is_some_and(|at| at <= ms);
                let group_empty = main_ended && group_at <= ms;
                let tree_empty = group_empty && tree_at <= ms;
                let seen = Seen { main_ended, group_empty, tree_empty, output_open: pipe_at > ms };
                match ladder.next(seen, at(start, ms)) {
                    Step::Ask => prop_assert!(!killed && ms >= first),
                    Step::Kill => {
                        let forced = wishes.iter().any(|(when, kill)| *kill && *when <= ms);
                        prop_assert!(main_ended || forced || ms >= first + 10_000);
                        killed = true;
                    }
                    Step::Wait(_) => ms += 10,
                    Step::Done(ended_by, tree) => {
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
