//! The options of updates and rollbacks: what is refused, what counts as the same job, what a retry
//! keeps, and how jobs show them.

use left4me::base::names::JobId;
use serde_json::{Value, json};

use crate::support::builds::kept;
use crate::support::host::TestHost;

/// Builds 5, 6 (current) and 7 are kept.
fn host() -> TestHost {
    let host = TestHost::with_servers(2);
    kept(&host, &[5, 6, 7], 6);
    host
}

fn update(host: &TestHost, args: &[&str]) -> Value {
    let id = host.enqueue(args);
    host.show(id)["update"].clone()
}

#[test]
fn what_was_asked_is_stored_and_shown() {
    let host = host();
    let plain = json!({"validate": false, "in_place": false, "rolling": null, "no_restart": false,
        "max_failures": 1, "build": null});
    assert_eq!(update(&host, &["update"]), plain);
    assert_eq!(update(&host, &["update", "--now"]), plain);
    let rolling = update(&host, &["update", "--rolling", "4", "--max-failures", "2"]);
    assert_eq!(
        (&rolling["rolling"], &rolling["max_failures"]),
        (&json!(4), &json!(2))
    );
    let back = update(&host, &["rollback", "--build", "7", "--no-restart"]);
    assert_eq!(
        (&back["build"], &back["no_restart"]),
        (&json!(7), &json!(true))
    );
    assert_eq!(update(&host, &["restart", "--all"]), json!(null));

    let (_, list, _) = host.job(&["list"]);
    for words in [
        "update (rolling 4, max-failures 2)",
        "rollback (build 7, no-restart)",
    ] {
        assert!(list.contains(words), "{words}\n{list}");
    }
    let (_, shown, _) = host.job(&["show", "3"]);
    assert!(
        shown.contains("options      rolling 4, max-failures 2"),
        "{shown}"
    );

    // A restart that an update has left to wait.
    host.db()
        .connection()
        .execute_batch("UPDATE jobs SET roll_of = 3 WHERE operation = 'restart'")
        .unwrap();
    let (_, list, _) = host.job(&["list"]);
    assert!(list.contains("restart (for job 3)"), "{list}");
    assert_eq!(host.job_json(&["show", "5"]).1["roll_of"], 3);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_queued() {
    let host = host();
    for (args, code, words) in [
        (
            &["update", "--now", "--when-empty"][..],
            2,
            "cannot be used with",
        ),
        (
            &["update", "--now", "--rolling", "2"],
            2,
            "cannot be used with",
        ),
        (
            &["update", "--no-restart", "--now"],
            2,
            "cannot be used with",
        ),
        (
            &["update", "--no-restart", "--when-empty"],
            2,
            "cannot be used with",
        ),
        (
            &["update", "--no-restart", "--rolling", "2"],
            2,
            "cannot be used with",
        ),
        (
            &["update", "--no-restart", "--max-failures", "2"],
            2,
            "cannot be used with",
        ),
        (
            &["update", "--rolling", "2", "--when-empty"],
            2,
            "leave out either rolling",
        ),
        (&["update", "--max-failures", "0"], 2, "--max-failures"),
        (&["update", "--build", "5"], 2, "only rollback does"),
        (&["rollback", "--build", "0"], 2, "--build"),
        (&["rollback", "--validate"], 2, "only update does"),
        (&["rollback", "--server", "1"], 2, "it takes no --server"),
        (
            &["restart", "--all", "--now"],
            2,
            "--now does not apply to restart",
        ),
        (
            &["restart", "--all", "--no-restart"],
            2,
            "only update and rollback do",
        ),
        (
            &["install", "--max-failures", "2"],
            2,
            "only update and rollback do",
        ),
        (&["rollback", "--build", "4"], 3, "build 4 is not kept"),
        (&["rollback", "--build", "6"], 4, "the current one"),
    ] {
        let (found, _, said) = host.job(&[&["enqueue"], args].concat());
        assert_eq!(found, code, "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }

    let nothing = TestHost::new();
    let (code, _, said) = nothing.job(&["enqueue", "rollback"]);
    assert!(
        code == 4 && said.contains("no earlier build"),
        "{code} {said}"
    );
    assert_eq!(host.job_json(&["list"]).1, json!([]));
}

#[test]
fn in_place_is_a_setting_that_leaves_no_choice() {
    let host = host();
    let job = |args: &[&str]| {
        let mut command = host.command(crate::support::JOB, &[&["enqueue"], args].concat());
        let done = command.env("LEFT4ME_BUILDS", "in-place").output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        (done.status.code().unwrap(), said)
    };
    assert_eq!(job(&["update", "--when-empty"]).0, 0);
    assert_eq!(job(&["install"]).0, 0);
    assert_eq!(host.job_json(&["show", "1"]).1["update"]["in_place"], true);
    for (args, words) in [
        (&["update", "--rolling", "2"][..], "leave out rolling"),
        (&["update", "--no-restart"], "no-restart is not possible"),
        (&["rollback"], "no earlier build"),
    ] {
        let (code, said) = job(args);
        assert!(code == 2 && said.contains(words), "{args:?}: {code} {said}");
    }
}

#[test]
fn what_a_host_in_place_could_never_run_is_refused_when_it_is_scheduled() {
    let host = host();
    let schedule = |mode: &str, policy: &[&str]| {
        let add = ["schedule", "add", "update", "--on", "*-*-* 04:30"];
        let mut command = host.command(crate::support::LEFT4ME, &[&add, policy].concat());
        let done = command.env("LEFT4ME_BUILDS", mode).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        (done.status.code().unwrap(), said)
    };
    for (policy, words) in [
        (&["--rolling", "2"][..], "leave out rolling"),
        (&["--no-restart"], "no-restart is not possible"),
    ] {
        let (code, said) = schedule("in-place", policy);
        assert!(code == 2 && said.contains(words), "{code} {said}");
        assert_eq!(schedule("beside", policy).0, 0);
    }
    assert_eq!(schedule("in-place", &["--when-empty"]).0, 0);
}

#[test]
fn a_retry_is_made_as_the_host_makes_updates_now() {
    let host = host();
    let retry = |mode: &str, id: &str| {
        let mut command = host.command(crate::support::JOB, &["retry", id]);
        let done = command.env("LEFT4ME_BUILDS", mode).output().unwrap();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        (done.status.code().unwrap(), said)
    };
    let in_place =
        |id: JobId| host.job_json(&["show", &id.to_string()]).1["update"]["in_place"].clone();

    let plain = host.enqueue(&["update"]);
    let rolling = host.enqueue(&["update", "--rolling", "2"]);
    for id in [plain, rolling] {
        assert_eq!(host.job(&["cancel", &id.to_string()]).0, 0);
    }

    assert_eq!(retry("in-place", &plain.to_string()).0, 0);
    assert_eq!(in_place(JobId(rolling.0 + 1)), true);
    let (code, said) = retry("in-place", &rolling.to_string());
    assert!(
        code == 2 && said.contains("leave out rolling"),
        "{code} {said}"
    );

    assert_eq!(
        host.job(&["cancel", &JobId(rolling.0 + 1).to_string()]).0,
        0
    );
    assert_eq!(retry("beside", &JobId(rolling.0 + 1).to_string()).0, 0);
    assert_ne!(in_place(JobId(rolling.0 + 2)), true);
}

#[test]
fn only_the_same_options_are_the_same_job_and_a_retry_keeps_them() {
    let host = host();
    let id = |args: &[&str]| host.enqueue(args).0;
    let rolling = id(&["update", "--unique", "--rolling", "4"]);
    assert_eq!(id(&["update", "--unique", "--rolling", "4"]), rolling);
    for other in [
        &["update", "--unique"][..],
        &["update", "--unique", "--rolling", "5"],
        &["update", "--unique", "--no-restart"],
        &["update", "--unique", "--when-empty"],
        &["rollback", "--unique"],
        &["rollback", "--unique", "--build", "7"],
    ] {
        assert_ne!(id(other), rolling, "{other:?}");
        assert_eq!(id(other), id(other), "{other:?}");
    }

    let back = id(&["rollback", "--build", "7", "--max-failures", "3"]);
    assert_eq!(host.job(&["cancel", &back.to_string(), "--no-wait"]).0, 0);
    let (code, again, said) = host.job(&["retry", &back.to_string()]);
    assert_eq!(code, 0, "{said}");
    let again = host.show(again.trim().parse().unwrap());
    assert_eq!(
        again["update"],
        host.job_json(&["show", &back.to_string()]).1["update"]
    );
    assert_eq!(again["update"]["build"], 7);
}

#[test]
fn cancelling_leaves_servers_stopped_only_where_that_has_a_meaning() {
    let host = host();
    let update = host.enqueue(&["update", "--rolling", "1"]).to_string();
    let (code, result) = host.job_json(&["cancel", &update, "--leave-stopped", "--no-wait"]);
    assert_eq!(
        (code, &result["leave_stopped"]),
        (0, &json!(true)),
        "{result}"
    );
    let (_, status, _) = host.job(&["cancel-status", &update]);
    assert!(status.contains("servers stay stopped"), "{status}");

    let restart = host.enqueue(&["restart", "--all"]).to_string();
    for (args, words) in [
        (&["--leave-stopped"][..], "only an update or rollback"),
        (&["--leave-stopped", "--task", "1"], "cannot be used with"),
    ] {
        let (code, _, said) = host.job(&[&["cancel", restart.as_str()], args].concat());
        assert!(code == 2 && said.contains(words), "{args:?}: {code} {said}");
    }
}
