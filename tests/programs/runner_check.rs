//! The runner asks Steam which build of the game is published, and changes nothing.

use serde_json::json;

use crate::support::steamcmd::{
    CHECK, calls, check, check_with, envs, install, installed, steamcmd, steamcmd_that_answers,
};
use crate::support::{Conversation, RUNNER, Received, Root, alive, marker};

/// The line that becomes the job's error.
fn error_of(received: &Received) -> &str {
    received
        .errors
        .last()
        .or(received.stderr.last())
        .expect("an error, or a line on standard error")
}

#[test]
fn the_second_answer_counts_and_only_the_other_lines_are_passed_on() {
    let root = Root::new();
    installed(&root);
    let noise = "block 43 | while read -r line; do printf '\\033[1m%s\\033[0m\\n' \"$line\"; \
                 echo '[  0%] Downloading update'; done";
    // read takes the indentation away, and the name of the app stays at the margin.
    steamcmd_that_answers(&root, &format!("block 7; echo between; {noise}; exit 139"));

    let received = check(&root);
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    assert_eq!(
        received.builds,
        [json!({"published": 43, "published_at": 1_763_543_534_000_i64, "installed": 42})]
    );
    assert!(received.stdout.iter().any(|line| line == "between"));
    assert!(
        !received.stdout.iter().any(|line| line.contains("buildid")),
        "{received:?}"
    );

    let call = std::fs::read_to_string(root.join("tmp/calls")).unwrap();
    assert_eq!(
        call.trim_end(),
        "+login anonymous +app_info_update 1 +app_info_print 222860 +app_info_update 1 \
         +app_info_print 222860 +quit"
    );
}

#[test]
fn what_the_installation_lacks_is_said_beside_the_build() {
    let root = Root::new();
    steamcmd_that_answers(&root, "asked 43");
    assert_eq!(
        check(&root).builds,
        [json!({"published": 43, "published_at": 1_763_543_534_000_i64})],
        "nothing is installed"
    );

    installed(&root);
    std::fs::remove_file(root.join("installation/srcds_linux")).unwrap();
    let builds = &check(&root).builds[0];
    assert!(builds.get("installed").is_none(), "{builds}");
    assert!(
        builds["flaw"]
            .as_str()
            .unwrap()
            .contains("srcds_linux is missing"),
        "{builds}"
    );

    root.write("installation/.left4me-unfinished", "");
    let builds = &check(&root).builds[0];
    assert_eq!(builds["flaw"], "it holds Windows files");
}

#[test]
fn an_answer_that_does_not_come_is_asked_for_again() {
    for (info, runs) in [
        // A lone answer may be an old one, so another session is needed.
        ("block 43", 2),
        ("if first once; then block 7; else asked 43; fi", 2),
        (
            "if first once; then echo 'No app info for AppID 222860 found, requesting...'; \
             else asked 43; fi",
            2,
        ),
        (
            "if first once; then block 7; printf '\"222860\"\\n{\\n'; else asked 43; fi",
            2,
        ),
        ("if first one || first two; then exit 254; fi; asked 43", 3),
    ] {
        let root = Root::new();
        steamcmd_that_answers(&root, info);
        let received = check(&root);
        assert_eq!(received.exit(), 0, "{info}: {received:?}");
        assert_eq!(received.builds[0]["published"], 43, "{info}");
        assert_eq!(calls(&root).len(), runs, "{info}");
    }
}

/// Shell code, exit code, a part of the error, a part of the advice, the number of sessions.
const CAUSES: &[(&str, i64, &str, &str, usize)] = &[
    (
        "echo '[----] !!! Fatal Error: Steamcmd needs to be online to update.'; exit 254",
        254,
        "Steam cannot be reached",
        "network, DNS and firewall",
        3,
    ),
    (
        "echo 'Connecting anonymously to Steam Public...FAILED (Rate Limit Exceeded)'; exit 5",
        5,
        "too many logins",
        "half an hour",
        1,
    ),
    (
        "echo 'Waiting for user info...FAILED (Timed out)'; echo OK; asked 43",
        1,
        "did not answer in time",
        "network",
        3,
    ),
    (
        "block 7; echo 'ERROR! Timed out waiting for AppInfo update.'; exit 1",
        1,
        "did not answer in time",
        "network",
        3,
    ),
    (
        "echo 'Cached credentials not found.'; exit 5",
        5,
        "not valid",
        "log in once by hand",
        1,
    ),
    (
        "echo 'ERROR! Failed to request AppInfo (No subscription)'; exit 8",
        8,
        "no subscription",
        "LEFT4ME_STEAM_ACCOUNT",
        1,
    ),
    (
        "block 7; block 43 retired",
        1,
        "no build of the game's public branch",
        "update --validate",
        1,
    ),
    (":", 1, "did not say which build", "update --validate", 3),
    (
        "block 7; block 0",
        1,
        "no build of the game's public branch",
        "",
        1,
    ),
    ("kill -SEGV $$", 139, "killed or crashed", "", 3),
];

#[test]
fn each_cause_has_its_message_advice_and_number_of_attempts() {
    for (info, code, meaning, advice, runs) in CAUSES {
        let root = Root::new();
        installed(&root);
        steamcmd_that_answers(&root, info);

        let received = check(&root);
        assert_eq!(received.exit(), *code, "{info}: {received:?}");
        assert!(received.builds.is_empty(), "{info}: {received:?}");
        let error = error_of(&received);
        assert!(
            error.contains(meaning) && error.contains(advice),
            "{info}: {error}"
        );
        assert!(error.chars().count() < 500, "{error}");
        assert_eq!(calls(&root).len(), *runs, "{info}: {received:?}");
    }
}

#[test]
fn a_question_without_an_answer_ends_and_a_cancelled_one_leaves_nothing() {
    let (root, mark) = (Root::new(), marker());
    steamcmd_that_answers(&root, &format!("block 7; exec sleep {mark}"));
    let received = check_with(&root, &[("LEFT4ME_STEAM_SILENCE_SECONDS", "1")]);
    assert!(
        error_of(&received).contains("given up after 3 attempts: steamcmd hung"),
        "{received:?}"
    );
    assert!(alive(&mark).is_empty());

    let mut talk = Conversation::start(&[RUNNER], &envs(&root, &[]));
    talk.send_line(CHECK);
    talk.receive_until("the command", |answer| {
        answer["stdout"]
            .as_str()
            .is_some_and(|line| line.starts_with("AppID"))
    });
    talk.send_line(r#"{"cancel":"terminate"}"#);
    assert_eq!(talk.rest().ending(), (143, "terminate", "empty"));
    assert!(alive(&mark).is_empty());
}

#[test]
fn an_account_is_used_for_the_question_and_its_password_is_not() {
    let root = Root::new();
    steamcmd_that_answers(&root, "asked 43");
    let account = |name| check_with(&root, &[("LEFT4ME_STEAM_ACCOUNT", name)]);
    assert_eq!(account("anna_7").exit(), 0);
    let call = std::fs::read_to_string(root.join("tmp/calls")).unwrap();
    assert!(
        call.starts_with("+@NoPromptForPassword 1 +login anna_7 +app_info_update"),
        "{call}"
    );

    let refused = account("anna hunter2");
    assert_eq!(refused.exit(), 2);
    assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
}

/// What an update of version 0.1 leaves when its linux pass fails, and what one leaves that worked.
#[test]
fn windows_files_of_an_older_version_are_replaced_by_the_next_installation() {
    let root = Root::new();
    installed(&root);
    steamcmd(&root, ":", "laid", "whole; rm -f ../installation/srcds.exe");
    let manifest = root.join("installation/steamapps/appmanifest_222860.acf");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("222863", "222862")).unwrap();
    std::fs::remove_file(root.join("installation/srcds_linux")).unwrap();
    root.write("installation/srcds.exe", "MZ");

    let received = install(&root);
    assert_eq!(received.exit(), 0, "{received:?}");
    assert!(
        received.complains("lists no files of a Linux server, as a windows pass leaves it"),
        "{received:?}"
    );
    assert_eq!(calls(&root), ["prime", "windows", "linux"]);

    // Windows files beside a Linux server are in nobody's way.
    std::fs::remove_file(root.join("tmp/calls")).unwrap();
    root.write("installation/srcds.exe", "MZ");
    assert_eq!(install(&root).exit(), 0);
    assert_eq!(calls(&root), ["linux"]);
}
