//! Removes symlinks for many units with few calls: for each, PID 1 reads all directories of symlinks.
//! Sixty calls take it 0.6 s of processor time, one call for sixty units 0.1 s.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::calls::{Bus, Done};

/// The type, symlink and target of each change.
pub(super) type Changes = Vec<(String, String, String)>;

#[derive(Default)]
pub(super) struct Unlinks {
    /// Units whose symlinks no call has removed yet.
    waiting: Mutex<Vec<String>>,
    /// One call at a time. What comes meanwhile shares the next one.
    turn: zruntime::lock::Mutex<()>,
}

/// A unit that waits. An operation that is cancelled takes it back.
struct Waiting<'a> {
    all: &'a Unlinks,
    unit: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.waiting().retain(|unit| unit != self.unit);
    }
}

impl Unlinks {
    fn waiting(&self) -> MutexGuard<'_, Vec<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the symlinks of the unit. True if a call of this operation changed something.
    pub(super) async fn remove(&self, bus: &Bus, unit: &str) -> Done<bool> {
        self.waiting().push(unit.to_owned());
        let _waiting = Waiting { all: self, unit };

        let _turn = self.turn.lock().await;
        if !self.waiting().iter().any(|other| other == unit) {
            return Ok(false);
        }

        let units = self.waiting().clone();
        let changes = match disable(bus, &units).await {
            Ok(changes) => changes,
            // Only the one that is at fault fails.
            Err(_) if units.len() > 1 => return disable(bus, &[unit.to_owned()]).await.map(any),
            Err(failure) => return Err(failure),
        };

        self.waiting().retain(|unit| !units.contains(unit));
        Ok(any(changes))
    }
}

async fn disable(bus: &Bus, units: &[String]) -> Done<Changes> {
    let reply = bus.call("DisableUnitFiles", &(units, false)).await?;
    Ok(reply.body().deserialize().unwrap_or_default())
}

fn any(changes: Changes) -> bool {
    !changes.is_empty()
}
