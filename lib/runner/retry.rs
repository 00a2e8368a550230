//! Decides whether an installation is retried, and after which wait. Pure.

use std::time::Duration;

use crate::domain::steam::{ATTEMPTS, Cause, Retry};

/// How many times an installation waits for Steam's rate limit.
const LIMIT_WAITS: u32 = 2;

/// The longest wait of the exponential backoff.
const LONGEST: Duration = Duration::from_secs(300);

/// The retries of one installation.
#[derive(Debug)]
pub(super) struct RetryPolicy {
    /// The first wait; the backoff doubles it.
    base: Duration,
    /// The wait for Steam's rate limit.
    limit: Duration,
    failed: u32,
    limited: u32,
}

impl RetryPolicy {
    pub(super) fn new(base: Duration, limit: Duration) -> Self {
        Self {
            base,
            limit,
            failed: 0,
            limited: 0,
        }
    }

    /// Counts a failed attempt. Returns the wait before the next one; `None` when there is none.
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

    /// How many attempts have failed, for messages.
    pub(super) fn count(&self) -> u32 {
        self.failed + self.limited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(cause: Cause, base: u64) -> Vec<u64> {
        let mut policy = RetryPolicy::new(Duration::from_secs(base), Duration::from_secs(1800));
        std::iter::from_fn(|| policy.failed(cause))
            .map(|wait| wait.as_secs())
            .collect()
    }

    #[test]
    fn each_cause_has_its_rule() {
        assert_eq!(waits(Cause::Network, 15), [15, 30, 60, 120]);
        assert_eq!(waits(Cause::Network, 100), [100, 200, 300, 300]);
        assert_eq!(waits(Cause::Network, 3600), [3600; 4]);
        assert_eq!(waits(Cause::Incomplete, 15), [15; 4]);
        assert_eq!(waits(Cause::RateLimit, 15), [1800; 2]);

        for cause in [
            Cause::DiskFull,
            Cause::NoSubscription,
            Cause::Credentials,
            Cause::SteamGuard,
        ] {
            assert!(waits(cause, 15).is_empty(), "{cause:?}");
        }
    }
}
