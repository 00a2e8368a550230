//! `left4me fleet withdraw`: takes back an order to another host.

use super::super::Context;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, output};
use crate::domain::cancellation;
use crate::queue::fleet::ask_for;
use crate::queue::fleet::withdraw::{Withdrawn, withdraw};
use crate::queue::wake;

#[derive(clap::Args)]
#[command(after_help = "\
`left4me-job withdraw ORDER --wait` does the same, and waits until that host has answered.")]
pub(in crate::admin) struct WithdrawArgs {
    /// The order's id
    #[arg(value_name = "ORDER")]
    id: Ulid,
    /// Reason, one line
    #[arg(long)]
    reason: Option<String>,
}

pub(super) fn run(context: &Context, args: &WithdrawArgs) -> Result<()> {
    let fleet = ask_for::controller(&context.fleet.fleet_dir)?;
    let reason = args.reason.as_deref().map(cancellation::reason).transpose();
    let reason = reason
        .map_err(|why| Error::usage(format!("--reason: {why}")))?
        .unwrap_or_default();
    let who = (context.actor.as_str(), &fleet.host);
    let withdrawn = withdraw(&mut context.db()?, args.id, who, &reason, context.now)?;
    wake::link(&context.fleet.link_socket);

    output::line(&match withdrawn {
        Withdrawn::AtOnce => format!("order {} is withdrawn: it had not left this host", args.id),
        Withdrawn::Asked(withdrawal) => format!(
            "order {} is not sent any more; its host is asked by order {withdrawal}, and \
             `left4me fleet orders` shows the answer",
            args.id
        ),
    })
}
