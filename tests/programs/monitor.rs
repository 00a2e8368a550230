//! `left4me-job monitor` on a terminal: tmux provides it, sends the keys and captures the screen.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use left4me::base::clock;
use left4me::base::names::{JobId, ServerId};
use left4me::db::{cancellations, events, queue, servers};
use left4me::domain::job::JobState;
use left4me::domain::server::DesiredState;
use left4me::wire::console::Failure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::console::{self, FakeConsole};
use crate::support::host::{TestHost, stop};
use crate::support::{JOB, alive, ended, marker, until};

/// A steamcmd that prints a log, reaches 45 %, and stays there until it is ended.
const SLOW: &str = "#!/bin/bash
for i in $(seq 200); do echo \"line $i of the log\"; done
printf 'evil \\033]0;title\\007 \\033[2J\\n' >&2
echo ' Update state (0x61) downloading, progress: 45.32 (1234 / 5678)'
";

/// A shell in a terminal.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// 80 columns and 24 rows; the shell has only the environment of `host`.
    fn new(host: &TestHost, more: &[(&str, &str)]) -> Self {
        let socket = host.root.join(format!("tmux-{}.sock", marker()));
        let terminal = Self {
            socket: socket.into_os_string().into_string().unwrap(),
        };
        let mut command = host.command("tmux", &["-S", &terminal.socket, "-f", "/dev/null"]);
        command.args([
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "bash",
            "--norc",
            "--noprofile",
        ]);

        command
            .env_remove("NO_COLOR")
            .env_remove("TMUX")
            .env("RUST_BACKTRACE", "0")
            .env("LC_ALL", "C.UTF-8")
            .env("PS1", "$ ")
            .env("TERM", "xterm");

        let started = command
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .status()
            .expect("tmux is there");
        assert!(started.success());

        terminal
    }

    /// Starts the monitor on a new terminal.
    fn with_monitor(host: &TestHost) -> Self {
        let terminal = Self::new(host, &[]);
        terminal.start();
        terminal
    }

    /// Types the command and waits for its screen.
    fn start(&self) {
        self.type_line(&format!("{JOB} monitor"));
        self.sees("Q quit");
    }

    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-S", &self.socket])
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );

        String::from_utf8(output.stdout).unwrap()
    }

    /// Presses keys, by tmux's names.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types letters.
    fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    fn type_line(&self, line: &str) {
        self.type_text(line);
        self.press(&["Enter"]);
    }

    /// The screen, but never a partly drawn frame.
    fn screen(&self) -> String {
        let mut last = self.tmux(&["capture-pane", "-p"]);
        until("a screen that stands still", || {
            let now = self.tmux(&["capture-pane", "-p"]);
            let stands = std::mem::replace(&mut last, now) == last;
            stands.then(|| last.clone())
        })
    }

    /// The screen with its colours.
    fn painted(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    fn until(&self, what: &str, mut is_there: impl FnMut(&str) -> bool) -> String {
        let mut last = String::new();
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                last = self.screen();
                is_there(&last).then(|| last.clone())
            })
        }));

        seen.unwrap_or_else(|_| panic!("{what}; the screen is\n{last}"))
    }

    /// Waits until `words` are on the screen.
    fn sees(&self, words: &str) -> String {
        self.until(&format!("'{words}' on the screen"), |screen| {
            screen.contains(words)
        })
    }

    /// Waits until `words` are gone from the screen.
    fn misses(&self, words: &str) -> String {
        self.until(&format!("no '{words}' on the screen"), |screen| {
            !screen.contains(words)
        })
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&[
            "resize-window",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
        ]);
    }

    /// The program that the shell runs.
    fn child(&self) -> Pid {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim().to_owned();
        until("the shell's child", || {
            let children =
                std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
            children
                .split_whitespace()
                .next()?
                .parse()
                .ok()
                .map(Pid::from_raw)
        })
    }

    /// Checks that the terminal is restored: echo and line mode, the previous screen, the cursor.
    /// Returns the exit code of the last program.
    fn is_restored(&self) -> i32 {
        // Earlier keys would go to the other program.
        until("the shell's turn", || {
            (self
                .tmux(&["display-message", "-p", "#{pane_current_command}"])
                .trim()
                == "bash")
                .then_some(())
        });

        // Split the words, so that the typed command does not match.
        self.type_line(
            "echo code-$?-; stty -a | grep -ow \
             '[-]*echo\\|[-]*icanon\\|[-]*isig' | tr '\\n' ' '; echo e''nd",
        );

        let screen = self.sees("end\n");
        assert!(screen.contains("isig icanon echo end"), "{screen}");

        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1", "the alternate screen, the cursor");

        let code = screen
            .rsplit("code-")
            .find_map(|rest| rest.split('-').next()?.parse().ok());
        code.unwrap_or_else(|| panic!("no exit code on\n{screen}"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .args(["-S", &self.socket, "kill-server"])
            .stderr(Stdio::null())
            .status();
    }
}

/// A worker with an installation that has printed its lines and runs until it is ended.
fn installing(host: &TestHost) -> (crate::support::SocketUnit, Child, JobId) {
    let marker = marker();
    let runner = host.runner(&format!("{SLOW}exec -a {marker} sleep 1000\n"));
    let id = host.enqueue(&["install"]);
    let worker = host.worker(60);
    until("the command runs", || {
        (!alive(&marker).is_empty()).then_some(())
    });
    (runner, worker, id)
}

fn leave(mut worker: Child) {
    stop(&worker, Signal::SIGTERM);
    assert_eq!(ended(&mut worker), 0);
}

fn row<'a>(screen: &'a str, words: &str) -> &'a str {
    screen
        .lines()
        .find(|line| line.contains(words))
        .unwrap_or_else(|| panic!("no '{words}' in\n{screen}"))
}

#[test]
fn changes_by_others_appear_without_a_key() {
    let host = TestHost::with_servers(2);
    let terminal = Terminal::with_monitor(&host);
    terminal.sees("Servers: 2");
    host.enqueue(&["start", "--server", "S2"]);

    let screen = terminal.sees("#1");
    assert!(
        row(&screen, "S2  ").contains("running"),
        "the desired state\n{screen}"
    );

    assert!(
        row(&screen, "#1").contains("start") && screen.contains("job 1 start queued"),
        "{screen}"
    );

    host.enqueue(&["stop", "--server", "S1"]);
    assert!(row(&terminal.sees("#2"), "#2").contains("stop"));
    assert_eq!(host.job(&["pause", "--reason", "match tonight"]).0, 0);
    assert!(row(&terminal.sees("queue paused by"), "queue paused by").contains("match tonight"));
    assert_eq!(host.job(&["resume"]).0, 0);

    terminal.misses("queue paused by");
}

#[test]
fn an_idle_monitor_does_not_wake_up() {
    let host = TestHost::with_servers(1);
    let terminal = Terminal::with_monitor(&host);
    terminal.sees("Servers: 1");

    let monitor = terminal.child();
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{monitor}/status")).unwrap();
        status
            .lines()
            .find(|line| line.starts_with("voluntary"))
            .unwrap()
            .to_owned()
    };

    let settled = until("it sleeps", || {
        let before = switches();
        std::thread::sleep(Duration::from_millis(300));
        (switches() == before).then_some(before)
    });

    // Longer than any timer it has.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(switches(), settled, "it woke");

    host.enqueue(&["stop", "--server", "S1"]);
    terminal.sees("#1");
}

#[test]
fn keys_move_pause_cancel_and_start() {
    let host = TestHost::with_servers(3);
    for server in ["1", "2", "3"] {
        host.enqueue(&["initialize", "--server", server]);
    }

    let terminal = Terminal::with_monitor(&host);
    terminal.sees("Log of job 1");

    // From the empty list of jobs to the queue, and down and up in it.
    terminal.press(&["Tab", "j"]);
    terminal.sees("Log of job 2");
    terminal.press(&["Down"]);
    terminal.sees("Log of job 3");
    terminal.press(&["K"]);
    terminal.sees("Log of job 2");
    terminal.press(&["Up"]);

    terminal.sees("Log of job 1");
    terminal.press(&["J"]);
    terminal.sees("Log of job 2");

    terminal.press(&["P"]);
    terminal.sees("queue paused by");
    let pause = queue::pause(host.db().connection())
        .unwrap()
        .expect("a pause");
    assert_eq!(pause.reason.as_deref(), Some("from the monitor"));

    terminal.press(&["p"]);
    terminal.misses("queue paused by");
    assert_eq!(queue::pause(host.db().connection()).unwrap(), None);

    terminal.press(&["?"]);
    terminal.sees("quit; jobs continue");
    terminal.press(&["x"]);
    terminal.misses("quit; jobs continue");

    // Escape closes a dialog.
    terminal.press(&["C"]);
    terminal.sees("Cancel job 2 (initialize, queued)?");
    terminal.press(&["Escape"]);
    terminal.misses("Cancel job 2");
    terminal.press(&["c", "y"]);
    terminal.sees("Reason?");
    terminal.type_text("not q this");

    terminal.press(&["BSpace", "BSpace", "BSpace", "BSpace"]);
    terminal.type_text("now");
    terminal.sees("not q now");
    terminal.press(&["Enter"]);
    terminal.until("job 2 among those that ended", |screen| {
        screen
            .lines()
            .any(|line| line.contains("2      initialize cancelled"))
    });

    assert_eq!(host.state(JobId(2)), JobState::Cancelled);
    let record = cancellations::of_job(host.db().connection(), JobId(2))
        .unwrap()
        .pop()
        .expect("a record");
    assert_eq!((record.reason.as_str(), record.force), ("not q now", false));

    // The servers come after the queue.
    let desired = |id| {
        servers::get(host.db().connection(), ServerId(id))
            .unwrap()
            .unwrap()
            .desired_state
    };

    terminal.press(&["Tab", "j", "S"]);
    terminal.sees("Start server 2 (S2)?");
    terminal.press(&["n"]);
    terminal.misses("Start server 2");

    assert_eq!(desired(2), DesiredState::Stopped);
    terminal.press(&["s", "y"]);
    terminal.sees("job 4 queued: start server 2");
    assert_eq!(desired(2), DesiredState::Running);
    assert_eq!(
        host.show(JobId(4))["requested_by"],
        host.show(JobId(1))["requested_by"]
    );

    terminal.press(&["s"]);
    terminal.sees("Stop server 2 (S2)?");
    terminal.press(&["y"]);
    terminal.sees("job 5 queued: stop server 2");
    assert_eq!(
        (host.state(JobId(5)), desired(2)),
        (JobState::Queued, DesiredState::Stopped)
    );

    terminal.press(&["Q"]);
    assert_eq!(terminal.is_restored(), 0);
}

/// Two servers: S1 runs, and four people play on it; S2 is stopped.
fn played() -> TestHost {
    let host = TestHost::with_servers(2);
    let now = clock::now_ms();
    host.db()
        .connection()
        .execute_batch(&format!(
            "UPDATE servers SET desired_state = 'running', actual_state = 'running' WHERE id = 1;
             UPDATE servers SET actual_state = 'stopped', actual_state_updated_at = {now};
             UPDATE servers SET actual_state = 'running' WHERE id = 1;
             INSERT INTO server_game (server_id, responding, players, bots, max_players, map,
                 response_ms, answered_at, asked_at, unanswered)
             VALUES (1, 'yes', 4, 0, 8, 'c1m1_hotel', 12, {now}, {now}, 0)"
        ))
        .unwrap();
    host
}

/// Opens the console of the first server.
fn open_console(terminal: &Terminal) {
    terminal.sees("Servers: 2");
    terminal.press(&["E"]);
    terminal.sees("Console of server 1 (S1): 4/8 players on c1m1_hotel");
}

#[test]
fn a_stop_and_a_restart_ask_first_and_can_wait_until_nobody_plays() {
    let host = played();
    let terminal = Terminal::with_monitor(&host);
    let screen = terminal.sees("Servers: 2");
    assert!(row(&screen, "S1  ").contains("4/8"), "{screen}");

    terminal.press(&["R"]);
    let screen = terminal.sees("Restart server 1 (S1)?");
    assert!(screen.contains("4 players on S1."), "{screen}");
    terminal.press(&["n"]);
    terminal.misses("Restart server 1");
    assert_eq!(host.job_json(&["list"]).1, serde_json::json!([]));

    terminal.press(&["r", "w"]);
    terminal.sees("job 1 queued: restart server 1; it waits: 4 players on S1");
    assert!(host.job(&["list"]).1.contains("4 players on S1"));

    // Who plays is kept up to date while it asks.
    terminal.press(&["s"]);
    terminal.sees("Stop server 1 (S1)?");
    host.db()
        .connection()
        .execute_batch("UPDATE server_game SET players = 1")
        .unwrap();
    terminal.sees("1 player on S1.");
    terminal.press(&["y"]);
    terminal.sees("job 2 queued: stop server 1");
    assert_eq!(host.show(JobId(2))["waiting"], serde_json::Value::Null);
}

#[test]
fn the_console_sends_a_command_and_shows_the_reply_below_it() {
    let host = played();
    let status = "hostname: Friday\nplayers : 4 humans\n\u{1b}[2J# 7 1 \"Bad Guy\"\n";
    let console = FakeConsole::start(&host.root.join("console.sock"), move |request| {
        Some(match console::command(request) {
            Some("status") => console::output(status),
            Some("say hi") => console::output(""),
            _ => console::failed(Failure::NotListening),
        })
    });
    let terminal = Terminal::with_monitor(&host);
    open_console(&terminal);

    // Completed, sent with its event, and answered.
    terminal.type_text("stat");
    terminal.press(&["Tab"]);
    terminal.sees("status  stats");
    terminal.type_line("us");
    let screen = terminal.sees("hostname: Friday");
    let (typed, replied) = (screen.find("> status"), screen.find("hostname"));
    assert!(typed < replied && screen.contains("Bad Guy"), "{screen}");

    let told = until("the event has the reply", || {
        let told = events::of_server(host.db().connection(), ServerId(1), 1).unwrap();
        let told = told.into_iter().next()?;
        (!told.journal.is_empty()).then_some(told)
    });
    assert_eq!(
        (told.kind.as_str(), told.detail.as_str()),
        ("server.command", "status")
    );
    assert_eq!(told.journal[0], "hostname: Friday");
    let history = host.left4me(&["server", "history", "S1", "--json"]).json();
    host.left4me(&["server", "exec", "S1", "say hi"]).done();
    let other = host.left4me(&["server", "history", "S1", "--json"]).json();
    assert_eq!(history[0]["actor"], other[0]["actor"], "the same person");

    // Corrected in the middle of the line, and one again from the past.
    terminal.type_text("sy xhi");
    terminal.press(&[
        "Home", "Right", "a", "End", "Left", "Left", "BSpace", "Enter",
    ]);
    terminal.sees("sent; the game replied nothing");
    let sent = console.requests();
    let sent: Vec<_> = sent.iter().filter_map(console::command).collect();
    assert_eq!(sent, ["status", "say hi", "say hi"]);
    terminal.press(&["Up", "Up"]);
    let again = |screen: &str| screen.lines().filter(|line| *line == "> status").count() == 2;
    terminal.until("the first command again", again);

    terminal.press(&["Escape"]);
    terminal.sees("Servers: 2");
}

#[test]
fn a_command_that_is_refused_or_not_answered_says_why_in_one_line() {
    let host = played();
    let terminal = Terminal::with_monitor(&host);
    open_console(&terminal);
    let count = || {
        let told = events::of_server(host.db().connection(), ServerId(1), 9).unwrap();
        told.iter()
            .filter(|event| event.kind == "server.command")
            .count()
    };

    terminal.type_line("quit");
    terminal.sees("the command is refused: it would end the game");
    assert_eq!(count(), 0, "it was not sent");

    // It can be corrected. Without left4me-console there is no reply.
    terminal.press(&["C-u"]);
    terminal.type_line("status");
    terminal.sees("console.sock");
    assert_eq!(count(), 1);

    // A game that hangs does not stop the screen, and a reply finds its console.
    let (answers, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let _console = FakeConsole::start(&host.root.join("console.sock"), move |_| {
        gate.lock().unwrap().recv().ok();
        Some(console::output("late\n"))
    });
    terminal.type_line("users");
    terminal.sees("waiting for the reply");
    terminal.type_line("stats");
    terminal.sees("has not come yet");
    terminal.press(&["Escape"]);
    terminal.sees("Servers: 2");
    answers.send(()).unwrap();
    until("the reply is recorded", || {
        let told = events::of_server(host.db().connection(), ServerId(1), 1).unwrap();
        (told[0].journal == ["late"]).then_some(())
    });
    terminal.press(&["E"]);
    let screen = terminal.sees("late");
    assert!(
        screen.contains("> stats"),
        "what was being written\n{screen}"
    );

    terminal.press(&["Escape", "Tab", "Tab", "j", "E"]);
    terminal.sees("server 2 is not running (stopped)");
    terminal.press(&["Q"]);
    assert_eq!(terminal.is_restored(), 0);
}

#[test]
fn a_running_job_shows_its_progress_and_log_and_can_be_killed() {
    let host = TestHost::new();
    let terminal = Terminal::with_monitor(&host);
    let (_runner, worker, id) = installing(&host);
    let screen = terminal.sees("45 %");

    assert!(
        row(&screen, "45 %").contains("install    running")
            && row(&screen, "45 %").contains("[==="),
        "{screen}"
    );

    assert!(
        screen.contains("worker working") && screen.contains("line 200 of the log"),
        "{screen}"
    );

    assert!(
        screen.contains("evil"),
        "no sequence of a log reached the terminal\n{screen}"
    );

    // Without commits, its duration is still updated.
    terminal.until("its duration is updated", |screen| {
        let took = screen
            .lines()
            .find(|line| line.contains("45 %"))
            .and_then(|line| line.split_whitespace().nth(5));
        took.and_then(|seconds| seconds.parse::<u32>().ok())
            .is_some_and(|seconds| seconds >= 3)
    });

    terminal.press(&["C"]);
    terminal.sees("Cancel job 1 (install, running)?");
    terminal.press(&["F"]);

    terminal.sees("Reason?");
    terminal.type_line("too slow");
    let screen = terminal.sees("install    cancelled");
    assert!(
        row(&screen, "install    cancelled").contains("> 1"),
        "it stays selected\n{screen}"
    );

    assert_eq!(host.state(id), JobState::Cancelled);

    let record = cancellations::of_job(host.db().connection(), id)
        .unwrap()
        .pop()
        .expect("a record");
    assert_eq!((record.reason.as_str(), record.force), ("too slow", true));

    terminal.press(&["c"]);
    terminal.sees("job 1 has been cancelled already");
    leave(worker);
}

#[test]
fn the_whole_log_is_searched_and_followed() {
    let host = TestHost::new();
    let (_runner, worker, id) = installing(&host);
    let terminal = Terminal::with_monitor(&host);
    terminal.sees("Log of job 1");
    terminal.press(&["L"]);
    terminal.sees("following");

    until("the whole log is written", || {
        (host.lines(id).len() == 202).then_some(())
    });

    terminal.press(&["g"]);
    let screen = terminal.sees("lines 1-21 of 202");
    assert!(
        screen.contains("line 1 of the log") && !screen.contains("following"),
        "{screen}"
    );

    terminal.press(&["/"]);
    terminal.type_text("LINE 15");
    terminal.sees("/LINE 15");
    terminal.press(&["Enter"]);
    terminal.sees("'LINE 15' in line 15\n");
    terminal.press(&["n"]);

    let screen = terminal.sees("'LINE 15' in line 150");
    assert!(
        screen.contains("line 149 of the log"),
        "with lines before it\n{screen}"
    );

    assert!(
        terminal.painted().contains("\u{1b}[1;7mline 15\u{1b}[0m"),
        "{}",
        terminal.painted()
    );

    terminal.press(&["N"]);
    terminal.sees("'LINE 15' in line 15\n");
    terminal.press(&["N"]);
    terminal.sees("no 'LINE 15' above");
    terminal.press(&["PageDown", "Down", "Up", "Right"]);
    terminal.sees("from column 9");
    terminal.press(&["Left", "F"]);
    terminal.sees("following");

    terminal.press(&["Escape"]);
    terminal.sees("Jobs: 1 running");
    leave(worker);
    terminal.sees("worker stopped");
}

#[test]
fn any_screen_size_is_used_and_a_small_one_is_reported() {
    let host = TestHost::with_servers(30);
    let terminal = Terminal::with_monitor(&host);
    let screen = terminal.sees("Servers: 30");
    let servers = |screen: &str| {
        screen
            .lines()
            .filter(|line| line.contains("stopped unknown"))
            .count()
    };

    assert!(
        servers(&screen) >= 3
            && ["Jobs:", "Queue:", "Q quit"]
                .iter()
                .all(|words| screen.contains(words)),
        "{screen}"
    );

    terminal.resize(120, 40);
    let larger = terminal.until("120 columns", |screen| {
        screen
            .lines()
            .any(|line| line.contains("Servers:") && line.chars().count() == 120)
    });

    assert!(servers(&larger) > servers(&screen), "{larger}");
    assert!(larger.trim_end().lines().count() == 40, "{larger}");

    terminal.resize(40, 10);
    terminal.sees("terminal too small");
    terminal.resize(60, 15);

    let least = terminal.sees("Q quit");
    assert!(
        ["Servers:", "Jobs:", "Queue:", "Log"]
            .iter()
            .all(|words| least.contains(words)),
        "{least}"
    );

    terminal.resize(80, 24);
    terminal.until("the screen as before", |now| *now == screen);
}

#[test]
fn a_lost_worker_is_shown_and_so_is_its_successor() {
    let host = TestHost::new();
    let terminal = Terminal::with_monitor(&host);
    let (_runner, mut worker, id) = installing(&host);
    terminal.sees("worker working");
    stop(&worker, Signal::SIGKILL);
    ended(&mut worker);

    let screen = terminal.sees("worker LOST");
    assert!(
        screen.contains("worker lost: a job is marked as running"),
        "{screen}"
    );

    assert!(
        screen.contains("left4me-worker.socket") && screen.contains("install    running"),
        "{screen}"
    );

    assert_eq!(host.state(id), JobState::Running);

    host.drain();
    let screen = terminal.sees("install    failed");
    assert!(
        screen.contains("worker idle") && screen.contains("worker that ran this job died"),
        "{screen}"
    );
}

#[test]
fn no_color_turns_colours_off() {
    let host = TestHost::with_servers(1);
    host.enqueue(&["stop", "--server", "1"]);
    host.job(&["pause"]);

    // tmux reports a colour in one of two forms; 39 and 49 are the terminal's defaults.
    let coloured = |painted: &str| {
        let plain = ('0'..='7').any(|n| {
            ["3", "4"]
                .iter()
                .any(|kind| painted.contains(&format!("\u{1b}[{kind}{n}m")))
        });

        plain || painted.contains("38;5;") || painted.contains("48;5;")
    };

    let terminal = Terminal::with_monitor(&host);

    terminal.sees("queue paused by");
    let painted = terminal.painted();
    assert!(coloured(&painted), "{painted:?}");

    let terminal = Terminal::new(&host, &[("NO_COLOR", "1")]);
    terminal.start();
    terminal.sees("queue paused by");

    let painted = terminal.painted();
    assert!(!coloured(&painted), "{painted:?}");
    assert!(
        painted.contains("\u{1b}[1m") && painted.contains("\u{1b}[7m"),
        "bold and reverse stay\n{painted:?}"
    );
}

#[test]
fn the_terminal_is_restored_however_the_monitor_ends() {
    let host = TestHost::with_servers(1);
    let terminal = Terminal::new(&host, &[("LEFT4ME_TEST_PANIC", "1")]);
    for (end, code) in [("q", 0), ("C-c", 0), ("?q", 0)] {
        terminal.start();
        match end {
            "C-c" => terminal.press(&[end]),
            letters => terminal.type_text(letters),
        }

        assert_eq!(terminal.is_restored(), code, "{end}");
        terminal.press(&["C-l"]);
    }

    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        terminal.start();
        kill(terminal.child(), signal).unwrap();
        assert_eq!(terminal.is_restored(), 128 + signal as i32, "{signal}");
        terminal.press(&["C-l"]);
    }

    terminal.start();
    terminal.type_text("!");
    let screen = terminal.sees("the test asked for this panic");
    assert!(
        screen.contains("panicked at"),
        "the message is readable\n{screen}"
    );

    assert_eq!(terminal.is_restored(), 101);
}

#[test]
fn the_monitor_ends_when_its_terminal_goes_away() {
    let host = TestHost::with_servers(1);
    for before in ["", "trap '' HUP; "] {
        let terminal = Terminal::new(&host, &[]);
        terminal.type_line(&format!("{before}{JOB} monitor"));
        terminal.sees("Q quit");
        let monitor = terminal.child();
        drop(terminal);
        until("the monitor's end", || {
            (!std::path::Path::new(&format!("/proc/{monitor}")).exists()).then_some(())
        });
    }
}

#[test]
fn it_suspends_and_resumes_as_other_programs_do() {
    let host = TestHost::with_servers(1);
    let terminal = Terminal::with_monitor(&host);
    for how in ["C-z", "SIGTSTP", "SIGSTOP"] {
        let monitor = terminal.child();
        match how {
            "C-z" => terminal.press(&["C-z"]),
            "SIGTSTP" => kill(monitor, Signal::SIGTSTP).unwrap(),
            _ => kill(monitor, Signal::SIGSTOP).unwrap(),
        }

        until(how, || {
            let stat = std::fs::read_to_string(format!("/proc/{monitor}/stat")).unwrap();
            stat.rsplit(')')
                .next()
                .unwrap()
                .trim_start()
                .starts_with('T')
                .then_some(())
        });

        if how != "SIGSTOP" {
            assert_eq!(
                terminal.is_restored() & 128,
                128,
                "{how}: 128 and the signal"
            );
        }

        terminal.type_line("fg");
        terminal.sees("Servers: 1");
        terminal.press(&["?"]);
        terminal.sees("quit; jobs continue");
        terminal.press(&["x"]);
        terminal.misses("quit; jobs continue");
    }

    terminal.press(&["q"]);
    terminal.is_restored();
}

#[test]
fn without_a_terminal_it_is_a_usage_error() {
    let host = TestHost::new();
    assert_eq!(
        host.job(&["monitor", "--db", "/nonexistent/x.db"]).0,
        2,
        "whatever else is missing"
    );

    let (code, out, err) = host.job(&["monitor"]);
    assert_eq!(
        (code, out.as_str(), err.lines().count()),
        (2, "", 1),
        "{err}"
    );

    assert!(
        err.starts_with("left4me-job: monitor needs a terminal"),
        "{err}"
    );

    let terminal = Terminal::new(&host, &[]);
    terminal.type_line(&format!(
        "{JOB} monitor | cat; echo code-${{PIPESTATUS[0]}}-"
    ));
    terminal.sees("code-2-");
    terminal.press(&["C-l"]);
    terminal.type_line(&format!("TERM=dumb {JOB} monitor; echo dumb-$?-"));
    terminal.sees("dumb-2-");
}
