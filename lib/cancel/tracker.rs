//! The worker's side of cancellation: tracks every cancellation under way. Within the worker's
//! tick, in its transaction, each one proceeds as far as it can; what happens outside of the
//! transaction is returned as [`Action`]s.
//!
//! Like the worker's memory of its jobs, the tracker is a copy that replaces the former one only
//! after the commit.

use std::time::{Duration, Instant};

use crate::base::Result;
use crate::base::config::Pauses;
use crate::cancel::cleaner::CleanUpReport;
use crate::cancel::tracked::{Action, Phase, Tracked};
use crate::db::cancellations;
use crate::queue::tick_state::Tick;

#[derive(Clone, Debug)]
pub struct Tracker {
    grace: Duration,
    pauses: Pauses,
    tracked: Vec<Tracked>,
}

impl Tracker {
    /// An empty tracker. `grace`: the time that runner and helper leave between SIGTERM and
    /// SIGKILL. `pauses`: between the attempts to clean up.
    pub fn new(grace: Duration, pauses: Pauses) -> Self {
        Self {
            grace,
            pauses,
            tracked: Vec::new(),
        }
    }

    /// Adds a report of the cleaner, for the next tick. One that comes after its deadline has no
    /// use any more.
    pub fn add_report(&mut self, new: CleanUpReport) {
        let mut tracked = self.tracked.iter_mut();
        if let Some(tracked) = tracked.find(|tracked| tracked.id == new.id)
            && let Phase::Checking { report, .. } = &mut tracked.phase
        {
            *report = Some(new);
        }
    }

    /// When a tick is due although nothing else has happened.
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = |tracked: &Tracked| match &tracked.phase {
            Phase::Terminating { deadline, .. } => Some(*deadline),
            Phase::Checking { .. } if self.waits_for_others(tracked) => None,
            Phase::Checking { report, .. } if report.is_some() => Some(Instant::now()),
            Phase::Checking { deadline, .. } => Some(*deadline),
        };
        self.tracked.iter().filter_map(deadline).min()
    }

    /// A job ends only when no other cancellation of it is under way.
    fn waits_for_others(&self, tracked: &Tracked) -> bool {
        let is_other = |other: &Tracked| other.job == tracked.job && other.id != tracked.id;
        tracked.task.is_none() && self.tracked.iter().any(is_other)
    }

    /// Takes every cancellation as far as it can go now. Returns what to do after the commit.
    pub fn advance(&mut self, tick: &mut Tick<'_>) -> Result<Vec<Action>> {
        let mut actions = Vec::new();
        for record in cancellations::active(tick.tx)? {
            let mut tracked = self.tracked.iter_mut();
            match tracked.find(|tracked| tracked.id == record.id) {
                Some(tracked) => tracked.escalate(tick, &record, &mut actions),
                None => {
                    let new = Tracked::begin(tick, &record, self.grace, &mut actions)?;
                    self.tracked.extend(new);
                }
            }
        }

        for tracked in &mut self.tracked {
            tracked.terminate(tick, &self.pauses, &mut actions)?;
        }

        // Those of single tasks first: the job's own waits for them.
        let (of_jobs, of_tasks): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tracked)
            .into_iter()
            .partition(|tracked| tracked.task.is_none());
        for mut tracked in of_tasks.into_iter().chain(of_jobs) {
            if self.waits_for_others(&tracked) || !tracked.finish(tick, &mut actions)? {
                self.tracked.push(tracked);
            }
        }

        Ok(actions)
    }
}
