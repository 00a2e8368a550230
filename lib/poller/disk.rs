//! Watches the disk of the database, on which all of left4me's data is unless an admin mounted more.

use nix::sys::statvfs::statvfs;

use crate::base::{Result, clock};
use crate::db::Db;
use crate::db::events::{self, NewEvent, OUTSIDE};
use crate::db::poll;
use crate::domain::disk::{Space, is_low, message};

/// Records when the disk becomes almost full, and when it no longer is.
pub(super) fn check(db: &mut Db) -> Result<()> {
    let Some(space) = db.path().parent().and_then(|directory| {
        let found = statvfs(directory).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
        Some(Space {
            total: bytes(found.blocks()),
            free: bytes(found.blocks_available()),
        })
    }) else {
        return Ok(());
    };

    let was = poll::is_disk_low(db.connection())?;
    let is = is_low(space, was);
    if is == was {
        return Ok(());
    }

    let (kind, now) = (if is { "disk.low" } else { "disk.ok" }, clock::now_ms());
    let detail = message(space);
    db.write(|tx| {
        poll::set_disk_low(tx, is.then_some(now))?;
        events::add(tx, now, &NewEvent::new(kind, OUTSIDE, &detail))
    })?;
    if is {
        tracing::warn!("the disk is almost full: {detail}");
    } else {
        tracing::info!("the disk has space again: {detail}");
    }
    Ok(())
}
