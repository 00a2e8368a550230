//! `left4me fleet join`: makes this host's keys, and takes its ticket.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::super::{Context, hint};
use super::files::{self, PUBLIC};
use super::own;
use super::ticket::Ticket;
use crate::base::fleet::Fleet;
use crate::base::names::FleetHost;
use crate::base::{Error, Result, output};
use crate::domain::fleet::jwt;

/// The longest ticket, in bytes.
const LONGEST: u64 = 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  left4me fleet join ams-1                         prints the command that admits this host
  left4me fleet join ams-1 --ticket ams-1.ticket   joins, with what that command printed

The keys are made here and never leave this host.";

/// Make this host a part of a fleet
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::admin) struct JoinArgs {
    /// This host's name in the fleet
    host: FleetHost,
    /// What `left4me fleet admit` printed; - for standard input
    #[arg(long, value_name = "FILE")]
    ticket: Option<PathBuf>,
}

pub(in crate::admin) fn run(context: &Context, args: &JoinArgs) -> Result<()> {
    let directory = &context.fleet.fleet_dir;
    let keys = own::keys(directory)?;
    let Some(path) = &args.ticket else {
        output::line(&format!(
            "left4me fleet admit {} {} {}",
            args.host, keys.key, keys.seal_key
        ))?;
        hint(&format!(
            "root runs this on the host that made the fleet; what it prints goes to `left4me fleet join {} \
             --ticket FILE` here",
            args.host
        ));
        return Ok(());
    };

    let ticket = read(path)?;
    if ticket.host != args.host {
        return Err(Error::usage(format!(
            "the ticket is for {}, not for {}",
            ticket.host, args.host
        )));
    }
    if jwt::subject(&ticket.jwt).as_deref() != Some(keys.key.as_str()) {
        return Err(Error::usage(
            "the ticket is for another key than this host's: admit it again, with what `left4me fleet \
             join` prints here",
        ));
    }
    if let Some(fleet) = Fleet::read(directory)?
        && fleet.fleet != ticket.fleet
    {
        return Err(Error::conflict(format!(
            "this host belongs to the fleet {} already: remove {} first",
            fleet.fleet,
            directory.join("fleet.json").display()
        )));
    }
    take(directory, &ticket, &keys)?;
    own::start_units(directory)?;
    output::line(&format!(
        "{} belongs to the fleet {}",
        ticket.host, ticket.fleet
    ))
}

fn take(directory: &Path, ticket: &Ticket, keys: &own::OwnKeys) -> Result<()> {
    for (name, key) in &ticket.controllers {
        own::trust(directory, name.as_str(), key)?;
    }
    if ticket.roles.iter().any(|role| role == "control") {
        let key = own::controller_key(directory)?.public();
        own::trust(directory, ticket.host.as_str(), &key)?;
        hint(&format!(
            "this host may send orders; those hosts obey it where root writes its key to \
             {}/controllers/{}: {key}",
            directory.display(),
            ticket.host
        ));
    }
    files::write(&directory.join("ca.pem"), PUBLIC, &ticket.ca)?;
    files::write(
        &directory.join("host.jwt"),
        PUBLIC,
        &format!("{}\n", ticket.jwt),
    )?;
    let fleet = Fleet {
        v: 1,
        fleet: ticket.fleet.clone(),
        host: ticket.host.clone(),
        key: keys.key.clone(),
        seal_key: keys.seal_key.clone(),
        engine: ticket.engine.clone(),
        roles: ticket.roles.clone(),
        capacity: ticket.capacity,
    };
    own::write_fleet(directory, &fleet)
}

fn read(path: &Path) -> Result<Ticket> {
    let mut text = String::new();
    let failed = |error: std::io::Error| Error::from(error).within(path.display());
    match path.to_str() {
        Some("-") => std::io::stdin().take(LONGEST).read_to_string(&mut text),
        _ => std::fs::File::open(path)
            .map_err(failed)?
            .take(LONGEST)
            .read_to_string(&mut text),
    }
    .map_err(failed)?;
    let ticket: Ticket = serde_json::from_str(&text)
        .map_err(|error| Error::usage(format!("{} is not a ticket: {error}", path.display())))?;
    match ticket.v {
        1 => Ok(ticket),
        v => Err(Error::usage(format!(
            "a ticket of version {v} is not known here, only 1"
        ))),
    }
}
