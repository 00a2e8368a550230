//! One POST request. No redirect is followed, no proxy is used, no connection is kept.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{HeaderMap, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{address, later, tls};
use crate::base::config::NotifySettings;
use crate::domain::alert::request::{HttpRequest, request, verdict};
use crate::domain::alert::{Answer, Delivery};

/// How much of an answer's body is read, in bytes. The rest is not even received.
const BODY: usize = 64 * 1024;

/// How large an answer's headers may be, in bytes.
const HEADERS: usize = 64 * 1024;

/// Posts the message to the destination's URL.
pub(super) async fn send(settings: &NotifySettings, delivery: &Delivery) -> Answer {
    let Some(uri) = delivery.to.uri() else {
        return Answer::Refused("the destination has no URL".to_owned());
    };
    let request = request(delivery.to.channel(), &delivery.message);
    post(&uri, request, settings.alert_private)
        .await
        .unwrap_or_else(|answer| answer)
}

async fn post(uri: &Uri, request: HttpRequest, allow_private: bool) -> Result<Answer, Answer> {
    let is_tls = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let request = built(uri, request)?;

    let stream = address::connect_public(host, port, allow_private).await?;
    if is_tls {
        exchange(tls::wrap(stream, host).await?, request).await
    } else {
        exchange(stream, request).await
    }
}

/// The request with its headers.
fn built(uri: &Uri, request: HttpRequest) -> Result<Request<Full<Bytes>>, Answer> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut builder = Request::post(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("left4me/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_LENGTH, request.body.len());
    for (name, value) in request.headers {
        builder = builder.header(name, value);
    }
    builder
        .body(Full::from(request.body))
        .map_err(|error| Answer::Refused(format!("not a request: {error}")))
}

/// Sends the request over a connection, and judges the answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Answer> {
    let failed = |error: hyper::Error| later(format!("no valid answer: {error}"));
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // It ends with the runtime.
    tokio::spawn(connection);

    let response = sender.send_request(request).await.map_err(failed)?;
    let (head, body) = response.into_parts();
    let status = head.status;
    let mut reason = status.canonical_reason().unwrap_or_default().to_owned();
    if status.is_redirection() {
        reason += &leads_to(&head.headers);
    }
    let retry_after = head.headers.get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok());
    let text = beginning(body).await;
    Ok(verdict(status.as_u16(), &reason, retry_after, &text))
}

/// Where a redirect leads to, without its path, which may be a secret.
fn leads_to(headers: &HeaderMap) -> String {
    let to = headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok()?.parse::<Uri>().ok());
    match to.as_ref().and_then(Uri::authority) {
        Some(host) => format!(" (to {})", host.host()),
        None => String::new(),
    }
}

/// The first bytes of a body. What cannot be read is left out: the status says what happened.
async fn beginning(mut body: Incoming) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let left = BODY - bytes.len();
        bytes.extend(data.iter().take(left));
        if bytes.len() == BODY {
            break;
        }
    }
    bytes
}
