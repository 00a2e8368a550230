//! The names that the engine knows: subjects, streams and buckets. All are in the account FLEET.
//!
//! | subject | who publishes | who reads |
//! |---|---|---|
//! | `l4m.order.HOST` | controllers | HOST, from the stream ORDERS |
//! | `l4m.event.HOST` | HOST | viewers, from the stream EVENTS |
//! | `l4m.ask.HOST.FROM` | FROM, a viewer | HOST, which answers at once; nothing keeps it |
//! | `l4m.answer.FROM.HOST.…` | HOST | FROM, which has asked; nothing keeps it |
//! | `l4m.live.HOST.…` | HOST | viewers, while one watches; nothing keeps it |
//!
//! A bucket is a stream `KV_name` over `$KV.name.KEY` that keeps the newest value of each key.

use crate::base::names::FleetHost;

pub const ORDERS: &str = "ORDERS";
pub const EVENTS: &str = "EVENTS";

/// What a bucket keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// The status document of each host.
    Hosts,
    /// Which process is each host.
    Lease,
    /// Where each server belongs: by compare-and-set.
    Places,
    /// Who drives each rollout: by compare-and-set.
    Rollouts,
    /// The one signed list of hosts, under the key [`ROSTER`].
    Roster,
}

/// The key in the bucket of the roster.
pub const ROSTER: &str = "roster";

impl Bucket {
    pub const ALL: [Self; 5] = [
        Self::Hosts,
        Self::Lease,
        Self::Places,
        Self::Rollouts,
        Self::Roster,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Lease => "lease",
            Self::Places => "places",
            Self::Rollouts => "rollouts",
            Self::Roster => "roster",
        }
    }

    /// The stream behind it.
    pub fn stream(self) -> String {
        format!("KV_{}", self.name())
    }

    /// The subject of a key.
    pub fn subject(self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name())
    }
}

pub fn order(host: &FleetHost) -> String {
    format!("l4m.order.{host}")
}

pub fn event(host: &FleetHost) -> String {
    format!("l4m.event.{host}")
}

/// Where `from` asks `host`.
pub fn ask(host: &FleetHost, from: &FleetHost) -> String {
    format!("l4m.ask.{host}.{from}")
}

/// All questions to `host`.
pub fn asked(host: &FleetHost) -> String {
    format!("l4m.ask.{host}.*")
}

/// Where `host` answers `from`. A last part belongs to the question.
pub fn answer(from: &FleetHost, host: &FleetHost, question: &str) -> String {
    format!("l4m.answer.{from}.{host}.{question}")
}

/// Whether `host` may answer `from` there.
pub fn is_answer(subject: &str, from: &FleetHost, host: &FleetHost) -> bool {
    let question = last(subject);
    let is_word = |text: &str| {
        !text.is_empty()
            && text.len() <= 64
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    is_word(question) && subject == answer(from, host, question)
}

/// Where a process that was refused, because another one has its host's place, says so.
pub fn refused(host: &FleetHost) -> String {
    format!("l4m.live.{host}.refused")
}

/// Where answers to `host` go; no other host can read there.
pub fn inbox(host: &str) -> String {
    format!("_INBOX.{host}")
}

/// The last part: the host of a subject, the one who asks, the key of a bucket.
pub fn last(subject: &str) -> &str {
    subject.rsplit('.').next().unwrap_or(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_names_the_host_or_the_key() {
        let (ams, fra) = ("ams-1".parse().unwrap(), "fra-1".parse().unwrap());
        assert_eq!(last(&order(&ams)), "ams-1");
        assert_eq!(last(&event(&ams)), "ams-1");
        assert_eq!(last(&ask(&ams, &fra)), "fra-1");
        assert_eq!(last(&Bucket::Lease.subject("ams-1")), "ams-1");
    }

    #[test]
    fn an_answer_goes_only_to_the_one_that_asks() {
        let (ams, fra) = ("ams-1".parse().unwrap(), "fra-1".parse().unwrap());
        assert!(is_answer(&answer(&fra, &ams, "x7"), &fra, &ams));
        for bad in [
            "l4m.answer.fra-2.ams-1.x7",
            "l4m.answer.fra-1.fra-1.x7",
            "l4m.answer.fra-1.ams-1.",
            "l4m.answer.fra-1.ams-1.*",
            "l4m.answer.fra-1.ams-1.x.y",
            "l4m.order.ams-1",
            "_INBOX.fra-1.x7",
            "",
        ] {
            assert!(!is_answer(bad, &fra, &ams), "{bad}");
        }
    }
}
