//! `left4me prune`: removes old jobs. Nothing else removes them.

use super::Context;
use crate::base::{Result, clock, output};
use crate::db::maintenance::{self, Depth, Pruned};

/// Milliseconds of a day.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// Remove jobs that ended long ago, with their logs; events are kept
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PruneArgs {
    /// Remove jobs that ended more than this many days ago
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    older_than: u32,
    /// Remove only the log lines and keep the jobs
    #[arg(long)]
    logs_only: bool,
    /// Only print what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  left4me prune --older-than 90 --dry-run
  left4me prune --older-than 30 --logs-only

left4me keeps running meanwhile. The file does not shrink; its free space is reused.";

pub(super) fn run(context: &Context, args: &PruneArgs) -> Result<()> {
    let mut db = context.db()?;
    let before = context.now - i64::from(args.older_than) * DAY;
    let depth = if args.logs_only {
        Depth::Logs
    } else {
        Depth::Everything
    };

    let pruned = if args.dry_run {
        maintenance::count(&mut db, before, depth)?
    } else {
        maintenance::prune(&mut db, before, depth)?
    };

    if args.json {
        return output::json(&pruned);
    }

    let Pruned {
        jobs,
        log_lines,
        sessions,
    } = pruned;

    let verb = if args.dry_run {
        "would be removed"
    } else {
        "removed"
    };

    let what = if args.logs_only {
        format!("{log_lines} log lines")
    } else {
        format!("{jobs} jobs with {log_lines} log lines, and {sessions} sessions")
    };

    output::line(&format!(
        "{what} from before {} {verb}",
        clock::local(before)
    ))
}
