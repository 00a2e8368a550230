//! The database and the queue with the real programs: jobs, the worker, and cancellation.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests start the programs they test"
)]

mod cancel;
mod cancel_records;
mod conditions;
mod fleet;
mod fleet_gaps;
mod fleet_moves;
mod fleet_take_over;
mod growth;
mod remote;
mod roll_options;
mod rolls;
mod stale;
mod store;
#[path = "../support/mod.rs"]
mod support;
mod updates;
mod worker;
