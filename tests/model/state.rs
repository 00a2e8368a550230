//! The state at one moment: the database, the socket, systemd's unit, the workers, the commands.

use left4me::domain::job::JobState;

/// The most jobs that a world has.
pub const JOBS: usize = 3;

/// The worker that systemd starts.
pub const UNIT: usize = 0;

/// The worker that is started by hand.
pub const HAND: usize = 1;

/// The client that enqueues a job: its commit and its notification are two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    Absent,
    /// Only with a broken rule: it has notified, but not committed yet.
    NotifiedEarly,
    Committed,
    Gone,
}

/// What serves a running task: a thread of the worker, and the command behind its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    None,
    /// The task is running in the database; its thread has no connection yet.
    Spawned,
    Running,
    /// It is being ended by the kill escalation.
    Ending,
    /// Its worker has died, so its connection is closed: it is ending, and no worker gets its end.
    Orphan,
    /// It has ended; the worker has not recorded it yet.
    Ended {
        ok: bool,
    },
    /// Only with a broken rule: it was added to a batch that takes no more, so it gets no answer.
    Lost,
}

/// The connection that the commands of all jobs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Batch {
    None,
    Open,
    /// The worker has sent its last line.
    Closing,
}

/// The row in `runners`, with the control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    None,
    Open,
    /// tree = 'left': unkillable processes.
    Held,
}

/// The row in `cancellations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    None,
    Live,
    /// In the request's own transaction.
    BeforeExecution,
    /// No row: its condition has ended it.
    GaveUp,
    Completed,
    Failed,
}

/// How far the worker is with a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    None,
    Terminating,
    Checking,
    Reported,
}

/// Whether a queued job waits for its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// It does not, or no longer.
    None,
    Waiting,
    /// A thread of the worker asks the game who plays.
    Asking,
    /// Nobody played a moment ago.
    Confirmed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub client: Client,
    pub state: Option<JobState>,
    pub hold: Hold,
    /// Tasks that have ended, and whether one of them failed.
    pub ended: u8,
    pub failed: bool,
    /// Its check found nothing to do.
    pub found_nothing: bool,
    pub command: Command,
    pub row: Row,
    /// A process of it is unkillable.
    pub unkillable: bool,
    /// Tasks whose command has begun, a bit each.
    pub begun: u8,
    pub record: Record,
    pub phase: Phase,
    /// Requests to cancel it that are committed, but have not notified yet.
    pub pending_notifies: u8,
    /// Only with a broken rule: a requester has read that it runs, and has not written yet.
    pub read_running: bool,
}

/// The next step of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    Down,
    Open,
    Lock,
    FindDead,
    /// Waiting for the commands of these jobs.
    WaitForDead(u8),
    Lose(u8),
    FinishCancelled,
    FailJobs,
    Tick,
    /// Only with a broken rule: candidates are read, but not claimed yet.
    Claim(u8),
    /// Only with a broken rule: notifications are read after the check of the queue.
    LateDrain,
    Socket,
    Queue,
    Exit,
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Worker {
    pub at: At,
    /// Its jobs, a bit each.
    pub jobs: u8,
    pub woken: bool,
    /// SIGTERM is pending.
    pub signal: bool,
    pub stopping: bool,
    /// It has been idle for the whole idle time.
    pub idle: bool,
    /// By hand: another process has committed.
    pub watch: bool,
    /// systemd will restart it.
    pub restart: bool,
}

impl Worker {
    pub const DOWN: Self = Self {
        at: At::Down,
        jobs: 0,
        woken: false,
        signal: false,
        stopping: false,
        idle: false,
        watch: false,
        restart: false,
    };

    pub fn holds_lock(&self) -> bool {
        !matches!(self.at, At::Down | At::Open | At::Lock)
    }
}

/// How often each may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub cancels: u8,
    pub crashes: u8,
    pub sigterms: u8,
    /// Clients that die between commit and notification.
    pub deaths: u8,
    pub unkillable: u8,
    pub pauses: u8,
    pub by_hand: u8,
    pub helper_deaths: u8,
    /// Players that come. At the start one is there, if any can come.
    pub joins: u8,
    /// Whether the time of waiting jobs comes.
    pub deadlines: u8,
    /// Confirmations that become too old.
    pub expiries: u8,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Violations {
    pub left_a_terminal_state: bool,
    pub ran_twice: bool,
    pub started_after_its_end: bool,
    /// A command ended because another job was cancelled.
    pub ended_by_another: bool,
    /// A job that waits for players began while somebody played.
    pub threw_out: bool,
    /// An update went on although its check found nothing to do.
    pub went_on: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub jobs: [Job; JOBS],
    pub workers: [Worker; 2],
    /// A datagram is in the socket.
    pub notified: bool,
    pub paused: bool,
    pub resume_pending: bool,
    /// A change was committed, and no worker was notified or will check: only the poller repairs
    /// it.
    pub unnotified: bool,
    pub batch: Batch,
    /// Whether somebody plays, and whether the last poll saw nobody.
    pub playing: bool,
    pub seen_empty: bool,
    /// Somebody came within the seconds for which a confirmation counts.
    pub came_late: bool,
    /// The time of the waiting jobs has come.
    pub due: bool,
    pub left: Budget,
    pub violations: Violations,
}

impl Job {
    pub fn is(&self, state: JobState) -> bool {
        self.state == Some(state)
    }

    pub fn is_live(&self) -> bool {
        self.is(JobState::Running) || self.is(JobState::Cancelling)
    }

    pub fn is_terminal(&self) -> bool {
        self.state.is_some_and(JobState::is_terminal)
    }

    /// Whether a process of it exists.
    pub fn works(&self) -> bool {
        self.unkillable || self.has_command()
    }

    /// Whether a command of it exists that will end in time.
    pub fn has_command(&self) -> bool {
        matches!(
            self.command,
            Command::Running | Command::Ending | Command::Orphan
        )
    }
}

impl State {
    pub fn new(budget: Budget) -> Self {
        let job = Job {
            client: Client::Absent,
            state: None,
            hold: Hold::None,
            ended: 0,
            failed: false,
            found_nothing: false,
            command: Command::None,
            row: Row::None,
            unkillable: false,
            begun: 0,
            record: Record::None,
            phase: Phase::None,
            pending_notifies: 0,
            read_running: false,
        };

        Self {
            jobs: [job; JOBS],
            workers: [Worker::DOWN; 2],
            notified: false,
            paused: false,
            resume_pending: false,
            unnotified: false,
            batch: Batch::None,
            playing: budget.joins > 0,
            seen_empty: budget.joins == 0,
            came_late: false,
            due: false,
            left: budget,
            violations: Violations::default(),
        }
    }

    /// The jobs for which `is` holds, a bit each.
    pub fn mask(&self, is: impl Fn(&Job) -> bool) -> u8 {
        (0..JOBS)
            .filter(|&at| is(&self.jobs[at]))
            .map(|at| 1 << at)
            .sum()
    }

    pub fn queued(&self) -> u8 {
        self.mask(|job| job.is(JobState::Queued))
    }

    /// The queued jobs that wait for no condition, or whose condition was just confirmed.
    pub fn ready(&self) -> u8 {
        let is_ready = |job: &Job| matches!(job.hold, Hold::None | Hold::Confirmed);
        self.mask(|job| job.is(JobState::Queued) && is_ready(job))
    }

    /// The jobs that wait for their condition and about which no question is under way.
    pub fn waiting(&self) -> u8 {
        self.mask(|job| job.is(JobState::Queued) && job.hold == Hold::Waiting)
    }

    pub fn is_asking(&self) -> bool {
        self.jobs.iter().any(|job| job.hold == Hold::Asking)
    }

    pub fn owner(&self, job: usize) -> Option<usize> {
        (0..2).find(|&at| self.workers[at].jobs & (1 << job) != 0)
    }

    pub fn lock_is_free(&self) -> bool {
        !self.workers.iter().any(Worker::holds_lock)
    }

    /// Every write of a job's state goes through here.
    pub fn set(&mut self, job: usize, state: JobState) {
        let job = &mut self.jobs[job];
        self.violations.left_a_terminal_state |= job.is_terminal() && !job.is(state);
        job.state = Some(state);
        if state != JobState::Queued {
            job.hold = Hold::None;
        }
        if state.is_terminal() {
            job.phase = Phase::None;
        }
    }
}

/// The jobs of a mask, oldest first.
pub fn each(mask: u8) -> impl Iterator<Item = usize> {
    (0..JOBS).filter(move |at| mask & (1 << at) != 0)
}
