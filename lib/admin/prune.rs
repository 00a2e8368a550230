//! `left4me prune`: removes old jobs, logs, events and sessions, by the settings or by an age.

use super::{Context, hint};
use crate::base::config::RetentionSettings;
use crate::base::{Result, clock, output};
use crate::db::retention::{self, Pruned};
use crate::db::{Db, deliveries, sessions};
use crate::domain::retention::{self as rules, DAY, Limits, Retention};
use serde::Serialize;

/// Remove old jobs, logs, events and sessions, as left4me-prune.timer does every night
///
/// How long they are kept is set in /etc/left4me/left4me.env. Queued and running jobs are kept at
/// any age, and so is what a process that could not be killed needs.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PruneArgs {
    /// Remove jobs that ended more than this many days ago, whatever the settings say; keep events
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500),
          allow_negative_numbers = true)]
    older_than: Option<u32>,
    /// Remove only the log lines and keep the jobs
    #[arg(long)]
    logs_only: bool,
    /// Also rewrite the file without its free space; programs that write wait meanwhile
    #[arg(long, conflicts_with = "dry_run")]
    vacuum: bool,
    /// Only print what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: RetentionSettings,
}

const EXAMPLES: &str = "\
Examples:
  left4me prune --dry-run
  left4me prune --older-than 30 --logs-only
  left4me prune --vacuum

left4me keeps running meanwhile. The file becomes smaller by its free space, except for some that
the next rows use.";

/// Free space that a file of an older version has for good, from which it is worth a rewrite, bytes.
const WORTH_A_REWRITE: i64 = 64 << 20;

pub(super) fn run(context: &Context, args: &PruneArgs) -> Result<()> {
    let mut db = context.db()?;
    let last = retention::last_run(db.connection())?;
    let retention = rules_of(args, context.now, last);
    if args.dry_run {
        let report = PruneReport {
            pruned: retention::count(&mut db, &retention)?,
            file_bytes: db.file_bytes()?,
            returned_bytes: 0,
        };
        return report.print(args);
    }

    let before = db.file_bytes()?;
    let pruned = retention::prune(&mut db, &retention)?;
    if args.older_than.is_none() {
        let applied = rules::clock(context.now, last);
        db.write(|tx| retention::record_run(tx, applied))?;
    }

    return_space(&db, args.vacuum)?;
    db.checkpoint();

    let file_bytes = db.file_bytes()?;
    let returned_bytes = (before - file_bytes).max(0);
    PruneReport {
        pruned,
        file_bytes,
        returned_bytes,
    }
    .print(args)
}

/// The rules of the settings, or those of the arguments.
fn rules_of(args: &PruneArgs, now: i64, last: Option<i64>) -> Retention {
    let mut limits = match args.older_than {
        Some(days) => {
            let age = Some(i64::from(days) * DAY);
            Limits {
                jobs: age,
                logs: age,
                sessions: age,
                alerts: age,
                ..Limits::default()
            }
        }
        None => limits_of(&args.settings),
    };

    if args.logs_only {
        limits = Limits {
            logs: limits.logs,
            log_bytes: limits.log_bytes,
            ..Limits::default()
        };
    }

    // Who names an age means this clock, and every row.
    if args.older_than.is_some() {
        return Retention::new(now, limits).thorough();
    }

    let clock = rules::clock(now, last);
    let retention = Retention::new(clock, limits);
    if rules::is_thorough(clock, last) {
        retention.thorough()
    } else {
        retention
    }
}

fn limits_of(settings: &RetentionSettings) -> Limits {
    let limit = |number: u32, unit: i64| (number > 0).then(|| i64::from(number) * unit);

    Limits {
        jobs: limit(settings.keep_jobs_days, DAY),
        logs: limit(settings.keep_logs_days, DAY),
        log_bytes: limit(settings.keep_logs_mib, 1 << 20),
        events: limit(settings.keep_events_days, DAY),
        sessions: Some(sessions::RETENTION),
        alerts: Some(deliveries::RETENTION),
    }
}

/// Returns free space to the disk. A file of an older version is rewritten for that once, if it is
/// small or if an admin says so.
fn return_space(db: &Db, is_asked: bool) -> Result<()> {
    if is_asked {
        return db.rewrite();
    }

    if !db.can_shrink()? {
        if db.is_small()? {
            // A busy host or a full disk: the next night does it.
            if let Err(error) = db.rewrite() {
                hint(&format!("the file was not rewritten: {error}"));
            }
        } else if db.free_bytes()? > WORTH_A_REWRITE {
            hint(&format!(
                "the file is of an older version and keeps {} MiB of free space; \
                 `left4me prune --vacuum` returns it, and programs that write wait meanwhile",
                db.free_bytes()? >> 20
            ));
        }
    }

    db.shrink().map(drop)
}

#[derive(Serialize)]
struct PruneReport {
    #[serde(flatten)]
    pruned: Pruned,
    /// The size of the file.
    file_bytes: i64,
    /// How much smaller the file has become.
    returned_bytes: i64,
}

impl PruneReport {
    fn print(&self, args: &PruneArgs) -> Result<()> {
        if args.json {
            return output::json(self);
        }

        let Pruned {
            jobs,
            log_lines,
            log_bytes,
            events,
            sessions,
            oldest,
        } = self.pruned;

        let verb = if args.dry_run {
            "would be removed"
        } else {
            "removed"
        };

        let logs = format!("{log_lines} log lines ({})", mib(log_bytes));
        let mut text = if args.logs_only {
            format!("{logs} {verb}")
        } else {
            format!("{jobs} jobs, {logs}, {events} events and {sessions} sessions {verb}")
        };

        if let Some(oldest) = oldest {
            text += &format!("; the oldest is from {}", clock::local(oldest));
        }
        output::line(&text)?;

        let file = mib(self.file_bytes);
        if self.returned_bytes > 0 {
            let returned = mib(self.returned_bytes);
            output::line(&format!("the file has {file}, {returned} less than before"))
        } else {
            output::line(&format!("the file has {file}"))
        }
    }
}

/// Bytes as MiB with one digit.
fn mib(bytes: i64) -> String {
    let tenths = bytes.saturating_mul(10) / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
