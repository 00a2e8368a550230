//! Decides when a command has hung: it writes nothing, and nothing that it works on changes. Pure,
//! except for the caller's function that measures what it works on.

use std::fmt;
use std::time::{Duration, Instant};

/// How many times within the limit a silent command's work is measured.
const CHECKS: u32 = 10;

/// How long a command may be silent.
pub struct Silence<'a> {
    /// The longest time without output and without a change.
    pub limit: Duration,
    /// Returns a number that changes when what the command works on changes. It is called up to ten
    /// times within the limit.
    pub activity: &'a mut dyn FnMut() -> u64,
}

impl fmt::Debug for Silence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Silence")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct SilenceWatch<'a> {
    silence: Silence<'a>,
    /// The last sign of life.
    since: Instant,
    /// When the activity is measured next.
    next_check: Instant,
    /// The last call of [`SilenceWatch::is_over`].
    called: Instant,
    activity: Option<u64>,
    over: bool,
}

impl<'a> SilenceWatch<'a> {
    pub(super) fn new(silence: Silence<'a>, now: Instant) -> Self {
        let next_check = now + silence.limit / CHECKS;
        Self {
            silence,
            since: now,
            next_check,
            called: now,
            activity: None,
            over: false,
        }
    }

    /// Whether the command has hung. `alive`: it gave a sign of life since the last call.
    pub(super) fn is_over(&mut self, alive: bool, now: Instant) -> bool {
        if self.over {
            return true;
        }

        // A process that was suspended for a while, for example with the whole host, has not read
        // the output of that time.
        let pause = self.silence.limit / CHECKS;
        let since_call = now.saturating_duration_since(self.called);
        let was_suspended = since_call > 2 * pause + Duration::from_secs(1);
        self.called = now;

        if alive || was_suspended {
            self.since = now;
        }

        if now >= self.next_check {
            // A command that writes need not be measured. The first measurement is compared with
            // those of a later silence.
            let is_silent = now.saturating_duration_since(self.since) >= pause;
            if is_silent || self.activity.is_none() {
                let activity = (self.silence.activity)();
                if self
                    .activity
                    .replace(activity)
                    .is_some_and(|before| before != activity)
                {
                    self.since = now;
                }
            }

            self.next_check = now + pause;
        }

        self.over = now.saturating_duration_since(self.since) >= self.silence.limit;
        self.over
    }

    /// When to call [`SilenceWatch::is_over`] again at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.over).then(|| self.next_check.min(self.since + self.silence.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(600);

    /// Calls it once a second, with the events of each; returns the second in which it is over.
    fn over_at(alive: impl Fn(u64) -> bool, work: impl Fn(u64) -> u64, most: u64) -> Option<u64> {
        let second = std::cell::Cell::new(0);
        let mut measure = || work(second.get());
        let start = Instant::now();
        let mut watch = SilenceWatch::new(
            Silence {
                limit: LIMIT,
                activity: &mut measure,
            },
            start,
        );

        (1..=most).find(|&at| {
            second.set(at);
            watch.is_over(alive(at), start + Duration::from_secs(at))
        })
    }

    #[test]
    fn a_command_without_output_and_activity_has_hung_after_the_limit() {
        let at = over_at(|_| false, |_| 7, 10_000).unwrap();
        assert!((600..=720).contains(&at), "{at}");
        let at = over_at(|second| second == 300, |_| 7, 10_000).unwrap();
        assert!((900..=1020).contains(&at), "{at}");
    }

    #[test]
    fn a_command_with_output_or_activity_has_not_hung() {
        assert_eq!(over_at(|second| second % 599 == 0, |_| 7, 10_000), None);
        assert_eq!(over_at(|_| false, |second| second / 300, 10_000), None);
        let at = over_at(|_| false, |second| second.min(2000), 10_000).unwrap();
        assert!((2600..=2720).contains(&at), "the work ended: {at}");
    }

    #[test]
    fn a_suspended_host_does_not_count_as_silence() {
        let start = Instant::now();
        let mut same = || 7;
        let mut watch = SilenceWatch::new(
            Silence {
                limit: LIMIT,
                activity: &mut same,
            },
            start,
        );

        assert!(!watch.is_over(false, start + Duration::from_secs(1)));
        assert!(!watch.is_over(false, start + Duration::from_secs(7200)));
        let over = (7200..9000).find(|&at| watch.is_over(false, start + Duration::from_secs(at)));
        assert!(over.is_some_and(|at| at <= 7920), "{over:?}");
    }
}
