//! Schedules over the API.

use serde_json::{Value, json};

use super::{LEFT4ME, Site, ids, refused};

const NIGHTLY: &str = "*-*-* 05:00 Europe/Berlin";

#[test]
fn a_schedule_is_added_shown_paused_resumed_and_removed() {
    let site = Site::new();
    let body = json!({"operation": "restart", "servers": ["Saturday", 1], "on": NIGHTLY,
        "persistent": true, "when_empty": true, "until": "06:00", "then": "go",
        "warn": "10m,1m=Soon"});
    let added = site.ask(&site.anna, "POST", "/api/schedules", Some(&body));
    assert_eq!(added.status, 201, "{}", added.body);
    assert_eq!(added.header("location"), Some("/api/schedules/1"));
    let schedule = added.json();
    assert_eq!(schedule["servers"], json!([1, 2]));
    assert_eq!(schedule["on"], "*-*-* 05:00:00");
    assert_eq!(schedule["zone"], "Europe/Berlin");
    assert_eq!(
        schedule["condition"],
        json!({"when_empty": true, "until": "06:00", "then": "go", "warn": [600, 60],
            "warn_text": "Soon"})
    );
    assert_eq!(schedule["created_by"], "api:anna");
    assert!(schedule["next_at"].as_i64().is_some());

    // A repeated request adds no second one.
    let again = site.ask(&site.anna, "POST", "/api/schedules", Some(&body));
    assert_eq!((again.status, again.json()), (200, schedule.clone()));
    assert_eq!(site.get(&site.anna, "/api/schedules/1"), schedule);

    // The command line tells the same.
    let shown = site.json_output(LEFT4ME, &["schedule", "show", "1", "--json"]);
    assert_eq!(shown, schedule);
    assert_eq!(
        site.json_output(LEFT4ME, &["schedule", "list", "--json"]),
        site.get(&site.boss, "/api/schedules")["items"]
    );

    let ask = |act: &str| {
        let answer = site.ask(&site.anna, "POST", &format!("/api/schedules/1/{act}"), None);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let paused = ask("pause");
    assert_eq!(
        (&paused["paused"], &paused["next_at"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(ask("pause"), paused);
    assert_eq!(ask("resume"), schedule);

    let gone = site.ask(&site.anna, "DELETE", "/api/schedules/1", None);
    assert_eq!((gone.status, gone.body.as_str()), (204, ""));
    for (method, path) in [
        ("GET", "/api/schedules/1"),
        ("DELETE", "/api/schedules/1"),
        ("POST", "/api/schedules/1/pause"),
    ] {
        let answer = site.ask(&site.anna, method, path, None);
        refused(&answer, 404, &["there is no schedule 1"]);
    }
}

#[test]
fn a_list_has_what_its_reader_may_see() {
    let site = Site::new();
    let add = |token: &str, body: Value| {
        let answer = site.ask(token, "POST", "/api/schedules", Some(&body));
        assert_eq!(answer.status, 201, "{}", answer.body);
    };
    add(
        &site.anna,
        json!({"operation": "restart", "servers": [1], "on": "05:00"}),
    );
    add(
        &site.anna,
        json!({"operation": "stop", "servers": [2], "on": "05:00"}),
    );
    add(
        &site.bert,
        json!({"operation": "restart", "servers": [3], "on": "05:00"}),
    );
    add(
        &site.boss,
        json!({"operation": "restart", "all": true, "on": "Mon 05:00"}),
    );
    add(&site.boss, json!({"operation": "backup", "on": "daily"}));
    add(
        &site.boss,
        json!({"operation": "restart", "servers": ["Sunday"], "on": "Tue 05:00"}),
    );

    let list = |token: &str, query: &str| {
        let list = site.get(token, &format!("/api/schedules{query}"));
        (ids(&list), list["total"].as_i64().unwrap())
    };
    assert_eq!(list(&site.anna, ""), (vec![1, 2], 2));
    assert_eq!(list(&site.bert, ""), (vec![3, 6], 2), "of his server");
    assert_eq!(list(&site.boss, ""), (vec![1, 2, 3, 4, 5, 6], 6));
    assert_eq!(list(&site.boss, "?server=3"), (vec![3, 4, 6], 3));
    assert_eq!(list(&site.boss, "?limit=2&offset=3"), (vec![4, 5], 6));
    assert_eq!(list(&site.anna, "?server=3"), (vec![], 0));

    let other = site.ask(&site.bert, "DELETE", "/api/schedules/1", None);
    refused(&other, 404, &["there is no schedule 1"]);
    assert_eq!(site.count("schedules"), 6);
}

#[test]
fn a_bad_schedule_is_refused_with_its_field() {
    let site = Site::new();
    let usual = json!({"operation": "restart", "servers": [1], "on": "*-*-* 05:00"});
    for (more, status, words) in [
        (
            json!({"operation": "delete"}),
            422,
            &["operation: ", "delete"][..],
        ),
        (json!({"on": ""}), 422, &["on: "]),
        (json!({"on": "soon"}), 422, &["on: ", "soon"]),
        (json!({"on": "*:*:*"}), 422, &["on ", "at least 5 min"]),
        (json!({"on": "3000-01-01"}), 422, &["on", "3000"]),
        (json!({"on": "2020-01-01"}), 422, &["on ", "never comes"]),
        (json!({"on": "05:00 Mars/Olympus"}), 422, &["on: "]),
        (json!({"on": 5}), 422, &["on: "]),
        (
            json!({"zone": "Mars/Olympus"}),
            422,
            &["zone: ", "Mars/Olympus"],
        ),
        (json!({"zone": null}), 422, &["zone: "]),
        (
            json!({"on": NIGHTLY, "zone": "Asia/Tokyo"}),
            422,
            &["zone: ", "Europe/Berlin"],
        ),
        (json!({"servers": []}), 422, &["needs servers"]),
        (json!({"servers": [0]}), 422, &["servers[0]: "]),
        (json!({"all": true}), 422, &["all: "]),
        (json!({"servers": [3]}), 404, &["no server"]),
        (json!({"servers": ["Sunday"]}), 404, &["no server"]),
        (json!({"servers": [99]}), 404, &["no server"]),
        (json!({"rolling": 0}), 422, &["rolling: "]),
        (json!({"warn": "5m"}), 422, &["warn needs until"]),
        (
            json!({"until": "1h", "when_empty": true}),
            422,
            &["then go"],
        ),
        (
            json!({"when_empty": true, "rolling": 2}),
            422,
            &["rolling "],
        ),
        (json!({"operation": "update"}), 422, &["takes no servers"]),
        (
            json!({"operation": "update", "servers": []}),
            403,
            &["only admins"],
        ),
        (
            json!({"operation": "backup", "servers": []}),
            403,
            &["only admins"],
        ),
        (json!({"all": true, "servers": []}), 403, &["only admins"]),
        (json!({"key": 1}), 422, &["key"]),
    ] {
        let mut body = usual.clone();
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let answer = site.ask(&site.anna, "POST", "/api/schedules", Some(&body));
        refused(&answer, status, words);
    }
    assert_eq!(site.count("schedules"), 0);

    let answer = site.ask(&site.anna, "GET", "/api/schedules/x", None);
    refused(&answer, 404, &["schedule id"]);
    let answer = site.ask(&site.anna, "PUT", "/api/schedules/1", None);
    assert_eq!(answer.status, 405);
}
