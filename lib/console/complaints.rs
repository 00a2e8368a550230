//! Lines for the journal about games that break the protocol: at most one per game and minute, so
//! that a hostile game cannot fill the journal.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(60);
/// How many games are remembered.
const MOST: usize = 4096;

/// When the journal last had a line about each port.
#[derive(Debug, Default)]
pub struct Complaints(HashMap<u16, Instant>);

impl Complaints {
    /// Whether a line about the game at a port may be written now.
    pub fn may_say(&mut self, now: Instant, port: u16) -> bool {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < PAUSE;
        if self.0.get(&port).is_some_and(is_recent) {
            return false;
        }

        if self.0.len() >= MOST {
            self.0.retain(|_, at| is_recent(at));
        }
        if self.0.len() >= MOST {
            return false;
        }
        self.0.insert(port, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_game_gets_one_line_a_minute_and_the_others_theirs() {
        let (mut complaints, now) = (Complaints::default(), Instant::now());
        assert!(complaints.may_say(now, 1));
        assert!(!complaints.may_say(now + PAUSE / 2, 1) && complaints.may_say(now, 2));
        assert!(complaints.may_say(now + PAUSE, 1));
        for port in 0..=u16::MAX {
            complaints.may_say(now + PAUSE, port);
        }
        assert!(complaints.0.len() <= MOST);
    }
}
