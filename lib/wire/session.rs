//! The client's side of a batch: operations of many threads share one connection to the helper, for
//! which systemd sets up one sandbox instead of one for each.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::batch::{BatchRequest, MOST};
use super::client::{CommandEnd, Connection, Output, ended_early, json_line};
use super::{Answer, Cancel, Control, LINE_LIMIT, Stream};
use crate::base::names::InstanceName;
use crate::base::{Error, Result};

/// How long a connection without operations stays open. The tasks of a restart follow one another
/// within milliseconds, and each new connection costs a sandbox.
const LINGER: Duration = Duration::from_millis(500);

/// The connections for batches, opened when they are needed.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<Option<Arc<Session>>>>);

/// One connection.
struct Session {
    path: PathBuf,
    socket: Arc<UnixStream>,
    state: Mutex<State>,
}

struct State {
    /// The operations under way, by server.
    under_way: HashMap<InstanceName, Sender<Event>>,
    /// When the last operation ended.
    idle_since: Instant,
    /// No more operations may begin.
    closed: bool,
}

/// What happens to an operation.
enum Event {
    Output(Output),
    End(CommandEnd),
    Broken(Error),
}

/// An operation on one server under way. Dropping it does not end it.
pub struct Operation {
    session: Arc<Session>,
    events: Receiver<Event>,
    server: InstanceName,
}

/// Cancels one operation, from any thread.
#[derive(Clone)]
pub struct OperationCanceller {
    session: Arc<Session>,
    server: InstanceName,
}

impl Sessions {
    /// Begins an operation at the helper's socket at `path`.
    ///
    /// Fails as [`Connection::open`] does.
    pub fn begin(&self, path: &Path, batch: &BatchRequest) -> Result<Operation> {
        let [server] = &*batch.servers else {
            return Err(Error::failed("an operation is on one server"));
        };
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*current
            && let Some(operation) = session.add(batch, server)
        {
            return Ok(operation);
        }

        let (session, operation) = Session::open(path, batch, server)?;
        *current = Some(session);
        Ok(operation)
    }
}

impl Session {
    fn open(
        path: &Path,
        batch: &BatchRequest,
        server: &InstanceName,
    ) -> Result<(Arc<Self>, Operation)> {
        let connection = Connection::open(path, batch)?;
        let session = Arc::new(Self {
            path: path.to_owned(),
            socket: connection.socket(),
            state: Mutex::new(State {
                under_way: HashMap::new(),
                idle_since: Instant::now(),
                closed: false,
            }),
        });

        let operation = session.operation(&mut session.state(), server);
        let reader = Arc::clone(&session);
        let thread = thread::Builder::new().name("helper".to_owned());
        thread
            .stack_size(512 * 1024)
            .spawn(move || reader.read(connection))
            .map_err(|error| Error::failed(format!("no thread could be started: {error}")))?;
        Ok((session, operation))
    }

    /// Adds an operation. None if the connection takes no more.
    fn add(self: &Arc<Self>, batch: &BatchRequest, server: &InstanceName) -> Option<Operation> {
        let mut state = self.state();
        let is_full = state.under_way.len() >= MOST;
        if state.closed || is_full || state.under_way.contains_key(server) {
            return None;
        }

        // The helper may have died, so the line is written first. A closed connection takes none.
        self.write(&state, batch).ok()?;
        Some(self.operation(&mut state, server))
    }

    fn operation(self: &Arc<Self>, state: &mut State, server: &InstanceName) -> Operation {
        let (sender, events) = channel();
        state.under_way.insert(server.clone(), sender);
        Operation {
            session: Arc::clone(self),
            events,
            server: server.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one line. The lock on the state keeps the lines of several threads apart.
    fn write(&self, _state: &MutexGuard<'_, State>, line: &impl Serialize) -> io::Result<()> {
        (&*self.socket).write_all(&json_line(line)?)
    }

    /// Passes on what the helper sends, until the connection's end.
    fn read(&self, mut connection: Connection) {
        let mut refused = None;
        let error = loop {
            match self.next(&mut connection, &mut refused) {
                Ok(true) => {}
                Ok(false) => break ended_early(&self.path),
                Err(error) => break error,
            }
        };

        let mut state = self.state();
        state.closed = true;
        for (_, operation) in state.under_way.drain() {
            let event = match &refused {
                Some(end) => Event::End(CommandEnd::clone(end)),
                None => Event::Broken(error.clone()),
            };
            // The thread of an operation that was given up is gone.
            drop(operation.send(event));
        }
    }

    /// Reads one answer, or ends the batch when there was nothing to do for a while. False after
    /// the last answer.
    fn next(&self, connection: &mut Connection, refused: &mut Option<CommandEnd>) -> Result<bool> {
        if let Some(left) = self.time_to_close()
            && !connection.has_input(left)?
        {
            self.close_if_idle();
            return Ok(true);
        }

        let server_pid = connection.server_pid();
        let Some(answer) = connection.next_answer()? else {
            return Ok(false);
        };

        match answer.server.clone() {
            Some(server) => self.pass_on(&server, answer, server_pid),
            None => self.of_connection(answer, refused),
        }
        Ok(true)
    }

    /// How long the connection stays open without operations. None while there are some, or when it
    /// is closed.
    fn time_to_close(&self) -> Option<Duration> {
        let state = self.state();
        let is_idle = state.under_way.is_empty() && !state.closed;
        is_idle.then(|| LINGER.saturating_sub(state.idle_since.elapsed()))
    }

    fn close_if_idle(&self) {
        let mut state = self.state();
        if state.under_way.is_empty() && !state.closed && state.idle_since.elapsed() >= LINGER {
            state.closed = true;
            // If the helper is gone, the next read notices.
            drop(self.write(&state, &BatchRequest::end()));
        }
    }

    /// An answer that concerns no server: the refusal of the whole batch.
    fn of_connection(&self, answer: Answer<'_>, refused: &mut Option<CommandEnd>) {
        if let Some(error) = answer.error {
            *refused = Some(CommandEnd {
                exit: super::REFUSED,
                ended_by: None,
                tree: None,
                refused: Some(error.chars().take(LINE_LIMIT).collect()),
            });
        }
    }

    fn pass_on(&self, server: &InstanceName, answer: Answer<'_>, pid: Option<u32>) {
        let mut state = self.state();
        let Some(operation) = state.under_way.get(server) else {
            return;
        };

        let (event, is_last) = match answer {
            Answer {
                exit: Some(exit),
                ended_by,
                tree,
                error,
                ..
            } => {
                let end = CommandEnd {
                    exit,
                    ended_by,
                    tree,
                    refused: error.map(|error| error.chars().take(LINE_LIMIT).collect()),
                };
                (Event::End(end), true)
            }
            other => match output(other, pid) {
                Some(output) => (Event::Output(output), false),
                None => return,
            },
        };

        // The thread of an operation that was given up is gone.
        drop(operation.send(event));
        if is_last {
            state.under_way.remove(server);
            state.idle_since = Instant::now();
        }
    }
}

fn output(answer: Answer<'_>, server: Option<u32>) -> Option<Output> {
    if let Some(text) = answer.stdout {
        return Some(Output::Lines(vec![(Stream::Stdout, text.into_owned())]));
    }
    if let Some(text) = answer.stderr {
        return Some(Output::Lines(vec![(Stream::Stderr, text.into_owned())]));
    }
    if let Some(observation) = answer.observed {
        return Some(Output::Observed(observation));
    }
    let unit = answer.started?.unit;
    Some(Output::Started { unit, server })
}

impl Operation {
    /// A handle for another thread, to cancel the operation.
    pub fn canceller(&self) -> OperationCanceller {
        OperationCanceller {
            session: Arc::clone(&self.session),
            server: self.server.clone(),
        }
    }

    /// Passes on all output until the end. `Ok` even when the operation failed: check the returned
    /// end.
    ///
    /// Fails when the connection breaks before the end, or with the error of `each`.
    pub fn run(self, mut each: impl FnMut(Output) -> Result<()>) -> Result<CommandEnd> {
        loop {
            match self.events.recv() {
                Ok(Event::Output(output)) => each(output)?,
                Ok(Event::End(end)) => return Ok(end),
                Ok(Event::Broken(error)) => return Err(error),
                // It was given up.
                Err(_) => return Err(ended_early(&self.session.path)),
            }
        }
    }
}

impl OperationCanceller {
    /// Cancels the operation.
    pub fn send(&self, cancel: Cancel) -> io::Result<()> {
        let control = Control {
            cancel,
            server: Some(self.server.clone()),
        };
        self.session.write(&self.session.state(), &control)
    }

    /// Gives up the operation: [`Operation::run`] returns an error now. The connection takes no
    /// more operations, so that a late answer cannot pass for that of a later one.
    pub fn close(&self) {
        let mut state = self.session.state();
        state.closed = true;
        state.under_way.remove(&self.server);
        if state.under_way.is_empty() {
            let _ = self.session.socket.shutdown(std::net::Shutdown::Both);
        } else {
            drop(self.session.write(&state, &BatchRequest::end()));
        }
    }
}
