//! The page of the game's builds, its forms, what other pages say of builds, and the API.

use left4me::db::users::Role;
use left4me::db::{builds, jobs};
use left4me::domain::build::Builds;
use serde_json::json;

use crate::support::builds::{asked, kept, publisher, uses};
use crate::support::host::TestHost;
use crate::support::http::{Answer, Client, Web};
use crate::waiting::plays;

/// Builds 5, 6 (current) and 7 are kept; 7 was rejected, and Steam publishes 8. S1 runs build 6, S2 is
/// stopped on build 5, S3 runs and is from before there were builds.
fn host() -> TestHost {
    let host = TestHost::with_servers(3);
    host.user("root", Role::Admin);
    host.root.script("steam/steamcmd.sh", "#!/bin/sh\n");
    kept(&host, &[5, 6, 7], 6);
    for (server, build) in [(1, Some(6)), (2, Some(5)), (3, None)] {
        uses(&host, server, build);
    }
    plays(&host, 0);
    host.db()
        .connection()
        .execute_batch(
            "UPDATE servers SET actual_state = 'stopped' WHERE id = 2;
             UPDATE servers SET actual_since = 1;",
        )
        .unwrap();

    let found = Builds {
        available: 8,
        published_at: Some(1),
        installed: Some(6),
        ..Builds::default()
    };
    host.db()
        .write(|tx| {
            builds::record(tx, &found, 9)?;
            builds::reject(tx, 7, "left4me-worker", "<b>S1 did not come up", 9)
        })
        .unwrap();
    host
}

/// What the job of this answer was asked.
fn options(host: &TestHost, answer: &Answer) -> String {
    assert_eq!(answer.status, 303, "{}", answer.body);
    let id = answer.location().rsplit('/').next().unwrap();
    let job = jobs::get(host.db().connection(), id.parse().unwrap()).unwrap();
    assert_eq!(host.job(&["cancel", id, "--no-wait"]).0, 0);
    let waits = job.condition.as_ref().map_or("", |_| " waits");
    format!("{}{waits}", job.what())
}

#[test]
fn the_page_says_which_builds_there_are_who_runs_which_and_what_is_new() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    let answer = root.get("/admin/builds");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let page = answer.page();
    assert!(!page.has("script:not([src])") && !page.has("[style]"));
    assert_eq!(
        page.text("[aria-current=page][href='/admin/builds']"),
        "Builds"
    );

    let game = page.text("#game");
    assert!(
        game.contains("Currentbuild 6") && game.contains("Availablebuild 8"),
        "{game}"
    );
    let row =
        |build: u64, column: &str| page.text(&format!("#build-{build} [data-label=\"{column}\"]"));
    assert_eq!(row(8, "State"), "available");
    assert_eq!(row(6, "State"), "current");
    assert_eq!(row(5, "State"), "kept");
    let rejected = row(7, "State");
    assert!(
        rejected.starts_with("rejected")
            && rejected.contains("<b>S1 did not come up (left4me-worker"),
        "{rejected}"
    );
    assert_eq!(row(6, "Size"), "2.0 GiB (1.0 MiB of its own)");
    assert_eq!(
        (row(6, "Servers"), row(5, "Servers")),
        ("S1".into(), "S2".into())
    );

    // Only what can work is offered.
    assert!(page.has("#use-5") && page.has("#use-7") && !page.has("#use-6") && !page.has("#use-8"));
    assert!(page.has("#remove-7") && !page.has("#remove-6") && !page.has("#remove-5"));
    assert_eq!(page.text("#use-5 summary"), "Go back …");
    assert_eq!(page.text("#use-7 summary"), "Use …");

    let servers = page.texts("#servers tbody tr");
    assert!(
        servers[0].starts_with("S1 running 6") && servers[0].ends_with("the same"),
        "{servers:?}"
    );
    assert!(
        servers[1].starts_with("S2 stopped 5") && servers[1].ends_with("build 6"),
        "{servers:?}"
    );
    assert!(
        servers[2].starts_with("S3 running before builds unknown"),
        "{servers:?}"
    );

    // Each form can be found by its labels.
    for field in page.attributes("#game label, #builds label", "for") {
        assert!(page.has(&format!("[id='{field}']")), "{field}");
    }
    assert!(root.get("/admin").page().has_link("/admin/builds"));
}

#[test]
fn an_update_and_a_rollback_have_their_policy() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    let mut ask = |path: &str, fields: &[(&str, &str)]| {
        let answer = root.post(path, fields);
        options(&host, &answer)
    };

    let common = [
        ("until", ""),
        ("then", "give-up"),
        ("warn", ""),
        ("max_failures", ""),
    ];
    let with = |policy: &'static [(&'static str, &'static str)]| {
        let mut fields = common.to_vec();
        fields.extend(policy);
        fields
    };
    for (fields, wanted) in [
        (with(&[("policy", "now")]), "update"),
        (
            with(&[("policy", "rolling"), ("rolling", "4")]),
            "update (rolling 4)",
        ),
        (
            with(&[("policy", "when-empty"), ("rolling", "")]),
            "update waits",
        ),
        (with(&[("policy", "no-restart")]), "update (no-restart)"),
        (
            with(&[("policy", "now"), ("validate", "yes")]),
            "update (validate)",
        ),
    ] {
        assert_eq!(ask("/admin/update", &fields), wanted);
    }
    for (fields, wanted) in [
        (&[("policy", "now")][..], "rollback"),
        (
            &[("policy", "no-restart"), ("build", "7")],
            "rollback (build 7, no-restart)",
        ),
        (
            &[("policy", "now"), ("max_failures", "3"), ("build", "5")],
            "rollback (build 5, max-failures 3)",
        ),
        (
            &[("policy", "when-empty"), ("until", "2h"), ("then", "go")],
            "rollback waits",
        ),
    ] {
        assert_eq!(ask("/admin/rollback", fields), wanted);
    }
}

#[test]
fn a_form_that_does_not_fit_is_refused_with_the_reason() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    let mut refused = |path: &str, fields: &[(&str, &str)], status, words: &str| {
        let answer = root.post(path, fields);
        assert_eq!(answer.status, status, "{fields:?}: {}", answer.body);
        let text = answer.page().text("main");
        assert!(text.contains(words), "{fields:?}: {text}");
    };

    let update = "/admin/update";
    refused(update, &[("policy", "soon")], 422, "soon");
    refused(
        update,
        &[("policy", "rolling"), ("rolling", "")],
        422,
        "how many servers",
    );
    refused(
        update,
        &[("policy", "now"), ("max_failures", "0")],
        422,
        "no number from 1 on",
    );
    refused(
        update,
        &[("policy", "now"), ("build", "5")],
        422,
        "only rollback does",
    );
    refused(
        "/admin/rollback",
        &[("policy", "now"), ("build", "x")],
        422,
        "is no build",
    );
    refused(
        "/admin/rollback",
        &[("policy", "now"), ("build", "4")],
        404,
        "build 4 is not kept",
    );
    refused(
        "/admin/rollback",
        &[("policy", "now"), ("build", "6")],
        409,
        "the current one",
    );
    refused("/admin/builds/6/remove", &[], 409, "the current one");
    refused("/admin/builds/4/remove", &[], 404, "build 4 is not kept");
    refused("/admin/builds/x/remove", &[], 404, "no such page");
    refused(
        "/admin/builds/5/remove",
        &[],
        409,
        "build 5 is in use by S2: first run `left4me-job enqueue initialize --server 2`",
    );
    assert_eq!(asked(&host), "");
}

#[test]
fn while_people_play_an_update_asks_first_and_keeps_what_was_asked() {
    let host = host();
    plays(&host, 2);
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    let fields = [
        ("policy", "rolling"),
        ("rolling", "4"),
        ("build", "5"),
        ("max_failures", "2"),
    ];
    let asks = root.post("/admin/rollback", &fields);
    assert_eq!(asks.status, 200, "{}", asks.body);
    let page = asks.page();
    assert!(page.has_link("/admin/builds"));

    let sent = |form: &str| -> Vec<(String, String)> {
        let name = page.attributes(&format!("{form} input[type=hidden]"), "name");
        let value = page.attributes(&format!("{form} input[type=hidden]"), "value");
        name.into_iter().zip(value).collect()
    };
    let send = |root: &mut Client, form: &str| {
        let fields = sent(form);
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        root.post("/admin/rollback", &fields)
    };
    let now = send(&mut root, "section + section form");
    assert_eq!(
        options(&host, &now),
        "rollback (build 5, rolling 4, max-failures 2)"
    );
    let waits = send(&mut root, "section:first-child form");
    assert_eq!(
        options(&host, &waits),
        "rollback (build 5, max-failures 2) waits"
    );

    // Nobody's game ends.
    for policy in ["no-restart", "when-empty"] {
        let answer = root.post("/admin/update", &[("policy", policy)]);
        assert_eq!(answer.status, 303, "{policy}: {}", answer.body);
    }
}

#[test]
fn a_build_is_removed_through_the_publisher() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");

    let _publisher = publisher(&host, "echo '{\"exit\":0}'");
    let removed = root.post("/admin/builds/7/remove", &[]);
    assert_eq!((removed.status, removed.location()), (303, "/admin/builds"));
    assert_eq!(asked(&host), "{\"verb\":\"remove\",\"build\":7}\n");
    let activity = root.get("/admin/events").page().text("main");
    assert!(activity.contains("root removed build 7"), "{activity}");
    drop(_publisher);

    let code = "echo '{\"error\":\"build 7 is not there\"}'; echo '{\"exit\":64}'";
    let _publisher = publisher(&host, code);
    let failed = root.post("/admin/builds/7/remove", &[]);
    assert_eq!(failed.status, 409);
    assert!(
        failed
            .body
            .contains("build 7 was not removed: build 7 is not there"),
        "{}",
        failed.body
    );
}

#[test]
fn a_server_says_which_build_it_runs_and_that_a_newer_one_waits() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    let mut facts = |server: u32| {
        root.get(&format!("/servers/{server}"))
            .page()
            .text("#facts")
    };
    let current = facts(1);
    assert!(
        current.contains("Build6, since") && !current.contains("next start"),
        "{current}"
    );
    let older = facts(2);
    assert!(
        older.contains("Build5, since") && older.contains("build 6 at its next start"),
        "{older}"
    );
    let before = facts(3);
    assert!(
        before.contains("Buildfrom before builds") && before.contains("build 6 at its next start"),
        "{before}"
    );
}

#[test]
fn in_place_there_is_only_one_build_and_nothing_rolls() {
    let host = host();
    let web = Web::start_with(&host, &[], &[("LEFT4ME_BUILDS", "in-place")]);
    let mut root = web.signed_in("root");
    let page = root.get("/admin/builds").page();
    assert!(page.text("main").contains("LEFT4ME_BUILDS=in-place"));
    assert!(!page.has("#use-5") && !page.has("[value='rolling']") && page.has("#remove-7"));
    assert!(page.text("#update").contains("running servers are stopped"));

    let update = root.post("/admin/update", &[("policy", "when-empty")]);
    assert_eq!(options(&host, &update), "update (in-place) waits");
    for (path, fields, words) in [
        (
            "/admin/update",
            &[("policy", "no-restart")][..],
            "no-restart is not possible",
        ),
        (
            "/admin/update",
            &[("policy", "rolling"), ("rolling", "4")],
            "leave out rolling",
        ),
        ("/admin/rollback", &[("policy", "now")], "no earlier build"),
    ] {
        let refused = root.post(path, fields);
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert!(refused.body.contains(words), "{words}: {}", refused.body);
    }
}

#[test]
fn a_job_that_has_stopped_servers_offers_to_start_them_again_or_to_leave_them() {
    let host = host();
    let job = host.enqueue(&["update"]);
    host.db()
        .connection()
        .execute_batch(&format!(
            "UPDATE jobs SET state = 'running', started_at = 1, worker_id = 'w' WHERE id = {job};
             DELETE FROM task_dependencies; DELETE FROM tasks WHERE job_id = {job};
             INSERT INTO tasks (job_id, position, kind, server_id, state, started_at, finished_at,
                 exit_code, was_running)
             VALUES ({job}, 0, 'stop', 1, 'succeeded', 1, 2, 0, 1),
                 ({job}, 1, 'stop', 3, 'succeeded', 1, 2, 0, 1);
             INSERT INTO tasks (job_id, position, kind, server_id, state)
             VALUES ({job}, 2, 'start-if-ran', 1, 'pending'),
                 ({job}, 3, 'start-if-ran', 3, 'pending');"
        ))
        .unwrap();

    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    let page = root.get(&format!("/jobs/{job}")).page();
    let cancel = page.text("#cancel-form");
    assert!(
        cancel.contains("2 servers are stopped for this job."),
        "{cancel}"
    );
    assert!(page.has("#cancel-form button[name=leave_stopped]"));
    assert!(
        cancel.contains("Cancel, and start them again Cancel, and leave them stopped"),
        "{cancel}"
    );

    let path = format!("/jobs/{job}/cancel");
    assert_eq!(root.post(&path, &[]).status, 303);
    let status = |key: &str| host.job_json(&["cancel-status", &job.to_string()]).1[key].clone();
    assert_eq!(status("leave_stopped"), false);
    assert_eq!(root.post(&path, &[("leave_stopped", "1")]).status, 303);
    assert_eq!(status("leave_stopped"), true, "a second request adds it");
    let page = root.get(&format!("/jobs/{job}")).page();
    assert!(
        page.text("#cancellations")
            .contains("leaves servers stopped")
    );

    // Only for what starts servers again.
    let stop = host.enqueue(&["stop", "--server", "2"]);
    let refused = root.post(&format!("/jobs/{stop}/cancel"), &[("leave_stopped", "1")]);
    assert_eq!(refused.status, 422, "{}", refused.body);
}

#[test]
fn programs_list_builds_and_ask_for_updates_with_their_options() {
    let host = host();
    let token = |user: &str| {
        let made = host
            .left4me(&["token", "create", user, "--name", "test"])
            .done();
        made.split_whitespace()
            .find(|word| word.starts_with("l4m_"))
            .unwrap()
            .to_owned()
    };
    host.user("bert", Role::User);
    let (admin, user) = (token("root"), token("bert"));
    let web = Web::start(&host, &[]);
    let send = |token: &str, method: &str, path: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("Authorization", bearer.as_str())];
        if !body.is_empty() {
            headers.push(("Content-Type", "application/json"));
        }
        web.client().send(method, path, &headers, body)
    };

    assert_eq!(send(&user, "GET", "/api/builds", "").status, 403);
    let builds = send(&admin, "GET", "/api/builds", "").json();
    assert_eq!(
        (&builds["current"], &builds["available"]["build"]),
        (&json!(6), &json!(8))
    );
    let numbers: Vec<u64> = builds["builds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|build| build["build"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [8, 7, 6, 5]);
    assert_eq!(builds["builds"][2]["servers"][0]["name"], "S1");
    let (code, listed) = {
        let printed = host.left4me(&["build", "list", "--json"]);
        (
            printed.code,
            serde_json::from_str::<serde_json::Value>(&printed.out).unwrap(),
        )
    };
    assert_eq!(
        (code, &listed),
        (0, &builds["builds"]),
        "the command line has the same"
    );

    let job = |body: serde_json::Value| {
        let made = send(&admin, "POST", "/api/jobs", &body.to_string());
        assert_eq!(made.status, 201, "{}", made.body);
        let path = made.location().to_owned();
        let job = send(&admin, "GET", &path, "").json();
        send(&admin, "POST", &format!("{path}/cancel"), "{}");
        job
    };
    let rolling = job(json!({"operation": "update", "rolling": 4, "max_failures": 2}));
    let wanted = json!({"validate": false, "in_place": false, "rolling": 4, "no_restart": false,
        "max_failures": 2, "build": null});
    assert_eq!(rolling["update"], wanted);
    assert_eq!(rolling["roll_of"], json!(null));
    let back = job(json!({"operation": "rollback", "build": 7, "no_restart": true}));
    assert_eq!(
        (&back["update"]["build"], &back["update"]["no_restart"]),
        (&json!(7), &json!(true))
    );
    assert_eq!(job(json!({"operation": "check"}))["update"], json!(null));

    for (body, status) in [
        (json!({"operation": "rollback", "build": 4}), 404),
        (json!({"operation": "rollback", "build": 6}), 409),
        (json!({"operation": "rollback", "build": 0}), 422),
        (json!({"operation": "rollback", "build": -1}), 422),
        (json!({"operation": "rollback", "build": "5"}), 422),
        (json!({"operation": "rollback", "validate": true}), 422),
        (json!({"operation": "update", "build": 5}), 422),
        (json!({"operation": "update", "rolling": 0}), 422),
        (
            json!({"operation": "update", "rolling": 2, "when_empty": true}),
            422,
        ),
        (
            json!({"operation": "update", "no_restart": true, "rolling": 2}),
            422,
        ),
        (
            json!({"operation": "update", "no_restart": true, "when_empty": true}),
            422,
        ),
        (json!({"operation": "update", "no_restart": 1}), 422),
        (json!({"operation": "update", "max_failures": 70_000}), 422),
        (
            json!({"operation": "stop", "all": true, "no_restart": true}),
            422,
        ),
        (json!({"operation": "install", "max_failures": 2}), 422),
    ] {
        let answer = send(&admin, "POST", "/api/jobs", &body.to_string());
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    let answer = send(&user, "POST", "/api/jobs", r#"{"operation":"rollback"}"#);
    assert_eq!(answer.status, 403);
}
