//! Decides which queued jobs may start, oldest first. A job may start when neither a running job
//! nor an older queued job conflicts with it. Two jobs conflict when either is exclusive, when they
//! share a server, or when both only ask Steam. So there is one job per server at a time, different servers run in
//! parallel, an exclusive job runs alone, and no two jobs run steamcmd at once. No job may overtake an older one that it would delay:
//! newer server jobs cannot starve an old install.

use std::collections::HashSet;

use crate::base::names::{JobId, ServerId};

/// What the schedule needs to know of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The job; ids grow in the order of acceptance.
    pub id: JobId,
    /// Whether it runs alone.
    pub exclusive: bool,
    /// Whether it asks Steam, beside jobs of servers.
    pub asks: bool,
    pub servers: Vec<ServerId>,
}

/// The state of the decision while candidates are considered, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// The servers of running and of older queued jobs.
    taken: HashSet<ServerId>,
    /// A running or older job is exclusive, so no other job may start.
    closed: bool,
    /// A running or older job asks Steam.
    asking: bool,
    /// Whether any job is running or older.
    anybody: bool,
}

impl Schedule {
    /// A schedule with the jobs that are running or being cancelled.
    pub fn with_running<'a>(running: impl IntoIterator<Item = &'a Candidate>) -> Self {
        let mut schedule = Schedule::default();
        for job in running {
            schedule.take(job);
        }
        schedule
    }

    /// Whether `job` may start now. Call it for the oldest job first. The servers of `job` then
    /// count as taken, whether it starts or waits.
    pub fn consider(&mut self, job: &Candidate) -> bool {
        let may_start = self.has_room_for(job);
        self.take(job);
        may_start
    }

    /// Whether `job` conflicts with no job that was considered. Nothing is taken: this is for jobs
    /// that still wait for a condition, and so delay no other.
    pub fn has_room_for(&self, job: &Candidate) -> bool {
        let conflicts = self.closed
            || (job.exclusive && self.anybody)
            || (job.asks && self.asking)
            || job.servers.iter().any(|server| self.taken.contains(server));
        !conflicts
    }

    /// Whether no later job can start, so that the rest of the queue need not be considered.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a running or older job has taken `server`.
    pub fn is_taken(&self, server: ServerId) -> bool {
        self.closed || self.taken.contains(&server)
    }

    fn take(&mut self, job: &Candidate) {
        self.anybody = true;
        self.closed |= job.exclusive;
        self.asking |= job.asks;
        self.taken.extend(job.servers.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn job(id: i64, servers: &[i64]) -> Candidate {
        Candidate {
            id: JobId(id),
            exclusive: servers.is_empty(),
            asks: false,
            servers: servers.iter().map(|&s| ServerId(s)).collect(),
        }
    }

    fn check(id: i64) -> Candidate {
        Candidate {
            exclusive: false,
            asks: true,
            ..job(id, &[])
        }
    }

    #[test]
    fn a_check_runs_beside_jobs_of_servers_but_not_beside_another_steamcmd() {
        let mut schedule = Schedule::with_running(&[job(1, &[1])]);
        assert!(schedule.consider(&check(2)));
        assert!(schedule.consider(&job(3, &[2])));
        assert!(!schedule.consider(&check(4)), "one after the other");
        assert!(!schedule.consider(&job(5, &[])), "an install waits for it");
        assert!(!schedule.consider(&check(6)) && !schedule.consider(&job(7, &[3])));

        let mut installing = Schedule::with_running(&[job(1, &[])]);
        assert!(!installing.consider(&check(2)));
    }

    fn conflict(a: &Candidate, b: &Candidate) -> bool {
        a.exclusive
            || b.exclusive
            || (a.asks && b.asks)
            || a.servers.iter().any(|server| b.servers.contains(server))
    }

    #[test]
    fn an_old_install_is_not_starved_by_newer_server_jobs() {
        let mut schedule = Schedule::with_running([&job(1, &[1])]);
        assert!(!schedule.consider(&job(2, &[])));
        assert!(
            !schedule.consider(&job(3, &[2])),
            "a newer job must not overtake the install"
        );
        assert!(schedule.is_closed());
    }

    #[test]
    fn different_servers_go_side_by_side_and_one_server_in_order() {
        let mut schedule = Schedule::with_running([&job(1, &[1])]);
        assert!(!schedule.consider(&job(2, &[1, 2])));
        assert!(
            !schedule.consider(&job(3, &[2])),
            "server 2 waits for the older job 2"
        );
        assert!(schedule.consider(&job(4, &[3])));
    }

    fn jobs() -> impl Strategy<Value = Vec<Candidate>> {
        // An empty set of servers stands for an exclusive job: about one in eight; server 8 for a
        // check.
        proptest::collection::vec(proptest::collection::btree_set(1_i64..9, 0..4), 1..40).prop_map(
            |all| {
                all.into_iter()
                    .zip(1..)
                    .map(|(servers, id)| match servers.contains(&8) {
                        true => check(id),
                        false => job(id, &servers.into_iter().collect::<Vec<_>>()),
                    })
                    .collect()
            },
        )
    }

    proptest! {
        /// Runs random jobs to their end: at each step every job that may start does, up to a limit
        /// of slots, and one running job, picked at random, ends.
        #[test]
        fn no_two_conflicting_jobs_ever_run_and_no_queued_job_starves(
            all in jobs(), slots in 1_usize..5, picks in proptest::collection::vec(0_usize..1000, 40),
        ) {
            let mut queued = all.clone();
            let mut running: Vec<Candidate> = Vec::new();

            let mut started: Vec<Candidate> = Vec::new();
            for pick in picks {
                let mut schedule = Schedule::with_running(&running);
                let mut waiting = Vec::new();
                for job in queued {
                    if schedule.consider(&job) && running.len() < slots {
                        for other in &running {
                            prop_assert!(!conflict(&job, other), "{job:?} beside {other:?}");
                        }
                        for older in &waiting {
                            prop_assert!(!conflict(&job, older), "{job:?} overtook {older:?}");
                        }
                        started.push(job.clone());
                        running.push(job);
                    } else {
                        waiting.push(job);
                    }
                }

                queued = waiting;
                prop_assert!(!running.is_empty() || queued.is_empty(), "nothing runs although a \
                    job waits");
                if !running.is_empty() {
                    running.swap_remove(pick % running.len());
                }
            }

            prop_assert_eq!(started.len(), all.len(), "each round ends one job, \
                                                       so all had their turn");

            for (earlier, a) in started.iter().enumerate() {
                for b in &started[earlier..] {
                    prop_assert!(!conflict(a, b) || a.id <= b.id, "conflicting jobs run in the \
                        order of acceptance");
                }
            }
        }
    }
}
