//! The server.cfg files that a server's overlays contain. The game runs only the topmost file of
//! that name, which is left4me's own. So each of the others gets a second name beside it, and
//! left4me's file runs them first: the lowest overlay's, then those above it, and last the
//! blueprint's lines. Where two set the same variable, the later one wins.

use std::collections::{BTreeMap, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::base::encoding::BOM;
use crate::base::files;
use crate::base::names::OverlayRef;
use crate::domain::blueprint::ConfigLine;
use crate::domain::console;

/// The game's configuration directory, relative to a layer's top.
const CFG: &str = "left4dead2/cfg";

/// The longest part of a file's name that comes from the overlay's path, in bytes.
const LONGEST: usize = 60;

/// How many bytes of a file are compared with the others.
const COMPARED: u64 = 256 * 1024;

/// The most settings that are reported with their winner.
const MAX_SETTINGS: usize = 100;

/// Commands that set nothing, so two of them are no conflict.
const NO_SETTINGS: [&str; 16] = [
    "exec",
    "execifexists",
    "echo",
    "say",
    "alias",
    "wait",
    "log",
    "logaddress_add",
    "writeid",
    "writeip",
    "banid",
    "addip",
    "removeid",
    "removeip",
    "sm",
    "meta",
];

/// One overlay's own server.cfg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    pub overlay: OverlayRef,
    pub path: PathBuf,
    /// Its second name in left4dead2/cfg, such as `server_maps.cfg`.
    pub name: String,
}

/// A setting that more than one of the files sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingConflict {
    pub setting: String,
    /// The overlay whose line wins; none for the blueprint.
    pub winner: Option<OverlayRef>,
    /// The overlays whose lines have no effect, in the order in which they run.
    pub losers: Vec<OverlayRef>,
}

/// The server.cfg files of the overlays, lowest first. `overlays` is topmost first, each with its
/// directory. `layers` are all lower layers: a second name must not hide a file of any of them.
pub(super) fn find<'o>(
    overlays: impl DoubleEndedIterator<Item = (&'o OverlayRef, &'o Path)>,
    layers: &[String],
) -> Vec<ConfigFile> {
    let mut found: Vec<ConfigFile> = Vec::new();
    for (overlay, directory) in overlays.rev() {
        let path = directory.join(CFG).join("server.cfg");
        if !path.metadata().is_ok_and(|found| found.is_file()) {
            continue;
        }

        let is_taken = |name: &str| {
            let is_in = |layer: &String| {
                Path::new(layer)
                    .join(CFG)
                    .join(name)
                    .symlink_metadata()
                    .is_ok()
            };

            found.iter().any(|other| other.name == name) || layers.iter().skip(1).any(is_in)
        };

        let plain = plain(overlay.as_str());
        let mut name = format!("server_{plain}.cfg");

        let mut count = 2;
        while is_taken(&name) {
            name = format!("server_{plain}_{count}.cfg");
            count += 1;
        }

        found.push(ConfigFile {
            overlay: overlay.clone(),
            path,
            name,
        });
    }

    found
}

/// A part of a file's name that the console reads as one word and every file system takes: lower
/// case, ASCII.
fn plain(overlay: &str) -> String {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let plain: String = overlay
        .chars()
        .map(|c| {
            if is_kept(c) {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect();
    plain.chars().take(LONGEST).collect()
}

/// The settings that several of `brought` and `lines` set, ordered by name.
pub(super) fn conflicts(brought: &[ConfigFile], lines: &[ConfigLine]) -> Vec<SettingConflict> {
    let mut setters: BTreeMap<String, Vec<Option<OverlayRef>>> = BTreeMap::new();
    let mut add = |whose: Option<&OverlayRef>, settings: HashSet<String>| {
        for setting in settings {
            setters.entry(setting).or_default().push(whose.cloned());
        }
    };

    for file in brought {
        add(Some(&file.overlay), settings(&head(&file.path)));
    }

    let own: Vec<&str> = lines.iter().map(ConfigLine::as_str).collect();
    add(None, settings(&own.join("\n")));

    let contested = setters.into_iter().filter_map(|(setting, mut whose)| {
        let winner = whose.pop()?;
        let losers: Vec<OverlayRef> = whose.into_iter().flatten().collect();
        (!losers.is_empty()).then_some(SettingConflict {
            setting,
            winner,
            losers,
        })
    });

    contested.take(MAX_SETTINGS).collect()
}

fn head(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read =
        files::open_to_read(path).and_then(|file| file.take(COMPARED).read_to_end(&mut bytes));
    if read.is_ok() {
        String::from_utf8_lossy(&bytes).into_owned()
    } else {
        String::new()
    }
}

/// The console variables that a text sets, in lower case.
fn settings(text: &str) -> HashSet<String> {
    let commands = text
        .trim_start_matches(BOM)
        .lines()
        .flat_map(console::commands);
    let names = commands.map(|command| command.name.to_ascii_lowercase());
    names
        .filter(|name| !name.is_empty() && !NO_SETTINGS.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(root: &Path, name: &str, files: &[(&str, &str)]) -> (OverlayRef, PathBuf) {
        let path = root.join(name);
        std::fs::create_dir_all(path.join(CFG)).unwrap();
        for (file, text) in files {
            std::fs::write(path.join(CFG).join(file), text).unwrap();
        }
        (name.parse().unwrap(), path)
    }

    fn names(overlays: &[(OverlayRef, PathBuf)]) -> Vec<String> {
        let mut layers = vec!["/own".to_owned()];
        layers.extend(
            overlays
                .iter()
                .map(|(_, path)| path.to_string_lossy().into_owned()),
        );

        let found = find(
            overlays.iter().map(|(name, path)| (name, path.as_path())),
            &layers,
        );

        found.into_iter().map(|brought| brought.name).collect()
    }

    #[test]
    fn two_overlays_never_share_a_name_and_no_file_of_theirs_is_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let config = [("server.cfg", "hostname x")];
        let all = [
            overlay(dir.path(), "Maps/one", &config),
            overlay(dir.path(), "maps_one", &config),
            overlay(dir.path(), "empty", &[]),
            overlay(dir.path(), "B.c-d", &config),
            overlay(
                dir.path(),
                "mine",
                &[
                    ("server.cfg", "exec server_mine.cfg"),
                    ("server_mine.cfg", "x 1"),
                ],
            ),
        ];

        let long = format!("{}/{}", "a".repeat(100), "b".repeat(100));
        assert_eq!(
            names(&all),
            [
                "server_mine_2.cfg",
                "server_b.c-d.cfg",
                "server_maps_one.cfg",
                "server_maps_one_2.cfg"
            ]
        );

        assert!(names(&[overlay(dir.path(), &long, &config)])[0].len() < 80);
    }

    #[test]
    fn the_last_setter_wins_and_what_sets_nothing_is_no_contest() {
        let dir = tempfile::tempdir().unwrap();
        let low = "\u{feff}hostname \"low\"\r\nsv_region 3; \
                   exec a.cfg\nsm_cvar z_difficulty Hard // x\necho hi\nlog on";
        let all = [
            overlay(
                dir.path(),
                "top",
                &[(
                    "server.cfg",
                    "HOSTNAME \"top\"\necho hi\nexec a.cfg\nz_difficulty Easy\n",
                )],
            ),
            overlay(dir.path(), "low", &[("server.cfg", low)]),
        ];

        let found = find(all.iter().map(|(name, path)| (name, path.as_path())), &[]);
        let lines: Vec<ConfigLine> = vec![
            "hostname \"mine\"".parse().unwrap(),
            "log on".parse().unwrap(),
        ];

        let told: Vec<(String, Option<String>, usize)> = conflicts(&found, &lines)
            .into_iter()
            .map(|one| {
                (
                    one.setting,
                    one.winner.map(|winner| winner.to_string()),
                    one.losers.len(),
                )
            })
            .collect();

        let top = Some("top".to_owned());
        assert_eq!(
            told,
            [
                ("hostname".to_owned(), None, 2),
                ("z_difficulty".to_owned(), top, 1)
            ]
        );
    }
}
