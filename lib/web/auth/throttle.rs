//! Slows down password guessing. Each account and each sender may fail a few times, then has to
//! wait, longer each time.
//!
//! The table is bounded, and a flood of other names and addresses does not evict a key that is
//! under attack: a full table drops the key with the fewest failures, and the new key inherits its
//! count (the Space-Saving algorithm). So no count is too low, and each is too high by at most one
//! [`MAX_KEYS`]th of all attempts. Names that exist and names that do not are treated alike, so a
//! wait reveals nothing.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::names::SessionId;

/// Failures are forgotten after this time, ms.
const WINDOW: u64 = 15 * 60 * 1000;
/// The most keys. The password check allows about 70 attempts per second with three keys each. In
/// one window that is less than three times this number, so the error of a count stays below the
/// free attempts of every rule.
const MAX_KEYS: usize = 65_536;
/// The time between two removals of forgotten keys, ms.
const SWEEP_INTERVAL: u64 = 10_000;

/// Free attempts, and the longest wait after them, ms.
struct Rule {
    free: u32,
    max_wait: u64,
}

/// One account from one sender.
const PAIR: Rule = Rule {
    free: 5,
    max_wait: 60_000,
};
/// One account from anywhere. The wait is short: an attacker must not lock the owner out.
const ACCOUNT: Rule = Rule {
    free: 50,
    max_wait: 60_000,
};
/// Any account from one sender. Many people may share an address.
const SENDER: Rule = Rule {
    free: 20,
    max_wait: WINDOW,
};

/// Where an attempt comes from, as far as known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The peer's address, or the one that a trusted proxy names.
    Address(IpAddr),
    /// A program on this host, by user id.
    Local(u32),
    /// A signed-in user who confirms the password.
    Session(SessionId),
    /// Behind a proxy that is not trusted. All clients look the same, so only the account counts:
    /// with a common limit one visitor could lock out all others.
    Unknown,
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sender::Address(address) => write!(f, "{address}"),
            Sender::Local(uid) => write!(f, "user id {uid} on this host"),
            Sender::Session(id) => write!(f, "session {id}"),
            Sender::Unknown => write!(f, "behind an untrusted proxy"),
        }
    }
}

#[derive(Hash)]
enum Key<'a> {
    Pair(&'a str, Sender),
    Account(&'a str),
    Sender(Sender),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failures {
    times: u32,
    last: u64,
    until: u64,
}

/// Counts failed sign-ins. Its clock is monotonic, so changing the host's clock ends no wait.
pub struct Throttle {
    table: Mutex<FailureTable>,
    /// Randomly keyed, so that an attacker cannot find two names that share an entry.
    hasher: RandomState,
    begun: Instant,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            hasher: RandomState::new(),
            begun: Instant::now(),
        }
    }
}

/// An attempt. It counts as a failure while its password is checked, so that of many concurrent
/// ones only the free ones are checked. Dropped before [`Attempt::count`], it leaves no trace.
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    account: &'a str,
    sender: Sender,
    counted: Vec<CountedFailure>,
}

/// A key's entry before and after an attempt.
struct CountedFailure {
    key: u64,
    before: Option<Failures>,
    after: Failures,
}

impl Throttle {
    /// Milliseconds on the throttle's clock.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Starts an attempt.
    pub fn attempt<'a>(
        &'a self,
        account: &'a str,
        sender: Sender,
        now: u64,
    ) -> Result<Attempt<'a>, Duration> {
        let sender = network_of(sender);
        let mut table = self.table();
        table.sweep(now);

        let keys = self.keys(account, sender);
        let until = keys
            .iter()
            .filter_map(|(key, _)| table.fresh(*key, now))
            .map(|failed| failed.until)
            .max();
        if let Some(until) = until.filter(|until| *until > now) {
            return Err(Duration::from_millis(until - now));
        }

        let counted = keys
            .into_iter()
            .map(|(key, rule)| table.fail(key, &rule, now))
            .collect();
        Ok(Attempt {
            throttle: self,
            account,
            sender,
            counted,
        })
    }

    /// Whether a failure is remembered. Exiting would forget it.
    pub fn is_needed(&self, now: u64) -> bool {
        self.table()
            .entries
            .values()
            .any(|failed| !failed.is_forgotten(now))
    }

    fn table(&self) -> MutexGuard<'_, FailureTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self, account: &str, sender: Sender) -> Vec<(u64, Rule)> {
        let pair = (Key::Pair(account, sender), PAIR);
        let keys = match sender {
            // Attempts in a session count for that session only.
            Sender::Session(_) => vec![pair],
            Sender::Unknown => vec![(Key::Account(account), ACCOUNT)],
            Sender::Address(_) | Sender::Local(_) => {
                vec![
                    pair,
                    (Key::Account(account), ACCOUNT),
                    (Key::Sender(sender), SENDER),
                ]
            }
        };

        keys.into_iter()
            .map(|(key, rule)| (self.hasher.hash_one(key), rule))
            .collect()
    }
}

impl Attempt<'_> {
    /// Makes the attempt count, because its password is checked now. It counts even if the client
    /// disconnects.
    pub fn count(&mut self) {
        self.counted.clear();
    }

    /// The password was right: clears the account's failures, and takes back one of the sender's.
    pub fn forgive(mut self) {
        self.counted.clear();

        let mut table = self.throttle.table();
        let hash = |key: Key<'_>| self.throttle.hasher.hash_one(key);
        table.set(hash(Key::Pair(self.account, self.sender)), None);
        table.set(hash(Key::Account(self.account)), None);

        let key = hash(Key::Sender(self.sender));
        if let Some(failed) = table.entries.get(&key).copied() {
            let times = failed.times.saturating_sub(1);
            table.set(
                key,
                (times > 0).then_some(Failures {
                    times,
                    until: 0,
                    ..failed
                }),
            );
        }
    }
}

impl Drop for Attempt<'_> {
    /// The password was not checked, for instance because of a 503: the attempt does not count.
    fn drop(&mut self) {
        if self.counted.is_empty() {
            return;
        }

        let mut table = self.throttle.table();
        for CountedFailure { key, before, after } in self.counted.drain(..) {
            match table.entries.get(&key).copied() {
                Some(now) if now == after => table.set(key, before),
                // Another attempt came meanwhile. Its wait stays.
                Some(now) => table.set(
                    key,
                    Some(Failures {
                        times: now.times.saturating_sub(1),
                        ..now
                    }),
                ),
                None => {}
            }
        }
    }
}

impl Failures {
    fn is_forgotten(&self, now: u64) -> bool {
        self.last + WINDOW <= now
    }
}

/// Entries by hash, and in the order of eviction.
#[derive(Default)]
struct FailureTable {
    entries: HashMap<u64, Failures>,
    /// Fewest failures first, then the oldest.
    order: BTreeSet<(u32, u64, u64)>,
    swept: u64,
}

impl FailureTable {
    fn fresh(&self, key: u64, now: u64) -> Option<Failures> {
        self.entries
            .get(&key)
            .copied()
            .filter(|failed| !failed.is_forgotten(now))
    }

    fn set(&mut self, key: u64, to: Option<Failures>) {
        if let Some(old) = self.entries.remove(&key) {
            self.order.remove(&(old.times, old.last, key));
        }
        if let Some(new) = to {
            self.entries.insert(key, new);
            self.order.insert((new.times, new.last, key));
        }
    }

    fn fail(&mut self, key: u64, rule: &Rule, now: u64) -> CountedFailure {
        let before = self.fresh(key, now);
        let times = match before {
            Some(before) => before.times,
            None if self.entries.len() >= MAX_KEYS && !self.entries.contains_key(&key) => {
                self.evict()
            }
            None => 0,
        };

        let times = times.saturating_add(1);

        // 2^20 seconds exceed every rule's max_wait.
        let wait = times
            .checked_sub(rule.free)
            .map(|over| (1000_u64 << over.min(20)).min(rule.max_wait));
        let until = wait.map_or(before.map_or(0, |before| before.until), |wait| now + wait);

        let after = Failures {
            times,
            last: now,
            until,
        };

        self.set(key, Some(after));
        CountedFailure { key, before, after }
    }

    /// Drops the key with the fewest failures and returns their number.
    fn evict(&mut self) -> u32 {
        let Some((times, _, key)) = self.order.first().copied() else {
            return 0;
        };
        self.set(key, None);
        times
    }

    fn sweep(&mut self, now: u64) {
        if now < self.swept + SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        let forgotten: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, failed)| failed.is_forgotten(now))
            .map(|(key, _)| *key)
            .collect();
        forgotten.into_iter().for_each(|key| self.set(key, None));
    }
}

/// An IPv6 user has a whole network: its /64 counts as one sender.
fn network_of(sender: Sender) -> Sender {
    match sender {
        Sender::Address(IpAddr::V6(v6)) => {
            Sender::Address(IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
