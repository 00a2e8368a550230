//! A fleet: hosts that exchange orders and events over an engine that only carries them. Here is
//! what they say, and how it is judged. Nothing here reads a file, a clock or a network.
//!
//! | file | what |
//! |---|---|
//! | [`order`] | what one host asks of another |
//! | [`event`] | what a host tells of itself |
//! | [`status`] | a host, as it is now |
//! | [`roster`] | who belongs to the fleet |
//! | [`blueprint`] | what a server is made from, on its way to another host |
//! | [`question`] | what hosts ask each other at once |
//! | [`placement`] | which host takes a server |
//! | [`drain`] | how a server moves |
//! | [`waves`] | how an update goes through the fleet |
//! | [`fate`] | what has become of an order, as far as a rollout asks |
//! | [`rollout`] | what was asked for: moves, or an update in waves |
//! | [`driving`] | which controller drives a rollout |
//! | [`rules`] | how an order comes to its end |
//! | [`subjects`], [`objects`] | the engine's names, streams and buckets |
//! | [`permissions`], [`jwt`] | who may do what at the engine |
//! | [`engine_conf`] | the engine's own configuration |
//! | [`lease`] | which process is a host |
//! | [`view`] | how a host is, as seen from another |
//! | [`way`] | where an order is, in words |

pub mod blueprint;
pub mod drain;
pub mod driving;
pub mod engine_conf;
pub mod event;
pub mod fate;
pub mod jwt;
pub mod lease;
pub mod objects;
pub mod order;
pub mod permissions;
pub mod placement;
pub mod question;
pub mod rollout;
pub mod roster;
pub mod rules;
pub mod status;
pub mod subjects;
pub mod view;
pub mod waves;
pub mod way;

/// The version of all documents. A host understands this one and the one before.
pub const VERSION: u32 = 1;

/// The longest order, event or status document, in bytes.
pub const LONGEST: usize = 256 * 1024;
