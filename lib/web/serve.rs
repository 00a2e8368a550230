//! The listener's side: taking connections in, as many as there is room for; leaving when nobody needs us, and when told.

use std::convert::Infallible;
use std::os::fd::AsRawFd as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tower::{Service as _, ServiceExt as _};

use crate::base::{Result, notify};
use crate::web::limiter::{Limiter, Permit};
use crate::web::listen::{Connection, Listeners};
use crate::web::patient::Patient;
use crate::web::peers::{Owner, Peer, Peers};

/// A request's head has to be there within this time, a connection that is kept open included. A
/// proxy must let go of its connections before: see keepalive in deploy/nginx and deploy/caddy.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The longest head, bytes.
pub const HEAD: usize = 32 * 1024;
/// Requests that run, and streams that end, have so long when we leave.
const LAST_CALL: Duration = Duration::from_secs(5);
/// So many connections that were told that there is no room are listened to for a moment; more are closed at once.
const REFUSALS: usize = 128;
/// The most connections of game servers and steamcmd together.
const FOREIGN: usize = 16;
/// What the kernel keeps for a reader that is slow: by itself it would keep megabytes for each, and count them as ours.
const SEND_BUFFER: usize = 64 * 1024;
/// Between two looks at whether anybody still needs us.
const LOOK: Duration = Duration::from_secs(1);

/// Said without reading the request: whoever sends it slowly must not keep us.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 42\r\nRetry-After: 5\r\nConnection: close\r\n\r\nleft4me-web is full: try again in a moment";

/// Counts what is under way: requests, and streams until their last byte.
#[derive(Clone, Default)]
pub struct Use(Arc<Counter>);

#[derive(Default)]
struct Counter {
    now: AtomicUsize,
    changed: Notify,
}

/// One of those that are counted.
pub struct InUse(Use);

impl Use {
    /// Counts one more, until it is dropped.
    #[must_use]
    pub fn begin(&self) -> InUse {
        self.0.now.fetch_add(1, Ordering::SeqCst);
        InUse(self.clone())
    }

    fn is_none(&self) -> bool {
        self.0.now.load(Ordering::SeqCst) == 0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::SeqCst);
        self.0.0.changed.notify_one();
    }
}

/// How connections are served.
pub struct Limits {
    /// The most connections at once.
    pub connections: usize,
    /// Leave when nothing was asked for so long.
    pub idle: Duration,
    /// A reader that takes next to nothing for so long is dropped.
    pub write_time: Duration,
}

/// Where connections come in.
pub struct Door {
    /// systemd's sockets, or our own.
    pub listeners: Listeners,
    /// Knows who opened a connection.
    pub peers: Peers,
}

/// A connection's permit, and one of the few for foreign code.
type Permits = (Permit, Option<Permit>);

/// Why [`serve`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Nobody asked anything for long.
    Idle,
    /// SIGTERM or SIGINT.
    Told,
}

/// Serves until nobody needs us or `told` is ready. `busy` says whether something else keeps us; `refused` is called for each
/// connection that found no room, `leave` when
/// the door is closed, so that streams end.
///
/// # Errors
/// Never at present: a connection that fails is its own affair.
pub async fn serve(
    door: Door,
    router: Router,
    limits: &Limits,
    told: impl Future<Output = ()>,
    mut busy: impl FnMut() -> bool,
    refused: impl Fn(),
    leave: impl FnOnce(),
) -> Result<Leaving> {
    let connections = Limiter::shared(limits.connections);
    let refusals = Limiter::shared(REFUSALS);
    let foreign = Limiter::shared(FOREIGN);
    let graceful = GracefulShutdown::new();
    let using = Use::default();
    let Door { mut listeners, peers } = door;
    let mut told = pin!(told);
    let mut idle_since = Instant::now();
    let leaving = loop {
        // Who has a connection open may send on it at any moment, and a proxy does: a request that meets
        // our end on the way is lost (502). Silent ones are closed after HEAD_TIME, so none keeps us.
        let connected = connections.is_used();
        if connected || !using.is_none() || busy() {
            idle_since = Instant::now();
        }
        let due = if limits.idle.is_zero() {
            Instant::now() + LOOK
        } else {
            (idle_since + limits.idle).min(Instant::now() + LOOK)
        };
        tokio::select! {
            biased;
            () = &mut told => break Leaving::Told,
            taken = listeners.accept() => {
                idle_since = Instant::now();
                match taken {
                    Ok(stream) => match admit(&stream, &peers, &connections, &foreign) {
                        Some((peer, permits)) => connection(stream, peer, &router, limits, &graceful, &using, permits),
                        None => {
                            refused();
                            refuse(stream, &refusals);
                        }
                    },
                    // Out of descriptors, most likely: some will be closed soon.
                    Err(error) => {
                        tracing::warn!("no connection could be taken: {error}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            () = using.0.changed.notified() => idle_since = Instant::now(),
            () = sleep_until(due) => {
                if !limits.idle.is_zero() && !connected && using.is_none() && !busy() && idle_since.elapsed() >= limits.idle {
                    break Leaving::Idle;
                }
            }
        }
    };
    // What waits in the listener's queue stays there: systemd holds the socket, and starts us again for it.
    drop(listeners);
    // systemd does not hear that an idle one stops: a socket cannot be restarted beside a service
    // that is on its way out, and a restart passes such a service over.
    match leaving {
        Leaving::Told => notify::stopping("leaving"),
        Leaving::Idle => notify::status("leaving"),
    }
    leave();
    if timeout(LAST_CALL, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way after {} s: they are broken off", LAST_CALL.as_secs());
    }
    Ok(leaving)
}

/// Who opened the connection, and its permits. Game servers have few: a plugin that opens as many as it can takes none
/// of people's.
fn admit(stream: &Connection, peers: &Peers, connections: &Limiter, foreign: &Limiter) -> Option<(Peer, Permits)> {
    let permit = connections.try_acquire()?;
    let peer = stream.peer(peers);
    let few = match peer.owner {
        Owner::Foreign(_) => Some(foreign.try_acquire()?),
        _ => None,
    };
    Some((peer, (permit, few)))
}

fn connection(
    stream: Connection,
    peer: Peer,
    router: &Router,
    limits: &Limits,
    graceful: &GracefulShutdown,
    using: &Use,
    permits: Permits,
) {
    stream.set_nodelay();
    setsockopt(&stream, sockopt::SndBuf, &SEND_BUFFER).ok();
    let (router, using) = (router.clone(), using.clone());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (router, in_use) = (router.clone(), using.begin());
        async move { Ok::<_, Infallible>(answer(router, request, peer, in_use).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD).half_close(false);
    let io = TokioIo::new(Patient::new(stream, limits.write_time));
    let served = graceful.watch(server.serve_connection(io, service));
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::debug!(peer = %peer.addr, "a connection ended: {error}");
        }
        drop(permits);
    });
}

/// The router's answer; it counts as under way until its last byte.
async fn answer(router: Router, request: Request<Incoming>, peer: Peer, in_use: InUse) -> axum::response::Response {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut ready = match router.into_service().ready_oneshot().await {
        Ok(ready) => ready,
        Err(never) => match never {},
    };
    match ready.call(request).await {
        Ok(response) => response.map(|body| Body::new(Counted { body, _in_use: in_use })),
        Err(never) => match never {},
    }
}

/// A body that is counted.
struct Counted {
    body: Body,
    _in_use: InUse,
}

impl http_body::Body for Counted {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Tells a connection that there is no room. What it sends is thrown away for a moment: closing over unread bytes could
/// take our words back.
fn refuse(mut stream: Connection, refusals: &Limiter) {
    // They fit into a fresh connection's buffer, so that all are told, however many come at once.
    send(stream.as_raw_fd(), FULL, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).ok();
    let mut waste = [0; 4096];
    let Some(permit) = refusals.try_acquire() else {
        recv(stream.as_raw_fd(), &mut waste, MsgFlags::MSG_DONTWAIT).ok();
        return;
    };
    tokio::spawn(async move {
        let rest = async {
            stream.shutdown().await?;
            while stream.read(&mut waste).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        timeout(Duration::from_secs(1), rest).await.ok();
        drop(permit);
    });
}
