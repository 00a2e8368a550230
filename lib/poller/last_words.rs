//! The last lines of a server that ended badly, kept with the event: tomorrow the journal may have forgotten them.
//!
//! They come after the transaction that tells of the end, because they take a helper each: states must not wait for
//! them. What is not fetched in this run's time, or by a run that died, is left to the next one.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::names::{InstanceName, ServerId};
use crate::base::{Result, clock};
use crate::db::{Db, events};
use crate::host::units;

/// So many lines.
const LINES: u32 = 20;

/// What is spent on them in one run: a look that somebody asked for meanwhile waits no longer.
const BUDGET: Duration = Duration::from_secs(1);

/// A helper that takes longer hangs: rows matter more.
const PATIENCE: Duration = Duration::from_secs(2);

/// Side by side, a helper each.
const AT_ONCE: usize = 4;

/// Older ends than this are let go: their lines would be somebody else's. Ms.
const OLDEST: i64 = 600_000;

/// In one run.
const MOST: u32 = 64;

/// Fetches and keeps the last lines of bad ends that have none yet.
///
/// # Errors
/// 69 when the database cannot be used. A helper that does not answer is a warning: the next run tries again.
pub(super) fn keep(db: &mut Db, helper: &Path) -> Result<()> {
    let begun = Instant::now();
    let missing = events::without_journal(db.connection(), clock::now_ms() - OLDEST, MOST)?;
    for batch in missing.chunks(AT_ONCE) {
        if begun.elapsed() > BUDGET {
            break;
        }

        let fetched: Vec<_> = std::thread::scope(|scope| {
            let fetch = |&(event, server): &(i64, ServerId)| {
                scope.spawn(move || {
                    (event, server, units::last_lines(helper, &InstanceName::from(server), LINES, PATIENCE))
                })
            };
            let threads: Vec<_> = batch.iter().map(fetch).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });

        for (event, server, lines) in fetched {
            match lines {
                Ok(lines) => db.write(|tx| events::keep_journal(tx, event, server, &lines))?,
                Err(error) => {
                    tracing::warn!(server_id = server.0, "the last lines of server {server} were not kept: {error}");
                    return Ok(());
                }
            }
        }
    }

    Ok(())
}
