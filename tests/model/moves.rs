//! What can happen, and when.

use super::rules::World;
use super::state::{At, Client, Command, HAND, Job, Phase, Row, State, UNIT, each};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Commit, then poke.
    Enqueue(usize),
    Poke(usize),
    ClientDies(usize),
    /// Commit, then poke.
    Cancel(usize),
    CancelUnguarded(usize),
    CancelPoke(usize),
    RequesterDies(usize),
    Pause,
    Resume,
    ResumePoke,
    /// systemd: the socket is readable, or a restart is due.
    Start,
    StartByHand,
    PollerPokes,
    Sigterm,
    Kill9,
    /// The next line of a worker's program.
    Step(usize),
    /// poll() returns: something is there; or the time is over.
    Wake(usize),
    IdleTime(usize),
    /// A task's thread, its connection, its command.
    Connect(usize),
    Trace(usize),
    EndsByItself(usize),
    EndsAsTold(usize),
    OrphanEnds(usize),
    WillNotDie(usize),
    DiesAtLast(usize),
    /// The cleaner's thread reports.
    Report(usize),
}
use Action as A;

impl World {
    /// What will happen if nothing else does: nobody has a choice about it.
    pub fn forced(&self, s: &State, out: &mut Vec<Action>) {
        for (at, job) in s.jobs.iter().enumerate().take(self.specs.len()) {
            let mut when = |is: bool, action: Action| is.then(|| out.push(action));
            when(job.client == Client::Committed, A::Poke(at));
            when(job.client == Client::Hasty, A::Enqueue(at));
            when(job.owed > 0, A::CancelPoke(at));
            when(job.seen_running, A::CancelUnguarded(at));
            when(job.command == Command::Spawned, A::Connect(at));
            when(matches!(job.command, Command::Running | Command::Ending) && job.row == Row::None, A::Trace(at));
            when(job.command == Command::Ending, A::EndsAsTold(at));
            when(job.command == Command::Orphan, A::OrphanEnds(at));
            when(job.phase == Phase::Checking, A::Report(at));
        }

        for (at, worker) in s.workers.iter().enumerate() {
            match worker.at {
                At::Down => {}
                At::Wait if self.hears(s, at) => out.push(A::Wake(at)),
                At::Wait => {}
                At::Dead(mask) if self.rules.waits_for_the_dead && each(mask).any(|job| s.jobs[job].has_command()) => {}
                _ => out.push(A::Step(at)),
            }
        }

        let unit = &s.workers[UNIT];
        // A restart that would be refused again, every RestartSec=, changes nothing.
        if unit.at == At::Down && (s.poke || unit.restart && s.lock_is_free()) {
            out.push(A::Start);
        }

        if s.resume_owed {
            out.push(A::ResumePoke);
        }

        // It would mend a lost wake-up, too, a minute late: so here it comes last, and only where nobody else could know.
        // A worker in the foreground needs no poke.
        let waits = s.queued() != 0 && !s.paused || s.jobs.iter().any(Job::is_live);
        let helps = s.unsaid && waits && !s.poke && s.workers[HAND].at == At::Down;
        if self.rules.poller_pokes && helps && out.is_empty() {
            out.push(A::PollerPokes);
        }
    }

    /// What may happen or not.
    pub fn free(&self, s: &State, out: &mut Vec<Action>) {
        let mut when = |is: bool, action: Action| is.then(|| out.push(action));
        // Ids grow in the order of the commits.
        if let Some(next) = (0..self.specs.len()).find(|&at| s.jobs[at].client == Client::Absent) {
            when(true, A::Enqueue(next));
        }

        for (at, job) in s.jobs.iter().enumerate().take(self.specs.len()) {
            let is_open = job.state.is_some() && !job.is_terminal();
            when(is_open && !job.seen_running && s.left.cancels > 0, A::Cancel(at));
            when(job.client == Client::Committed && s.left.deaths > 0, A::ClientDies(at));
            when(job.owed > 0 && s.left.deaths > 0, A::RequesterDies(at));
            when(job.command == Command::Running, A::EndsByItself(at));
            let told = matches!(job.command, Command::Ending | Command::Orphan);
            when(told && job.row == Row::Open && s.left.undying > 0, A::WillNotDie(at));
            when(job.undying, A::DiesAtLast(at));
        }

        for (at, worker) in s.workers.iter().enumerate() {
            let is_idle = worker.at == At::Wait && worker.jobs == 0 && !worker.stopping;
            when(is_idle && !worker.idle, A::IdleTime(at));
        }

        let unit = &s.workers[UNIT];
        when(unit.at != At::Down && s.left.crashes > 0, A::Kill9);
        when(!matches!(unit.at, At::Down | At::Open) && !unit.signal && s.left.sigterms > 0, A::Sigterm);
        when(s.workers[HAND].at == At::Down && s.left.by_hand > 0, A::StartByHand);
        when(!s.paused && s.left.pauses > 0, A::Pause);
        when(s.paused, A::Resume);
    }

    pub fn is_quiet(&self, s: &State) -> bool {
        let mut forced = Vec::new();
        self.forced(s, &mut forced);
        forced.is_empty()
    }

    /// Whether poll() has a reason to return.
    fn hears(&self, s: &State, at: usize) -> bool {
        let worker = &s.workers[at];
        let poke = at == UNIT && s.poke && !worker.stopping;
        // Every second, while something holds its target: somebody may wait for it.
        let tick = !worker.stopping && s.queued() != 0 && s.jobs.iter().any(|job| job.row == Row::Held && !job.undying);
        poke || worker.bell || worker.signal || worker.watch || tick
    }
}
