//! Keeps the output of a server before a crash with the event, because journald may have deleted it
//! by tomorrow.
//!
//! It is fetched after the transaction that records the exit, because each fetch needs a helper and
//! states must not wait for it. What this run has no time for, or a run that died has missed, is
//! left to the next run.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::names::{InstanceName, ServerId};
use crate::base::{Result, clock};
use crate::db::{Db, events};
use crate::host::units;

/// How many lines are kept.
const LINES: u32 = 20;

/// How much time one run spends on this, so that a poll that was requested meanwhile does not wait
/// longer.
const BUDGET: Duration = Duration::from_secs(1);

/// A helper that takes longer hangs. Recording states matters more.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How many fetches run in parallel, each with a helper.
const AT_ONCE: usize = 4;

/// How old an event may be, in ms. After that, the last lines would belong to a later run of the
/// server.
const OLDEST: i64 = 600_000;

/// How many events one run handles.
const MOST: u32 = 64;

/// Fetches and keeps the last lines for abnormal exits that have none yet.
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
                    (
                        event,
                        server,
                        units::last_lines(helper, &InstanceName::from(server), LINES, TIMEOUT),
                    )
                })
            };

            let threads: Vec<_> = batch.iter().map(fetch).collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().ok())
                .collect()
        });

        for (event, server, lines) in fetched {
            match lines {
                Ok(lines) => db.write(|tx| events::keep_journal(tx, event, server, &lines))?,
                Err(error) => {
                    tracing::warn!(
                        server_id = server.0,
                        "the last lines of server {server} were not kept: {error}"
                    );

                    return Ok(());
                }
            }
        }
    }

    Ok(())
}
