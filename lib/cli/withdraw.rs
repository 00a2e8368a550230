//! `left4me-job withdraw`: takes back an order to another host.

use std::process::ExitCode;

use crate::base::ulid::Ulid;
use crate::base::{Result, caller, clock, output};
use crate::cli::{self, Context, remote};
use crate::queue::fleet::ask_for;
use crate::queue::fleet::withdraw::{Withdrawn, withdraw};
use crate::queue::wake;

/// Take back an order to another host, unless its job is under way there
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me-job withdraw 01KAZ6T5R8Y3W9M2F4B7C1D0XN
  left4me-job withdraw 01KAZ6T5R8Y3W9M2F4B7C1D0XN --wait     exit 0 if it was not carried out

An order that has not left this host is withdrawn at once. Otherwise its host is asked: it cancels
a job that has not started, and refuses the order if that comes later. A job that is under way can
be cancelled: left4me-job --host HOST cancel ORDER.")]
pub struct WithdrawArgs {
    /// The order's id
    #[arg(value_name = "ORDER")]
    id: Ulid,
    /// Reason, one line
    #[arg(long)]
    reason: Option<String>,
    /// Wait until its host has answered
    #[arg(long)]
    wait: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(context: &mut Context, args: &WithdrawArgs) -> Result<ExitCode> {
    let fleet = ask_for::controller(&context.fleet.fleet_dir)?;
    let reason = cli::reason(args.reason.as_deref())?.unwrap_or_default();
    let by = caller::caller();
    let who = (by.as_str(), &fleet.host);
    let withdrawn = withdraw(&mut context.db, args.id, who, &reason, clock::now_ms())?;
    wake::link(&context.fleet.link_socket);

    let order = remote::get(context, args.id)?;
    if args.json {
        output::json(&order)?;
    }
    match withdrawn {
        Withdrawn::AtOnce if args.json => Ok(ExitCode::SUCCESS),
        Withdrawn::AtOnce => {
            let id = args.id;
            output::line(&format!(
                "order {id} is withdrawn: it had not left this host"
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Withdrawn::Asked(withdrawal) if args.wait => remote::wait(context, withdrawal),
        Withdrawn::Asked(withdrawal) => {
            if !args.json {
                output::line(&format!(
                    "order {} is not sent any more; {} is asked by order {withdrawal}",
                    args.id, order.to_host
                ))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
