//! Settings of a fleet.

use std::path::PathBuf;

use super::absolute;

/// Where a host's part in its fleet is, and what wakes its link.
#[derive(clap::Args, Clone, Debug)]
pub struct FleetSettings {
    /// Directory of the fleet's keys and addresses
    #[arg(long, global = true, env = "LEFT4ME_FLEET_DIR", value_name = "LEFT4ME_FLEET_DIR", value_parser = absolute,
          default_value = "/etc/left4me/fleet", hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub fleet_dir: PathBuf,
    /// Datagram socket that wakes left4me-link
    #[arg(long, global = true, env = "LEFT4ME_LINK_SOCKET", value_name = "LEFT4ME_LINK_SOCKET", value_parser = absolute,
          default_value = "/run/left4me/link.sock", hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub link_socket: PathBuf,
}
