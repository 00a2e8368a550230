//! What each role may do at the engine. The engine enforces it; an order is still believed by its
//! signature alone, since a permitted message can ask for its acknowledgement on any subject.
//!
//! The texts are templates: for a part that is `{{name()}}`, and nothing else, the engine puts the host's
//! name, which is in its JWT. So a later version can change them without new JWTs.

use serde::Serialize;

use super::subjects::{Bucket, EVENTS, ORDERS};
use crate::base::words::words;

/// The host's own name in a template.
const OWN: &str = "{{name()}}";

words! {
    /// What a host is to the fleet. Each is more than the one before.
    pub enum Role ("a role") {
        /// Obeys orders, and tells of itself. It knows who belongs to the fleet: they may ask it.
        Host = "host",
        /// Is told of all hosts, and may ask them.
        View = "view",
        /// May send orders.
        Control = "control",
    }
}

/// Subjects that a role may use; all others are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Permissions {
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
}

impl Role {
    /// The greatest of the words that `left4me fleet admit` was given.
    pub fn of(roles: &[String]) -> Self {
        let has = |role: Self| roles.iter().any(|word| word == role.as_str());
        match (has(Self::Control), has(Self::View)) {
            (true, _) => Self::Control,
            (_, true) => Self::View,
            _ => Self::Host,
        }
    }

    pub fn permissions(self) -> Permissions {
        let mut publish = vec![
            format!("l4m.event.{OWN}"),
            format!("l4m.live.{OWN}.>"),
            format!("l4m.answer.*.{OWN}.>"),
            Bucket::Hosts.subject(OWN),
            Bucket::Lease.subject(OWN),
            direct_get(Bucket::Lease, OWN),
            stream_info(ORDERS),
            stream_info(EVENTS),
            format!("$JS.API.CONSUMER.CREATE.{ORDERS}.{OWN}.l4m.order.{OWN}"),
        ];
        publish.extend(reader(&Bucket::Roster.stream()));
        publish.extend(consumer(ORDERS));
        let mut subscribe = vec![
            format!("_INBOX.{OWN}.>"),
            format!("l4m.ask.{OWN}.*"),
            format!("l4m.live.{OWN}.>"),
        ];

        if self != Self::Host {
            publish.push(format!("l4m.ask.*.{OWN}"));
            subscribe.push("l4m.live.*.>".to_owned());
            subscribe.push(format!("l4m.answer.{OWN}.>"));
            let buckets = [Bucket::Hosts, Bucket::Places, Bucket::Rollouts];
            let streams = buckets.map(Bucket::stream).into_iter();
            for stream in streams.chain([EVENTS.to_owned()]) {
                publish.extend(reader(&stream));
            }
            publish.extend(
                [Bucket::Places, Bucket::Rollouts, Bucket::Roster]
                    .map(|bucket| direct_get(bucket, "*")),
            );
        }
        if self == Self::Control {
            publish.push("l4m.order.*".to_owned());
            publish.extend(
                [Bucket::Places, Bucket::Rollouts, Bucket::Roster]
                    .map(|bucket| bucket.subject("*")),
            );
        }

        publish.sort();
        publish.dedup();
        Permissions { publish, subscribe }
    }
}

fn stream_info(stream: &str) -> String {
    format!("$JS.API.STREAM.INFO.{stream}")
}

fn direct_get(bucket: Bucket, key: &str) -> String {
    format!(
        "$JS.API.DIRECT.GET.{}.{}",
        bucket.stream(),
        bucket.subject(key)
    )
}

/// What it takes to read all of a stream.
fn reader(stream: &str) -> Vec<String> {
    let mut subjects = vec![
        stream_info(stream),
        format!("$JS.API.CONSUMER.CREATE.{stream}.{OWN}"),
    ];
    subjects.extend(consumer(stream));
    subjects
}

/// A host reads a stream by a consumer that has its name, and can use and remove no other.
fn consumer(stream: &str) -> [String; 2] {
    [
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{OWN}"),
        format!("$JS.API.CONSUMER.DELETE.{stream}.{OWN}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a template allows a subject to the host ams-1.
    fn allows(list: &[String], subject: &str) -> bool {
        list.iter().any(|pattern| {
            let pattern = pattern.replace(OWN, "ams-1");
            let mut words = subject.split('.');
            let open = pattern.ends_with(".>");
            let all = pattern
                .trim_end_matches(".>")
                .split('.')
                .all(|part| words.next().is_some_and(|word| part == "*" || part == word));
            all && words.next().is_some() == open
        })
    }

    #[test]
    fn a_host_speaks_for_itself_alone_and_reads_only_its_own_orders() {
        let host = Role::Host.permissions();
        for good in [
            "l4m.event.ams-1",
            "$KV.hosts.ams-1",
            "l4m.answer.fra-1.ams-1.x",
            "$JS.API.CONSUMER.CREATE.KV_roster.ams-1",
            "$JS.API.CONSUMER.CREATE.ORDERS.ams-1.l4m.order.ams-1",
            "$JS.API.CONSUMER.MSG.NEXT.ORDERS.ams-1",
        ] {
            assert!(allows(&host.publish, good), "{good}");
        }
        for bad in [
            "l4m.event.fra-1",
            "l4m.order.ams-1",
            "l4m.order.fra-1",
            "l4m.ask.fra-1.ams-1",
            "l4m.answer.ams-1.fra-1.x",
            "l4m.answer.fra-1.fra-2.x",
            "$KV.hosts.fra-1",
            "$KV.places.01KAZ6T5R8Y3W9M2F4B7C1D0XN",
            "$KV.roster.roster",
            "$JS.API.CONSUMER.CREATE.ORDERS.ams-1",
            "$JS.API.CONSUMER.CREATE.ORDERS.ams-1.l4m.order.fra-1",
            "$JS.API.CONSUMER.MSG.NEXT.ORDERS.fra-1",
            "$JS.API.CONSUMER.CREATE.EVENTS.ams-1",
            "$JS.API.CONSUMER.CREATE.KV_hosts.ams-1",
            "$JS.API.STREAM.PURGE.ORDERS",
            "$JS.API.STREAM.DELETE.ORDERS",
            "$JS.API.STREAM.MSG.GET.ORDERS",
        ] {
            assert!(!allows(&host.publish, bad), "{bad}");
        }
        for bad in [
            "l4m.order.ams-1",
            "l4m.live.fra-1.refused",
            "_INBOX.fra-1.x.y",
            "l4m.answer.fra-1.ams-1.x",
        ] {
            assert!(!allows(&host.subscribe, bad), "{bad}");
        }
    }

    #[test]
    fn a_viewer_reads_all_and_only_a_controller_orders() {
        let (view, control) = (Role::View.permissions(), Role::Control.permissions());
        assert!(allows(
            &view.publish,
            "$JS.API.CONSUMER.CREATE.EVENTS.ams-1"
        ));
        assert!(allows(&view.publish, "l4m.ask.fra-1.ams-1"));
        assert!(!allows(&view.publish, "l4m.ask.fra-1.fra-2"));
        assert!(!allows(&view.publish, "l4m.order.fra-1"));
        assert!(!allows(&view.publish, "$KV.roster.roster"));
        assert!(allows(&control.publish, "l4m.order.fra-1"));
        assert!(allows(&control.publish, "$KV.roster.roster"));
        assert!(!allows(&control.publish, "l4m.event.fra-1"));
        assert!(!allows(&control.publish, "$JS.API.STREAM.DELETE.ORDERS"));
    }
}
