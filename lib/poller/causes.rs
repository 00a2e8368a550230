//! Records why an overlay could not be mounted if no job did: at boot, or after a start with
//! systemctl. The cause is fetched after the transaction that records the failure, because it needs
//! a helper and states must not wait for it. What is not fetched in one poll is fetched in the
//! next.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::base::names::{InstanceName, ServerId, overlay_unit};
use crate::base::{Result, clock};
use crate::db::{Db, observations};
use crate::domain::reason;
use crate::domain::unit::End;
use crate::host::units;

/// How many journal entries are read.
const ENTRIES: u32 = 60;

/// How much time one poll spends on this, so that the next requested poll does not wait longer.
const BUDGET: Duration = Duration::from_secs(1);

/// A helper that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Records the cause of each overlay failure that has none yet: as the server's last exit, as the
/// reason of its drift, and as its last error.
pub(super) fn record(db: &mut Db, helper: &Path) -> Result<()> {
    let begun = Instant::now();
    let bare = End::NotMounted.to_string();
    for server in observations::ended_with(db.connection(), &bare)? {
        if begun.elapsed() > BUDGET {
            break;
        }

        let cause = match of(helper, server) {
            Ok(cause) => cause,
            Err(error) => {
                tracing::warn!(
                    server_id = server.0,
                    "why the overlay of server {server} failed is not known: {error}"
                );

                break;
            }
        };

        let full = format!("{bare}: {cause}");
        if db
            .write(|tx| observations::explain(tx, server, &bare, &full, &cause, clock::now_ms()))?
        {
            tracing::warn!(server_id = server.0, "server {server}: {full}");
        }
    }

    Ok(())
}

fn of(helper: &Path, server: ServerId) -> Result<String> {
    let instance = InstanceName::from(server);
    let entries = units::last_entries(helper, &instance, ENTRIES, TIMEOUT)?;
    let lines = entries
        .iter()
        .map(|entry| (entry.from.as_str(), entry.line.as_str()));
    let unit = overlay_unit(&instance);
    Ok(reason::of_overlay(&instance, lines)
        .unwrap_or_else(|| format!("{unit}: its journal does not say why")))
}
