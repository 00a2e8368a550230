//! What admins reported of servers: a crash shortly after the start, a slow crash loop, a start
//! whose overlay cannot be mounted, an update that was cancelled. Each is told with its cause,
//! where the admin looks.

use std::time::Instant;

use crate::lab::{Lab, Suite, s, wait_until};
use crate::rows::{drift, game, says, unit};

pub fn what_servers_do_to_an_admin_is_told_with_its_cause(lab: &Lab) {
    lab.describe(&["one", "two"]);
    lab.job(&["install"]);
    restarts_come_further_apart_where_systemd_can(lab);
    a_start_that_waits_for_its_server_to_stay_up_takes_no_slot(lab);
    a_start_fails_when_the_server_ends_within_moments(lab);
    a_start_names_why_its_overlay_cannot_be_mounted(lab);
    a_server_that_crashes_every_few_seconds_keeps_crashing(lab);
    a_cancelled_update_says_which_servers_it_left_down(lab);
}

fn restarts_come_further_apart_where_systemd_can(lab: &Lab) {
    let steps = match lab.suite() {
        Suite::Bookworm => "",
        Suite::Trixie => "20",
    };

    assert_eq!(lab.unit(&unit(1), "RestartSteps"), steps);
    assert_eq!(
        lab.sh("journalctl --boot --grep 'Unknown key' --output cat || true"),
        ""
    );
}

/// One slot, two starts of three seconds each: they wait side by side, and both still wait.
fn a_start_that_waits_for_its_server_to_stay_up_takes_no_slot(lab: &Lab) {
    lab.set("LEFT4ME_WORKER_SLOTS=1");
    let jobs = [1, 2].map(|id| lab.enqueue(&["start", "--server", &id.to_string()]));
    let [first, second] = jobs.map(|job| {
        assert_eq!(lab.ended(job, 30).state, "succeeded");
        let job = lab.json(&["left4me-job", "show", &job.to_string(), "--json"]);
        let start = job["tasks"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|task| task["kind"] == "start")
            .cloned();
        let start = start.unwrap_or_else(|| panic!("no start in {job:#}"));
        (
            start["started_at"].as_i64().expect("a beginning"),
            start["finished_at"].as_i64().expect("an end"),
        )
    });

    assert!(
        second.0 < first.1,
        "the second start began at {second:?}, during the first one, {first:?}"
    );

    for (began, ended) in [first, second] {
        assert!(
            ended - began >= 2_500,
            "a start took only {} ms",
            ended - began
        );
    }

    lab.set("LEFT4ME_WORKER_SLOTS=4");
    lab.job(&["stop", "--all"]);
}

fn a_start_fails_when_the_server_ends_within_moments(lab: &Lab) {
    let begun = Instant::now();
    lab.job(&["start", "--server", "1"]);
    assert!(
        begun.elapsed() < s(8),
        "a healthy start took {:?}",
        begun.elapsed()
    );

    lab.sh(&format!("echo 2000 > {}/standin.crash-after", game(1)));
    lab.job(&["stop", "--server", "1"]);

    let output = lab
        .enqueue_and_wait(&["start", "--server", "1"])
        .ends_with(1);
    output.complains_of(&[
        "server 1",
        "ended within moments",
        "signal 11",
        "corrupted state",
    ]);

    let row = lab.row(1);
    assert!(
        says(&row["last_error"], "signal 11") && says(&row["last_error"], "corrupted state"),
        "{row:#}"
    );

    lab.job(&["stop", "--server", "1"]);
    lab.sh("rm /var/lib/left4me/runtime/1/upper/left4dead2/standin.crash-after");
    lab.job(&["start", "--server", "1"]);
    assert!(lab.row(1)["last_error"].is_null());
}

fn a_start_names_why_its_overlay_cannot_be_mounted(lab: &Lab) {
    lab.job(&["start", "--server", "2"]);
    lab.job(&["stop", "--server", "2"]);
    let merged = "/var/lib/left4me/runtime/2/merged";
    lab.ok(&["mount", "-t", "tmpfs", "tmpfs", merged]);
    let output = lab
        .enqueue_and_wait(&["start", "--server", "2"])
        .ends_with(1);
    output.complains_of(&[
        "left4me-overlay@2.service: ",
        "has a tmpfs mounted on it",
        "unmount it first",
    ]);

    let row = lab.row(2);
    assert!(
        says(&row["last_error"], "has a tmpfs mounted on it"),
        "{row:#}"
    );

    assert!(!says(&row["last_error"], "journalctl"), "{row:#}");
    lab.ok(&["umount", merged]);
    lab.job(&["start", "--server", "2"]);
}

fn a_server_that_crashes_every_few_seconds_keeps_crashing(lab: &Lab) {
    for _ in 0..3 {
        wait_until("the game runs", s(20), || {
            lab.is(&format!("test -e {}/standin.started", game(1)))
        });
        lab.sh(&format!(
            "cd {}; rm -f standin.started; touch standin.crash",
            game(1)
        ));

        wait_until("it has crashed", s(10), || {
            lab.unit(&unit(1), "ActiveState") != "active"
        });
        wait_until("systemd has restarted it", s(20), || {
            lab.unit(&unit(1), "ActiveState") == "active"
        });
    }

    let row = lab.soon(1, "that it keeps crashing", |row| drift(row) == "crashing");
    assert!(
        says(
            &row["drift"]["why"],
            "crashed 3 times in 10 min, last by signal 11"
        ),
        "{row:#}"
    );

    let shown = lab.ok(&["left4me", "server", "show", "1"]);
    assert!(shown.contains("keeps crashing"), "{shown}");
    let request = r"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n";
    let metrics = lab.sh(&format!(
        "exec 3<>/dev/tcp/127.0.0.1/8000; printf '{request}' >&3; cat <&3"
    ));
    assert!(
        metrics.contains(r#"left4me_server_drift{server="1",name="one",kind="crashing"} 1"#),
        "{metrics}"
    );

    lab.job(&["restart", "--server", "1"]);
    lab.soon(1, "no drift", |row| row["drift"].is_null());
}

fn a_cancelled_update_says_which_servers_it_left_down(lab: &Lab) {
    lab.set("LEFT4ME_BUILDS=in-place");
    lab.steamcmd("hang=1");
    let job = lab.enqueue(&["update"]);
    wait_until("both servers are stopped", s(30), || {
        [1, 2]
            .iter()
            .all(|&id| lab.unit(&unit(id), "ActiveState") == "inactive")
    });

    wait_until("steamcmd runs", s(30), || {
        lab.processes_of("left4me-steam").contains("steamcmd")
    });
    let told = lab.ok(&[
        "left4me-job",
        "cancel",
        &job.to_string(),
        "--reason",
        "players wait",
        "--force",
        "--leave-stopped",
    ]);

    let advice = "left4me-job enqueue start --server 1 --server 2";
    assert!(
        told.contains("left server 1, 2 stopped") && told.contains(advice),
        "{told}"
    );

    let shown = lab.ok(&["left4me-job", "show", &job.to_string()]);
    assert!(
        shown.contains("server 2 left stopped") && shown.contains(advice),
        "{shown}"
    );

    let json = lab.json(&["left4me-job", "show", &job.to_string(), "--json"]);
    let outcomes: Vec<&str> = json["server_outcomes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["outcome"].as_str())
        .collect();
    assert_eq!(outcomes, ["left-stopped", "left-stopped"], "{json:#}");
    for id in [1, 2] {
        let row = lab.soon(id, "that it is down", |row| drift(row) == "down");
        assert!(
            says(
                &row["last_error"],
                "ended before it started this server again"
            ),
            "{row:#}"
        );
    }

    lab.steamcmd("");
    lab.job(&["start", "--server", "1", "--server", "2"]);
    lab.soon(2, "no drift", |row| {
        row["drift"].is_null() && row["last_error"].is_null()
    });
}
