//! Guessing passwords is slow: each account, and each address, may fail a few times, then has to wait, longer each time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Failures are forgotten after so long, ms.
const WINDOW: i64 = 15 * 60 * 1000;
/// So many keys are remembered; the oldest goes when one more comes.
const MOST: usize = 10_000;

/// How often something may fail before it has to wait, and how long at most, ms.
struct Rule {
    free: u32,
    longest: i64,
}

/// An account from one address.
const PAIR: Rule = Rule { free: 5, longest: 60_000 };
/// An account from anywhere, a minute at most: somebody who guesses from elsewhere must not lock the owner out.
const ACCOUNT: Rule = Rule { free: 50, longest: 60_000 };
/// Many people may share an address.
const ADDRESS: Rule = Rule { free: 20, longest: WINDOW };

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Pair(String, Option<IpAddr>),
    Account(String),
    Address(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    last: i64,
    until: i64,
}

/// Who failed to sign in, and how often.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<Key, Failed>>);

impl Throttle {
    /// How long this attempt has to wait, if it has to. It is counted as a failure until [`Throttle::forgive`]: of a
    /// hundred that are made at once, no more than the free ones are looked at.
    pub fn attempt(&self, account: &str, address: Option<IpAddr>, now: i64) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, failed| failed.last > now - WINDOW);
        let keys = keys(account, address);
        let until = keys.iter().filter_map(|(key, _)| all.get(key)).map(|failed| failed.until).max().unwrap_or(0);
        if until > now {
            return Some(Duration::from_millis(u64::try_from(until - now).unwrap_or(0)));
        }
        for (key, rule) in keys {
            if all.len() >= MOST && !all.contains_key(&key) {
                let oldest = all.iter().min_by_key(|(_, failed)| failed.last).map(|(key, _)| key.clone());
                oldest.and_then(|key| all.remove(&key));
            }
            let failed = all.entry(key).or_insert(Failed { times: 0, last: now, until: 0 });
            failed.times += 1;
            failed.last = now;
            if failed.times >= rule.free {
                let wait = 1000_i64.checked_shl(failed.times - rule.free).unwrap_or(i64::MAX);
                failed.until = now + wait.clamp(1000, rule.longest);
            }
        }
        None
    }

    /// The attempt was a good one: nothing of the account's counts any more, and one less of the address'.
    pub fn forgive(&self, account: &str, address: Option<IpAddr>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in keys(account, address) {
            match key {
                Key::Pair(..) | Key::Account(_) => drop(all.remove(&key)),
                Key::Address(_) => {
                    if let Some(failed) = all.get_mut(&key) {
                        failed.times = failed.times.saturating_sub(1);
                        failed.until = 0;
                    }
                }
            }
        }
    }

    /// The attempt was none: nobody looked at it.
    pub fn take_back(&self, account: &str, address: Option<IpAddr>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in keys(account, address) {
            if let Some(failed) = all.get_mut(&key) {
                failed.times = failed.times.saturating_sub(1);
            }
        }
    }

    /// Whether somebody has to wait: leaving now would forget it.
    pub fn is_needed(&self, now: i64) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().any(|failed| failed.until > now - WINDOW && failed.last > now - WINDOW && failed.until > 0)
    }
}

fn keys(account: &str, address: Option<IpAddr>) -> Vec<(Key, Rule)> {
    let account: String = account.chars().take(64).collect();
    let address = address.map(whole);
    let mut keys = vec![(Key::Pair(account.clone(), address), PAIR), (Key::Account(account), ACCOUNT)];
    keys.extend(address.map(|address| (Key::Address(address), ADDRESS)));
    keys
}

/// Who has one IPv6 address has a network of them: its /64 counts as one.
fn whole(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn after_five_failures_an_account_waits_longer_each_time_and_never_more_than_a_minute() {
        let throttle = Throttle::default();
        let mut now = 1_000_000;
        for _ in 0..5 {
            assert_eq!(throttle.attempt("anna", None, now), None);
        }
        let mut waits = Vec::new();
        for _ in 0..9 {
            let wait = throttle.attempt("anna", None, now).expect("has to wait").as_secs();
            waits.push(wait);
            now += i64::try_from(wait).unwrap() * 1000;
            assert_eq!(throttle.attempt("anna", None, now), None, "the wait is over");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(throttle.attempt("berta", None, now), None, "another account");
        assert_eq!(throttle.attempt("anna", None, now + WINDOW + 1), None, "forgotten");
    }

    #[test]
    fn a_good_password_forgives_the_account() {
        let throttle = Throttle::default();
        for _ in 0..5 {
            throttle.attempt("anna", address("192.0.2.1"), 0);
        }
        assert!(throttle.attempt("anna", address("192.0.2.1"), 500).is_some() && throttle.is_needed(500));
        throttle.forgive("anna", address("192.0.2.1"));
        assert_eq!(throttle.attempt("anna", address("192.0.2.1"), 500), None);
    }

    #[test]
    fn who_tries_many_accounts_from_one_network_has_to_wait() {
        let throttle = Throttle::default();
        for number in 0..20 {
            assert_eq!(throttle.attempt(&format!("user{number}"), address("2001:db8::1"), 0), None);
        }
        assert!(throttle.attempt("other", address("2001:db8::ffff"), 0).is_some());
        assert_eq!(throttle.attempt("other", address("2001:db8:0:1::1"), 0), None);
    }

    #[test]
    fn who_guesses_from_elsewhere_does_not_lock_the_owner_out() {
        let throttle = Throttle::default();
        for _ in 0..6 {
            throttle.attempt("anna", address("192.0.2.1"), 0);
        }
        assert!(throttle.attempt("anna", address("192.0.2.1"), 500).is_some());
        assert_eq!(throttle.attempt("anna", address("198.51.100.1"), 500), None);
        // From many addresses it is the account that waits.
        for number in 0..60 {
            throttle.attempt("anna", address(&format!("203.0.113.{number}")), 500);
        }
        assert!(throttle.attempt("anna", address("198.51.100.2"), 500).is_some());
    }

    #[test]
    fn what_is_remembered_stays_bounded() {
        let throttle = Throttle::default();
        for number in 0..MOST + 50 {
            throttle.attempt(&format!("user{number}"), None, i64::try_from(number).unwrap());
        }
        assert_eq!(throttle.0.lock().unwrap().len(), MOST);
    }
}
