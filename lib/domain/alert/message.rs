//! What an alert says: of one event, or of many in a summary.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AlertClass;
use crate::base::names::{JobId, ServerId};

/// The events that a summary has lines for; the others are only counted.
pub const LINES: usize = 10;

/// The longest detail of an event, in characters. A detail can hold a program's output.
const DETAIL: usize = 400;

/// The version of the JSON document. It grows when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// An event, with what is needed to tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// `events.id`.
    pub event: i64,
    /// For people: in the host's time zone.
    pub time: String,
    /// For programs: `2026-11-20T20:44:07Z`.
    pub at: String,
    /// `server.crashed`, `job.failed`, …
    pub kind: String,
    pub class: AlertClass,
    pub server: Option<ServerId>,
    /// The server's display name; none if it is gone.
    pub name: Option<String>,
    pub job: Option<JobId>,
    /// The job's operation.
    pub operation: Option<String>,
    /// The event's own text.
    pub detail: String,
}

/// A message, before it has the form of a destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// One line: the host and what happened.
    pub title: String,
    /// More lines, possibly none.
    pub text: String,
    /// Whether something is wrong, rather than over.
    pub is_bad: bool,
    /// For programs.
    pub document: Value,
}

impl Happening {
    /// `Friday crashed`
    fn headline(&self) -> String {
        let server = match (&self.name, self.server) {
            (Some(name), _) => name.clone(),
            (None, Some(id)) => format!("server {id}"),
            (None, None) => "a unit that belongs to no server".to_owned(),
        };
        let job = || {
            let operation = self.operation.as_deref().unwrap_or("a job");
            let on = if self.server.is_some() {
                format!(" of {server}")
            } else {
                String::new()
            };
            let id = self
                .job
                .map_or_else(String::new, |id| format!(" (job {id})"));
            (format!("{operation}{on}"), id)
        };

        match self.kind.as_str() {
            "server.crashed" => format!("{server} crashed"),
            "server.failed" => format!("{server} failed"),
            "server.drifted" | "server.unresponsive" => format!("{server} needs attention"),
            "server.drift_ended" => format!("{server} no longer needs attention"),
            "job.failed" => {
                let (what, id) = job();
                format!("{what} failed{id}")
            }
            "job.succeeded" => {
                let (what, id) = job();
                format!("{what} succeeded{id}")
            }
            "schedule.failed" => "a schedule failed".to_owned(),
            "update.available" => "a new build of the game is available".to_owned(),
            "update.stopped" => "an update was stopped".to_owned(),
            "server.went_back" => format!("{server} went back to an earlier build"),
            "disk.low" => "the disk is almost full".to_owned(),
            "disk.ok" => "the disk has space again".to_owned(),
            "fleet.host_silent" => "a host of the fleet is silent".to_owned(),
            "fleet.host_back" => "a host of the fleet tells its status again".to_owned(),
            "fleet.away" => "this host has no connection to its fleet".to_owned(),
            "fleet.back" => "this host is connected to its fleet again".to_owned(),
            "fleet.orders_late" => "orders to other hosts have no answer".to_owned(),
            "fleet.orders_answered" => "all orders to other hosts have an answer".to_owned(),
            "fleet.clone_refused" => "another machine has this host's identity".to_owned(),
            kind => format!("{kind} on {server}"),
        }
    }

    fn is_bad(&self) -> bool {
        !matches!(
            self.kind.as_str(),
            "server.drift_ended"
                | "job.succeeded"
                | "update.available"
                | "disk.ok"
                | "fleet.host_back"
                | "fleet.back"
                | "fleet.orders_answered"
        )
    }

    fn detail(&self) -> String {
        cut(&self.detail, DETAIL)
    }

    /// `21:44:07 Friday crashed: ended by signal 11`
    fn line(&self) -> String {
        let detail = self.detail();
        let colon = if detail.is_empty() { "" } else { ": " };
        format!("{} {}{colon}{detail}", self.time, self.headline())
    }

    fn json(&self) -> Value {
        let server = self.server.map(|id| json!({"id": id, "name": self.name}));
        json!({
            "id": self.event,
            "at": self.at,
            "kind": self.kind,
            "class": self.class,
            "server": server,
            "job": self.job,
            "operation": self.operation,
            "detail": self.detail(),
        })
    }
}

/// A message about `told`, of which there must be one at least, and about `more` events that are
/// only counted. `alike`: all of them are of one kind and one server.
pub fn message(alert: &str, host: &str, told: &[Happening], more: usize, alike: bool) -> Message {
    let count = told.len() + more;
    let (title, text) = match told {
        [] => ("nothing happened".to_owned(), String::new()),
        [one] if more == 0 => (one.headline(), one.detail()),
        _ => (
            summary_title(told, count, alike),
            summary_lines(told, count),
        ),
    };

    let events: Vec<Value> = told.iter().take(LINES).map(Happening::json).collect();
    Message {
        title: format!("[{host}] {title}"),
        text,
        is_bad: told.iter().any(Happening::is_bad),
        document: json!({
            "version": VERSION,
            "alert": alert,
            "host": host,
            "title": title,
            "more": count - events.len(),
            "events": events,
        }),
    }
}

/// The message of `left4me alert test`.
pub fn test(alert: &str, host: &str) -> Message {
    let title = format!("test of the alert {alert}");
    Message {
        title: format!("[{host}] {title}"),
        text: "If you read this, alerts of left4me arrive here.".to_owned(),
        is_bad: false,
        document: json!({
            "version": VERSION, "alert": alert, "host": host, "title": title, "more": 0, "events": [],
        }),
    }
}

/// `Friday crashed 14 more times` if they all are alike, else `and 14 more`.
fn summary_title(told: &[Happening], count: usize, alike: bool) -> String {
    match told.first() {
        Some(first) if alike => format!("{} {count} more times", first.headline()),
        _ => format!("and {count} more"),
    }
}

fn summary_lines(told: &[Happening], count: usize) -> String {
    let mut lines: Vec<String> = told.iter().take(LINES).map(Happening::line).collect();
    if count > lines.len() {
        lines.push(format!("… and {} more", count - lines.len()));
    }
    lines.join("\n")
}

/// The first `most` characters, with a mark if there are more.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(event: i64) -> Happening {
        Happening {
            event,
            time: "21:44:07".to_owned(),
            at: "2026-11-20T20:44:07Z".to_owned(),
            kind: "server.crashed".to_owned(),
            class: AlertClass::Crash,
            server: Some(ServerId(3)),
            name: Some("Friday".to_owned()),
            job: None,
            operation: None,
            detail: "ended by signal 11".to_owned(),
        }
    }

    #[test]
    fn one_event_is_told_by_its_headline_and_detail() {
        let message = message("ops", "lan", &[crash(7)], 0, true);
        assert_eq!(message.title, "[lan] Friday crashed");
        assert_eq!(message.text, "ended by signal 11");
        assert!(message.is_bad);
        assert_eq!(message.document["events"][0]["server"]["name"], "Friday");
        assert_eq!(message.document["more"], 0);
    }

    #[test]
    fn a_crash_loop_is_a_number_and_a_mixture_has_lines() {
        let loop_of: Vec<Happening> = (0..4).map(crash).collect();
        let told = message("ops", "lan", &loop_of, 30, true);
        assert_eq!(told.title, "[lan] Friday crashed 34 more times");
        assert_eq!(told.text.lines().count(), 5);

        let failed = Happening {
            kind: "job.failed".to_owned(),
            job: Some(JobId(9)),
            operation: Some("start".to_owned()),
            ..crash(8)
        };
        let told = message("ops", "lan", &[crash(1), failed], 12, false);
        assert_eq!(told.title, "[lan] and 14 more");
        assert_eq!(
            told.text,
            "21:44:07 Friday crashed: ended by signal 11\n\
             21:44:07 start of Friday failed (job 9): ended by signal 11\n\
             … and 12 more"
        );
        assert_eq!(told.document["more"], 12);
    }

    #[test]
    fn good_news_is_not_bad_and_what_is_gone_has_a_number() {
        let over = Happening {
            kind: "server.drift_ended".to_owned(),
            name: None,
            ..crash(1)
        };
        let told = message("ops", "lan", &[over], 0, true);
        assert!(!told.is_bad);
        assert_eq!(told.title, "[lan] server 3 no longer needs attention");
    }
}
