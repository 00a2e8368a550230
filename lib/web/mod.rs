//! left4me-web: pages, live logs, the REST API and metrics. It reads the database, writes wishes into it, and pokes the
//! worker; it spawns nothing and calls nobody but the helper, for a server's console.
//!
//! | file | what |
//! |---|---|
//! | `serve` | taking connections in, leaving |
//! | `listen` | listeners and connections, TCP and unix |
//! | `middleware` | around every request: its Host, its time limit, protective headers, a failure's body |
//! | `routes`, `table`, `access` | the one table of routes: what may be asked, by whom |
//! | `auth/` | sessions, tokens, form tokens, origins, the sign-in throttle |
//! | `peers` | which user of this host opened a connection |
//! | `pages/`, `templates/`, `assets/` | what people see |
//! | `api/` | what programs see |
//! | `app`, `store` | the state that all requests share; the database |
//! | `limiter` | permits for all that many requests could exhaust |
//! | `disk` | files other than the database, on a disk that may not answer |
//! | `streams`, `live/` | SSE streams: who may open one, what they carry |
//! | `json`, `pieces` | long answers, which are sent bit by bit |
//!
//! Routes, `pages/` and `api/` import the rest, which never imports them.

mod access;
mod api;
pub mod app;
mod assets;
mod auth;
mod disk;
pub mod escape;
mod failure;
mod json;
mod limiter;
mod listen;
pub mod live;
pub mod metrics;
mod middleware;
mod pages;
mod passwords;
mod patient;
mod peers;
mod pieces;
pub mod routes;
mod scrape;
mod serve;
mod store;
mod streams;
mod table;
mod viewer;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use clap::{CommandFactory as _, Parser};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getsockname};
use nix::sys::stat::{Mode, umask};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};

use crate::base::config::{HandSockets, Logging, Paths, Ports, WorkerSocket, absolute, parse};
use crate::base::shared_secret::Secret;
use crate::base::{Error, Result, clock, journal, notify, undumpable, users};
use crate::db::identity::Identity;
use crate::doctor::Looks;
use crate::host::instance;
use app::{App, Settings, Shared};
use auth::asker::Proxies;
use auth::origin::{Origin, Origins};
use limiter::Limiter;
use listen::{Listener, Listeners};
use live::Hub;
use metrics::Metrics;
use peers::Peers;
use serve::{Door, Leaving, Limits};
use store::Store;

/// Serves pages, live logs and the REST API. Started by left4me-web.socket; by hand it listens itself.
#[derive(Parser)]
#[command(name = "left4me-web", version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    worker: WorkerSocket,
    #[command(flatten)]
    hands: HandSockets,
    #[command(flatten)]
    ports: Ports,
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    looks: Looks,
    /// Where to listen, without systemd's socket
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Seconds without a request or stream after which it leaves; 0: never
    #[arg(long, env = "LEFT4ME_WEB_IDLE_SECONDS", value_name = "LEFT4ME_WEB_IDLE_SECONDS", default_value = "60",
          value_parser = clap::value_parser!(u32).range(0..=86_400), hide_env_values = true)]
    idle_seconds: u32,
    /// The address in people's browsers, https://HOST; without one only this host itself is served
    #[arg(long, env = "LEFT4ME_WEB_ORIGIN", value_name = "LEFT4ME_WEB_ORIGIN", hide_env_values = true)]
    origin: Option<Origin>,
    /// Addresses of proxies whose X-Forwarded-For is believed, separated by commas. One of this
    /// host's own lets every local user pass for the proxy: there, a secret is better
    #[arg(
        long,
        env = "LEFT4ME_WEB_PROXIES",
        value_name = "LEFT4ME_WEB_PROXIES",
        value_delimiter = ',',
        hide_env_values = true
    )]
    proxies: Vec<IpAddr>,
    /// A file with the secret that a trusted proxy sends in the header X-Left4me-Proxy;
    /// root:left4me 0640
    #[arg(long, env = "LEFT4ME_WEB_PROXY_SECRET_FILE", value_name = "LEFT4ME_WEB_PROXY_SECRET_FILE",
          value_parser = absolute, hide_env_values = true)]
    proxy_secret_file: Option<PathBuf>,
    /// Hours after which somebody has to sign in again, whatever they do
    #[arg(long, env = "LEFT4ME_SESSION_HOURS", value_name = "LEFT4ME_SESSION_HOURS", default_value = "168",
          value_parser = clap::value_parser!(u32).range(1..=8760), hide_env_values = true)]
    session_hours: u32,
    /// The most lines of a job's log that a page or stream begins with
    #[arg(long, env = "LEFT4ME_JOB_LOG_REPLAY_LIMIT", value_name = "LEFT4ME_JOB_LOG_REPLAY_LIMIT", default_value = "5000",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000), hide_env_values = true)]
    replay_limit: u32,
    /// The most connections at once; three quarters of them may be streams
    #[arg(long, env = "LEFT4ME_WEB_CONNECTIONS", value_name = "LEFT4ME_WEB_CONNECTIONS", default_value = "512",
          value_parser = clap::value_parser!(u32).range(8..=60_000), hide_env_values = true)]
    connections: u32,
    /// The most streams of one user
    #[arg(long, env = "LEFT4ME_WEB_STREAMS_PER_USER", value_name = "LEFT4ME_WEB_STREAMS_PER_USER", default_value = "16",
          value_parser = clap::value_parser!(u32).range(1..=60_000), hide_env_values = true)]
    streams_per_user: u32,
}

const EXAMPLES: &str = "Examples:\n  systemctl start left4me-web.socket            the usual way: the first request starts it\n  left4me-web --listen 127.0.0.1:8080            in the foreground";

/// A reader that takes next to nothing for so long is dropped.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// So many connections may wait to be taken in; left4me-web.socket says the same.
const BACKLOG: u32 = 1024;

/// What still blocks when we leave has so long.
const LAST_WORK: Duration = Duration::from_secs(3);

/// Between two looks at whether the database is the same file.
const LOOK: Duration = Duration::from_secs(1);

/// Threads for what blocks: the database, passwords.
const BLOCKING: usize = 8;

/// The program's command line, for its manual page.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    undumpable::be();
    let cli = parse::<Cli>();
    journal::start(cli.logging.log);
    journal::ended(run(&cli))
}

/// The story: take the socket, open the database, serve, leave.
fn run(cli: &Cli) -> Result<()> {
    let database = cli.paths.database();
    // By hand, as root: what is written must belong to whom the data belongs to.
    users::become_successor(&database)?;
    umask(Mode::from_bits_truncate(instance::UMASK));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(1024 * 1024)
        .enable_all()
        .build()
        .map_err(|error| Error::from(error).within("no threads"))?;
    let served = runtime.block_on(async {
        let door = door(cli)?;
        let app = app(cli, Store::open(&database)?)?;
        notify::ready("serving");
        tokio::spawn(attend_watchdog());
        let limits = Limits {
            connections: count(cli.connections),
            idle: Duration::from_secs(cli.idle_seconds.into()),
            write_time: WRITE_TIME,
        };
        let waiting = Arc::clone(&app);
        let busy = move || waiting.throttle.is_needed(waiting.throttle.now());
        let (counting, hub) = (Arc::clone(&app), app.hub.clone());
        let refused = move || counting.metrics.refused("connections");
        let leaving =
            serve::serve(door, router(app), &limits, told(database.clone())?, busy, refused, move || hub.shutdown())
                .await?;
        tracing::debug!("leaving: {}", if leaving == Leaving::Idle { "idle" } else { "told to" });
        Ok(())
    });
    // What blocks, as on a disk that hangs, is not waited for without end.
    runtime.shutdown_timeout(LAST_WORK);
    served
}

/// All routes with what is around them.
pub fn router(app: App) -> Router {
    routes::router(Arc::clone(&app)).layer(from_fn_with_state(app, middleware::finish))
}

fn app(cli: &Cli, store: Store) -> Result<App> {
    let secret = cli.proxy_secret_file.as_deref().map(Secret::read).transpose();
    let secret = secret.map_err(|error| error.within("LEFT4ME_WEB_PROXY_SECRET_FILE"))?;
    let live = live::Settings::new(cli.paths.database(), cli.hands.helper_socket.clone(), cli.replay_limit);
    Ok(Arc::new(Shared {
        store,
        origins: Origins::new(cli.origin.clone()),
        proxies: Proxies::new(cli.proxies.clone(), secret, cli.origin.is_some()),
        throttle: auth::throttle::Throttle::default(),
        passwords: passwords::Passwords::default(),
        hub: Hub::start(live)?,
        streams: Limiter::new(count(cli.connections) * 3 / 4, count(cli.streams_per_user)),
        answers: json::limiter(),
        metrics: Metrics::new(clock::now_ms())?,
        settings: Settings {
            root: cli.paths.root.clone(),
            worker_socket: cli.worker.worker_socket.clone(),
            helper_socket: cli.hands.helper_socket.clone(),
            runner_socket: cli.hands.runner_socket.clone(),
            looks: cli.looks.clone(),
            ports: cli.ports.port_range,
            session: i64::from(cli.session_hours) * 3_600_000,
            replay_limit: cli.replay_limit,
        },
    }))
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// systemd's sockets; what it has not passed, we open.
fn door(cli: &Cli) -> Result<Door> {
    let passed = notify::passed_sockets().into_iter();
    let (netlink, listeners): (Vec<_>, Vec<_>) = passed.partition(is_netlink);
    let listeners = match listeners.into_iter().map(Listener::inherited).collect::<Result<Vec<_>>>()? {
        // systemd closes the listeners of a socket unit that was edited, until it is restarted.
        none if none.is_empty() && !netlink.is_empty() => return Err(no_listener()),
        none if none.is_empty() => vec![Listener::Tcp(listen(cli)?)],
        passed => passed,
    };
    Ok(Door { listeners: Listeners::new(listeners), peers: Peers::new(netlink.into_iter().next()) })
}

fn is_netlink(socket: &OwnedFd) -> bool {
    let own = getsockname::<SockaddrStorage>(socket.as_raw_fd());
    own.is_ok_and(|own| own.family() == Some(AddressFamily::Netlink))
}

fn listen(cli: &Cli) -> Result<TcpListener> {
    let listener = open(cli.listen);
    let listener = listener.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        // The unit's sandbox: only systemd opens its listeners.
        Some(Errno::EAFNOSUPPORT) if notify::watchdog_interval().is_some() => no_listener(),
        _ => Error::unavailable(format!("cannot listen at {}: {error}", cli.listen)),
    })?;
    // To port 0: the one that the kernel chose.
    let at = listener.local_addr().unwrap_or(cli.listen);
    tracing::info!("listening at http://{at}");
    Ok(listener)
}

fn no_listener() -> Error {
    Error::unavailable(
        "systemd passed no address to listen at: left4me-web.socket was edited, or is not active; as root \
         `systemctl restart left4me-web.socket`",
    )
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A task of its own: however busy the door is, systemd hears from us; and when the threads that serve hang, it does not.
async fn attend_watchdog() {
    let mut beat = tokio::time::interval(notify::watchdog_interval().unwrap_or(Duration::from_secs(3600)));
    loop {
        beat.tick().await;
        notify::watchdog();
    }
}

/// Ready when another file has the database's name.
async fn replaced(identity: &Identity) {
    while identity.is_current() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Ready when we are told to leave, or the database is another file: the next request starts a web
/// front that has all of it from there, its live streams too.
fn told(database: PathBuf) -> Result<impl Future<Output = ()>> {
    let identity = Identity::of(&database);
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = replaced(&identity) => tracing::warn!("{}", identity.replaced()),
        }
    })
}
