//! Every request passes here before its handler: is it meant for us, who asks, may they, and did our own page send it.

pub mod asker;
pub mod back;
pub mod origin;
pub mod session;
pub mod throttle;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};

use self::asker::{Asker, Locality};
use self::back::came_from;
use crate::base::clock;
use crate::db::{tokens, users};
use crate::web::access::Who;
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::viewer::{Credential, Viewer};

/// The longest body, bytes: a server.cfg is a few of them.
pub const BODY: usize = 64 * 1024;

/// The header that stands for a form's token.
const CSRF_HEADER: &str = "x-csrf-token";

/// What [`check`] knows: the shared state, and who may use the route.
#[derive(Clone)]
pub struct Guarded {
    /// The state.
    pub app: App,
    /// Who may.
    pub who: Who,
}

/// Lets a request pass to its handler, with its [`Viewer`] in the extensions, or answers it.
pub async fn check(State(guarded): State<Guarded>, request: Request, next: Next) -> Response {
    let who = guarded.who;
    match admit(&guarded, request).await {
        Ok(request) => {
            let viewer = request.extensions().get::<Viewer>().cloned();
            let mut response = next.run(request).await;
            // A failure's page has the same frame as the others.
            if let Some(viewer) = viewer {
                response.extensions_mut().insert(viewer);
            }
            response
        }
        Err(refusal) => match *refusal {
            // A page is for people: they are sent to where they can sign in.
            Refusal::Anonymous(back) if !who.is_api() => Redirect::to(&login(back.as_deref())).into_response(),
            Refusal::Anonymous(_) => challenge(Failure::anonymous()),
            Refusal::Failure(failure) if failure.status == StatusCode::UNAUTHORIZED => challenge(failure),
            Refusal::Failure(failure) => failure.into_response(),
        },
    }
}

/// 401 says how to do better.
fn challenge(failure: Failure) -> Response {
    let mut response = failure.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

enum Refusal {
    /// With the page to come back to.
    Anonymous(Option<String>),
    Failure(Failure),
}

impl From<Failure> for Box<Refusal> {
    fn from(failure: Failure) -> Self {
        Box::new(Refusal::Failure(failure))
    }
}

async fn admit(guarded: &Guarded, request: Request) -> Result<Request, Box<Refusal>> {
    let Guarded { app, who } = guarded;
    let (mut parts, mut body) = request.into_parts();
    let viewer = viewer(app, *who, &parts.headers).await?;
    match (&viewer, who) {
        (None, Who::Anyone) => {}
        (None, Who::Scraper) if is_local(&parts)? => {}
        (None, _) => {
            // The answer to a form cannot be asked for again: one comes back to the form.
            let safe = parts.method.is_safe();
            let back = if safe {
                parts.uri.path_and_query().map(ToString::to_string)
            } else {
                Some(came_from(&parts.headers))
            };
            return Err(Box::new(Refusal::Anonymous(back)));
        }
        (Some(viewer), Who::Admin | Who::ApiAdmin | Who::Scraper) if !viewer.is_admin => {
            return Err(Failure::forbidden("only an admin may do this").into());
        }
        (Some(_), _) => {}
    }
    if !parts.method.is_safe() {
        let by_token = viewer.as_ref().is_some_and(|viewer| matches!(viewer.by, Credential::Token(_)));
        // A browser sends a cookie along by itself, a token never.
        if !by_token && !app.origins.is_from_us(&parts.method, &parts.headers) {
            return Err(Failure::forbidden("this was not sent by a page of ours: load the page again").into());
        }
        let bytes = whole(body).await?;
        // Signing in needs none: a page for it may be older than the session that another one began.
        if let Some(viewer) = viewer.as_ref().filter(|_| !by_token && *who != Who::Anyone)
            && !has_token(&parts.headers, &bytes, &viewer.csrf)
        {
            return Err(Failure::forbidden("the form's token is missing or old: load the page again").into());
        }
        body = Body::from(bytes);
    }
    if let Some(viewer) = viewer {
        parts.extensions.insert(viewer);
    }
    Ok(Request::from_parts(parts, body))
}

/// Whether a user of this host asks.
///
/// # Errors
/// 403 for a program on this host that is no user's, or may not be.
fn is_local(parts: &Parts) -> Result<bool, Failure> {
    match parts.extensions.get::<Asker>().map(|asker| asker.locality) {
        Some(Locality::Local) => Ok(true),
        Some(Locality::Foreign) => Err(Failure::forbidden("a game server needs an admin's token for this")),
        Some(Locality::Unknown) => Err(Failure::forbidden(
            "the kernel does not say which user of this host asks: use an admin's token (Authorization: Bearer l4m_…)",
        )),
        Some(Locality::Elsewhere) | None => Ok(false),
    }
}

/// Who asks: by token where the API is asked, else by session.
async fn viewer(app: &App, who: Who, headers: &HeaderMap) -> Result<Option<Viewer>, Failure> {
    if who.takes_token()
        && let Some(text) = bearer(headers)
    {
        return token(app, text.to_owned()).await.map(Some);
    }
    match session::cookie(headers, app.origins.is_https()) {
        Some(text) => session::viewer(app, text.to_owned(), headers.contains_key("x-live")).await,
        None => Ok(None),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(text.trim())
}

/// A token that is not good is told, not taken for nobody's.
async fn token(app: &App, text: String) -> Result<Viewer, Failure> {
    let now = clock::now_ms();
    let found = app.store.read(move |db| {
        let Some(token) = tokens::authenticate(db, &text)? else { return Ok(None) };
        Ok(users::get(db, token.user_id)?.map(|user| (token, user)))
    });
    let Some((token, user)) = found.await? else {
        return Err(Failure::new(
            StatusCode::UNAUTHORIZED,
            "this token is not good: unknown, revoked, or of a disabled user",
        ));
    };
    if token.last_used_at.is_none_or(|used| (used - now).abs() > 60_000) {
        app.store.write_in_passing(move |tx| tokens::touch(tx, token.id, now));
    }
    let by = Credential::Token(token.id);
    Ok(Viewer { id: user.id, name: user.name, is_admin: user.is_admin, csrf: String::new(), by })
}

async fn whole(body: Body) -> Result<Bytes, Failure> {
    axum::body::to_bytes(body, BODY).await.map_err(|error| {
        let too_long =
            std::error::Error::source(&error).is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
        match too_long {
            true => Failure::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request is longer than {BODY} bytes")),
            false => Failure::new(StatusCode::BAD_REQUEST, "the request broke off"),
        }
    })
}

/// In the header, or in a form's field.
fn has_token(headers: &HeaderMap, body: &[u8], token: &str) -> bool {
    if let Some(value) = headers.get(CSRF_HEADER) {
        return same(value.as_bytes(), token.as_bytes());
    }
    let is_form = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("application/x-www-form-urlencoded")));
    let fields = if is_form {
        serde_urlencoded::from_bytes::<Vec<(String, String)>>(body).unwrap_or_default()
    } else {
        Vec::new()
    };
    fields.iter().any(|(name, value)| name == "csrf" && same(value.as_bytes(), token.as_bytes()))
}

/// Compares all of it, whatever differs: the time tells nothing.
fn same(one: &[u8], other: &[u8]) -> bool {
    !other.is_empty()
        && one.len() == other.len()
        && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// The sign-in page, which leads back to where somebody wanted to go.
fn login(back: Option<&str>) -> String {
    match back {
        None | Some("/") => "/login".to_owned(),
        Some(path) => serde_urlencoded::to_string([("next", path)])
            .map_or_else(|_| "/login".to_owned(), |query| format!("/login?{query}")),
    }
}
