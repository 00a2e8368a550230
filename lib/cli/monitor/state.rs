//! The state of the screen, and what each key does to it: cursor, dialogs, actions. Pure.

use std::collections::HashMap;

use super::console::{Console, Typed};
use super::cursor::Cursor;
use super::input::Input;
use super::keys::Key;
use super::log::{Log, Reply};
use super::snapshot::Snapshot;
use crate::base::names::{JobId, ServerId};
use crate::base::table::Tone;
use crate::db::monitor::ServerRow;
use crate::domain::drift::Drift;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::server::DesiredState;
use crate::queue::game::may_run;

/// Rows that a page key moves.
const PAGE: isize = 10;

/// The lists, in their order on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    Servers,
    /// Running and finished jobs.
    Jobs,
    /// Queued jobs.
    Queue,
}

/// A dialog over the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialog {
    /// The list of keys.
    Help,
    /// Asks whether to start, stop or restart a server.
    Server {
        id: ServerId,
        name: String,
        /// What `y` does.
        operation: Operation,
        /// Whether it should run but does not. Then it can also be started again.
        is_down: bool,
        /// Whose game it would end, in words, or that this is not known; kept up to date. Then it
        /// can also wait until nobody plays.
        occupied: Option<String>,
    },
    /// Asks whether to cancel a job.
    Cancel {
        job: JobId,
        operation: String,
        state: JobState,
    },
    /// Asks for the reason of a cancellation.
    Reason {
        job: JobId,
        operation: String,
        /// Whether to kill its commands at once.
        force: bool,
        input: Input,
    },
}

/// What the monitor has to do after a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Redraw.
    Draw,
    /// Load a new snapshot, because something else is shown now.
    Reload,
    Quit,
    /// Stop the process (Ctrl-Z).
    Suspend,
    /// Redraw everything (Ctrl-L).
    Repaint,
    /// Pause (true) or resume the queue.
    Pause(bool),
    /// Queue a job for a server.
    Enqueue(Operation, ServerId),
    /// Queue a job for a server that waits until nobody plays.
    EnqueueWhenEmpty(Operation, ServerId),
    /// Send a command to a server's game.
    Send(ServerId, String),
    Cancel {
        job: JobId,
        /// Whether to kill its commands at once.
        force: bool,
        reason: String,
    },
}

/// What the screen keeps between two frames.
#[derive(Debug)]
pub struct MonitorState {
    /// The list that has the cursor keys.
    pub pane: Pane,
    pub servers: Cursor<ServerId>,
    pub jobs: Cursor<JobId>,
    pub queue: Cursor<JobId>,
    pub dialog: Option<Dialog>,
    /// The log view, which takes the whole screen.
    pub log: Option<Log>,
    /// The server whose console takes the whole screen,
    pub console: Option<ServerId>,
    /// and all consoles that were opened.
    pub consoles: HashMap<ServerId, Console>,
    /// The result of the last key.
    pub message: Option<(Tone, String)>,
}

impl Default for MonitorState {
    fn default() -> Self {
        Self {
            pane: Pane::Jobs,
            servers: Cursor::default(),
            jobs: Cursor::default(),
            queue: Cursor::default(),
            dialog: None,
            log: None,
            console: None,
            consoles: HashMap::new(),
            message: None,
        }
    }
}

impl MonitorState {
    /// Updates the selections for a new snapshot.
    pub fn refresh(&mut self, snapshot: &Snapshot) {
        self.servers.refresh(&snapshot.server_ids());
        self.jobs.refresh(&snapshot.job_ids());
        self.queue.refresh(&snapshot.queue_ids());
        if let Some(Dialog::Server {
            id,
            operation,
            occupied,
            ..
        }) = &mut self.dialog
        {
            *occupied = occupied_by(snapshot, *id, *operation);
        }
    }

    /// The job whose log is shown and that C cancels: the selected job, or, while the cursor is in
    /// the servers, the job of the selected server.
    pub fn selected_job(&self, snapshot: &Snapshot) -> Option<JobId> {
        let first = self
            .jobs
            .index(&snapshot.job_ids())
            .map(|row| snapshot.jobs[row].id);
        let waiting = self
            .queue
            .index(&snapshot.queue_ids())
            .map(|row| snapshot.queue[row].id);
        match self.pane {
            Pane::Jobs => first.or(waiting),
            Pane::Queue => waiting.or(first),
            Pane::Servers => {
                let server = self
                    .servers
                    .index(&snapshot.server_ids())
                    .map(|row| snapshot.servers[row].id);
                // The server's job may be too deep in the queue to be on the screen.
                let its = server
                    .and_then(|id| snapshot.busy.get(&id))
                    .map(|busy| busy.job);
                its.filter(|&id| snapshot.job(id).is_some()).or(first)
            }
        }
    }

    pub fn key(&mut self, key: &Key, snapshot: &Snapshot) -> Action {
        self.message = None;
        match key {
            Key::Ctrl('c') => return Action::Quit,
            Key::Ctrl('z') => return Action::Suspend,
            Key::Ctrl('l') => return Action::Repaint,
            // Where a line may be edited, Alt with a letter is a habit and does nothing: it must
            // neither close the line nor act on what is behind it.
            Key::Alt(_) if self.dialog.is_some() || self.console.is_some() => return Action::Draw,
            Key::Alt(letter) => {
                let first = self.key(&Key::Escape, snapshot);
                return match self.key(&Key::Char(*letter), snapshot) {
                    Action::Draw => first,
                    then => then,
                };
            }
            _ => {}
        }

        if let Some(dialog) = self.dialog.take() {
            return self.answer(dialog, key);
        }

        if let Some(console) = self.console.and_then(|id| self.consoles.get_mut(&id)) {
            let server = console.server;
            return match console.key(key) {
                Typed::Draw => Action::Draw,
                Typed::Send(command) => Action::Send(server, command),
                Typed::Close => {
                    self.console = None;
                    Action::Reload
                }
            };
        }

        if let Some(log) = &mut self.log {
            match log.key(key) {
                Reply::Load => return Action::Reload,
                Reply::Close => {
                    self.log = None;
                    return Action::Reload;
                }
                Reply::Unhandled => {}
            }
        }

        match key {
            Key::Char('q' | 'Q') => Action::Quit,
            Key::Char('?' | 'h' | 'H') => self.ask(Dialog::Help),
            _ if self.log.is_some() => Action::Draw,
            Key::Char('p' | 'P') => Action::Pause(snapshot.pause.is_none()),
            Key::Char('c' | 'C') => self.ask_cancel(snapshot),
            Key::Char('s' | 'S') => self.ask_server(snapshot),
            Key::Char('r' | 'R') => self.ask_restart(snapshot),
            Key::Char('e' | 'E') => self.open_console(snapshot),
            Key::Char('l' | 'L') => self.open_log(snapshot),
            key => self.navigate(key, snapshot),
        }
    }

    fn navigate(&mut self, key: &Key, snapshot: &Snapshot) -> Action {
        let by = match key {
            Key::Tab | Key::Right => {
                return self.switch_pane([Pane::Jobs, Pane::Queue, Pane::Servers]);
            }
            Key::BackTab | Key::Left => {
                return self.switch_pane([Pane::Queue, Pane::Servers, Pane::Jobs]);
            }
            Key::Down | Key::Char('j' | 'J') => 1,
            Key::Up | Key::Char('k' | 'K') => -1,
            Key::PageDown => PAGE,
            Key::PageUp => -PAGE,
            Key::End | Key::Char('G') => isize::MAX,
            Key::Home | Key::Char('g') => isize::MIN,
            _ => return Action::Draw,
        };

        match self.pane {
            Pane::Servers => self.servers.move_by(by, &snapshot.server_ids()),
            Pane::Jobs => self.jobs.move_by(by, &snapshot.job_ids()),
            Pane::Queue => self.queue.move_by(by, &snapshot.queue_ids()),
        }

        Action::Reload
    }

    /// `next` has the panes that follow the servers, the jobs and the queue.
    fn switch_pane(&mut self, next: [Pane; 3]) -> Action {
        self.pane = match self.pane {
            Pane::Servers => next[0],
            Pane::Jobs => next[1],
            Pane::Queue => next[2],
        };
        Action::Reload
    }

    fn ask(&mut self, dialog: Dialog) -> Action {
        self.dialog = Some(dialog);
        Action::Draw
    }

    fn warn(&mut self, text: String) -> Action {
        self.message = Some((Tone::Warning, text));
        Action::Draw
    }

    fn ask_cancel(&mut self, snapshot: &Snapshot) -> Action {
        let Some(job) = self.selected_job(snapshot).and_then(|id| snapshot.job(id)) else {
            return self.warn("there is no job to cancel".to_owned());
        };
        if job.state.is_terminal() {
            return self.warn(format!(
                "job {} has {} already",
                job.id,
                past_participle(job.state)
            ));
        }

        self.ask(Dialog::Cancel {
            job: job.id,
            operation: job.operation.clone(),
            state: job.state,
        })
    }

    fn selected_server<'s>(&mut self, snapshot: &'s Snapshot) -> Option<&'s ServerRow> {
        let row = self.servers.index(&snapshot.server_ids());
        if row.is_none() {
            self.warn("there is no server: create one with `left4me server create`".to_owned());
        }
        row.map(|row| &snapshot.servers[row])
    }

    fn ask_server(&mut self, snapshot: &Snapshot) -> Action {
        let Some(server) = self.selected_server(snapshot) else {
            return Action::Draw;
        };

        let operation = match server.desired {
            DesiredState::Running => Operation::Stop,
            DesiredState::Stopped => Operation::Start,
        };

        let is_down = server
            .drift
            .as_ref()
            .is_some_and(|drift| drift.kind == Drift::Down);

        self.ask(Dialog::Server {
            id: server.id,
            name: server.name.clone(),
            operation,
            is_down,
            occupied: occupied_by(snapshot, server.id, operation),
        })
    }

    fn ask_restart(&mut self, snapshot: &Snapshot) -> Action {
        let Some(server) = self.selected_server(snapshot) else {
            return Action::Draw;
        };
        if server.desired == DesiredState::Stopped {
            return self.warn(format!(
                "server {} should be stopped: S starts it",
                server.id
            ));
        }

        self.ask(Dialog::Server {
            id: server.id,
            name: server.name.clone(),
            operation: Operation::Restart,
            is_down: false,
            occupied: occupied_by(snapshot, server.id, Operation::Restart),
        })
    }

    fn open_console(&mut self, snapshot: &Snapshot) -> Action {
        let Some(server) = self.selected_server(snapshot) else {
            return Action::Draw;
        };
        if !may_run(server.actual) {
            return self.warn(format!(
                "server {} is not running ({}): S starts it",
                server.id, server.actual
            ));
        }

        let new = || Console::new(server.id, &server.name);
        self.consoles.entry(server.id).or_insert_with(new);
        self.console = Some(server.id);
        Action::Draw
    }

    fn open_log(&mut self, snapshot: &Snapshot) -> Action {
        let Some(job) = self.selected_job(snapshot).and_then(|id| snapshot.job(id)) else {
            return self.warn("there is no job, so there is no log".to_owned());
        };
        self.log = Some(Log::open(job.id, &job.what(), job.state));
        Action::Reload
    }

    fn answer(&mut self, dialog: Dialog, key: &Key) -> Action {
        match (dialog, key) {
            (Dialog::Help, Key::Char('q' | 'Q')) => Action::Quit,
            // Any key closes the help.
            (Dialog::Help, _) | (_, Key::Escape) => Action::Draw,
            (Dialog::Server { id, operation, .. }, Key::Char('y' | 'Y')) => {
                Action::Enqueue(operation, id)
            }
            (
                Dialog::Server {
                    id,
                    operation,
                    occupied: Some(_),
                    ..
                },
                Key::Char('w' | 'W'),
            ) => Action::EnqueueWhenEmpty(operation, id),
            (
                Dialog::Server {
                    id, is_down: true, ..
                },
                Key::Char('s' | 'S'),
            ) => Action::Enqueue(Operation::Start, id),
            (
                Dialog::Cancel { job, operation, .. },
                Key::Char(letter @ ('y' | 'Y' | 'f' | 'F')),
            ) => {
                let force = matches!(letter, 'f' | 'F');
                self.ask(Dialog::Reason {
                    job,
                    operation,
                    force,
                    input: Input::default(),
                })
            }
            (Dialog::Server { .. } | Dialog::Cancel { .. }, Key::Char('n' | 'N')) => Action::Draw,
            (
                Dialog::Reason {
                    job, force, input, ..
                },
                Key::Enter,
            ) => Action::Cancel {
                job,
                force,
                reason: input.text().trim().to_owned(),
            },
            (
                Dialog::Reason {
                    job,
                    operation,
                    force,
                    mut input,
                },
                key,
            ) => {
                input.key(key);
                self.ask(Dialog::Reason {
                    job,
                    operation,
                    force,
                    input,
                })
            }

            // Other keys leave the dialog open.
            (dialog, _) => self.ask(dialog),
        }
    }
}

/// Whose game an operation would end, if anybody's.
fn occupied_by(snapshot: &Snapshot, server: ServerId, operation: Operation) -> Option<String> {
    let occupied = snapshot.occupied.get(&server).cloned();
    occupied.filter(|_| operation.takes_condition())
}

fn past_participle(state: JobState) -> &'static str {
    match state {
        JobState::Cancelled => "been cancelled",
        _ => state.as_str(),
    }
}

#[cfg(test)]
mod tests;
