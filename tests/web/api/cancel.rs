//! Cancelling over the API: queued, running and finished jobs, and single tasks.

use left4me::base::names::JobId;
use left4me::db::jobs;
use serde_json::{Value, json};

use super::{Site, refused};

/// Job 1: anna's restart of both of her servers; its tasks.
fn restart() -> (Site, Vec<i64>) {
    let site = Site::new();
    let id = site.enqueue(&site.anna, &json!({"operation": "restart", "all": true}));
    let job = site.get(&site.anna, &format!("/api/jobs/{id}"));
    let tasks = job["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["id"].as_i64().unwrap())
        .collect();
    (site, tasks)
}

fn states(site: &Site) -> Vec<String> {
    let job = site.get(&site.anna, "/api/jobs/1");
    job["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["state"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_waits_is_cancelled_at_once_and_only_once() {
    let (site, _) = restart();
    let cancel = |body: Option<&Value>| site.ask(&site.anna, "POST", "/api/jobs/1/cancel", body);
    refused(
        &site.ask(&site.anna, "GET", "/api/jobs/1/cancellation-status", None),
        404,
        &["no cancellation was requested"],
    );

    let answer = cancel(Some(&json!({"reason": "wrong <server>", "force": true})));
    assert_eq!(answer.status, 200, "{}", answer.body);

    let result = answer.json();
    assert_eq!(result["success"], true);
    assert_eq!(
        (&result["previous_state"], &result["state"]),
        (&json!("queued"), &json!("cancelled"))
    );

    assert_eq!(
        (&result["requested_by"], &result["reason"]),
        (&json!("api:anna"), &json!("wrong <server>"))
    );

    assert_eq!(
        (&result["force_used"], &result["cancellation_state"]),
        (&json!(true), &json!("completed"))
    );

    assert_eq!(
        site.get(&site.boss, "/api/jobs/1/cancellation-status"),
        result
    );

    let again = cancel(None);
    refused(&again, 400, &["already finished", "job 1", "cancelled"]);

    let body = again.json();
    assert_eq!(
        (&body["success"], &body["error"], &body["cancellation_id"]),
        (&json!(false), &json!("already_finished"), &json!(null))
    );

    for key in result.as_object().unwrap().keys() {
        assert!(body.get(key).is_some(), "{key} is missing: {body}");
    }

    assert_eq!(site.count("cancellations"), 1);
}

#[test]
fn what_runs_is_on_its_way_and_force_can_be_added() {
    let (site, tasks) = restart();
    assert!(
        site.host
            .db()
            .write(|tx| jobs::claim(tx, JobId(1), "w1", 5))
            .unwrap()
    );

    let cancel = |body: Value| site.ask(&site.anna, "POST", "/api/jobs/1/cancel", Some(&body));
    let first = cancel(json!({}));
    assert_eq!(first.status, 200, "{}", first.body);

    let body = first.json();
    assert_eq!(
        (
            &body["success"],
            &body["state"],
            &body["cancellation_state"]
        ),
        (&json!(true), &json!("cancelling"), &json!("requested"))
    );

    assert_eq!(body["force_used"], false);

    let forced = cancel(json!({"force": true, "reason": "now"})).json();
    assert_eq!(
        (&forced["force_used"], &forced["cancellation_id"]),
        (&json!(true), &body["cancellation_id"])
    );

    // Its tasks are cancelled too.
    let task = site.ask(
        &site.anna,
        "POST",
        &format!("/api/tasks/{}/cancel", tasks[0]),
        None,
    );

    assert_eq!(
        (task.status, &task.json()["cancellation_id"]),
        (200, &body["cancellation_id"])
    );

    assert_eq!(site.count("cancellations"), 1);
    assert_eq!(site.get(&site.anna, "/api/jobs/1")["state"], "cancelling");
}

#[test]
fn a_task_is_cancelled_with_its_dependents_or_alone() {
    let (site, tasks) = restart();
    assert_eq!(tasks.len(), 6, "stop, initialize and start of two servers");

    let task = |id: i64, body: Option<&Value>| {
        site.ask(&site.anna, "POST", &format!("/api/tasks/{id}/cancel"), body)
    };

    let first = task(tasks[0], None);

    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(
        (&first.json()["task"], &first.json()["state"]),
        (&json!(tasks[0]), &json!("cancelled"))
    );

    assert_eq!(
        first.json()["tasks_affected"].as_array().unwrap().len(),
        3,
        "{}",
        first.body
    );

    refused(
        &task(tasks[0], Some(&json!({"force": true}))),
        400,
        &["already finished", "task"],
    );

    let other = site.get(&site.anna, "/api/jobs/1")["tasks"]
        .as_array()
        .unwrap()
        .clone();
    let pending = other
        .iter()
        .find(|task| task["state"] == "pending")
        .unwrap()["id"]
        .as_i64()
        .unwrap();
    let alone = site.ask(
        &site.anna,
        "POST",
        "/api/jobs/1/cancel",
        Some(&json!({"task": pending, "cascade": false, "reason": "not now"})),
    );

    assert_eq!(alone.status, 200, "{}", alone.body);
    assert_eq!(
        alone.json()["tasks_affected"].as_array().unwrap().len(),
        1,
        "{}",
        alone.body
    );

    let left = states(&site);
    assert_eq!(
        left.iter().filter(|state| *state == "pending").count(),
        2,
        "{left:?}"
    );

    assert_eq!(site.get(&site.anna, "/api/jobs/1")["state"], "queued");
    assert_eq!(
        site.get(&site.anna, "/api/jobs/1/cancellation-status"),
        alone.json(),
        "the newest one"
    );
}

#[test]
fn what_is_not_understood_cancels_nothing() {
    let (site, tasks) = restart();
    let long = "x".repeat(1001);
    for (body, words) in [
        (json!({"reason": ""}), "reason"),
        (json!({"reason": 7}), "reason"),
        (json!({"reason": "two\nlines"}), "reason"),
        (json!({"reason": long}), "reason"),
        (json!({"force": "yes"}), "force"),
        (json!({"force": null}), "force"),
        (json!({"task": "1"}), "task"),
        (json!({"task": -1}), "task"),
        (json!({"task": 1.5}), "task"),
        (json!({"cascade": false}), "cascade"),
        (json!({"why": "x"}), "why"),
        (json!(["x"]), "object"),
        (json!(null), "object"),
    ] {
        refused(
            &site.ask(&site.anna, "POST", "/api/jobs/1/cancel", Some(&body)),
            422,
            &[words],
        );
    }

    let path = format!("/api/tasks/{}/cancel", tasks[0]);
    refused(
        &site.ask(&site.anna, "POST", &path, Some(&json!({"task": 1}))),
        422,
        &["task"],
    );

    for missing in [json!({"task": 99}), json!({"task": i64::MAX})] {
        let answer = site.ask(&site.anna, "POST", "/api/jobs/1/cancel", Some(&missing));
        assert!([404, 422].contains(&answer.status), "{}", answer.body);
    }

    refused(
        &site.ask(&site.anna, "POST", "/api/tasks/99/cancel", None),
        404,
        &["there is no task 99"],
    );

    assert_eq!(site.count("cancellations"), 0);
    assert_eq!(site.get(&site.anna, "/api/jobs/1")["state"], "queued");
}
