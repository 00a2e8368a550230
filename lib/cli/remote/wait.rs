//! Waits for the end of an order, and says where it is meanwhile.

use std::process::ExitCode;

use super::get;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, clock, output};
use crate::cli::{Context, PROGRAM, follow};
use crate::db::fleet::orders_out::{OrderOut, OrderState};
use crate::db::watch::Watch;
use crate::queue::fleet::ask_for;

/// Waits until the order has ended, or its time is over. Each change is a line on standard error.
///
/// Fails with 1 if it failed, was cancelled or withdrawn; 4 if the host refused it; 69 if nothing
/// is known of it.
pub fn wait(context: &Context, id: Ulid) -> Result<ExitCode> {
    follow::exit_on_interrupt(format!(
        "stopped waiting; order {id} stays: `left4me-job show {id}` says where it is, \
         `left4me-job withdraw {id}` takes it back"
    ));
    let mut watch = Watch::new(context.db.path())?;
    let mut said = String::new();
    loop {
        let order = get(context, id)?;
        let way = ask_for::way(context.db.connection(), &order, clock::now_ms())?;
        if order.state.is_settled() {
            return end(&order, &way);
        }
        if way != said {
            eprintln!("{PROGRAM}: order {id}: {}", output::printable(&way));
            said = way;
        }
        watch.wait(None)?;
    }
}

fn end(order: &OrderOut, way: &str) -> Result<ExitCode> {
    let id = order.id;
    let message = format!("order {id} ({}): {way}", order.summary);
    match order.state {
        OrderState::Succeeded => {
            eprintln!("{PROGRAM}: {}", output::printable(&message));
            Ok(ExitCode::SUCCESS)
        }
        OrderState::Refused => Err(Error::conflict(message)),
        OrderState::Unknown => Err(Error::unavailable(format!(
            "{message}; it may have been carried out: `left4me fleet show {}` says what that host \
             told last",
            order.to_host
        ))),
        _ => Err(Error::failed(message)),
    }
}
