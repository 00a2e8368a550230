//! Jobs that wait until nobody plays, over the API.

use serde_json::{Value, json};

use super::{Site, refused};
use crate::waiting::plays;

#[test]
fn a_job_waits_as_the_command_line_would_have_it() {
    let site = Site::new();
    plays(&site.host, 3);
    let body = json!({"operation": "restart", "servers": ["Friday"], "when_empty": true,
        "until": "2h", "then": "give-up", "unique": true});
    let answer = site.ask(&site.anna, "POST", "/api/jobs", Some(&body));
    assert_eq!(answer.status, 201, "{}", answer.body);
    let accepted = answer.json();
    assert_eq!(accepted["queue_position"], Value::Null);
    let waiting = accepted["waiting"].as_str().unwrap();
    assert!(
        waiting.starts_with("3 players on Friday (until "),
        "{waiting}"
    );

    let id = &accepted["job_id"];
    let job = site.get(&site.anna, &format!("/api/jobs/{id}"));
    assert_eq!(job["waiting"].as_str(), Some(waiting));
    assert_eq!(job["condition"]["when_empty"], true);
    assert_eq!(job["condition"]["then"], "give-up");
    assert_eq!(job["condition"]["warn"], json!([]));
    let again = site.ask(&site.anna, "POST", "/api/jobs", Some(&body));
    assert_eq!((again.status, &again.json()["job_id"]), (200, id));

    // A script goes ahead.
    let now = site.enqueue(&site.anna, &json!({"operation": "stop", "servers": [1]}));
    let job = site.get(&site.anna, &format!("/api/jobs/{now}"));
    assert_eq!(
        (&job["condition"], &job["waiting"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn a_condition_that_makes_no_sense_is_unprocessable() {
    let site = Site::new();
    for (more, why) in [
        (
            json!({"when_empty": true, "until": "1h"}),
            "until with when_empty needs then go",
        ),
        (
            json!({"when_empty": true, "warn": "5m"}),
            "warn needs until",
        ),
        (json!({"until": "0s"}), "longer than 0"),
        (
            json!({"until": "1h", "then": "perhaps"}),
            "one of go, give-up",
        ),
        (
            json!({"until": "1h", "warn": "1w"}),
            "durations up to a day",
        ),
    ] {
        let mut body = json!({"operation": "stop", "servers": [1]});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let answer = site.ask(&site.anna, "POST", "/api/jobs", Some(&body));
        refused(&answer, 422, &[why]);
    }
    let body = json!({"operation": "start", "servers": [1], "when_empty": true});
    let answer = site.ask(&site.anna, "POST", "/api/jobs", Some(&body));
    refused(&answer, 422, &["start takes no condition"]);
}
