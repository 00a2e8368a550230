//! When a command counts as hung: nothing comes from it, and nothing that it works on changes. Pure
//! but for the look at what it works on, which is the caller's.

use std::fmt;
use std::time::{Duration, Instant};

/// The disk is looked at so often while a command is silent, as a part of the limit.
const LOOKS: u32 = 10;

/// How long a command may be silent.
pub struct Silence<'a> {
    /// So long, with no output and no change.
    pub limit: Duration,
    /// A number that changes when what the command works on does. It may be called ten times within
    /// the limit.
    pub work: &'a mut dyn FnMut() -> u64,
}

impl fmt::Debug for Silence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Silence").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// One command under watch.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    silence: Silence<'a>,
    /// The last sign of life.
    since: Instant,
    /// When the disk is looked at next.
    look: Instant,
    /// When this was asked last.
    asked: Instant,
    seen: Option<u64>,
    over: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(silence: Silence<'a>, now: Instant) -> Self {
        let look = now + silence.limit / LOOKS;
        Self { silence, since: now, look, asked: now, seen: None, over: false }
    }

    /// Whether the command has hung. `alive`: it gave a sign of life since this was asked last.
    pub(super) fn is_over(&mut self, alive: bool, now: Instant) -> bool {
        if self.over {
            return true;
        }
        // A process that was stopped for a while, as with the whole host in its sleep, has not read what
        // there was to read.
        let pause = self.silence.limit / LOOKS;
        let was_away = now.saturating_duration_since(self.asked) > 2 * pause + Duration::from_secs(1);
        self.asked = now;
        if alive || was_away {
            self.since = now;
        }

        if now >= self.look {
            // What speaks need not be measured; the measure of before the silence is what it is
            // compared with.
            if now.saturating_duration_since(self.since) >= pause || self.seen.is_none() {
                let seen = (self.silence.work)();
                if self.seen.replace(seen).is_some_and(|before| before != seen) {
                    self.since = now;
                }
            }
            self.look = now + pause;
        }
        self.over = now.saturating_duration_since(self.since) >= self.silence.limit;
        self.over
    }

    /// When to ask again at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.over).then(|| self.look.min(self.since + self.silence.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(600);

    /// Asks once a second, with what happens in each; gives the second in which it is over.
    fn over_at(alive: impl Fn(u64) -> bool, work: impl Fn(u64) -> u64, most: u64) -> Option<u64> {
        let second = std::cell::Cell::new(0);
        let mut measure = || work(second.get());
        let start = Instant::now();
        let mut watch = Watch::new(Silence { limit: LIMIT, work: &mut measure }, start);
        (1..=most).find(|&at| {
            second.set(at);
            watch.is_over(alive(at), start + Duration::from_secs(at))
        })
    }

    #[test]
    fn a_command_that_neither_speaks_nor_works_is_over_after_the_limit() {
        let at = over_at(|_| false, |_| 7, 10_000).unwrap();
        assert!((600..=720).contains(&at), "{at}");
        let at = over_at(|second| second == 300, |_| 7, 10_000).unwrap();
        assert!((900..=1020).contains(&at), "{at}");
    }

    #[test]
    fn one_that_speaks_or_works_is_not() {
        assert_eq!(over_at(|second| second % 599 == 0, |_| 7, 10_000), None);
        assert_eq!(over_at(|_| false, |second| second / 300, 10_000), None);
        let at = over_at(|_| false, |second| second.min(2000), 10_000).unwrap();
        assert!((2600..=2720).contains(&at), "the work ended: {at}");
    }

    #[test]
    fn a_host_that_slept_hears_first_what_there_was() {
        let start = Instant::now();
        let mut same = || 7;
        let mut watch = Watch::new(Silence { limit: LIMIT, work: &mut same }, start);
        assert!(!watch.is_over(false, start + Duration::from_secs(1)));
        assert!(!watch.is_over(false, start + Duration::from_secs(7200)));
        let over = (7200..9000).find(|&at| watch.is_over(false, start + Duration::from_secs(at)));
        assert!(over.is_some_and(|at| at <= 7920), "{over:?}");
    }
}
