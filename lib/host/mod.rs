//! Operations on this host: instances' files, their layers, mounts, and systemd units.

pub mod build_list;
pub mod builds;
pub mod bus;
pub mod catalog;
pub mod configs;
pub mod content;
pub mod enablement;
pub mod installation;
pub mod instance;
pub mod layer;
pub mod operation;
pub mod overlay;
pub mod overlay_digest;
pub mod rcon_password;
pub mod rendering;
pub mod timers;
pub mod units;

pub use crate::domain::env_file;
