//! Alerts: messages to people who are not looking at left4me. An event belongs to a class; an alert
//! is a destination with the classes and servers that it listens for.
//!
//! Pure: this folder decides what is sent, when, and how it is written.

pub mod address;
pub mod mail;
pub mod message;
pub mod mime;
pub mod pace;
pub mod request;
pub mod target;

use serde::{Deserialize, Serialize};

use crate::base::names::ServerId;
use crate::base::words::words;
use crate::domain::drift::Drift;
use crate::domain::operation::Operation;

pub use message::{Happening, Message};
pub use target::Target;

words! {
    /// What an alert can listen for.
    pub enum AlertClass ("a class of events") {
        /// A server crashed or failed, or keeps crashing.
        Crash = "crash",
        /// A server's actual state differs from its desired state, or no longer does.
        Drift = "drift",
        /// A server runs, but does not answer.
        Unresponsive = "unresponsive",
        /// A job failed.
        JobFailed = "job-failed",
        /// Steam has a new build of the game, or an update ended.
        Update = "update",
        /// The disk is almost full, or no longer is.
        Disk = "disk",
        /// A host of the fleet is silent, or this host has no connection to it; or no longer.
        Fleet = "fleet",
    }
}

words! {
    /// How a destination is reached.
    pub enum Channel ("a kind of destination") {
        /// A webhook of a Discord channel.
        Discord = "discord",
        /// A program that takes a JSON document.
        Webhook = "webhook",
        /// A topic of an ntfy server.
        Ntfy = "ntfy",
        /// A mail address.
        Mail = "mail",
    }
}

words! {
    /// The state of an outbox row: one event for one alert.
    pub enum OutboxState ("a state of an outbox row") {
        Pending = "pending",
        /// Delivered, alone or as the first of a summary.
        Sent = "sent",
        /// Given up.
        Failed = "failed",
        /// Part of a summary that another row carries.
        Merged = "merged",
    }
}

/// How an event is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// The classes are known.
    Of(AlertClass),
    /// A drift that began or ended. Its kind decides.
    Drift,
    /// A job that ended. Its operation decides.
    Job { failed: bool },
}

/// What an event with this kind may be. None for the many events that no alert is about.
pub fn candidate(kind: &str) -> Option<Candidate> {
    match kind {
        "server.crashed" | "server.failed" => Some(Candidate::Of(AlertClass::Crash)),
        "server.drifted" | "server.unresponsive" | "server.drift_ended" => Some(Candidate::Drift),
        "job.failed" => Some(Candidate::Job { failed: true }),
        "job.succeeded" => Some(Candidate::Job { failed: false }),
        "schedule.failed" => Some(Candidate::Of(AlertClass::JobFailed)),
        "update.available" | "update.stopped" | "server.went_back" => {
            Some(Candidate::Of(AlertClass::Update))
        }
        "disk.low" | "disk.ok" => Some(Candidate::Of(AlertClass::Disk)),
        "fleet.host_silent"
        | "fleet.host_back"
        | "fleet.away"
        | "fleet.back"
        | "fleet.orders_late"
        | "fleet.orders_answered"
        | "fleet.clone_refused" => Some(Candidate::Of(AlertClass::Fleet)),
        _ => None,
    }
}

/// The classes of a drift, the more precise one first. None: a unit that belongs to no server.
pub fn of_drift(drift: Option<Drift>) -> Vec<AlertClass> {
    match drift.map(Drift::as_str) {
        // The crashes themselves have been told: an alert for both classes tells of one loop once.
        Some("crashing") => vec![AlertClass::Crash, AlertClass::Drift],
        Some("unresponsive") => vec![AlertClass::Unresponsive],
        _ => vec![AlertClass::Drift],
    }
}

/// The classes of a job's end, the more precise one first. No operation: the job's row is unknown.
pub fn of_job(operation: Option<Operation>, failed: bool) -> Vec<AlertClass> {
    let is_update = operation.is_some_and(Operation::rolls_out);
    let update = is_update.then_some(AlertClass::Update);
    let job = failed.then_some(AlertClass::JobFailed);
    update.into_iter().chain(job).collect()
}

/// What an alert listens for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub classes: Vec<AlertClass>,
    /// Empty: all servers.
    pub servers: Vec<ServerId>,
    /// Unix ms.
    pub muted_until: Option<i64>,
}

impl Subscription {
    /// The class under which this alert gets an event, if it does. `servers` are those that the
    /// event is about; an event about none concerns every alert.
    pub fn takes(
        &self,
        classes: &[AlertClass],
        servers: &[ServerId],
        now: i64,
    ) -> Option<AlertClass> {
        let is_muted = self.muted_until.is_some_and(|until| until > now);
        let is_concerned = self.servers.is_empty()
            || servers.is_empty()
            || servers.iter().any(|server| self.servers.contains(server));
        if is_muted || !is_concerned {
            return None;
        }
        classes
            .iter()
            .copied()
            .find(|class| self.classes.contains(class))
    }
}

/// What left4me-notify is to send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    pub to: Target,
    pub message: Message,
}

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// The destination took it: its own words, such as `204 No Content`.
    Sent(String),
    /// It may work later; after this many ms, if the destination said so.
    Retry { why: String, after: Option<i64> },
    /// It will not work until a person changes something.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_all(classes: &[AlertClass]) -> Subscription {
        Subscription {
            classes: classes.to_vec(),
            servers: Vec::new(),
            muted_until: None,
        }
    }

    #[test]
    fn a_crash_loop_is_told_under_one_class() {
        let both = of_all(&[AlertClass::Drift, AlertClass::Crash]);
        let drift = of_all(&[AlertClass::Drift]);
        let crashing = of_drift(Some(Drift::Crashing));
        assert_eq!(both.takes(&crashing, &[], 1), Some(AlertClass::Crash));
        assert_eq!(drift.takes(&crashing, &[], 1), Some(AlertClass::Drift));
        assert_eq!(of_drift(Some(Drift::Down)), [AlertClass::Drift]);
        assert_eq!(of_drift(None), [AlertClass::Drift]);
    }

    #[test]
    fn an_update_is_told_however_it_ends_and_another_job_only_if_it_failed() {
        use Operation::{Start, Update};
        assert_eq!(of_job(Some(Update), false), [AlertClass::Update]);
        assert_eq!(
            of_job(Some(Update), true),
            [AlertClass::Update, AlertClass::JobFailed]
        );
        assert_eq!(of_job(Some(Start), true), [AlertClass::JobFailed]);
        assert_eq!(of_job(None, true), [AlertClass::JobFailed]);
        assert!(of_job(Some(Start), false).is_empty());
    }

    #[test]
    fn an_alert_for_some_servers_gets_theirs_and_what_is_about_none() {
        let alert = Subscription {
            servers: vec![ServerId(2), ServerId(3)],
            ..of_all(&AlertClass::ALL)
        };
        let crash = [AlertClass::Crash];
        assert!(alert.takes(&crash, &[ServerId(1)], 1).is_none());
        assert!(
            alert
                .takes(&crash, &[ServerId(1), ServerId(3)], 1)
                .is_some()
        );
        assert!(alert.takes(&[AlertClass::Disk], &[], 1).is_some());
    }

    #[test]
    fn a_muted_alert_gets_nothing_until_its_time_is_over() {
        let alert = Subscription {
            muted_until: Some(10),
            ..of_all(&AlertClass::ALL)
        };
        assert!(alert.takes(&[AlertClass::Disk], &[], 9).is_none());
        assert!(alert.takes(&[AlertClass::Disk], &[], 10).is_some());
    }
}
