//! Checks overlays as the game sees them: files that a server's user cannot read, places where the
//! game does not scan, and links that lead nowhere in the merged tree. The game reports none of
//! these: a map is missing, or a plugin does not load.
//!
//! A relative link that leaves its overlay is one of the traps. The game follows it from
//! runtime/ID/merged, where it leads to another place than from overlays/NAME.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

use crate::base::builds::GameFiles;
use crate::base::names::OverlayRef;
use crate::base::visible::visible;
use crate::base::{Result, users};
use crate::host::overlay;

/// The most findings that are reported.
const MAX_FINDINGS: usize = 20;

/// The most entries of an overlay that are checked.
const ENTRIES: usize = 200_000;

/// The limit for the depth of directories, and for the number of links in a chain.
const DEPTH: usize = 64;

/// Directories that belong below left4dead2/ and are put beside it by mistake.
const BELOW_THE_GAME: [&str; 12] = [
    "addons",
    "cfg",
    "ems",
    "maps",
    "materials",
    "missions",
    "models",
    "particles",
    "resource",
    "scripts",
    "sound",
    "motd.txt",
];

/// The host's directories that a server's sandbox hides, in addition to left4me's own.
const HIDDEN: [&str; 6] = [
    "/home",
    "/root",
    "/run/user",
    "/tmp",
    "/var/tmp",
    "/dev/shm",
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentReport {
    /// One line each, beginning with the path.
    pub lines: Vec<String>,
    /// How many more findings there are.
    pub more: usize,
}

impl ContentReport {
    pub fn is_clean(&self) -> bool {
        self.lines.is_empty()
    }

    /// All lines, and a last one with the number of omitted findings.
    pub fn messages(&self) -> impl Iterator<Item = String> {
        let more = (self.more > 0).then(|| format!("and {} more of that kind", self.more));
        self.lines.iter().cloned().chain(more)
    }
}

/// Checks `overlays`. Their links may lead into each other, into `others` and into the game files.
///
/// Fails with 1 when `root` cannot be used. A missing overlay is not reported here.
pub fn inspect(
    root: &Path,
    overlays: &[OverlayRef],
    others: &[OverlayRef],
) -> Result<ContentReport> {
    let root = fs_err::canonicalize(root)?;
    let located = |list: &[OverlayRef]| -> Vec<PathBuf> {
        list.iter()
            .filter_map(|reference| overlay::locate(&root, reference).ok())
            .collect()
    };

    let subjects = located(overlays);
    let mut layers = subjects.clone();

    layers.extend(located(others));
    layers.push(GameFiles::current(&root)?.directory(&root));

    let shared = users::ids(users::GAME).ok().map(|ids| ids.1);
    let mut scan = Scan {
        merged: root.join("runtime/ID/merged"),
        root,
        layers,
        shared,
        found: ContentReport::default(),
        left: 0,
    };

    for subject in subjects {
        scan.left = ENTRIES;
        scan.top(&subject);
        scan.below(&subject, Path::new(""), DEPTH);
    }

    Ok(scan.found)
}

struct Scan {
    root: PathBuf,
    /// The path of a server's merged tree; ID stands for any server's.
    merged: PathBuf,
    /// Where links may lead, topmost first; the game files are the last.
    layers: Vec<PathBuf>,
    /// The group of all servers.
    shared: Option<Gid>,
    found: ContentReport,
    /// How many more entries are checked.
    left: usize,
}

impl Scan {
    fn add(&mut self, path: &Path, why: &str) {
        if self.found.lines.len() == MAX_FINDINGS {
            self.found.more += 1;
            return;
        }

        // Names in an overlay are untrusted text.
        let line = format!("{}: {why}", path.display());
        self.found.lines.push(
            visible(&line)
                .chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .collect(),
        );
    }

    /// Checks for names at the top of an overlay where the game does not look for its content.
    fn top(&mut self, overlay: &Path) {
        let Ok(entries) = std::fs::read_dir(overlay) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let lower = name.to_lowercase();

            let path = entry.path();
            if lower == "left4dead2" && name != lower {
                self.add(&path, "the game reads left4dead2, in lower case: rename it");
            } else if BELOW_THE_GAME.contains(&lower.as_str()) {
                self.add(
                    &path,
                    &format!("the game reads left4dead2/{lower}: move it to left4dead2/{lower}"),
                );
            } else if lower.ends_with(".vpk") {
                self.add(
                    &path,
                    "the game reads add-ons from left4dead2/addons: move it there",
                );
            } else if path.join("left4dead2").is_dir() {
                self.add(
                    &path.join("left4dead2"),
                    "it is one folder too deep: the overlay should begin with left4dead2/",
                );
            }
        }
    }

    fn below(&mut self, layer: &Path, inner: &Path, depth: usize) {
        let here = layer.join(inner);
        let entries = match std::fs::read_dir(&here) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return self.add(
                    &here,
                    "left4me cannot read it, so it cannot check what the game sees",
                );
            }
            Err(_) => return,
        };

        for entry in entries.flatten() {
            if self.left == 0 {
                return;
            }
            self.left -= 1;

            let (path, inner) = (entry.path(), inner.join(entry.file_name()));
            let Ok(found) = path.symlink_metadata() else {
                continue;
            };
            if found.is_symlink() {
                if let Err(why) = self.follow(&inner) {
                    self.add(&path, &why);
                }
            } else if found.is_dir() {
                // A directory that the game itself has stays accessible.
                let is_open = self.may(&found, 0o5) || self.is_the_games(&inner);
                if !is_open {
                    self.add(
                        &path,
                        &format!("it is closed to the game{}", owner_and_mode(&found, "rx")),
                    );
                } else if depth > 0 {
                    self.below(layer, &inner, depth - 1);
                }
            } else {
                self.file(&path, &inner, &found);
            }
        }
    }

    fn file(&mut self, path: &Path, inner: &Path, found: &Metadata) {
        let kind = found.file_type();
        if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
            return self.add(path, "it is no regular file, and the game cannot use it");
        }

        if !self.may(found, 0o4) {
            return self.add(
                path,
                &format!("the game cannot read it{}", owner_and_mode(found, "r")),
            );
        }

        if inner.parent() == Some(Path::new("left4dead2/cfg"))
            && inner.extension().is_some_and(|end| end == "cfg")
        {
            let mut head = [0_u8; 3];
            let read = crate::base::files::open_to_read(path)
                .and_then(|mut file| std::io::Read::read(&mut file, &mut head));

            let why = match (read, head) {
                (Ok(3), [0xef, 0xbb, 0xbf]) => {
                    "it begins with a byte order mark, which hides its first line from the game: \
                                                save it as UTF-8 without one"
                }
                (Ok(2..), [0xff, 0xfe, _] | [0xfe, 0xff, _]) => {
                    "it is UTF-16, which the game cannot read: save it as UTF-8"
                }
                _ => return,
            };

            self.add(path, why);
        }
    }

    fn is_the_games(&self, inner: &Path) -> bool {
        self.layers
            .last()
            .unwrap_or(&self.root)
            .join(inner)
            .metadata()
            .is_ok_and(|found| found.is_dir() && self.may(&found, 0o5))
    }

    /// Whether a server's user has these rights. It owns nothing here, and is in one group.
    fn may(&self, found: &Metadata, rights: u32) -> bool {
        let shift = if self.shared == Some(Gid::from_raw(found.gid())) {
            3
        } else {
            0
        };
        found.mode() >> shift & rights == rights
    }

    /// Follows the link at `inner` as the game does, in the merged tree.
    fn follow(&self, inner: &Path) -> Result<(), String> {
        let (mut here, mut links) = (PathBuf::new(), 0);
        let mut rest: VecDeque<OsString> = inner
            .components()
            .map(|part| part.as_os_str().to_owned())
            .collect();
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                if here.pop() {
                    continue;
                }
                let outside = self.merged.parent().unwrap_or(&self.merged);
                return self.outside(
                    &rest
                        .iter()
                        .fold(outside.to_owned(), |path, part| path.join(part)),
                );
            }

            let next = here.join(&name);
            let Some((path, found)) = self.layers.iter().find_map(|layer| {
                let path = layer.join(&next);
                path.symlink_metadata().ok().map(|found| (path, found))
            }) else {
                return Err(format!(
                    "the link is dead: {} is in no layer",
                    self.merged.join(&next).display()
                ));
            };

            if !found.is_symlink() {
                here = next;
                continue;
            }

            links += 1;
            let target = std::fs::read_link(&path)
                .map_err(|error| format!("the link cannot be read: {error}"))?;
            if links > DEPTH {
                return Err("the link leads to itself".to_owned());
            }

            if target.is_absolute() {
                return self.outside(&rest.iter().fold(target, |path, part| path.join(part)));
            }

            let parts = target
                .components()
                .filter(|part| *part != Component::CurDir);
            let parts: Vec<OsString> = parts.map(|part| part.as_os_str().to_owned()).collect();
            parts
                .into_iter()
                .rev()
                .for_each(|part| rest.push_front(part));
        }

        Ok(())
    }

    /// Checks a path of this host as a server's sandbox shows it.
    fn outside(&self, path: &Path) -> Result<(), String> {
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir => drop(plain.pop()),
                other => plain.push(other),
            }
        }

        let shown = plain.display();
        let is_below = |top: &str| plain.starts_with(self.root.join(top));
        let is_shown = if plain.starts_with(&self.root) {
            ["overlays", "workshop_cache", "steam"]
                .into_iter()
                .any(is_below)
        } else {
            !HIDDEN.iter().any(|hidden| plain.starts_with(hidden))
        };

        if !is_shown {
            return Err(format!(
                "in a server's tree the link leads to {shown}, \
                 which the game does not see: link to {} by its whole path",
                self.root.join("workshop_cache/…").display()
            ));
        }

        match plain.metadata() {
            Ok(found) if self.may(&found, if found.is_dir() { 0o5 } else { 0o4 }) => Ok(()),
            Ok(found) => Err(format!(
                "it leads to {shown}, which the game cannot read{}",
                owner_and_mode(&found, "r")
            )),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
            Err(_) => Err(format!(
                "the link is dead: in a server's tree it leads to {shown}, which does not exist"
            )),
        }
    }
}

/// `: mode 0600, owner anna; chmod o+r opens it`.
fn owner_and_mode(found: &Metadata, rights: &str) -> String {
    let uid = found.uid();
    let owner = User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name);
    format!(
        " (mode {:04o}, owner {owner}): `chmod o+{rights}` opens it, unless it should stay private",
        found.mode() & 0o7777
    )
}

#[cfg(test)]
mod tests;
