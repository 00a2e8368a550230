//! How the runner interprets steamcmd's output and what it leaves behind. The outputs are from
//! public reports.

use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::steamcmd::{
    INSTALL, calls, check, check_with, envs, install, install_with, installed, steamcmd,
    steamcmd_that_answers,
};
use crate::support::{Conversation, RUNNER, Received, Root, alive, marker};

const UNFINISHED: &str = "installation/.left4me-unfinished";

/// The line that becomes the job's error.
fn error_of(received: &Received) -> &str {
    received
        .errors
        .last()
        .or(received.stderr.last())
        .expect("an error, or a line on standard error")
}

#[test]
fn a_login_timeout_fails_whatever_exit_code_and_old_manifest_say() {
    for words in ["FAILED (Timed out)", "FAILED. Timed out."] {
        let root = Root::new();
        installed(&root);
        steamcmd(
            &root,
            ":",
            "laid",
            &format!("echo 'Waiting for user info...{words}'; echo OK; exit 0"),
        );

        let received = install(&root);
        assert_eq!(received.ending(), (1, "exit", "empty"), "{received:?}");
        assert!(
            error_of(&received).contains("Steam did not answer in time: check this host's network"),
            "{received:?}"
        );

        assert!(!received.complains("installed: build"), "{received:?}");
        assert_eq!(calls(&root), ["linux"; 5]);
    }
}

#[test]
fn a_pass_without_a_success_message_fails() {
    let root = Root::new();
    steamcmd(&root, ":", "laid", "game; manifest 4 9");
    let received = install(&root);
    assert_eq!(received.exit(), 1, "{received:?}");
    assert!(
        error_of(&received).contains("without reporting success"),
        "{received:?}"
    );
}

#[test]
fn an_old_manifest_counts_only_when_steamcmd_says_up_to_date() {
    let root = Root::new();
    installed(&root);
    steamcmd(&root, ":", "laid", "success");
    let received = install(&root);
    assert_eq!(received.exit(), 1, "{received:?}");
    assert!(
        error_of(&received).contains("older than this run"),
        "{received:?}"
    );

    steamcmd(&root, ":", "laid", "success 'already up to date'");
    assert_eq!(install(&root).exit(), 0);
}

#[test]
fn an_incomplete_installation_fails_and_names_what_is_missing() {
    for (linux, words) in [
        (
            "game; manifest 4 9 222862; success",
            "depot 222863 is not among its InstalledDepots",
        ),
        (
            "whole; rm ../installation/srcds_linux",
            "srcds_linux is missing",
        ),
        (
            "whole; : > ../installation/bin/engine_srv.so",
            "engine_srv.so is missing, empty",
        ),
        (
            "whole; rm ../installation/left4dead2/bin/server_srv.so",
            "server_srv.so is missing",
        ),
        (
            "whole; chmod 644 ../installation/srcds_linux",
            "srcds_linux cannot be executed",
        ),
    ] {
        let root = Root::new();
        steamcmd(&root, ":", "laid", linux);
        let received = install(&root);
        assert_eq!(received.exit(), 1, "{received:?}");
        assert!(error_of(&received).contains(words), "{words}: {received:?}");
    }
}

/// Output, exit code, a part of the error, a part of the advice, the number of runs of the pass.
const CAUSES: &[(&str, i32, &str, &str, usize)] = &[
    (
        "[----] !!! Fatal Error: Steamcmd needs to be online \
         to update.  Please confirm your network connection.",
        254,
        "Steam cannot be reached",
        "network, DNS and firewall",
        5,
    ),
    (
        "[----] !!! Fatal Error: Steamcmd needs 250MB of free disk space to update.",
        7,
        "the disk is full",
        "make room there",
        1,
    ),
    (
        "Logging in user 'x' to Steam Public...FAILED (Rate Limit Exceeded)",
        5,
        "too many logins",
        "half an hour",
        3,
    ),
    (
        "ERROR! Failed to install app '222860' (No subscription)",
        8,
        "no subscription",
        "LEFT4ME_STEAM_ACCOUNT",
        1,
    ),
    (
        "Logging in user 'x' to Steam Public...FAILED (Invalid Password)",
        5,
        "not valid",
        "log in once by hand",
        1,
    ),
    (
        "Steam Guard code:FAILED (Invalid Login Auth Code)",
        5,
        "Steam Guard asks for a code",
        "log in once by hand",
        1,
    ),
    (
        "ERROR! Timed out waiting for AppInfo update.",
        1,
        "did not answer in time",
        "network",
        5,
    ),
    (
        "ERROR! Failed to install app '222860' (Manifest unavailable)",
        8,
        "do not give out the files of this build",
        "try again in an hour",
        5,
    ),
    (
        "ERROR! Failed to install app '222860' (Access Denied)",
        8,
        "no subscription",
        "LEFT4ME_STEAM_ACCOUNT",
        1,
    ),
    (
        "ERROR! Failed to install app '222860' (Content servers unreachable)",
        8,
        "Steam cannot be reached",
        "network, DNS and firewall",
        5,
    ),
    (
        "steamcmd.sh: line 37: linux32/steamcmd: No such file or directory",
        127,
        "32-bit library",
        "left4me doctor",
        1,
    ),
];

#[test]
fn each_cause_has_its_message_advice_and_retry_rule() {
    for (words, code, meaning, advice, runs) in CAUSES {
        let root = Root::new();
        installed(&root);
        steamcmd(
            &root,
            ":",
            "laid",
            &format!("echo \"{words}\"; exit {code}"),
        );

        let received = install_with(&root, &[("LEFT4ME_STEAM_RATE_LIMIT_SECONDS", "0")]);
        assert_eq!(received.exit(), i64::from(*code), "{received:?}");
        let error = error_of(&received);
        assert!(
            error.contains(meaning) && error.contains(advice),
            "{words}: {error}"
        );

        assert!(error.chars().count() < 500, "{error}");
        assert_eq!(calls(&root).len(), *runs, "{words}: {received:?}");
    }
}

#[test]
fn a_failed_prime_pass_says_why_and_stops_the_installation() {
    let root = Root::new();
    steamcmd(
        &root,
        "echo '[----] !!! Fatal Error: Steamcmd needs 250MB of free disk space to update.'; exit 7",
        "laid",
        "whole",
    );

    let received = install(&root);
    assert_eq!(received.ending(), (7, "exit", "empty"), "{received:?}");
    assert!(error_of(&received).contains("MiB free"), "{received:?}");
    assert_eq!(calls(&root), ["prime"]);
}

#[test]
fn the_rate_limit_is_waited_for_and_a_cancel_ends_the_wait() {
    let root = Root::new();
    steamcmd(
        &root,
        "echo 'Logging in...FAILED (Rate Limit Exceeded)'; exit 5",
        "laid",
        "whole",
    );

    let mut talk = Conversation::start(&[RUNNER], &root.envs());
    talk.send_line(INSTALL);

    let waits = |answer: &Value| {
        answer["stderr"]
            .as_str()
            .is_some_and(|line| line.contains("too many logins") && line.contains("in 1800 s"))
    };

    talk.receive_until("the wait is announced", waits);
    talk.send_line(r#"{"cancel":"terminate"}"#);
    assert_eq!(talk.rest().ending(), (143, "terminate", "empty"));
    assert_eq!(calls(&root), ["prime"]);
}

#[test]
fn a_crash_at_quit_does_not_undo_a_success() {
    let root = Root::new();
    steamcmd(
        &root,
        "kill -SEGV $$",
        "laid; kill -SEGV $$",
        "whole; kill -SEGV $$",
    );

    let received = install(&root);
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    assert_eq!(calls(&root), ["prime", "windows", "linux"]);
    assert!(
        received.complains("exit code 139 after its success"),
        "{received:?}"
    );
}

#[test]
fn a_steamcmd_without_output_and_activity_is_ended_and_retried() {
    let (root, mark) = (Root::new(), marker());
    let hang =
        format!("trap '' TERM; printf 'Steam>'; sleep {mark} & while :; do sleep {mark}; done");
    steamcmd(
        &root,
        ":",
        "laid",
        &format!("if first once; then {hang}; fi; whole"),
    );

    let received = install_with(&root, &[("LEFT4ME_STEAM_SILENCE_SECONDS", "1")]);
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    assert!(
        received.complains("steamcmd hung and was ended"),
        "{received:?}"
    );
    assert!(
        received.complains("no output and nothing new on disk for 1 s"),
        "{received:?}"
    );

    assert_eq!(calls(&root), ["prime", "windows", "linux", "linux"]);
    assert!(alive(&mark).is_empty(), "its whole tree is ended");
}

#[test]
fn a_steamcmd_that_hangs_each_time_or_repeats_itself_fails() {
    for hang in [
        "sleep 1000",
        "while :; do echo ' Update state (0x61) downloading, \
         progress: 1.00 (1 / 100)'; sleep 0.2; done",
    ] {
        let root = Root::new();
        installed(&root);
        steamcmd(&root, ":", "laid", &format!("exec sh -c \"{hang}\""));
        let start = Instant::now();
        let received = install_with(&root, &[("LEFT4ME_STEAM_SILENCE_SECONDS", "1")]);
        assert!(
            (5..40).contains(&start.elapsed().as_secs()),
            "{:?}",
            start.elapsed()
        );

        assert!(
            received.exit() != 0
                && error_of(&received).contains("given up after 5 attempts: steamcmd hung"),
            "{received:?}"
        );

        assert_eq!(calls(&root).len(), 5);
    }
}

#[test]
fn a_silent_steamcmd_that_writes_files_is_not_ended() {
    let root = Root::new();
    let work = "d=../installation/steamapps/downloading; mkdir -p $d; \
                for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo x >> $d/part; sleep 0.25; done; whole";
    steamcmd(&root, ":", "laid", work);
    let received = install_with(&root, &[("LEFT4ME_STEAM_SILENCE_SECONDS", "2")]);
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    assert_eq!(calls(&root), ["prime", "windows", "linux"]);
}

#[test]
fn a_cancel_of_a_silent_steamcmd_is_reported_as_a_cancel() {
    let root = Root::new();
    steamcmd(&root, "echo here; exec sleep 1000", "laid", "whole");
    let mut talk = Conversation::start(
        &[RUNNER],
        &envs(&root, &[("LEFT4ME_STEAM_SILENCE_SECONDS", "3600")]),
    );

    talk.send_line(INSTALL);
    talk.receive_until("the command", |answer| answer["stdout"] == "here");
    let start = Instant::now();
    talk.send_line(r#"{"cancel":"terminate"}"#);
    assert_eq!(talk.rest().ending(), (143, "terminate", "empty"));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_prompt_reads_end_of_file() {
    let root = Root::new();
    let prompt =
        "printf 'Steam>'; while read -r line; do printf 'Steam>'; done; echo; echo end of input";
    steamcmd(&root, prompt, "laid", "whole");
    let received = install(&root);
    assert_eq!(received.exit(), 0, "{received:?}");
    assert!(
        received.stdout.iter().any(|line| line == "end of input"),
        "{received:?}"
    );

    let root = Root::new();
    let guard = "printf 'Steam Guard code:'; read -r code || exit 5; echo OK";
    steamcmd(&root, guard, "laid", "whole");
    let received = install(&root);
    assert_eq!(received.exit(), 5, "{received:?}");
    assert!(
        error_of(&received).contains("Steam Guard asks for a code"),
        "{received:?}"
    );

    assert_eq!(calls(&root), ["prime"]);
}

#[test]
fn updates_run_only_the_linux_pass() {
    let root = Root::new();
    installed(&root);
    assert_eq!(install(&root).exit(), 0);
    assert_eq!(calls(&root), ["linux"]);

    // steamcmd without a configuration makes one; the Linux server stays intact.
    std::fs::remove_file(root.join("tmp/calls")).unwrap();
    steamcmd(
        &root,
        ":",
        "laid",
        "if first once; then refuse 'Missing configuration'; fi; whole",
    );

    assert_eq!(install(&root).exit(), 0);
    assert_eq!(calls(&root), ["linux", "prime", "linux"]);
}

#[test]
fn windows_files_are_marked_until_a_linux_pass_succeeds() {
    let root = Root::new();
    installed(&root);
    assert!(!root.join(UNFINISHED).exists());

    let linux = "refuse 'Invalid platform'";
    steamcmd(&root, ":", "laid", linux);
    let received = install(&root);
    assert_eq!(received.exit(), 8, "{received:?}");
    assert!(root.join(UNFINISHED).exists());
    assert!(
        received.complains("no server starts with Windows files"),
        "{received:?}"
    );

    steamcmd(&root, ":", "laid", "whole");
    assert_eq!(install(&root).exit(), 0);
    assert!(!root.join(UNFINISHED).exists());

    // A windows pass that Steam refused changes nothing, also where the game was copied by hand.
    for copied in [false, true] {
        if copied {
            std::fs::remove_dir_all(root.join("installation/steamapps")).unwrap();
        }
        steamcmd(&root, ":", "refuse 'No subscription'", linux);
        assert_eq!(install(&root).exit(), 8);
        assert!(
            !root.join(UNFINISHED).exists(),
            "the Linux server is as it was"
        );
    }
}

#[test]
fn an_account_setting_accepts_no_password() {
    let root = Root::new();
    installed(&root);
    assert_eq!(
        install_with(&root, &[("LEFT4ME_STEAM_ACCOUNT", "anna_7")]).exit(),
        0
    );

    let mode = std::fs::metadata(root.join("steam/Steam/config"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(
        mode & 0o777,
        0o700,
        "what steamcmd remembers of the account"
    );

    let call = std::fs::read_to_string(root.join("tmp/calls")).unwrap();
    assert!(
        call.contains("+@NoPromptForPassword 1 +login anna_7 +app_update 222860"),
        "{call}"
    );

    let mut talk = Conversation::start(
        &[RUNNER],
        &envs(&root, &[("LEFT4ME_STEAM_ACCOUNT", "anna hunter2")]),
    );

    talk.send_line(INSTALL);
    let received = talk.rest();
    assert!(
        received.exit() == 2 && received.complains("LEFT4ME_STEAM_ACCOUNT is not a login name"),
        "{received:?}"
    );

    assert!(
        !format!("{received:?}{}", talk.end().1).contains("hunter2"),
        "no message repeats it"
    );
}

/// Debian's package is a script that copies itself below the home of the user who runs it.
#[test]
fn the_client_library_is_linked_from_debians_steamcmd() {
    let root = Root::new();
    steamcmd(&root, ":", "laid", "whole");
    // A directory that another steamcmd left behind.
    root.write("steam/linux32/steamclient.so", "old");
    let games = "#!/bin/sh\nd=$HOME/.local/share/Steam/steamcmd/linux32\nmkdir -p $d && echo new > \
                $d/steamclient.so\n\
                 exec \"$HOME/steamcmd.sh\" \"$@\"\n";
    let steamcmd = root.script("games/steamcmd", games).display().to_string();
    let received = install_with(&root, &[("LEFT4ME_STEAMCMD", &steamcmd)]);
    assert_eq!(received.exit(), 0, "{received:?}");

    for place in ["steam/.steam/sdk32", "steam/linux32"] {
        let library = root.join(place).join("steamclient.so");
        assert_eq!(
            std::fs::read_to_string(&library).ok().as_deref(),
            Some("new\n"),
            "{}",
            library.display()
        );
    }

    // Back to Valve's steamcmd: its own directory replaces the link.
    std::fs::remove_file(root.join("steam/linux32")).unwrap();
    root.write("steam/linux32/steamclient.so", "valve");
    assert_eq!(install(&root).exit(), 0);

    for place in ["steam/.steam/sdk32", "steam/linux32"] {
        assert_eq!(
            std::fs::read_to_string(root.join(place).join("steamclient.so")).unwrap(),
            "valve"
        );
    }
}

fn read(root: &Root, path: &str) -> String {
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| error.to_string())
}

/// A check may let steamcmd replace its library while servers have the old one mapped.
#[test]
fn servers_use_a_copy_of_the_client_library_that_no_update_of_steamcmd_touches() {
    let root = Root::new();
    let brings = "mkdir -p linux32; echo one > linux32/steamclient.so";
    steamcmd(&root, brings, "laid", "whole");
    assert_eq!(install(&root).exit(), 0);
    assert_eq!(read(&root, "steam/client/steamclient.so"), "one\n");

    // As a server has it: opened before.
    let mut used = std::fs::File::open(root.join("steam/client/steamclient.so")).unwrap();
    steamcmd_that_answers(
        &root,
        "echo two, longer > linux32/steamclient.so; echo x > linux32/crashhandler.so; asked 42",
    );
    assert_eq!(check(&root).exit(), 0);
    assert_eq!(read(&root, "steam/client/steamclient.so"), "two, longer\n");
    assert_eq!(read(&root, "steam/client/crashhandler.so"), "x\n");
    let mut seen = String::new();
    used.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "one\n", "the old file is whole for whom has it open");

    // What a power cut can leave of an update of steamcmd.
    steamcmd_that_answers(
        &root,
        ": > linux32/steamclient.so; : > linux32/crashhandler.so; asked 42",
    );
    assert_eq!(check(&root).exit(), 0);
    assert_eq!(read(&root, "steam/client/steamclient.so"), "two, longer\n");
    assert_eq!(read(&root, "steam/client/crashhandler.so"), "x\n");
}

/// Right after the run that brought it, whatever became of the installation, and after an update of
/// Debian's package has moved it.
#[test]
fn the_links_to_the_client_library_follow_debians_steamcmd() {
    let places = ["steam/.steam/sdk32", "steam/linux32", "steam/client"];
    let root = Root::new();
    steamcmd(&root, ":", "laid", "fail 0x202");
    let games = |home: &str| {
        let script = format!(
            "#!/bin/sh\nd=$HOME/{home}/linux32\nmkdir -p $d && echo {home} > $d/steamclient.so\n\
             exec \"$HOME/steamcmd.sh\" \"$@\"\n"
        );
        root.script("games/steamcmd", &script).display().to_string()
    };
    let seen = || places.map(|place| read(&root, &format!("{place}/steamclient.so")));

    let program = games(".local/share/Steam/steamcmd");
    let debian = [("LEFT4ME_STEAMCMD", program.as_str())];
    assert_eq!(install_with(&root, &debian).exit(), 8, "the disk is full");
    assert_eq!(seen(), [".local/share/Steam/steamcmd\n"; 3]);

    games(".steam/steamcmd");
    assert_eq!(check_with(&root, &debian).exit(), 0);
    assert_eq!(seen(), [".steam/steamcmd\n"; 3], "the newest one counts");

    // Back again, and the links lead nowhere until then.
    std::fs::remove_dir_all(root.join("steam/.steam/steamcmd")).unwrap();
    games(".local/share/Steam/steamcmd");
    assert_eq!(check_with(&root, &debian).exit(), 0);
    assert_eq!(seen(), [".local/share/Steam/steamcmd\n"; 3]);
}

#[test]
fn a_missing_client_library_is_a_warning() {
    let root = Root::new();
    symlink("/nonexistent", root.join("steam/linux32")).unwrap();
    steamcmd(&root, ":", "laid", "whole");
    let received = install(&root);
    assert_eq!(received.exit(), 0, "{received:?}");
    assert!(
        received.complains("servers would be LAN only"),
        "{received:?}"
    );
}

#[test]
fn a_steamcmd_that_updated_itself_is_started_again() {
    let root = Root::new();
    steamcmd(&root, "if first once; then exit 42; fi", "laid", "whole");
    let start = Instant::now();
    let received = install_with(&root, &[("LEFT4ME_STEAM_RETRY_SECONDS", "3600")]);
    assert_eq!(received.exit(), 0, "{received:?}");
    assert_eq!(calls(&root), ["prime", "prime", "windows", "linux"]);
    assert!(start.elapsed() < Duration::from_secs(30));
}
