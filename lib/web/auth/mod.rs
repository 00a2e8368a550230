//! Authentication and authorization. Each request passes here before its handler: who sent it, may
//! they, and did one of our own pages send it.

pub mod client;
pub mod origin;
pub mod redirect;
pub mod session;
pub mod throttle;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};

use self::client::{Client, Locality};
use self::redirect::referer_path;
use crate::base::clock;
use crate::db::{tokens, users};
use crate::web::access::Access;
use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::viewer::{Credential, Viewer};

/// The longest body, bytes. A server.cfg fits many times.
pub const MAX_BODY: usize = 64 * 1024;

/// The header that replaces a form's token.
const CSRF_HEADER: &str = "x-csrf-token";

/// The state of [`check`] for one route.
#[derive(Clone)]
pub struct RouteAuth {
    pub app: App,
    /// Who may use the route.
    pub who: Access,
}

/// Passes a request to its handler, with its [`Viewer`] in the extensions, or answers it.
pub async fn check(State(auth): State<RouteAuth>, request: Request, next: Next) -> Response {
    let who = auth.who;
    match authorize(&auth, request).await {
        Ok(request) => {
            let viewer = request.extensions().get::<Viewer>().cloned();
            let mut response = next.run(request).await;
            // An error page has the same frame as other pages.
            if let Some(viewer) = viewer {
                response.extensions_mut().insert(viewer);
            }
            response
        }
        Err(denial) => match *denial {
            // Browsers are sent to the sign-in page.
            Denial::Anonymous(back) if !who.is_api() => {
                Redirect::to(&login_url(back.as_deref())).into_response()
            }
            Denial::Anonymous(_) => challenge(Failure::anonymous()),
            Denial::Failure(failure) if failure.status == StatusCode::UNAUTHORIZED => {
                challenge(failure)
            }
            Denial::Failure(failure) => failure.into_response(),
        },
    }
}

/// A 401 names the scheme that would work.
fn challenge(failure: Failure) -> Response {
    let mut response = failure.into_response();
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        header::HeaderValue::from_static("Bearer"),
    );
    response
}

enum Denial {
    /// With the page to return to.
    Anonymous(Option<String>),
    Failure(Failure),
}

impl From<Failure> for Box<Denial> {
    fn from(failure: Failure) -> Self {
        Box::new(Denial::Failure(failure))
    }
}

async fn authorize(auth: &RouteAuth, request: Request) -> Result<Request, Box<Denial>> {
    let RouteAuth { app, who } = auth;
    let (mut parts, mut body) = request.into_parts();

    let viewer = viewer(app, *who, &parts.headers).await?;
    match (&viewer, who) {
        (None, Access::Anyone) => {}
        (None, Access::Scraper) if is_local(&parts)? => {}
        (None, _) => {
            // A form's result cannot be requested again, so the browser returns to the form.
            let safe = parts.method.is_safe();
            let back = if safe {
                parts.uri.path_and_query().map(ToString::to_string)
            } else {
                Some(referer_path(&parts.headers))
            };

            return Err(Box::new(Denial::Anonymous(back)));
        }
        (Some(viewer), Access::Admin | Access::ApiAdmin | Access::Scraper) if !viewer.is_admin => {
            return Err(Failure::forbidden("only an admin may do this").into());
        }
        (Some(_), _) => {}
    }

    // A request that changes something must come from one of our pages.
    if !parts.method.is_safe() {
        let by_token = viewer
            .as_ref()
            .is_some_and(|viewer| matches!(viewer.by, Credential::Token(_)));
        // A browser sends cookies by itself, but never a token.
        if !by_token && !app.origins.is_from_us(&parts.method, &parts.headers) {
            return Err(Failure::forbidden(
                "this request was not sent by a page of left4me: reload the page",
            )
            .into());
        }

        let bytes = read_body(body).await?;
        // Signing in needs no token: the page may be older than a session begun in another tab.
        if let Some(viewer) = viewer
            .as_ref()
            .filter(|_| !by_token && *who != Access::Anyone)
            && !has_token(&parts.headers, &bytes, &viewer.csrf)
        {
            return Err(Failure::forbidden(
                "the form's token is missing or expired: reload the page",
            )
            .into());
        }

        body = Body::from(bytes);
    }

    if let Some(viewer) = viewer {
        parts.extensions.insert(viewer);
    }

    Ok(Request::from_parts(parts, body))
}

/// Whether a user of this host sent the request.
///
/// Fails with 403 for a program on this host that is foreign code, or may be.
fn is_local(parts: &Parts) -> Result<bool, Failure> {
    match parts
        .extensions
        .get::<Client>()
        .map(|client| client.locality)
    {
        Some(Locality::Local) => Ok(true),
        Some(Locality::Foreign) => Err(Failure::forbidden(
            "a game server needs an admin's token for this",
        )),
        Some(Locality::Unknown) => Err(Failure::forbidden(
            "the kernel does not say which user of this host sent this: use an admin's token \
            (Authorization: Bearer l4m_…)",
        )),
        Some(Locality::Elsewhere) | None => Ok(false),
    }
}

/// The viewer: by token on API routes, else by session.
async fn viewer(app: &App, who: Access, headers: &HeaderMap) -> Result<Option<Viewer>, Failure> {
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

/// A bad token is an error; the request is not treated as anonymous.
async fn token(app: &App, text: String) -> Result<Viewer, Failure> {
    let now = clock::now_ms();
    let found = app.store.read(move |db| {
        let Some(token) = tokens::authenticate(db, &text)? else {
            return Ok(None);
        };
        Ok(users::get(db, token.user_id)?.map(|user| (token, user)))
    });

    let Some((token, user)) = found.await? else {
        return Err(Failure::new(
            StatusCode::UNAUTHORIZED,
            "invalid token: unknown, revoked, or of a disabled user",
        ));
    };

    if token
        .last_used_at
        .is_none_or(|used| (used - now).abs() > 60_000)
    {
        app.store
            .write_in_passing(move |tx| tokens::touch(tx, token.id, now));
    }

    let by = Credential::Token(token.id);
    Ok(Viewer {
        id: user.id,
        name: user.name,
        is_admin: user.is_admin,
        csrf: String::new(),
        by,
        in_fleet: false,
    })
}

async fn read_body(body: Body) -> Result<Bytes, Failure> {
    axum::body::to_bytes(body, MAX_BODY).await.map_err(|error| {
        let too_long = std::error::Error::source(&error)
            .is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
        match too_long {
            true => Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request is longer than {MAX_BODY} bytes"),
            ),
            false => Failure::new(StatusCode::BAD_REQUEST, "the request is incomplete"),
        }
    })
}

/// The token may be in the header or in a form's field.
fn has_token(headers: &HeaderMap, body: &[u8], token: &str) -> bool {
    if let Some(value) = headers.get(CSRF_HEADER) {
        return constant_time_eq(value.as_bytes(), token.as_bytes());
    }

    let is_form = headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.to_str()
            .is_ok_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
    });

    let fields = if is_form {
        serde_urlencoded::from_bytes::<Vec<(String, String)>>(body).unwrap_or_default()
    } else {
        Vec::new()
    };

    fields
        .iter()
        .any(|(name, value)| name == "csrf" && constant_time_eq(value.as_bytes(), token.as_bytes()))
}

/// Compares all bytes in any case, so that the time reveals nothing.
fn constant_time_eq(one: &[u8], other: &[u8]) -> bool {
    !other.is_empty()
        && one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
}

/// The URL of the sign-in page, which returns to `back`.
fn login_url(back: Option<&str>) -> String {
    match back {
        None | Some("/") => "/login".to_owned(),
        Some(path) => serde_urlencoded::to_string([("next", path)])
            .map_or_else(|_| "/login".to_owned(), |query| format!("/login?{query}")),
    }
}
