//! The state of the screen, and what each key does to it: cursor, dialogs, actions. Pure.

use super::cursor::Cursor;
use super::input::Input;
use super::keys::Key;
use super::log::{Log, Reply};
use super::snapshot::Snapshot;
use crate::base::names::{JobId, ServerId};
use crate::base::table::Tone;
use crate::domain::drift::Drift;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::server::DesiredState;

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
    /// Asks whether to start or stop a server.
    Server {
        id: ServerId,
        name: String,
        /// What `y` does.
        operation: Operation,
        /// Whether it should run but does not. Then it can also be started again.
        is_down: bool,
    },
    /// Asks whether to cancel a job.
    Cancel { job: JobId, operation: String, state: JobState },
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
    Cancel {
        job: JobId,
        /// Whether to kill its commands at once.
        force: bool,
        reason: String,
    },
}

/// What the screen keeps between two frames.
#[derive(Debug)]
pub struct State {
    /// The list that has the cursor keys.
    pub pane: Pane,
    pub servers: Cursor<ServerId>,
    pub jobs: Cursor<JobId>,
    pub queue: Cursor<JobId>,
    pub dialog: Option<Dialog>,
    /// The log view, which takes the whole screen.
    pub log: Option<Log>,
    /// The result of the last key.
    pub message: Option<(Tone, String)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            pane: Pane::Jobs,
            servers: Cursor::default(),
            jobs: Cursor::default(),
            queue: Cursor::default(),
            dialog: None,
            log: None,
            message: None,
        }
    }
}

impl State {
    /// Updates the selections for a new snapshot.
    pub fn refresh(&mut self, snapshot: &Snapshot) {
        self.servers.refresh(&snapshot.server_ids());
        self.jobs.refresh(&snapshot.job_ids());
        self.queue.refresh(&snapshot.queue_ids());
    }

    /// The job whose log is shown and that C cancels: the selected job, or, while the cursor is in
    /// the servers, the job of the selected server.
    #[must_use]
    pub fn selected_job(&self, snapshot: &Snapshot) -> Option<JobId> {
        let first = self.jobs.index(&snapshot.job_ids()).map(|row| snapshot.jobs[row].id);
        let waiting = self.queue.index(&snapshot.queue_ids()).map(|row| snapshot.queue[row].id);
        match self.pane {
            Pane::Jobs => first.or(waiting),
            Pane::Queue => waiting.or(first),
            Pane::Servers => {
                let server = self.servers.index(&snapshot.server_ids()).map(|row| snapshot.servers[row].id);
                // The server's job may be too deep in the queue to be on the screen.
                let its = server.and_then(|id| snapshot.busy.get(&id)).map(|busy| busy.job);
                its.filter(|&id| snapshot.job(id).is_some()).or(first)
            }
        }
    }

    /// Handles a key.
    pub fn key(&mut self, key: &Key, snapshot: &Snapshot) -> Action {
        self.message = None;
        match key {
            Key::Ctrl('c') => return Action::Quit,
            Key::Ctrl('z') => return Action::Suspend,
            Key::Ctrl('l') => return Action::Repaint,
            _ => {}
        }

        if let Some(dialog) = self.dialog.take() {
            return self.answer(dialog, key);
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
            Key::Char('l' | 'L') => self.open_log(snapshot),
            key => self.navigate(key, snapshot),
        }
    }

    fn navigate(&mut self, key: &Key, snapshot: &Snapshot) -> Action {
        let by = match key {
            Key::Tab | Key::Right => return self.switch_pane([Pane::Jobs, Pane::Queue, Pane::Servers]),
            Key::BackTab | Key::Left => return self.switch_pane([Pane::Queue, Pane::Servers, Pane::Jobs]),
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
            return self.warn(format!("job {} has {} already", job.id, past_participle(job.state)));
        }
        self.ask(Dialog::Cancel { job: job.id, operation: job.operation.clone(), state: job.state })
    }

    fn ask_server(&mut self, snapshot: &Snapshot) -> Action {
        let Some(server) = self.servers.index(&snapshot.server_ids()).map(|row| &snapshot.servers[row]) else {
            return self.warn("there is no server: create one with `left4me server create`".to_owned());
        };
        let operation = match server.desired {
            DesiredState::Running => Operation::Stop,
            DesiredState::Stopped => Operation::Start,
        };
        let is_down = server.drift.as_ref().is_some_and(|drift| drift.kind == Drift::Down);

        self.ask(Dialog::Server { id: server.id, name: server.name.clone(), operation, is_down })
    }

    fn open_log(&mut self, snapshot: &Snapshot) -> Action {
        let Some(job) = self.selected_job(snapshot).and_then(|id| snapshot.job(id)) else {
            return self.warn("there is no job, so there is no log".to_owned());
        };
        self.log = Some(Log::open(job.id, &job.operation, job.state));
        Action::Reload
    }

    fn answer(&mut self, dialog: Dialog, key: &Key) -> Action {
        match (dialog, key) {
            (Dialog::Help, Key::Char('q' | 'Q')) => Action::Quit,
            // Any key closes the help.
            (Dialog::Help, _) | (_, Key::Escape) => Action::Draw,
            (Dialog::Server { id, operation, .. }, Key::Char('y' | 'Y')) => Action::Enqueue(operation, id),
            (Dialog::Server { id, is_down: true, .. }, Key::Char('s' | 'S')) => Action::Enqueue(Operation::Start, id),
            (Dialog::Cancel { job, operation, .. }, Key::Char(letter @ ('y' | 'Y' | 'f' | 'F'))) => {
                let force = matches!(letter, 'f' | 'F');
                self.ask(Dialog::Reason { job, operation, force, input: Input::default() })
            }
            (Dialog::Server { .. } | Dialog::Cancel { .. }, Key::Char('n' | 'N')) => Action::Draw,
            (Dialog::Reason { job, force, input, .. }, Key::Enter) => {
                Action::Cancel { job, force, reason: input.text().trim().to_owned() }
            }
            (Dialog::Reason { job, operation, force, mut input }, key) => {
                input.key(key);
                self.ask(Dialog::Reason { job, operation, force, input })
            }
            // Other keys leave the dialog open.
            (dialog, _) => self.ask(dialog),
        }
    }
}

fn past_participle(state: JobState) -> &'static str {
    match state {
        JobState::Cancelled => "been cancelled",
        _ => state.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::drift::Drifted;
    use crate::db::monitor::{Busy, JobRow, ServerRow};
    use crate::db::queue::Pause;
    use crate::domain::server::ActualState;

    fn job(id: i64, state: JobState) -> JobRow {
        JobRow {
            id: JobId(id),
            operation: "start".to_owned(),
            state,
            requested_by: "anna".to_owned(),
            created_at: 1,
            started_at: None,
            finished_at: None,
            error: None,
            first_servers: Vec::new(),
            servers: 0,
        }
    }

    fn server(id: i64, desired: DesiredState) -> ServerRow {
        let (actual, name) = (ActualState::Stopped, format!("S{id}"));
        ServerRow { id: ServerId(id), name, desired, actual, since: None, drift: None, last_error: None }
    }

    /// Server 1 should be stopped; server 2 should run and has job 4. Jobs 3 and 4 run, 1 has
    /// ended, 5 is queued.
    fn sample() -> Snapshot {
        let mut snapshot = Snapshot {
            servers: vec![server(1, DesiredState::Stopped), server(2, DesiredState::Running)],
            jobs: vec![job(3, JobState::Running), job(4, JobState::Running), job(1, JobState::Succeeded)],
            queue: vec![job(5, JobState::Queued)],
            ..Snapshot::default()
        };

        let busy = Busy { server: ServerId(2), job: JobId(4), operation: "start".to_owned(), state: JobState::Running };
        snapshot.busy.insert(ServerId(2), busy);
        snapshot
    }

    /// The action of the last key.
    fn press(state: &mut State, snapshot: &Snapshot, keys: &str) -> Action {
        let keys = keys.chars().map(|letter| match letter {
            '\t' => Key::Tab,
            '\n' => Key::Enter,
            '\u{1b}' => Key::Escape,
            other => Key::Char(other),
        });
        keys.fold(Action::Draw, |_, key| state.key(&key, snapshot))
    }

    fn after(keys: &str) -> Action {
        press(&mut State::default(), &sample(), keys)
    }

    fn cancel(job: i64, force: bool, reason: &str) -> Action {
        Action::Cancel { job: JobId(job), force, reason: reason.to_owned() }
    }

    #[test]
    fn upper_and_lower_case_letters_do_the_same() {
        for (lower, upper) in [("q", "Q"), ("p", "P"), ("jcy\n", "JCY\n"), ("sy", "SY"), ("cf\n", "CF\n"), ("l", "L")] {
            assert_eq!(after(lower), after(upper), "{lower}");
        }

        assert_eq!(after("q"), Action::Quit);
        assert_eq!(after("p"), Action::Pause(true));

        let mut paused = sample();
        paused.pause = Some(Pause { paused_at: 1, paused_by: "x".to_owned(), reason: None });
        assert_eq!(press(&mut State::default(), &paused, "p"), Action::Pause(false));
    }

    #[test]
    fn a_cancel_asks_for_a_reason_and_escape_closes_it() {
        assert_eq!(after("cywrong server q\n"), cancel(3, false, "wrong server q"));
        assert_eq!(after("jcF\n"), cancel(4, true, ""));

        for leaves in ["c\u{1b}", "cn", "cy\u{1b}", "cfq\u{1b}"] {
            let mut state = State::default();
            assert_eq!(press(&mut state, &sample(), leaves), Action::Draw, "{leaves:?}");
            assert_eq!(state.dialog, None);
        }

        let mut state = State::default();
        press(&mut state, &sample(), "cx7P");
        assert!(state.dialog.is_some(), "other keys leave the question open");
    }

    #[test]
    fn a_finished_job_is_not_cancelled() {
        let mut state = State::default();
        assert_eq!(press(&mut state, &sample(), "jjc"), Action::Draw);
        assert_eq!(state.message.as_ref().map(|(_, words)| words.as_str()), Some("job 1 has succeeded already"));
        assert_eq!((state.dialog.is_none(), press(&mut state, &sample(), "k")), (true, Action::Reload));
        assert_eq!(state.message, None, "a message disappears with the next key");
    }

    #[test]
    fn a_stopped_server_is_started_and_a_running_one_is_stopped() {
        assert_eq!(after("sy"), Action::Enqueue(Operation::Start, ServerId(1)));
        assert_eq!(after("\t\tjsy"), Action::Enqueue(Operation::Stop, ServerId(2)));
        assert_eq!(after("sn"), Action::Draw);
        let mut down = sample();
        down.servers[1].drift = Some(Drifted { kind: Drift::Down, since: 1, why: String::new() });
        assert_eq!(press(&mut State::default(), &down, "\t\tjss"), Action::Enqueue(Operation::Start, ServerId(2)));
        assert_eq!(after("\t\tjss"), Action::Draw, "it runs, so there is nothing to start again");
    }

    #[test]
    fn the_selected_job_comes_from_the_list_with_the_cursor() {
        let mut state = State::default();
        assert_eq!(state.selected_job(&sample()), Some(JobId(3)));

        press(&mut state, &sample(), "\t");
        assert_eq!((state.pane, state.selected_job(&sample())), (Pane::Queue, Some(JobId(5))));

        press(&mut state, &sample(), "\t");
        assert_eq!((state.pane, state.selected_job(&sample())), (Pane::Servers, Some(JobId(3))), "server 1 has none");

        press(&mut state, &sample(), "j");
        assert_eq!(state.selected_job(&sample()), Some(JobId(4)), "server 2 has one");

        press(&mut state, &sample(), "\t");
        assert_eq!(state.pane, Pane::Jobs);

        state.key(&Key::BackTab, &sample());
        assert_eq!(state.pane, Pane::Servers);
    }

    #[test]
    fn without_a_selection_keys_do_nothing() {
        for keys in ["c", "s", "l", "j", "\t", "k\t\tj"] {
            let mut state = State::default();
            let action = press(&mut state, &Snapshot::default(), keys);
            assert!(matches!(action, Action::Draw | Action::Reload), "{keys:?}");
            assert!(state.dialog.is_none() && state.log.is_none());
        }
    }

    #[test]
    fn the_log_gets_the_letters_but_quit_and_help_work_everywhere() {
        let mut state = State::default();
        press(&mut state, &sample(), "jl");
        assert_eq!(state.log.as_ref().map(|log| log.job), Some(JobId(4)));
        assert_eq!(press(&mut state, &sample(), "p"), Action::Draw);

        press(&mut state, &sample(), "/qq");
        assert_eq!(press(&mut state, &sample(), "\u{1b}q"), Action::Quit);

        press(&mut state, &sample(), "?");
        assert_eq!(state.dialog, Some(Dialog::Help));

        press(&mut state, &sample(), "x\u{1b}");
        assert!(state.log.is_none() && state.dialog.is_none());
        assert_eq!(state.key(&Key::Ctrl('c'), &sample()), Action::Quit);
    }

    #[test]
    fn pasted_text_is_not_a_command() {
        let mut state = State::default();
        assert_eq!(state.key(&Key::Paste("q".to_owned()), &sample()), Action::Draw);
        press(&mut state, &sample(), "cy");
        state.key(&Key::Paste("yes\rq".to_owned()), &sample());
        assert_eq!(press(&mut state, &sample(), "\n"), cancel(3, false, "yes q"));
    }
}
