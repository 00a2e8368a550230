//! `left4me` as a program: what it prints, its exit codes, and what it leaves in the database and
//! on the disk.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use left4me::base::{clock, password};
use left4me::db::{Db, tokens};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Finished, JOB, LEFT4ME, PASSWORD, Root};

/// A data directory without a database at first.
struct Host {
    root: Root,
}

impl Host {
    fn new() -> Self {
        Self { root: Root::new() }
    }

    /// With users anna and bert, each with a blueprint `plain`.
    fn with_users() -> Self {
        let host = Self::new();
        for name in ["anna", "bert"] {
            host.run_with_input(
                &["user", "add", name, "--password-stdin"],
                &format!("{PASSWORD}\n"),
            )
            .done();
            host.run(&["blueprint", "create", "plain", "--user", name])
                .done();
        }

        host
    }

    /// A server of anna's, with her blueprint.
    fn server(&self, name: &str) {
        let create = ["server", "create", name, "--user", "anna"];
        self.run(&[&create[..], &["--blueprint", "plain"]].concat())
            .done();
    }

    fn run(&self, args: &[&str]) -> Finished {
        self.run_with_input(args, "")
    }

    fn run_with_input(&self, args: &[&str], input: &str) -> Finished {
        self.root.run(LEFT4ME, args, input.as_bytes())
    }

    fn database(&self) -> Connection {
        let connection = Connection::open(self.root.join("db/left4me.db")).unwrap();
        connection.busy_timeout(crate::support::PATIENCE).unwrap();
        connection
    }

    fn sql(&self, sql: &str) {
        self.database().execute_batch(sql).unwrap();
    }

    fn count(&self, sql: &str) -> i64 {
        self.database()
            .query_row(sql, [], |row| row.get(0))
            .unwrap()
    }
}

#[test]
fn a_user_is_added_listed_disabled_and_enabled() {
    let host = Host::new();
    let empty = host.run(&["user", "list"]);
    assert!(empty.err.contains("left4me user add"), "{empty:?}");
    assert_eq!(empty.done(), "");
    assert_eq!(host.run(&["user", "list", "--json"]).json(), json!([]));

    host.run_with_input(
        &["user", "add", "anna", "--admin", "--password-stdin"],
        &format!("{PASSWORD}\nsecond line\n"),
    )
    .done();
    host.run_with_input(
        &["user", "add", "anna", "--password-stdin"],
        &format!("{PASSWORD}\n"),
    )
    .refused(4, &["anna", "passwd"]);

    let hash: String = host
        .database()
        .query_row("SELECT password_hash FROM users", [], |row| row.get(0))
        .unwrap();
    assert!(
        hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && password::verify(PASSWORD, &hash),
        "{hash}"
    );

    host.sql(
        "INSERT INTO sessions (user_id, hash, created_at, last_seen_at, expires_at)
         VALUES (1, zeroblob(32), 1, 1, 9)",
    );

    host.run(&["user", "disable", "anna"]).done();
    assert_eq!(
        host.count("SELECT count(*) FROM sessions WHERE ended_at IS NULL"),
        0
    );

    assert!(
        host.run(&["user", "disable", "anna"])
            .done()
            .contains("already")
    );

    let users = host.run(&["user", "list", "--json"]).json();
    assert!(
        users[0]["disabled_at"].is_i64() && users[0]["is_admin"] == json!(true),
        "{users}"
    );

    assert!(users[0].get("password_hash").is_none());

    host.run(&["user", "enable", "anna"]).done();
    for verb in ["disable", "enable"] {
        host.run(&["user", verb, "absent"]).refused(3, &["absent"]);
    }
}

#[test]
fn a_new_password_ends_all_sessions() {
    let host = Host::with_users();
    host.sql(
        "INSERT INTO sessions (user_id, hash, created_at, last_seen_at, expires_at)
         VALUES (1, zeroblob(32), 1, 1, 9)",
    );

    host.run_with_input(
        &["user", "passwd", "anna", "--password-stdin"],
        "another horse\r\n",
    )
    .done();

    assert_eq!(
        host.count("SELECT count(*) FROM sessions WHERE ended_at IS NULL"),
        0
    );

    let hash: String = host
        .database()
        .query_row("SELECT password_hash FROM users WHERE id = 1", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(password::verify("another horse", &hash));
    host.run_with_input(
        &["user", "passwd", "absent", "--password-stdin"],
        &format!("{PASSWORD}\n"),
    )
    .refused(3, &["absent"]);
}

#[test]
fn a_bad_password_and_a_missing_terminal_are_refused() {
    let host = Host::new();
    for (input, word) in [
        ("short\n", "10 characters"),
        ("", "empty"),
        ("\n", "empty"),
        ("tab\tin the middle\n", "control"),
    ] {
        host.run_with_input(&["user", "add", "anna", "--password-stdin"], input)
            .refused(2, &[word]);
    }

    host.run(&["user", "add", "anna"])
        .refused(2, &["--password-stdin"]);
    assert_eq!(host.count("SELECT count(*) FROM users"), 0);
}

#[test]
fn a_token_is_shown_once_and_only_its_hash_is_stored() {
    let host = Host::with_users();
    let created = host.run(&["token", "create", "anna", "--name", "match bot"]);
    assert!(
        created.err.contains("it cannot be shown again"),
        "{created:?}"
    );

    let text = created.done().trim_end().to_owned();
    assert!(text.len() == 68 && text.starts_with("l4m_"), "{text}");

    let db = Db::open(&host.root.join("db/left4me.db")).unwrap();
    assert_eq!(
        tokens::authenticate(db.connection(), &text)
            .unwrap()
            .unwrap()
            .user,
        "anna"
    );

    let listed = host.run(&["token", "list", "--json"]).json().to_string();
    assert!(
        listed.contains("match bot") && !listed.contains(&text[4..]),
        "{listed}"
    );

    host.run(&["user", "disable", "anna"]).done();
    assert!(
        tokens::authenticate(db.connection(), &text)
            .unwrap()
            .is_none(),
        "its owner is disabled"
    );

    host.run(&["user", "enable", "anna"]).done();
    host.run(&["token", "revoke", "1"]).done();
    assert!(
        host.run(&["token", "revoke", "1"])
            .done()
            .contains("already")
    );

    assert!(
        tokens::authenticate(db.connection(), &text)
            .unwrap()
            .is_none(),
        "it is revoked"
    );

    host.run(&["token", "revoke", "7"]).refused(3, &["7"]);
    host.run(&["token", "create", "absent", "--name", "x"])
        .refused(3, &["absent"]);
}

#[test]
fn an_overlay_gets_a_directory_that_the_group_can_fill() {
    let host = Host::new();
    host.run(&["overlay", "add", "competitive"]).done();
    host.run(&["overlay", "add", "hotel", "--path", "maps/dead-hotel"])
        .done();

    for made in [
        "overlays/competitive",
        "overlays/maps",
        "overlays/maps/dead-hotel",
    ] {
        let mode = host
            .root
            .join(made)
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o7777;
        assert_eq!(mode, 0o2775, "{made}");
    }

    std::fs::create_dir(host.root.join("overlays/old")).unwrap();
    assert!(
        host.run(&["overlay", "add", "old"])
            .done()
            .contains("was there")
    );

    host.run(&["overlay", "add", "old"]).refused(4, &["old"]);

    let listed = host.run(&["overlay", "list", "--json"]).json();
    assert_eq!(listed[1]["ref"], json!("maps/dead-hotel"));

    host.run(&["overlay", "remove", "hotel"]).done();
    assert!(
        host.root.join("overlays/maps/dead-hotel").is_dir(),
        "files stay"
    );

    host.run(&["overlay", "remove", "hotel"])
        .refused(3, &["hotel"]);
}

#[test]
fn an_overlay_outside_its_root_is_not_added_and_not_created() {
    let host = Host::new();
    let outside = host.root.join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, host.root.join("overlays/link")).unwrap();
    host.run(&["overlay", "add", "link"])
        .refused(1, &["link", outside.to_str().unwrap()]);

    let below = host.run(&["overlay", "add", "below", "--path", "link/below"]);
    assert!(
        below.code == 1 && below.err.contains("link/below"),
        "{below:?}"
    );

    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(host.count("SELECT count(*) FROM overlays"), 0);

    symlink(
        host.root.join("workshop_cache"),
        host.root.join("overlays/all"),
    )
    .unwrap();

    host.run(&["overlay", "add", "all"]).refused(1, &["all"]);

    std::fs::create_dir(host.root.join("workshop_cache/1")).unwrap();
    symlink(
        host.root.join("workshop_cache/1"),
        host.root.join("overlays/cached"),
    )
    .unwrap();

    host.run(&["overlay", "add", "cached"]).done();
}

#[test]
fn a_blueprint_keeps_its_content_and_edits_replace_lists() {
    let host = Host::with_users();
    for overlay in ["one", "two"] {
        host.run(&["overlay", "add", overlay]).done();
    }

    let config = host
        .root
        .write("server.cfg", "hostname \"x\"\r\n\n// end\n");
    let config = config.to_str().unwrap();
    let create = [
        "blueprint",
        "create",
        "coop",
        "--user",
        "anna",
        "--overlay",
        "two",
        "--overlay",
        "one",
    ];

    host.run(
        &[
            &create[..],
            &["--arg=+map", "--arg", "-x", "--config-file", config],
        ]
        .concat(),
    )
    .done();

    let shown = host.run(&["blueprint", "show", "coop", "--json"]).json();
    assert_eq!(shown["overlays"], json!(["two", "one"]));
    assert_eq!(shown["arguments"], json!(["+map", "-x"]));
    assert_eq!(shown["config"], json!(["hostname \"x\"", "", "// end"]));
    assert_eq!(
        (&shown["user"], &shown["servers"]),
        (&json!("anna"), &json!([]))
    );

    host.run(&[
        "blueprint",
        "edit",
        "coop",
        "--no-overlays",
        "--arg=+b",
        "--rename",
        "new name",
    ])
    .done();
    let shown = host
        .run(&["blueprint", "show", "new name", "--json"])
        .json();
    assert_eq!(
        [&shown["overlays"], &shown["arguments"]],
        [&json!([]), &json!(["+b"])]
    );

    assert_eq!(
        shown["config"][0],
        json!("hostname \"x\""),
        "what is not named stays"
    );

    host.run_with_input(
        &["blueprint", "edit", "new name", "--config-file", "-"],
        "a\nb",
    )
    .done();
    assert_eq!(
        host.run(&["blueprint", "show", "new name", "--json"])
            .json()["config"],
        json!(["a", "b"])
    );

    host.run(&["blueprint", "edit", "new name"])
        .refused(2, &["nothing to change"]);

    host.run(&["blueprint", "delete", "new name"]).done();
    host.run(&["blueprint", "show", "new name"])
        .refused(3, &["new name"]);
}

#[test]
fn a_blueprint_refuses_invalid_content() {
    let host = Host::with_users();
    host.run(&["overlay", "add", "one"]).done();
    let create = |rest: &[&str]| {
        host.run(&[&["blueprint", "create", "x", "--user", "anna"][..], rest].concat())
    };
    create(&["--overlay", "missing"]).refused(3, &["missing"]);
    create(&["--overlay", "one", "--overlay", "one"]).refused(2, &["twice"]);
    create(&["--arg=+hostport"]).refused(2, &["+hostport"]);
    create(&["--arg=a\nb"]).refused(2, &["control character"]);
    create(&["--arg=+hostname", "--arg=My server"])
        .refused(2, &["one word", "configuration lines"]);

    create(&["--arg=-autoupdate", "--arg=-steam_dir", "--arg=."])
        .refused(2, &["-autoupdate", "srcds_run"]);
    create(&["--arg=+exec", "--arg=../../x"]).refused(2, &["+exec", "left4dead2/cfg"]);
    create(&["--config-file", "/nonexistent"]).refused(2, &["/nonexistent"]);

    let bad = host.root.write("bad.cfg", "fine\nnot\u{1b}fine\n");
    create(&["--config-file", bad.to_str().unwrap()]).refused(2, &["line 2"]);

    let binary = host.root.write("binary.cfg", b"\xff\xfe");
    create(&["--config-file", binary.to_str().unwrap()]).refused(2, &["UTF-8"]);

    let large = host.root.write("large.cfg", "x\n".repeat(600_000));
    create(&["--config-file", large.to_str().unwrap()]).refused(2, &["too large"]);
    host.run(&["blueprint", "create", "plain", "--user", "anna"])
        .refused(4, &["plain"]);
    assert_eq!(
        host.count("SELECT count(*) FROM blueprints"),
        2,
        "a refused one leaves nothing"
    );
}

#[test]
fn an_overlay_or_blueprint_in_use_is_not_removed() {
    let host = Host::with_users();
    host.run(&["overlay", "add", "one"]).done();
    host.run(&[
        "blueprint",
        "edit",
        "plain",
        "--user",
        "anna",
        "--overlay",
        "one",
    ])
    .done();
    host.run(&["overlay", "remove", "one"])
        .refused(4, &["plain", "anna"]);
    host.server("Friday");
    host.run(&["blueprint", "delete", "plain", "--user", "anna"])
        .refused(4, &["1 ('Friday')"]);
    host.run(&["blueprint", "delete", "plain", "--user", "bert"])
        .done();
}

#[test]
fn a_damaged_row_is_reported_wherever_it_is_shown() {
    let host = Host::with_users();
    host.run(&[
        "server",
        "create",
        "Friday",
        "--user",
        "anna",
        "--blueprint",
        "1",
    ])
    .done();
    for (column, value, word) in [
        ("arguments", "[1]", "arguments"),
        ("arguments", "[\"+hostport\"]", "+hostport"),
        ("arguments", "[\"x -port 1\", \"-gdb\"]", "-gdb"),
        ("arguments", "[\"+exec\", \"../x\"]", "+exec"),
        ("config", "[\"a\\nb\"]", "config"),
        ("config", "[null]", "config"),
    ] {
        host.sql(&format!(
            "UPDATE blueprints SET {column} = '{value}' WHERE id = 1"
        ));
        let shown = host.run(&["blueprint", "show", "1"]);
        assert!(
            shown
                .err
                .contains("no server can start with this blueprint")
                && shown.err.contains(word),
            "{shown:?}"
        );

        shown.done();
        let shown = host.run(&["blueprint", "show", "1", "--json"]).json();
        assert!(shown["refused"][0].is_string(), "{shown}");

        let server = host.run(&["server", "show", "Friday"]);
        assert!(
            server.err.contains("cannot be started") && server.err.contains(word),
            "{server:?}"
        );

        server.done();
        assert!(host.run(&["server", "list"]).done().contains("Friday"));

        let doctor = host.run(&["doctor"]);
        assert!(
            doctor.out.contains("server 1 cannot be started") && doctor.out.contains(word),
            "{doctor:?}"
        );

        host.sql(&format!(
            "UPDATE blueprints SET {column} = '[]' WHERE id = 1"
        ));
    }

    assert!(
        host.run(&["blueprint", "show", "1", "--json"])
            .json()
            .get("refused")
            .is_none()
    );

    host.sql(
        "UPDATE blueprints SET name = 'x' || char(27) || '[31m' || char(10) || 'y' WHERE id = 1",
    );
    let table = host.run(&["blueprint", "list"]).done();
    assert!(
        !table.contains('\u{1b}') && table.lines().count() == 3,
        "{table}"
    );
}

#[test]
fn a_server_has_the_json_of_the_contract() {
    let host = Host::with_users();
    assert_eq!(host.run(&["server", "list", "--json"]).json(), json!([]));

    host.server("Friday");
    let mut expected = json!({
        "id": 1, "name": "Friday", "user": "anna", "port": 27000, "blueprint": "plain",
        "unit": "left4me-server@1.service", "desired_state": "stopped", "actual_state": "unknown",
        "actual_sub_state": null, "actual_state_updated_at": null, "last_error": null, "enabled": null,
        // Not in the contract.
        "actual_since": null, "restarts": 0, "last_end": null, "drift": null, "version": 1,
        "responding": null, "players": null, "bots": null, "max_players": null, "map": null,
        "response_ms": null, "answered_at": null, "restart_unresponsive": false, "build": null, "build_since": null,
    });

    let mut shown = host.run(&["server", "show", "Friday", "--json"]).json();
    // Its name in a fleet, by chance.
    let ulid = shown["ulid"].as_str().unwrap();
    assert_eq!(ulid.len(), 26, "{ulid}");
    expected["ulid"] = json!(ulid);
    let stale = shown.as_object_mut().unwrap().remove("stale").unwrap();
    assert_eq!((&stale["count"], &stale["files"]), (&json!(0), &json!([])));
    assert_eq!(shown, expected);

    assert_eq!(
        host.run(&["server", "list", "--json"]).json(),
        json!([expected])
    );

    host.sql(
        "UPDATE servers
         SET actual_state = 'running', actual_sub_state = 'running', enabled = 1,
         actual_state_updated_at = 5",
    );

    let shown = host.run(&["server", "show", "1", "--json"]).json();
    assert_eq!(
        (&shown["enabled"], &shown["actual_state_updated_at"]),
        (&json!(true), &json!(5))
    );

    assert!(host.run(&["server", "list"]).done().contains("Friday"));
}

#[test]
fn who_plays_is_shown_and_no_answer_is_not_an_empty_server() {
    let host = Host::with_users();
    for name in ["Friday", "Sunday", "Monday"] {
        host.server(name);
    }
    host.sql(
        "UPDATE servers SET actual_state = 'running', desired_state = 'running';
         INSERT INTO server_game (server_id, responding, players, bots, max_players, map,
             response_ms, answered_at, asked_at)
         VALUES (1, 'yes', 3, 1, 8, 'c1m1_hotel' || char(27), 12, 5000, 5000);
         INSERT INTO server_game (server_id, responding, answered_at, asked_at, unanswered)
         VALUES (2, 'no', 4000, 5000, 1), (3, 'not-yet', NULL, 5000, 1)",
    );

    let listed = host.run(&["server", "list"]).done();
    let rows: Vec<&str> = listed.lines().collect();
    assert!(
        rows[0].contains("PLAYERS") && rows[0].contains("MAP"),
        "{listed}"
    );
    assert!(
        rows[1].contains("3/8") && rows[1].contains("c1m1_hotel\u{fffd}"),
        "{listed}"
    );
    assert!(
        rows[2].contains("no answer") && !rows[2].contains("0/"),
        "{listed}"
    );
    assert!(!rows[3].contains("answer"), "{listed}");

    let shown = host.run(&["server", "show", "1"]).done();
    assert!(
        shown.contains("3/8, 1 bot") && shown.contains("yes, within 12 ms"),
        "{shown}"
    );
    let shown = host.run(&["server", "show", "2"]).done();
    assert!(shown.contains("no, last 1970-01-01"), "{shown}");

    let json = host.run(&["server", "show", "1", "--json"]).json();
    assert_eq!(
        (&json["responding"], &json["players"], &json["max_players"]),
        (&json!("yes"), &json!(3), &json!(8))
    );
    let json = host.run(&["server", "show", "2", "--json"]).json();
    assert_eq!(
        (&json["responding"], &json["players"]),
        (&json!("no"), &json!(null))
    );
}

#[test]
fn the_peak_of_yesterday_is_told_with_the_history() {
    let host = Host::with_users();
    host.server("Friday");
    let history = host.run(&["server", "history", "Friday"]);
    assert!(!history.err.contains("yesterday"), "{history:?}");

    let (begin, _) = clock::day_before(clock::now_ms()).unwrap();
    host.sql(&format!(
        "INSERT INTO samples_10min (server_id, at, restarts, players) VALUES (1, {begin}, 0, 7)"
    ));
    let history = host.run(&["server", "history", "Friday"]);
    assert!(
        history.err.contains("server 1: peak 7 players yesterday"),
        "{history:?}"
    );
    let shown = host.run(&["server", "show", "Friday"]).done();
    assert!(shown.contains("peak 7 players yesterday"), "{shown}");
}

#[test]
fn a_server_is_restarted_for_silence_only_where_that_is_set() {
    let host = Host::with_users();
    host.server("Friday");
    let set = |value| host.run(&["server", "set", "Friday", "--restart-unresponsive", value]);
    let is_set = || {
        let json = host.run(&["server", "show", "Friday", "--json"]).json();
        json["restart_unresponsive"] == json!(true)
    };

    assert!(!is_set());
    assert!(set("yes").done().contains("is restarted"));
    assert!(is_set() && set("yes").done().contains("is restarted"));
    set("perhaps").refused(2, &["yes", "no"]);
    assert!(is_set());
    assert!(set("no").done().contains("is not restarted") && !is_set());

    let history = host.run(&["server", "history", "Friday", "--json"]).json();
    let events = history.as_array().unwrap().iter();
    let set = events.filter(|event| event["kind"] == "server.set");
    assert_eq!(set.count(), 2, "once for each change");

    host.run(&["server", "set", "Nobody", "--restart-unresponsive", "yes"])
        .refused(3, &["no server is named 'Nobody'"]);
    host.run(&["server", "set", "Friday"])
        .refused(2, &["--restart-unresponsive"]);
}

#[test]
fn a_drift_is_shown_with_its_cause_and_remedy() {
    let host = Host::with_users();
    host.server("Friday");
    host.sql(
        "UPDATE servers
         SET desired_state = 'running', actual_state = 'failed', enabled = 1,
         last_end = 'exit code 3', drift = 'down', drift_since = 86400000,
         drift_why = 'exit code 3'",
    );

    let listed = host.run(&["server", "list"]).done();
    assert!(
        listed.contains("down for ") && listed.contains(": exit code 3"),
        "{listed}"
    );

    let drift = &host.run(&["server", "show", "1", "--json"]).json()["drift"];
    assert_eq!(
        drift,
        &json!({ "kind": "down", "since": 86_400_000, "why": "exit code 3" })
    );

    let shown = host.run(&["server", "show", "1"]).done();
    assert!(
        shown.contains("should be running, but is failed, since 1970-01-02")
            && shown.contains("`start` it"),
        "{shown}"
    );
}

#[test]
fn a_failed_poll_is_reported_with_the_states() {
    let host = Host::with_users();
    host.server("Friday");
    assert_eq!(host.run(&["server", "list"]).err, "");
    host.sql(
        "UPDATE poll
         SET error = 'systemd cannot be asked over the system bus: no answer within 10 s'",
    );

    let listed = host.run(&["server", "list"]);
    assert!(
        listed.out.contains("Friday") && listed.err.contains("systemd cannot be asked"),
        "{listed:?}"
    );
}

#[test]
fn a_unit_without_a_server_is_reported_with_its_remedy() {
    let host = Host::with_users();
    host.sql("INSERT INTO orphans VALUES ('77', 1, 'running', 5)");
    let listed = host.run(&["server", "list"]);
    assert!(
        listed.err.contains("left4me-server@77.service") && listed.err.contains("disable 77"),
        "{listed:?}"
    );

    host.run(&["server", "show", "77"])
        .refused(3, &["no server", "left4me-server@77.service", "disable 77"]);
    host.run(&["server", "show", "78"])
        .refused(3, &["no server has the id 78"]);
}

#[test]
fn history_is_newest_first_with_cause_and_last_output() {
    let host = Host::with_users();
    host.server("Friday");
    host.sql(
        "INSERT INTO events (id, at, kind, actor, job_id, server_id, detail)
         VALUES (101, 1000, 'server.started', 'anna', 7, 1, 'it runs'),
             (102, 2000, 'server.crashed', 'outside', NULL, 1,
             'signal 11 (SEGV)' || char(27) || '[31m'),
             (103, 3000, 'job.queued', 'anna', 8, 1, 'start'),
             (104, 4000, 'server.started', 'outside', NULL, 2, 'another one');
         INSERT INTO event_journal VALUES (102, '[\"one\",\"two\"]')",
    );

    let history = host.run(&["server", "history", "Friday", "--json"]).json();
    let kinds: Vec<&str> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["server.crashed", "server.started", "server.created"]
    );

    assert_eq!(
        (&history[0]["cause"], &history[0]["job_id"]),
        (&json!("outside"), &json!(null))
    );

    assert_eq!(history[0]["journal"], json!(["one", "two"]));
    assert_eq!(
        (&history[1]["cause"], &history[1]["actor"]),
        (&json!("job 7"), &json!("anna"))
    );

    let limited = host
        .run(&["server", "history", "1", "--limit", "1", "--json"])
        .json();
    assert_eq!(limited.as_array().unwrap().len(), 1);

    let table = host.run(&["server", "history", "Friday"]).done();
    assert!(
        table.contains("crashed") && table.contains("job 7") && !table.contains('\u{1b}'),
        "{table}"
    );

    let story = host
        .run(&["server", "history", "Friday", "--journal"])
        .done();
    assert!(
        story.contains("    one\n    two\n") && !story.contains('\u{1b}'),
        "{story}"
    );

    host.run(&["server", "history", "absent"])
        .refused(3, &["absent"]);
    host.run(&["server", "history", "1", "--limit", "0"])
        .refused(2, &["--limit"]);
}

#[test]
fn a_port_is_the_requested_or_the_lowest_free_one() {
    let host = Host::with_users();
    let create = |name: &str, rest: &[&str]| {
        let first = [
            "server",
            "create",
            name,
            "--user",
            "anna",
            "--blueprint",
            "plain",
            "--port-range",
            "27010-27012",
        ];

        host.run(&[&first[..], rest].concat())
    };

    create("a", &["--port", "27011"]).done();
    create("b", &["--port", "27011"]).refused(4, &["27011", "server 1", "'a'"]);

    for outside in ["27009", "27013", "80", "0", "65535"] {
        create("b", &["--port", outside]).refused(2, &[outside, "27010-27012"]);
    }

    for bad in ["65536", "-1", "x", "", "27010.5"] {
        create("b", &[&format!("--port={bad}")]).refused(2, &["--port"]);
    }

    create("b", &[]).done();
    create("c", &[]).done();
    create("d", &[]).refused(4, &["27010-27012", "LEFT4ME_PORT_RANGE"]);

    let ports: Vec<i64> = host
        .run(&["server", "list", "--json"])
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["port"].as_i64().unwrap())
        .collect();

    assert_eq!(ports, [27011, 27010, 27012]);
    host.run(&["server", "remove", "c"]).done();
    create("d", &[]).done();
}

#[test]
fn a_name_used_by_two_users_is_ambiguous_and_an_id_is_not() {
    let host = Host::with_users();
    for user in ["anna", "bert"] {
        host.run(&[
            "server",
            "create",
            "Friday",
            "--user",
            user,
            "--blueprint",
            "plain",
        ])
        .done();
    }

    host.run(&["server", "show", "Friday"])
        .refused(2, &["1 (anna)", "2 (bert)"]);
    host.run(&["blueprint", "show", "plain"])
        .refused(2, &["1 (anna)", "2 (bert)"]);
    assert_eq!(
        host.run(&["server", "show", "2", "--json"]).json()["user"],
        json!("bert")
    );

    assert_eq!(
        host.run(&["blueprint", "show", "plain", "--user", "bert", "--json"])
            .json()["id"],
        json!(2)
    );

    host.run(&[
        "server",
        "create",
        "Friday",
        "--user",
        "anna",
        "--blueprint",
        "plain",
    ])
    .refused(4, &["Friday"]);

    for missing in ["Sunday", "99"] {
        host.run(&["server", "show", missing])
            .refused(3, &[missing]);
    }
}

#[test]
fn a_server_uses_only_blueprints_of_its_own_user() {
    let host = Host::with_users();
    host.run(&["blueprint", "create", "berts", "--user", "bert"])
        .done();
    let create = [
        "server",
        "create",
        "Friday",
        "--user",
        "anna",
        "--blueprint",
    ];

    host.run(&[&create[..], &["berts"]].concat())
        .refused(3, &["berts"]);
    host.run(&[&create[..], &["3"]].concat())
        .refused(4, &["bert"]);

    host.run(&[&create[..], &["1"]].concat()).done();
    host.run(&["server", "assign", "Friday", "--blueprint", "3"])
        .refused(4, &["bert"]);

    host.run(&["blueprint", "create", "second", "--user", "anna"])
        .done();
    host.run(&["server", "assign", "Friday", "--blueprint", "second"])
        .done();
    assert_eq!(
        host.run(&["server", "show", "1", "--json"]).json()["blueprint"],
        json!("second")
    );
}

#[test]
fn a_server_is_removed_only_after_its_delete() {
    let host = Host::with_users();
    host.server("Friday");
    let remove = || host.run(&["server", "remove", "Friday"]);
    host.sql("UPDATE servers SET desired_state = 'running'");
    remove().refused(4, &["enqueue delete"]);

    host.sql("UPDATE servers SET desired_state = 'stopped', actual_state = 'stopping'");
    remove().refused(4, &["stopping", "enqueue delete"]);

    host.sql("UPDATE servers SET actual_state = 'stopped'");
    host.sql(
        "INSERT INTO jobs (operation, requested_by, created_at, updated_at)
         VALUES ('start', 'x', 1, 1);
         INSERT INTO job_targets VALUES (1, 1);
         INSERT INTO tasks (job_id, position, kind, server_id) VALUES (1, 0, 'initialize', 1)",
    );

    remove().refused(4, &["job 1"]);
    host.sql(
        "UPDATE jobs SET state = 'failed', started_at = 2, finished_at = 3, exit_code = 1;
         UPDATE tasks SET state = 'failed', started_at = 2, finished_at = 3",
    );

    remove().refused(4, &["files", "enqueue delete"]);
    host.sql(
        "INSERT INTO jobs (operation, requested_by, created_at, updated_at, state, started_at,
             finished_at, exit_code) VALUES ('delete', 'x', 4, 4, 'succeeded', 4, 5, 0);
         INSERT INTO job_targets VALUES (2, 1);
         INSERT INTO tasks (job_id, position, kind, server_id, state, started_at, finished_at)
         VALUES (2, 0, 'purge-instance', 1, 'succeeded', 4, 5)",
    );

    std::fs::create_dir(host.root.join("instances/1")).unwrap();
    remove().refused(4, &["instances/1"]);

    std::fs::remove_dir(host.root.join("instances/1")).unwrap();
    remove().done();
    assert_eq!(host.count("SELECT count(*) FROM jobs"), 2, "history stays");

    host.server("Friday");
    assert_eq!(
        host.run(&["server", "show", "Friday", "--json"]).json()["id"],
        json!(2),
        "an id is never given twice"
    );
}

#[test]
fn the_default_owner_is_the_caller_or_the_only_user() {
    let host = Host::new();
    host.run(&["blueprint", "create", "x"])
        .refused(2, &["left4me user add"]);

    let add = |name: &str| {
        host.run_with_input(
            &["user", "add", name, "--password-stdin"],
            &format!("{PASSWORD}\n"),
        )
        .done()
    };

    add("anna");
    host.run(&["blueprint", "create", "first"]).done();
    add("bert");
    host.run(&["blueprint", "create", "second"])
        .refused(2, &["--user"]);
    host.run(&["blueprint", "create", "second", "--user", "absent"])
        .refused(3, &["absent"]);

    let me = left4me::base::caller::caller();
    if me.parse::<left4me::base::names::UserName>().is_ok() {
        add(&me);
        assert!(
            host.run(&["blueprint", "create", "second"])
                .done()
                .contains(&me)
        );
    }
}

#[test]
fn bad_names_and_numbers_are_usage_errors() {
    let host = Host::new();
    for bad in [
        "",
        "..",
        "../x",
        "a/../b",
        "a\nb",
        "-rf",
        "\u{1b}[31m",
        " ",
        &"x".repeat(10_240),
    ] {
        for command in [
            &["user", "add", "--password-stdin", "--", bad][..],
            &["overlay", "add", "--", bad],
            &["overlay", "add", "x", &format!("--path={bad}")],
            &["blueprint", "create", "--", bad],
            &["server", "create", "--blueprint", "x", "--", bad],
            &["server", "show", "--", bad],
            &["token", "create", "anna", &format!("--name={bad}")],
        ] {
            let printed = host.run_with_input(command, &format!("{PASSWORD}\n"));
            assert_eq!((printed.code, printed.out.as_str()), (2, ""), "{command:?}");
        }
    }

    for bad in ["/etc", "a:b", "a,b", "a//b", "a/", "./a"] {
        host.run(&["overlay", "add", "x", "--path", bad])
            .refused(2, &["--path"]);
    }

    host.run(&["server", "create", "42", "--blueprint", "x"])
        .refused(2, &["only digits"]);
    for bad in ["0", "-1", "1x", "99999999999999999999"] {
        host.run(&["token", "revoke", "--", bad]).refused(2, &[]);
    }

    assert!(
        !host.root.join("db/left4me.db").exists(),
        "nothing was opened for a bad call"
    );
}

#[test]
fn every_change_leaves_an_event_with_who_did_it() {
    let host = Host::with_users();
    host.run(&["overlay", "add", "one"]).done();
    host.server("Friday");
    host.run(&["server", "assign", "Friday", "--blueprint", "plain"])
        .done();
    host.run(&["server", "remove", "Friday"]).done();
    host.run(&["blueprint", "edit", "1", "--overlay", "one"])
        .done();
    host.run(&["blueprint", "delete", "1"]).done();
    host.run(&["overlay", "remove", "one"]).done();

    host.run(&["token", "create", "anna", "--name", "x"]).done();
    host.run(&["token", "revoke", "1"]).done();
    host.run(&["user", "disable", "anna"]).done();
    host.run(&["user", "enable", "anna"]).done();

    let db = host.database();
    let mut statement = db
        .prepare("SELECT kind FROM events WHERE actor = ?1 ORDER BY id")
        .unwrap();
    let kinds: Vec<String> = statement
        .query_map([left4me::base::caller::caller()], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();

    assert_eq!(
        kinds[4..],
        [
            "overlay.added",
            "server.created",
            "server.assigned",
            "server.removed",
            "blueprint.edited",
            "blueprint.deleted",
            "overlay.removed",
            "token.created",
            "token.revoked",
            "user.disabled",
            "user.enabled"
        ]
    );
}

#[test]
fn an_unusable_database_is_exit_69_and_unchanged() {
    let host = Host::new();
    host.run(&["server", "list", "--db", "/nonexistent/left4me.db"])
        .refused(69, &["/nonexistent/left4me.db"]);

    let garbage = host.root.write(
        "garbage.db",
        "this is no database, and it is longer than a header of a hundred bytes: x x x x x x x x x",
    );

    host.run(&["server", "list", "--db", garbage.to_str().unwrap()])
        .refused(69, &["garbage.db"]);
    host.run(&["migrate"]).done();
    host.sql("PRAGMA user_version = 99");
    host.run(&["server", "list"]).refused(69, &["99", "newer"]);
    assert_eq!(host.count("PRAGMA user_version"), 99);
}

#[test]
fn a_backup_is_a_checked_copy_that_overwrites_nothing() {
    let host = Host::with_users();
    // A concurrent writer has not committed.
    let writer = host.database();
    writer
        .execute_batch("BEGIN IMMEDIATE; UPDATE users SET name = 'carl' WHERE id = 1")
        .unwrap();

    let file = host.root.join("saved.db");
    host.run(&["backup", file.to_str().unwrap()]).done();
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(
        file.metadata().unwrap().permissions().mode() & 0o7777,
        0o640
    );

    let copy = Connection::open(&file).unwrap();
    assert_eq!(
        copy.query_row("SELECT name FROM users WHERE id = 1", [], |row| row
            .get::<_, String>(0))
            .unwrap(),
        "anna"
    );

    host.run(&["backup", file.to_str().unwrap()])
        .refused(4, &["saved.db"]);
    host.run(&["backup", "/nonexistent/x.db"])
        .refused(1, &["/nonexistent"]);
    host.run(&["backup", "/nonexistent/x.db", "--db", "/nonexistent/y.db"])
        .refused(69, &["y.db"]);

    let here: Vec<_> = names(&host.root.path())
        .into_iter()
        .filter(|name| name.contains("saved"))
        .collect();
    assert_eq!(here, ["saved.db"], "one file, and nothing beside it");
}

#[test]
fn keep_removes_only_old_numbered_backups() {
    let host = Host::with_users();
    let backups = host.root.join("backups");
    for _ in 0..2 {
        host.run(&["backup"]).done();
    }

    host.root.write("backups/left4me-20010101-000000.db", "old");
    host.root.write("backups/left4me-precious.db", "mine");
    assert_eq!(names(&backups).len(), 4);

    let printed = host.run(&["backup", "--keep", "2"]).done();
    assert_eq!(printed.matches(" removed").count(), 2, "{printed}");

    let left = names(&backups);
    assert!(
        left.len() == 3 && left.contains(&"left4me-precious.db".to_owned()),
        "{left:?}"
    );

    for bad in [
        &["backup", "--keep", "0"][..],
        &["backup", "x.db", "--keep", "1"],
    ] {
        host.run(bad).refused(2, &["--keep"]);
    }
}

#[test]
fn local_time_is_in_the_zone_of_tz() {
    let host = Host::with_users();
    // Fourteen hours ahead and ten behind: a day apart.
    let dates = ["Pacific/Kiritimati", "Pacific/Honolulu"].map(|zone| {
        let output = Command::new(LEFT4ME)
            .arg("backup")
            .envs(host.root.envs())
            .env("TZ", zone)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );

        let printed = String::from_utf8(output.stdout).unwrap();
        let (_, stamp) = printed.rsplit_once("/left4me-").unwrap();
        stamp.split('-').next().unwrap().parse::<u32>().unwrap()
    });

    assert!(dates[0] > dates[1], "{dates:?}");
}

/// What `left4me history` and `left4me-job events` print in a zone.
fn shown_in(host: &Host, zone: &str, program: &str, args: &[&str]) -> Vec<String> {
    let output = Command::new(program)
        .args(args)
        .envs(host.root.envs())
        .env("TZ", zone)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );

    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_local_time_names_its_zone() {
    let host = Host::with_users();
    // 2026-11-29 00:13:43 UTC.
    host.sql(
        "INSERT INTO jobs (operation, state, requested_by, created_at, updated_at)
         VALUES ('install', 'queued', 'x', 1795911223000, 1795911223000);
         UPDATE queue SET paused_at = 1795911223000, paused_by = 'x' WHERE id = 1",
    );

    for (zone, name, time) in [
        ("Europe/Berlin", "CET", "01:13:43"),
        (":Europe/Berlin", "CET", "01:13:43"),
        ("CET-1CEST", "CET", "01:13:43"),
        ("<+0330>-3:30", "+0330", "03:43:43"),
        ("Asia/Kathmandu", "+0545", "05:58:43"),
        ("", "UTC", "00:13:43"),
        // What cannot be read is UTC, and is shown under that name, not under the one that was
        // meant.
        ("Mars/Olympus", "UTC", "00:13:43"),
        (":/etc/passwd", "UTC", "00:13:43"),
    ] {
        let list = shown_in(&host, zone, JOB, &["list"]);
        assert!(
            list[0].contains(&format!("QUEUED ({name})")),
            "{zone}: {list:?}"
        );

        assert!(
            list[1].contains(time) && !list[1].contains(name),
            "{zone}: {list:?}"
        );

        let show = shown_in(&host, zone, JOB, &["show", "1"]);
        let queued = show
            .iter()
            .find(|line| line.starts_with("queued "))
            .unwrap();
        assert!(
            queued.ends_with(&format!("{time} {name}")),
            "{zone}: {queued}"
        );
    }

    let list = shown_in(&host, "Mars/Olympus", JOB, &["list", "--json"]);
    assert!(
        list.concat().contains("1795911223000"),
        "JSON has no zone: {list:?}"
    );
}

/// 2026-10-25: at 03:00 CEST it is 02:00 CET.
#[test]
fn in_a_repeated_hour_times_name_their_zone_and_keep_their_order() {
    let host = Host::with_users();
    let twice = [1_792_888_200_000_i64, 1_792_891_800_000];
    for at in twice {
        host.sql(&format!(
            "INSERT INTO events (at, kind, actor) VALUES ({at}, 'queue.paused', 'x')"
        ));
    }

    let events = shown_in(&host, "Europe/Berlin", JOB, &["events", "--limit", "2"]);

    assert!(events[0].starts_with("AT "), "{events:?}");
    assert!(
        events[1].starts_with("2026-10-25 02:30:00 CEST  "),
        "{events:?}"
    );

    assert!(
        events[2].starts_with("2026-10-25 02:30:00 CET "),
        "{events:?}"
    );
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_doctor_changes_nothing_and_gives_advice() {
    let host = Host::new();
    let printed = host.run(&["doctor"]);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(
        printed.out.contains("left4me migrate")
            && printed.out.contains("  -> ")
            && !printed.out.contains('\u{1b}'),
        "{printed:?}"
    );

    assert!(!host.root.join("db/left4me.db").exists());

    host.run(&["migrate"]).done();
    host.sql("PRAGMA user_version = 0");
    let findings: Value = serde_json::from_str(&host.run(&["doctor", "--json"]).out).unwrap();
    let schema = findings
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["check"] == "database schema")
        .unwrap();

    assert_eq!(
        (
            &schema["severity"],
            schema["found"].as_str().unwrap().starts_with('0')
        ),
        (&json!("warn"), true),
        "{schema}"
    );

    assert_eq!(host.count("PRAGMA user_version"), 0, "it does not migrate");

    let failed: Vec<_> = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["severity"] == "fail")
        .collect();
    assert!(
        failed.iter().all(|finding| finding["advice"].is_string()),
        "{failed:?}"
    );
}

#[test]
fn every_command_family_has_help_with_examples() {
    let host = Host::new();
    for family in [
        &["user", "add"][..],
        &["token", "create"],
        &["overlay", "add"],
        &["blueprint", "create"],
        &["server", "create"],
    ] {
        let help = host.run(&[family, &["--help"]].concat()).done();
        assert!(help.contains("Examples:"), "{family:?}");
    }

    for verb in ["backup", "prune", "doctor"] {
        assert!(
            host.run(&[verb, "--help"]).done().contains("Examples:"),
            "{verb}"
        );
    }
}
