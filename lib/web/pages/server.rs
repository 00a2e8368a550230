//! A server's page, and the list of its jobs.

use std::time::Duration;

use askama::Template;
use axum::http::HeaderMap;
use axum::response::Response;
use rusqlite::Connection;

use super::console::{self, LastLines};
use super::dashboard;
use super::extract::{IsRefresh, PathId, QueryFields};
use super::frame::{Frame, page};
use super::graph::{self, Graph};
use super::parts::{self, JobLine, Pager, counted};
use super::power::{self, Power};
use super::schedules::{self, ScheduleForm, ScheduleLine};
use crate::base::clock;
use crate::base::names::ServerId;
use crate::base::{Result, secret};
use crate::db::blueprints::{self, Blueprint};
use crate::db::events::{self, ServerEvent};
use crate::db::game::{self, PlayerRow};
use crate::db::lists::Part;
use crate::db::samples::{self, DAY, MONTH, Sample};
use crate::db::servers::{self, Server};
use crate::db::stale::{self, FoundStale};
use crate::db::{access, job_rows, jobs};
use crate::domain::history;
use crate::domain::server::ActualState;
use crate::queue::game as game_commands;
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;
use crate::web::viewer::Viewer;

/// So many events and jobs are shown.
const RECENT: u32 = 10;
/// Jobs of a page.
const PER_PAGE: u32 = 50;
/// Lines of the console on the server's page.
const LINES: u32 = 12;
/// The page waits so long for them.
const TIMEOUT: Duration = Duration::from_millis(800);

#[derive(Template)]
#[template(path = "server.html")]
struct ServerPage {
    frame: Frame,
    server: Server,
    power: Power,
    /// Whether a restart or stop can wait until nobody plays.
    can_wait: bool,
    host: String,
    graphs: Vec<Graph>,
    players: Vec<PlayerLine>,
    /// How many played yesterday.
    peak: Option<String>,
    schedules: Vec<ScheduleLine>,
    /// Left out when app.js reloads the page.
    schedule_form: Option<ScheduleForm>,
    events: Vec<EventRow>,
    jobs: Vec<JobLine>,
    /// How many it has, if that is more than the page shows.
    total: Option<String>,
    blueprints: Vec<Blueprint>,
    console: LastLines,
    up_since: Option<i64>,
    /// Why its blueprint cannot start it.
    refused: Option<String>,
    /// Why players do not find it.
    notices: Vec<String>,
    stale: FoundStale,
    /// Whether its stale files can be dropped: no job works on it.
    can_drop: bool,
    /// Whether its game may run.
    takes_commands: bool,
}

/// A player, as the page tells it.
struct PlayerLine {
    name: String,
    score: i32,
    /// Since when the player is connected, unix ms.
    since: i64,
}

impl PlayerLine {
    /// The players of an answer at `answered_at`, those with the highest score first.
    fn all(mut players: Vec<PlayerRow>, answered_at: i64) -> Vec<Self> {
        players.sort_by_key(|player| std::cmp::Reverse(player.score));
        let line = |player: PlayerRow| Self {
            name: player.name,
            score: player.score,
            since: answered_at - i64::from(player.seconds) * 1000,
        };
        players.into_iter().map(line).collect()
    }
}

/// An event, as the page tells it.
struct EventRow {
    event: ServerEvent,
    what: String,
    /// Whether the viewer may look at its job.
    open: bool,
}

struct Loaded {
    server: Server,
    busy: Option<power::UnfinishedJob>,
    has_files: bool,
    day: Vec<Sample>,
    month: Vec<Sample>,
    players: Vec<PlayerRow>,
    peak: Option<u32>,
    schedules: Vec<ScheduleLine>,
    events: Vec<EventRow>,
    jobs: Vec<job_rows::JobRow>,
    total: i64,
    blueprints: Vec<Blueprint>,
    refused: Option<String>,
    notices: Vec<String>,
    stale: FoundStale,
}

/// The number of jobs, if it is more than the page shows.
fn total(jobs: i64) -> Option<String> {
    let shown = Part {
        limit: RECENT,
        offset: 0,
    };

    (jobs > i64::from(RECENT)).then(|| counted(jobs, shown))
}

fn load(db: &Connection, viewer: &Viewer, id: ServerId, now: i64) -> Result<Loaded> {
    let server = viewer.server(db, id)?;
    let only = viewer.all_or_own();
    let filter = jobs::Filter {
        server: Some(id),
        limit: RECENT,
        ..jobs::Filter::default()
    };

    let (jobs, total) = job_rows::page(db, &filter, only)?;
    let mut events = Vec::new();
    for event in events::of_server(db, id, RECENT)? {
        let open = event
            .job_id
            .map(|job| access::job(db, job, only))
            .transpose()?
            .unwrap_or(false);
        events.push(EventRow {
            what: kind_words(&event.kind),
            event,
            open,
        });
    }

    Ok(Loaded {
        busy: dashboard::unfinished_jobs(db, viewer)?.remove(&id),
        has_files: servers::may_have_files(db, id)?,
        day: samples::since(db, id, now - DAY, now)?,
        month: samples::since(db, id, now - MONTH, now)?,
        players: game::players(db, id)?,
        peak: samples::peak_yesterday(db, id, now)?,
        blueprints: blueprints::of_user(db, server.user_id)?,
        refused: blueprints::refusals(db, server.blueprint_id)?
            .into_iter()
            .next(),
        notices: blueprints::notices(db, server.blueprint_id)?,
        stale: stale::of_server(db, id)?,
        schedules: schedules::of_server(db, viewer, id)?,
        events,
        jobs,
        total,
        server,
    })
}

/// `drift_ended` of `server.drift_ended`, in words.
fn kind_words(kind: &str) -> String {
    kind.strip_prefix("server.")
        .unwrap_or(kind)
        .replace(['_', '-'], " ")
}

pub async fn show(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<ServerId>,
    headers: HeaderMap,
    IsRefresh(again): IsRefresh,
) -> Result<Response, Failure> {
    let (requester, now) = (viewer.clone(), clock::now_ms());
    let loaded = app
        .store
        .read(move |db| load(db, &requester, id, now))
        .await?;
    // A server that was never started has no console; and what moves by itself is not asked for
    // again.
    let has_console = !again && loaded.server.actual_since.is_some();
    let console = if has_console {
        console::last_lines(&app, id, LINES, TIMEOUT).await
    } else {
        LastLines::default()
    };

    let state = power::PowerState::of(&loaded.server, loaded.busy.is_some());
    let mut offers = power::switches(state);
    offers.extend(power::repairs(state, loaded.has_files));
    let power = Power {
        server: id,
        name: loaded.server.name.clone(),
        job: loaded.busy,
        offers,
        key: secret::random()?,
    };

    let takes_commands = game_commands::may_run(loaded.server.actual_state);
    let up = loaded.server.actual_state == ActualState::Running;
    let schedule_form = (!again).then(|| schedules::form_of_server(&viewer, id));
    page(&ServerPage {
        frame: Frame::of(viewer, loaded.server.name.clone()).within("servers"),
        can_wait: up,
        graphs: graphs(&loaded.day, &loaded.month, now),
        players: PlayerLine::all(loaded.players, loaded.server.answered_at.unwrap_or(now)),
        peak: history::peak(loaded.peak),
        host: app.origins.game_host(&headers),
        up_since: loaded.server.actual_since.filter(|_| up),
        jobs: JobLine::all(loaded.jobs, now),
        total: total(loaded.total),
        schedules: loaded.schedules,
        schedule_form,
        events: loaded.events,
        blueprints: loaded.blueprints,
        refused: loaded.refused,
        notices: loaded.notices,
        can_drop: power.job.is_none(),
        stale: loaded.stale,
        takes_commands,
        server: loaded.server,
        console,
        power,
    })
}

fn graphs(day: &[Sample], month: &[Sample], now: i64) -> Vec<Graph> {
    let frame = |title, since, from, at_least, say| graph::Frame {
        title,
        since,
        until: now,
        from,
        at_least,
        say,
    };

    let mib = 64.0 * 1024.0 * 1024.0;
    let all = [
        (
            frame(
                "Players, last 24 hours",
                now - DAY,
                "24 h ago",
                4.0,
                graph::format_count,
            ),
            graph::players(day),
        ),
        (
            frame(
                "Players, last 30 days",
                now - MONTH,
                "30 d ago",
                4.0,
                graph::format_count,
            ),
            graph::players(month),
        ),
        (
            frame(
                "Memory, last 24 hours",
                now - DAY,
                "24 h ago",
                mib,
                graph::format_bytes,
            ),
            graph::memory(day),
        ),
        (
            frame(
                "CPU, last 24 hours",
                now - DAY,
                "24 h ago",
                10.0,
                graph::format_percent,
            ),
            graph::cpu(day),
        ),
        (
            frame(
                "Memory, last 30 days",
                now - MONTH,
                "30 d ago",
                mib,
                graph::format_bytes,
            ),
            graph::memory(month),
        ),
        (
            frame(
                "CPU, last 30 days",
                now - MONTH,
                "30 d ago",
                10.0,
                graph::format_percent,
            ),
            graph::cpu(month),
        ),
    ];

    all.iter()
        .filter_map(|(frame, points)| graph::draw(frame, points))
        .collect()
}

#[derive(Template)]
#[template(path = "server_jobs.html")]
struct Jobs {
    frame: Frame,
    server: Server,
    jobs: Vec<JobLine>,
    pager: Pager,
}

/// All jobs of the server, page by page, the newest first.
pub async fn jobs(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<ServerId>,
    QueryFields(asked): QueryFields,
) -> Result<Response, Failure> {
    let pager = Pager::new(format!("/servers/{id}/jobs"), asked.maybe("page"), PER_PAGE);
    let (requester, limit, offset) = (viewer.clone(), pager.limit(), pager.offset());
    let loaded = app.store.read(move |db| {
        let server = requester.server(db, id)?;
        let only = requester.all_or_own();
        let filter = jobs::Filter {
            server: Some(id),
            limit,
            offset,
            ..jobs::Filter::default()
        };

        Ok((server, job_rows::page(db, &filter, only)?))
    });

    let (server, (jobs, total)) = loaded.await?;
    let frame = Frame::of(viewer, format!("Jobs of {}", server.name)).within("servers");
    page(&Jobs {
        jobs: JobLine::all(jobs, frame.now),
        pager: pager.with_total(total),
        server,
        frame,
    })
}
