//! left4me-link: carries orders, events and statuses between this host and the engine of its fleet. It
//! has the network and no database: left4me-gate has that, and believes nothing that link says.
//!
//! | file | what |
//! |---|---|
//! | `engine` | what is needed of an engine |
//! | `nats` | the engine NATS JetStream |
//! | `run` | the loop |
//! | `carry`, `readers` | to the engine, and from it |
//! | `compare` | what several controllers may write |
//! | `hold` | the lease |
//! | `ask` | questions between hosts |
//! | `gate` | the line protocol to left4me-gate |

mod ask;
mod carry;
mod compare;
mod engine;
mod gate;
mod hold;
mod nats;
mod readers;
mod roster;
mod run;
mod status;

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram as StdDatagram, UnixListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use tokio::net::{UnixDatagram, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::base::config::{FleetSettings, LinkSettings, Logging, parse};
use crate::base::fleet::Fleet;
use crate::base::keys::SigningKey;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, clock, host_name, journal, notify, output, undumpable};
use crate::domain::fleet::jwt;
use crate::domain::fleet::lease::{GOOD_FOR, GOOD_FOR_A_VISITOR, Lease};
use crate::wire::link::{Administer, Administered, REQUEST};
use carry::Signer;
use nats::{Access, Nats};
use roster::SignedRoster;
use run::{Link, Parts, Sockets, Stay};
use status::Status;

const PROGRAM: &str = "left4me-link";

/// Carry orders and events between this host and its fleet
///
/// systemd runs it on a host that belongs to a fleet. `left4me fleet check` says whether it is
/// connected.
#[derive(Parser)]
#[command(name = PROGRAM, version)]
struct LinkCli {
    #[command(flatten)]
    fleet: FleetSettings,
    #[command(flatten)]
    own: LinkSettings,
    #[command(flatten)]
    logging: Logging,
    /// Carry out one request on standard input, for `left4me fleet`
    #[arg(long, hide = true)]
    administer: bool,
}

/// The program's command line, for its manual page.
pub fn command() -> clap::Command {
    LinkCli::command()
}

pub fn main() -> ExitCode {
    undumpable::set();
    let cli = parse::<LinkCli>();
    // `left4me fleet` says itself what came of it.
    let level = match cli.administer {
        true => tracing::level_filters::LevelFilter::WARN,
        false => cli.logging.log,
    };
    journal::start(level);
    let done = match cli.administer {
        true => administer(),
        false => serve(&cli),
    };
    done.map_or_else(|error| error.report(PROGRAM), |()| ExitCode::SUCCESS)
}

/// One thread: it waits more than it works.
fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

/// Carries out one request; the answer is one line, also of a failure.
fn administer() -> Result<()> {
    let mut text = String::new();
    let limit = u64::try_from(REQUEST).unwrap_or(u64::MAX);
    std::io::stdin().take(limit).read_to_string(&mut text)?;
    let request: Administer = serde_json::from_str(&text)
        .map_err(|error| Error::usage(format!("not a request: {error}")))?;

    let answer = runtime()?
        .block_on(nats::administer::carry_out(request))
        .unwrap_or_else(|error| Administered::Failed {
            why: error.to_string(),
        });
    let line = serde_json::to_string(&answer)
        .map_err(|error| Error::failed(format!("the answer: {error}")))?;
    output::line(&line)
}

fn serve(cli: &LinkCli) -> Result<()> {
    let directory = &cli.fleet.fleet_dir;
    let Some(fleet) = Fleet::read(directory)? else {
        return Err(Error::usage(format!(
            "this host belongs to no fleet: {} does not exist; `left4me fleet join` makes it",
            directory.join("fleet.json").display()
        )));
    };
    let key = SigningKey::from_seed(&secret(directory, "host.seed")?)?;
    let jwt = text(&directory.join("host.jwt"))?.ok_or_else(|| {
        Error::usage(format!(
            "this host has not been admitted: {} does not exist; `left4me fleet join` says what to do",
            directory.join("host.jwt").display()
        ))
    })?;
    if jwt::subject(&jwt).as_deref() != Some(key.public().as_str()) {
        return Err(Error::usage(format!(
            "{} is for another key than this host's; admit it again",
            directory.join("host.jwt").display()
        )));
    }

    let ca = directory.join("ca.pem");
    let stay = match cli.own.stay {
        true => Stay::Resident,
        false => Stay::Visit,
    };
    let access = Access {
        engine: fleet.engine.clone(),
        ca: ca.exists().then_some(ca),
        jwt,
        key: SigningKey::from_seed(&key.seed()?)?,
        name: fleet.host.to_string(),
    };
    let parts = |engine| Parts {
        engine,
        gate_socket: cli.own.gate_socket.clone(),
        signer: Signer {
            host: fleet.host.clone(),
            key,
        },
        lease: lease(stay),
        status: Status::new(directory_of("STATE_DIRECTORY").map(|path| path.join("status.json"))),
        roster: SignedRoster::new(directory.join("roster.json")),
        stay,
    };

    runtime()?.block_on(async {
        let sockets = sockets(cli)?;
        let (to, heard) = tokio::sync::mpsc::unbounded_channel();
        let client = nats::connect(access, true, to.clone()).await?;
        let engine = Nats::new(client, fleet.host.clone());
        engine.listen(&to).await?;
        let (link, read) = Link::new(parts(engine));

        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let stop = async {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        };
        notify::ready("connecting to the engine");
        link.run(read, heard, sockets, stop).await;
        Ok(())
    })
}

/// This process, as the lease names it. Processes of one machine since it was booted are the same one,
/// so that a restart does not wait for its own lease.
fn lease(stay: Stay) -> Lease {
    let new = || Ulid::new(clock::now_ms()).to_string();
    let instance = directory_of("RUNTIME_DIRECTORY").map_or_else(new, |directory| {
        let path = directory.join("instance");
        let kept = text(&path).ok().flatten();
        kept.filter(|kept| kept.parse::<Ulid>().is_ok())
            .unwrap_or_else(|| {
                let instance = new();
                if let Err(error) = std::fs::write(&path, &instance) {
                    tracing::warn!("{}: {error}", path.display());
                }
                instance
            })
    });
    Lease {
        instance,
        machine: host_name().unwrap_or_else(|| "unknown".to_owned()),
        good_for: match stay {
            Stay::Resident => GOOD_FOR,
            Stay::Visit => GOOD_FOR_A_VISITOR,
        },
        at: clock::now_ms(),
        is_free: false,
    }
}

/// A directory that systemd made for this unit.
fn directory_of(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// A secret that systemd passes, or, by hand, the file itself.
fn secret(directory: &Path, name: &str) -> Result<String> {
    let path = directory_of("CREDENTIALS_DIRECTORY")
        .map(|passed| passed.join(name))
        .filter(|path| path.exists())
        .unwrap_or_else(|| directory.join(name));
    text(&path)?.ok_or_else(|| {
        Error::usage(format!(
            "this host has no key: {} does not exist; `left4me fleet join` makes it",
            path.display()
        ))
    })
}

fn text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::from(error).within(path.display())),
    }
}

/// systemd's sockets; by hand, its own.
fn sockets(cli: &LinkCli) -> Result<Sockets> {
    let (mut wake, mut ask) = (None, None);
    for socket in notify::passed_sockets() {
        match getsockopt(&socket, sockopt::SockType) {
            Ok(SockType::Datagram) => wake = Some(StdDatagram::from(socket)),
            Ok(SockType::Stream) => ask = Some(listener(socket)),
            _ => return Err(Error::usage("systemd passed a socket of another kind")),
        }
    }
    let wake = wake.map_or_else(|| bind(&cli.fleet.link_socket, StdDatagram::bind), Ok)?;
    let ask = ask.map_or_else(|| bind(&cli.own.ask.ask_socket, StdListener::bind), Ok)?;
    wake.set_nonblocking(true)?;
    ask.set_nonblocking(true)?;
    Ok(Sockets {
        wake: UnixDatagram::from_std(wake)?,
        ask: UnixListener::from_std(ask)?,
    })
}

fn listener(socket: OwnedFd) -> StdListener {
    StdListener::from(socket)
}

fn bind<T>(path: &Path, bind: impl Fn(PathBuf) -> std::io::Result<T>) -> Result<T> {
    // One that an earlier process left.
    std::fs::remove_file(path).ok();
    bind(path.to_owned()).map_err(|error| Error::from(error).within(path.display()))
}
