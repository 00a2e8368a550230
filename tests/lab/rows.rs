//! What a server's row and its history say, and the poller that writes them.

use std::time::Duration;

use serde_json::Value;

use crate::lab::{Lab, Output, s, wait_for};

/// How soon a row tells what systemd knows.
pub const SOON: Duration = s(2);

pub const DATABASE: &str = "/var/lib/left4me/db/left4me.db";

/// What the package enables when it is installed for the first time, and after a purge.
pub const ENABLED: [&str; 12] = [
    "left4me.target",
    "left4me-worker.socket",
    "left4me-helper.socket",
    "left4me-runner.socket",
    "left4me-publisher.socket",
    "left4me-web.socket",
    "left4me-console.socket",
    "left4me-alerts.socket",
    "left4me-notify.socket",
    "left4me-schedules.socket",
    "left4me-poller.timer",
    "left4me-prune.timer",
];

pub const POLLER: &str = "left4me-poller.service";

/// An entry of a server's history.
#[derive(Debug)]
pub struct Event {
    pub at: i64,
    pub kind: String,
    /// `job N` or `outside`.
    pub cause: String,
    pub detail: String,
    /// The last lines of the unit's journal, where they were kept.
    pub journal: Vec<String>,
}

/// The unit of a server.
pub fn unit(id: u32) -> String {
    format!("left4me-server@{id}.service")
}

/// The game's directory of a server, while it is mounted.
pub fn game(id: u32) -> String {
    format!("/var/lib/left4me/runtime/{id}/merged/left4dead2")
}

/// The kind of a row's drift; empty when it has none.
pub fn drift(row: &Value) -> &str {
    row["drift"]["kind"].as_str().unwrap_or_default()
}

/// Whether a text of a row has these words.
pub fn says(value: &Value, words: &str) -> bool {
    value.as_str().is_some_and(|text| text.contains(words))
}

/// The poller.
impl Lab {
    /// Leaves the poller to its triggers, so that nothing is right only because its timer came by.
    #[track_caller]
    pub fn stop_the_polls_timer(&self) {
        self.ok(&["systemctl", "stop", "left4me-poller.timer"]);
    }

    /// One poll from its beginning to its end, as systemd runs it.
    #[track_caller]
    pub fn poll(&self) {
        self.ok(&["systemctl", "start", "--wait", POLLER]);
    }

    /// One poll by hand, with what it says on standard error.
    pub fn poll_by_hand(&self) -> Output {
        self.run_as("left4me", &["/usr/libexec/left4me/left4me-poller"])
    }

    /// Waits until no poller runs and none is asked for.
    #[track_caller]
    pub fn polls_have_ended(&self) {
        wait_for("the polls end", s(20), || {
            let state = self.ok(&["systemctl", "show", "--property", "ActiveState,Job", POLLER]);
            let has_ended =
                |line: &str| ["Job=", "ActiveState=inactive", "ActiveState=failed"].contains(&line);
            let by_hand = self
                .run(&["pgrep", "--full", "^/usr/libexec/left4me/left4me-poller"])
                .stdout;
            if state.lines().all(has_ended) && by_hand.is_empty() {
                Ok(())
            } else {
                Err(format!("{state} {by_hand}"))
            }
        });
    }

    /// What the poller told the journal of a server, at warning or above, that has this word. By
    /// its name and not by its unit: journald cannot tell the unit of a process that has ended
    /// before its words are read.
    #[track_caller]
    pub fn warnings(&self, field: &str, word: &str) -> Vec<String> {
        self.ok(&["journalctl", "--sync"]);
        let journal = [
            "journalctl",
            "--no-pager",
            "--output=cat",
            "--priority=warning",
            "SYSLOG_IDENTIFIER=left4me-poller",
            field,
        ];

        let output = self.run(&journal);
        output
            .stdout
            .lines()
            .filter(|line| line.contains(word))
            .map(str::to_owned)
            .collect()
    }
}

/// Rows and history.
impl Lab {
    #[track_caller]
    pub fn row(&self, id: u32) -> Value {
        self.server(&id.to_string())
    }

    /// Waits, as long as a row may take, until the server's row is so; gives it.
    #[track_caller]
    pub fn soon(&self, id: u32, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_for(
            &format!("the row of server {id} tells {what}"),
            SOON,
            || {
                let row = self.row(id);
                if is_so(&row) {
                    Ok(row)
                } else {
                    Err(format!("{row:#}"))
                }
            },
        )
    }

    /// A server's history, newest first.
    #[track_caller]
    pub fn history(&self, id: u32) -> Vec<Event> {
        let id = id.to_string();
        let history = self.json(&[
            "left4me",
            "server",
            "history",
            &id,
            "--limit",
            "1000",
            "--journal",
            "--json",
        ]);

        let event = |event: &Value| {
            let text = |key: &str| {
                event[key]
                    .as_str()
                    .unwrap_or_else(|| panic!("no {key} in {event}"))
                    .to_owned()
            };

            let lines = event["journal"].as_array().into_iter().flatten();
            Event {
                at: event["at"]
                    .as_i64()
                    .unwrap_or_else(|| panic!("no at in {event}")),
                kind: text("kind"),
                cause: text("cause"),
                detail: text("detail"),
                journal: lines
                    .map(|line| line.as_str().expect("a line").to_owned())
                    .collect(),
            }
        };

        history
            .as_array()
            .expect("a list")
            .iter()
            .map(event)
            .collect()
    }

    /// A server's events of one kind, newest first.
    #[track_caller]
    pub fn events(&self, id: u32, kind: &str) -> Vec<Event> {
        self.history(id)
            .into_iter()
            .filter(|event| event.kind == kind)
            .collect()
    }

    /// Waits, as long as a row may take, until the server has so many events of a kind; gives the
    /// newest. More are wrong.
    #[track_caller]
    pub fn soon_event(&self, id: u32, kind: &str, count: usize) -> Event {
        let mut events = wait_for(
            &format!("event {count} {kind} of server {id}"),
            SOON,
            || {
                let events = self.events(id, kind);
                if events.len() >= count {
                    Ok(events)
                } else {
                    Err(format!("{:#?}", self.history(id)))
                }
            },
        );

        assert_eq!(
            events.len(),
            count,
            "{kind} of server {id}: {:#?}",
            self.history(id)
        );

        events.swap_remove(0)
    }

    /// What SQL prints that is run by the owner of the database.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.run_as("left4me", &["sqlite3", DATABASE, sql])
            .ends_with(0)
            .stdout
    }
}
