//! The activity log for admins: events, newest first, filtered by actor, server and kind.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::base::Result;
use crate::base::names::ServerId;
use crate::db::events::{self, Event};
use crate::db::{query, text_or_null};

#[derive(Clone, Debug, Default)]
pub struct ActivityFilter {
    /// Only events by this actor: `anna` also matches `web:anna` and `api:anna`.
    pub actor: Option<String>,
    /// Only events about this server.
    pub server: Option<ServerId>,
    /// Only events of this kind, such as `job.failed`, or of this family, such as `job`.
    pub kind: Option<String>,
    /// Only events before the one with this id.
    pub before: Option<i64>,
    /// The most rows to return.
    pub limit: u32,
}

/// An event, and the name of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub event: Event,
    /// The server's name; none without a server, and when its row is gone.
    pub server_name: Option<String>,
}

impl ActivityFilter {
    /// The conditions after WHERE, and the values of their `?` parameters.
    fn conditions(&self) -> (String, Vec<Value>) {
        let (mut all, mut values) = (vec!["1"], Vec::new());
        if let Some(before) = self.before {
            all.push("e.id < ?");
            values.push(before.into());
        }

        if let Some(server) = self.server {
            all.push("e.server_id = ?");
            values.push(server.0.into());
        }

        if let Some(actor) = &self.actor {
            all.push("e.actor IN (?, ?, ?)");
            values.extend(
                [
                    actor.clone(),
                    format!("web:{actor}"),
                    format!("api:{actor}"),
                ]
                .map(Value::from),
            );
        }

        if let Some(kind) = &self.kind {
            if kind.contains('.') {
                all.push("e.kind = ?");
                values.push(kind.clone().into());
            } else {
                all.push("e.kind >= ? AND e.kind < ?");
                // '/' is the character after '.', so this range holds all kinds of the family.
                values.extend([format!("{kind}."), format!("{kind}/")].map(Value::from));
            }
        }

        (all.join(" AND "), values)
    }
}

/// A page of events, newest first.
pub fn page(connection: &Connection, filter: &ActivityFilter) -> Result<Vec<Entry>> {
    let (conditions, mut values) = filter.conditions();
    values.push(i64::from(filter.limit).into());

    let columns: Vec<String> = events::EVENT
        .split(", ")
        .map(|name| format!("e.{name}"))
        .collect();
    let sql = format!(
        "SELECT {}, s.name FROM events e LEFT JOIN servers s ON s.id = e.server_id
         WHERE {conditions} ORDER BY e.id DESC LIMIT ?",
        columns.join(", ")
    );
    query(connection, &sql, params_from_iter(values), |row| {
        Ok(Entry {
            event: events::event(row)?,
            server_name: text_or_null(row, columns.len())?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::events::NewEvent;
    use crate::db::with_servers;

    #[test]
    fn events_are_found_by_actor_server_kind_and_family_and_paged_backwards() {
        let db = with_servers(1);
        for (kind, actor, server) in [
            ("job.queued", "anna", Some(1)),
            ("job.failed", "web:anna", Some(1)),
            ("jobs.odd", "bert", None),
            ("server.crashed", "outside", Some(9)),
        ] {
            let event = NewEvent {
                server: server.map(ServerId),
                ..NewEvent::new(kind, actor, "")
            };

            events::add(&db, 1, &event).unwrap();
        }

        let found = |filter: ActivityFilter| -> Vec<i64> {
            page(&db, &ActivityFilter { limit: 9, ..filter })
                .unwrap()
                .iter()
                .map(|entry| entry.event.id)
                .collect()
        };

        assert_eq!(found(ActivityFilter::default()), [4, 3, 2, 1]);
        assert_eq!(
            found(ActivityFilter {
                actor: Some("anna".into()),
                ..ActivityFilter::default()
            }),
            [2, 1]
        );

        assert_eq!(
            found(ActivityFilter {
                actor: Some("web:anna".into()),
                ..ActivityFilter::default()
            }),
            [2]
        );

        assert_eq!(
            found(ActivityFilter {
                kind: Some("job".into()),
                ..ActivityFilter::default()
            }),
            [2, 1]
        );

        assert_eq!(
            found(ActivityFilter {
                kind: Some("job.failed".into()),
                ..ActivityFilter::default()
            }),
            [2]
        );

        assert_eq!(
            found(ActivityFilter {
                kind: Some("x' OR 1 --".into()),
                ..ActivityFilter::default()
            }),
            [0_i64; 0]
        );

        assert_eq!(
            found(ActivityFilter {
                server: Some(ServerId(1)),
                before: Some(2),
                ..ActivityFilter::default()
            }),
            [1]
        );

        let names: Vec<_> = page(
            &db,
            &ActivityFilter {
                limit: 2,
                ..ActivityFilter::default()
            },
        )
        .unwrap();

        assert_eq!(
            names
                .iter()
                .map(|entry| entry.server_name.as_deref())
                .collect::<Vec<_>>(),
            [None, None]
        );

        let first = page(
            &db,
            &ActivityFilter {
                before: Some(2),
                limit: 1,
                ..ActivityFilter::default()
            },
        )
        .unwrap();

        assert_eq!(first[0].server_name.as_deref(), Some("S0"));
    }
}
