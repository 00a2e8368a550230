//! The runner as systemd starts it: one connection, one command, its output, its end.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::steamcmd::{INSTALL, calls, envs, install, steamcmd};
use crate::support::{Conversation, Envs, RUNNER, Root, alive, marker, until};

#[test]
fn an_installation_runs_prime_then_windows_then_linux_pass() {
    let root = Root::new();
    steamcmd(
        &root,
        "echo $HOME",
        "tty <&1; stty size <&1; stty -a <&2 | grep -o -- -echo; laid",
        "whole",
    );

    let received = install(&root);
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    assert_eq!(calls(&root), ["prime", "windows", "linux"]);
    assert_eq!(received.started, 3);
    assert_eq!(received.stdout[0], root.join("steam").display().to_string());
    assert!(received.stdout[1].starts_with("/dev/pts/"), "{received:?}");
    assert_eq!(received.stdout[2..4], ["80 512", "-echo"]);

    let first = std::fs::read_to_string(root.join("tmp/calls")).unwrap();
    let expected = format!(
        "+force_install_dir {} +login anonymous +app_update 222860 validate",
        root.join("installation").display()
    );

    assert!(first.contains(&expected), "{first}");

    for (name, target) in [("sdk32", "linux32"), ("sdk64", "linux64")] {
        assert_eq!(
            std::fs::read_link(root.join("steam/.steam").join(name)).unwrap(),
            root.join("steam").join(target)
        );
    }
}

#[test]
fn a_success_without_a_complete_manifest_fails_after_five_attempts() {
    let root = Root::new();
    steamcmd(&root, ":", "laid", "game; manifest 4 5; success");
    let received = install(&root);
    assert_eq!(received.ending(), (1, "exit", "empty"), "{received:?}");
    assert!(
        received.complains("BytesDownloaded is 5 of 9"),
        "{received:?}"
    );
    assert_eq!(calls(&root).len(), 7, "the windows pass is not made again");
}

#[test]
fn temporary_states_are_retried_from_the_failed_pass() {
    for state in ["0x402", "0x602", "0x606", "0x626", "0x6A6"] {
        let root = Root::new();
        root.write("installation/steamapps/downloading/222860/x", "half");
        root.write("installation/steamapps/temp/x", "half");
        steamcmd(
            &root,
            ":",
            "laid",
            &format!("if first once; then fail {state}; fi; whole"),
        );

        let received = install(&root);
        assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
        assert_eq!(
            calls(&root),
            ["prime", "windows", "linux", "linux"],
            "{state}"
        );

        let cleared = !root.join("installation/steamapps/downloading").exists();
        assert_eq!(cleared, state == "0x6A6", "{state}");
        assert_eq!(!root.join("installation/steamapps/temp").exists(), cleared);
    }
}

#[test]
fn an_invalid_platform_goes_back_to_the_windows_pass() {
    let root = Root::new();
    steamcmd(
        &root,
        ":",
        "laid",
        "if first once; then echo \"ERROR! Failed to install \
         app '222860' (Invalid platform)\"; exit 8; fi; whole",
    );

    assert_eq!(install(&root).exit(), 0);
    assert_eq!(
        calls(&root),
        ["prime", "windows", "linux", "windows", "linux"]
    );
}

#[test]
fn a_full_disk_stops_at_once_and_says_where_and_how_much_is_free() {
    for state in ["0x202", "0x212"] {
        let root = Root::new();
        steamcmd(&root, ":", &format!("fail {state}"), "whole");
        let received = install(&root);
        assert_eq!(received.ending(), (8, "exit", "empty"), "{received:?}");
        assert!(
            received.complains(&root.join("installation").display().to_string())
                && received.complains("MiB free"),
            "{received:?}"
        );

        assert_eq!(calls(&root), ["prime", "windows"]);
    }
}

#[test]
fn five_failures_end_with_steamcmds_own_exit_code() {
    let root = Root::new();
    steamcmd(&root, ":", "echo 'FAILED (No Connection)'; exit 5", "whole");
    let received = install(&root);
    assert_eq!(received.ending(), (5, "exit", "empty"), "{received:?}");
    assert_eq!(calls(&root).len(), 6);
    assert!(
        received.complains("attempt 4 of 5 failed")
            && received.complains("given up after 5 attempts"),
        "{received:?}"
    );
}

#[test]
fn a_missing_or_unusable_steamcmd_is_one_clear_line_and_exit_69() {
    let root = Root::new();
    for prepare in [
        |_: &Root| {},
        |root: &Root| drop(root.write("steam/steamcmd.sh", "#!/bin/sh\n")),
        |root: &Root| {
            std::fs::remove_file(root.join("steam/steamcmd.sh")).unwrap();
            std::fs::create_dir(root.join("steam/steamcmd.sh")).unwrap();
        },
    ] {
        prepare(&root);
        let received = install(&root);
        assert_eq!(received.ending(), (69, "exit", "empty"), "{received:?}");
        assert_eq!(
            (received.errors.len(), received.started),
            (1, 0),
            "{received:?}"
        );
        assert!(
            received.complains("LEFT4ME_STEAMCMD") && received.complains("steam/steamcmd.sh"),
            "{received:?}"
        );
    }

    let root = Root::new();
    root.script("steam/steamcmd.sh", "#!/no/such/interpreter\n");
    let received = install(&root);
    assert_eq!(received.exit(), 69, "{received:?}");
    assert!(received.complains("LEFT4ME_STEAMCMD"), "{received:?}");
}

#[test]
fn two_installations_never_run_at_once() {
    let root = Root::new();
    steamcmd(
        &root,
        "echo here; read -r line < ../tmp/gate",
        "laid",
        "whole",
    );

    assert!(
        Command::new("mkfifo")
            .arg(root.join("tmp/gate"))
            .status()
            .unwrap()
            .success()
    );

    let mut first = Conversation::start(&[RUNNER], &root.envs());
    first.send_line(INSTALL);
    first.receive_until("the first run", |answer| answer["stdout"] == "here");
    let received = install(&root);
    assert_eq!(received.exit(), 4, "{received:?}");
    assert!(
        received.complains("another installation is under way"),
        "{received:?}"
    );

    std::fs::write(root.join("tmp/gate"), "go\n").unwrap();
    assert_eq!(first.rest().exit(), 0);
}

/// Each kind of invalid request with a part of its error.
#[test]
fn an_invalid_request_exits_64_and_is_logged_with_its_sender() {
    let root = Root::new();
    let long = format!("{{\"verb\":\"{}\"}}\n", "x".repeat(5000));
    let cases: [(&[u8], &str); 9] = [
        (long.as_bytes(), "longer than 4096 bytes"),
        (b"{\"verb\":\"install\0\"}\n", "not text"),
        (b"\xff\xfe\n", "not text"),
        (b"\x16\x03\x01\x02\x00", "not text"),
        (
            b"{\"verb\":\"run\",\"argv\":[\"sh\"]}\n",
            "unknown variant `run`",
        ),
        (
            b"{\"verb\":\"install\",\"argv\":[\"sh\"]}\n",
            "unknown field `argv`",
        ),
        (b"[]\n", "not a request"),
        (b"\n", "not a request"),
        (b"{\"verb\":\"install\"", "closed"),
    ];

    for (bytes, words) in cases {
        let mut talk = Conversation::start(&[RUNNER], &root.envs());
        talk.stream.write_all(bytes).unwrap();
        if words == "closed" {
            talk.stream.shutdown(std::net::Shutdown::Write).unwrap();
        }

        let received = talk.rest();
        assert_eq!(received.exit(), 64, "{received:?}");
        assert_eq!(
            (received.errors.len(), received.started),
            (1, 0),
            "{received:?}"
        );
        assert!(received.complains(words), "{words}: {received:?}");

        let (code, log) = talk.end();
        assert_eq!(code, 0);

        let who = format!(
            "peer uid Some({}), pid Some({})",
            nix::unistd::getuid(),
            std::process::id()
        );

        assert!(log.contains("refused") && log.contains(&who), "{log}");
    }
}

#[test]
fn a_request_that_takes_longer_than_five_seconds_is_refused() {
    let mut talk = Conversation::start(&[RUNNER], &Root::new().envs());
    let start = Instant::now();
    talk.stream.write_all(b"{\"verb\":").unwrap();
    let received = talk.rest();
    assert_eq!(received.exit(), 64);
    assert!(received.complains("within 5 s"), "{received:?}");
    assert!((4..8).contains(&start.elapsed().as_secs()));
}

#[test]
fn without_a_connection_the_runner_says_what_to_do_and_exits_2() {
    let output = Command::new(RUNNER)
        .env("LEFT4ME_ENV_FILE", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("left4me-runner.socket"));
}

#[test]
fn a_bad_setting_is_named_before_anything_starts() {
    let mut envs = Root::new().envs();
    envs.push(("LEFT4ME_STEAM_RETRY_SECONDS".into(), "soon".into()));
    let (code, words) = Conversation::start(&[RUNNER], &envs).end();
    assert_eq!(code, 2);
    assert!(words.contains("LEFT4ME_STEAM_RETRY_SECONDS"), "{words}");
}

#[test]
fn other_users_are_refused() {
    if !crate::support::is_real_root() {
        eprintln!(
            "not root: only root can change its user; \
             the helper's tests check the same rule for other users"
        );

        return;
    }

    let (ours, theirs) = pair_of_another_user();
    let mut talk = Conversation::over(
        ours,
        crate::support::start(&[RUNNER], &Root::new().envs(), theirs, Stdio::piped()),
    );

    talk.send_line(INSTALL);
    let received = talk.rest();
    assert_eq!(received.exit(), 64, "{received:?}");
    assert!(
        received.complains("not permitted for user id 65534"),
        "{received:?}"
    );

    assert!(talk.end().1.contains("peer uid Some(65534)"));
}

/// A socket pair of user 65534: the kernel keeps its creator's credentials. Only this thread
/// changes its user.
fn pair_of_another_user() -> (UnixStream, UnixStream) {
    let as_user = |id: u32| {
        // SAFETY: the raw system call changes only this thread's effective user and touches no
        // memory.
        let result =
            unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, u32::MAX, id, u32::MAX) };
        assert_eq!(result, 0);
    };

    std::thread::spawn(move || {
        as_user(65534);
        let pair = UnixStream::pair().unwrap();
        as_user(0);
        pair
    })
    .join()
    .unwrap()
}

#[test]
fn a_command_that_ends_on_sigterm_ended_by_terminate() {
    let (root, mark) = (Root::new(), marker());
    steamcmd(
        &root,
        &format!("echo here; exec sleep {mark}"),
        "laid",
        "whole",
    );

    let mut talk = Conversation::start(&[RUNNER], &root.envs());
    talk.send_line(INSTALL);
    talk.receive_until("the command", |answer| answer["stdout"] == "here");
    talk.send_line(r#"{"cancel":"terminate"}"#);
    assert_eq!(talk.rest().ending(), (143, "terminate", "empty"));
    assert!(alive(&mark).is_empty());
    assert_eq!(calls(&root), ["prime"], "nothing is started after a cancel");
}

/// A command that ignores all signals it can, with a child in a session of its own that does so
/// too.
fn stubborn(root: &Root, mark: &str) {
    let text = format!(
        "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM INT HUP; (sleep {mark} &) ; \
         sleep {mark}' & sleep {mark} & echo here; while :; do sleep {mark}; done"
    );
    steamcmd(root, &text, "laid", "whole");
}

fn all_alive(mark: &str) -> bool {
    until("the whole tree", || {
        (alive(mark).len() >= 4).then_some(true)
    })
}

#[test]
fn a_tree_that_ignores_sigterm_is_killed_after_the_grace() {
    let (root, mark) = (Root::new(), marker());
    stubborn(&root, &mark);
    let mut talk = Conversation::start(&[RUNNER], &root.envs());
    talk.send_line(INSTALL);
    talk.receive_until("the command", |answer| answer["stdout"] == "here");
    assert!(all_alive(&mark));

    let start = Instant::now();
    talk.send_line(r#"{"cancel":"terminate"}"#);
    assert_eq!(talk.rest().ending(), (137, "kill", "empty"));
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "not before the grace is over"
    );

    assert!(alive(&mark).is_empty());
}

#[test]
fn a_kill_does_not_wait_for_the_grace() {
    let (root, mark) = (Root::new(), marker());
    stubborn(&root, &mark);
    let mut envs = root.envs();
    envs.push(("LEFT4ME_CANCEL_GRACE_SECONDS".into(), "3600".into()));
    let mut talk = Conversation::start(&[RUNNER], &envs);
    talk.send_line(INSTALL);
    talk.receive_until("the command", |answer| answer["stdout"] == "here");
    assert!(all_alive(&mark));

    talk.send_line(r#"{"cancel":"terminate"}"#);
    talk.send_line(r#"{"cancel":"kill"}"#);
    assert_eq!(talk.rest().ending(), (137, "kill", "empty"));
    assert!(alive(&mark).is_empty());
}

#[test]
fn a_hangup_ends_the_whole_tree() {
    let (root, mark) = (Root::new(), marker());
    stubborn(&root, &mark);
    let mut talk = Conversation::start(&[RUNNER], &root.envs());
    talk.send_line(INSTALL);
    talk.receive_until("the command", |answer| answer["stdout"] == "here");
    assert!(all_alive(&mark));
    assert_eq!(talk.end().0, 0);
    assert!(alive(&mark).is_empty());
}

#[test]
fn a_stopped_runner_ends_its_tree_and_says_so() {
    let (root, mark) = (Root::new(), marker());
    stubborn(&root, &mark);
    let mut talk = Conversation::start(&[RUNNER], &root.envs());
    talk.send_line(INSTALL);
    talk.receive_until("the command", |answer| answer["stdout"] == "here");
    assert!(all_alive(&mark));

    let pid = nix::unistd::Pid::from_raw(talk.child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(talk.rest().ending(), (137, "kill", "empty"));
    assert!(alive(&mark).is_empty());
}

/// Two hundred processes, each in a session of its own and ignoring signals. Each one forks a
/// successor and ends, four times a second.
fn forking(root: &Root, mark: &str) {
    let text = format!(
        "exec perl -MPOSIX=setsid -e '$SIG{{$_}} = \"IGNORE\" for qw(TERM INT HUP CHLD); $| = 1; \
         for (1 .. 200) {{ next if fork; setsid(); while (1) {{ select undef, undef, undef, rand \
         0.5; exit if fork; setsid() }} }} \
         print \"here\\n\"; sleep 1 while 1' {mark}"
    );
    steamcmd(root, &text, "laid", "whole");
}

/// Runs and cancels a forking command. Returns the time from the cancel to the end of its tree.
fn cancel_forking(argv: &[&str], control: &str) -> Duration {
    let (root, mark) = (Root::new(), marker());
    forking(&root, &mark);
    let mut talk = Conversation::start(argv, &root.envs());
    talk.send_line(INSTALL);
    talk.receive_until("the command", |answer| answer["stdout"] == "here");

    until("the whole tree", || {
        (alive(&mark).len() >= 200).then_some(())
    });
    let start = Instant::now();
    talk.send_line(&format!("{{\"cancel\":\"{control}\"}}"));
    assert_eq!(talk.rest().ending(), (137, "kill", "empty"));

    let time = start.elapsed();
    assert!(alive(&mark).is_empty());
    time
}

#[test]
fn two_hundred_forking_processes_are_gone_half_a_second_after_a_kill() {
    let time = cancel_forking(&[RUNNER], "kill");
    assert!(
        time < Duration::from_millis(500),
        "without a control group {time:?}"
    );

    let time = cancel_forking(&[RUNNER], "terminate");
    assert!(
        (1000..1500).contains(&time.as_millis()),
        "after the grace, without a control group {time:?}"
    );

    let Some(group) = DelegatedGroup::new() else {
        return;
    };
    let enter = format!(
        "echo $$ > {}/cgroup.procs && exec {RUNNER}",
        group.0.display()
    );

    let time = cancel_forking(&["sh", "-c", &enter], "kill");
    assert!(
        time < Duration::from_millis(500),
        "in a control group {time:?}"
    );
}

/// A file system below `root` whose readers get stuck; none without the right to mount one.
fn disk(root: &Root) -> Option<crate::support::stuck::Stuck> {
    let directory = root.join("disk");
    std::fs::create_dir(&directory).unwrap();
    let disk = crate::support::stuck::Stuck::mount(&directory);

    if let Err(error) = &disk {
        assert!(
            !crate::support::is_real_root() || !std::path::Path::new("/dev/fuse").exists(),
            "{error}"
        );

        eprintln!("not root, or no /dev/fuse: the lab tests check this rule");
    }

    disk.ok()
}

/// The state of a process from /proc, if the process exists.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

#[test]
fn a_process_stuck_in_the_kernel_is_reported_as_left() {
    let (root, mark) = (Root::new(), marker());
    let Some(disk) = disk(&root) else { return };
    let ever = root.join("disk/ever");
    steamcmd(
        &root,
        &format!(
            "sleep {mark} & echo here; exec cat {} {mark}",
            ever.display()
        ),
        "laid",
        "whole",
    );

    let mut talk = Conversation::start(&[RUNNER], &root.envs());
    talk.send_line(INSTALL);
    talk.receive_until("the command", |answer| answer["stdout"] == "here");

    let find = || {
        alive(&mark).into_iter().find(|pid| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("cat"))
        })
    };

    let pid = until("cat", find);
    until("cat in the kernel", || (disk.readers() == 1).then_some(()));
    let start = Instant::now();
    talk.send_line(r#"{"cancel":"kill"}"#);

    until("the others' end", || (alive(&mark) == [pid]).then_some(()));
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );

    assert_eq!(talk.rest().ending(), (137, "kill", "left"));
    assert!(
        (5.0..6.5).contains(&start.elapsed().as_secs_f64()),
        "{:?}",
        start.elapsed()
    );

    assert_eq!(state(pid), Some('D'), "a SIGKILL that does not end it");

    drop(disk);
    until("its end, once it is let go", || {
        alive(&mark).is_empty().then_some(())
    });
}

#[test]
fn a_stuck_process_is_gone_when_its_disk_is_back() {
    let (root, mark) = (Root::new(), marker());
    let Some(disk) = disk(&root) else { return };
    let path = root.join("disk/300");
    let text = format!(
        "trap '' TERM INT HUP; echo here; read -r line < {}; sleep {mark}",
        path.display()
    );

    steamcmd(&root, &text, "laid", "whole");
    let mut talk = Conversation::start(&[RUNNER], &root.envs());
    talk.send_line(INSTALL);
    talk.receive_until("the command", |answer| answer["stdout"] == "here");

    until("it in the kernel", || (disk.readers() == 1).then_some(()));
    let start = Instant::now();
    talk.send_line(r#"{"cancel":"kill"}"#);
    assert_eq!(talk.rest().ending(), (137, "kill", "empty"));
    assert!(
        (300..1000).contains(&start.elapsed().as_millis()),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn an_invalid_control_line_ends_the_command_with_64() {
    let (root, mark) = (Root::new(), marker());
    steamcmd(
        &root,
        &format!("echo here; exec sleep {mark}"),
        "laid",
        "whole",
    );

    let mut talk = Conversation::start(&[RUNNER], &root.envs());
    talk.send_line(INSTALL);
    talk.receive_until("the command", |answer| answer["stdout"] == "here");
    talk.send_line(r#"{"cancel":"please"}"#);
    let received = talk.rest();
    assert_eq!(received.exit(), 64, "{received:?}");
    assert_eq!(received.errors.len(), 1, "{received:?}");
    assert!(alive(&mark).is_empty());
}

#[test]
fn a_child_that_holds_the_terminal_is_killed_after_one_second() {
    let (root, mark) = (Root::new(), marker());
    let hold = format!(
        "echo here; setsid sh -c 'trap \"\" TERM INT HUP; \
         sleep 0.3; echo late; sleep {mark}' & exit 0"
    );

    steamcmd(&root, &hold, "laid", "whole");
    let start = Instant::now();
    let received = install(&root);
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    assert_eq!(
        received.stdout[..2],
        ["here", "late"],
        "what comes within the second is kept"
    );

    assert!(
        (1.0..4.0).contains(&start.elapsed().as_secs_f64()),
        "{:?}",
        start.elapsed()
    );

    assert!(alive(&mark).is_empty());
}

#[test]
fn a_cancel_ends_the_wait_between_attempts_at_once() {
    let root = Root::new();
    steamcmd(&root, ":", "fail 0x602", "whole");
    let mut envs = root.envs();
    envs.push(("LEFT4ME_STEAM_RETRY_SECONDS".into(), "3600".into()));

    for (control, expected) in [
        ("terminate", (143, "terminate", "empty")),
        ("kill", (137, "kill", "empty")),
    ] {
        let mut talk = Conversation::start(&[RUNNER], &envs);
        talk.send_line(INSTALL);
        let failed = |answer: &Value| {
            answer["stderr"]
                .as_str()
                .is_some_and(|line| line.contains("the next one in 3600 s"))
        };

        talk.receive_until("the first failure", failed);
        talk.send_line(&format!("{{\"cancel\":\"{control}\"}}"));
        assert_eq!(talk.rest().ending(), expected);
    }
}

#[test]
fn every_line_comes_once_and_in_order() {
    let root = Root::new();
    steamcmd(&root, "seq 1 200000", "laid", "whole");
    let received = install(&root);
    assert_eq!(received.exit(), 0);
    let numbers = received.stdout.iter().take(200_000).enumerate();
    let wrong = numbers
        .clone()
        .find(|(i, line)| line.parse::<usize>() != Ok(i + 1));
    assert_eq!((numbers.count(), wrong), (200_000, None));
}

#[test]
fn a_slow_reader_stops_the_command_not_the_controls() {
    let (root, mark) = (Root::new(), marker());
    steamcmd(
        &root,
        &format!("exec 9>../tmp/count; sleep {mark} & while :; do echo x; echo >&9; done"),
        "laid",
        "whole",
    );

    let mut talk = Conversation::start(&[RUNNER], &root.envs());

    talk.send_line(INSTALL);
    let size = || std::fs::metadata(root.join("tmp/count")).map_or(0, |found| found.len());
    // Nothing reads: the command blocks once the buffers are full.
    let mut last = (0, Instant::now());

    let stopped = until("the command's stop", || {
        if size() != last.0 {
            last = (size(), Instant::now());
        }
        (last.0 > 0 && last.1.elapsed() > Duration::from_millis(500)).then_some(last.0)
    });

    talk.send_line(r#"{"cancel":"kill"}"#);
    until("the end of the tree", || {
        alive(&mark).is_empty().then_some(())
    });
    let received = talk.rest();
    assert_eq!(received.ending(), (137, "kill", "empty"));
    // Its output before the kill is delivered; the loop may have been between its two echoes.
    assert!(
        received
            .stdout
            .len()
            .abs_diff(usize::try_from(stopped).unwrap())
            <= 1,
        "{} {stopped}",
        received.stdout.len()
    );
}

#[test]
fn odd_output_becomes_short_text_lines() {
    let root = Root::new();
    let odd = "head -c 1000000 /dev/zero | tr '\\0' x; echo; printf 'a\\377b\\n'; printf \
              '\\033[31mred\\033[0m\\000\\n'; printf 'end'";
    steamcmd(&root, odd, "laid", "whole");
    let received = install(&root);
    assert_eq!(received.exit(), 0);
    assert_eq!(
        received.stdout[0].chars().count(),
        4096 + " […]".chars().count()
    );

    assert!(received.stdout[0].ends_with(" […]"));
    assert_eq!(received.stdout[1..4], ["a\u{fffd}b", "red\u{2400}", "end"]);
}

#[test]
fn endless_progress_is_sent_four_times_a_second_with_its_last_update() {
    let root = Root::new();
    let text = "i=0; end=$(($(date +%s) + 2)); while [ \"$(date +%s)\" -lt $end ]; do i=$((i+1)); \
               printf 'progress %s\\r' $i; done; printf 'last\\r'";
    steamcmd(&root, text, "laid", "whole");
    let received = install(&root);
    assert_eq!(received.exit(), 0);

    let sent = received
        .stdout
        .iter()
        .take_while(|line| *line != "last")
        .count();
    assert!((2..=13).contains(&sent), "{:?}", received.stdout);
    assert!(received.stdout.iter().any(|line| line == "last"));
}

#[test]
fn a_control_line_may_come_together_with_the_request() {
    let (root, mark) = (Root::new(), marker());
    steamcmd(&root, &format!("exec sleep {mark}"), "laid", "whole");
    let mut talk = Conversation::start(&[RUNNER], &root.envs());
    talk.send_line(&format!("{INSTALL}\n{}", r#"{"cancel":"kill"}"#));
    assert_eq!(talk.rest().ending(), (137, "kill", "empty"));
}

#[test]
fn a_mounted_overlay_is_named_and_nothing_is_installed() {
    let root = Root::new();
    steamcmd(&root, ":", "laid", "whole");
    for name in ["upper", "work", "merged"] {
        std::fs::create_dir_all(root.join("runtime/7").join(name)).unwrap();
    }

    let runtime = root.join("runtime/7");
    let options = format!(
        "lowerdir={},upperdir={r}/upper,workdir={r}/work",
        root.join("installation").display(),
        r = runtime.display()
    );

    let inner = format!(
        "mount -t overlay overlay -o {options} {}/merged && exec {RUNNER}",
        runtime.display()
    );

    let unshare: &[&str] = if crate::support::is_real_root() {
        &["unshare", "--mount", "--propagation", "private"]
    } else {
        &["unshare", "--user", "--map-root-user", "--mount"]
    };

    let argv = [unshare, &["sh", "-c", &inner]].concat();
    let in_place = envs(&root, &[("LEFT4ME_BUILDS", "in-place")]);
    let mut talk = Conversation::start(&argv, &in_place);
    talk.send_line(INSTALL);
    let received = talk.rest();
    assert_eq!(received.exit(), 4, "{received:?}");
    assert!(received.complains("server 7"), "{received:?}");
    assert!(calls(&root).is_empty());

    // Beside, the installation is no layer of a running server, and servers keep running.
    let mut talk = Conversation::start(&argv, &root.envs());
    talk.send_line(INSTALL);
    let received = talk.rest();
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
}

/// The answer names the delegated control group, which is empty and removed at the end.
#[test]
fn the_command_has_its_own_group_in_a_delegated_one() {
    let Some(group) = DelegatedGroup::new() else {
        eprintln!("no control group can be made here: the tests in a real systemd hold this rule");
        return;
    };

    let (root, mark) = (Root::new(), marker());
    stubborn(&root, &mark);
    let enter = format!(
        "echo $$ > {}/cgroup.procs && exec {RUNNER}",
        group.0.display()
    );

    let mut talk = Conversation::start(&["sh", "-c", &enter], &root.envs());
    talk.send_line(INSTALL);
    let runner = talk.child.id();
    let is_command =
        |answer: &Value| answer["started"].is_object() && answer["started"]["pid"] != runner;
    let started = talk.receive_until("the start", is_command);
    let path = started["started"]["cgroup"].as_str().unwrap();
    assert!(path.ends_with("/command"), "{started}");

    let pid = started["started"]["pid"].as_u64().unwrap();
    assert!(
        std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .unwrap()
            .contains(&format!("0::{path}\n"))
    );

    assert!(all_alive(&mark));

    talk.send_line(r#"{"cancel":"terminate"}"#);
    assert_eq!(talk.rest().ending(), (137, "kill", "empty"));
    assert_eq!(talk.end().0, 0);
    assert!(alive(&mark).is_empty());
    assert!(!group.0.join("command").exists());
}

/// A runner that gets stuck before its command has named its unit.
#[test]
fn in_a_unit_the_runner_names_it_before_any_work() {
    let name = format!("left4me-test-{}.service", marker());
    let Some(group) = DelegatedGroup::named(&name) else {
        eprintln!("no control group can be made here: the tests in a real systemd hold this rule");
        return;
    };

    let enter = format!(
        "echo $$ > {}/cgroup.procs && exec {RUNNER}",
        group.0.display()
    );

    let mut talk = Conversation::start(&["sh", "-c", &enter], &Root::new().envs());
    talk.send_line(INSTALL);
    let first = talk.receive().unwrap();
    assert_eq!(
        (
            first["started"]["pid"].as_u64(),
            first["started"]["unit"].as_str()
        ),
        (Some(talk.child.id().into()), Some(name.as_str()))
    );

    assert!(
        first["started"]["cgroup"]
            .as_str()
            .is_some_and(|path| path.ends_with(&format!("/{name}"))),
        "{first}"
    );

    assert_eq!(talk.rest().exit(), 69, "there is no steamcmd");
    assert_eq!(talk.end().0, 0);
}

/// A control group with the attribute that systemd sets on a delegated one.
struct DelegatedGroup(std::path::PathBuf);

impl DelegatedGroup {
    fn new() -> Option<Self> {
        Self::named(&format!("left4me-test-{}", marker()))
    }

    fn named(name: &str) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let path = std::path::Path::new(line.split(' ').nth(4)?).join(name);
        std::fs::create_dir(&path).ok()?;
        let group = Self(path);
        let directory = std::ffi::CString::new(group.0.to_str()?).ok()?;
        // SAFETY: three strings that end with NUL or are passed with their length; all outlive the
        // call.
        let marked = unsafe {
            nix::libc::setxattr(
                directory.as_ptr(),
                c"user.delegate".as_ptr(),
                c"1".as_ptr().cast(),
                1,
                0,
            )
        };

        (marked == 0).then_some(group)
    }
}

impl Drop for DelegatedGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.0.join("command"));
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The worker's tests depend on `accept`.
#[test]
fn each_connection_to_the_socket_gets_an_instance_of_its_own() {
    use left4me::wire::{RunnerRequest, client::Connection};
    let root = Root::new();
    steamcmd(&root, "echo here", "laid", "echo here; whole");
    let envs: Envs = root.envs();
    let path = root.join("runner.sock");
    let guard = crate::support::accept(&path, &[RUNNER], &envs);

    for _ in 0..2 {
        let mut connection = Connection::open(&path, &RunnerRequest::Install {}).unwrap();
        let (mut lines, mut exit) = (Vec::new(), None);
        while let Some(answer) = connection.next_answer().unwrap() {
            lines.extend(answer.stdout.map(std::borrow::Cow::into_owned));
            exit = answer.exit;
        }

        assert_eq!((lines[0].as_str(), exit), ("here", Some(0)));
    }

    assert_eq!(guard.started(), 2);
}
