//! Orders and events between hosts. The tables are the truth; the engine only carries what is in
//! them. left4me-gate calls all of this, but for [`send`] and [`withdraw`], which people call.
//!
//! | file | what |
//! |---|---|
//! | [`send`], [`withdraw`] | writes an order down for another host; takes it back |
//! | [`outbox`] | what goes to the engine: attempts of orders, events, this host's status |
//! | [`resend`] | which orders go there again, and which are given up |
//! | [`read`] | what comes from the engine, and how far it has been read |
//! | [`accept`] | carries out an order of another host, or refuses it |
//! | [`receipt`] | tells its sender |
//! | [`settle`] | what other hosts told about orders from here |
//! | [`project`] | keeps what other hosts told, for pages and lists |
//! | [`status`] | this host, as others see it |
//! | [`answer`] | what other hosts ask at once |

pub mod accept;
pub mod answer;
pub mod cordon;
pub mod outbox;
pub mod place;
pub mod project;
pub mod read;
pub mod receipt;
pub mod resend;
pub mod send;
pub mod settle;
mod signed;
pub mod status;
pub mod withdraw;
