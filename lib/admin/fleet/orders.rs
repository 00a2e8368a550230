//! `left4me fleet orders`: what was sent from here to other hosts, and where it is.

use super::super::{Context, when};
use super::{none, say_if_away};
use crate::base::names::FleetHost;
use crate::base::table::{Table, Tone};
use crate::base::{Result, output};
use crate::db::fleet::orders_out::{OrderOut, OrderState};
use crate::db::fleet::overview::{self, OrderFilter};
use crate::db::lists::Part;
use crate::queue::fleet::ask_for;

/// The most orders that are read to find those that are open.
const MOST: u32 = 100_000;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me fleet orders
  left4me fleet orders --open --host ams-1
  left4me fleet orders --json | jq '.[] | select(.state == \"unknown\")'

kept: on this host's disk, and not with the engine yet. sent: with the engine. accepted: the host has
it, and its job has not ended. refused, succeeded, failed, cancelled, withdrawn: as that host told.
unknown: its time was over before the host answered; a late answer replaces that.")]
pub(in crate::admin) struct OrdersArgs {
    /// Only orders to this host
    #[arg(long, value_name = "HOST")]
    host: Option<FleetHost>,
    /// Only orders whose end is not known yet
    #[arg(long)]
    open: bool,
    /// Maximum number of rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &OrdersArgs) -> Result<()> {
    let db = context.db()?;
    let connection = db.connection();
    let filter = OrderFilter {
        host: args.host.as_ref().map(FleetHost::as_str),
        ..OrderFilter::default()
    };
    let part = Part {
        limit: if args.open { MOST } else { args.limit },
        offset: 0,
    };
    let mut orders = overview::orders(connection, filter, part)?;
    orders.retain(|order| !args.open || !order.state.is_settled());
    orders.truncate(args.limit as usize);
    if args.json {
        return output::json(&orders);
    }
    say_if_away(context, &db)?;
    if orders.is_empty() {
        return none(context, "orders");
    }

    let mut table = Table::new(["ORDER", "TO", "WHAT", "STATE", "BY", "MADE", "WHERE"]);
    for order in &orders {
        let plain = |text: String| (text, Tone::Plain);
        table.toned([
            plain(order.id.to_string()),
            plain(order.to_host.clone()),
            plain(order.summary.clone()),
            (order.state.to_string(), tone(order)),
            plain(order.requested_by.clone()),
            plain(when(Some(order.created_at))),
            plain(ask_for::way(connection, order, context.now)?),
        ]);
    }
    table.times(&["MADE"]);
    table.print()
}

fn tone(order: &OrderOut) -> Tone {
    match order.state {
        OrderState::Succeeded => Tone::Good,
        OrderState::Refused | OrderState::Failed => Tone::Bad,
        OrderState::Cancelled | OrderState::Unknown => Tone::Warning,
        _ => Tone::Plain,
    }
}
