//! Cancellation, from the request to the verified cleanup.
//!
//! [`request()`] writes a request as a row before anything happens. A queued job ends in that one
//! transaction. For a running job the worker's [`tracker`] takes the steps, each a row with its
//! times ([`tracked`], then `conclude`), and returns what to do outside the transaction. The
//! [`cleaner`] removes temporary files and verifies that no process is left. [`result`] reports the
//! progress in one shape for the command line and the web. A worker that starts finishes what a
//! dead one left ([`recover`]). [`journal`] writes the journal's lines, [`messages`] builds the
//! texts. docs/cancellation.md describes it for admins.

pub mod cleaner;
mod conclude;
pub mod journal;
pub mod messages;
mod outcome;
pub mod recover;
pub mod request;
pub mod result;
pub mod tracked;
pub mod tracker;

pub use request::{CancelRequest, request, request_in};
pub use result::CancelResult;
