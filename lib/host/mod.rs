//! The hands that touch this host's files and ask for its units: instances, their layers, mounts, units.

pub mod bus;
pub mod catalog;
pub mod configs;
pub mod content;
pub mod enablement;
pub mod installation;
pub mod instance;
pub mod layer;
pub mod mounts;
pub mod overlay;
pub mod rendering;
pub mod units;

pub use crate::domain::env_file;
