//! The outermost middleware. It checks the request's Host, limits its time and gives it an id for
//! the journal; it adds security headers to the response, and a body to a failure.

use std::time::{Duration, Instant};

use askama::Template;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

use crate::base::secret;
use crate::web::app::App;
use crate::web::auth::client::SECRET_HEADER;
use crate::web::auth::session;
use crate::web::failure::Failure;
use crate::web::metrics;
use crate::web::pages::frame::Frame;
use crate::web::peers::Peer;
use crate::web::serve::MAX_HEAD;
use crate::web::viewer::Viewer;

/// The limit until a response starts. A stream's body is not counted.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Only our own files and nothing inline, so that injected text stays text.
const CSP: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; \
                   frame-ancestors 'none'; object-src 'none'";

pub async fn finish(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = secret::random().map_or_else(|_| "-".to_owned(), |text| text[..16].to_owned());
    let path = request.uri().path().to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let signed_in = session::cookie(request.headers(), app.origins.is_https()).is_some();

    let peer = request
        .extensions()
        .get::<ConnectInfo<Peer>>()
        .map(|peer| peer.0);
    if let Some(peer) = &peer {
        let client = app.proxies.client(peer, request.headers());
        request.extensions_mut().insert(client);
    }

    // Handlers must not see the secret.
    request.headers_mut().remove(SECRET_HEADER);

    // Run the handler, unless the request is not for us.
    let begun = Instant::now();
    let mut response = if head_length(&request) > MAX_HEAD {
        Failure::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            format!("the request's head is longer than {MAX_HEAD} bytes"),
        )
        .into_response()
    } else if app.origins.is_our_host(request.headers()) {
        match tokio::time::timeout(TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Failure::busy("this took too long: try again", 5).into_response(),
        }
    } else {
        let message =
            "this host is not known here: set LEFT4ME_WEB_ORIGIN to the address in the browser";
        Failure::new(StatusCode::MISDIRECTED_REQUEST, message).into_response()
    };

    if is_plain_refusal(&response) {
        // The framework's own message, for instance on a path that is not UTF-8.
        let failure = match response.status() {
            StatusCode::BAD_REQUEST => Failure::no_page(),
            status => Failure::new(status, "the request cannot be read"),
        };

        response.extensions_mut().insert(failure);
    }

    // Render a failure. The details of an internal one go only into the journal.
    if let Some(mut failure) = response.extensions_mut().remove::<Failure>() {
        if failure.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(request_id = id, peer = ?peer.map(|peer| peer.addr), "{method} {path}: \
                {}", failure.message);
            failure.request_id = Some(id.clone());
            "internal error: see left4me-web's journal".clone_into(&mut failure.message);
        }

        let viewer = response.extensions_mut().remove::<Viewer>();
        response = failure_response(&path, &failure, viewer, response.headers());
    }

    tracing::debug!(
        request_id = id,
        "{method} {path} {}",
        response.status().as_u16()
    );

    let route = route.as_deref().unwrap_or(metrics::NO_ROUTE);
    app.metrics.observe(
        method.as_str(),
        route,
        response.status().as_u16(),
        begun.elapsed(),
    );

    add_security_headers(response.headers_mut(), signed_in);
    response
}

/// hyper limits a head that is incomplete in its buffer; one that arrives at once can be longer.
fn head_length(request: &Request) -> usize {
    let fields = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    request
        .uri()
        .path_and_query()
        .map_or(0, |path| path.as_str().len())
        + fields.sum::<usize>()
}

fn is_plain_refusal(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    response.status().is_client_error()
        && response.extensions().get::<Failure>().is_none()
        && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

/// The response to a failure: JSON for programs, a page for people.
fn failure_response(
    path: &str,
    failure: &Failure,
    viewer: Option<Viewer>,
    before: &HeaderMap,
) -> Response {
    let is_api = path.starts_with("/api/") || path == "/metrics" || path == "/health";
    let mut response = if is_api {
        (failure.status, axum::Json(failure.body())).into_response()
    } else {
        let title = "That did not work";
        let frame = viewer.map_or_else(
            || Frame::anonymous(title),
            |viewer| Frame::of(viewer, title),
        );

        let page = FailurePage { frame, failure };
        match page.render() {
            Ok(page) => (failure.status, Html(page)).into_response(),
            Err(error) => (failure.status, format!("{}\n{error}", failure.message)).into_response(),
        }
    };

    for name in [header::WWW_AUTHENTICATE, header::ALLOW] {
        if let Some(value) = before.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }

    if let Some(seconds) = failure.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }

    // Close the connection after a 503, so that it does not hold a permit.
    if failure.status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }

    response
}

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage<'a> {
    frame: Frame,
    failure: &'a Failure,
}

fn add_security_headers(headers: &mut HeaderMap, signed_in: bool) {
    let mut set = |name: &'static str, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value))
    };
    set("content-security-policy", CSP);
    set("x-content-type-options", "nosniff");
    set("referrer-policy", "same-origin");
    set("cross-origin-opener-policy", "same-origin");
    set("cross-origin-resource-policy", "same-origin");
    set(
        "permissions-policy",
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    );

    // Pages seen while signed in must not come back with the Back button after signing out. Assets
    // have their own Cache-Control.
    if signed_in && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
