//! The actions of the model, and when each is possible.

use super::rules::World;
use super::state::{At, Batch, Client, Command, HAND, Hold, Job, Phase, Row, State, UNIT, each};
use super::steps::busy;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Commits; `Notify` follows.
    Enqueue(usize),
    Notify(usize),
    ClientDies(usize),
    /// Commits; `CancelNotify` follows.
    Cancel(usize),
    CancelUnguarded(usize),
    CancelNotify(usize),
    RequesterDies(usize),
    Pause,
    Resume,
    ResumeNotify,
    /// systemd: the socket is readable, or a restart is due.
    Start,
    StartByHand,
    PollerNotifies,
    /// The poller sees who plays, and wakes a worker if that changes something for waiting jobs.
    Poll,
    /// A player comes, a player leaves, the time of waiting jobs comes.
    Join,
    Leave,
    Deadline,
    /// The game answers the worker's question; the answer becomes too old.
    Answer(usize),
    Expire(usize),
    Sigterm,
    Kill9,
    /// The next step of a worker.
    Step(usize),
    /// poll() returns: because of an event, or because the time is over.
    Wake(usize),
    IdleTime(usize),
    /// A task's thread, connection and command.
    Connect(usize),
    Trace(usize),
    EndsByItself(usize),
    /// The check of an update ends, and nothing is left to do.
    FindsNothing(usize),
    EndsOnSignal(usize),
    OrphanEnds(usize),
    Survives(usize),
    DiesLater(usize),
    /// The shared connection: the worker closes it, the helper ends, the helper dies.
    BatchCloses,
    BatchEnds,
    HelperDies,
    /// The cleaner's thread reports.
    Report(usize),
}
use Action as A;

impl World {
    /// What happens if nothing else does: it cannot be avoided.
    pub fn forced(&self, s: &State, out: &mut Vec<Action>) {
        for (at, job) in s.jobs.iter().enumerate().take(self.specs.len()) {
            let mut when = |is: bool, action: Action| is.then(|| out.push(action));
            when(job.client == Client::Committed, A::Notify(at));
            when(job.client == Client::NotifiedEarly, A::Enqueue(at));
            when(job.pending_notifies > 0, A::CancelNotify(at));
            when(job.read_running, A::CancelUnguarded(at));
            when(job.command == Command::Spawned, A::Connect(at));
            when(
                matches!(job.command, Command::Running | Command::Ending) && job.row == Row::None,
                A::Trace(at),
            );

            when(job.command == Command::Ending, A::EndsOnSignal(at));
            when(job.command == Command::Orphan, A::OrphanEnds(at));
            when(job.phase == Phase::Checking, A::Report(at));
            when(job.hold == Hold::Asking, A::Answer(at));
        }

        for (at, worker) in s.workers.iter().enumerate() {
            match worker.at {
                At::Down => {}
                At::Wait if self.is_woken(s, at) => out.push(A::Wake(at)),
                At::Wait => {}
                At::WaitForDead(mask)
                    if self.rules.waits_for_the_dead
                        && each(mask).any(|job| s.jobs[job].has_command()) => {}
                _ => out.push(A::Step(at)),
            }
        }

        if s.batch == Batch::Closing {
            out.push(A::BatchEnds);
        }

        let unit = &s.workers[UNIT];
        // A restart that is refused again, every RestartSec=, changes nothing.
        if unit.at == At::Down && (s.notified || unit.restart && s.lock_is_free()) {
            out.push(A::Start);
        }

        if s.resume_pending {
            out.push(A::ResumeNotify);
        }

        // The poller would also repair a lost wake-up, a minute late. So here it comes last, and
        // only where nothing else could know. A worker in the foreground needs no notification.
        let waits = s.ready() != 0 && !s.paused || s.jobs.iter().any(Job::is_live);
        let helps = s.unnotified && waits && !s.notified && s.workers[HAND].at == At::Down;
        if self.rules.poller_notifies && helps && out.is_empty() {
            out.push(A::PollerNotifies);
        }

        // Polls come again and again; one that would change nothing is left out.
        let is_news = s.seen_empty == s.playing;
        let wakes = self.rules.poller_wakes_for_waiting_jobs && self.can_act(s);
        if s.waiting() != 0 && (is_news || wakes) && out.is_empty() {
            out.push(A::Poll);
        }
    }

    /// Whether a worker can do something about a waiting job, by what the last poll saw.
    pub fn can_act(&self, s: &State) -> bool {
        let may_go = |job: usize| s.seen_empty && self.could_start(s, job);
        let is_over = s.due && self.rules.the_time_ends_the_wait;
        each(s.waiting()).any(|job| is_over || may_go(job))
    }

    /// Whether nothing is in the way of this waiting job but its condition.
    pub fn could_start(&self, s: &State, job: usize) -> bool {
        let held = s.mask(|job| job.row == Row::Held || job.unkillable);
        let has_room = busy(s, u8::MAX) < self.slots;
        let live = s.mask(Job::is_live) | held;
        !s.paused && has_room && self.startable(live, 1 << job) != 0
    }

    /// What may happen, but does not have to.
    pub fn free(&self, s: &State, out: &mut Vec<Action>) {
        let mut when = |is: bool, action: Action| is.then(|| out.push(action));
        // Ids grow in the order of the commits.
        if let Some(next) = (0..self.specs.len()).find(|&at| s.jobs[at].client == Client::Absent) {
            when(true, A::Enqueue(next));
        }

        for (at, job) in s.jobs.iter().enumerate().take(self.specs.len()) {
            let is_open = job.state.is_some() && !job.is_terminal();
            when(
                is_open && !job.read_running && s.left.cancels > 0,
                A::Cancel(at),
            );

            when(
                job.client == Client::Committed && s.left.deaths > 0,
                A::ClientDies(at),
            );

            when(
                job.pending_notifies > 0 && s.left.deaths > 0,
                A::RequesterDies(at),
            );

            when(job.command == Command::Running, A::EndsByItself(at));
            let is_check = self.specs[at].checks && job.ended == 0;
            when(
                is_check && job.command == Command::Running,
                A::FindsNothing(at),
            );
            let is_ending = matches!(job.command, Command::Ending | Command::Orphan);
            when(
                is_ending && job.row == Row::Open && s.left.unkillable > 0,
                A::Survives(at),
            );

            when(job.unkillable, A::DiesLater(at));
            let may_expire = self.rules.confirmations_expire && s.left.expiries > 0;
            when(job.hold == Hold::Confirmed && may_expire, A::Expire(at));
        }

        when(!s.playing && s.left.joins > 0, A::Join);
        when(s.playing, A::Leave);
        let waits = s.jobs.iter().any(|job| job.hold != Hold::None);
        when(waits && !s.due && s.left.deadlines > 0, A::Deadline);

        let in_batch = |job: &Job| matches!(job.command, Command::Running | Command::Ending);
        let is_unused = !s.jobs.iter().any(in_batch);
        when(s.batch == Batch::Open && is_unused, A::BatchCloses);
        when(
            s.batch != Batch::None && s.left.helper_deaths > 0,
            A::HelperDies,
        );

        for (at, worker) in s.workers.iter().enumerate() {
            let has_nothing = worker.jobs == 0 && !s.is_asking();
            let is_idle = worker.at == At::Wait && has_nothing && !worker.stopping;
            when(is_idle && !worker.idle, A::IdleTime(at));
        }

        let unit = &s.workers[UNIT];
        when(unit.at != At::Down && s.left.crashes > 0, A::Kill9);
        when(
            !matches!(unit.at, At::Down | At::Open) && !unit.signal && s.left.sigterms > 0,
            A::Sigterm,
        );

        when(
            s.workers[HAND].at == At::Down && s.left.by_hand > 0,
            A::StartByHand,
        );

        when(!s.paused && s.left.pauses > 0, A::Pause);
        when(s.paused, A::Resume);
    }

    pub fn is_quiet(&self, s: &State) -> bool {
        let mut forced = Vec::new();
        self.forced(s, &mut forced);
        forced.is_empty()
    }

    /// Whether poll() has a reason to return.
    fn is_woken(&self, s: &State, at: usize) -> bool {
        let worker = &s.workers[at];
        let notified = at == UNIT && s.notified && !worker.stopping;
        // Every second, while an unkillable process holds its target: a job may wait for it.
        let tick = !worker.stopping
            && s.queued() != 0
            && s.jobs
                .iter()
                .any(|job| job.row == Row::Held && !job.unkillable);
        notified || worker.woken || worker.signal || worker.watch || tick
    }
}
