//! Whether an installation is tried again, and after which wait. Pure.

use std::time::Duration;

use crate::domain::steam::{ATTEMPTS, Cause, Retry};

/// How often Steam's limit is waited for.
const LIMIT_WAITS: u32 = 2;

/// The longest wait that grows.
const LONGEST: Duration = Duration::from_secs(300);

/// The tries of one installation.
#[derive(Debug)]
pub(super) struct Tries {
    /// The wait that the others are made of.
    base: Duration,
    /// How long Steam's limit is waited for.
    limit: Duration,
    failed: u32,
    limited: u32,
}

impl Tries {
    pub(super) fn new(base: Duration, limit: Duration) -> Self {
        Self { base, limit, failed: 0, limited: 0 }
    }

    /// One failed. The wait before the next one; `None` when there is none.
    pub(super) fn failed(&mut self, cause: Cause) -> Option<Duration> {
        if cause.retry() == Retry::AfterTheLimit {
            self.limited += 1;
            return (self.limited <= LIMIT_WAITS).then_some(self.limit);
        }
        self.failed += 1;
        if self.failed >= ATTEMPTS {
            return None;
        }
        match cause.retry() {
            Retry::Never | Retry::AfterTheLimit => None,
            Retry::Soon => Some(self.base),
            Retry::BackOff => {
                let grown = self.base.saturating_mul(1 << (self.failed - 1));
                Some(grown.min(LONGEST.max(self.base)))
            }
        }
    }

    /// How many have failed, for people.
    pub(super) fn count(&self) -> u32 {
        self.failed + self.limited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(cause: Cause, base: u64) -> Vec<u64> {
        let mut tries = Tries::new(Duration::from_secs(base), Duration::from_secs(1800));
        std::iter::from_fn(|| tries.failed(cause)).map(|wait| wait.as_secs()).collect()
    }

    #[test]
    fn each_cause_has_its_rule() {
        assert_eq!(waits(Cause::Network, 15), [15, 30, 60, 120]);
        assert_eq!(waits(Cause::Network, 100), [100, 200, 300, 300]);
        assert_eq!(waits(Cause::Network, 3600), [3600; 4]);
        assert_eq!(waits(Cause::Incomplete, 15), [15; 4]);
        assert_eq!(waits(Cause::RateLimit, 15), [1800; 2]);
        for cause in [Cause::DiskFull, Cause::NoSubscription, Cause::Credentials, Cause::SteamGuard] {
            assert!(waits(cause, 15).is_empty(), "{cause:?}");
        }
    }
}
