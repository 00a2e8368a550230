//! Makes and removes symlinks for many units with few calls: for each call, PID 1 reads all directories
//! of symlinks. Sixty calls take it 0.6 s of processor time, one call for sixty units 0.1 s.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::calls::{Bus, Done};

/// The type, symlink and target of each change.
type Changes = Vec<(String, String, String)>;

/// What a call does to the symlinks that start units at boot.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    Link,
    Unlink,
}

/// What a call of an operation did.
pub(super) enum Change {
    /// Nothing, or another operation's call did it.
    Nothing,
    /// PID 1 has not read the change yet.
    Unread,
    /// PID 1 has read it.
    Read,
}

/// The changes in one direction.
pub(super) struct Symlinks {
    direction: Direction,
    /// Units whose symlinks no call has changed yet, and whether PID 1 may read that later.
    waiting: Mutex<Vec<(String, bool)>>,
    /// One call at a time. What comes meanwhile shares the next one.
    turn: zruntime::lock::Mutex<()>,
}

/// A unit that waits. An operation that is cancelled takes it back.
struct Waiting<'a> {
    all: &'a Symlinks,
    unit: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.waiting().retain(|(unit, _)| unit != self.unit);
    }
}

impl Symlinks {
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            waiting: Mutex::default(),
            turn: zruntime::lock::Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(String, bool)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the symlinks of the unit. Unless that may come `later`, PID 1 has read it then.
    pub(super) async fn change(&self, bus: &Bus, unit: &str, later: bool) -> Done<Change> {
        self.waiting().push((unit.to_owned(), later));
        let _waiting = Waiting { all: self, unit };

        let _turn = self.turn.lock().await;
        if !self.waiting().iter().any(|(other, _)| other == unit) {
            return Ok(Change::Nothing);
        }

        let all = self.waiting().clone();
        let units: Vec<&str> = all.iter().map(|(unit, _)| unit.as_str()).collect();
        let (changes, done) = match self.direction.call(bus, &units).await {
            Ok(changes) => (changes, all.as_slice()),
            // Only the one that is at fault fails.
            Err(_) if units.len() > 1 => {
                let own = all.iter().position(|(other, _)| other == unit).unwrap_or(0);
                let changes = self.direction.call(bus, &[unit]).await?;
                (changes, &all[own..=own])
            }
            Err(failure) => return Err(failure),
        };

        self.waiting().retain(|unit| !done.contains(unit));
        if changes.is_empty() {
            return Ok(Change::Nothing);
        }
        if done.iter().all(|(_, later)| *later) {
            return Ok(Change::Unread);
        }
        bus.call("Reload", &()).await?;
        Ok(Change::Read)
    }
}

impl Direction {
    /// PID 1 changes the symlinks, without a reload.
    async fn call(self, bus: &Bus, units: &[&str]) -> Done<Changes> {
        Ok(match self {
            Self::Link => {
                let reply = bus.call("EnableUnitFiles", &(units, false, false)).await?;
                let body = reply.body().deserialize::<(bool, Changes)>();
                body.map(|(_, changes)| changes).unwrap_or_default()
            }
            Self::Unlink => {
                let reply = bus.call("DisableUnitFiles", &(units, false)).await?;
                reply.body().deserialize().unwrap_or_default()
            }
        })
    }
}
