//! The routes of SSE streams: who may open one, how many, and the check that ends one when its
//! viewer loses the right. Their content is in [`live`](crate::web::live). Downloads count as
//! streams too.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use rusqlite::Connection;

use crate::base::names::{JobId, ServerId, UserId, shown};
use crate::base::{Result, clock};
use crate::db::{sessions, tokens};
use crate::web::access::Access;
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::limiter::{Exhausted, Permit};
use crate::web::live::{self, Reader, Topic};
use crate::web::metrics::OpenStream;
use crate::web::pages::extract::{PathId, QueryFields};
use crate::web::signed_in::SignedIn;
use crate::web::table::Table;
use crate::web::viewer::{Credential, Viewer};

/// The most logs and consoles in one stream. streams.js has the same number.
const MAX_TOPICS: usize = 16;

pub(super) fn routes(table: Table) -> Table {
    table
        .get(Access::User, "/live", changes)
        .get(Access::User, "/jobs/{id}/logs", job)
        .get(Access::User, "/servers/{id}/log/stream", console)
}

/// An open stream or download, until it is dropped.
pub struct StreamGuard {
    _permit: Permit,
    _counted: OpenStream,
}

/// Opens a stream of a `kind` of the metrics.
pub fn open(app: &App, user: UserId, kind: &'static str) -> Result<StreamGuard, Failure> {
    let permit = app.streams.try_acquire_for(user).map_err(|exhausted| {
        app.metrics.refused("streams");
        let message = match exhausted {
            Exhausted::User(most) => {
                format!("you have too many live pages or downloads open ({most}): close one")
            }
            Exhausted::All => {
                "too many live pages are open: reload this one in a moment".to_owned()
            }
        };

        Failure::busy(message, 10)
    })?;

    Ok(StreamGuard {
        _permit: permit,
        _counted: app.metrics.stream(kind),
    })
}

/// The changes, and the logs and consoles that one browser follows with them. Each `follow` is
/// `job:ID:SEQ` or `console:ID:CURSOR`; the last part may be empty.
async fn changes(
    SignedIn { app, viewer }: SignedIn,
    QueryFields(since): QueryFields,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let after = last_id(&headers).or(since.get("after")).map(str::to_owned);
    let wanted = since
        .into_pairs()
        .into_iter()
        .filter(|(name, _)| name == "follow");

    let topics = wanted
        .map(|(_, text)| topic(&text))
        .collect::<Result<Vec<_>, _>>()?;
    if topics.len() > MAX_TOPICS {
        return Err(Failure::unprocessable(format!(
            "one stream follows {MAX_TOPICS} logs and consoles at most"
        )));
    }

    // A topic that the viewer may not see is reported as over; the others are not affected.
    let (asked, requester) = (topics.clone(), viewer.clone());
    let seen = app.store.read(move |db| {
        Ok(asked
            .iter()
            .map(|topic| may_see(db, &requester, topic).is_ok())
            .collect())
    });

    let seen: Vec<bool> = seen.await?;
    let topics: Vec<_> = topics
        .into_iter()
        .zip(seen)
        .map(|(topic, seen)| {
            if seen {
                Ok(topic)
            } else {
                Err("it no longer exists".to_owned())
            }
        })
        .collect();

    let followed: Vec<Topic> = topics.iter().flatten().cloned().collect();
    let reader = reader(&app, &viewer, "changes", move |db, requester| {
        followed
            .iter()
            .try_for_each(|topic| may_see(db, requester, topic))
    })?;

    let sees = if viewer.is_admin {
        live::Viewer::Admin
    } else {
        live::Viewer::User(viewer.id)
    };

    Ok(stream(Body::new(app.hub.changes(
        sees,
        after.as_deref(),
        topics,
        reader,
    ))))
}

fn may_see(db: &Connection, requester: &Viewer, topic: &Topic) -> Result<()> {
    match topic {
        Topic::Job(id, _) => requester.may_see_job(db, *id),
        Topic::Console(id, _) => requester.server(db, *id).map(drop),
    }
}

/// `job:7:120`, `console:1:`.
fn topic(text: &str) -> Result<Topic, Failure> {
    let bad = || {
        Failure::unprocessable(format!(
            "'{}' is neither job:ID:SEQ nor console:ID:CURSOR",
            shown(text)
        ))
    };

    let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
    let (id, after) = rest.split_once(':').ok_or_else(bad)?;

    let after = Some(after).filter(|after| !after.is_empty());
    match kind {
        "job" => Ok(Topic::Job(id.parse()?, after.map(seq).transpose()?)),
        "console" => Ok(Topic::Console(id.parse()?, after.map(str::to_owned))),
        _ => Err(bad()),
    }
}

fn seq(text: &str) -> Result<i64, Failure> {
    let seq = text.parse::<i64>().ok().filter(|seq| *seq >= 0);
    seq.ok_or_else(|| Failure::unprocessable("'after' or Last-Event-ID is not a line number"))
}

async fn job(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<JobId>,
    QueryFields(since): QueryFields,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let reader = admitted(&app, &viewer, "job", move |db, requester| {
        requester.may_see_job(db, id)
    })
    .await?;

    // A client that reconnects sends its position; the URL has the first one.
    let after = match last_id(&headers).or(since.get("after")) {
        None | Some("") => None,
        Some(text) => Some(seq(text)?),
    };

    Ok(stream(Body::new(app.hub.job(id, after, reader))))
}

async fn console(
    SignedIn { app, viewer }: SignedIn,
    PathId(id): PathId<ServerId>,
    QueryFields(since): QueryFields,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let reader = admitted(&app, &viewer, "console", move |db, requester| {
        requester.server(db, id).map(drop)
    })
    .await?;

    let after = last_id(&headers)
        .or(since.get("after"))
        .filter(|text| !text.is_empty());
    let console = app.hub.console(id, after, reader).map_err(|error| {
        app.metrics.refused("streams");
        Failure::from(error).retry_after(10)
    })?;

    Ok(stream(Body::new(console)))
}

fn last_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok()
}

/// A [`reader`] of something that not everyone may read.
async fn admitted(
    app: &App,
    viewer: &Viewer,
    kind: &'static str,
    allowed: impl Fn(&Connection, &Viewer) -> Result<()> + Clone + Send + 'static,
) -> Result<Reader, Failure> {
    let (ask, requester) = (allowed.clone(), viewer.clone());
    app.store.read(move |db| ask(db, &requester)).await?;
    reader(app, viewer, kind, allowed)
}

/// Opens a stream, with the check whether the viewer is still signed in and still allowed.
fn reader(
    app: &App,
    viewer: &Viewer,
    kind: &'static str,
    allowed: impl Fn(&Connection, &Viewer) -> Result<()> + Clone + Send + 'static,
) -> Result<Reader, Failure> {
    let open = open(app, viewer.id, kind)?;
    let (store, viewer) = (app.store.clone(), viewer.clone());
    let check = move || -> live::RightsCheck {
        let (store, viewer, allowed) = (store.clone(), viewer.clone(), allowed.clone());
        Box::pin(async move {
            let asked = store.read(move |db| {
                Ok(is_good(db, &viewer, clock::now_ms())? && allowed(db, &viewer).is_ok())
            });
            // If the check fails, access is denied: the page reconnects and gets the reason.
            asked.await.unwrap_or(false)
        })
    };

    Ok(Reader {
        check: Box::new(check),
        guard: Box::new(open),
    })
}

/// Whether the session or token is still valid.
pub fn is_good(db: &Connection, viewer: &Viewer, now: i64) -> Result<bool> {
    match viewer.by {
        Credential::Session(id) => sessions::is_good(db, id, viewer.is_admin, now),
        Credential::Token(id) => tokens::is_good(db, id, viewer.is_admin),
    }
}

fn stream(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would buffer lines.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}
