//! What a key means: where the cursor is, which dialog is open, what is to be done. Pure.

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

/// Rows that a page key goes.
const PAGE: isize = 10;

/// The lists, in the order of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// Servers.
    Servers,
    /// Jobs that run or have ended.
    Jobs,
    /// Jobs that wait.
    Queue,
}

/// A question, or the list of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialog {
    /// The keys.
    Help,
    /// Whether a server is to be started or stopped.
    Server {
        /// The server,
        id: ServerId,
        /// and its name.
        name: String,
        /// What `y` does.
        operation: Operation,
        /// Whether it shall run and does not: then it may also be started again.
        is_down: bool,
    },
    /// Whether a job is to be cancelled.
    Cancel {
        /// The job,
        job: JobId,
        /// what it does,
        operation: String,
        /// and its state.
        state: JobState,
    },
    /// Why.
    Reason {
        /// The job,
        job: JobId,
        /// what it does,
        operation: String,
        /// whether it is killed at once,
        force: bool,
        /// and what was typed so far.
        input: Input,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing but a new picture.
    Draw,
    /// Read the database again: something else is to be shown.
    Look,
    /// Leave.
    Quit,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Repaint,
    /// Pause the queue, or let it go on.
    Pause(bool),
    /// Queue a job for a server.
    Enqueue(Operation, ServerId),
    /// Cancel a job.
    Cancel {
        /// The job.
        job: JobId,
        /// Whether it is killed at once.
        force: bool,
        /// Why.
        reason: String,
    },
}

/// All that the screen remembers between two pictures.
#[derive(Debug)]
pub struct State {
    /// The list that has the cursor keys.
    pub pane: Pane,
    /// The selected server.
    pub servers: Cursor<ServerId>,
    /// The selected job of those that run or have ended.
    pub jobs: Cursor<JobId>,
    /// The selected job of those that wait.
    pub queue: Cursor<JobId>,
    /// What is asked.
    pub dialog: Option<Dialog>,
    /// The log that takes the whole screen.
    pub log: Option<Log>,
    /// What became of the last key.
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
    /// Takes in that the lists have changed.
    pub fn refresh(&mut self, seen: &Snapshot) {
        self.servers.refresh(&seen.server_ids());
        self.jobs.refresh(&seen.job_ids());
        self.queue.refresh(&seen.queue_ids());
    }

    /// The job whose log is shown and that C cancels: the selected one; with the cursor in the servers, the job that the
    /// selected server has, if it has one.
    #[must_use]
    pub fn selected_job(&self, seen: &Snapshot) -> Option<JobId> {
        let first = self.jobs.index(&seen.job_ids()).map(|row| seen.jobs[row].id);
        let waiting = self.queue.index(&seen.queue_ids()).map(|row| seen.queue[row].id);
        match self.pane {
            Pane::Jobs => first.or(waiting),
            Pane::Queue => waiting.or(first),
            Pane::Servers => {
                let server = self.servers.index(&seen.server_ids()).map(|row| seen.servers[row].id);
                // Only one that is on the screen: deep in the queue there are others.
                let its = server.and_then(|id| seen.busy.get(&id)).map(|busy| busy.job);
                its.filter(|&id| seen.job(id).is_some()).or(first)
            }
        }
    }

    /// Decides what a key means.
    pub fn key(&mut self, key: &Key, seen: &Snapshot) -> Action {
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
                Reply::Read => return Action::Look,
                Reply::Leave => {
                    self.log = None;
                    return Action::Look;
                }
                Reply::Other => {}
            }
        }
        match key {
            Key::Char('q' | 'Q') => Action::Quit,
            Key::Char('?' | 'h' | 'H') => self.ask(Dialog::Help),
            _ if self.log.is_some() => Action::Draw,
            Key::Char('p' | 'P') => Action::Pause(seen.pause.is_none()),
            Key::Char('c' | 'C') => self.ask_cancel(seen),
            Key::Char('s' | 'S') => self.ask_server(seen),
            Key::Char('l' | 'L') => self.open_log(seen),
            key => self.go(key, seen),
        }
    }

    fn go(&mut self, key: &Key, seen: &Snapshot) -> Action {
        let by = match key {
            Key::Tab | Key::Right => return self.turn_to([Pane::Jobs, Pane::Queue, Pane::Servers]),
            Key::BackTab | Key::Left => return self.turn_to([Pane::Queue, Pane::Servers, Pane::Jobs]),
            Key::Down | Key::Char('j' | 'J') => 1,
            Key::Up | Key::Char('k' | 'K') => -1,
            Key::PageDown => PAGE,
            Key::PageUp => -PAGE,
            Key::End | Key::Char('G') => isize::MAX,
            Key::Home | Key::Char('g') => isize::MIN,
            _ => return Action::Draw,
        };
        match self.pane {
            Pane::Servers => self.servers.go(by, &seen.server_ids()),
            Pane::Jobs => self.jobs.go(by, &seen.job_ids()),
            Pane::Queue => self.queue.go(by, &seen.queue_ids()),
        }
        Action::Look
    }

    /// `next` says what comes after the servers, the jobs, the queue.
    fn turn_to(&mut self, next: [Pane; 3]) -> Action {
        self.pane = match self.pane {
            Pane::Servers => next[0],
            Pane::Jobs => next[1],
            Pane::Queue => next[2],
        };
        Action::Look
    }

    fn ask(&mut self, dialog: Dialog) -> Action {
        self.dialog = Some(dialog);
        Action::Draw
    }

    fn say(&mut self, words: String) -> Action {
        self.message = Some((Tone::Warning, words));
        Action::Draw
    }

    fn ask_cancel(&mut self, seen: &Snapshot) -> Action {
        let Some(job) = self.selected_job(seen).and_then(|id| seen.job(id)) else {
            return self.say("there is no job to cancel".to_owned());
        };
        if job.state.is_terminal() {
            return self.say(format!("job {} has {} already", job.id, past(job.state)));
        }
        self.ask(Dialog::Cancel { job: job.id, operation: job.operation.clone(), state: job.state })
    }

    fn ask_server(&mut self, seen: &Snapshot) -> Action {
        let Some(server) = self.servers.index(&seen.server_ids()).map(|row| &seen.servers[row]) else {
            return self.say("there is no server: `left4me server create` makes one".to_owned());
        };
        let operation = match server.desired {
            DesiredState::Running => Operation::Stop,
            DesiredState::Stopped => Operation::Start,
        };
        let is_down = server.drift.as_ref().is_some_and(|drift| drift.kind == Drift::Down);
        self.ask(Dialog::Server { id: server.id, name: server.name.clone(), operation, is_down })
    }

    fn open_log(&mut self, seen: &Snapshot) -> Action {
        let Some(job) = self.selected_job(seen).and_then(|id| seen.job(id)) else {
            return self.say("there is no job, and no log".to_owned());
        };
        self.log = Some(Log::open(job.id, &job.operation, job.state));
        Action::Look
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
            // A key that is no answer: the question stays.
            (dialog, _) => self.ask(dialog),
        }
    }
}

fn past(state: JobState) -> &'static str {
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

    /// Servers 1 (shall be stopped) and 2 (shall run, has job 4); jobs 3 and 4 run, 1 has ended, 5 waits.
    fn seen() -> Snapshot {
        let mut seen = Snapshot {
            servers: vec![server(1, DesiredState::Stopped), server(2, DesiredState::Running)],
            jobs: vec![job(3, JobState::Running), job(4, JobState::Running), job(1, JobState::Succeeded)],
            queue: vec![job(5, JobState::Queued)],
            ..Snapshot::default()
        };
        let busy = Busy { server: ServerId(2), job: JobId(4), operation: "start".to_owned(), state: JobState::Running };
        seen.busy.insert(ServerId(2), busy);
        seen
    }

    /// What the last of the keys leads to.
    fn press(state: &mut State, seen: &Snapshot, keys: &str) -> Action {
        let keys = keys.chars().map(|letter| match letter {
            '\t' => Key::Tab,
            '\n' => Key::Enter,
            '\u{1b}' => Key::Escape,
            other => Key::Char(other),
        });
        keys.fold(Action::Draw, |_, key| state.key(&key, seen))
    }

    fn after(keys: &str) -> Action {
        press(&mut State::default(), &seen(), keys)
    }

    fn cancel(job: i64, force: bool, reason: &str) -> Action {
        Action::Cancel { job: JobId(job), force, reason: reason.to_owned() }
    }

    #[test]
    fn letters_mean_the_same_in_both_cases() {
        for (lower, upper) in [("q", "Q"), ("p", "P"), ("jcy\n", "JCY\n"), ("sy", "SY"), ("cf\n", "CF\n"), ("l", "L")] {
            assert_eq!(after(lower), after(upper), "{lower}");
        }
        assert_eq!(after("q"), Action::Quit);
        assert_eq!(after("p"), Action::Pause(true));
        let mut paused = seen();
        paused.pause = Some(Pause { paused_at: 1, paused_by: "x".to_owned(), reason: None });
        assert_eq!(press(&mut State::default(), &paused, "p"), Action::Pause(false));
    }

    #[test]
    fn a_cancel_asks_and_takes_a_reason_and_escape_leaves_it() {
        assert_eq!(after("cywrong server q\n"), cancel(3, false, "wrong server q"));
        assert_eq!(after("jcF\n"), cancel(4, true, ""));
        for leaves in ["c\u{1b}", "cn", "cy\u{1b}", "cfq\u{1b}"] {
            let mut state = State::default();
            assert_eq!(press(&mut state, &seen(), leaves), Action::Draw, "{leaves:?}");
            assert_eq!(state.dialog, None);
        }
        let mut state = State::default();
        press(&mut state, &seen(), "cx7P");
        assert!(state.dialog.is_some(), "no answer: the question stays");
    }

    #[test]
    fn what_has_ended_is_not_cancelled() {
        let mut state = State::default();
        assert_eq!(press(&mut state, &seen(), "jjc"), Action::Draw);
        assert_eq!(state.message.as_ref().map(|(_, words)| words.as_str()), Some("job 1 has succeeded already"));
        assert_eq!((state.dialog.is_none(), press(&mut state, &seen(), "k")), (true, Action::Look));
        assert_eq!(state.message, None, "a message is for one key");
    }

    #[test]
    fn a_server_is_started_when_it_shall_be_stopped_and_stopped_when_it_shall_run() {
        assert_eq!(after("sy"), Action::Enqueue(Operation::Start, ServerId(1)));
        assert_eq!(after("\t\tjsy"), Action::Enqueue(Operation::Stop, ServerId(2)));
        assert_eq!(after("sn"), Action::Draw);
        let mut down = seen();
        down.servers[1].drift = Some(Drifted { kind: Drift::Down, since: 1, why: String::new() });
        assert_eq!(press(&mut State::default(), &down, "\t\tjss"), Action::Enqueue(Operation::Start, ServerId(2)));
        assert_eq!(after("\t\tjss"), Action::Draw, "it runs: there is nothing to start again");
    }

    #[test]
    fn the_selected_job_is_that_of_the_list_with_the_cursor() {
        let mut state = State::default();
        assert_eq!(state.selected_job(&seen()), Some(JobId(3)));
        press(&mut state, &seen(), "\t");
        assert_eq!((state.pane, state.selected_job(&seen())), (Pane::Queue, Some(JobId(5))));
        press(&mut state, &seen(), "\t");
        assert_eq!((state.pane, state.selected_job(&seen())), (Pane::Servers, Some(JobId(3))), "server 1 has none");
        press(&mut state, &seen(), "j");
        assert_eq!(state.selected_job(&seen()), Some(JobId(4)), "server 2 has one");
        press(&mut state, &seen(), "\t");
        assert_eq!(state.pane, Pane::Jobs);
        state.key(&Key::BackTab, &seen());
        assert_eq!(state.pane, Pane::Servers);
    }

    #[test]
    fn nothing_selected_nothing_done() {
        for keys in ["c", "s", "l", "j", "\t", "k\t\tj"] {
            let mut state = State::default();
            let action = press(&mut state, &Snapshot::default(), keys);
            assert!(matches!(action, Action::Draw | Action::Look), "{keys:?}");
            assert!(state.dialog.is_none() && state.log.is_none());
        }
    }

    #[test]
    fn in_a_log_letters_are_the_logs_but_quitting_and_help_are_everywhere() {
        let mut state = State::default();
        press(&mut state, &seen(), "jl");
        assert_eq!(state.log.as_ref().map(|log| log.job), Some(JobId(4)));
        assert_eq!(press(&mut state, &seen(), "p"), Action::Draw);
        press(&mut state, &seen(), "/qq");
        assert_eq!(press(&mut state, &seen(), "\u{1b}q"), Action::Quit);
        press(&mut state, &seen(), "?");
        assert_eq!(state.dialog, Some(Dialog::Help));
        press(&mut state, &seen(), "x\u{1b}");
        assert!(state.log.is_none() && state.dialog.is_none());
        assert_eq!(state.key(&Key::Ctrl('c'), &seen()), Action::Quit);
    }

    #[test]
    fn pasted_text_is_no_command() {
        let mut state = State::default();
        assert_eq!(state.key(&Key::Paste("q".to_owned()), &seen()), Action::Draw);
        press(&mut state, &seen(), "cy");
        state.key(&Key::Paste("yes\rq".to_owned()), &seen());
        assert_eq!(press(&mut state, &seen(), "\n"), cancel(3, false, "yes q"));
    }
}
