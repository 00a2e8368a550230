//! Makes and removes symlinks for many units with few calls: for each call, PID 1 reads all directories
//! of symlinks. Sixty calls take it 0.6 s of processor time, one call for sixty units 0.1 s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::calls::{Bus, Done};

/// How long a change that PID 1 has to read at once waits for others: until none has come for so
/// long, at most so many times. The servers of one job come within some tenths of a second, and each
/// reload takes PID 1 as long.
const SHARE: Duration = Duration::from_millis(50);
const MOST_SHARES: usize = 8;

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
    /// How many changes have come that PID 1 has to read at once.
    urgent: AtomicU64,
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
            urgent: AtomicU64::new(0),
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
        if !later {
            self.share(bus).await;
        }

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

    /// Waits until no other change has come for a moment. The own one is among those that wait by
    /// then: whoever is first takes all along.
    async fn share(&self, bus: &Bus) {
        let mut last = self.urgent.fetch_add(1, Ordering::Relaxed) + 1;
        for _ in 0..MOST_SHARES {
            bus.runtime.sleep(SHARE).await;
            let come = self.urgent.load(Ordering::Relaxed);
            if come == last {
                break;
            }
            last = come;
        }
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
