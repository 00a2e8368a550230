//! The streams of events: who may open one, how many, and that who may not read any more is cut off. What they carry is
//! [`live`](crate::web::live)'s. Downloads that are read bit by bit are counted with them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rusqlite::Connection;

use crate::base::names::{JobId, ServerId, UserId, shown};
use crate::base::{Result, clock};
use crate::db::{sessions, tokens};
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::live::{self, Reader, Topic};
use crate::web::metrics::OpenStream;
use crate::web::pages::asked::Asked;
use crate::web::routes::{Table, Who};
use crate::web::viewer::{Credential, Viewer};

/// One stream carries so many logs and consoles. streams.js knows the number.
const TOPICS: usize = 16;

pub(super) fn routes(table: Table) -> Table {
    table.get(Who::User, "/live", changes).get(Who::User, "/jobs/{id}/logs", job).get(
        Who::User,
        "/servers/{id}/log/stream",
        console,
    )
}

/// How many streams and downloads are open.
#[derive(Clone)]
pub struct Places(Arc<Taken>);

struct Taken {
    per_user: usize,
    in_all: usize,
    by: Mutex<HashMap<UserId, usize>>,
}

/// A place that is taken, until it is dropped.
pub struct Place {
    places: Places,
    user: UserId,
    _counted: OpenStream,
}

impl Places {
    /// So many for each user, and so many in all: the rest of the connections is for pages.
    #[must_use]
    pub fn new(per_user: usize, in_all: usize) -> Self {
        Self(Arc::new(Taken { per_user, in_all, by: Mutex::default() }))
    }

    /// Takes one for `kind`, as the metrics call it.
    ///
    /// # Errors
    /// 503 when the user has all of theirs, or everybody has all there are.
    pub fn take(&self, app: &App, user: UserId, kind: &'static str) -> Result<Place, Failure> {
        let refused = |words: String| {
            app.metrics.refused("streams");
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, words).retry_after(10)
        };
        let mut by = self.0.by.lock().unwrap_or_else(PoisonError::into_inner);
        let own = by.get(&user).copied().unwrap_or(0);
        if own >= self.0.per_user {
            return Err(refused(format!(
                "{own} pages of yours are live, or downloads, already: close one, or load this one again by hand"
            )));
        }
        if by.values().sum::<usize>() >= self.0.in_all {
            return Err(refused("too many pages are live at once: load this one again by hand".to_owned()));
        }
        by.insert(user, own + 1);
        Ok(Place { places: self.clone(), user, _counted: app.metrics.stream(kind) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by = self.places.0.by.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = by.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                by.remove(&self.user);
            }
        }
    }
}

/// What changes on pages, and the logs and consoles that one browser follows beside it: each
/// `follow` is `job:ID:SEQ` or `console:ID:PLACE`, where what follows the second colon may be empty.
async fn changes(
    State(app): State<App>,
    viewer: Viewer,
    Asked(since): Asked,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let after = last_id(&headers).or(since.get("after")).map(str::to_owned);
    let wanted = since.into_pairs().into_iter().filter(|(name, _)| name == "follow");
    let topics = wanted.map(|(_, text)| topic(&text)).collect::<Result<Vec<_>, _>>()?;
    if topics.len() > TOPICS {
        return Err(Failure::unprocessable(format!("one stream follows {TOPICS} logs and consoles at most")));
    }

    // A topic that the viewer may not see is told as over, and does not take the others away.
    let (asked, who) = (topics.clone(), viewer.clone());
    let seen = app.store.read(move |db| Ok(asked.iter().map(|topic| may_see(db, &who, topic).is_ok()).collect()));
    let seen: Vec<bool> = seen.await?;
    let topics: Vec<_> = topics
        .into_iter()
        .zip(seen)
        .map(|(topic, seen)| if seen { Ok(topic) } else { Err("it does not exist any more".to_owned()) })
        .collect();

    let followed: Vec<Topic> = topics.iter().flatten().cloned().collect();
    let reader =
        reader(&app, &viewer, "changes", move |db, who| followed.iter().try_for_each(|topic| may_see(db, who, topic)))?;
    let sees = if viewer.is_admin { live::Viewer::Admin } else { live::Viewer::User(viewer.id) };
    Ok(stream(Body::new(app.hub.changes(sees, after.as_deref(), topics, reader))))
}

fn may_see(db: &Connection, who: &Viewer, topic: &Topic) -> Result<()> {
    match topic {
        Topic::Job(id, _) => who.may_see_job(db, *id),
        Topic::Console(id, _) => who.server(db, *id).map(drop),
    }
}

/// `job:7:120`, `console:1:`.
fn topic(text: &str) -> Result<Topic, Failure> {
    let bad = || Failure::unprocessable(format!("'{}' is neither job:ID:SEQ nor console:ID:PLACE", shown(text)));
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
    seq.ok_or_else(|| Failure::unprocessable("'after', or Last-Event-ID, is not the number of a line"))
}

/// A job's log.
async fn job(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Asked(since): Asked,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id: JobId = id.parse().map_err(|_| Failure::no_page())?;
    let reader = admitted(&app, &viewer, "job", move |db, who| who.may_see_job(db, id)).await?;
    // A reader that comes back says where it stands itself; its URL says where it stood at first.
    let after = match last_id(&headers).or(since.get("after")) {
        None | Some("") => None,
        Some(text) => Some(seq(text)?),
    };
    Ok(stream(Body::new(app.hub.job(id, after, reader))))
}

/// A server's console.
async fn console(
    State(app): State<App>,
    viewer: Viewer,
    Path(id): Path<String>,
    Asked(since): Asked,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id: ServerId = id.parse().map_err(|_| Failure::no_page())?;
    let reader = admitted(&app, &viewer, "console", move |db, who| who.server(db, id).map(drop)).await?;
    let after = last_id(&headers).or(since.get("after")).filter(|text| !text.is_empty());
    let console = app.hub.console(id, after, reader).map_err(|error| {
        app.metrics.refused("streams");
        Failure::from(error).retry_after(10)
    })?;
    Ok(stream(Body::new(console)))
}

fn last_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok()
}

/// A [`reader`] of something that is not everybody's.
async fn admitted(
    app: &App,
    viewer: &Viewer,
    kind: &'static str,
    allowed: impl Fn(&Connection, &Viewer) -> Result<()> + Clone + Send + 'static,
) -> Result<Reader, Failure> {
    let (ask, who) = (allowed.clone(), viewer.clone());
    app.store.read(move |db| ask(db, &who)).await?;
    reader(app, viewer, kind, allowed)
}

/// Takes a place, and knows how to ask again whether the viewer may read: still signed in, still allowed.
fn reader(
    app: &App,
    viewer: &Viewer,
    kind: &'static str,
    allowed: impl Fn(&Connection, &Viewer) -> Result<()> + Clone + Send + 'static,
) -> Result<Reader, Failure> {
    let place = app.places.take(app, viewer.id, kind)?;
    let (store, viewer) = (app.store.clone(), viewer.clone());
    let check = move || -> live::Answer {
        let (store, viewer, allowed) = (store.clone(), viewer.clone(), allowed.clone());
        Box::pin(async move {
            let asked =
                store.read(move |db| Ok(is_good(db, &viewer, clock::now_ms())? && allowed(db, &viewer).is_ok()));
            // What cannot be asked is not allowed: its page comes back and is told why.
            asked.await.unwrap_or(false)
        })
    };
    Ok(Reader { check: Box::new(check), guard: Box::new(place) })
}

/// Whether the viewer is still signed in, or the token still good.
///
/// # Errors
/// 69 when the database cannot be read.
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
        // nginx would keep lines back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}
