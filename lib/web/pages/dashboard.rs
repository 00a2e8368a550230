//! The dashboard: the viewer's servers (for an admin, all), the queue and recent jobs. It needs a
//! few queries, however many servers there are.

use std::collections::HashMap;

use askama::Template;
use axum::http::HeaderMap;
use axum::response::Response;
use rusqlite::Connection;

use super::extract::QueryFields;
use super::frame::{Frame, page};
use super::parts::JobLine;
use super::power::{self, Power, UnfinishedJob};
use crate::base::names::ServerId;
use crate::base::{Result, secret};
use crate::db::poll::{self, Poll};
use crate::db::queue::{self, Pause};
use crate::db::servers::{self, Server};
use crate::db::{access, job_rows, monitor};
use crate::domain::server::ActualState;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;
use crate::web::viewer::Viewer;

/// The number of recent jobs.
const JOBS: u32 = 10;
/// Queued jobs are counted up to here.
const MANY: u32 = 1000;
/// The page warns if the last poll is older than this, ms.
const SILENT: i64 = 5 * 60 * 1000;

#[derive(Template)]
#[template(path = "dashboard.html")]
struct DashboardPage {
    frame: Frame,
    rows: Vec<DashboardRow>,
    /// The number of servers without the filter.
    all: usize,
    filter: DashboardFilter,
    pause: Option<Pause>,
    queued: i64,
    running: i64,
    poll: Poll,
    silent: bool,
    jobs: Vec<JobLine>,
    host: String,
    watched: String,
    states: Vec<(&'static str, bool)>,
    /// Counts for the filter: its value, the number of servers, and the label.
    counts: [(&'static str, usize, &'static str); 3],
}

/// A server and its buttons.
struct DashboardRow {
    server: Server,
    power: Power,
}

#[derive(Default)]
struct DashboardFilter {
    /// Part of a name, an owner or a port.
    text: String,
    state: String,
}

impl DashboardFilter {
    fn takes(&self, server: &Server) -> bool {
        let text = self.text.trim().to_lowercase();
        let by_text = text.is_empty()
            || server.name.to_lowercase().contains(&text)
            || server.user.to_lowercase().contains(&text)
            || server.port.to_string().contains(&text);

        let by_state = match self.state.as_str() {
            "" => true,
            "drift" => server.drift.is_some(),
            state => server.actual_state.as_str() == state,
        };

        by_text && by_state
    }

    fn is_set(&self) -> bool {
        !self.text.trim().is_empty() || !self.state.is_empty()
    }
}

/// The page's data from the database.
struct DashboardData {
    servers: Vec<Server>,
    busy: HashMap<ServerId, UnfinishedJob>,
    pause: Option<Pause>,
    counts: (i64, i64),
    poll: Poll,
    jobs: Vec<job_rows::JobRow>,
}

/// The unfinished job of each server; a running one before queued ones. A job that the viewer may
/// not see is shown without a link.
pub(super) fn unfinished_jobs(
    db: &Connection,
    viewer: &Viewer,
) -> Result<HashMap<ServerId, UnfinishedJob>> {
    let mut found = HashMap::new();
    for busy in monitor::busy(db)? {
        found
            .entry(busy.server)
            .or_insert_with(|| UnfinishedJob::from(&busy));
    }

    if !viewer.is_admin {
        let own: Vec<ServerId> = servers::ids_of_user(db, viewer.id)?;
        found.retain(|server, _| own.contains(server));
        for job in found.values_mut() {
            job.open = access::job(db, job.id, Some(viewer.id))?;
        }
    }

    Ok(found)
}

fn load(db: &Connection, viewer: &Viewer) -> Result<DashboardData> {
    let only = viewer.all_or_own();

    Ok(DashboardData {
        servers: match only {
            Some(user) => servers::of_user(db, user)?,
            None => servers::all(db)?,
        },
        busy: unfinished_jobs(db, viewer)?,
        pause: queue::pause(db)?,
        counts: monitor::counts(db, MANY)?,
        poll: poll::last(db)?,
        jobs: job_rows::recent(db, only, JOBS)?,
    })
}

pub async fn show(
    SignedIn { app, viewer }: SignedIn,
    headers: HeaderMap,
    QueryFields(query): QueryFields,
) -> Result<Response, Failure> {
    let requester = viewer.clone();
    let mut loaded = app.store.read(move |db| load(db, &requester)).await?;
    let filter = DashboardFilter {
        text: query.raw("q").chars().take(100).collect(),
        state: query.raw("state").to_owned(),
    };

    let key = secret::random()?;
    let frame = Frame::of(viewer, "Servers").within("servers");
    let (now, all) = (frame.now, loaded.servers.len());

    // Counts are of all servers, also if the list is filtered.
    let counts = [
        ("failed", "failed"),
        ("drift", "drifted"),
        ("running", "running"),
    ]
    .map(|(state, word)| {
        let only = DashboardFilter {
            state: state.to_owned(),
            ..DashboardFilter::default()
        };

        (
            state,
            loaded
                .servers
                .iter()
                .filter(|server| only.takes(server))
                .count(),
            word,
        )
    });

    loaded.servers.retain(|server| filter.takes(server));

    // Servers that need attention first, both groups in their order.
    loaded
        .servers
        .sort_by_key(|server| server.drift.is_none() && server.actual_state != ActualState::Failed);

    let rows: Vec<DashboardRow> = loaded
        .servers
        .into_iter()
        .map(|server| {
            let job = loaded.busy.remove(&server.id);
            let state = power::PowerState::of(&server, job.is_some());
            let power = Power {
                server: server.id,
                name: server.name.clone(),
                job,
                offers: power::switches(state),
                key: key.clone(),
            };

            DashboardRow { server, power }
        })
        .collect();

    let words = ActualState::ALL
        .into_iter()
        .map(ActualState::as_str)
        .chain(["drift"]);
    page(&DashboardPage {
        states: words.map(|word| (word, word == filter.state)).collect(),
        // The page also concerns servers that are created later.
        watched: "*".to_owned(),
        rows,
        all,
        counts,
        filter,
        pause: loaded.pause,
        queued: loaded.counts.0,
        running: loaded.counts.1,
        // One that lies ahead is from before the clock was set back.
        silent: loaded
            .poll
            .polled_at
            .is_some_and(|at| (at - now).abs() > SILENT),
        poll: loaded.poll,
        jobs: JobLine::all(loaded.jobs, now),
        host: app.origins.game_host(&headers),
        frame,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_looks_at_name_owner_port_and_state() {
        let db = crate::db::with_servers(2);
        let server = servers::get(&db, ServerId(2)).unwrap().unwrap();
        let takes = |text: &str, state: &str| {
            DashboardFilter {
                text: text.into(),
                state: state.into(),
            }
            .takes(&server)
        };

        assert!(
            takes("", "") && takes(" s1 ", "") && takes("ANNA", "") && takes("27001", "unknown")
        );
        assert!(
            !takes("s2", "") && !takes("", "running") && !takes("", "drift") && !takes("", "<b>")
        );
    }
}
