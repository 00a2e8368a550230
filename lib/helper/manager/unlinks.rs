//! Removes symlinks for many units with few calls: for each, PID 1 reads all directories of symlinks.
//! Sixty calls take it 0.6 s of processor time, one call for sixty units 0.1 s.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::calls::{Bus, Done};

/// The type, symlink and target of each change.
pub(super) type Changes = Vec<(String, String, String)>;

/// What a call of an operation did.
pub(super) enum Removed {
    /// Nothing, or another operation's call did it.
    Nothing,
    /// PID 1 has not read the change yet.
    Changed,
    /// PID 1 has read it.
    Reloaded,
}

#[derive(Default)]
pub(super) struct Unlinks {
    /// Units whose symlinks no call has removed yet, and whether PID 1 may read that later.
    waiting: Mutex<Vec<(String, bool)>>,
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
        self.all.waiting().retain(|(unit, _)| unit != self.unit);
    }
}

impl Unlinks {
    fn waiting(&self) -> MutexGuard<'_, Vec<(String, bool)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the symlinks of the unit. Unless that may come `later`, PID 1 has read it then.
    pub(super) async fn remove(&self, bus: &Bus, unit: &str, later: bool) -> Done<Removed> {
        self.waiting().push((unit.to_owned(), later));
        let _waiting = Waiting { all: self, unit };

        let _turn = self.turn.lock().await;
        if !self.waiting().iter().any(|(other, _)| other == unit) {
            return Ok(Removed::Nothing);
        }

        let all = self.waiting().clone();
        let units: Vec<&str> = all.iter().map(|(unit, _)| unit.as_str()).collect();
        let (changes, done) = match disable(bus, &units).await {
            Ok(changes) => (changes, all.as_slice()),
            // Only the one that is at fault fails.
            Err(_) if units.len() > 1 => {
                let own = all.iter().position(|(other, _)| other == unit).unwrap_or(0);
                (disable(bus, &[unit]).await?, &all[own..=own])
            }
            Err(failure) => return Err(failure),
        };

        self.waiting().retain(|unit| !done.contains(unit));
        if changes.is_empty() {
            return Ok(Removed::Nothing);
        }
        if done.iter().all(|(_, later)| *later) {
            return Ok(Removed::Changed);
        }
        bus.call("Reload", &()).await?;
        Ok(Removed::Reloaded)
    }
}

async fn disable(bus: &Bus, units: &[&str]) -> Done<Changes> {
    let reply = bus.call("DisableUnitFiles", &(units, false)).await?;
    Ok(reply.body().deserialize().unwrap_or_default())
}
