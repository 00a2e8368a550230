//! The REST API of the real left4me-web on a real database: what each user sees, what it accepts,
//! and its errors.

mod bad;
mod big;
mod cancel;
mod docs;
mod fuzz;
mod schedules;
mod waiting;
use left4me::base::names::{BlueprintName, UserName};
use left4me::db::users::Role;
use left4me::db::{blueprint_change, blueprints, servers, tokens, users};
use serde_json::{Value, json};

use crate::support::host::{PORTS, TestHost, password_hash};
use crate::support::http::{Answer, Web};
use crate::support::{JOB, LEFT4ME};

/// anna has servers 1 Friday and 2 Saturday, bert has 3 Sunday; boss is an admin. Each has a token.
struct Site {
    web: Web,
    host: TestHost,
    anna: String,
    bert: String,
    boss: String,
}

impl Site {
    fn new() -> Self {
        let host = TestHost::new();
        let [anna, bert, boss] = host.db().write(people).unwrap();
        Self {
            web: Web::start(&host, &[]),
            host,
            anna,
            bert,
            boss,
        }
    }

    /// A request with a token, and with a body if there is one.
    fn ask(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("Authorization", bearer.as_str())];
        if body.is_some() {
            headers.push(("Content-Type", "application/json"));
        }
        self.web.client().send(
            method,
            path,
            &headers,
            &body.map(Value::to_string).unwrap_or_default(),
        )
    }

    #[track_caller]
    fn get(&self, token: &str, path: &str) -> Value {
        let answer = self.ask(token, "GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json()
    }

    /// Enqueues a job and returns its id.
    #[track_caller]
    fn enqueue(&self, token: &str, body: &Value) -> i64 {
        let answer = self.ask(token, "POST", "/api/jobs", Some(body));
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["job_id"].as_i64().unwrap()
    }

    /// The output of a command line program with --json.
    #[track_caller]
    fn json_output(&self, program: &str, args: &[&str]) -> Value {
        let output = self.host.command(program, args).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(&out).unwrap_or_else(|error| {
            panic!("{error}: {out}{}", String::from_utf8_lossy(&output.stderr))
        })
    }

    fn count(&self, what: &str) -> i64 {
        let db = self.host.db();
        db.connection()
            .query_row(&format!("SELECT count(*) FROM {what}"), [], |row| {
                row.get(0)
            })
            .unwrap()
    }
}

fn people(tx: &rusqlite::Transaction<'_>) -> left4me::base::Result<[String; 3]> {
    let hash = password_hash();
    let mut port = 27000;

    let mut texts = Vec::new();
    for (name, role, theirs) in [
        ("anna", Role::User, &["Friday", "Saturday"][..]),
        ("bert", Role::User, &["Sunday"]),
        ("boss", Role::Admin, &[]),
    ] {
        let user = users::create(tx, 1, "test", &name.parse::<UserName>()?, role, hash)?;
        let plain: BlueprintName = "plain".parse()?;
        let blueprint = blueprint_change::create(
            tx,
            1,
            "test",
            user.id,
            &plain,
            &blueprints::Content::default(),
        )?
        .id;

        for name in theirs {
            let name = name.parse()?;
            let new = servers::NewServer {
                user: user.id,
                name: &name,
                blueprint,
                port: Some(port),
            };

            servers::create(tx, 1, "test", &new, PORTS)?;

            port += 1;
        }

        texts.push(tokens::create(tx, 1, "test", user.id, &"tests".parse()?)?.1);
    }

    Ok(texts.try_into().expect("three"))
}

/// The response is an API error whose message contains all of `words`.
#[track_caller]
fn refused(answer: &Answer, status: u16, words: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{}",
        answer.body
    );

    let body = answer.json();
    let message = body["message"]
        .as_str()
        .unwrap_or_else(|| panic!("no message: {body}"));

    assert!(
        body["error"].as_str().is_some_and(|word| !word.is_empty()),
        "{body}"
    );

    assert!(
        !message.is_empty() && !message.contains('\n') && message.chars().count() <= 400,
        "{message}"
    );

    for word in words {
        assert!(message.contains(word), "'{word}' is missing: {message}");
    }
}

fn ids(list: &Value) -> Vec<i64> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_i64().unwrap())
        .collect()
}

#[test]
fn it_tells_the_same_as_the_command_line() {
    let site = Site::new();
    let first = site.enqueue(
        &site.anna,
        &json!({"operation": "restart", "servers": ["Friday", 2]}),
    );

    site.enqueue(&site.boss, &json!({"operation": "update"}));

    let answer = site.ask(
        &site.anna,
        "POST",
        &format!("/api/jobs/{first}/cancel"),
        Some(&json!({"reason": "no"})),
    );

    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        answer.json(),
        site.json_output(JOB, &["cancel-status", "1", "--json"])
    );

    assert_eq!(
        site.get(&site.anna, "/api/jobs/1/cancellation-status"),
        answer.json()
    );

    // The command line adds fields that have their own routes in the API.
    let mut shown = site.json_output(JOB, &["show", "1", "--json"]);

    shown
        .as_object_mut()
        .unwrap()
        .retain(|name, _| name != "runners" && name != "cancellations");
    assert_eq!(site.get(&site.anna, "/api/jobs/1"), shown);
    assert_eq!(
        site.get(&site.boss, "/api/jobs")["items"],
        site.json_output(JOB, &["list", "--json"])
    );

    assert_eq!(
        site.get(&site.boss, "/api/cancellations")["items"],
        site.json_output(JOB, &["cancellations", "--json"])
    );

    let mut shown = site.json_output(LEFT4ME, &["server", "show", "2", "--json"]);
    let stale = shown.as_object_mut().unwrap().remove("stale").unwrap();
    assert_eq!(site.get(&site.anna, "/api/servers/2"), shown);
    assert_eq!(site.get(&site.anna, "/api/servers/2/stale"), stale);

    assert_eq!(
        site.get(&site.boss, "/api/servers")["items"],
        site.json_output(LEFT4ME, &["server", "list", "--json"])
    );
}

#[test]
fn a_list_comes_in_parts_and_can_be_filtered() {
    let site = Site::new();
    for operation in ["start", "stop", "start", "reset", "start"] {
        site.enqueue(&site.anna, &json!({"operation": operation, "servers": [1]}));
    }

    site.enqueue(&site.anna, &json!({"operation": "stop", "all": true}));
    assert_eq!(
        site.ask(&site.anna, "POST", "/api/jobs/2/cancel", None)
            .status,
        200
    );

    let all = site.get(&site.anna, "/api/jobs");
    assert_eq!(
        (ids(&all), &all["total"], &all["limit"], &all["offset"]),
        (vec![6, 5, 4, 3, 2, 1], &json!(6), &json!(50), &json!(0))
    );

    let part = site.get(&site.anna, "/api/jobs?limit=2&offset=3");
    assert_eq!(
        (ids(&part), &part["total"], &part["limit"], &part["offset"]),
        (vec![3, 2], &json!(6), &json!(2), &json!(3))
    );

    assert_eq!(
        part["items"][0]["queue_position"], 2,
        "job 2 does not wait any more"
    );

    for (query, wanted) in [
        ("offset=4294967295", vec![]),
        ("limit=500&offset=5", vec![1]),
        ("state=cancelled", vec![2]),
        ("state=cancelled&state=queued&operation=stop", vec![6, 2]),
        ("state=running&state=cancelling", vec![]),
        ("operation=start", vec![5, 3, 1]),
        ("operation=start&limit=1", vec![5]),
        ("server=2", vec![6]),
        ("server=3", vec![]),
    ] {
        assert_eq!(
            ids(&site.get(&site.anna, &format!("/api/jobs?{query}"))),
            wanted,
            "{query}"
        );
    }

    assert_eq!(
        site.get(&site.anna, "/api/jobs?operation=start&limit=1")["total"],
        3
    );

    assert_eq!(
        ids(&site.get(&site.boss, "/api/servers?user=anna&limit=1&offset=1")),
        [2]
    );

    assert_eq!(
        ids(&site.get(
            &site.boss,
            "/api/servers?actual_state=running&actual_state=unknown"
        )),
        [1, 2, 3]
    );

    assert_eq!(
        ids(&site.get(&site.boss, "/api/servers?actual_state=running")),
        [0; 0]
    );

    assert_eq!(
        ids(&site.get(
            &site.boss,
            "/api/cancellations?job=2&state=completed&state=failed"
        )),
        [1]
    );

    assert_eq!(
        ids(&site.get(&site.boss, "/api/cancellations?state=requested")),
        [0; 0]
    );

    assert_eq!(
        ids(&site.get(&site.boss, "/api/cancellations?job=1")),
        [0; 0]
    );
}

#[test]
fn what_is_anothers_does_not_exist() {
    let site = Site::new();
    site.enqueue(&site.anna, &json!({"operation": "start", "servers": [1]}));
    site.enqueue(&site.boss, &json!({"operation": "stop", "all": true}));
    assert_eq!(
        site.ask(&site.anna, "POST", "/api/jobs/1/cancel", None)
            .status,
        200
    );

    let task = site.get(&site.boss, "/api/jobs/2")["tasks"][0]["id"]
        .as_i64()
        .unwrap();

    for (path, missing) in [
        ("/api/jobs/1".to_owned(), "/api/jobs/99".to_owned()),
        // Not all of its servers are bert's.
        ("/api/jobs/2".to_owned(), "/api/jobs/99".to_owned()),
        (
            "/api/jobs/1/cancellation-status".to_owned(),
            "/api/jobs/99/cancellation-status".to_owned(),
        ),
        ("/api/servers/1".to_owned(), "/api/servers/99".to_owned()),
    ] {
        let (theirs, none) = (
            site.ask(&site.bert, "GET", &path, None),
            site.ask(&site.bert, "GET", &missing, None),
        );

        refused(&theirs, 404, &["there is no"]);
        let number = path.split('/').nth(3).unwrap();
        assert_eq!(
            theirs.body.replace(&format!(" {number}"), " 99"),
            none.body,
            "it does not reveal that it exists"
        );

        assert_eq!(
            site.ask(&site.boss, "GET", &path, None).status,
            if path.contains("/2/") { 404 } else { 200 }
        );
    }

    for path in [
        "/api/jobs/1/cancel".to_owned(),
        "/api/jobs/2/cancel".to_owned(),
        format!("/api/tasks/{task}/cancel"),
    ] {
        refused(
            &site.ask(&site.bert, "POST", &path, None),
            404,
            &["there is no"],
        );
    }

    for servers in [
        json!([1]),
        json!(["Friday"]),
        json!([3, "1"]),
        json!([99]),
        json!(["Unowned"]),
    ] {
        let answer = site.ask(
            &site.bert,
            "POST",
            "/api/jobs",
            Some(&json!({"operation": "stop", "servers": servers})),
        );

        refused(&answer, 404, &["there is no server"]);
    }

    for list in ["/api/jobs", "/api/cancellations", "/api/servers?user=anna"] {
        let list = site.get(&site.bert, list);
        assert_eq!((ids(&list), &list["total"]), (vec![], &json!(0)));
    }

    assert_eq!(ids(&site.get(&site.bert, "/api/servers")), [3]);
    assert_eq!(site.count("jobs"), 2);
    assert_eq!(site.count("cancellations"), 1);

    // All of the user's servers, and no others.
    let all = site.enqueue(&site.bert, &json!({"operation": "stop", "all": true}));
    assert_eq!(
        site.get(&site.bert, &format!("/api/jobs/{all}"))["servers"],
        json!([3])
    );

    let all = site.enqueue(&site.boss, &json!({"operation": "stop", "all": true}));
    assert_eq!(
        site.get(&site.boss, &format!("/api/jobs/{all}"))["servers"],
        json!([1, 2, 3])
    );

    for operation in ["install", "update", "check"] {
        let body = json!({"operation": operation});
        refused(
            &site.ask(&site.anna, "POST", "/api/jobs", Some(&body)),
            403,
            &["admin", operation],
        );

        site.enqueue(&site.boss, &body);
    }
}

#[test]
fn the_same_key_of_the_same_user_is_the_same_job() {
    let site = Site::new();
    let body = json!({"operation": "stop", "all": true}).to_string();
    let ask = |token: &str, key: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", key),
        ];

        site.web.client().send("POST", "/api/jobs", &headers, &body)
    };

    let (first, again, bert) = (
        ask(&site.anna, "k-1"),
        ask(&site.anna, "k-1"),
        ask(&site.bert, "k-1"),
    );

    assert_eq!((first.status, again.status, bert.status), (201, 200, 201));
    assert_eq!(
        first.json(),
        json!({"job_id": 1, "state": "queued", "queue_position": 1})
    );

    assert_eq!(
        (
            first.body,
            first
                .headers
                .iter()
                .any(|pair| *pair == ("location".into(), "/api/jobs/1".into()))
        ),
        (again.body.clone(), true)
    );

    assert_eq!(again.location(), "/api/jobs/1");
    assert_eq!(bert.json()["job_id"], 2);
    for bad in ["", "a key", "ä", &"k".repeat(201)] {
        refused(&ask(&site.anna, bad), 422, &["Idempotency-Key"]);
    }

    let unique = json!({"operation": "stop", "servers": [2, "Friday", 1], "unique": true});
    let twin = site.ask(&site.anna, "POST", "/api/jobs", Some(&unique));
    assert_eq!((twin.status, &twin.json()["job_id"]), (200, &json!(1)));
    assert_eq!(site.count("jobs"), 2);
}

#[test]
fn a_token_is_good_until_it_is_revoked_or_its_user_disabled() {
    let site = Site::new();
    let client = || site.web.client();
    refused(&client().get("/api/jobs"), 401, &["token"]);
    assert_eq!(
        client().get("/api/jobs").header("www-authenticate"),
        Some("Bearer")
    );

    let unknown = format!("l4m_{}", "0".repeat(64));
    for bad in ["", "x", "l4m_", unknown.as_str()] {
        let answer = site.ask(bad, "GET", "/api/jobs", None);
        refused(&answer, 401, &["token"]);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        refused(
            &site.ask(
                bad,
                "POST",
                "/api/jobs",
                Some(&json!({"operation": "stop", "all": true})),
            ),
            401,
            &["token"],
        );
    }

    site.get(&site.anna, "/api/jobs");

    site.host.left4me(&["token", "revoke", "1"]).done();
    refused(
        &site.ask(&site.anna, "GET", "/api/jobs", None),
        401,
        &["revoked"],
    );

    site.get(&site.bert, "/api/jobs");

    site.host.left4me(&["user", "disable", "bert"]).done();
    refused(
        &site.ask(&site.bert, "GET", "/api/jobs", None),
        401,
        &["disabled"],
    );

    let last = site.host.db();
    let used: Option<i64> = last
        .connection()
        .query_row("SELECT last_used_at FROM tokens WHERE id = 2", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(used.is_some(), "that it was used is written down");
    assert_eq!(site.count("jobs"), 0);
}

#[test]
fn a_session_needs_the_header_that_stands_for_a_forms_token() {
    use sha2::{Digest as _, Sha256};

    let site = Site::new();
    let mut client = site.web.signed_in("anna");
    assert_eq!(ids(&client.get("/api/servers").json()), [1, 2]);

    let session = client.cookies["left4me"].clone();
    let hash = Sha256::digest(format!("left4me form token {session}"));
    let csrf: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let json = ("Content-Type", "application/json");
    let body = r#"{"operation": "stop", "servers": [1]}"#;

    let (ours, foreign) = (
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Site", "cross-site"),
    );

    for headers in [
        vec![json, ours],
        vec![json, ours, ("X-CSRF-Token", "")],
        vec![
            json,
            ours,
            ("X-CSRF-Token", "0123456789abcdef0123456789abcdef"),
        ],
        vec![json, ("X-CSRF-Token", &csrf)],
        vec![json, foreign, ("X-CSRF-Token", &csrf)],
        vec![
            json,
            ("Origin", "http://evil.example"),
            ("X-CSRF-Token", &csrf),
        ],
    ] {
        refused(&client.send("POST", "/api/jobs", &headers, body), 403, &[]);
    }

    assert_eq!(site.count("jobs"), 0);

    let answer = client.send(
        "POST",
        "/api/jobs",
        &[json, ours, ("X-CSRF-Token", &csrf)],
        body,
    );

    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(
        site.get(&site.anna, "/api/jobs/1")["requested_by"],
        "web:anna"
    );
}

#[test]
fn health_is_the_databases_and_tells_nothing_else() {
    let site = Site::new();
    let answer = site.web.client().get("/health");
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"status": "ok"}))
    );

    // A new process, so that no part of the file is cached: it serves, but has not read anything
    // yet.
    let web = Web::start(&site.host, &[]);

    assert_eq!(web.client().get("/login").status, 200);
    for name in ["db/left4me.db", "db/left4me.db-wal"] {
        std::fs::write(
            site.host.root.join(name),
            "this is no database".repeat(1000),
        )
        .unwrap();
    }

    let answer = web.client().get("/health");
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(
        answer.json(),
        json!({"error": "service_unavailable", "message": "the database does not answer"})
    );
}

#[test]
fn a_missing_route_is_an_error_in_json() {
    let site = Site::new();
    for path in [
        "/api/",
        "/api/nothing",
        "/api/jobs/",
        "/api/jobs/1/nothing",
        "/api/tasks/1",
    ] {
        refused(&site.ask(&site.boss, "GET", path, None), 404, &[]);
    }

    for path in [
        "/api/jobs/x",
        "/api/jobs/0",
        "/api/jobs/-1",
        "/api/jobs/%FF",
        "/api/jobs/9999999999999999999",
        "/api/servers/Friday",
        "/api/jobs/1%0A",
    ] {
        refused(&site.ask(&site.boss, "GET", path, None), 404, &[]);
    }

    for (method, path) in [
        ("DELETE", "/api/jobs"),
        ("PUT", "/api/jobs/1"),
        ("GET", "/api/jobs/1/cancel"),
        ("POST", "/api/servers"),
    ] {
        let answer = site.ask(&site.boss, method, path, None);
        refused(&answer, 405, &[method]);
        assert!(answer.header("allow").is_some(), "{method} {path}");
    }

    let host = site
        .web
        .client()
        .send("GET", "/api/jobs", &[("Host", "evil.example")], "");
    refused(&host, 421, &["LEFT4ME_WEB_ORIGIN"]);
}
