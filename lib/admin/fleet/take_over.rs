//! `left4me fleet take-over`: goes on with a rollout of another controller.

use clap::Args;

use super::super::{Context, hint};
use super::rollout::{self, WaitArgs};
use crate::base::Result;
use crate::base::ulid::Ulid;
use crate::queue::fleet::driving;
use crate::queue::wake;

pub(super) const EXAMPLES: &str = "\
Examples:
  left4me fleet rollouts                               which there are, and who drives them
  left4me fleet take-over 01KAZ6T5R8Y3W9M2F4B7C1D0XN   the controller that drives it is dead
  left4me fleet take-over 01KAZ6T5R8Y3W9M2F4B7C1D0XN --wait

It goes on from what the other controller published last. Steps are repeated with the same order ids, so
that no host does anything twice. If the other controller comes back, it drives this rollout no more.";

#[derive(Args)]
pub(in crate::admin) struct TakeOverArgs {
    /// The rollout's id
    id: Ulid,
    /// Also while the host that drives it lives: it goes on until it hears of this, and what it has
    /// published by then stays
    #[arg(long)]
    although_it_drives: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub(super) fn run(context: &Context, args: &TakeOverArgs) -> Result<()> {
    let own = rollout::controller(context)?;
    let mut db = context.db()?;
    let by = (context.actor.as_str(), &own.host);
    let (force, now) = (args.although_it_drives, context.now);
    let taken = driving::take_over(&mut db, args.id, by, force, now)?;
    wake::link(&context.fleet.link_socket);
    if let Err(error) = rollout::wake(context) {
        hint(&error.to_string());
    }
    super::say_if_away(context, &db)?;
    let line = format!(
        "{} {} goes on here once the engine has that; `left4me fleet rollouts {}` shows how far it is",
        taken.kind, args.id, args.id
    );
    rollout::end(&db, args.id, &args.wait, &line)
}
