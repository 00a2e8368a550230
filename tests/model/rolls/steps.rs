//! The steps: what may happen next, and what it does.

use left4me::base::names::{JobId, ServerId};
use left4me::domain::operation::Operation;
use left4me::domain::plan::{self, Plan};
use left4me::domain::schedule::{Candidate, Schedule};
use left4me::domain::task::{Readiness, TaskKind, TaskState, readiness};
use left4me::domain::update::UpdateOptions;

use super::state::{Job, NEW, Phase, State, Task, World};

/// How much of a running task has happened when it is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    Not,
    Half,
    Whole,
}

const ALL: [How; 3] = [How::Not, How::Half, How::Whole];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The next request is accepted.
    Ask,
    Begin(usize, usize),
    End(usize, usize),
    /// The server of this restart is empty.
    Empties(usize),
    Cancel {
        job: usize,
        how: How,
        leave_stopped: bool,
    },
    Dies(How),
    PowerCut(How),
    Revives,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    is_failure: bool,
    was_running: Option<bool>,
    came_up: Option<u64>,
    failed_build: bool,
}

impl World {
    pub fn possible(&self, s: &State, out: &mut Vec<Action>) {
        if s.asked < self.requests.len() {
            out.push(Action::Ask);
        }
        if !s.worker {
            out.push(Action::Revives);
            return;
        }

        let mut works = false;
        for (at, job) in s.jobs.iter().enumerate() {
            if job.phase == Phase::Queued && job.waits && can_start(s, at) {
                out.push(Action::Empties(at));
            }
            if job.phase != Phase::Running {
                continue;
            }
            works = true;
            for (task, found) in job.tasks.iter().enumerate() {
                match found.state {
                    TaskState::Running => out.push(Action::End(at, task)),
                    TaskState::Pending if ready(job, task) == Readiness::Ready => {
                        out.push(Action::Begin(at, task));
                    }
                    _ => {}
                }
            }
        }

        if !works {
            return;
        }
        for how in ALL {
            if s.left.deaths > 0 {
                out.push(Action::Dies(how));
            }
            if s.left.power_cuts > 0 {
                out.push(Action::PowerCut(how));
            }
            // An admin who cancels a job of the worker itself wants its servers down.
            let may = |job: &Job| job.phase == Phase::Running && !job.is_own;
            for job in (0..s.jobs.len()).filter(|at| s.left.cancels > 0 && may(&s.jobs[*at])) {
                for leave_stopped in [false, true] {
                    out.push(Action::Cancel {
                        job,
                        how,
                        leave_stopped,
                    });
                }
            }
        }
    }

    pub fn apply(&self, s: &mut State, action: Action) {
        match action {
            Action::Ask => {
                let operation = self.requests[s.asked];
                s.asked += 1;
                s.jobs.push(Job {
                    no_restart: self.later && operation == Operation::Rollback,
                    ..job(operation, &[])
                });
            }
            Action::Begin(at, task) => begin(s, at, task),
            Action::End(at, task) => {
                let outcome = self.effect(s, at, task, How::Whole);
                self.settle(s, at, task, outcome);
            }
            Action::Empties(at) => start(s, at),
            Action::Cancel {
                job,
                how,
                leave_stopped,
            } => self.cancel(s, job, how, leave_stopped),
            Action::Dies(how) => {
                s.left.deaths -= 1;
                self.interrupt(s, how);
                s.worker = false;
            }
            Action::PowerCut(how) => {
                s.left.power_cuts -= 1;
                self.interrupt(s, how);
                s.worker = false;
                for at in 0..s.running.len() {
                    s.running[at] = s.enabled[at] && self.comes_up(at, s.game[at]);
                }
            }
            Action::Revives => self.revive(s),
        }

        if s.worker {
            self.schedule(s);
        }
        // An ended job has no more to say; without its tasks, fewer states differ.
        for job in s.jobs.iter_mut().filter(|job| job.phase == Phase::Ended) {
            job.tasks.clear();
            job.servers.clear();
            job.roll_of = None;
        }
    }

    /// Starts the queued jobs that may start.
    fn schedule(&self, s: &mut State) {
        let mut schedule = with_running(s);
        let goes_first = |job: &Job| job.is_own && job.operation == Operation::Start;
        let all = 0..s.jobs.len();
        let (again, others): (Vec<usize>, Vec<usize>) =
            all.partition(|at| self.rules.what_was_stopped_goes_first && goes_first(&s.jobs[*at]));
        for at in again.into_iter().chain(others) {
            let job = &s.jobs[at];
            let is_ready = job.phase == Phase::Queued && !job.waits;
            if is_ready && schedule.consider(&candidate(at, job)) {
                start(s, at);
            }
        }
    }

    fn comes_up(&self, server: usize, build: u64) -> bool {
        build != NEW || !self.bad[server]
    }

    /// What a task does to the host.
    fn effect(&self, s: &mut State, at: usize, task: usize, how: How) -> Outcome {
        let (kind, server) = (s.jobs[at].tasks[task].kind, s.jobs[at].tasks[task].server);
        let mut outcome = Outcome::default();
        match (kind, how) {
            (_, How::Not) => {}
            (TaskKind::InstallRuntime, How::Whole) => s.installed = NEW,
            (TaskKind::PublishBuild, How::Half)
                if !self.rules.publishes_whole_builds && !s.published.contains(&s.installed) =>
            {
                s.published.insert(s.installed);
                s.current = s.installed;
                s.is_half = true;
            }
            (TaskKind::PublishBuild, How::Whole) => {
                s.published.insert(s.installed);
                s.current = s.installed;
            }
            (TaskKind::UseBuild, How::Whole) => {
                let older = s.published.iter().rev();
                let older = older.copied().find(|build| *build < s.current);
                match older.filter(|build| !s.rejected.contains(build)) {
                    Some(build) => s.current = build,
                    None => outcome.is_failure = true,
                }
            }
            (TaskKind::RemoveBuilds, How::Whole) => self.remove(s),
            (TaskKind::Stop, _) => {
                let server = server.expect("a server");
                outcome.was_running = Some(true);
                s.enabled[server] = false;
                s.running[server] &= how == How::Half;
            }
            (TaskKind::Initialize, How::Whole) => {
                let server = server.expect("a server");
                if !s.running[server] {
                    s.game[server] = s.current;
                    s.violations.used_half_a_build |= s.is_half && s.current == NEW;
                }
            }
            (TaskKind::Start | TaskKind::StartIfRan, _) => {
                return self.start_game(s, server.expect("a server"), how);
            }
            _ => {}
        }
        outcome
    }

    fn start_game(&self, s: &mut State, server: usize, how: How) -> Outcome {
        let game = s.game[server];
        s.enabled[server] = true;
        s.running[server] |= self.comes_up(server, game);
        if s.running[server] {
            let came_up = Some(game);
            return Outcome {
                came_up,
                ..Outcome::default()
            };
        }

        let is_other = game != s.last[server];
        if how == How::Half || !is_other || !self.rules.goes_back_by_itself {
            return Outcome {
                is_failure: true,
                ..Outcome::default()
            };
        }
        let old = s.last[server];
        s.game[server] = old;
        s.running[server] = s.published.contains(&old) && self.comes_up(server, old);
        Outcome {
            is_failure: true,
            came_up: s.running[server].then_some(old),
            failed_build: true,
            ..Outcome::default()
        }
    }

    fn remove(&self, s: &mut State) {
        let all: Vec<u64> = s.published.iter().rev().copied().collect();
        for build in all.into_iter().skip(self.keep) {
            let is_used = s.game.contains(&build);
            let is_current = s.current == build;
            let keeps = is_used && self.rules.keeps_builds_in_use
                || is_current && self.rules.keeps_the_current_build;
            if !keeps {
                s.published.remove(&build);
                s.violations.removed_a_needed_build |= is_used || is_current;
            }
        }
    }

    /// Records the end of a task, and what follows from it in the same transaction.
    fn settle(&self, s: &mut State, at: usize, task: usize, outcome: Outcome) {
        let found = &mut s.jobs[at].tasks[task];
        found.was_running = outcome.was_running;
        found.state = match outcome.is_failure {
            true => TaskState::Failed,
            false => TaskState::Succeeded,
        };
        if let (Some(server), Some(build)) = (found.server, outcome.came_up) {
            s.last[server] = build;
            s.failed_on_new[server] = outcome.failed_build;
            s.has_gone_back |= outcome.failed_build;
        }

        let (kind, operation) = (found.kind, s.jobs[at].operation);
        match (kind, operation) {
            _ if outcome.failed_build => self.failed(s, at),
            _ if outcome.is_failure => {}
            (TaskKind::CheckBuild, _) => self.checked(s, at),
            (TaskKind::PublishBuild, Operation::Update) => self.roll(s, at),
            (TaskKind::UseBuild, _) => {
                s.rejected.insert(NEW);
                s.rejected.remove(&s.current);
                self.roll(s, at);
            }
            _ => {}
        }
        self.finish(s, at);
    }

    fn checked(&self, s: &mut State, at: usize) {
        let is_rejected = s.rejected.contains(&NEW);
        if s.current == NEW {
            if is_rejected && self.rules.a_rejected_current_build_is_not_rolled {
                s.is_left_current = false;
                give_up(s);
            } else {
                self.roll(s, at);
            }
        } else if !is_rejected || !self.rules.rejected_builds_are_not_downloaded {
            append(&mut s.jobs[at], &plan::after_check(&[]));
        }
    }

    fn roll(&self, s: &mut State, at: usize) {
        let outdated = (0..s.game.len()).filter(|server| s.game[*server] != s.current);
        let mut outdated: Vec<usize> = outdated.collect();
        if s.jobs[at].no_restart {
            outdated.clear();
        }
        if s.jobs[at].operation == Operation::Update {
            outdated.retain(|&server| s.current != NEW || !s.failed_on_new[server]);
        }

        if self.waits && s.jobs[at].operation == Operation::Update {
            for server in std::mem::take(&mut outdated) {
                let is_queued = s.jobs.iter().any(|other| {
                    other.waits && other.phase == Phase::Queued && other.servers == [server]
                });
                if !is_queued {
                    s.jobs.push(Job {
                        roll_of: Some(at),
                        waits: true,
                        ..job(Operation::Restart, &[server])
                    });
                }
            }
        }

        let ids: Vec<ServerId> = outdated.iter().map(|&server| id(server)).collect();
        let at_once = match self.rules.restarts_so_many_at_once {
            true => self.at_once,
            false => ids.len(),
        };
        append(&mut s.jobs[at], &plan::roll(&ids, at_once));
    }

    /// A server did not come up on the build.
    fn failed(&self, s: &mut State, at: usize) {
        let Some(roll) = roll_of(s, at) else {
            return;
        };

        s.jobs[roll].is_stopped = true;
        if self.rules.a_failure_stops_the_roll {
            for task in &mut s.jobs[at].tasks {
                if task.kind == TaskKind::Stop && task.state == TaskState::Pending {
                    task.state = TaskState::Skipped;
                }
            }
        }
        if self.rules.a_failure_stops_waiting_restarts {
            for job in &mut s.jobs {
                if job.roll_of == Some(roll) && job.phase == Phase::Queued {
                    job.phase = Phase::Ended;
                }
            }
        }
    }

    /// After the end of a job: a build that works nowhere is given up, once no restart for it runs.
    fn after(&self, s: &mut State, at: usize) {
        let Some(roll) = roll_of(s, at).filter(|&roll| s.jobs[roll].is_stopped) else {
            return;
        };
        let mut of_roll = (0..s.jobs.len()).filter(|&job| roll_of(s, job) == Some(roll));
        let is_under_way = of_roll.any(|job| s.jobs[job].phase == Phase::Running);
        let is_known = s.rejected.contains(&NEW) || s.last.contains(&NEW);
        if self.rules.a_build_that_works_nowhere_is_given_up && !is_under_way && !is_known {
            s.rejected.insert(NEW);
            give_up(s);
        }
    }

    /// Skips what can no longer run, and ends the job if nothing is left.
    fn finish(&self, s: &mut State, at: usize) {
        let job = &mut s.jobs[at];
        while let Some(task) = (0..job.tasks.len()).find(|&task| {
            job.tasks[task].state == TaskState::Pending && ready(job, task) == Readiness::Skip
        }) {
            job.tasks[task].state = TaskState::Skipped;
        }

        if job.tasks.iter().all(|task| task.state.is_terminal()) {
            job.phase = Phase::Ended;
            if job.starts_again() && self.rules.starts_again_after_its_end {
                start_again(s, at);
            }
            self.after(s, at);
        }
    }

    fn cancel(&self, s: &mut State, at: usize, how: How, leave_stopped: bool) {
        s.left.cancels -= 1;
        for task in 0..s.jobs[at].tasks.len() {
            let state = s.jobs[at].tasks[task].state;
            if state == TaskState::Running {
                let outcome = self.effect(s, at, task, how);
                let ended = &mut s.jobs[at].tasks[task];
                ended.was_running = outcome.was_running.filter(|_| how == How::Whole);
                ended.state = TaskState::Cancelled;
            } else if state == TaskState::Pending {
                s.jobs[at].tasks[task].state = TaskState::Skipped;
            }
        }
        s.jobs[at].phase = Phase::Ended;
        self.after(s, at);

        if leave_stopped {
            for server in left_stopped(&s.jobs[at]) {
                s.is_left[server] = true;
            }
            if self.rules.leaves_stopped_what_it_was_told_to {
                return;
            }
        }
        if s.jobs[at].starts_again() && self.rules.starts_again_after_its_end {
            start_again(s, at);
        }
    }

    /// What the running tasks have done when worker or host dies. The database still has them as
    /// running.
    fn interrupt(&self, s: &mut State, how: How) {
        for at in 0..s.jobs.len() {
            for task in 0..s.jobs[at].tasks.len() {
                if s.jobs[at].tasks[task].state == TaskState::Running {
                    self.effect(s, at, task, how);
                }
            }
        }
    }

    /// The next worker.
    fn revive(&self, s: &mut State) {
        s.worker = true;
        for at in 0..s.jobs.len() {
            if s.jobs[at].phase != Phase::Running {
                continue;
            }
            let job = &s.jobs[at];
            let is_restart = job.operation == Operation::Restart;
            if (job.starts_again() || is_restart) && self.rules.starts_again_after_a_death {
                start_again(s, at);
            }
            if s.jobs[at].is_own {
                s.is_left_current |= s.jobs[at].operation == Operation::Rollback;
                if self.rules.repeats_its_own_starts_after_a_death {
                    repeat(s, at);
                }
            }

            let job = &mut s.jobs[at];
            job.phase = Phase::Ended;
            for task in &mut job.tasks {
                task.state = match task.state {
                    TaskState::Running => TaskState::Failed,
                    TaskState::Pending => TaskState::Skipped,
                    state => state,
                };
            }
            self.after(s, at);
        }
    }
}

/// The update or rollback whose restarts a job carries out.
fn roll_of(s: &State, at: usize) -> Option<usize> {
    let rolls_out = s.jobs[at].operation.rolls_out();
    s.jobs[at].roll_of.or_else(|| rolls_out.then_some(at))
}

fn id(server: usize) -> ServerId {
    ServerId(server as i64 + 1)
}

fn job(operation: Operation, servers: &[usize]) -> Job {
    let ids: Vec<ServerId> = servers.iter().map(|&server| id(server)).collect();
    let plan = plan::plan(operation, &ids, &[], &UpdateOptions::default());
    let mut job = Job {
        operation,
        phase: Phase::Queued,
        servers: servers.to_vec(),
        tasks: Vec::new(),
        roll_of: None,
        waits: false,
        no_restart: false,
        is_own: false,
        is_stopped: false,
    };
    append(&mut job, &plan);
    job
}

/// Queues the rollback from a build that works nowhere, once.
fn give_up(s: &mut State) {
    let mut queued = s.jobs.iter().filter(|job| job.phase == Phase::Queued);
    if !queued.any(|job| job.is_own && job.operation == Operation::Rollback) {
        s.jobs.push(Job {
            no_restart: true,
            is_own: true,
            ..job(Operation::Rollback, &[])
        });
    }
}

fn append(job: &mut Job, plan: &Plan) {
    let first = job.tasks.len();
    for task in &plan.tasks {
        let after = task.after.iter().map(|&(at, needs)| (first + at, needs));
        job.tasks.push(Task {
            kind: task.kind,
            server: task.server.map(|server| server.0 as usize - 1),
            after: after.collect(),
            state: TaskState::Pending,
            was_running: None,
        });
    }
}

fn ready(job: &Job, task: usize) -> Readiness {
    let after = job.tasks[task].after.iter();
    let states: Vec<_> = after
        .map(|&(at, needs)| (needs, job.tasks[at].state))
        .collect();
    readiness(&states)
}

fn begin(s: &mut State, at: usize, task: usize) {
    let job = &mut s.jobs[at];
    job.tasks[task].state = TaskState::Running;
    let kind = job.tasks[task].kind;
    let is_update = job.operation == Operation::Update;

    // Another job has to do with the server now.
    if let (TaskKind::Stop, Some(server)) = (kind, job.tasks[task].server) {
        s.is_left[server] = false;
    }

    // A build that this roll itself has rejected stops it in the same moment.
    let takes = is_update && matches!(kind, TaskKind::InstallRuntime | TaskKind::Stop);
    s.violations.took_a_rejected_build |= takes && !job.is_stopped && s.rejected.contains(&NEW);
    s.violations.went_on |= kind == TaskKind::Stop && job.is_stopped;
}

/// The servers that a job began to stop and has not started again.
fn left_stopped(job: &Job) -> Vec<usize> {
    let stops = job.tasks.iter().filter(|task| {
        let is_begun = !matches!(task.state, TaskState::Pending | TaskState::Skipped);
        let may_have = task.was_running == Some(true)
            || task.state != TaskState::Failed && task.was_running.is_none();
        task.kind == TaskKind::Stop && is_begun && may_have
    });
    let is_open = |server: Option<usize>| {
        job.tasks.iter().any(|task| {
            task.server == server
                && matches!(task.kind, TaskKind::Start | TaskKind::StartIfRan)
                && !matches!(task.state, TaskState::Succeeded | TaskState::Failed)
        })
    };
    let left = stops.filter(|stop| is_open(stop.server));
    left.filter_map(|stop| stop.server).collect()
}

fn start_again(s: &mut State, at: usize) {
    let left = left_stopped(&s.jobs[at]);
    push_start(s, &left);
}

fn push_start(s: &mut State, servers: &[usize]) {
    if servers.is_empty() {
        return;
    }
    let is_left = servers.iter().any(|server| s.is_left[*server]);
    s.violations.started_what_was_to_stay_stopped |= is_left;
    s.jobs.push(Job {
        is_own: true,
        ..job(Operation::Start, servers)
    });
}

/// Queues an own start again that was interrupted.
fn repeat(s: &mut State, at: usize) {
    let open = s.jobs[at].tasks.iter().filter(|task| {
        task.kind == TaskKind::Start
            && !matches!(task.state, TaskState::Succeeded | TaskState::Failed)
    });
    let servers: Vec<usize> = open.filter_map(|task| task.server).collect();
    push_start(s, &servers);
}

fn candidate(at: usize, job: &Job) -> Candidate {
    Candidate {
        id: JobId(at as i64 + 1),
        exclusive: job.operation.is_exclusive(),
        asks: job.operation.is_exclusive(),
        servers: job.servers.iter().map(|&server| id(server)).collect(),
    }
}

fn with_running(s: &State) -> Schedule {
    let all = s.jobs.iter().enumerate();
    let running: Vec<Candidate> = all
        .filter(|(_, job)| job.phase == Phase::Running)
        .map(|(at, job)| candidate(at, job))
        .collect();
    Schedule::with_running(&running)
}

/// Whether nothing keeps a restart that waits for players.
fn can_start(s: &State, at: usize) -> bool {
    with_running(s).has_room_for(&candidate(at, &s.jobs[at]))
}

fn start(s: &mut State, at: usize) {
    let roll = s.jobs[at].roll_of;
    s.violations.went_on |= roll.is_some_and(|roll| s.jobs[roll].is_stopped);
    s.jobs[at].phase = Phase::Running;
}
