//! Basics for all programs: errors, settings, names, logging, files. Imports nothing of the
//! library.

pub mod accounts;
pub mod builds;
pub mod caller;
pub mod clock;
pub mod config;
pub mod control_group;
pub mod encoding;
pub mod error;
pub mod failpoint;
pub mod files;
pub mod filesystem;
pub mod fleet;
mod free_text;
mod host_name;
pub mod issuer;
pub mod journal;
pub mod keys;
pub mod lock;
pub mod names;
pub mod notify;
pub mod origin;
pub mod output;
pub mod overlay_check;
pub mod password;
pub mod rcon_password;
pub mod secret;
pub mod server_user;
pub mod service;
pub mod shared_secret;
pub mod size;
pub mod systemd;
pub mod table;
pub mod text;
pub mod ulid;
pub mod undumpable;
pub mod untrusted_file;
pub mod users;
pub mod visible;
pub mod walk;
pub mod words;

pub use error::{Error, Exit, Result};
pub use host_name::host_name;
