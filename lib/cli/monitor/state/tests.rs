//! Tests of `cli::monitor::state`.

use super::*;
use crate::db::drift::Drifted;
use crate::db::job_rows::JobRow;
use crate::db::monitor::{Busy, ServerRow};
use crate::db::queue::Pause;
use crate::domain::server::ActualState;

fn job(id: i64, state: JobState) -> JobRow {
    JobRow {
        id: JobId(id),
        operation: "start".to_owned(),
        detail: None,
        state,
        requested_by: "anna".to_owned(),
        created_at: 1,
        started_at: None,
        finished_at: None,
        error: None,
        servers: Vec::new(),
        more: 0,
        waiting: None,
        open: true,
    }
}

fn server(id: i64, desired: DesiredState) -> ServerRow {
    let (actual, name) = (ActualState::Stopped, format!("S{id}"));
    ServerRow {
        id: ServerId(id),
        name,
        desired,
        actual,
        since: None,
        drift: None,
        last_error: None,
        responding: None,
        players: None,
        max_players: None,
        map: None,
    }
}

/// Server 1 should be stopped; server 2 should run and has job 4. Jobs 3 and 4 run, 1 has
/// ended, 5 is queued.
fn sample() -> Snapshot {
    let mut snapshot = Snapshot {
        servers: vec![
            server(1, DesiredState::Stopped),
            server(2, DesiredState::Running),
        ],
        jobs: vec![
            job(3, JobState::Running),
            job(4, JobState::Running),
            job(1, JobState::Succeeded),
        ],
        queue: vec![job(5, JobState::Queued)],
        ..Snapshot::default()
    };

    let busy = Busy {
        server: ServerId(2),
        job: JobId(4),
        operation: "start".to_owned(),
        state: JobState::Running,
    };

    snapshot.busy.insert(ServerId(2), busy);
    snapshot
}

/// The action of the last key.
fn press(state: &mut MonitorState, snapshot: &Snapshot, keys: &str) -> Action {
    let keys = keys.chars().map(|letter| match letter {
        '\t' => Key::Tab,
        '\n' => Key::Enter,
        '\u{1b}' => Key::Escape,
        other => Key::Char(other),
    });
    keys.fold(Action::Draw, |_, key| state.key(&key, snapshot))
}

fn after(keys: &str) -> Action {
    press(&mut MonitorState::default(), &sample(), keys)
}

fn cancel(job: i64, force: bool, reason: &str) -> Action {
    Action::Cancel {
        job: JobId(job),
        force,
        reason: reason.to_owned(),
    }
}

#[test]
fn upper_and_lower_case_letters_do_the_same() {
    for (lower, upper) in [
        ("q", "Q"),
        ("p", "P"),
        ("jcy\n", "JCY\n"),
        ("sy", "SY"),
        ("cf\n", "CF\n"),
        ("l", "L"),
    ] {
        assert_eq!(after(lower), after(upper), "{lower}");
    }

    assert_eq!(after("q"), Action::Quit);
    assert_eq!(after("p"), Action::Pause(true));

    let mut paused = sample();
    paused.pause = Some(Pause {
        paused_at: 1,
        paused_by: "x".to_owned(),
        reason: None,
    });

    assert_eq!(
        press(&mut MonitorState::default(), &paused, "p"),
        Action::Pause(false)
    );
}

#[test]
fn a_cancel_asks_for_a_reason_and_escape_closes_it() {
    assert_eq!(
        after("cywrong server q\n"),
        cancel(3, false, "wrong server q")
    );

    assert_eq!(after("jcF\n"), cancel(4, true, ""));

    for leaves in ["c\u{1b}", "cn", "cy\u{1b}", "cfq\u{1b}"] {
        let mut state = MonitorState::default();
        assert_eq!(
            press(&mut state, &sample(), leaves),
            Action::Draw,
            "{leaves:?}"
        );

        assert_eq!(state.dialog, None);
    }

    let mut state = MonitorState::default();
    press(&mut state, &sample(), "cx7P");
    assert!(state.dialog.is_some(), "other keys leave the question open");
}

#[test]
fn a_finished_job_is_not_cancelled() {
    let mut state = MonitorState::default();
    assert_eq!(press(&mut state, &sample(), "jjc"), Action::Draw);
    assert_eq!(
        state.message.as_ref().map(|(_, words)| words.as_str()),
        Some("job 1 has succeeded already")
    );

    assert_eq!(
        (state.dialog.is_none(), press(&mut state, &sample(), "k")),
        (true, Action::Reload)
    );

    assert_eq!(
        state.message, None,
        "a message disappears with the next key"
    );
}

#[test]
fn a_stopped_server_is_started_and_a_running_one_is_stopped() {
    assert_eq!(after("sy"), Action::Enqueue(Operation::Start, ServerId(1)));
    assert_eq!(
        after("\t\tjsy"),
        Action::Enqueue(Operation::Stop, ServerId(2))
    );

    assert_eq!(after("sn"), Action::Draw);
    let mut down = sample();
    down.servers[1].drift = Some(Drifted {
        kind: Drift::Down,
        since: 1,
        why: String::new(),
    });

    assert_eq!(
        press(&mut MonitorState::default(), &down, "\t\tjss"),
        Action::Enqueue(Operation::Start, ServerId(2))
    );

    assert_eq!(
        after("\t\tjss"),
        Action::Draw,
        "it runs, so there is nothing to start again"
    );
}

/// Server 2 runs, with four players.
fn played() -> Snapshot {
    let mut played = sample();
    played.servers[1].actual = ActualState::Running;
    let words = "4 players on S2".to_owned();
    played.occupied.insert(ServerId(2), words);
    played
}

#[test]
fn a_stop_and_a_restart_say_who_plays_and_can_wait_for_them() {
    for (key, operation) in [("s", Operation::Stop), ("r", Operation::Restart)] {
        let mut state = MonitorState::default();
        press(&mut state, &played(), &format!("\t\tj{key}"));
        let asks = |state: &MonitorState| match &state.dialog {
            Some(Dialog::Server { occupied, .. }) => occupied.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(asks(&state).as_deref(), Some("4 players on S2"));

        // The last one leaves while it asks.
        state.refresh(&sample());
        assert_eq!(asks(&state), None);
        assert_eq!(press(&mut state, &sample(), "w"), Action::Draw);
        assert!(state.dialog.is_some(), "there is nothing to wait for");

        state.refresh(&played());
        let waits = Action::EnqueueWhenEmpty(operation, ServerId(2));
        assert_eq!(press(&mut state, &played(), "w"), waits);
        let at_once = Action::Enqueue(operation, ServerId(2));
        let keys = format!("{key}y");
        assert_eq!(press(&mut state, &played(), &keys), at_once);
    }

    let mut state = MonitorState::default();
    assert_eq!(press(&mut state, &sample(), "r"), Action::Draw);
    assert!(state.dialog.is_none(), "server 1 should be stopped");
    assert!(state.message.is_some());
}

#[test]
fn a_running_server_has_a_console_that_gets_all_keys() {
    let mut state = MonitorState::default();
    press(&mut state, &played(), "e");
    assert_eq!(state.console, None, "server 1 does not run");
    assert!(state.message.is_some());

    let send = |command: &str| Action::Send(ServerId(2), command.to_owned());
    assert_eq!(press(&mut state, &played(), "\t\tjeqs?\n"), send("qs?"));
    assert_eq!(state.dialog, None);
    assert_eq!(press(&mut state, &played(), "p\u{1b}"), Action::Reload);
    assert_eq!(press(&mut state, &played(), "p"), Action::Pause(true));

    // It is as it was left.
    press(&mut state, &played(), "e");
    assert_eq!(state.consoles[&ServerId(2)].input.text(), "p");
    assert_eq!(state.key(&Key::Ctrl('c'), &played()), Action::Quit);
}

#[test]
fn the_selected_job_comes_from_the_list_with_the_cursor() {
    let mut state = MonitorState::default();
    assert_eq!(state.selected_job(&sample()), Some(JobId(3)));

    press(&mut state, &sample(), "\t");
    assert_eq!(
        (state.pane, state.selected_job(&sample())),
        (Pane::Queue, Some(JobId(5)))
    );

    press(&mut state, &sample(), "\t");
    assert_eq!(
        (state.pane, state.selected_job(&sample())),
        (Pane::Servers, Some(JobId(3))),
        "server 1 has none"
    );

    press(&mut state, &sample(), "j");
    assert_eq!(
        state.selected_job(&sample()),
        Some(JobId(4)),
        "server 2 has one"
    );

    press(&mut state, &sample(), "\t");
    assert_eq!(state.pane, Pane::Jobs);

    state.key(&Key::BackTab, &sample());
    assert_eq!(state.pane, Pane::Servers);
}

#[test]
fn without_a_selection_keys_do_nothing() {
    for keys in ["c", "s", "r", "e", "l", "j", "\t", "k\t\tj"] {
        let mut state = MonitorState::default();
        let action = press(&mut state, &Snapshot::default(), keys);
        assert!(matches!(action, Action::Draw | Action::Reload), "{keys:?}");
        assert!(state.dialog.is_none() && state.log.is_none() && state.console.is_none());
    }
}

#[test]
fn the_log_gets_the_letters_but_quit_and_help_work_everywhere() {
    let mut state = MonitorState::default();
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
    let mut state = MonitorState::default();
    assert_eq!(
        state.key(&Key::Paste("q".to_owned()), &sample()),
        Action::Draw
    );

    press(&mut state, &sample(), "cy");
    state.key(&Key::Paste("yes\rq".to_owned()), &sample());
    assert_eq!(
        press(&mut state, &sample(), "\n"),
        cancel(3, false, "yes q")
    );
}
