//! Tests of `cli::monitor::draw`.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::base::names::{JobId, ServerId};
use crate::base::table::Tone;
use crate::cli::monitor::keys::Key;
use crate::cli::monitor::log::Log;
use crate::cli::monitor::snapshot::JobProgress;
use crate::db::drift::Drifted;
use crate::db::job_rows::JobRow;
use crate::db::logs;
use crate::db::monitor::{ServerRow, Tasks};
use crate::db::queue::Pause;
use crate::domain::drift::Drift;
use crate::domain::job::JobState;
use crate::domain::server::{ActualState, DesiredState};
use crate::wire::Stream;

const PLAIN: Theme = Theme {
    colours: false,
    utf8: false,
};

fn job(id: i64, state: JobState) -> JobRow {
    JobRow {
        id: JobId(id),
        operation: "install".to_owned(),
        detail: None,
        state,
        requested_by: "anna".to_owned(),
        created_at: 1,
        started_at: (state != JobState::Queued).then_some(1_000),
        finished_at: state.is_terminal().then_some(2_000),
        error: None,
        servers: Vec::new(),
        more: 0,
        waiting: None,
        open: true,
    }
}

/// A drifted server with a wide name, a job at 45 %, a failed one, a queued one in a paused
/// queue, and a log with control characters.
fn sample() -> Snapshot {
    let mut snapshot = Snapshot {
        pause: Some(Pause {
            paused_at: 1,
            paused_by: "anna".to_owned(),
            reason: Some("match\u{1b}[2J tonight".to_owned()),
        }),
        queued: 999,
        live: 1,
        servers: vec![ServerRow {
            id: ServerId(1),
            name: "日本語サーバー🦀".to_owned(),
            desired: DesiredState::Running,
            actual: ActualState::Failed,
            since: Some(1),
            drift: Some(Drifted {
                kind: Drift::Down,
                since: 1,
                why: "exit code 1".to_owned(),
            }),
            last_error: None,
            responding: None,
            players: None,
            max_players: None,
            map: None,
        }],
        jobs: vec![job(7, JobState::Running), job(5, JobState::Failed)],
        queue: vec![job(8, JobState::Queued)],
        selected: Some(job(7, JobState::Running)),
        ..Snapshot::default()
    };

    let tasks = Tasks {
        done: 0,
        all: 1,
        doing: vec!["install-runtime".to_owned()],
    };

    let steam = Some((45.3, "downloading".to_owned()));
    snapshot.progress.insert(
        JobId(7),
        JobProgress {
            tasks,
            steam,
            cancelled: None,
        },
    );

    snapshot.tail = (1..=50).map(line).collect();
    snapshot
}

fn line(seq: i64) -> logs::Line {
    let line = format!("line {seq} \u{1b}[31m\u{9b}2J\ttab 日本語");
    logs::Line {
        seq,
        at: 1,
        stream: Stream::Stderr,
        task_id: None,
        line,
    }
}

fn picture(
    width: u16,
    height: u16,
    snapshot: &Snapshot,
    state: &mut MonitorState,
    worker: Worker,
) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, snapshot, state, worker, &PLAIN, 66_000))
        .unwrap();
    let buffer = terminal.backend().buffer().clone();
    let plain = buffer
        .content
        .iter()
        .all(|cell| cell.fg == ratatui::style::Color::Reset);

    assert!(
        plain
            && buffer
                .content
                .iter()
                .all(|cell| !cell.symbol().contains(char::is_control))
    );

    buffer
        .content
        .chunks(width.into())
        .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n")
        .collect()
}

#[test]
fn a_screen_of_80_by_24_has_room_for_everything() {
    let picture = picture(
        80,
        24,
        &sample(),
        &mut MonitorState::default(),
        Worker::Working,
    );
    for words in [
        "worker working",
        "1 running",
        "999 queued",
        "1 server, 1 drifted",
        "queue paused by anna",
        "tonight",
        "running failed",
        "down",
        "> 7 ",
        "1 min 5 s",
        "45 % down",
        "failed",
        "#1 ",
        "Queue: 999, the first 1, paused",
        "Log of job 7",
        "line 50",
        "Q quit",
        "L log",
    ] {
        assert!(picture.contains(words), "no '{words}' in\n{picture}");
    }
}

#[test]
fn players_stand_beside_their_server_and_in_the_question_before_a_stop() {
    let mut snapshot = sample();
    let server = &mut snapshot.servers[0];
    (server.actual, server.drift) = (ActualState::Running, None);
    (server.players, server.max_players) = (Some(4), Some(8));
    server.map = Some("c1m1_hotel".to_owned());
    let words = "4 players on Friday".to_owned();
    snapshot.occupied.insert(ServerId(1), words);

    let mut state = MonitorState::default();
    let seen = |state: &mut MonitorState| picture(80, 24, &snapshot, state, Worker::Idle);
    let shown = seen(&mut state);
    assert!(
        shown.contains("running  4/8") && shown.contains("PLAYERS"),
        "{shown}"
    );

    state.key(&Key::Char('r'), &snapshot);
    let shown = seen(&mut state);
    for words in [
        "Restart server 1",
        "4 players on Friday.",
        "w wait until nobody plays",
    ] {
        assert!(shown.contains(words), "no '{words}' in\n{shown}");
    }

    state.key(&Key::Escape, &snapshot);
    state.key(&Key::Char('e'), &snapshot);
    state.key(&Key::Paste("status".to_owned()), &snapshot);
    state.key(&Key::Enter, &snapshot);
    let console = state.consoles.get_mut(&ServerId(1)).unwrap();
    console.replied(Ok(crate::queue::game::Reply {
        text: format!("evil \u{1b}[2J {}\nlast\n", "long ".repeat(40)),
        cut: false,
    }));
    state.key(&Key::Paste("日本語".repeat(40)), &snapshot);
    let shown = seen(&mut state);
    for words in [
        "4/8 players on c1m1_hotel",
        "> status",
        "evil",
        "\nlast",
        "Esc back",
    ] {
        assert!(shown.contains(words), "no '{words}' in\n{shown}");
    }
    for (width, height) in [(60, 15), (61, 20), (300, 40)] {
        picture(width, height, &snapshot, &mut state, Worker::Idle);
    }
}

#[test]
fn a_lost_worker_is_an_alert() {
    let picture = picture(
        80,
        24,
        &sample(),
        &mut MonitorState::default(),
        Worker::Lost,
    );
    assert!(
        picture.contains("worker LOST")
            && picture.contains("worker lost: a job is marked as running"),
        "{picture}"
    );

    assert!(
        picture.contains("systemctl start") && picture.contains("left4me-worker.socket"),
        "{picture}"
    );
}

#[test]
fn every_size_can_be_drawn_and_a_small_one_says_so() {
    let dialogs = [Key::Char('?'), Key::Char('c'), Key::Char('s')];
    for (width, height) in [
        (1, 1),
        (40, 10),
        (59, 24),
        (80, 14),
        (60, 15),
        (61, 20),
        (80, 24),
        (200, 60),
        (300, 5),
    ] {
        for key in &dialogs {
            let mut state = MonitorState::default();
            state.key(key, &sample());
            assert!(state.dialog.is_some());

            let shown = picture(width, height, &sample(), &mut state, Worker::Lost);
            let is_small = width < 60 || height < 15;
            assert!(
                width < 18 || shown.contains("terminal too small") == is_small,
                "{width}x{height}\n{shown}"
            );

            state.key(&Key::Char('y'), &sample());
            state.key(&Key::Paste("ü".repeat(1000)), &sample());
            picture(width, height, &sample(), &mut state, Worker::Lost);
        }

        let mut state = MonitorState {
            message: Some((Tone::Bad, "x".repeat(500))),
            ..MonitorState::default()
        };

        picture(
            width,
            height,
            &Snapshot::default(),
            &mut state,
            Worker::Idle,
        );

        let mut log = Log::open(JobId(7), "install", JobState::Running);
        log.lines = sample().tail;
        log.words = "LINE".to_owned();
        state.log = Some(log);
        picture(width, height, &sample(), &mut state, Worker::Working);
    }
}

#[test]
fn a_wide_name_does_not_move_the_columns() {
    let mut snapshot = sample();
    let mut other = snapshot.servers[0].clone();
    other.name = "plain".to_owned();
    snapshot.servers.push(other);

    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let mut state = MonitorState::default();
    terminal
        .draw(|frame| draw(frame, &snapshot, &mut state, Worker::Idle, &PLAIN, 66_000))
        .unwrap();

    let buffer = terminal.backend().buffer();
    let row = |y| {
        (20..79)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
    };

    let first = (0..24)
        .find(|y| (0..80).any(|x| buffer[(x, *y)].symbol() == "日"))
        .unwrap();
    assert_eq!(row(first), row(first + 1));
    assert!(row(first).contains("running failed"));
}

#[test]
fn lists_keep_their_heights_when_jobs_come_and_go() {
    for rows in 9..60 {
        let heights = Heights::of(rows, 3, rows > 17);
        let Heights {
            servers,
            jobs,
            queue,
        } = heights;

        assert!(
            servers + jobs + queue + 2 <= rows,
            "the log has at least one line: {rows} {heights:?}"
        );
    }

    assert_eq!(
        Heights::of(21, 3, true),
        Heights {
            servers: 5,
            jobs: 5,
            queue: 4
        }
    );

    assert!(Heights::of(21, 300, true).servers < 8);
}
