//! `left4me fleet expel`: the engine lets a host in no more, and ends its connection.

use super::super::{Context, hint};
use super::operator::Operator;
use super::own;
use crate::base::names::FleetHost;
use crate::base::{Error, Result, output};
use crate::queue::wake;

/// Expel a host: its connection ends within a second, and its key counts no more
#[derive(clap::Args)]
pub(in crate::admin) struct ExpelArgs {
    /// The host's name
    host: FleetHost,
}

pub(in crate::admin) fn run(context: &Context, args: &ExpelArgs) -> Result<()> {
    let directory = &context.fleet.fleet_dir;
    let mut operator = Operator::read(directory)?;
    let members = &mut operator.book.roster.hosts;
    let Some(member) = members.iter_mut().find(|member| member.name == args.host) else {
        return Err(Error::not_found(format!(
            "the fleet has no host '{}'; `left4me fleet hosts` lists them",
            args.host
        )));
    };
    let controls = member.roles.iter().any(|role| role == "control");
    // Also repeats what failed before.
    if member.expelled_at.is_none() {
        member.expelled_at = Some(context.now);
        let key = member.key.clone();
        operator.book.revoke(key);
        operator.book.renew_roster(context.now);
    }

    operator.book.renew(context.now);
    // First on disk: an engine that is away learns it later.
    operator.save(&own::controller_key(directory)?)?;
    wake::link(&context.fleet.link_socket);
    if controls {
        hint(&format!(
            "{} was a controller: its orders are obeyed until root removes {}/controllers/{} on each host",
            args.host,
            directory.display(),
            args.host
        ));
    }
    operator.push_account(context.now).map_err(|error| {
        error.because(format!(
            "{} is expelled here, and is not let in again once the engine knows: repeat this when it answers",
            args.host
        ))
    })?;
    output::line(&format!("expelled {}", args.host))
}
