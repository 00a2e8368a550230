//! `left4me fleet cordon` and `uncordon`: whether a host takes in servers.

use clap::Args;

use super::super::Context;
use super::rollout;
use crate::base::names::FleetHost;
use crate::base::{Result, output};
use crate::domain::fleet::order::What;
use crate::queue::fleet::send::{self, Draft};
use crate::queue::{fleet, wake};

#[derive(Args)]
pub(in crate::admin) struct CordonArgs {
    #[arg(required = true)]
    hosts: Vec<FleetHost>,
    /// Why, for the host's events
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(Args)]
pub(in crate::admin) struct UncordonArgs {
    #[arg(required = true)]
    hosts: Vec<FleetHost>,
}

pub(super) fn run(context: &Context, args: &CordonArgs) -> Result<()> {
    let reason = args.reason.clone();
    send_all(context, &args.hosts, &What::Cordon { reason })
}

pub(super) fn uncordon(context: &Context, args: &UncordonArgs) -> Result<()> {
    send_all(context, &args.hosts, &What::Uncordon {})
}

/// Sends each host the order, and does at once what is for this host: it needs no engine for that.
fn send_all(context: &Context, hosts: &[FleetHost], what: &What) -> Result<()> {
    let own = rollout::member(context)?;
    let mut db = context.db()?;
    if hosts.iter().any(|host| *host != own.host) {
        rollout::controller(context)?;
        for host in hosts.iter().filter(|host| **host != own.host) {
            rollout::host(&db, host)?;
        }
    }

    let mut lines = Vec::new();
    db.write(|tx| {
        for host in hosts {
            if *host == own.host {
                let done = match what {
                    What::Cordon { reason } => {
                        fleet::cordon::cordon_here(tx, &context.actor, reason, context.now)?
                    }
                    _ => fleet::cordon::uncordon_here(tx, &context.actor, context.now)?,
                };
                lines.push(format!("{host}: {done}"));
                continue;
            }
            let draft = Draft {
                id: None,
                to: host,
                what: what.clone(),
                by: &context.actor,
                here: &own.host,
                reason: "",
                good_for: None,
                rollout: None,
            };
            let id = send::send_in(tx, &draft, context.now)?;
            lines.push(format!("{host}: order {id}"));
        }
        Ok(())
    })?;
    wake::link(&context.fleet.link_socket);
    lines.iter().try_for_each(|line| output::line(line))
}
