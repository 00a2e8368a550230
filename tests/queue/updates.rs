//! Checks for a new build, and updates that ask first, with the real worker and runner.

use left4me::base::names::JobId;
use left4me::db::{builds, events};
use left4me::domain::job::JobState;
use serde_json::Value;

use crate::support::SocketUnit;
use crate::support::host::TestHost;
use crate::support::steamcmd::answers;

/// A host with build 42 installed and two servers that should be running: S1 runs, S2 is down. Steam
/// answers by this shell code. No helper is there, so a task of a server fails.
fn host(info: &str) -> (TestHost, [SocketUnit; 2]) {
    prepared(TestHost::with_servers(2), info)
}

/// The same, with updates in place.
fn in_place(info: &str) -> (TestHost, [SocketUnit; 2]) {
    let mut host = TestHost::with_servers(2);
    host.in_place = true;
    prepared(host, info)
}

fn prepared(host: TestHost, info: &str) -> (TestHost, [SocketUnit; 2]) {
    for directory in ["builds", "installation", "instances"] {
        std::fs::create_dir_all(host.root.join(directory)).unwrap();
    }
    let publisher = host.publisher();
    let runner = host.runner(&answers("exit 1"));
    let id = host.enqueue(&["install"]);
    host.drain();
    assert_eq!(host.state(id), JobState::Succeeded, "{:?}", host.lines(id));
    drop(runner);

    let runner = host.runner(&answers(info));
    host.db()
        .connection()
        .execute_batch(
            "UPDATE servers SET desired_state = 'running';
             UPDATE servers SET actual_state = 'running' WHERE id = 1;
             UPDATE servers SET actual_state = 'stopped' WHERE id = 2;",
        )
        .unwrap();
    (host, [runner, publisher])
}

fn run(host: &TestHost, args: &[&str]) -> Value {
    let id = host.enqueue(args);
    host.drain();
    host.show(id)
}

/// `stop 1 skipped`
fn tasks(job: &Value) -> Vec<String> {
    let tasks = job["tasks"].as_array().unwrap().iter();
    tasks
        .map(|task| {
            let server = task["server"]
                .as_i64()
                .map_or("-".to_owned(), |id| id.to_string());
            let word = |key: &str| task[key].as_str().unwrap().to_owned();
            format!("{} {server} {}", word("kind"), word("state"))
        })
        .collect()
}

fn announced(host: &TestHost) -> Vec<String> {
    let events = events::last(host.db().connection(), None, 500).unwrap();
    let mut found: Vec<String> = events
        .into_iter()
        .filter(|event| event.kind == "update.available")
        .map(|event| event.detail)
        .collect();
    found.sort();
    found
}

/// How often steamcmd was called for this.
fn calls(host: &TestHost, word: &str) -> usize {
    let calls = std::fs::read_to_string(host.root.join("tmp/calls")).unwrap();
    calls.lines().filter(|line| line.contains(word)).count()
}

#[test]
fn a_check_says_what_is_new_and_tells_it_once() {
    let (host, _units) = host("asked 43");
    for _ in 0..2 {
        let job = run(&host, &["check"]);
        assert_eq!(job["state"], "succeeded", "{job}");
        assert_eq!(tasks(&job), ["check-build - succeeded"]);
        let result = job["result"].as_str().unwrap();
        assert!(
            result.starts_with("build 43 is available (installed: 42), published 2025-11-19"),
            "{result}"
        );
    }

    assert_eq!(announced(&host).len(), 1, "{:?}", announced(&host));
    let known = builds::available(host.db().connection()).unwrap().unwrap();
    assert_eq!(
        (known.build, known.published_at),
        (43, Some(1_763_543_534_000))
    );
    assert!(known.known_since < known.checked_at, "{known:?}");

    let shown = host.job(&["show", "2"]).1;
    assert!(
        shown.contains("result       build 43 is available"),
        "{shown}"
    );

    let (_, refused, words) = host.job(&["enqueue", "check", "--all"]);
    assert!(
        refused.is_empty() && words.contains("takes no --server"),
        "{words}"
    );
}

/// Its number is lower than that of the installed one, which no check has seen.
#[test]
fn a_build_that_was_taken_back_is_news() {
    let (host, _units) = host("asked 41");
    let known = builds::available(host.db().connection()).unwrap().unwrap();
    assert_eq!(known.build, 42, "the installation says what it took");

    let job = run(&host, &["check"]);
    let result = job["result"].as_str().unwrap();
    assert!(
        result.starts_with("build 41 is available (installed: 42)"),
        "{result}"
    );
    assert_eq!(announced(&host).len(), 1, "{:?}", announced(&host));
}

#[test]
fn an_update_in_place_without_a_new_build_stops_nothing_and_says_so() {
    let (host, _units) = in_place("asked 42");
    host.db()
        .connection()
        .execute_batch("UPDATE servers SET actual_state = 'running'")
        .unwrap();
    let job = run(&host, &["update"]);

    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(job["result"], "build 42 is current: nothing to do");
    assert_eq!(
        tasks(&job),
        [
            "check-build - succeeded",
            "stop 1 skipped",
            "stop 2 skipped",
            "install-runtime - skipped",
            "initialize 1 skipped",
            "start-if-ran 1 skipped",
            "initialize 2 skipped",
            "start-if-ran 2 skipped",
        ]
    );
    assert_eq!(
        job["tasks"][1]["error"],
        "build 42 is current: nothing to do"
    );
    assert_eq!(
        calls(&host, "app_update"),
        2,
        "only those of the installation"
    );
    assert!(announced(&host).is_empty());
}

/// As an interrupted update leaves it; its retry has to bring the server back.
#[test]
fn an_update_in_place_that_ends_with_its_check_starts_what_is_down_and_nothing_else() {
    for (info, state) in [("asked 42", "succeeded"), ("exit 254", "failed")] {
        let (host, _units) = in_place(info);
        let job = run(&host, &["update"]);
        assert_eq!(
            tasks(&job),
            [
                &format!("check-build - {state}"),
                "stop 1 skipped",
                "stop 2 skipped",
                "install-runtime - skipped",
                "initialize 1 skipped",
                "start-if-ran 1 skipped",
                "initialize 2 succeeded",
                "start-if-ran 2 failed",
            ]
        );
        let error = job["tasks"][7]["error"].as_str().unwrap();
        assert!(error.contains("helper.sock"), "it was tried: {error}");
    }
}

#[test]
fn an_update_in_place_that_cannot_ask_says_why_and_stops_nothing() {
    let offline = "echo '[----] !!! Fatal Error: Steamcmd needs to be online to update.'; exit 254";
    let (host, _units) = in_place(offline);
    let job = run(&host, &["update"]);
    assert_eq!(
        (&job["state"], &job["exit_code"]),
        (&"failed".into(), &254.into())
    );
    let error = job["error"].as_str().unwrap();
    assert!(
        error.contains("Steam cannot be reached") && error.contains("network, DNS and firewall"),
        "{error}"
    );
    assert_eq!(job["tasks"][1]["state"], "skipped");
    let why = job["tasks"][1]["error"].as_str().unwrap();
    assert!(why.contains("no server was stopped"), "{why}");
    let known = builds::available(host.db().connection()).unwrap().unwrap();
    assert_eq!(known.build, 42, "that of the installation");

    // install goes on without the question.
    let job = run(&host, &["install"]);
    assert_eq!(job["state"], "succeeded", "{job}");
}

#[test]
fn in_place_a_new_build_or_a_damaged_installation_is_installed_and_validate_asks_nothing() {
    let (host, units) = in_place("asked 43");
    host.db()
        .connection()
        .execute_batch("UPDATE servers SET desired_state = 'stopped', actual_state = 'stopped'")
        .unwrap();
    let job = run(&host, &["update"]);
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(
        tasks(&job),
        ["check-build - succeeded", "install-runtime - succeeded"]
    );
    assert_eq!(job["result"], Value::Null);
    assert_eq!(announced(&host).len(), 1);

    drop(units);
    let _runner = host.runner(&answers("asked 42"));
    std::fs::remove_file(host.root.join("installation/srcds_linux")).unwrap();
    let job = run(&host, &["update"]);
    assert_eq!(
        tasks(&job),
        ["check-build - succeeded", "install-runtime - succeeded"]
    );

    let job = run(&host, &["update", "--validate"]);
    assert_eq!(tasks(&job), ["install-runtime - succeeded"]);
    let again = host.job(&["retry", &job["id"].to_string()]).1;
    host.drain();
    let again = host.show(again.trim().parse().unwrap());
    assert_eq!(
        tasks(&again),
        ["install-runtime - succeeded"],
        "its retry too"
    );
    assert_eq!(calls(&host, "app_info_print"), 2);
}

#[test]
fn an_update_that_validates_is_no_ordinary_one() {
    let host = TestHost::new();
    let id = |args: &[&str]| host.enqueue(args).0;
    let ordinary = id(&["update", "--unique"]);
    let validating = id(&["update", "--validate", "--unique"]);
    assert_ne!(ordinary, validating);
    assert_eq!(id(&["update", "--validate", "--unique"]), validating);
    assert_eq!(id(&["update", "--unique"]), ordinary);

    let (code, _, words) = host.job(&["enqueue", "install", "--validate"]);
    assert!(
        code == 2 && words.contains("only update does"),
        "{code} {words}"
    );
}

/// It would leave the files damaged.
#[test]
fn an_update_that_had_nothing_to_do_replaces_no_waiting_repair() {
    let (host, _units) = in_place("asked 42");
    host.db()
        .connection()
        .execute_batch("UPDATE servers SET actual_state = 'running'")
        .unwrap();
    let repair = host.enqueue(&["update", "--validate", "--when-empty"]);
    let asks = host.enqueue(&["update", "--when-empty"]);
    let job = run(&host, &["update"]);
    assert_eq!(job["state"], "succeeded", "{job}");
    host.drain();
    assert_eq!(host.state(repair), JobState::Queued, "nobody has made it");
    assert_eq!(
        host.state(asks),
        JobState::Cancelled,
        "nothing is left of it"
    );
}

#[test]
fn an_update_beside_running_servers_publishes_a_new_build_and_only_that() {
    let (host, units) = host("asked 42");
    let job = run(&host, &["update"]);
    assert_eq!(job["result"], "build 42 is current: nothing to do", "{job}");
    assert_eq!(
        tasks(&job),
        ["check-build - succeeded", "remove-builds - succeeded"]
    );

    drop(units);
    // A download brings that build, too.
    let script = answers("asked 43").replace("42", "43");
    let _units = [host.runner(&script), host.publisher()];
    let job = run(&host, &["update"]);
    assert_eq!(job["result"], "build 43 is the current build", "{job}");
    assert_eq!(
        tasks(&job),
        [
            "check-build - succeeded",
            "install-runtime - succeeded",
            "publish-build - succeeded",
            "remove-builds - succeeded"
        ]
    );
    let current = std::fs::read_link(host.root.join("builds/current")).unwrap();
    assert_eq!(current.to_str(), Some("43"));
    assert!(host.root.join("builds/42/srcds_linux").is_file());

    // What is kept is enough to go back: steamcmd is not asked.
    let asked = calls(&host, "app_info_print");
    let job = run(&host, &["rollback"]);
    assert_eq!(job["result"], "build 42 is the current build", "{job}");
    let job = run(&host, &["update"]);
    let said = job["result"].as_str().unwrap();
    assert!(
        said.starts_with("build 43 was rejected: nothing to do"),
        "{said}"
    );
    assert_eq!(calls(&host, "app_info_print"), asked + 1);

    let job = run(&host, &["rollback"]);
    assert_eq!(job["state"], "failed");
    let error = job["error"].as_str().unwrap();
    assert!(
        error.contains("no build older than 42 is kept (kept: 43, 42"),
        "{error}"
    );
}

#[test]
fn an_update_that_cannot_ask_or_publish_changes_nothing() {
    let (host, units) = host("exit 254");
    let job = run(&host, &["update"]);
    assert_eq!(job["state"], "failed");
    assert_eq!(tasks(&job), ["check-build - failed"]);

    // Without a publisher.
    drop(units);
    let _runner = host.runner(&answers("asked 43"));
    let job = run(&host, &["update"]);
    assert_eq!(job["state"], "failed");
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("publisher.sock"), "{error}");
    let current = std::fs::read_link(host.root.join("builds/current")).unwrap();
    assert_eq!(current.to_str(), Some("42"));
}

/// The repair works on what steamcmd wrote, and on the build that was made of it.
#[test]
fn a_repair_replaces_a_build_that_is_damaged() {
    let (host, _units) = host("asked 42");
    let of_build = host.root.join("builds/42/srcds_linux");
    let whole = std::fs::read(&of_build).unwrap();
    std::fs::remove_file(&of_build).unwrap();
    std::fs::write(&of_build, "damaged").unwrap();

    let job = run(&host, &["update", "--validate"]);
    assert_eq!(
        job["state"],
        "succeeded",
        "{job}: {:?}",
        host.lines(JobId(2))
    );
    assert_eq!(
        tasks(&job),
        [
            "install-runtime - succeeded",
            "publish-build - succeeded",
            "remove-builds - succeeded"
        ]
    );
    assert_eq!(std::fs::read(&of_build).unwrap(), whole);
    assert_eq!(calls(&host, "app_info_print"), 0);
}
