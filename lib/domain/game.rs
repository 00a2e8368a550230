//! What a game answers when it is asked who plays, and whether it hangs. Pure.
//!
//! No answer alone proves nothing: a game that loads a map is silent for up to a minute, and some
//! launch arguments silence it for good. So a server counts as unresponsive only after it has
//! answered in its present run, for some polls and some minutes, and without a map load meanwhile.

use crate::base::words::words;

words! {
    /// Whether a running game answers.
    pub enum Responding ("whether a game answers") {
        /// It answered when it was asked last.
        Yes = "yes",
        /// It has answered in this run, but not when it was asked last.
        No = "no",
        /// It has not answered since its start. It may still load, or never answer.
        NotYet = "not-yet",
    }
}

/// What a game said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// People, without bots.
    pub players: u32,
    pub bots: u32,
    pub max_players: u32,
    pub map: String,
    /// Time from the question to the answer, ms.
    pub response_ms: u32,
}

/// What is known of a running game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Game {
    /// None unless it answered when it was asked last: no answer is not an empty server.
    pub figures: Option<Figures>,
    /// When it answered last in this run, unix ms.
    pub answered_at: Option<i64>,
    /// When it was asked last, unix ms.
    pub asked_at: i64,
    /// Polls in a row without an answer.
    pub unanswered: u32,
}

/// The number of polls without an answer from which a server may be unresponsive.
pub const UNANSWERED: u32 = 5;

/// The longest time, ms, that a game is silent while it loads a map, with room to spare. Polls can
/// follow one another within a second, so their number alone says little.
pub const MAP_LOAD: i64 = 120_000;

/// The shortest time between two restarts of an unresponsive server, ms.
pub const RESTART_INTERVAL: i64 = 3_600_000;

impl Game {
    /// What is known after the game was asked at `now`. `figures` is none if it did not answer;
    /// `before` is what was known of the same run.
    pub fn after(before: Option<&Self>, figures: Option<Figures>, now: i64) -> Self {
        let unanswered = match figures {
            Some(_) => 0,
            None => before.map_or(0, |game| game.unanswered).saturating_add(1),
        };

        Self {
            answered_at: match figures {
                Some(_) => Some(now),
                None => before.and_then(|game| game.answered_at),
            },
            figures,
            asked_at: now,
            unanswered,
        }
    }

    pub fn responding(&self) -> Responding {
        match (&self.figures, self.answered_at) {
            (Some(_), _) => Responding::Yes,
            (None, Some(_)) => Responding::No,
            (None, None) => Responding::NotYet,
        }
    }

    /// Whether it has been silent for so long that only a map load could explain it.
    pub fn is_silent(&self) -> bool {
        let silence = self.answered_at.map_or(0, |at| self.asked_at - at);
        self.unanswered >= UNANSWERED && silence >= MAP_LOAD
    }
}

/// Whether the journal rules out that the game loads a map: no line of the last [`MAP_LOAD`] before
/// `now` is one of a map load. `entries` are the journal's last ones, oldest first, with their
/// times (unix ms); at most `most` were asked for. A journal that does not go back far enough rules
/// out nothing.
pub fn no_map_load<'a>(
    entries: impl Iterator<Item = (i64, &'a str)>,
    most: usize,
    now: i64,
) -> bool {
    let since = now - MAP_LOAD;
    let (mut count, mut reaches_back) = (0, false);
    for (at, line) in entries {
        count += 1;
        reaches_back |= at < since;
        if at >= since && is_map_load(line) {
            return false;
        }
    }

    reaches_back || count < most
}

/// Whether the game prints this line when it begins or ends to load a map. Players can cause a line
/// that looks like one, but not on a server that hangs.
pub fn is_map_load(line: &str) -> bool {
    const STARTS: [&str; 6] = [
        "---- Host_Changelevel ----",
        "---- Host_NewGame ----",
        "Host_NewGame on map ",
        "-------- Mapchange to ",
        "Loading map ",
        "Started map ",
    ];

    let text = without_time(line.trim());
    STARTS.iter().any(|start| text.starts_with(start))
}

/// The line without `L 11/29/2026 - 12:00:00: `, which the game puts before what it also logs.
fn without_time(line: &str) -> &str {
    const LENGTH: usize = "L 11/29/2026 - 12:00:00: ".len();
    match line.strip_prefix("L ").and(line.get(LENGTH..)) {
        Some(text) if line.as_bytes()[LENGTH - 2] == b':' => text,
        _ => line,
    }
}

/// Whether an unresponsive server may be restarted at `now`, if the poller restarted it last at
/// `last` (unix ms). A time ahead is from before the clock was set back, and as far away as one
/// behind.
pub fn may_restart(last: Option<i64>, now: i64) -> bool {
    last.is_none_or(|last| now.saturating_sub(last).saturating_abs() >= RESTART_INTERVAL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn figures() -> Figures {
        Figures {
            players: 3,
            bots: 1,
            max_players: 8,
            map: "c1m1_hotel".to_owned(),
            response_ms: 12,
        }
    }

    /// What is known after these questions: when each was asked, and whether it was answered.
    fn seen(questions: &[(i64, bool)]) -> Game {
        let ask = |before: Option<Game>, &(at, answered): &(i64, bool)| {
            Some(Game::after(
                before.as_ref(),
                answered.then(figures),
                at * 1000,
            ))
        };
        questions.iter().fold(None, ask).unwrap()
    }

    #[test]
    fn a_game_responds_once_it_has_answered_and_silence_is_not_an_empty_server() {
        let not_yet = seen(&[(0, false), (30, false)]);
        assert_eq!(not_yet.responding(), Responding::NotYet);
        assert_eq!((not_yet.unanswered, not_yet.answered_at), (2, None));

        let yes = seen(&[(0, false), (30, true)]);
        assert_eq!(yes.responding(), Responding::Yes);
        assert_eq!((yes.unanswered, yes.answered_at), (0, Some(30_000)));

        let no = seen(&[(0, true), (30, true), (60, false)]);
        assert_eq!(no.responding(), Responding::No);
        assert_eq!((no.figures, no.answered_at), (None, Some(30_000)));
    }

    #[test]
    fn five_polls_over_two_minutes_without_an_answer_are_silence() {
        let silent = |questions: &[(i64, bool)]| seen(questions).is_silent();
        let (asked, none) = (true, false);

        assert!(silent(&[
            (0, asked),
            (30, none),
            (60, none),
            (90, none),
            (120, none),
            (150, none)
        ]));
        assert!(
            !silent(&[(0, asked), (30, none), (60, none), (90, none), (120, none)]),
            "four polls"
        );
        assert!(
            !silent(&[
                (0, asked),
                (1, none),
                (2, none),
                (3, none),
                (4, none),
                (5, none),
                (6, none)
            ]),
            "a map load, while other servers start"
        );
        assert!(
            !silent(&[(0, none), (60, none), (120, none), (180, none), (240, none)]),
            "-insecure or -nomaster: it has never answered"
        );
        assert!(
            !silent(&[
                (900, asked),
                (0, none),
                (30, none),
                (60, none),
                (90, none),
                (120, none)
            ]),
            "the clock was set back"
        );
    }

    #[test]
    fn the_lines_of_a_map_load_are_known_with_and_without_a_time() {
        for line in [
            "---- Host_Changelevel ----",
            "---- Host_NewGame ----",
            "Host_NewGame on map c1m1_hotel",
            "-------- Mapchange to c1m2_streets --------",
            "L 11/29/2026 - 12:00:00: -------- Mapchange to c1m2_streets --------",
            "L 11/29/2026 - 12:00:00: Loading map \"c1m2_streets\"",
            "  L 11/29/2026 - 12:00:00: Started map \"c1m2_streets\" (CRC \"1\")",
        ] {
            assert!(is_map_load(line), "{line}");
        }

        for line in [
            "",
            "L ",
            "L é/29/2026 - 12:00:00é Loading map",
            "Anna: -------- Mapchange to c1m2_streets --------",
            "L 11/29/2026 - 12:00:00: \"Anna<2><STEAM_1:0:1><>\" say \"Loading map \"",
            "[SM] Plugin \"Started map\" loaded",
        ] {
            assert!(!is_map_load(line), "{line}");
        }
    }

    #[test]
    fn a_map_load_is_ruled_out_by_a_journal_of_two_minutes_without_one() {
        let load = "---- Host_Changelevel ----";
        let rules_out = |entries: &[(i64, &str)], most| {
            let entries = entries.iter().map(|(at, line)| (at * 1000, *line));
            no_map_load(entries, most, 1_000_000)
        };

        assert!(rules_out(&[], 3), "it printed nothing at all");
        assert!(rules_out(&[(100, load), (990, "x")], 3));
        assert!(
            rules_out(&[(700, load), (985, "x"), (990, "y")], 3),
            "an old load, and the journal reaches back to it"
        );
        assert!(!rules_out(&[(900, load), (990, "x")], 3));
        assert!(
            !rules_out(&[(985, "x"), (986, "y"), (990, "z")], 3),
            "there may have been one before these"
        );
    }

    #[test]
    fn a_restart_comes_at_most_once_an_hour_by_any_clock() {
        let hour = RESTART_INTERVAL;
        assert!(may_restart(None, 0) && may_restart(Some(0), hour));
        assert!(!may_restart(Some(1), hour) && !may_restart(Some(hour), 1));
        assert!(may_restart(Some(i64::MAX), 0) && may_restart(Some(i64::MIN), i64::MAX));
    }

    proptest! {
        /// Whatever is answered when: who plays is known exactly if the last question was answered,
        /// and a server that has answered nothing in this run is never silent.
        #[test]
        fn only_an_answer_says_who_plays(questions in proptest::collection::vec(
            (-1_000_i64..1_000_000, any::<bool>()), 1..40))
        {
            let game = seen(&questions);
            let (last, answered) = *questions.last().unwrap();
            prop_assert_eq!(game.figures.is_some(), answered);
            prop_assert_eq!(game.asked_at, last * 1000);
            prop_assert_eq!(game.unanswered == 0, answered);
            prop_assert_eq!(game.responding() == Responding::Yes, answered);

            let ever = questions.iter().any(|(_, answered)| *answered);
            prop_assert_eq!(game.responding() == Responding::NotYet, !ever);
            let trailing = questions.iter().rev().take_while(|(_, answered)| !answered).count();
            prop_assert!(!game.is_silent() || ever && trailing >= 5);
        }

        #[test]
        fn no_line_breaks_the_reader(line in "\\PC{0,60}") {
            is_map_load(&line);
            is_map_load(&format!("L {line}"));
        }
    }
}
