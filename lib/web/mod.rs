//! left4me-web: pages, live logs, the REST API and metrics. It reads the database, writes wishes into it, and pokes the
//! worker; it spawns nothing and calls nobody but the helper, for a server's console.
//!
//! | file | what |
//! |---|---|
//! | `serve` | taking connections in, leaving |
//! | `listen` | listeners and connections, TCP and unix |
//! | `answer` | around every request: its Host, its time, the headers that protect it, a failure's body |
//! | `routes` | the one table: what may be asked, by whom |
//! | `guard/` | who asks, and whether our own page sent it |
//! | `peers` | which user of this host opened a connection |
//! | `pages/`, `templates/`, `assets/` | what people see |
//! | `api/` | what programs see |
//! | `disk` | files other than the database, on a disk that may not answer |
//! | `live/` | streams |
//! | `turns`, `pieces` | long answers: whose turn it is, and what is sent bit by bit |

mod answer;
mod api;
pub mod app;
mod assets;
mod disk;
pub mod escape;
mod failure;
mod guard;
mod listen;
pub mod live;
pub mod metrics;
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
mod turns;
mod viewer;

use std::net::SocketAddr;
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

use crate::base::config::{HandSockets, Logging, Paths, Ports, WebSettings, WorkerSocket, parse};
use crate::base::shared_secret::Secret;
use crate::base::{Error, Result, clock, journal, notify, undumpable, users};
use crate::db::identity::Identity;
use crate::doctor::Looks;
use crate::host::instance;
use app::{App, Settings, Shared};
use guard::asker::Proxies;
use guard::origin::Origins;
use listen::{Listener, Listeners};
use live::Hub;
use metrics::Metrics;
use peers::Peers;
use serve::{Door, Leaving, Limits};
use store::Store;
use streams::Places;

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
    #[command(flatten)]
    own: WebSettings,
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
            connections: count(cli.own.connections),
            idle: Duration::from_secs(cli.own.idle_seconds.into()),
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
    routes::router(Arc::clone(&app)).layer(from_fn_with_state(app, answer::finish))
}

fn app(cli: &Cli, store: Store) -> Result<App> {
    let secret = cli.own.proxy_secret_file.as_deref().map(Secret::read).transpose();
    let secret = secret.map_err(|error| error.within("LEFT4ME_WEB_PROXY_SECRET_FILE"))?;
    let live = live::Settings::new(cli.paths.database(), cli.hands.helper_socket.clone(), cli.own.replay_limit);
    Ok(Arc::new(Shared {
        store,
        origins: Origins::new(cli.own.origin.clone()),
        proxies: Proxies::new(cli.own.proxies.clone(), secret, cli.own.origin.is_some()),
        throttle: guard::throttle::Throttle::default(),
        passwords: passwords::Passwords::default(),
        hub: Hub::start(live)?,
        places: Places::new(count(cli.own.streams_per_user), count(cli.own.connections) * 3 / 4),
        turns: turns::Turns::default(),
        metrics: Metrics::new(clock::now_ms())?,
        settings: Settings {
            root: cli.paths.root.clone(),
            worker_socket: cli.worker.worker_socket.clone(),
            helper_socket: cli.hands.helper_socket.clone(),
            runner_socket: cli.hands.runner_socket.clone(),
            looks: cli.looks.clone(),
            ports: cli.ports.port_range,
            session: i64::from(cli.own.session_hours) * 3_600_000,
            replay_limit: cli.own.replay_limit,
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
