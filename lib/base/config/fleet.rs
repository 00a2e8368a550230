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

/// What only left4me-link reads.
#[derive(clap::Args, Clone, Debug)]
pub struct LinkSettings {
    /// Socket of left4me-gate
    #[arg(long, env = "LEFT4ME_GATE_SOCKET", value_name = "LEFT4ME_GATE_SOCKET", value_parser = absolute,
          default_value = "/run/left4me-gate/gate.sock", hide_env_values = true)]
    pub gate_socket: PathBuf,
    #[command(flatten)]
    pub ask: AskSocket,
    /// Whether it stays connected: yes, or no to connect every 30 s and when there is something to
    /// send, and to need no memory in between
    #[arg(long, env = "LEFT4ME_FLEET_STAY", value_name = "LEFT4ME_FLEET_STAY", value_parser = yes_or_no,
          default_value = "yes", action = clap::ArgAction::Set, hide_env_values = true)]
    pub stay: bool,
}

/// Where questions of other hosts are asked.
#[derive(clap::Args, Clone, Debug)]
pub struct AskSocket {
    /// Socket of left4me-link that asks other hosts
    #[arg(long, env = "LEFT4ME_ASK_SOCKET", value_name = "LEFT4ME_ASK_SOCKET", value_parser = absolute,
          default_value = "/run/left4me/ask.sock", hide_env_values = true, help_heading = "Settings",
          hide_short_help = true)]
    pub ask_socket: PathBuf,
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("yes or no is needed".to_owned()),
    }
}
