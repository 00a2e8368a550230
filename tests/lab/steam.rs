//! steamcmd at its worst: whatever it does, the job says so in words, and the next one works.

use crate::lab::Lab;
use crate::site::STEAM;

/// Each state word with the part of the words that an operator looks for, and whether trying again
/// may help.
const STATES: &[(&str, &str, bool)] = &[
    ("0x202", "disk is full", false),
    ("0x212", "disk is full", false),
    ("0x402", "not complete", true),
    ("0x602", "not complete", true),
    ("0x606", "written", true),
    ("0x626", "missing", true),
    ("0x6A6", "corrupt", true),
];

pub fn every_way_steamcmd_fails_is_told_and_the_queue_goes_on(lab: &Lab) {
    lab.set("LEFT4ME_STEAM_RETRY_SECONDS=0");
    lab.describe(&[]);
    failing_states_are_named_and_tried_again_where_that_helps(lab);
    a_passing_failure_is_survived(lab);
    what_is_no_success_is_not_taken_for_one(lab);
    noise_is_kept_within_bounds(lab);
    a_missing_steamcmd_is_named(lab);
}

fn failing_states_are_named_and_tried_again_where_that_helps(lab: &Lab) {
    for (state, words, again) in STATES {
        lab.steamcmd(&format!("state={state}"));
        let job = lab.failing_job(&["install"], &["install", state]);
        assert_eq!(
            job.exit_code,
            Some(8),
            "steamcmd's own exit code for {state}"
        );

        lab.logged(job.id, "stderr", &[words, state]);
        let runs = lab.ok(&["cat", &format!("{STEAM}/standin.failures")]);
        assert_eq!(
            runs,
            if *again { "5" } else { "1" },
            "failed runs in state {state}"
        );
    }
}

fn a_passing_failure_is_survived(lab: &Lab) {
    for behaviour in [
        "state=0x602 state_times=2",
        "state=0x6A6 state_times=1",
        "missing_configuration=1",
        "invalid_platform=1",
        "up_to_date=1",
        "self_update=1",
        // Success, and then another end: the manifest decides.
        "exit=1",
        "exit=42",
        "crash=1",
    ] {
        lab.steamcmd(behaviour);
        let job = lab.job(&["install"]);
        assert_eq!(
            (job.state.as_str(), job.error.as_str()),
            ("succeeded", ""),
            "{behaviour}"
        );
    }
}

fn what_is_no_success_is_not_taken_for_one(lab: &Lab) {
    for (behaviour, words, code) in [
        ("user_info=timeout", "did not answer in time", 1),
        ("old_manifest=1", "older than this run", 1),
        ("login_fail=1", "login", 5),
        ("depots=windows", "depot 222863", 1),
        ("missing=bin/engine_srv.so", "engine_srv.so", 1),
        ("acf=partial", "BytesDownloaded", 1),
    ] {
        lab.steamcmd(behaviour);
        let job = lab.failing_job(&["install"], &["install", words]);
        assert_eq!(job.exit_code, Some(code), "{behaviour}: {}", job.error);
    }
}

fn noise_is_kept_within_bounds(lab: &Lab) {
    lab.steamcmd("longline=1000000 badutf8=1 cr_progress=5000 lines=5000");
    let job = lab.job(&["install"]);
    let log = lab.log(job.id);
    let longest = log
        .iter()
        .map(|line| line.line.chars().count())
        .max()
        .unwrap_or(0);
    assert!(
        (4000..4200).contains(&longest),
        "a long line is cut at 4096 characters: {longest}"
    );

    assert!(
        log.iter().any(|line| line.line.starts_with("bad \u{fffd}")),
        "bytes that are no UTF-8 are replaced"
    );

    let verifying = log
        .iter()
        .filter(|line| line.line.contains("verifying update"))
        .count();
    assert!(
        (1..1000).contains(&verifying),
        "of 10000 progress updates {verifying} became lines"
    );

    let counted = log
        .iter()
        .filter(|line| line.line.starts_with("line "))
        .count();
    assert_eq!(counted, 5000, "lines of the one pass of an update");
}

fn a_missing_steamcmd_is_named(lab: &Lab) {
    let path = format!("{STEAM}/steamcmd.sh");
    lab.ok(&["mv", &path, "/root/"]);
    let job = lab.failing_job(&["install"], &[&path, "LEFT4ME_STEAMCMD"]);
    lab.logged(job.id, "stderr", &[&path]);
    lab.ok(&["mv", "/root/steamcmd.sh", &path]);
    lab.steamcmd("");
    assert_eq!(lab.job(&["install"]).state, "succeeded");
}
