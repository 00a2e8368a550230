//! A fleet: hosts that exchange orders and events over an engine that only carries them. Here is
//! what they say, and how it is judged. Nothing here reads a file, a clock or a network.
//!
//! | file | what |
//! |---|---|
//! | [`order`] | what one host asks of another |
//! | [`event`] | what a host tells of itself |
//! | [`status`] | a host, as it is now |
//! | [`roster`] | who belongs to the fleet |
//! | [`subjects`], [`objects`] | the engine's names, streams and buckets |
//! | [`permissions`], [`jwt`] | who may do what at the engine |
//! | [`engine_conf`] | the engine's own configuration |
//! | [`lease`] | which process is a host |
//! | [`rules`] | how an order comes to its end |
//! | [`view`] | how a host is, as seen from another |

pub mod engine_conf;
pub mod event;
pub mod jwt;
pub mod lease;
pub mod objects;
pub mod order;
pub mod permissions;
pub mod roster;
pub mod rules;
pub mod status;
pub mod subjects;
pub mod view;

/// The version of all documents. A host understands this one and the one before.
pub const VERSION: u32 = 1;

/// The longest order, event or status document, in bytes.
pub const LONGEST: usize = 256 * 1024;
