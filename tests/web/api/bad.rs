//! Bad requests are refused with one line that names the cause, and change nothing. None is an
//! internal error.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::{Site, refused};

#[test]
fn a_parameter_that_is_not_good_is_named() {
    let site = Site::new();
    for (path, word) in [
        ("/api/jobs?limit=0", "limit"),
        ("/api/jobs?limit=501", "limit"),
        ("/api/jobs?limit=", "limit"),
        ("/api/jobs?limit=1&limit=2", "limit"),
        ("/api/jobs?limit", "limit"),
        ("/api/jobs?offset=-1", "offset"),
        ("/api/jobs?offset=4294967296", "offset"),
        ("/api/jobs?offset=x%0Ay%00", "offset"),
        ("/api/jobs?state=quiet", "state"),
        ("/api/jobs?state=queued&state=quiet", "state"),
        ("/api/jobs?state=queued'--", "state"),
        ("/api/jobs?operation=rm", "operation"),
        ("/api/jobs?server=Friday", "server"),
        ("/api/jobs?page=2", "page"),
        ("/api/jobs?state%5B%5D=queued", "state[]"),
        ("/api/jobs/1?x=1", "x"),
        ("/api/servers?actual_state=dead", "actual_state"),
        ("/api/servers?state=running", "state"),
        ("/api/cancellations?job=x", "job"),
        ("/api/cancellations?state=queued", "state"),
        ("/api/openapi.json?x", "x"),
    ] {
        refused(&site.ask(&site.boss, "GET", path, None), 422, &[word]);
    }

    // A user's name is free text: an unknown one has no servers, and it has no meaning in SQL.
    for path in [
        "/api/servers?user=%F0%9F%92%A9",
        "/api/servers?user=a'b",
        "/api/servers?user='%20OR%201--",
    ] {
        let answer = site.ask(&site.boss, "GET", path, None);
        assert_eq!(
            (answer.status, answer.json()["total"].as_i64()),
            (200, Some(0)),
            "{path}: {}",
            answer.body
        );
    }

    let long = format!("/api/jobs?operation={}", "%0a%27".repeat(3000));
    refused(
        &site.ask(&site.boss, "GET", &long, None),
        422,
        &["operation"],
    );
}

#[test]
fn a_body_that_is_not_good_is_refused_and_changes_nothing() {
    let site = Site::new();
    for (body, word) in [
        (json!({}), "operation"),
        (json!({"operation": null}), "operation"),
        (json!({"operation": "fly"}), "operation"),
        (json!({"operation": ["stop"]}), "operation"),
        (json!({"operation": "stop"}), "servers"),
        (json!({"operation": "stop", "servers": []}), "servers"),
        (json!({"operation": "stop", "servers": 1}), "servers"),
        (json!({"operation": "stop", "servers": [1.5]}), "servers[0]"),
        (
            json!({"operation": "stop", "servers": [1, -1]}),
            "servers[1]",
        ),
        (json!({"operation": "stop", "servers": [0]}), "servers[0]"),
        (
            json!({"operation": "stop", "servers": [null]}),
            "servers[0]",
        ),
        (
            json!({"operation": "stop", "servers": ["../x"]}),
            "servers[0]",
        ),
        (
            json!({"operation": "stop", "servers": [1], "all": true}),
            "all",
        ),
        (
            json!({"operation": "stop", "servers": vec![1; 1001]}),
            "servers",
        ),
        (json!({"operation": "stop", "all": "yes"}), "all"),
        (
            json!({"operation": "stop", "all": true, "unique": 1}),
            "unique",
        ),
        (
            json!({"operation": "stop", "all": true, "force": true}),
            "force",
        ),
        (json!({"operation": "install", "all": true}), "install"),
        (json!({"operation": "update", "servers": [1]}), "update"),
        (json!({"operation": "check", "all": true}), "check"),
        (
            json!({"operation": "install", "validate": true}),
            "validate",
        ),
        (json!({"operation": "update", "validate": 1}), "validate"),
        (json!({"operation": "rollback", "servers": [1]}), "rollback"),
        (json!({"operation": "install", "rolling": 2}), "rolling"),
        (json!({"operation": "update", "rolling": 0}), "rolling"),
        (json!({"operation": "update", "build": 5}), "build"),
        (json!({"operation": "rollback", "build": "newest"}), "build"),
        (
            json!({"operation": "update", "max_failures": 0}),
            "max_failures",
        ),
        (
            json!({"operation": "restart", "servers": [1], "no_restart": true}),
            "restarts",
        ),
        (json!(["stop", [1]]), "object"),
        (json!("stop"), "object"),
    ] {
        refused(
            &site.ask(&site.boss, "POST", "/api/jobs", Some(&body)),
            422,
            &[word],
        );
    }

    let bearer = format!("Bearer {}", site.boss);
    let good = r#"{"operation": "stop", "all": true}"#;

    let send = |kind: Option<&str>, body: &str| {
        let mut headers = vec![("Authorization", bearer.as_str())];
        headers.extend(kind.map(|kind| ("Content-Type", kind)));
        site.web.client().send("POST", "/api/jobs", &headers, body)
    };

    let json = Some("application/json");
    for bad in [
        "{",
        "{'operation': 'stop'}",
        r#"{"operation": "stop",}"#,
        "NaN",
        "\u{feff}{}",
        &"[".repeat(5000),
        r#"{"operation": "\ud800"}"#,
    ] {
        refused(&send(json, bad), 422, &[]);
    }

    refused(&send(json, ""), 422, &["operation"]);

    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=x"),
        Some("application/jsonx"),
    ] {
        refused(&send(kind, good), 415, &["application/json"]);
    }

    let long = format!(
        r#"{{"operation": "stop", "servers": ["{}"]}}"#,
        "x".repeat(64 * 1024)
    );

    refused(&send(json, &long), 413, &["65536"]);
    assert_eq!(site.count("jobs"), 0);
    for kind in [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/merge-patch+json",
    ] {
        assert_eq!(send(Some(kind), good).status, 201, "{kind}");
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3_i64..9).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "start|stop|install|Friday|1|queued|\\PC{0,80}".prop_map(Value::from),
    ];

    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("\\PC{0,8}", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn body() -> impl Strategy<Value = String> {
    let fields = prop::sample::select(vec![
        "operation",
        "servers",
        "all",
        "unique",
        "reason",
        "force",
        "task",
        "cascade",
        "x",
    ]);

    let object = prop::collection::vec((fields, anything()), 0..5).prop_map(|pairs| {
        Value::Object(
            pairs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    });

    prop_oneof![
        4 => object.prop_map(|value| value.to_string()),
        1 => anything().prop_map(|value| value.to_string()),
        1 => "\\PC{0,200}",
        1 => any::<String>(),
    ]
}

#[test]
fn no_body_and_no_query_is_our_own_fault() {
    let site = Site::new();
    site.enqueue(&site.anna, &json!({"operation": "restart", "all": true}));

    let bearer = format!("Bearer {}", site.boss);
    let routes = prop::sample::select(vec![
        "/api/jobs",
        "/api/jobs/1/cancel",
        "/api/tasks/1/cancel",
    ]);

    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };

    let posts = TestRunner::new(config.clone()).run(&(routes, body()), |(path, body)| {
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];

        let answer = site.web.client().send("POST", path, &headers, &body);

        prop_assert!(
            [200, 201, 400, 404, 422].contains(&answer.status),
            "{path} {body}: {} {}",
            answer.status,
            answer.body
        );

        prop_assert!(
            answer.status < 300 || answer.json()["message"].is_string(),
            "{}",
            answer.body
        );

        Ok(())
    });

    posts.unwrap();

    let lists = prop::sample::select(vec!["/api/jobs", "/api/servers", "/api/cancellations"]);
    let name = prop_oneof![
        "state|actual_state|operation|server|user|job|limit|offset",
        any::<String>()
    ];

    let query = prop::collection::vec(
        (
            name,
            prop_oneof!["queued|stop|1|7|anna|running", any::<String>()],
        ),
        0..4,
    );

    let gets = TestRunner::new(config).run(&(lists, query), |(path, query)| {
        let path = format!("{path}?{}", serde_urlencoded::to_string(&query).unwrap());
        let answer = site.ask(&site.anna, "GET", &path, None);
        prop_assert!(
            [200, 422].contains(&answer.status),
            "{path}: {} {}",
            answer.status,
            answer.body
        );

        Ok(())
    });

    gets.unwrap();
}
