//! Orders and events between hosts. The tables are the truth; the engine only carries what is in
//! them. left4me-gate calls all of this, but for [`send`] and [`withdraw`], which people call.
//!
//! | file | what |
//! |---|---|
//! | [`send`], [`withdraw`] | writes an order down for another host; takes it back |
//! | [`noise`] | counts what was not believed of questions and answers |
//! | [`outbox`] | what goes to the engine: attempts of orders, events, this host's status |
//! | [`resend`] | which orders go there again, and which are given up |
//! | [`read`] | what comes from the engine, and how far it has been read |
//! | [`accept`] | carries out an order of another host, or refuses it |
//! | [`place`], [`cordon`] | takes in servers of other hosts, gives them up, or takes in no more |
//! | [`missing`] | events of other hosts that have not come, which are asked for |
//! | [`moves`] | servers that are to move |
//! | [`receipt`] | tells its sender |
//! | [`driving`] | which controller drives a rollout |
//! | [`settle`] | what other hosts told about orders from here |
//! | [`project`] | keeps what other hosts told, for pages and lists |
//! | [`seen`], [`seen_rollout`] | hosts, servers and rollouts as they are shown |
//! | [`status`] | this host, as others see it |
//! | [`watch`] | events about hosts that are silent, for alerts; the poller calls it |
//! | [`asked`], [`answer`] | what other hosts ask at once: whether it is believed; the answer |
//! | [`answered`] | what other hosts answer to a question from here |

pub mod accept;
pub mod alive;
pub mod answer;
pub mod answered;
pub mod ask_for;
pub mod asked;
pub mod cordon;
pub mod driving;
pub mod host;
pub mod missing;
pub mod moves;
pub mod noise;
pub mod outbox;
pub mod place;
pub mod project;
pub mod read;
pub mod receipt;
pub mod resend;
pub mod seen;
pub mod seen_rollout;
pub mod send;
pub mod settle;
mod signed;
pub mod status;
pub mod watch;
pub mod withdraw;
