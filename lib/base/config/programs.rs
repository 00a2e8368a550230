//! Settings that one program reads, and others judge: the worker's, the runner's, the web front's.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::absolute;
use crate::base::origin::Origin;

/// The worker's own settings.
#[derive(clap::Args, Clone, Debug)]
pub struct WorkerSettings {
    /// Number of tasks that run at once [default: 4, where a job's starts and stops count as one]
    #[arg(long, env = "LEFT4ME_WORKER_SLOTS", value_name = "LEFT4ME_WORKER_SLOTS",
          value_parser = whole(1..=256), hide_env_values = true)]
    pub slots: Option<u32>,
    /// Seconds without work after which the worker exits; 0: as soon as the queue is empty
    #[arg(long, env = "LEFT4ME_WORKER_IDLE_SECONDS", value_name = "LEFT4ME_WORKER_IDLE_SECONDS", default_value = "60",
          value_parser = whole(0..=86_400), hide_env_values = true)]
    pub idle_seconds: u32,
}

impl WorkerSettings {
    /// Number of tasks that run at once.
    pub fn slots(&self) -> usize {
        self.slots
            .map_or(4, |slots| usize::try_from(slots).unwrap_or(usize::MAX))
    }

    /// Whether the starts and stops of a job take one slot together, because the helper bounds them
    /// by what the host can do. A number that an admin has set bounds them, too.
    pub fn batches_take_one_slot(&self) -> bool {
        self.slots.is_none()
    }
}

/// How builds of the game are kept.
#[derive(clap::Args, Clone, Debug)]
pub struct BuildSettings {
    /// How updates are made: beside, in a copy, while servers run, or in-place, while all are
    /// stopped, for a disk that cannot hold two copies
    #[arg(long, global = true, env = "LEFT4ME_BUILDS", value_name = "LEFT4ME_BUILDS", default_value = "beside",
          value_parser = mode, hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub builds: BuildMode,
    /// How many builds are kept, the newest, besides those that servers use
    #[arg(long, global = true, env = "LEFT4ME_KEEP_BUILDS", value_name = "LEFT4ME_KEEP_BUILDS", default_value = "2",
          value_parser = whole(1..=100), hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub keep_builds: u32,
    /// How many seconds a game may take to answer queries after a start on another build; then its
    /// server goes back to the build before
    #[arg(long, global = true, env = "LEFT4ME_ANSWER_SECONDS", value_name = "LEFT4ME_ANSWER_SECONDS", default_value = "180",
          value_parser = whole(5..=3600), hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub answer_seconds: u32,
}

/// How updates are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildMode {
    /// In a copy, while servers run.
    Beside,
    /// In the files that servers use, while all are stopped.
    InPlace,
}

fn mode(text: &str) -> Result<BuildMode, String> {
    match text {
        "beside" => Ok(BuildMode::Beside),
        "in-place" => Ok(BuildMode::InPlace),
        _ => Err("beside or in-place is needed".to_owned()),
    }
}

/// Where steamcmd is.
#[derive(clap::Args, Clone, Debug)]
pub struct Steamcmd {
    /// Path of steamcmd [default: LEFT4ME_ROOT/steam/steamcmd.sh]
    #[arg(long, env = "LEFT4ME_STEAMCMD", value_name = "LEFT4ME_STEAMCMD", value_parser = absolute,
          hide_env_values = true, help_heading = "Settings", hide_short_help = true)]
    pub steamcmd: Option<PathBuf>,
}

/// How the runner treats Steam.
#[derive(clap::Args, Clone, Debug)]
pub struct SteamSettings {
    /// Seconds before the second attempt of an installation
    #[arg(long, env = "LEFT4ME_STEAM_RETRY_SECONDS", value_name = "LEFT4ME_STEAM_RETRY_SECONDS", default_value = "15",
          value_parser = whole(0..=3600), hide_env_values = true, help_heading = "Settings")]
    pub steam_retry_seconds: u32,
    /// Seconds before another attempt when Steam limits logins
    #[arg(long, env = "LEFT4ME_STEAM_RATE_LIMIT_SECONDS", value_name = "LEFT4ME_STEAM_RATE_LIMIT_SECONDS",
          default_value = "1800", value_parser = whole(0..=86_400), hide_env_values = true, help_heading = "Settings")]
    pub steam_rate_limit_seconds: u32,
    /// Seconds without output and without a change on disk after which steamcmd counts as hung
    #[arg(long, env = "LEFT4ME_STEAM_SILENCE_SECONDS", value_name = "LEFT4ME_STEAM_SILENCE_SECONDS",
          default_value = "600", value_parser = whole(1..=86_400), hide_env_values = true, help_heading = "Settings")]
    pub steam_silence_seconds: u32,
    /// Steam account to log in with, using its cached credentials; empty: anonymous
    // Any text is taken here: a refusal by clap would repeat it, and it may be a password.
    #[arg(
        long,
        env = "LEFT4ME_STEAM_ACCOUNT",
        value_name = "LEFT4ME_STEAM_ACCOUNT",
        default_value = "",
        hide_env_values = true,
        help_heading = "Settings"
    )]
    pub steam_account: String,
}

/// The web front's own settings.
#[derive(clap::Args, Clone, Debug)]
pub struct WebSettings {
    /// Seconds without a request or stream after which it exits; 0: never
    #[arg(long, env = "LEFT4ME_WEB_IDLE_SECONDS", value_name = "LEFT4ME_WEB_IDLE_SECONDS", default_value = "60",
          value_parser = whole(0..=86_400), hide_env_values = true)]
    pub idle_seconds: u32,
    /// The address that browsers use, https://HOST; without it, only this host itself is served
    #[arg(
        long,
        env = "LEFT4ME_WEB_ORIGIN",
        value_name = "LEFT4ME_WEB_ORIGIN",
        hide_env_values = true
    )]
    pub origin: Option<Origin>,
    /// Addresses of proxies whose X-Forwarded-For is trusted, separated by commas. An address of
    /// this host lets every local user pose as the proxy: use a secret instead
    #[arg(long, env = "LEFT4ME_WEB_PROXIES", value_name = "LEFT4ME_WEB_PROXIES", value_delimiter = ',',
          value_parser = address, hide_env_values = true)]
    pub proxies: Vec<IpAddr>,
    /// A file with the secret that a trusted proxy sends in the header X-Left4me-Proxy;
    /// root:left4me 0640
    #[arg(long, env = "LEFT4ME_WEB_PROXY_SECRET_FILE", value_name = "LEFT4ME_WEB_PROXY_SECRET_FILE",
          value_parser = absolute, hide_env_values = true)]
    pub proxy_secret_file: Option<PathBuf>,
    /// Hours until a session ends and the user has to sign in again
    #[arg(long, env = "LEFT4ME_SESSION_HOURS", value_name = "LEFT4ME_SESSION_HOURS", default_value = "168",
          value_parser = whole(1..=8760), hide_env_values = true)]
    pub session_hours: u32,
    /// Maximum number of a job's log lines that a page or stream starts with
    #[arg(long, env = "LEFT4ME_JOB_LOG_REPLAY_LIMIT", value_name = "LEFT4ME_JOB_LOG_REPLAY_LIMIT",
          default_value = "5000", value_parser = whole(1..=1_000_000), hide_env_values = true)]
    pub replay_limit: u32,
    /// Maximum number of connections; three quarters of them may be streams
    #[arg(long, env = "LEFT4ME_WEB_CONNECTIONS", value_name = "LEFT4ME_WEB_CONNECTIONS", default_value = "512",
          value_parser = whole(8..=60_000), hide_env_values = true)]
    pub connections: u32,
    /// Maximum number of streams of one user
    #[arg(long, env = "LEFT4ME_WEB_STREAMS_PER_USER", value_name = "LEFT4ME_WEB_STREAMS_PER_USER",
          default_value = "16", value_parser = whole(1..=60_000), hide_env_values = true)]
    pub streams_per_user: u32,
}

/// A parser that says what is allowed, whatever was given.
pub(super) fn whole(
    range: RangeInclusive<u32>,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync {
    move |text| {
        let number = text
            .parse()
            .ok()
            .filter(|number| range.contains(number) && !text.starts_with('+'));
        number.ok_or_else(|| {
            format!(
                "a whole number from {} to {} is needed",
                range.start(),
                range.end()
            )
        })
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| {
        "IP addresses separated by commas are needed, as in 192.0.2.1,2001:db8::1".to_owned()
    })
}
