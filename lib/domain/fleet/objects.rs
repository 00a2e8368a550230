//! The streams and buckets that the engine keeps for a fleet, as its API takes them.

use serde_json::{Value, json};

use super::LONGEST;
use super::driving::KEPT;
use super::subjects::{Bucket, EVENTS, ORDERS};

const DAY: u64 = 24 * 3_600 * 1_000_000_000;
const MINUTE: u64 = 60 * 1_000_000_000;

/// Every stream, with its configuration, kept `replicas` times: 1 or 3.
pub fn all(replicas: u8) -> Vec<(String, Value)> {
    let mut all = vec![
        (ORDERS.to_owned(), orders(replicas)),
        (EVENTS.to_owned(), events(replicas)),
    ];
    all.extend(Bucket::ALL.map(|bucket| (bucket.stream(), self::bucket(bucket, replicas))));
    all
}

fn orders(replicas: u8) -> Value {
    json!({
        "name": ORDERS,
        "subjects": ["l4m.order.*"],
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": replicas,
        "max_age": 30 * DAY,
        "max_msgs_per_subject": 10_000,
        // The document, and what it is signed with.
        "max_msg_size": LONGEST + 4096,
        "max_msgs": -1, "max_bytes": -1, "max_consumers": -1,
        "duplicate_window": 2 * MINUTE,
        "deny_delete": true,
        "deny_purge": true,
        "allow_direct": false,
    })
}

fn events(replicas: u8) -> Value {
    json!({
        "name": EVENTS,
        "subjects": ["l4m.event.*"],
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": replicas,
        "max_age": 90 * DAY,
        "max_bytes": 1_073_741_824,
        "max_msgs_per_subject": 500_000,
        "max_msg_size": LONGEST + 4096,
        "max_msgs": -1, "max_consumers": -1,
        "duplicate_window": 2 * MINUTE,
        "deny_delete": true,
        "deny_purge": true,
        "allow_direct": false,
    })
}

fn bucket(bucket: Bucket, replicas: u8) -> Value {
    // Open rollouts are published each day; those that have ended leave.
    let age = match bucket {
        Bucket::Rollouts => KEPT.unsigned_abs() * 1_000_000,
        _ => 0,
    };
    json!({
        "name": bucket.stream(),
        "subjects": [bucket.subject(">")],
        "retention": "limits",
        "discard": "new",
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        // The roster holds all hosts.
        "max_msg_size": 4 * LONGEST,
        "max_age": age,
        "max_msgs": -1, "max_bytes": -1, "max_consumers": -1,
        "duplicate_window": 2 * MINUTE,
        // One message of a host could remove those of all.
        "allow_rollup_hdrs": false,
        "deny_delete": true,
        "deny_purge": true,
        "allow_direct": true,
    })
}

/// What of `found` differs from `wanted`: the names of the fields, with what is there. Fields that
/// the engine adds do not count.
pub fn differences(wanted: &Value, found: &Value) -> Vec<String> {
    let fields = wanted.as_object().into_iter().flatten();
    let differing = fields.filter(|(name, value)| {
        let other = found.get(name.as_str()).unwrap_or(&Value::Null);
        // The engine leaves out what is false or zero.
        let is_none = |value: &Value| {
            value.is_null() || *value == Value::Bool(false) || value.as_i64() == Some(0)
        };
        other != *value && !(is_none(other) && is_none(value))
    });
    differing
        .map(|(name, value)| {
            let other = found.get(name).unwrap_or(&Value::Null);
            format!("{name} is {other}, not {value}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_compared() {
        let wanted = json!({"max_age": 5, "deny_purge": false, "num_replicas": 3});
        let found = json!({"max_age": 5, "num_replicas": 1, "compression": "none"});
        assert_eq!(differences(&wanted, &found), ["num_replicas is 1, not 3"]);
        for (name, config) in all(3) {
            assert_eq!(config["name"], name.as_str());
            assert!(differences(&config, &config).is_empty());
        }
    }
}
