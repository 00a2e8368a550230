//! steamcmd as public reports have it, on a host with a server that people play on: each cause in
//! words, nothing that hangs, and no server over the wrong files.

use crate::lab::{Lab, s, wait_until};
use crate::site::STEAM;

const INSTALLATION: &str = "/var/lib/left4me/installation";

pub fn steamcmds_ways_are_survived_and_told(lab: &Lab) {
    for setting in [
        "RETRY_SECONDS=0",
        "RATE_LIMIT_SECONDS=0",
        "SILENCE_SECONDS=1",
    ] {
        lab.set(&format!("LEFT4ME_STEAM_{setting}"));
    }

    // What steamcmd leaves in its files is what servers get.
    lab.set("LEFT4ME_BUILDS=in-place");
    lab.describe(&["played"]);
    a_first_run_updates_itself(lab);
    each_cause_is_the_jobs_error(lab);
    lab.job(&["start", "--server", "played"]);
    an_update_that_fails_leaves_the_server_running(lab);
    what_hangs_is_ended_and_the_server_comes_back(lab);
    no_server_starts_over_windows_files(lab);
    debians_steamcmd_serves_as_well(lab);
    an_account_is_used_and_its_secrets_are_nowhere(lab);
    assert_eq!(lab.processes_of("left4me-steam"), "");
}

fn a_first_run_updates_itself(lab: &Lab) {
    lab.steamcmd("self_update=1 lines=1");
    let job = lab.job(&["install"]);
    let log = lab.log(job.id);
    let words = [
        "Downloading update",
        "Update complete, launching",
        "Assertion Failed",
        "fully installed",
    ];

    let at = words.map(|word| log.iter().position(|line| line.line.contains(word)));
    assert!(at.is_sorted() && at[0].is_some(), "{words:?} are at {at:?}");
}

fn each_cause_is_the_jobs_error(lab: &Lab) {
    for (behaviour, words, code, runs) in [
        (
            "fatal=offline",
            &["Steam cannot be reached", "network"][..],
            254,
            "5",
        ),
        (
            "fatal=space",
            &["the disk is full", "MiB free", "make room"],
            7,
            "1",
        ),
        (
            "fatal=libraries",
            &["32-bit library is missing", "left4me doctor"],
            127,
            "1",
        ),
        (
            "user_info=timeout",
            &["did not answer in time", "network"],
            1,
            "5",
        ),
        (
            "appinfo=timeout",
            &["did not answer in time", "network"],
            1,
            "5",
        ),
        ("login=limit", &["too many logins", "half an hour"], 5, "3"),
        (
            "login=password",
            &["not valid", "log in once by hand"],
            5,
            "1",
        ),
        (
            "login=guard",
            &["Steam Guard", "log in once by hand"],
            5,
            "1",
        ),
        (
            "refuse=No_subscription",
            &["no subscription", "LEFT4ME_STEAM_ACCOUNT"],
            8,
            "1",
        ),
    ] {
        lab.steamcmd(behaviour);
        let job = lab.failing_job(&["install"], words);
        assert_eq!(job.exit_code, Some(code), "{behaviour}: {}", job.error);
        assert!(
            words.iter().all(|word| job.error.contains(word)),
            "{behaviour}: {}",
            job.error
        );

        let counted = lab.ok(&["cat", &format!("{STEAM}/standin.failures")]);
        assert_eq!(counted, runs, "runs with {behaviour}");
    }
}

fn an_update_that_fails_leaves_the_server_running(lab: &Lab) {
    lab.steamcmd("user_info=timeout");
    lab.failing_job(&["update"], &["did not answer in time"]);
    lab.runs(1, "played");
    lab.steamcmd("fatal=offline times=2");
    assert_eq!(lab.job(&["update"]).error, "");
}

fn what_hangs_is_ended_and_the_server_comes_back(lab: &Lab) {
    for behaviour in ["hang=1 children=2 fork=setsid", "repeat=1"] {
        lab.steamcmd(behaviour);
        lab.failing_job(&["update"], &["steamcmd hung and was ended", "for 1 s"]);
        assert_eq!(lab.processes_of("left4me-steam"), "", "{behaviour}");
        lab.runs(1, "played");
    }

    lab.steamcmd("prompt=1 silent_work=3");
    assert_eq!(
        lab.job(&["update"]).state,
        "succeeded",
        "its input is at its end, and it works without a word"
    );
}

fn no_server_starts_over_windows_files(lab: &Lab) {
    lab.steamcmd("pass=linux refuse=Invalid_platform");
    let words = ["invalid platform"];
    let job = lab.failing_job(&["update"], &words);
    lab.logged(job.id, "stderr", &["no server starts with Windows files"]);
    assert!(lab.is(&format!(
        "test -e {INSTALLATION}/srcds.exe && test -e {INSTALLATION}/.left4me-unfinished"
    )));
    assert_eq!(
        lab.unit("left4me-server@1.service", "ActiveState"),
        "inactive"
    );

    let error = lab.server("played")["last_error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(error.contains("holds Windows files"), "{error}");
    let doctor = lab.run(&["left4me", "doctor"]).stdout;
    assert!(doctor.contains("holds Windows files"), "{doctor}");

    // A start past left4me is refused as well.
    let by_hand = lab.run(&["systemctl", "start", "left4me-server@1.service"]);
    assert_ne!(by_hand.code, 0);
    assert!(
        lab.console("left4me-overlay@1.service")
            .contains("holds Windows files")
    );

    lab.sh("systemctl reset-failed");

    lab.steamcmd("");
    assert_eq!(lab.job(&["install"]).state, "succeeded");
    assert!(lab.is(&format!("test ! -e {INSTALLATION}/.left4me-unfinished")));
    lab.job(&["start", "--server", "played"]);
    lab.runs(1, "played");
}

/// /usr/games/steamcmd copies itself below the home, and runs from there.
fn debians_steamcmd_serves_as_well(lab: &Lab) {
    const KEEPS: &str = ".local/share/Steam/steamcmd";
    lab.job(&["stop", "--server", "played"]);
    lab.sh(&format!(
        "install -D -m 755 {STEAM}/steamcmd.sh /usr/lib/games/steam/steamcmd.sh"
    ));
    lab.sh(&format!(
        "rm -r {STEAM}/linux32 {STEAM}/.steam {STEAM}/steamcmd.sh"
    ));
    let script = format!(
        "#!/bin/sh\nd=$HOME/{KEEPS}\nmkdir -p $d/linux32 && : >$d/linux32/steamclient.so\n\
         cp /usr/lib/games/steam/steamcmd.sh $d/ && exec $d/steamcmd.sh \"$@\"\n"
    );

    lab.write("/usr/games/steamcmd", &script);
    lab.sh("chmod 755 /usr/games/steamcmd");
    let doctor = lab.run(&["left4me", "doctor"]).stdout;
    assert!(
        doctor.contains("/usr/games/steamcmd"),
        "the advice names this way\n{doctor}"
    );

    lab.set("LEFT4ME_STEAMCMD=/usr/games/steamcmd");
    assert_eq!(lab.job(&["install"]).state, "succeeded");
    for place in ["linux32", ".steam/sdk32"] {
        let real = lab.ok(&["readlink", "-e", &format!("{STEAM}/{place}/steamclient.so")]);
        assert_eq!(real, format!("{STEAM}/{KEEPS}/linux32/steamclient.so"));
    }

    let doctor = lab.run(&["left4me", "doctor"]).stdout;
    assert!(!doctor.contains("LAN only"), "{doctor}");

    // The server that was there before finds it, in its sandbox.
    let begun = lab.ok(&["date", "+%s"]);
    lab.job(&["start", "--server", "played"]);
    wait_until("the server reaches Steam", s(10), || {
        let since = format!("@{begun}");
        let said = lab.ok(&[
            "journalctl",
            "-u",
            "left4me-server@1.service",
            "--since",
            &since,
            "-o",
            "cat",
            "--no-pager",
        ]);

        said.contains("Connection to Steam servers successful.")
    });
}

fn an_account_is_used_and_its_secrets_are_nowhere(lab: &Lab) {
    const PASSWORD: &str = "correct-horse-7";
    const TOKEN: &str = "eyAidHlwIjogIkpXVCIs";
    lab.write(
        &format!("{STEAM}/{}/standin.conf", ".local/share/Steam/steamcmd"),
        "refuse_anonymous=1\n",
    );

    lab.failing_job(&["update"], &["no subscription", "LEFT4ME_STEAM_ACCOUNT"]);
    lab.set("LEFT4ME_STEAM_ACCOUNT=anna_7");
    lab.failing_job(&["update"], &["cached credentials", "log in once by hand"]);

    // As the README says.
    let by_hand =
        format!("HOME={STEAM} script -qec '/usr/games/steamcmd +login anna_7 +quit' /dev/null");
    lab.run_with(
        "left4me-steam",
        &["sh", "-c", &by_hand],
        &format!("{PASSWORD}\n"),
    );

    let config = format!("{STEAM}/Steam/config/config.vdf");
    assert!(
        lab.is(&format!("grep -q {TOKEN} {config}")),
        "the login by hand left a token"
    );

    let job = lab.job(&["update"]);
    lab.logged(job.id, "stdout", &["Logging in user 'anna_7'", "OK"]);
    lab.runs(1, "played");

    let stranger = lab.run_as("nobody", &["cat", &config]);
    assert_ne!(stranger.code, 0, "the token is for its user alone");
    let pid = lab.main_pid(1);
    let seen = lab.ok(&["nsenter", "--target", &pid, "--mount", "ls", "-A", STEAM]);
    assert_eq!(
        seen, "client\nlinux32",
        "all that a server sees of steamcmd's home"
    );
    for secret in [PASSWORD, TOKEN] {
        lab.ok(&["journalctl", "--sync"]);
        let found = format!(
            "journalctl --no-pager -o export | grep -q -- '[{}]{}'",
            &secret[..1],
            &secret[1..]
        );

        assert!(!lab.is(&found), "{secret} is in the journal");
        assert!(
            !lab.is(&format!(
                "grep -rqs -- {secret} /var/lib/left4me/db /etc/left4me"
            )),
            "{secret} is written down"
        );
    }
}
