//! Decides whether an installation or a question is retried, and after which wait. Pure.

use std::time::Duration;

use crate::domain::steam::{ATTEMPTS, Cause, QUESTION_ATTEMPTS, Retry};

/// How many times an installation waits for Steam's rate limit.
const LIMIT_WAITS: u32 = 2;

/// The longest wait of the exponential backoff.
const LONGEST: Duration = Duration::from_secs(300);

/// The retries of one installation, or of one question.
#[derive(Debug)]
pub(super) struct RetryPolicy {
    /// The first wait; the backoff doubles it.
    base: Duration,
    /// The wait for Steam's rate limit.
    limit: Duration,
    /// How many attempts there are.
    attempts: u32,
    /// How many waits for the rate limit there are.
    limit_waits: u32,
    failed: u32,
    limited: u32,
}

impl RetryPolicy {
    pub(super) fn of_installation(base: Duration, limit: Duration) -> Self {
        Self {
            base,
            limit,
            attempts: ATTEMPTS,
            limit_waits: LIMIT_WAITS,
            failed: 0,
            limited: 0,
        }
    }

    /// A question gives up sooner and waits for no rate limit: jobs may wait for it, and it is asked
    /// again at another time.
    pub(super) fn of_question(base: Duration) -> Self {
        Self {
            attempts: QUESTION_ATTEMPTS,
            limit_waits: 0,
            ..Self::of_installation(base, Duration::ZERO)
        }
    }

    /// How many attempts there are at most.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Counts a failed attempt. Returns the wait before the next one; `None` when there is none.
    pub(super) fn failed(&mut self, cause: Cause) -> Option<Duration> {
        if cause.retry() == Retry::AfterTheLimit {
            self.limited += 1;
            return (self.limited <= self.limit_waits).then_some(self.limit);
        }

        self.failed += 1;
        if self.failed >= self.attempts {
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
        let base = Duration::from_secs(base);
        all(
            cause,
            RetryPolicy::of_installation(base, Duration::from_secs(1800)),
        )
    }

    fn all(cause: Cause, mut policy: RetryPolicy) -> Vec<u64> {
        std::iter::from_fn(|| policy.failed(cause))
            .map(|wait| wait.as_secs())
            .collect()
    }

    #[test]
    fn a_question_is_repeated_twice_and_never_within_the_rate_limit() {
        let waits = |cause| all(cause, RetryPolicy::of_question(Duration::from_secs(15)));
        assert_eq!(waits(Cause::Network), [15, 30]);
        assert_eq!(waits(Cause::NoAppInfo), [15, 15]);
        for cause in [Cause::RateLimit, Cause::NoBranch, Cause::Credentials] {
            assert!(waits(cause).is_empty(), "{cause:?}");
        }
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
