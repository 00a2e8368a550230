//! Guessing passwords is slow: each account, and each sender, may fail a few times, then has to
//! wait, longer each time.
//!
//! What is counted stays bounded, and a flood of other names and addresses does not push out a key
//! that is under attack: a full table drops the key with the fewest failures, and the new key takes
//! over its count (the algorithm is known as Space-Saving). So no count is ever too low, and at
//! most by one [`MOST`]th of all attempts too high. Names that exist and names that do not are
//! treated alike: a wait does not tell which is which.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::names::SessionId;

/// Failures are forgotten after this time, ms.
const WINDOW: u64 = 15 * 60 * 1000;
/// The most keys. The password check allows about 70 attempts a second with three keys each: in a
/// window that is less than three times this number, so the error of a count stays below the free
/// attempts of every rule.
const MOST: usize = 65_536;
/// How often forgotten keys are removed, ms.
const SWEEP: u64 = 10_000;

/// How often something may fail before it has to wait, and how long at most, ms.
struct Rule {
    free: u32,
    longest: u64,
}

/// An account from one sender.
const PAIR: Rule = Rule { free: 5, longest: 60_000 };
/// An account from anywhere, a minute at most: an attacker elsewhere must not lock the owner out.
const ACCOUNT: Rule = Rule { free: 50, longest: 60_000 };
/// Many people may share an address.
const SENDER: Rule = Rule { free: 20, longest: WINDOW };

/// Where an attempt comes from, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// An address: the peer's, or the one that a trusted proxy names.
    Address(IpAddr),
    /// A program on this host that runs as this user.
    Local(u32),
    /// Someone who is signed in already and confirms the password.
    Session(SessionId),
    /// Behind a proxy that is not trusted: everybody there looks the same, so only the account
    /// counts. A limit for all of them would let one visitor lock the others out.
    Unknown,
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sender::Address(address) => write!(f, "{address}"),
            Sender::Local(uid) => write!(f, "user id {uid} on this host"),
            Sender::Session(id) => write!(f, "session {id}"),
            Sender::Unknown => write!(f, "behind a proxy that is not trusted"),
        }
    }
}

/// What is counted.
#[derive(Hash)]
enum Key<'a> {
    Pair(&'a str, Sender),
    Account(&'a str),
    Sender(Sender),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failed {
    times: u32,
    last: u64,
    until: u64,
}

/// Who failed to sign in, and how often. Its clock is monotonic: setting the host's clock ends no
/// wait.
pub struct Throttle {
    table: Mutex<Table>,
    /// With random keys: an attacker cannot find two names that share an entry.
    hasher: RandomState,
    begun: Instant,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { table: Mutex::default(), hasher: RandomState::new(), begun: Instant::now() }
    }
}

/// An attempt that counts as a failure while its password is checked: of a hundred that are made at
/// once, no more than the free ones are checked. Dropped before [`Attempt::count`], it leaves no
/// trace.
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    account: &'a str,
    sender: Sender,
    marks: Vec<Mark>,
}

/// A key's entry before and after an attempt.
struct Mark {
    key: u64,
    before: Option<Failed>,
    after: Failed,
}

impl Throttle {
    /// Milliseconds on the throttle's clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// How long it has to wait, if it has to.
    pub fn attempt<'a>(&'a self, account: &'a str, sender: Sender, now: u64) -> Result<Attempt<'a>, Duration> {
        let sender = whole(sender);
        let mut table = self.table();
        table.sweep(now);

        let keys = self.keys(account, sender);
        let until = keys.iter().filter_map(|(key, _)| table.fresh(*key, now)).map(|failed| failed.until).max();
        if let Some(until) = until.filter(|until| *until > now) {
            return Err(Duration::from_millis(until - now));
        }

        let marks = keys.into_iter().map(|(key, rule)| table.fail(key, &rule, now)).collect();
        Ok(Attempt { throttle: self, account, sender, marks })
    }

    /// Whether a failure is remembered: exiting now would forget it.
    pub fn is_needed(&self, now: u64) -> bool {
        self.table().entries.values().any(|failed| !failed.is_forgotten(now))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self, account: &str, sender: Sender) -> Vec<(u64, Rule)> {
        let pair = (Key::Pair(account, sender), PAIR);
        let keys = match sender {
            // Attempts in one session count for that session only.
            Sender::Session(_) => vec![pair],
            Sender::Unknown => vec![(Key::Account(account), ACCOUNT)],
            Sender::Address(_) | Sender::Local(_) => {
                vec![pair, (Key::Account(account), ACCOUNT), (Key::Sender(sender), SENDER)]
            }
        };
        keys.into_iter().map(|(key, rule)| (self.hasher.hash_one(key), rule)).collect()
    }
}

impl Attempt<'_> {
    /// The password is checked from now on: the attempt counts, also when the client goes away
    /// meanwhile.
    pub fn count(&mut self) {
        self.marks.clear();
    }

    /// The password was right: nothing of the account's counts any more, and one less of the
    /// sender's.
    pub fn forgive(mut self) {
        self.marks.clear();
        let mut table = self.throttle.table();
        let hash = |key: Key<'_>| self.throttle.hasher.hash_one(key);
        table.set(hash(Key::Pair(self.account, self.sender)), None);
        table.set(hash(Key::Account(self.account)), None);

        let key = hash(Key::Sender(self.sender));
        if let Some(failed) = table.entries.get(&key).copied() {
            let times = failed.times.saturating_sub(1);
            table.set(key, (times > 0).then_some(Failed { times, until: 0, ..failed }));
        }
    }
}

impl Drop for Attempt<'_> {
    /// The password was not checked, as after a 503: the attempt does not count.
    fn drop(&mut self) {
        if self.marks.is_empty() {
            return;
        }
        let mut table = self.throttle.table();
        for Mark { key, before, after } in self.marks.drain(..) {
            match table.entries.get(&key).copied() {
                Some(now) if now == after => table.set(key, before),
                // Another attempt came meanwhile, and its wait stands.
                Some(now) => table.set(key, Some(Failed { times: now.times.saturating_sub(1), ..now })),
                None => {}
            }
        }
    }
}

impl Failed {
    fn is_forgotten(&self, now: u64) -> bool {
        self.last + WINDOW <= now
    }
}

/// Keys by their hash, and in the order in which a full table drops them.
#[derive(Default)]
struct Table {
    entries: HashMap<u64, Failed>,
    /// Fewest failures first, then the oldest.
    order: BTreeSet<(u32, u64, u64)>,
    swept: u64,
}

impl Table {
    fn fresh(&self, key: u64, now: u64) -> Option<Failed> {
        self.entries.get(&key).copied().filter(|failed| !failed.is_forgotten(now))
    }

    fn set(&mut self, key: u64, to: Option<Failed>) {
        if let Some(old) = self.entries.remove(&key) {
            self.order.remove(&(old.times, old.last, key));
        }
        if let Some(new) = to {
            self.entries.insert(key, new);
            self.order.insert((new.times, new.last, key));
        }
    }

    /// Counts one failure more.
    fn fail(&mut self, key: u64, rule: &Rule, now: u64) -> Mark {
        let before = self.fresh(key, now);
        let times = match before {
            Some(before) => before.times,
            None if self.entries.len() >= MOST && !self.entries.contains_key(&key) => self.make_room(),
            None => 0,
        };
        let times = times.saturating_add(1);
        // 2^20 seconds are longer than every rule's longest.
        let wait = times.checked_sub(rule.free).map(|over| (1000_u64 << over.min(20)).min(rule.longest));
        let until = wait.map_or(before.map_or(0, |before| before.until), |wait| now + wait);

        let after = Failed { times, last: now, until };
        self.set(key, Some(after));
        Mark { key, before, after }
    }

    /// Drops the key with the fewest failures, and gives their number.
    fn make_room(&mut self) -> u32 {
        let Some((times, _, key)) = self.order.first().copied() else { return 0 };
        self.set(key, None);
        times
    }

    fn sweep(&mut self, now: u64) {
        if now < self.swept + SWEEP {
            return;
        }
        self.swept = now;
        let forgotten: Vec<u64> =
            self.entries.iter().filter(|(_, failed)| failed.is_forgotten(now)).map(|(key, _)| *key).collect();
        forgotten.into_iter().for_each(|key| self.set(key, None));
    }
}

/// Who has one IPv6 address has a network of them: its /64 counts as one.
fn whole(sender: Sender) -> Sender {
    match sender {
        Sender::Address(IpAddr::V6(v6)) => Sender::Address(IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into())),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Sender {
        Sender::Address(text.parse().unwrap())
    }

    /// An attempt with a wrong password.
    fn fail(throttle: &Throttle, account: &str, sender: Sender, now: u64) -> Option<Duration> {
        match throttle.attempt(account, sender, now) {
            Ok(mut attempt) => {
                attempt.count();
                None
            }
            Err(wait) => Some(wait),
        }
    }

    #[test]
    fn after_five_failures_an_account_waits_longer_each_time_and_never_more_than_a_minute() {
        let throttle = Throttle::default();
        let home = address("192.0.2.1");
        let mut now = 1_000_000;
        for _ in 0..5 {
            assert_eq!(fail(&throttle, "anna", home, now), None);
        }
        let mut waits = Vec::new();
        for _ in 0..9 {
            let wait = fail(&throttle, "anna", home, now).expect("has to wait").as_secs();
            waits.push(wait);
            now += wait * 1000;
            assert_eq!(fail(&throttle, "anna", home, now), None, "the wait is over");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(fail(&throttle, "berta", home, now), None, "another account");
        assert_eq!(fail(&throttle, "anna", home, now + WINDOW + 1), None, "forgotten");
    }

    #[test]
    fn a_wait_is_at_its_longest_after_any_number_of_failures() {
        let mut table = Table::default();
        for times in [24, 70, 83, 84, 90, 1000, u32::MAX] {
            table.set(7, Some(Failed { times, last: 0, until: 0 }));
            assert_eq!(table.fail(7, &PAIR, 0).after.until, PAIR.longest, "{times}");
        }
    }

    #[test]
    fn a_good_password_forgives_the_account() {
        let throttle = Throttle::default();
        let home = address("192.0.2.1");
        for _ in 0..5 {
            fail(&throttle, "anna", home, 0);
        }
        assert!(fail(&throttle, "anna", home, 500).is_some() && throttle.is_needed(500));
        throttle.attempt("anna", home, 1000).ok().unwrap().forgive();
        assert_eq!(fail(&throttle, "anna", home, 1000), None);
        assert!(throttle.is_needed(1000 + WINDOW - 1) && !throttle.is_needed(1000 + WINDOW));
    }

    #[test]
    fn many_accounts_from_one_network_make_it_wait() {
        let throttle = Throttle::default();
        for number in 0..20 {
            assert_eq!(fail(&throttle, &format!("user{number}"), address("2001:db8::1"), 0), None);
        }
        assert!(fail(&throttle, "other", address("2001:db8::ffff"), 0).is_some());
        assert_eq!(fail(&throttle, "other", address("2001:db8:0:1::1"), 0), None);
        // The same for a user of this host.
        for number in 0..20 {
            assert_eq!(fail(&throttle, &format!("user{number}"), Sender::Local(1000), 0), None);
        }
        assert!(fail(&throttle, "other", Sender::Local(1000), 0).is_some());
        assert_eq!(fail(&throttle, "other", Sender::Local(1001), 0), None);
    }

    #[test]
    fn an_attacker_elsewhere_does_not_lock_the_owner_out() {
        let throttle = Throttle::default();
        for _ in 0..6 {
            fail(&throttle, "anna", address("192.0.2.1"), 0);
        }
        assert!(fail(&throttle, "anna", address("192.0.2.1"), 500).is_some());
        assert_eq!(fail(&throttle, "anna", address("198.51.100.1"), 500), None);
        // From many addresses it is the account that waits.
        for number in 0..60 {
            fail(&throttle, "anna", address(&format!("203.0.113.{number}")), 500);
        }
        assert!(fail(&throttle, "anna", address("198.51.100.2"), 500).is_some());
        // Someone who is signed in may still change the password.
        assert_eq!(fail(&throttle, "anna", Sender::Session(SessionId(1)), 500), None);
    }

    #[test]
    fn behind_a_proxy_that_is_not_trusted_nobody_locks_the_others_out() {
        let throttle = Throttle::default();
        for number in 0..1000 {
            assert_eq!(fail(&throttle, &format!("user{number}"), Sender::Unknown, 0), None);
        }
        for _ in 0..49 {
            assert_eq!(fail(&throttle, "anna", Sender::Unknown, 0), None);
        }
        assert_eq!(fail(&throttle, "berta", Sender::Unknown, 0), None);
        // The account is guarded all the same.
        fail(&throttle, "anna", Sender::Unknown, 0);
        assert!(fail(&throttle, "anna", Sender::Unknown, 0).is_some_and(|wait| wait <= Duration::from_secs(60)));
    }

    #[test]
    fn an_attempt_whose_password_was_not_checked_leaves_no_trace() {
        let throttle = Throttle::default();
        let home = address("192.0.2.1");
        for _ in 0..1000 {
            drop(throttle.attempt("anna", home, 0).ok().unwrap());
        }
        assert!(!throttle.is_needed(0) && throttle.table().order.is_empty());
        for _ in 0..4 {
            fail(&throttle, "anna", home, 0);
        }
        // The fifth one makes the others wait while it is under way, and no longer.
        let fifth = throttle.attempt("anna", home, 0).ok().unwrap();
        assert!(fail(&throttle, "anna", home, 0).is_some());
        drop(fifth);
        assert_eq!(fail(&throttle, "anna", home, 0), None);
        assert!(fail(&throttle, "anna", home, 0).is_some());
    }

    #[test]
    fn a_flood_of_other_names_and_addresses_does_not_free_what_is_under_attack() {
        let throttle = Throttle::default();
        let home = address("192.0.2.1");
        for _ in 0..12 {
            fail(&throttle, "anna", home, 0);
            fail(&throttle, "anna", home, 0);
        }
        assert!(fail(&throttle, "anna", home, 0).is_some());
        // More attempts than the password check lets through in a window.
        let begun = Instant::now();
        for number in 0..70_000_u32 {
            let from = Sender::Address(IpAddr::V6((u128::from(number) << 64).into()));
            assert_eq!(fail(&throttle, &format!("user{number}"), from, 10), None, "a newcomer has to wait: {number}");
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert!(fail(&throttle, "anna", home, 20).is_some(), "the flood freed the account");
        // Nor does it let a name that is new now be guessed without end.
        let mut tries = 0;
        while fail(&throttle, "berta", home, 30).is_none() {
            fail(&throttle, &format!("other{tries}"), Sender::Local(tries), 30);
            tries += 1;
        }
        assert!(tries <= 5, "{tries} tries");
        let table = throttle.table();
        assert!(table.entries.len() == MOST && table.order.len() == MOST);
    }
}
