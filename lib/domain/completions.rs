//! What people often send to a game's console, for completion and lists of choices. It is no list
//! of what is allowed.

/// Commands, in the order in which they are offered.
pub const COMMANDS: &[&str] = &[
    "status",
    "say",
    "changelevel",
    "map",
    "maps *",
    "kickid",
    "kick",
    "banid",
    "removeid",
    "listid",
    "writeid",
    "users",
    "stats",
    "hostname",
    "meta list",
    "plugin_print",
    "mp_gamemode",
    "mp_restartgame",
    "sv_cheats",
    "sv_gametypes",
    "sv_password",
    "sv_visiblemaxplayers",
    "z_difficulty",
    "sm plugins list",
    "sm version",
    "sm_ban",
    "sm_kick",
    "sm_map",
    "sm_say",
    "sm_slay",
    "sm_who",
];

/// Those of [`COMMANDS`] that a map follows.
pub const BEFORE_A_MAP: &[&str] = &["changelevel", "map", "sm_map"];

/// The maps of the game's own campaigns.
pub const MAPS: &[&str] = &[
    "c1m1_hotel",
    "c1m2_streets",
    "c1m3_mall",
    "c1m4_atrium",
    "c2m1_highway",
    "c2m2_fairgrounds",
    "c2m3_coaster",
    "c2m4_barns",
    "c2m5_concert",
    "c3m1_plankcountry",
    "c3m2_swamp",
    "c3m3_shantytown",
    "c3m4_plantation",
    "c4m1_milltown_a",
    "c4m2_sugarmill_a",
    "c4m3_sugarmill_b",
    "c4m4_milltown_b",
    "c4m5_milltown_escape",
    "c5m1_waterfront",
    "c5m2_park",
    "c5m3_cemetery",
    "c5m4_quarter",
    "c5m5_bridge",
    "c6m1_riverbank",
    "c6m2_bedlam",
    "c6m3_port",
    "c7m1_docks",
    "c7m2_barge",
    "c7m3_port",
    "c8m1_apartment",
    "c8m2_subway",
    "c8m3_sewers",
    "c8m4_interior",
    "c8m5_rooftop",
    "c9m1_alleys",
    "c9m2_lots",
    "c10m1_caves",
    "c10m2_drainage",
    "c10m3_ranchhouse",
    "c10m4_mainstreet",
    "c10m5_houseboat",
    "c11m1_greenhouse",
    "c11m2_offices",
    "c11m3_garage",
    "c11m4_terminal",
    "c11m5_runway",
    "c12m1_hilltop",
    "c12m2_traintunnel",
    "c12m3_bridge",
    "c12m4_barn",
    "c12m5_cornfield",
    "c13m1_alpinecreek",
    "c13m2_southpinestream",
    "c13m3_memorialbridge",
    "c13m4_cutthroatcreek",
    "c14m1_junkyard",
    "c14m2_lighthouse",
];

/// What Tab makes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The line, as far as all choices agree.
    pub line: String,
    /// What could follow, if there is more than one choice: the last word of each.
    pub choices: Vec<String>,
}

/// Completes a line whose end has the cursor: a map after a command that takes one, otherwise a
/// command, one of [`COMMANDS`] or of `past`. None if nothing begins so. assets/command.js does the
/// same on the web.
pub fn complete(line: &str, past: &[String]) -> Option<Completed> {
    let all = candidates(line, past);
    let first = all.first()?;
    let agreed = all.iter().fold(first.len(), |length, one| {
        let same = first.bytes().zip(one.bytes()).take(length);
        same.take_while(|(a, b)| a == b).count()
    });

    let last_word = |one: &String| one.rsplit(' ').next().unwrap_or_default().to_owned();
    let choices = match all.len() {
        1 => Vec::new(),
        _ => all.iter().map(last_word).collect(),
    };
    let line = match first[..first.floor_char_boundary(agreed)].to_owned() {
        // Only upper and lower case differ: what was typed stays.
        agreed if agreed.len() <= line.len() => line.to_owned(),
        agreed => agreed,
    };
    Some(Completed { line, choices })
}

fn candidates(line: &str, past: &[String]) -> Vec<String> {
    if let Some((command, map)) = line.split_once(char::is_whitespace)
        && BEFORE_A_MAP.contains(&command.to_ascii_lowercase().as_str())
        && !map.trim_start().contains(char::is_whitespace)
    {
        let begun = map.trim_start().to_ascii_lowercase();
        let maps = MAPS.iter().filter(|one| one.starts_with(&begun));
        return maps.map(|one| format!("{command} {one}")).collect();
    }

    if line.is_empty() {
        return Vec::new();
    }

    let begun = line.to_ascii_lowercase();
    let known = COMMANDS.iter().filter(|one| one.starts_with(&begun));
    let mut all: Vec<String> = known.map(|one| (*one).to_owned()).collect();
    for one in past.iter().filter(|one| one.starts_with(line)) {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::game_command::{change_map, check};

    fn completed(line: &str) -> (String, Vec<String>) {
        let past = ["say good evening".to_owned(), "sm_cvar Z_x 1".to_owned()];
        complete(line, &past).map_or_else(Default::default, |done| (done.line, done.choices))
    }

    #[test]
    fn tab_adds_what_all_choices_agree_on_and_lists_them() {
        let done = |line: &str| (line.to_owned(), Vec::new());
        assert_eq!(
            completed("stat"),
            (
                "stat".to_owned(),
                vec!["status".to_owned(), "stats".to_owned()]
            )
        );
        assert_eq!(completed("statu"), done("status"));
        assert_eq!(completed("CHANGEL"), done("changelevel"));
        assert_eq!(completed("say g"), done("say good evening"), "its own line");
        assert_eq!(completed("sm_c"), done("sm_cvar Z_x 1"));
        assert_eq!(completed(""), done(""), "everything begins so");
        assert_eq!(completed("nothing"), done(""));
    }

    #[test]
    fn a_map_follows_the_commands_that_take_one() {
        let (line, choices) = completed("changelevel C2");
        assert_eq!((line.as_str(), choices.len()), ("changelevel c2m", 5));
        assert_eq!(choices[0], "c2m1_highway");
        assert_eq!(completed("map c2m1").0, "map c2m1_highway");
        assert_eq!(completed("map c2m1_highway x").0, "");
        assert_eq!(completed("say c2m1").0, "");
    }

    proptest! {
        /// Whatever is typed: what is there is only added to.
        #[test]
        fn a_line_never_gets_shorter(line in ".{0,20}", past in prop::collection::vec(".{0,20}", 0..4)) {
            if let Some(done) = complete(&line, &past) {
                prop_assert!(done.line.len() >= line.len());
                let begins = done.line.to_ascii_lowercase().starts_with(&line.to_ascii_lowercase());
                prop_assert!(begins || line.contains(char::is_whitespace));
            }
        }
    }

    #[test]
    fn what_is_offered_is_not_refused() {
        for command in COMMANDS {
            assert_eq!(check(command), Ok(()), "{command}");
            assert!(!command.contains(','), "{command}: the page's separator");
        }
        assert!(BEFORE_A_MAP.iter().all(|name| COMMANDS.contains(name)));
        assert!(MAPS.iter().all(|map| change_map(map).is_ok()));
    }
}
