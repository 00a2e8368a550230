//! Cancelling: from somebody's wish to the proof that nothing is left.
//!
//! A wish is a row before anything happens ([`request`]). A queued job ends in that one transaction. What runs is the
//! worker's: its [`tracker`] takes the steps, each a row with its times; its hands tell the commands to end; the
//! [`cleaner`] tidies up and looks whether they really have. [`result`] tells how far it is, in one shape for all who ask.
//! A worker that starts goes on where a dead one was ([`recover`]). [`journal`] and [`told`] have the journal's lines.
//! docs/cancellation.md has the story for admins.

pub mod cleaner;
mod fate;
pub mod journal;
pub mod recover;
pub mod request;
pub mod result;
pub mod told;
mod too_late;
pub mod tracker;

pub use request::{Wish, request};
pub use result::CancelResult;
