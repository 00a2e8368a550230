//! What a task reaches the host with: the helper's and the runner's verbs, each one connection whose lines go to the
//! job's log and whose row goes to `runners`; and the list of open connections, so that they can be ended.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::base::clock::Moment;
use crate::base::names::{InstanceName, JobId, TaskId};
use crate::base::{Error, Exit, Result};
use crate::db::runners::End;
use crate::domain::unit::Unit;
use crate::host::units::{self, Observed, Sink};
use crate::queue::log::{Log, RunnerToken};
use crate::queue::run::Ended;
use crate::wire::client::Canceller;
use crate::wire::{Cancel, EndedBy, HelperRequest, RunnerRequest, Started, Stream, Tree};

/// Where the worker's hands are.
#[derive(Clone, Debug)]
pub struct Places {
    /// LEFT4ME_ROOT.
    pub root: PathBuf,
    /// helper.sock
    pub helper: PathBuf,
    /// runner.sock
    pub runner: PathBuf,
}

/// The connections that are open, so that they can be told to end.
#[derive(Clone, Default)]
pub struct Connections {
    open: Arc<Mutex<HashMap<RunnerToken, Canceller>>>,
    closed: Arc<AtomicBool>,
}

impl Connections {
    fn keep(&self, token: RunnerToken, canceller: Canceller) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: an end_all that came before is obeyed here, one that comes after finds the connection.
        if self.closed.load(Ordering::SeqCst) {
            tell(&canceller, Cancel::Terminate);
        }
        open.insert(token, canceller);
    }

    fn forget(&self, token: RunnerToken) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&token);
    }

    /// From now on no task starts a new command, and those that run are told to end.
    pub fn end_all(&self, how: Cancel) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::SeqCst);
        for canceller in open.values() {
            tell(canceller, how);
        }
    }

    /// Whether no new command may be started.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

/// A connection that is gone already needs no telling.
fn tell(canceller: &Canceller, how: Cancel) {
    if let Err(error) = canceller.send(how) {
        tracing::debug!(%error, "a connection had ended before it was told to");
    }
}

/// What a task reaches the host with.
#[derive(Clone)]
pub struct Hands {
    /// Where runner, helper and data are.
    pub places: Arc<Places>,
    /// Where lines go.
    pub log: Log<Ended>,
    /// Which connections are open.
    pub connections: Connections,
}

/// The hands of one task: they know whose lines they write down.
pub struct TaskHands<'a> {
    hands: &'a Hands,
    job: JobId,
    task: TaskId,
}

impl Hands {
    /// For one task.
    #[must_use]
    pub fn of_task(&self, job: JobId, task: TaskId) -> TaskHands<'_> {
        TaskHands { hands: self, job, task }
    }
}

impl TaskHands<'_> {
    /// LEFT4ME_ROOT.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.hands.places.root
    }

    /// Whether the worker is stopping.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.hands.connections.is_closed()
    }

    /// Writes down a line of our own.
    pub fn note(&self, stream: Stream, line: impl std::fmt::Display) {
        self.hands.log.note(self.job, self.task, stream, format!("left4me: {line}"));
    }

    /// Enables and starts the unit.
    ///
    /// # Errors
    /// The command's own code when it failed; 69 when the helper cannot be reached.
    pub fn enable(&self, server: &InstanceName) -> Result<()> {
        self.helper("enable", &HelperRequest::Enable { server: server.clone() })
    }

    /// Disables and stops the unit, and unmounts its overlay.
    ///
    /// # Errors
    /// As [`TaskHands::enable`].
    pub fn disable(&self, server: &InstanceName) -> Result<()> {
        self.helper("disable", &HelperRequest::Disable { server: server.clone() })
    }

    /// Empties the upper layer; removes all of an instance that is gone.
    ///
    /// # Errors
    /// As [`TaskHands::enable`].
    pub fn purge(&self, server: &InstanceName) -> Result<()> {
        self.helper("purge", &HelperRequest::Purge { server: server.clone() })
    }

    /// Puts the unit's last lines into the job's log.
    ///
    /// # Errors
    /// As [`TaskHands::enable`].
    pub fn journal(&self, server: &InstanceName, lines: u32) -> Result<()> {
        self.helper("journal", &HelperRequest::Journal { server: server.clone(), lines: Some(lines), follow: false })
    }

    /// What systemd says of the unit. Its lines are an answer to us, not a part of the job's log.
    ///
    /// # Errors
    /// As [`TaskHands::enable`].
    pub fn show(&self, server: &InstanceName) -> Result<Observed> {
        let at = Moment::now();
        let mut properties = Vec::new();
        let request = HelperRequest::Show { server: server.clone() };
        self.ask("show", &self.hands.places.helper, &request, Some(&mut properties))?;
        Ok(Observed { unit: Unit::from_properties(properties.iter().map(|(_, line)| line.as_str())), at })
    }

    /// Installs the game.
    ///
    /// # Errors
    /// steamcmd's own code when it failed; 69 when the runner cannot be reached.
    pub fn install(&self) -> Result<()> {
        self.ask("install", &self.hands.places.runner, &RunnerRequest::Install {}, None)
    }

    fn helper(&self, verb: &'static str, request: &HelperRequest) -> Result<()> {
        self.ask(verb, &self.hands.places.helper, request, None)
    }

    /// One connection: its row, its lines, its end. A command that did not end with 0 is an error that tells its last
    /// line on standard error.
    fn ask(
        &self,
        verb: &'static str,
        socket: &Path,
        request: &impl Serialize,
        keep: Option<&mut Vec<(Stream, String)>>,
    ) -> Result<()> {
        if self.is_closed() {
            return Err(Error::failed(format!("{verb} was not begun: the worker is stopping")));
        }
        let token = self.hands.log.runner_began(self.task, verb);
        let mut sink = LogSink { hands: self, token, keep, last_error: None };
        let end = units::ask(socket, request, &mut sink);
        let last_error = sink.last_error.take();
        self.hands.connections.forget(token);
        let told = end.as_ref().map_or(End { exit: None, ended_by: None, tree: None }, |end| *end);
        self.hands.log.runner_ended(token, told);
        verdict(verb, end.map_err(|error| error.within(verb))?, last_error, self.is_closed())
    }
}

/// Whether a command that has ended did well.
fn verdict(verb: &str, end: End, last_error: Option<String>, stopping: bool) -> Result<()> {
    let code = end.exit.unwrap_or(1);
    if end.tree == Some(Tree::Left) {
        return Err(Error::failed(format!(
            "{verb}: a process of it could not be ended; see `systemctl status` of its unit"
        )));
    }
    if code == 0 && end.ended_by != Some(EndedBy::Terminate) && end.ended_by != Some(EndedBy::Kill) {
        return Ok(());
    }
    let exit = Exit::Foreign(u8::try_from(code).ok().filter(|&code| code != 0).unwrap_or(1));
    let how = match end.ended_by {
        Some(EndedBy::Terminate) if stopping => "was ended because the worker is stopping".to_owned(),
        Some(EndedBy::Kill) if stopping => "was killed because the worker is stopping".to_owned(),
        Some(EndedBy::Terminate) => "was ended".to_owned(),
        Some(EndedBy::Kill) => "was killed".to_owned(),
        _ => format!("failed with exit code {code}"),
    };
    let words = last_error.map_or_else(String::new, |line| format!(": {line}"));
    Err(Error::new(exit, format!("{verb} {how}{words}")))
}

struct LogSink<'a, 'b> {
    hands: &'a TaskHands<'a>,
    token: RunnerToken,
    keep: Option<&'b mut Vec<(Stream, String)>>,
    last_error: Option<String>,
}

impl Sink for LogSink<'_, '_> {
    fn opened(&mut self, canceller: Canceller) {
        self.hands.hands.connections.keep(self.token, canceller);
    }

    fn started(&mut self, started: Started) {
        self.hands.hands.log.runner_started(self.token, started);
    }

    fn lines(&mut self, lines: Vec<(Stream, String)>) {
        if let Some((_, line)) = lines.iter().rev().find(|(stream, line)| *stream == Stream::Stderr && !line.is_empty())
        {
            self.last_error = Some(line.chars().take(300).collect());
        }
        match &mut self.keep {
            Some(kept) => kept.extend(lines),
            None => self.hands.hands.log.lines(self.hands.job, self.hands.task, lines),
        }
    }
}
