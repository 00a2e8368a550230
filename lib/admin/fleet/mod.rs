//! `left4me fleet`: many hosts. One file per verb. docs/fleet.md describes a fleet.

mod hosts;

use clap::Subcommand;

use super::{Context, hint};
use crate::base::Result;
use crate::base::fleet::Fleet;

const EXAMPLES: &str = "\
Examples:
  left4me fleet hosts
  left4me fleet servers --host ams-1
  left4me fleet show ams-1 --json | jq .status.version";

#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum FleetVerb {
    /// List the hosts of the fleet, each with when it was last seen
    Hosts(hosts::HostsArgs),
}

pub(super) fn run(context: &Context, verb: FleetVerb) -> Result<()> {
    match verb {
        FleetVerb::Hosts(args) => hosts::run(context, &args),
    }
}

/// Says why there is nothing to list.
fn none(context: &Context) -> Result<()> {
    hint(match Fleet::read(&context.fleet.fleet_dir)? {
        None => "this host belongs to no fleet: `left4me fleet join` makes it a part of one",
        Some(fleet) if fleet.views() => "other hosts have not told anything yet",
        Some(_) => {
            "this host is not told about others: that needs the role view, which \
             `left4me fleet admit` gives"
        }
    });
    Ok(())
}
