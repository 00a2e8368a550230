//! left4me-web: pages, live logs, the REST API and metrics. It reads the database, writes requests
//! into it and wakes the worker. It starts no process; it calls the helper, for the journals of
//! consoles, the publisher, to remove a build of the game, and left4me-console, for commands to
//! games.
//!
//! | file | what |
//! |---|---|
//! | `serve` | accepts connections, exits when idle |
//! | `listen` | listeners and connections, TCP and unix |
//! | `write_limit` | disconnects clients that read too slowly |
//! | `middleware` | the outermost layer: Host, time limit, security headers, error bodies |
//! | `routes`, `table`, `access` | the table of routes, and who may use each |
//! | `auth/` | sessions, tokens, form tokens, origins, the sign-in throttle |
//! | `peers` | which user of this host opened a connection |
//! | `pages/`, `templates/`, `assets/` | pages for people |
//! | `api/` | the REST API for programs |
//! | `app`, `store` | the shared state; the database |
//! | `commands` | commands to running games |
//! | `builds` | the builds of the game |
//! | `schedules` | what is done at set times |
//! | `limiter` | permits for whatever many requests could exhaust |
//! | `disk` | files other than the database, on a disk that may not answer |
//! | `streams`, `live/` | SSE streams: who may open one, and their content |
//! | `json`, `pieces` | long answers, sent in pieces |
//!
//! Routes, `pages/` and `api/` import the rest, which never imports them.

mod access;
mod api;
pub mod app;
mod assets;
mod auth;
mod builds;
mod commands;
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
mod peers;
mod pieces;
pub mod routes;
mod schedules;
mod scrape;
mod serve;
mod signed_in;
mod store;
mod streams;
mod table;
mod viewer;
mod write_limit;

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

use crate::base::config::{
    BuildSettings, CommandSockets, ConsoleSocket, Logging, Paths, Ports, SchedulesSocket,
    WebSettings, WorkerSocket, parse,
};
use crate::base::shared_secret::Secret;
use crate::base::{Error, Result, clock, journal, notify, undumpable, users};
use crate::db::identity::Identity;
use crate::doctor::DoctorSettings;
use crate::host::instance;
use app::{App, AppSettings, Shared};
use auth::client::Proxies;
use auth::origin::Origins;
use limiter::Limiter;
use listen::{Listener, Listeners};
use live::Hub;
use metrics::Metrics;
use peers::Peers;
use serve::{Limits, Sockets, StopReason};
use store::Store;

/// Serve the web pages, live logs and the REST API over HTTP
///
/// left4me-web.socket starts it. Run by hand, it listens on --listen.
#[derive(Parser)]
#[command(name = "left4me-web", version, after_help = EXAMPLES)]
struct WebCli {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    worker: WorkerSocket,
    #[command(flatten)]
    sockets: CommandSockets,
    #[command(flatten)]
    schedules: SchedulesSocket,
    #[command(flatten)]
    console: ConsoleSocket,
    #[command(flatten)]
    ports: Ports,
    #[command(flatten)]
    builds: BuildSettings,
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    doctor: DoctorSettings,
    /// Address to listen at, if systemd passes no socket
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    #[command(flatten)]
    own: WebSettings,
}

const EXAMPLES: &str = "Examples:
  systemctl start left4me-web.socket            the usual way: the first request starts it
  left4me-web --listen 127.0.0.1:8080           in the foreground";

/// A client that reads next to nothing for this long is disconnected.
const WRITE_TIME: Duration = Duration::from_secs(30);

/// Connections that may wait to be accepted. left4me-web.socket has the same value.
const BACKLOG: u32 = 1024;

/// How long blocking work may take at exit.
const BLOCKING_GRACE: Duration = Duration::from_secs(3);

/// The time between two checks whether the database was replaced.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Threads for blocking work: the database, passwords, and commands that wait for their replies.
const BLOCKING: usize = 8 + commands::AT_ONCE;

/// The command line, for the manual page.
pub fn command() -> clap::Command {
    WebCli::command()
}

/// Runs left4me-web.
pub fn main() -> ExitCode {
    undumpable::set();
    let cli = parse::<WebCli>();
    journal::start(cli.logging.log);
    journal::exit_code(run(&cli))
}

/// Takes the sockets, opens the database, serves, and exits.
fn run(cli: &WebCli) -> Result<()> {
    let database = cli.paths.database();
    // As root in the foreground: files must belong to the owner of the data.
    users::drop_root(&database)?;
    umask(Mode::from_bits_truncate(instance::UMASK));

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(1024 * 1024)
        .enable_all()
        .build()
        .map_err(|error| Error::from(error).within("cannot start threads"))?;

    let served = runtime.block_on(async {
        let sockets = sockets(cli)?;
        let app = app(cli, Store::open(&database)?)?;
        notify::ready("serving");
        tokio::spawn(attend_watchdog());

        let limits = Limits {
            connections: count(cli.own.connections),
            idle: Duration::from_secs(cli.own.idle_seconds.into()),
            write_time: WRITE_TIME,
        };

        let waiting = Arc::clone(&app);
        // A command goes on after its request was answered.
        let busy = move || {
            waiting.throttle.is_needed(waiting.throttle.now()) || waiting.commands.is_used()
        };
        let (counting, hub) = (Arc::clone(&app), app.hub.clone());
        let refused = move || counting.metrics.refused("connections");
        let reason = serve::serve(
            sockets,
            router(app),
            &limits,
            stop_requested(database.clone())?,
            busy,
            refused,
            move || hub.shutdown(),
        )
        .await?;

        tracing::debug!(
            "exiting: {}",
            if reason == StopReason::Idle {
                "idle"
            } else {
                "stop requested"
            }
        );

        Ok(())
    });

    // Work that blocks, for instance on a hung disk, is not waited for without limit.
    runtime.shutdown_timeout(BLOCKING_GRACE);
    served
}

/// All routes with their middleware.
pub fn router(app: App) -> Router {
    routes::router(Arc::clone(&app)).layer(from_fn_with_state(app, middleware::finish))
}

fn app(cli: &WebCli, store: Store) -> Result<App> {
    let secret = cli
        .own
        .proxy_secret_file
        .as_deref()
        .map(Secret::read)
        .transpose();
    let secret = secret.map_err(|error| error.within("LEFT4ME_WEB_PROXY_SECRET_FILE"))?;
    let live = live::LiveSettings::new(
        cli.paths.database(),
        cli.sockets.helper_socket.clone(),
        cli.own.replay_limit,
    );

    Ok(Arc::new(Shared {
        store,
        origins: Origins::new(cli.own.origin.clone()),
        proxies: Proxies::new(cli.own.proxies.clone(), secret, cli.own.origin.is_some()),
        throttle: auth::throttle::Throttle::default(),
        passwords: passwords::Passwords::default(),
        hub: Hub::start(live)?,
        streams: Limiter::new(
            count(cli.own.connections) * 3 / 4,
            count(cli.own.streams_per_user),
        ),
        answers: json::limiter(),
        commands: commands::limiter(),
        metrics: Metrics::new(clock::now_ms())?,
        settings: AppSettings {
            root: cli.paths.root.clone(),
            worker_socket: cli.worker.worker_socket.clone(),
            helper_socket: cli.sockets.helper_socket.clone(),
            runner_socket: cli.sockets.runner_socket.clone(),
            publisher_socket: cli.sockets.publisher_socket.clone(),
            build_mode: cli.builds.builds,
            schedules_socket: cli.schedules.schedules_socket.clone(),
            console_socket: cli.console.console_socket.clone(),
            doctor: cli.doctor.clone(),
            ports: cli.ports.port_range,
            session: i64::from(cli.own.session_hours) * 3_600_000,
            replay_limit: cli.own.replay_limit,
        },
    }))
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The sockets that systemd passed. What is missing is opened here.
fn sockets(cli: &WebCli) -> Result<Sockets> {
    let passed = notify::passed_sockets().into_iter();
    let (netlink, listeners): (Vec<_>, Vec<_>) = passed.partition(is_netlink);
    let listeners = match listeners
        .into_iter()
        .map(Listener::inherited)
        .collect::<Result<Vec<_>>>()?
    {
        // systemd closes the listeners of a socket unit that was edited, until it is restarted.
        none if none.is_empty() && !netlink.is_empty() => return Err(no_listener()),
        none if none.is_empty() => vec![Listener::Tcp(listen(cli)?)],
        passed => passed,
    };

    Ok(Sockets {
        listeners: Listeners::new(listeners),
        peers: Peers::new(netlink.into_iter().next()),
    })
}

fn is_netlink(socket: &OwnedFd) -> bool {
    let own = getsockname::<SockaddrStorage>(socket.as_raw_fd());
    own.is_ok_and(|own| own.family() == Some(AddressFamily::Netlink))
}

fn listen(cli: &WebCli) -> Result<TcpListener> {
    let listener = open(cli.listen);
    let listener = listener.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        // The unit's sandbox forbids it: only systemd can open the listeners.
        Some(Errno::EAFNOSUPPORT) if notify::watchdog_interval().is_some() => no_listener(),
        _ => Error::unavailable(format!("cannot listen at {}: {error}", cli.listen)),
    })?;

    // For port 0, this is the port that the kernel chose.
    let at = listener.local_addr().unwrap_or(cli.listen);
    tracing::info!("listening at http://{at}");
    Ok(listener)
}

fn no_listener() -> Error {
    Error::unavailable(
        "systemd passed no address to listen at: left4me-web.socket was edited, \
         or is not active; as root `systemctl restart left4me-web.socket`",
    )
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;

    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A task of its own: a busy listener does not delay the watchdog, but hanging threads stop it.
async fn attend_watchdog() {
    let mut beat =
        tokio::time::interval(notify::watchdog_interval().unwrap_or(Duration::from_secs(3600)));
    loop {
        beat.tick().await;
        notify::watchdog();
    }
}

/// Completes when the database's path is another file.
async fn replaced(identity: &Identity) {
    while identity.is_current() {
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Completes when the program should exit: on a signal, or because the database was replaced. The
/// next request then starts a new process, with all state from the new file.
fn stop_requested(database: PathBuf) -> Result<impl Future<Output = ()>> {
    let identity = Identity::of(&database);
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );

    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = replaced(&identity) => tracing::warn!("{}", identity.replaced()),
        }
    })
}
