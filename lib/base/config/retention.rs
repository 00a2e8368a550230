//! How long `left4me prune` keeps the history.

use super::programs::whole;

/// The most days that a setting may have: a century.
const MOST_DAYS: u32 = 36_500;

/// How long the history is kept. 0 sets no limit.
#[derive(clap::Args, Clone, Debug)]
pub struct RetentionSettings {
    /// Days that ended jobs are kept, with their tasks and cancellations; 0: no limit
    #[arg(long, env = "LEFT4ME_KEEP_JOBS_DAYS", value_name = "LEFT4ME_KEEP_JOBS_DAYS", default_value = "365",
          value_parser = whole(0..=MOST_DAYS), hide_env_values = true, help_heading = "Settings")]
    pub keep_jobs_days: u32,
    /// Days that the logs of ended jobs are kept; 0: as long as their jobs
    #[arg(long, env = "LEFT4ME_KEEP_LOGS_DAYS", value_name = "LEFT4ME_KEEP_LOGS_DAYS", default_value = "90",
          value_parser = whole(0..=MOST_DAYS), hide_env_values = true, help_heading = "Settings")]
    pub keep_logs_days: u32,
    /// The size of all job logs together in MiB, beyond which the oldest are removed; 0: no limit
    #[arg(long, env = "LEFT4ME_KEEP_LOGS_MIB", value_name = "LEFT4ME_KEEP_LOGS_MIB", default_value = "2048",
          value_parser = whole(0..=16_777_216), hide_env_values = true, help_heading = "Settings")]
    pub keep_logs_mib: u32,
    /// Days that events are kept; 0: no limit
    #[arg(long, env = "LEFT4ME_KEEP_EVENTS_DAYS", value_name = "LEFT4ME_KEEP_EVENTS_DAYS", default_value = "365",
          value_parser = whole(0..=MOST_DAYS), hide_env_values = true, help_heading = "Settings")]
    pub keep_events_days: u32,
}
