//! The task context: what a running task uses to act on the host. Each request to helper or runner
//! is one connection; its lines go to the job's log and its row to `runners`. The open connections
//! are listed, so that they can be ended.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::base::clock::Moment;
use crate::base::names::{InstanceName, JobId, TaskId, purge_unit};
use crate::base::{Error, Exit, Result};
use crate::db::runners::End;
use crate::domain::unit::Unit;
use crate::host::units::{self, Kept, Observed, Sink};
use crate::process::unit_group::{served_by, served_in};
use crate::queue::log::{Log, RunnerToken};
use crate::queue::settling::Settling;
use crate::queue::work::Ended;
use crate::wire::client::Canceller;
use crate::wire::{Cancel, EndedBy, HelperRequest, RunnerRequest, Stream, Tree};

/// The paths that tasks use.
#[derive(Clone, Debug)]
pub struct TaskPaths {
    /// LEFT4ME_ROOT.
    pub root: PathBuf,
    /// The path of the helper's socket.
    pub helper: PathBuf,
    /// The path of the runner's socket.
    pub runner: PathBuf,
}

/// The open connections, so that their commands can be ended, and the tasks that may open no more.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    open: HashMap<RunnerToken, (TaskId, Canceller)>,
    /// Tasks that are being cancelled, and how urgently.
    cancelled: HashMap<TaskId, Cancel>,
    /// Set when the worker is stopping.
    closed: Option<Cancel>,
}

impl Registry {
    fn verdict(&self, task: TaskId) -> Option<Cancel> {
        self.closed.max(self.cancelled.get(&task).copied())
    }
}

impl Connections {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, task: TaskId, token: RunnerToken, canceller: Canceller) {
        let mut registry = self.registry();
        // Under the lock: an earlier request to end is applied here, a later one finds the
        // connection in the list.
        if let Some(how) = registry.verdict(task) {
            request_end(&canceller, how);
        }
        registry.open.insert(token, (task, canceller));
    }

    fn forget(&self, token: RunnerToken) {
        self.registry().open.remove(&token);
    }

    /// Prevents all tasks from starting new commands, and ends those that run.
    pub fn end_all(&self, how: Cancel) {
        let mut registry = self.registry();
        registry.closed = registry.closed.max(Some(how));
        registry
            .open
            .values()
            .for_each(|(_, canceller)| request_end(canceller, how));
    }

    /// Prevents these tasks from starting new commands, and ends all of theirs that run, at once.
    pub fn end(&self, tasks: &[TaskId], how: Cancel) {
        let mut registry = self.registry();
        for &task in tasks {
            let strongest = registry.cancelled.entry(task).or_insert(how);
            *strongest = how.max(*strongest);
        }
        let theirs = registry
            .open
            .values()
            .filter(|(task, _)| tasks.contains(task));
        theirs.for_each(|(_, canceller)| request_end(canceller, how));
    }

    /// Closes the connections of tasks whose commands did not end in time. The worker no longer
    /// waits for them.
    pub fn close(&self, tasks: &[TaskId]) {
        let registry = self.registry();
        registry
            .open
            .values()
            .filter(|(task, _)| tasks.contains(task))
            .for_each(|(_, canceller)| canceller.close());
    }

    /// Forgets a task after its thread has ended.
    pub fn forget_task(&self, task: TaskId) {
        self.registry().cancelled.remove(&task);
    }

    /// Why this task may not start a new command.
    #[must_use]
    pub fn refusal(&self, task: TaskId) -> Option<&'static str> {
        let registry = self.registry();
        match (registry.cancelled.contains_key(&task), registry.closed) {
            (true, _) => Some("it is being cancelled"),
            (false, Some(_)) => Some("the worker is stopping"),
            (false, None) => None,
        }
    }
}

/// Sends a request to end. A connection that is already closed needs none.
fn request_end(canceller: &Canceller, how: Cancel) {
    if let Err(error) = canceller.send(how) {
        tracing::debug!(%error, "a connection had ended before it was told to");
    }
}

/// What tasks use to act on the host, shared by all of them.
#[derive(Clone)]
pub struct WorkerContext {
    /// The paths of runner, helper and data.
    pub paths: Arc<TaskPaths>,
    pub log: Log<Ended>,
    pub connections: Connections,
    /// The tasks that only wait.
    pub settling: Settling,
}

/// The context of one task. Its lines go to the log of that task.
pub struct TaskContext<'a> {
    context: &'a WorkerContext,
    job: JobId,
    task: TaskId,
}

impl WorkerContext {
    /// The context of one task.
    #[must_use]
    pub fn of_task(&self, job: JobId, task: TaskId) -> TaskContext<'_> {
        TaskContext {
            context: self,
            job,
            task,
        }
    }
}

impl TaskContext<'_> {
    /// The data directory, LEFT4ME_ROOT.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.context.paths.root
    }

    /// Why no new command may be started, if so.
    fn refusal(&self) -> Option<&'static str> {
        self.context.connections.refusal(self.task)
    }

    /// Fails if the task should not continue.
    ///
    /// Fails with 1 if it is being cancelled or the worker is stopping.
    pub fn may_go_on(&self) -> Result<()> {
        self.refusal().map_or(Ok(()), |why| Err(Error::failed(why)))
    }

    /// Writes a line of left4me itself to the job's log.
    pub fn note(&self, stream: Stream, line: impl std::fmt::Display) {
        self.context
            .log
            .note(self.job, self.task, stream, format!("left4me: {line}"));
    }

    /// Enables and starts the unit. Also gives what systemd reports about it afterwards.
    ///
    /// Errors: The command's own code if it failed; 69 if the helper cannot be reached.
    pub fn enable(&self, server: &InstanceName) -> (Result<()>, Result<Observed>) {
        self.observed(
            "enable",
            &HelperRequest::Enable {
                server: server.clone(),
                observe: true,
            },
            server,
        )
    }

    /// Disables and stops the unit, and unmounts its overlay. Also gives what systemd reports about
    /// it afterwards.
    pub fn disable(&self, server: &InstanceName) -> (Result<()>, Result<Observed>) {
        self.observed(
            "disable",
            &HelperRequest::Disable {
                server: server.clone(),
                observe: true,
            },
            server,
        )
    }

    /// Empties the upper layer. Removes everything if the instance is gone.
    pub fn purge(&self, server: &InstanceName) -> Result<()> {
        let request = HelperRequest::Purge {
            server: server.clone(),
        };
        self.ask(
            "purge",
            &self.context.paths.helper,
            &request,
            Keep::Log {
                also: Some(purge_unit(server)),
            },
        )
    }

    /// Copies the unit's last lines to the job's log, and gives the last one that the game itself
    /// printed.
    pub fn journal(&self, server: &InstanceName, lines: u32) -> Result<Option<String>> {
        let mut kept = Kept::default();
        let request = HelperRequest::journal(server.clone(), lines, false);
        self.ask(
            "journal",
            &self.context.paths.helper,
            &request,
            Keep::Lines(&mut kept),
        )?;

        let last = kept
            .lines
            .iter()
            .rev()
            .find_map(|(_, line)| line.split_once(" srcds: "))
            .map(|(_, said)| said.chars().take(REASON).collect());

        self.context.log.lines(self.job, self.task, kept.lines);
        Ok(last)
    }

    /// Frees the worker slot of the task, which from now on only waits.
    pub fn settle(&self) {
        self.context.settling.begin(self.task);
    }

    /// The task works again and takes its slot.
    pub fn settled(&self) {
        self.context.settling.end(self.task);
    }

    /// What systemd reports about the unit. The output is an answer to the worker and does not go
    /// to the job's log.
    pub fn show(&self, server: &InstanceName) -> Result<Observed> {
        let at = Moment::now();
        let mut properties = Kept::default();
        let request = HelperRequest::Show {
            server: server.clone(),
        };
        self.ask(
            "show",
            &self.context.paths.helper,
            &request,
            Keep::Lines(&mut properties),
        )?;

        Ok(Observed {
            unit: Unit::from_properties(properties.lines.iter().map(|(_, line)| line.as_str())),
            at,
        })
    }

    /// Installs or updates the game.
    ///
    /// Errors: steamcmd's own code if it failed; 69 if the runner cannot be reached.
    pub fn install(&self) -> Result<()> {
        self.ask(
            "install",
            &self.context.paths.runner,
            &RunnerRequest::Install {},
            Keep::Log { also: None },
        )
    }

    /// Sends a request that changes the unit, and gives what the helper reports about the unit
    /// afterwards. If the helper does not report it, asks for it.
    fn observed(
        &self,
        verb: &'static str,
        request: &HelperRequest,
        server: &InstanceName,
    ) -> (Result<()>, Result<Observed>) {
        let mut seen = None;
        let done = self.ask(
            verb,
            &self.context.paths.helper,
            request,
            Keep::Observed(&mut seen),
        );

        let seen = seen.map_or_else(|| self.show(server), Ok);
        (done, seen)
    }

    /// Handles one connection: its row, its lines and its end. If the command does not exit with 0,
    /// the error has its last line on standard error.
    fn ask(
        &self,
        verb: &'static str,
        socket: &Path,
        request: &impl Serialize,
        keep: Keep<'_>,
    ) -> Result<()> {
        if let Some(why) = self.refusal() {
            return Err(Error::failed(format!("{verb} was not begun: {why}")));
        }

        let token = self.context.log.runner_began(self.task, verb);
        let mut sink = LogSink {
            context: self,
            token,
            keep,
            last_error: None,
        };

        let end = units::ask(socket, request, &mut sink);
        let last_error = sink.last_error.take();
        self.context.connections.forget(token);

        let told = end.as_ref().map_or(
            End {
                exit: None,
                ended_by: None,
                tree: None,
            },
            |end| *end,
        );

        self.context.log.runner_ended(token, told);
        verdict(
            verb,
            end.map_err(|error| error.within(verb))?,
            last_error,
            self.refusal(),
        )
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

/// Converts the end of a command to a result.
fn verdict(verb: &str, end: End, last_error: Option<String>, why: Option<&str>) -> Result<()> {
    let code = end.exit.unwrap_or(1);

    if end.tree == Some(Tree::Left) {
        return Err(Error::failed(format!(
            "{verb}: a process of it could not be ended; see `systemctl status` of its unit"
        )));
    }

    if code == 0 && end.ended_by != Some(EndedBy::Terminate) && end.ended_by != Some(EndedBy::Kill)
    {
        return Ok(());
    }

    let exit = Exit::Foreign(
        u8::try_from(code)
            .ok()
            .filter(|&code| code != 0)
            .unwrap_or(1),
    );

    let why = why.map_or_else(String::new, |why| format!(" because {why}"));
    let how = match end.ended_by {
        Some(EndedBy::Terminate) => format!("was ended{why}"),
        Some(EndedBy::Kill) => format!("was killed{why}"),
        _ => format!("failed with exit code {code}"),
    };

    let words = last_error.map_or_else(String::new, |line| format!(": {line}"));
    Err(Error::new(exit, format!("{verb} {how}{words}")))
}

/// Where the lines of an answer go.
enum Keep<'a> {
    /// To the job's log. `also`: the one other unit that the request may be passed on to.
    Log { also: Option<String> },
    /// To the caller.
    Lines(&'a mut Kept),
    /// To the job's log; the state that systemd reports goes to the caller.
    Observed(&'a mut Option<Observed>),
}

struct LogSink<'a, 'b> {
    context: &'a TaskContext<'a>,
    token: RunnerToken,
    keep: Keep<'b>,
    last_error: Option<String>,
}

impl Sink for LogSink<'_, '_> {
    fn opened(&mut self, canceller: Canceller) {
        self.context
            .context
            .connections
            .keep(self.context.task, self.token, canceller);
    }

    fn started(&mut self, unit: &str, server: Option<u32>) {
        let passed_on = matches!(&self.keep, Keep::Log { also: Some(other) } if other == unit);
        let other = if passed_on { served_in(unit) } else { None };
        let served = other.unwrap_or_else(|| served_by(server));
        self.context.context.log.runner_started(self.token, served);
    }

    fn lines(&mut self, lines: Vec<(Stream, String)>) {
        if let Some((_, line)) = lines
            .iter()
            .rev()
            .find(|(stream, line)| *stream == Stream::Stderr && !line.is_empty())
        {
            self.last_error = Some(without_pointer(line).chars().take(REASON).collect());
        }

        match &mut self.keep {
            Keep::Lines(kept) => kept.add(lines),
            Keep::Log { .. } | Keep::Observed(_) => {
                self.context
                    .context
                    .log
                    .lines(self.context.job, self.context.task, lines);
            }
        }
    }

    fn observed(&mut self, observed: Observed) {
        if let Keep::Observed(seen) = &mut self.keep {
            **seen = Some(observed);
        }
    }
}
