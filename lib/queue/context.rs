//! The task context: what a running task uses to act on the host. Each request to helper or runner
//! is one connection; its lines go to the job's log and its row to `runners`. The open connections
//! are listed, so that they can be ended.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::names::{InstanceName, JobId, TaskId, purge_stale_unit, purge_unit, stale_unit};
use crate::base::{Error, Result};
use crate::db::runners::End;
use crate::host::operation::{HostPaths, OperationContext, Reply, verdict};
use crate::host::units::printable_lines;
use crate::process::unit_group::{served_by, served_in};
use crate::queue::log::{Log, RunnerToken};
use crate::queue::waiting::Waiting;
use crate::queue::work::Ended;
use crate::wire::client::{Canceller, CommandEnd, Connection, Output};
use crate::wire::session::{Operation, OperationCanceller, Sessions};
use crate::wire::{Cancel, HelperRequest, Request, Stream};

/// A command under way: over a connection of its own, or in a batch.
enum CommandUnderWay {
    Own(Connection),
    InBatch(Operation),
}

/// Ends a command, from any thread.
#[derive(Clone)]
enum Ender {
    Own(Canceller),
    InBatch(OperationCanceller),
}

impl CommandUnderWay {
    fn ender(&self) -> Ender {
        match self {
            CommandUnderWay::Own(connection) => Ender::Own(connection.canceller()),
            CommandUnderWay::InBatch(operation) => Ender::InBatch(operation.canceller()),
        }
    }

    fn run(self, each: impl FnMut(Output) -> Result<()>) -> Result<CommandEnd> {
        match self {
            CommandUnderWay::Own(mut connection) => connection.run(each),
            CommandUnderWay::InBatch(operation) => operation.run(each),
        }
    }
}

impl Ender {
    /// Sends a request to end. A command that has ended already needs none.
    fn end(&self, how: Cancel) {
        let sent = match self {
            Ender::Own(canceller) => canceller.send(how),
            Ender::InBatch(canceller) => canceller.send(how),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a command had ended before it was cancelled");
        }
    }

    /// Closes the connection, or gives up the operation of a batch.
    fn close(&self) {
        match self {
            Ender::Own(canceller) => canceller.close(),
            Ender::InBatch(canceller) => canceller.close(),
        }
    }
}

/// The open connections, so that their commands can be ended, and the tasks that may open no more.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    open: HashMap<RunnerToken, (TaskId, Ender)>,
    /// Tasks that are being cancelled, and how urgently.
    cancelled: HashMap<TaskId, Cancel>,
    /// Set when the worker is stopping.
    closed: Option<Cancel>,
}

impl Registry {
    /// The open connections of these tasks.
    fn of<'a>(&'a self, tasks: &'a [TaskId]) -> impl Iterator<Item = &'a Ender> {
        let open = self.open.values().filter(|(task, _)| tasks.contains(task));
        open.map(|(_, ender)| ender)
    }
}

impl Connections {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, task: TaskId, token: RunnerToken, ender: Ender) {
        let mut registry = self.registry();
        // Under the lock: an earlier request to end is applied here, a later one finds the
        // connection in the list.
        if let Some(how) = registry.closed.max(registry.cancelled.get(&task).copied()) {
            ender.end(how);
        }
        registry.open.insert(token, (task, ender));
    }

    fn forget(&self, token: RunnerToken) {
        self.registry().open.remove(&token);
    }

    /// Prevents all tasks from starting new commands, and ends those that run.
    pub fn end_all(&self, how: Cancel) {
        let mut registry = self.registry();
        registry.closed = registry.closed.max(Some(how));
        let open = registry.open.values();
        open.for_each(|(_, ender)| ender.end(how));
    }

    /// Prevents these tasks from starting new commands, and ends all of theirs that run, at once.
    pub fn end(&self, tasks: &[TaskId], how: Cancel) {
        let mut registry = self.registry();
        for &task in tasks {
            let strongest = registry.cancelled.entry(task).or_insert(how);
            *strongest = how.max(*strongest);
        }
        let open = registry.of(tasks);
        open.for_each(|ender| ender.end(how));
    }

    /// Closes the connections of tasks whose commands did not end in time. The worker no longer
    /// waits for them.
    pub fn close(&self, tasks: &[TaskId]) {
        self.registry().of(tasks).for_each(Ender::close);
    }

    /// Forgets a task after its thread has ended.
    pub fn forget_task(&self, task: TaskId) {
        self.registry().cancelled.remove(&task);
    }

    /// Why this task may not start a new command.
    pub fn refusal(&self, task: TaskId) -> Option<&'static str> {
        let registry = self.registry();
        match (registry.cancelled.contains_key(&task), registry.closed) {
            (true, _) => Some("it is being cancelled"),
            (false, Some(_)) => Some("the worker is stopping"),
            (false, None) => None,
        }
    }
}

/// What tasks use to act on the host, shared by all of them.
#[derive(Clone)]
pub struct WorkerContext {
    /// The paths of runner, helper and data.
    pub paths: Arc<HostPaths>,
    pub log: Log<Ended>,
    pub connections: Connections,
    /// The connections that many tasks share.
    pub sessions: Sessions,
    /// The tasks that only wait.
    pub waiting: Waiting,
    /// The socket of the program that talks to games.
    pub console: Arc<Path>,
    /// How long a game may take to answer after a start on another build.
    pub answer_limit: Duration,
    /// How many of the newest builds are kept.
    pub keep_builds: usize,
}

/// The context of one task. Its lines go to the log of that task.
pub struct TaskContext<'a> {
    context: &'a WorkerContext,
    job: JobId,
    task: TaskId,
}

impl WorkerContext {
    /// Writes a line of left4me itself to a job's log.
    pub fn note(&self, job: JobId, task: TaskId, stream: Stream, line: impl Display) {
        self.log.note(job, task, stream, format!("left4me: {line}"));
    }

    /// The context of one task.
    pub fn of_task(&self, job: JobId, task: TaskId) -> TaskContext<'_> {
        TaskContext {
            context: self,
            job,
            task,
        }
    }
}

impl TaskContext<'_> {
    fn begin(&self, request: &Request) -> Result<CommandUnderWay> {
        let socket = self.paths().socket(request);
        if let Request::Helper(request) = request
            && let Some(batch) = request.in_batch()
        {
            let operation = self.context.sessions.begin(socket, &batch)?;
            return Ok(CommandUnderWay::InBatch(operation));
        }
        Connection::open(socket, request).map(CommandUnderWay::Own)
    }

    /// Why no new command may be started, if so.
    fn refusal(&self) -> Option<&'static str> {
        self.context.connections.refusal(self.task)
    }

    /// Writes a line of left4me itself to the job's log.
    pub fn note(&self, line: impl Display) {
        self.context.note(self.job, self.task, Stream::Stdout, line);
    }

    /// Writes a problem to the job's log.
    pub fn warn(&self, line: impl Display) {
        self.context.note(self.job, self.task, Stream::Stderr, line);
    }

    /// Copies the unit's last lines to the job's log, and gives the last one that the game itself
    /// printed.
    pub fn journal(&self, server: &InstanceName, lines: u32) -> Result<Option<String>> {
        let kept = self.lines(HelperRequest::journal(server.clone(), lines, false))?;
        let last = kept
            .lines
            .iter()
            .rev()
            .find_map(|(_, line)| line.split_once(" srcds: "))
            .map(|(_, message)| message.chars().take(REASON).collect());

        self.context.log.lines(self.job, self.task, kept.lines);
        Ok(last)
    }

    pub(super) fn console(&self) -> &Path {
        &self.context.console
    }

    pub(super) fn answer_limit(&self) -> Duration {
        self.context.answer_limit
    }

    pub(super) fn keep_builds(&self) -> usize {
        self.context.keep_builds
    }

    /// Frees the worker slot of the task, which from now on only waits.
    pub fn free_slot(&self) {
        self.context.waiting.begin(self.task);
    }

    /// The task works again and takes its slot.
    pub fn take_slot(&self) {
        self.context.waiting.end(self.task);
    }

    /// Logs what a command sends, except for what `reply` takes.
    fn receive(
        &self,
        output: Output,
        token: RunnerToken,
        passed_on_to: Option<&str>,
        reply: &mut Reply,
        last_error: &mut Option<String>,
    ) {
        match output {
            Output::Started { unit, server } => {
                let other = (passed_on_to == Some(&*unit)).then(|| served_in(&unit));
                let served = other.flatten().unwrap_or_else(|| served_by(server));
                self.context.log.runner_started(token, served);
            }
            Output::Observed(observation) => reply.observed = Some(observation.into()),
            Output::Builds(builds) => reply.builds = Some(builds),
            Output::Lines(lines) => {
                let lines = printable_lines(lines);
                let is_error = |(stream, line): &&(Stream, String)| {
                    *stream == Stream::Stderr && !line.is_empty()
                };
                if let Some((_, line)) = lines.iter().rfind(is_error) {
                    *last_error = Some(without_pointer(line).chars().take(REASON).collect());
                }

                match &mut reply.kept {
                    Some(kept) => kept.add(lines),
                    None => self.context.log.lines(self.job, self.task, lines),
                }
            }
        }
    }
}

impl OperationContext for TaskContext<'_> {
    const INSTANCE: &'static str = "server";
    const OBSERVE: bool = true;

    fn paths(&self) -> &HostPaths {
        &self.context.paths
    }

    /// Fails with 1 if the task is being cancelled or the worker is stopping.
    fn may_continue(&self) -> Result<()> {
        self.refusal().map_or(Ok(()), |why| Err(Error::failed(why)))
    }

    /// Handles one connection: its row, its lines and its end. If the command does not exit with 0,
    /// the error has its last line on standard error. A refused request fails with 1: only a
    /// command's exit code becomes the task's.
    fn send(&self, request: &Request, reply: &mut Reply) -> Result<()> {
        let (
            verb,
            WorkerContext {
                log, connections, ..
            },
        ) = (request.verb(), self.context);
        if let Some(why) = self.refusal() {
            return Err(Error::failed(format!("{verb} was not started: {why}")));
        }

        // The one other unit that the helper may pass the request on to.
        let other = match request {
            Request::Helper(HelperRequest::Purge { server }) => Some(purge_unit(server)),
            Request::Helper(HelperRequest::Stale { server }) => Some(stale_unit(server)),
            Request::Helper(HelperRequest::PurgeStale { server }) => Some(purge_stale_unit(server)),
            _ => None,
        };

        let token = log.runner_began(self.task, verb);
        let mut last_error = None;
        let end = self.begin(request).and_then(|command| {
            connections.keep(self.task, token, command.ender());
            command.run(|output| {
                self.receive(output, token, other.as_deref(), reply, &mut last_error);
                Ok(())
            })
        });

        connections.forget(token);
        let end_row = End {
            exit: end.as_ref().ok().map(|end| end.exit),
            ended_by: end.as_ref().ok().and_then(|end| end.ended_by),
            tree: end.as_ref().ok().and_then(|end| end.tree),
        };

        log.runner_ended(token, end_row);
        let mut end = end.map_err(|error| error.within(verb))?;
        match end.refused.take() {
            Some(why) => Err(Error::failed(why).within(verb)),
            None => verdict(verb, &end, last_error, self.refusal()),
        }
    }
}

/// The longest reason in an error, in characters.
const REASON: usize = 500;

/// systemctl's message without the hint where to read more: the job's log already has that.
fn without_pointer(line: &str) -> &str {
    let pointers = [
        " See \"systemctl ",
        " See 'systemctl ",
        " See \"journalctl ",
        " See 'journalctl ",
    ];

    let end = pointers
        .iter()
        .filter_map(|pointer| line.find(pointer))
        .filter(|&at| at > 0)
        .min();
    end.map_or(line, |end| &line[..end])
}
