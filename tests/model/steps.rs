//! The effect of each action. A transaction is one step: SQLite allows one writer at a time.

use left4me::domain::job::JobState::{Cancelled, Cancelling, Failed, Queued, Running, Succeeded};

use super::moves::Action;
use super::rules::World;
use super::state::{
    At, Batch, Client, Command, HAND, Hold, JOBS, Job, Phase, Record, Row, State, UNIT, Worker,
    each,
};
use Action as A;

impl World {
    pub fn apply(&self, s: &mut State, action: Action) {
        match action {
            A::Enqueue(job) => {
                if !self.rules.commits_before_it_notifies && s.jobs[job].client == Client::Absent {
                    s.notified = true;
                    s.jobs[job].client = Client::NotifiedEarly;
                    return;
                }

                let notified_early = s.jobs[job].client == Client::NotifiedEarly;
                s.jobs[job].client = if notified_early {
                    Client::Gone
                } else {
                    Client::Committed
                };

                s.set(job, Queued);
                if self.specs[job].waits {
                    s.jobs[job].hold = Hold::Waiting;
                }
                committed(s);
            }
            A::Notify(job) => {
                s.jobs[job].client = Client::Gone;
                s.notified = true;
            }
            A::ClientDies(job) => {
                s.left.deaths -= 1;
                s.jobs[job].client = Client::Gone;
                s.unnotified = true;
            }
            A::Cancel(job) => self.cancel(s, job),
            A::CancelUnguarded(job) => {
                s.jobs[job].read_running = false;
                self.cancel_running(s, job);
            }
            A::CancelNotify(job) => {
                s.jobs[job].pending_notifies -= 1;
                s.notified = true;
            }
            A::RequesterDies(job) => {
                s.left.deaths -= 1;
                s.jobs[job].pending_notifies -= 1;
                s.unnotified = true;
            }
            A::Pause => {
                s.left.pauses -= 1;
                s.paused = true;
                committed(s);
            }
            A::Resume => {
                s.paused = false;
                s.resume_pending = self.rules.resume_notifies;
                committed(s);
            }
            A::ResumeNotify => {
                s.resume_pending = false;
                s.notified = true;
            }
            A::Start => {
                s.workers[UNIT] = Worker {
                    at: At::Open,
                    ..Worker::DOWN
                }
            }
            A::StartByHand => {
                s.left.by_hand -= 1;
                s.workers[HAND] = Worker {
                    at: At::Open,
                    ..Worker::DOWN
                };
            }
            A::PollerNotifies => s.notified = true,
            A::Poll => {
                s.seen_empty = !s.playing;
                let wakes = self.rules.poller_wakes_for_waiting_jobs && self.can_act(s);
                s.notified |= wakes;
                committed(s);
            }
            A::Join => {
                s.left.joins -= 1;
                s.playing = true;
                let is_moment = self.rules.confirmations_expire;
                let confirmed = s.mask(|job| job.hold == Hold::Confirmed) != 0;
                s.came_late |= is_moment && confirmed;
            }
            A::Leave => (s.playing, s.came_late) = (false, false),
            A::Deadline => {
                s.left.deadlines -= 1;
                s.due = true;
            }
            A::Answer(job) => {
                s.jobs[job].hold = match s.playing {
                    true => Hold::Waiting,
                    false => Hold::Confirmed,
                };
                // What was found counts more than what the last poll saw.
                s.seen_empty &= !s.playing;
                if self.rules.an_answer_wakes_the_worker {
                    wake_all(s);
                }
            }
            A::Expire(job) => {
                s.left.expiries -= 1;
                s.jobs[job].hold = Hold::Waiting;
                // With it goes the excuse. A worker that waits for a slot looks again every second.
                s.came_late = false;
                wake_all(s);
            }
            A::Sigterm => {
                s.left.sigterms -= 1;
                s.workers[UNIT].signal = true;
            }
            A::Kill9 => {
                s.left.crashes -= 1;
                self.die(s);
            }
            A::Step(at) => self.step(s, at),
            A::Wake(at) => self.wake(s, at),
            A::IdleTime(at) => {
                s.workers[at].idle = true;
                self.wake(s, at);
            }
            A::Connect(job) => self.connect(s, job),
            A::Trace(job) => s.jobs[job].row = Row::Open,
            A::EndsByItself(job) => ended(s, job, true, Row::None),
            A::FindsNothing(job) => {
                s.jobs[job].found_nothing = true;
                ended(s, job, true, Row::None);
            }
            A::EndsOnSignal(job) => self.ends_on_signal(s, job),
            A::BatchCloses => s.batch = Batch::Closing,
            A::BatchEnds => s.batch = Batch::None,
            A::HelperDies => self.helper_dies(s),
            A::OrphanEnds(job) => s.jobs[job].command = Command::None,
            A::Survives(job) => {
                s.left.unkillable -= 1;
                s.jobs[job].unkillable = true;
                match s.jobs[job].command {
                    // The answer says that the tree is left.
                    Command::Ending => ended(s, job, false, Row::Held),
                    _ => s.jobs[job].command = Command::None,
                }
            }
            A::DiesLater(job) => s.jobs[job].unkillable = false,
            A::Report(job) => {
                s.jobs[job].phase = Phase::Reported;
                wake_owner(s, job);
            }
        }
    }

    /// The cancel request, in one transaction.
    fn cancel(&self, s: &mut State, job: usize) {
        s.left.cancels -= 1;
        match s.jobs[job].state {
            Some(Queued) => {
                s.set(job, Cancelled);
                s.jobs[job].record = Record::BeforeExecution;
                s.jobs[job].pending_notifies += u8::from(self.rules.cancel_of_queued_notifies);
                committed(s);
            }
            Some(Running) if self.rules.cancel_is_guarded_by_running => self.cancel_running(s, job),
            Some(Running) => s.jobs[job].read_running = true,
            // The same record is returned.
            _ => s.jobs[job].pending_notifies += 1,
        }
    }

    fn cancel_running(&self, s: &mut State, job: usize) {
        s.set(job, Cancelling);
        s.jobs[job].record = Record::Live;
        s.jobs[job].pending_notifies += u8::from(self.rules.cancel_of_running_notifies);
        committed(s);
    }

    /// kill -9: the connections close, and runner and helper end the commands.
    fn die(&self, s: &mut State) {
        for job in each(s.workers[UNIT].jobs) {
            let job = &mut s.jobs[job];
            job.command = match job.command {
                Command::Running | Command::Ending => Command::Orphan,
                _ => Command::None,
            };

            job.phase = Phase::None;
        }

        // The thread that asks dies too.
        for job in s.jobs.iter_mut().filter(|job| job.hold == Hold::Asking) {
            job.hold = Hold::Waiting;
        }

        s.batch = Batch::None;
        s.workers[UNIT] = Worker {
            restart: self.rules.restarts_on_failure,
            ..Worker::DOWN
        };
    }

    fn connect(&self, s: &mut State, job: usize) {
        let stopping = s.owner(job).is_some_and(|at| s.workers[at].stopping);
        let job = &mut s.jobs[job];
        let bit = 1 << job.ended;
        s.violations.went_on |= job.found_nothing && job.ended > 0;
        s.violations.ran_twice |= job.begun & bit != 0;
        s.violations.started_after_its_end |=
            job.is_terminal() || job.record == Record::BeforeExecution;
        job.begun |= bit;
        let is_cancelled =
            stopping || job.phase != Phase::None && self.rules.late_connections_are_cancelled;
        let is_lost = s.batch == Batch::Closing && !self.rules.a_closed_batch_takes_no_more;
        job.command = match (is_lost, is_cancelled) {
            (true, _) => Command::Lost,
            (false, true) => Command::Ending,
            (false, false) => Command::Running,
        };

        if self.rules.commands_write_their_row_first {
            job.row = Row::Open;
        }

        // A closing one stays beside the new one until the helper has ended.
        if self.batches && !is_lost {
            s.batch = Batch::Open;
        }
    }

    /// The helper ends the operation of a cancelled job, and no other one of its batch.
    fn ends_on_signal(&self, s: &mut State, job: usize) {
        ended(s, job, false, Row::None);
        if self.batches && !self.rules.a_cancellation_ends_one_operation {
            for other in each(s.mask(|job| job.command == Command::Running)) {
                s.violations.ended_by_another = true;
                ended(s, other, false, Row::None);
            }
        }
    }

    /// The connection breaks, and with it every operation of the batch.
    fn helper_dies(&self, s: &mut State) {
        s.left.helper_deaths -= 1;
        s.batch = Batch::None;
        let in_batch = s.mask(|job| matches!(job.command, Command::Running | Command::Ending));
        for job in each(in_batch) {
            if self.rules.a_broken_batch_ends_its_operations {
                ended(s, job, false, Row::None);
            } else {
                s.jobs[job].command = Command::Lost;
            }
        }
    }

    /// poll() has returned: notifications are read, then the signal.
    fn wake(&self, s: &mut State, at: usize) {
        let queued = s.queued() != 0;
        let ignores = s.workers[at].stopping && self.rules.stopping_keeps_notifications;
        if at == UNIT && !ignores && self.rules.drains_before_it_checks {
            s.notified = false;
        }

        let worker = &mut s.workers[at];
        (worker.woken, worker.watch, worker.at) = (false, false, At::Tick);
        if std::mem::take(&mut worker.signal) {
            worker.stopping = true;
            // A notification that was read has no effect any more, and is not sent again.
            s.unnotified |= queued;
            for job in each(worker.jobs) {
                end_command(s, job);
            }
        }
    }

    fn step(&self, s: &mut State, at: usize) {
        let next = match s.workers[at].at {
            At::Open => {
                s.notified &= at != UNIT;
                At::Lock
            }
            At::Lock if self.rules.takes_the_lock && !s.lock_is_free() => {
                let restart = at == UNIT && self.rules.restarts_on_failure;
                s.workers[at] = Worker {
                    restart,
                    ..Worker::DOWN
                };

                return;
            }
            At::Lock => At::FindDead,
            At::FindDead => self.find_dead(s),
            At::WaitForDead(mask) => At::Lose(mask),
            At::Lose(mask) => {
                self.lose(s, mask);
                At::FinishCancelled
            }
            At::FinishCancelled => {
                self.finish_cancelled(s);
                At::FailJobs
            }
            // A job may have been cancelled in between.
            At::FailJobs => {
                self.fail_jobs(s);
                if s.jobs.iter().any(|job| job.is(Cancelling)) {
                    At::FinishCancelled
                } else {
                    At::Tick
                }
            }
            At::Tick => match self.tick(s, at) {
                Some(picked) => At::Claim(picked),
                None => self.after_tick(s, at),
            },
            At::Claim(picked) => {
                self.claim(s, at, picked);
                self.after_tick(s, at)
            }
            At::LateDrain => {
                s.notified &= at != UNIT || s.workers[at].stopping;
                self.decide(s, at)
            }
            At::Socket if self.rules.checks_the_socket_before_exit && at == UNIT && s.notified => {
                At::Wait
            }
            At::Socket => At::Queue,
            At::Queue if self.rules.checks_the_queue_before_exit && has_claimable(s) => At::Wait,
            At::Queue => At::Exit,
            At::Exit => {
                s.notified &= self.rules.socket_keeps_notifications || at != UNIT;
                s.workers[at] = Worker::DOWN;
                return;
            }
            At::Down | At::Wait => return,
        };

        s.workers[at].at = next;
    }

    fn find_dead(&self, s: &mut State) -> At {
        let open = s.mask(|job| job.row == Row::Open);
        if !self.rules.rows_are_lost_after_the_wait {
            self.lose(s, open);
        }
        At::WaitForDead(open)
    }

    fn lose(&self, s: &mut State, mask: u8) {
        for job in each(mask) {
            s.jobs[job].row = if s.jobs[job].unkillable {
                Row::Held
            } else {
                Row::None
            };
        }
    }

    fn finish_cancelled(&self, s: &mut State) {
        for job in 0..JOBS {
            if s.jobs[job].is(Cancelling) {
                self.conclude(s, job, self.rules.recovery_finishes_records);
            }
        }
    }

    fn fail_jobs(&self, s: &mut State) {
        for job in 0..JOBS {
            if s.jobs[job].is(Running) {
                // With the rule broken it runs again.
                s.set(
                    job,
                    if self.rules.running_becomes_failed {
                        Failed
                    } else {
                        Queued
                    },
                );
            }
        }
    }

    fn conclude(&self, s: &mut State, job: usize, with_record: bool) {
        s.set(job, Cancelled);
        if with_record {
            s.jobs[job].record = if s.jobs[job].unkillable {
                Record::Failed
            } else {
                Record::Completed
            };
        }
    }

    /// One tick: one transaction, and what follows its commit. With a broken rule it returns what
    /// it would claim.
    fn tick(&self, s: &mut State, at: usize) -> Option<u8> {
        let Worker { jobs, stopping, .. } = s.workers[at];
        s.unnotified &= stopping;
        if !stopping {
            self.look(s);
        }
        let has_news = each(jobs).any(|job| matches!(s.jobs[job].command, Command::Ended { .. }));
        let live_record = s.jobs.iter().any(|job| job.record == Record::Live);
        let has_room = busy(s, jobs) < self.slots;
        let has_work = live_record
            && (self.rules.checks_cancellations_without_free_slots || has_room)
            || if stopping {
                jobs != 0
            } else {
                has_news || has_room && s.ready() != 0
            };

        if !has_work {
            return None;
        }

        for job in &mut s.jobs {
            // recover::release: the process that held its target has died.
            if job.row == Row::Held && !job.unkillable {
                job.row = Row::None;
            }
        }

        for id in each(jobs) {
            let job = &mut s.jobs[id];
            if let Command::Ended { ok } = job.command {
                let ended = match job.found_nothing && self.rules.a_check_skips_the_rest {
                    true => self.specs[id].tasks,
                    false => job.ended + 1,
                };
                (job.ended, job.failed, job.command) = (ended, job.failed || !ok, Command::None);
            }
        }

        each(jobs).for_each(|job| self.advance(s, at, job));
        each(jobs).for_each(|job| self.finish(s, at, job));
        if stopping {
            return None;
        }

        let picked = self.pick(s, at);
        if !self.rules.claim_is_guarded_by_queued && picked != 0 {
            return Some(picked);
        }

        self.claim(s, at, picked);
        None
    }

    /// Judges the waiting jobs.
    fn look(&self, s: &mut State) {
        for job in each(s.waiting()) {
            if s.due && self.rules.the_time_ends_the_wait {
                if self.gives_up {
                    s.set(job, Cancelled);
                    s.jobs[job].record = Record::GaveUp;
                } else {
                    s.jobs[job].hold = Hold::None;
                }
            } else if s.seen_empty && self.could_start(s, job) {
                s.jobs[job].hold = match self.rules.asks_before_it_starts {
                    true => Hold::Asking,
                    false => Hold::Confirmed,
                };
            }
        }
    }

    /// The steps block, identify, terminate and settle; after the cleaner's report, finish.
    fn advance(&self, s: &mut State, at: usize, id: usize) {
        if s.jobs[id].record != Record::Live {
            return;
        }

        if s.jobs[id].phase == Phase::None {
            s.jobs[id].phase = Phase::Terminating;
            end_command(s, id);
        }

        let is_over = s.jobs[id].command == Command::None || !self.rules.cancel_waits_for_the_ends;
        if s.jobs[id].phase == Phase::Terminating && is_over {
            s.jobs[id].phase = Phase::Checking;
        } else if s.jobs[id].phase == Phase::Reported {
            self.conclude(s, id, true);
            s.workers[at].jobs &= !(1 << id);
        }
    }

    fn finish(&self, s: &mut State, at: usize, id: usize) {
        let job = s.jobs[id];
        let ours =
            job.is(Running) || job.is(Cancelling) && !self.rules.finish_is_guarded_by_running;
        let done = job.failed || job.ended == self.specs[id].tasks;
        let cannot_continue = s.workers[at].stopping && job.command == Command::None;

        if ours && (done || cannot_continue) {
            s.set(
                id,
                if done && !job.failed {
                    Succeeded
                } else {
                    Failed
                },
            );
        }

        if s.jobs[id].is_terminal() {
            s.workers[at].jobs &= !(1 << id);
        }
    }

    fn pick(&self, s: &State, at: usize) -> u8 {
        let jobs = s.workers[at].jobs;
        let ready = each(jobs).filter(|&job| self.is_ready(s, job)).count() as u32;
        let free = self.slots.saturating_sub(busy(s, jobs) + ready);
        let held =
            s.mask(|job| job.row == Row::Held && self.rules.unkillable_processes_hold_their_target);
        if s.paused {
            0
        } else {
            each(self.may_start(s, held))
                .take(free as usize)
                .map(|job| 1 << job)
                .sum()
        }
    }

    /// What the schedule lets start while the targets of the jobs `held` are held.
    pub fn may_start(&self, s: &State, held: u8) -> u8 {
        let ready = s.ready();
        let considered = match self.rules.waiting_jobs_hold_no_server {
            true => ready,
            false => s.queued(),
        };
        if self.rules.claim_asks_the_schedule {
            self.startable(s.mask(Job::is_live) | held, considered) & ready
        } else {
            ready
        }
    }

    fn claim(&self, s: &mut State, at: usize, picked: u8) {
        for job in each(picked) {
            let waited = s.jobs[job].hold == Hold::Confirmed;
            s.violations.threw_out |= waited && s.playing && !s.came_late;
            s.set(job, Running);
            s.workers[at].jobs |= 1 << job;
        }

        let jobs = s.workers[at].jobs;
        for job in each(jobs) {
            if self.is_ready(s, job) && busy(s, jobs) < self.slots {
                s.jobs[job].command = Command::Spawned;
            }
        }
    }

    /// Whether the job's next task can start.
    fn is_ready(&self, s: &State, id: usize) -> bool {
        let job = &s.jobs[id];
        let is_running =
            job.is(Running) || !self.rules.cancelled_jobs_start_nothing && job.is(Cancelling);
        is_running
            && job.command == Command::None
            && !job.failed
            && job.ended < self.specs[id].tasks
    }

    fn after_tick(&self, s: &mut State, at: usize) -> At {
        if self.rules.drains_before_it_checks {
            self.decide(s, at)
        } else {
            At::LateDrain
        }
    }

    /// Decides whether to wait or to exit.
    fn decide(&self, s: &mut State, at: usize) -> At {
        let is_asking = s.is_asking();
        let worker = &mut s.workers[at];
        worker.idle &= worker.jobs == 0 && !is_asking;
        match worker {
            Worker {
                stopping: true,
                jobs: 0,
                ..
            } => At::Exit,
            Worker { idle: true, .. } => At::Socket,
            _ => At::Wait,
        }
    }
}

/// The number of tasks that take a slot.
pub fn busy(s: &State, jobs: u8) -> u32 {
    each(jobs)
        .filter(|&job| s.jobs[job].command != Command::None)
        .count() as u32
}

fn has_claimable(s: &State) -> bool {
    s.jobs.iter().any(|job| job.record == Record::Live) || s.ready() != 0 && !s.paused
}

/// A worker in the foreground notices every commit.
fn committed(s: &mut State) {
    s.workers[HAND].watch |= s.workers[HAND].at != At::Down;
}

fn end_command(s: &mut State, job: usize) {
    if s.jobs[job].command == Command::Running {
        s.jobs[job].command = Command::Ending;
    }
}

/// The connection has ended: the row is written, then the worker gets the end.
fn ended(s: &mut State, job: usize, ok: bool, row: Row) {
    s.jobs[job].command = Command::Ended { ok };
    s.jobs[job].row = row;
    wake_owner(s, job);
}

fn wake_all(s: &mut State) {
    for worker in s.workers.iter_mut().filter(|worker| worker.holds_lock()) {
        worker.woken = true;
    }
}

fn wake_owner(s: &mut State, job: usize) {
    if let Some(at) = s.owner(job) {
        s.workers[at].woken = true;
    }
}
