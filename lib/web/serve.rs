//! Accepts connections up to the limit, and stops on request or when idle.

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
use crate::web::peers::{Owner, Peer, Peers};
use crate::web::write_limit::WriteLimited;

/// The limit for a request's head, also on a connection that is kept open. A proxy has to close its
/// idle connections earlier: see keepalive in deploy/nginx and deploy/caddy.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head, bytes.
pub const MAX_HEAD: usize = 32 * 1024;
/// How long running requests and ending streams may take at exit.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Refused connections that are drained for a moment. More are closed at once.
const MAX_REFUSALS: usize = 128;
/// The most connections of game servers and steamcmd together.
const MAX_FOREIGN: usize = 16;
/// The kernel's send buffer for one client, bytes. By default it grows to megabytes per slow
/// client, which count as our memory.
const SEND_BUFFER: usize = 64 * 1024;
/// The time between two checks whether we are idle.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Sent without reading the request: a client that sends slowly must not hold us.
const FULL_RESPONSE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: \
                              text/plain\r\nContent-Length: 42\r\nRetry-After: 5\r\nConnection: \
                              close\r\n\r\nleft4me-web is full: try again in a moment";

/// Counts requests and streams until their last byte.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Counter>);

#[derive(Default)]
struct Counter {
    now: AtomicUsize,
    changed: Notify,
}

/// Counts as one request until it is dropped.
pub struct InFlightGuard(InFlight);

impl InFlight {
    /// Counts one more, until the guard is dropped.
    pub fn begin(&self) -> InFlightGuard {
        self.0.now.fetch_add(1, Ordering::SeqCst);
        InFlightGuard(self.clone())
    }

    fn is_none(&self) -> bool {
        self.0.now.load(Ordering::SeqCst) == 0
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::SeqCst);
        self.0.0.changed.notify_one();
    }
}

/// Limits for connections.
pub struct Limits {
    /// The most connections at once.
    pub connections: usize,
    /// Exit after this time without a request; zero means never.
    pub idle: Duration,
    /// A client that reads next to nothing for this long is disconnected.
    pub write_time: Duration,
}

pub struct Sockets {
    /// systemd's sockets, or our own.
    pub listeners: Listeners,
    /// Knows who opened a connection.
    pub peers: Peers,
}

/// A connection's permit, and one of the few for foreign code.
type Permits = (Permit, Option<Permit>);

/// Why [`serve`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// There was no request for the idle time.
    Idle,
    /// SIGTERM or SIGINT, or the database was replaced.
    Requested,
}

/// Serves until idle or until `stop` completes. `busy` keeps the process from being idle. `refused`
/// is called for each refused connection, and `close_streams` once the listeners are closed.
pub async fn serve(
    sockets: Sockets,
    router: Router,
    limits: &Limits,
    stop: impl Future<Output = ()>,
    mut busy: impl FnMut() -> bool,
    refused: impl Fn(),
    close_streams: impl FnOnce(),
) -> Result<StopReason> {
    let connections = Limiter::shared(limits.connections);
    let refusals = Limiter::shared(MAX_REFUSALS);
    let foreign = Limiter::shared(MAX_FOREIGN);
    let graceful = GracefulShutdown::new();
    let in_flight = InFlight::default();
    let Sockets {
        mut listeners,
        peers,
    } = sockets;

    let mut stop = pin!(stop);
    let mut idle_since = Instant::now();

    let reason = loop {
        // An open connection counts as use. A proxy may send on it at any moment, and a request
        // that crosses our exit is lost (502). Silent connections are closed after HEAD_TIMEOUT.
        let connected = connections.is_used();
        if connected || !in_flight.is_none() || busy() {
            idle_since = Instant::now();
        }

        let due = if limits.idle.is_zero() {
            Instant::now() + CHECK_INTERVAL
        } else {
            (idle_since + limits.idle).min(Instant::now() + CHECK_INTERVAL)
        };

        tokio::select! {
            biased;
            () = &mut stop => break StopReason::Requested,
            taken = listeners.accept() => {
                idle_since = Instant::now();

                match taken {
                    Ok(stream) => match admit(&stream, &peers, &connections, &foreign) {
                        Some((peer, permits)) => serve_connection(stream, peer, &router, limits, &graceful, &in_flight, permits),
                        None => {
                            refused();
                            refuse(stream, &refusals);
                        }
                    },
                    // Probably out of descriptors: some will be closed soon.
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            () = in_flight.0.changed.notified() => idle_since = Instant::now(),
            () = sleep_until(due) => {
                if !limits.idle.is_zero() && !connected && in_flight.is_none() && !busy() && idle_since.elapsed() >= limits.idle {
                    break StopReason::Idle;
                }
            }
        }
    };

    // Connections in the listener's queue stay there: systemd holds the socket and starts us again.
    drop(listeners);

    // An idle exit is not reported to systemd as stopping: a socket cannot be restarted while its
    // service stops, and a restart would skip the service.
    match reason {
        StopReason::Requested => notify::stopping("exiting"),
        StopReason::Idle => notify::status("exiting"),
    }

    close_streams();
    if timeout(DRAIN_TIME, graceful.shutdown()).await.is_err() {
        tracing::warn!(
            "requests still running after {} s are aborted",
            DRAIN_TIME.as_secs()
        );
    }

    Ok(reason)
}

/// The peer of a connection, and its permits. Game servers have few, so that a plugin that opens
/// many takes none from users.
fn admit(
    stream: &Connection,
    peers: &Peers,
    connections: &Limiter,
    foreign: &Limiter,
) -> Option<(Peer, Permits)> {
    let permit = connections.try_acquire()?;
    let peer = stream.peer(peers);
    let few = match peer.owner {
        Owner::Foreign(_) => Some(foreign.try_acquire()?),
        _ => None,
    };
    Some((peer, (permit, few)))
}

fn serve_connection(
    stream: Connection,
    peer: Peer,
    router: &Router,
    limits: &Limits,
    graceful: &GracefulShutdown,
    in_flight: &InFlight,
    permits: Permits,
) {
    stream.set_nodelay();
    setsockopt(&stream, sockopt::SndBuf, &SEND_BUFFER).ok();

    let (router, in_flight) = (router.clone(), in_flight.clone());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (router, guard) = (router.clone(), in_flight.begin());
        async move { Ok::<_, Infallible>(answer(router, request, peer, guard).await) }
    });

    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .half_close(false);

    let io = TokioIo::new(WriteLimited::new(stream, limits.write_time));
    let served = graceful.watch(server.serve_connection(io, service));

    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::debug!(peer = %peer.addr, "a connection ended: {error}");
        }
        drop(permits);
    });
}

/// The router's response. It counts as in flight until its last byte.
async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: Peer,
    guard: InFlightGuard,
) -> axum::response::Response {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));

    let mut ready = match router.into_service().ready_oneshot().await {
        Ok(ready) => ready,
        Err(never) => match never {},
    };

    match ready.call(request).await {
        Ok(response) => response.map(|body| {
            Body::new(Counted {
                body,
                _in_use: guard,
            })
        }),
        Err(never) => match never {},
    }
}

/// A body that counts as in flight.
struct Counted {
    body: Body,
    _in_use: InFlightGuard,
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

/// Sends a 503. Then reads and drops input for a moment, because closing with unread bytes could
/// discard the response.
fn refuse(mut stream: Connection, refusals: &Limiter) {
    // It fits into a new connection's buffer, so every client gets it, however many come at once.
    send(
        stream.as_raw_fd(),
        FULL_RESPONSE,
        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
    )
    .ok();

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
