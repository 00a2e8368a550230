//! Stale files, from the start that finds them to the reset that drops them, with the real worker.

use left4me::base::names::ServerId;
use left4me::db::stale::{self, FoundStale};
use left4me::domain::job::JobState;
use serde_json::{Value, json};

use crate::support::host::TestHost;

/// Answers every verb. `purge-stale` fails if a file says so.
const HELPER: &str = r#"#!/bin/bash
read -r request <&3
echo "$request" >> "$LEFT4ME_ROOT/requests"
say() { printf '{"stdout":%s}\n' "$1" >&3; }
file() { say '"{\"file\":{\"path\":\"'"$1"'\",\"size\":'"$2"'}}"'; }
case $request in
*show*) say '"ActiveState=active"'; say '"SubState=running"'; say '"MainPID=77"' ;;
*'"stale"'*)
    [ ! -e "$LEFT4ME_ROOT/search-fails" ] || { echo '{"stderr":"upper: odd"}' >&3; echo '{"exit":1,"ended_by":"exit","tree":"empty"}' >&3; exit; }
    file left4dead2/a.nav 2048; file 'left4dead2/b\\\\x0a' 5
    say '"{\"end\":{\"count\":3,\"size\":3000,\"is_whole\":true}}"' ;;
*purge-stale*)
    file left4dead2/a.nav 2048; say '"{\"end\":{\"count\":1,\"size\":2048,\"is_whole\":true}}"'
    [ ! -e "$LEFT4ME_ROOT/fails" ] || { echo '{"stderr":"b cannot be removed"}' >&3; echo '{"exit":1,"ended_by":"exit","tree":"empty"}' >&3; exit; } ;;
esac
echo '{"exit":0,"ended_by":"exit","tree":"empty"}' >&3
"#;

/// A host with two builds, of which 5 is current, and two servers.
fn host() -> TestHost {
    let host = TestHost::with_servers(2);
    for build in [5, 6] {
        let name = format!("builds/{build}/steamapps/appmanifest_222860.acf");
        host.root.write(name, "");
    }
    use_build(&host, 5);
    host
}

fn use_build(host: &TestHost, build: u64) {
    let link = host.root.join("builds/current");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(build.to_string(), link).unwrap();
}

fn found(host: &TestHost, server: i64) -> FoundStale {
    stale::of_server(host.db().connection(), ServerId(server)).unwrap()
}

/// What the helper was asked for since the last call, without the reports on units.
fn requests(host: &TestHost) -> Vec<String> {
    let path = host.root.join("requests");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    let verbs = text.lines().map(|line| {
        let request: Value = serde_json::from_str(line).unwrap();
        request["verb"].as_str().unwrap().to_owned()
    });
    verbs.filter(|verb| verb != "show").collect()
}

fn run(host: &TestHost, args: &[&str]) -> Value {
    let id = host.enqueue(args);
    host.drain();
    host.show(id)
}

#[test]
fn a_start_on_another_build_finds_stale_files_and_show_lists_them() {
    let host = host();
    let _helper = host.helper(HELPER);
    let job = run(&host, &["start", "--server", "1"]);
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(requests(&host), ["enable", "stale"]);

    let stale = found(&host, 1);
    assert_eq!((stale.count, stale.size, stale.more()), (3, 3000, 1));
    assert_eq!(stale.files[1].path, "left4dead2/b\\x0a");
    assert_eq!(found(&host, 2).found_at, None);

    let shown = host.left4me(&["server", "show", "1"]).done();
    for part in ["3 files", "left4dead2/a.nav (2.0 KiB)", "and 1 more"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let shown = host.left4me(&["server", "show", "1", "--json"]).json();
    assert_eq!(shown["stale"]["files"][0]["path"], "left4dead2/a.nav");
    assert_eq!(shown["name"], "S1");

    // A search that fails is told; the server is up, and what was found before stays.
    host.root.write("search-fails", "");
    use_build(&host, 6);
    let job = run(&host, &["restart", "--server", "1"]);
    assert_eq!(job["state"], "succeeded", "{job}");
    let id = left4me::base::names::JobId(job["id"].as_i64().unwrap());
    let lines = host.lines(id).join("\n");
    assert!(
        lines.contains("it is not known whether") && lines.contains("upper: odd"),
        "{lines}"
    );
    assert_eq!(found(&host, 1).count, 3);
}

#[test]
fn a_start_on_the_same_build_does_not_search() {
    let host = host();
    let _helper = host.helper(HELPER);
    host.db()
        .connection()
        .execute_batch("UPDATE servers SET build = 5, build_since = 1")
        .unwrap();
    run(&host, &["start", "--server", "1"]);
    assert_eq!(requests(&host), ["enable"]);

    use_build(&host, 6);
    run(&host, &["restart", "--server", "1"]);
    assert_eq!(requests(&host), ["disable", "enable", "stale"]);
}

#[test]
fn reset_stale_drops_only_these_and_every_reset_forgets_them() {
    let host = host();
    let _helper = host.helper(HELPER);
    for (args, verbs) in [
        (
            &["reset", "--stale", "--server", "1"][..],
            ["disable", "purge-stale"],
        ),
        (&["reset", "--server", "1"], ["disable", "purge"]),
        (&["delete", "--server", "1"], ["disable", "purge"]),
    ] {
        run(&host, &["start", "--server", "1"]);
        assert_eq!(found(&host, 1).count, 3);
        host.db()
            .connection()
            .execute_batch("UPDATE servers SET build = 5, build_since = 1")
            .unwrap();
        requests(&host);

        let job = run(&host, args);
        assert_eq!(job["state"], "succeeded", "{job}");
        assert_eq!(requests(&host)[..2], verbs);
        assert_eq!(found(&host, 1).count, 0, "{args:?}");
        host.db()
            .connection()
            .execute_batch("UPDATE servers SET build = NULL, build_since = NULL")
            .unwrap();
    }

    let job = run(&host, &["reset", "--stale", "--all", "--rolling", "1"]);
    let tasks = job["tasks"].as_array().unwrap().iter();
    let kinds: Vec<&str> = tasks.map(|task| task["kind"].as_str().unwrap()).collect();
    let one = ["stop", "purge-stale", "initialize", "start-if-ran"];
    assert_eq!(kinds, [one, one].concat());
    assert_eq!(
        job["tasks"][4]["depends_on"],
        json!([job["tasks"][3]["id"]]),
        "the second server waits"
    );
    let id = left4me::base::names::JobId(job["id"].as_i64().unwrap());
    let lines = host.lines(id).join("\n");
    assert!(
        lines.contains("server 1: dropped left4dead2/a.nav (2.0 KiB)")
            && lines.contains("server 2: dropped 1 file"),
        "{lines}"
    );
}

/// A file that cannot be dropped is no reason to leave the players without their server.
#[test]
fn a_drop_that_fails_starts_the_server_again_and_keeps_the_list() {
    let host = host();
    let _helper = host.helper(HELPER);
    run(&host, &["start", "--server", "1"]);
    requests(&host);

    host.root.write("fails", "");
    let job = run(&host, &["reset", "--stale", "--server", "1"]);
    assert_eq!(job["state"], "failed", "{job}");
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("b cannot be removed"), "{error}");
    assert_eq!(requests(&host)[..3], ["disable", "purge-stale", "enable"]);
    assert_eq!(found(&host, 1).count, 3);
    let id = left4me::base::names::JobId(job["id"].as_i64().unwrap());
    let lines = host.lines(id).join("\n");
    assert!(lines.contains("dropped left4dead2/a.nav"), "{lines}");
}

#[test]
fn stale_belongs_to_the_request_and_only_a_reset_takes_it() {
    let host = host();
    for operation in ["restart", "delete", "initialize"] {
        let (code, _, error) = host.job(&["enqueue", operation, "--stale", "--server", "1"]);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("only reset does"), "{error}");
    }
    assert_eq!(host.job(&["enqueue", "update", "--stale"]).0, 2);

    let reset = |more: &[&str]| host.enqueue(&[&["reset", "--server", "1"], more].concat());
    let plain = reset(&["--unique"]);
    let stale = reset(&["--stale", "--unique"]);
    assert_ne!(plain, stale, "they do not do the same");
    assert_eq!(reset(&["--stale", "--unique"]), stale);
    assert_eq!(reset(&["--unique"]), plain);

    // With a condition the plan is made when the job goes ahead, and a retry repeats it.
    let waits = reset(&["--stale", "--when-empty"]);
    let kinds = |id| -> Vec<String> {
        let job = host.show(id);
        let tasks = job["tasks"].as_array().unwrap().iter();
        tasks
            .map(|task| task["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(kinds(waits).contains(&"purge-stale".to_owned()));
    let (code, _, error) = host.job(&["cancel", &waits.to_string()]);
    assert_eq!(code, 0, "{error}");
    let (code, again, error) = host.job(&["retry", &waits.to_string()]);
    assert_eq!(code, 0, "{error}");
    let again = left4me::base::names::JobId(again.trim().parse().unwrap());
    assert!(kinds(again).contains(&"purge-stale".to_owned()));
    assert_eq!(host.state(again), JobState::Queued);
}
