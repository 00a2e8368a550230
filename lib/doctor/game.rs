//! Checks what the game needs: steamcmd, 32-bit libraries, the installation and free disk space.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::files::io_finding;
use super::finding::{Advice, quoted};
use super::{Finding, builds, srcds_run};
use crate::base::untrusted_file;
use crate::base::users::STEAM;
use crate::domain::steam::{CLIENT, HOMES, LIBRARY, MANIFEST, MANIFEST_LIMIT, PROGRAMS, prove};
use crate::process::game_files;

/// Where Debian puts 32-bit libraries, with or without multiarch.
const LIBRARY_DIRS: [&str; 5] = [
    "/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu",
    "/lib32",
    "/usr/lib32",
    "/usr/lib",
];

/// The libraries that the 32-bit engine loads, and the Debian packages that have them.
const LIBRARIES: [(&str, &str); 4] = [
    ("ld-linux.so.2", "libc6:i386"),
    ("libstdc++.so.6", "lib32stdc++6"),
    ("libgcc_s.so.1", "lib32gcc-s1"),
    ("libz.so.1", "lib32z1"),
];

const APT: &str = "dpkg --add-architecture i386 && apt-get update && \
                   apt-get install libc6:i386 lib32gcc-s1 lib32stdc++6 lib32z1";

const INSTALL: &str = "left4me-job enqueue install --follow";

/// Free space in bytes. Below this limit nothing can be installed; below the next one space is
/// short.
const LITTLE: u64 = 1 << 30;
const TIGHT: u64 = 5 << 30;

pub(super) fn check(root: &Path, steamcmd: &Path) -> Vec<Finding> {
    let mut findings = vec![libraries()];
    findings.extend(data(root, steamcmd));
    findings
}

/// The checks of what is in the data directory, or beside it.
pub(super) fn data(root: &Path, steamcmd: &Path) -> Vec<Finding> {
    let mut findings = vec![executable(steamcmd), installation(root)];
    findings.extend(builds::check(root));
    findings.extend(srcds_run::check(root));
    findings.extend([client_library(root, steamcmd), room(root)]);
    findings
}

fn executable(steamcmd: &Path) -> Finding {
    let shown = steamcmd.display();
    let advice = "unpack Valve's steamcmd_linux.tar.gz there as user left4me-steam, \
                  or set LEFT4ME_STEAMCMD (/usr/games/steamcmd of Debian's package)";

    match steamcmd.metadata() {
        // Not access(2): in a sandbox nothing may be executed.
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => {
            Finding::ok("steamcmd", shown.to_string())
        }
        Ok(found) if found.is_file() => Finding::fail(
            "steamcmd",
            format!("{shown} cannot be executed"),
            Advice::root(format!("sudo -u {STEAM} chmod 0755 {}", quoted(steamcmd))),
        ),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            io_finding("steamcmd", steamcmd, &error)
        }
        _ => Finding::fail("steamcmd", format!("{shown} is missing"), advice),
    }
}

fn libraries() -> Finding {
    let there = |name: &str| {
        let loader = name.starts_with("ld-linux") && Path::new("/lib").join(name).exists();
        loader
            || LIBRARY_DIRS
                .iter()
                .take(4)
                .any(|dir| Path::new(dir).join(name).exists())
    };

    let missing: Vec<String> = LIBRARIES
        .iter()
        .filter(|(name, _)| !there(name))
        .map(|(name, package)| format!("{name} ({package})"))
        .collect();

    if missing.is_empty() {
        Finding::ok("32-bit libraries", "all there")
    } else {
        Finding::fail(
            "32-bit libraries",
            format!("missing: {}", missing.join(", ")),
            Advice::root(APT),
        )
    }
}

fn installation(root: &Path) -> Finding {
    let dir = root.join("installation");
    let (program, manifest) = (
        dir.join("srcds_linux"),
        dir.join(MANIFEST.iter().collect::<PathBuf>()),
    );

    let advice = Advice::run(INSTALL);
    // With a current build it is no server's layer.
    let current = builds::current(root);
    if let Some(build) = current.filter(|_| !game_files::is_begun(&dir)) {
        let found = format!("it is empty: the next update copies build {build} there first");
        return Finding::ok("installation", found);
    }
    if game_files::is_unfinished(&dir) {
        let found = format!(
            "{} holds Windows files of an update that was not finished",
            dir.display()
        );

        return match current {
            None => Finding::fail("installation", format!("{found}: no server starts"), advice),
            Some(build) => Finding::warn(
                "installation",
                format!("{found}; servers keep build {build}"),
                advice,
            ),
        };
    }

    // Not access(2): in a sandbox nothing may be executed.
    let mode = program
        .metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|found| found.permissions().mode());
    let missing = match mode {
        None => &program,
        Some(mode) if mode & 0o111 == 0 => {
            return Finding::fail(
                "installation",
                format!("{} cannot be executed", program.display()),
                advice,
            );
        }
        Some(_) => match whole(&dir) {
            Ok(build) => {
                return Finding::ok(
                    "installation",
                    format!("build {build} in {}", dir.display()),
                );
            }
            Err(None) => &manifest,
            Err(Some(why)) => {
                return Finding::warn(
                    "installation",
                    format!("{} is incomplete: {why}", dir.display()),
                    advice,
                );
            }
        },
    };

    Finding::warn(
        "installation",
        format!("{} is missing", missing.display()),
        advice,
    )
}

/// The build that is installed; none unless the installation is whole.
pub(super) fn build(root: &Path) -> Option<u64> {
    whole(&root.join("installation")).ok()
}

/// The build that is installed. The error has no text if there is no manifest.
fn whole(dir: &Path) -> Result<u64, Option<String>> {
    let [_, manifest] = MANIFEST;
    let bytes = untrusted_file::read(dir, &MANIFEST, MANIFEST_LIMIT.saturating_add(1));
    let bytes = bytes.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => None,
        _ => Some(format!("{manifest}: {error}")),
    })?;

    let build = prove(&String::from_utf8_lossy(&bytes))
        .map_err(|why| Some(format!("{manifest}: {why}")))?;

    for group in PROGRAMS {
        if !group.iter().any(|name| dir.join(name).is_file()) {
            return Err(Some(format!("{} is missing", group.join(" or "))));
        }
    }

    Ok(build)
}

/// Checks what each instance's `.steam/sdk32` leads to: the copy in steam/client, or steam/linux32,
/// from which that is renewed. The latter is a link if steamcmd keeps its files elsewhere.
fn client_library(root: &Path, steamcmd: &Path) -> Finding {
    let steam = root.join("steam");
    let copy = steam.join(CLIENT).join(LIBRARY);
    let own = steam.join(".steam/sdk32").join(LIBRARY);
    let library = steam.join("linux32").join(LIBRARY);
    // The link in steamcmd's own home comes with the first installation.
    let has_own = own.exists() || steam.join(".steam/sdk32").read_link().is_err();
    if library.exists() && has_own {
        let used = if copy.exists() { copy } else { library };
        return Finding::ok(LIBRARY, used.display().to_string());
    }

    let dangling = if library.exists() { own } else { library };
    let missing = match copy.exists() {
        true => format!(
            "{} is missing: servers keep the copy in {}, which becomes outdated",
            dangling.display(),
            steam.join(CLIENT).display()
        ),
        false => format!(
            "{} is missing: servers would be 'LAN only'",
            dangling.display()
        ),
    };

    let beside = steamcmd.parent().map(Path::to_owned);

    let mut paths = beside
        .into_iter()
        .chain(HOMES.map(|below| steam.join(below)));
    match paths.find(|place| place.join("linux32/steamclient.so").exists()) {
        Some(place) => Finding::warn(
            LIBRARY,
            format!("{missing}; it is in {}", place.join("linux32").display()),
            Advice::run(INSTALL).and("which links it"),
        ),
        None => Finding::warn(
            LIBRARY,
            format!(
                "{missing}; neither {} nor a home of steamcmd has it",
                steamcmd.display()
            ),
            Advice::run(INSTALL)
                .and("steamcmd brings it when it updates itself: see its first lines"),
        ),
    }
}

fn room(root: &Path) -> Finding {
    let free = match statvfs(root) {
        Ok(found) => found
            .blocks_available()
            .saturating_mul(found.fragment_size()),
        Err(errno) => {
            return Finding::fail(
                "disk",
                format!("{}: {}", root.display(), errno.desc()),
                "make the directory, or set LEFT4ME_ROOT",
            );
        }
    };

    let text = format!(
        "{}.{} GiB free in {}",
        free >> 30,
        ((free & (LITTLE - 1)) * 10) >> 30,
        root.display()
    );

    let advice =
        "make room: old backups, overlays that no blueprint uses, `left4me prune --older-than 7`";
    match free {
        ..LITTLE => Finding::fail("disk", text, advice),
        LITTLE..TIGHT => Finding::warn("disk", text, advice),
        _ => Finding::ok("disk", text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_a_finding_whatever_servers_have() {
        let root = tempfile::tempdir().unwrap();
        let (root, steamcmd) = (root.path(), root.path().join("games/steamcmd"));
        let at = |path: &str| root.join("steam").join(path);
        let place = |path: &str| {
            fs_err::create_dir_all(at(path)).unwrap();
            fs_err::write(at(path).join(LIBRARY), "x").unwrap();
        };
        let found = || {
            let found = client_library(root, &steamcmd);
            (found.severity, found.found)
        };

        let (severity, text) = found();
        assert_eq!(severity, Severity::Warn);
        assert!(text.contains("linux32/steamclient.so is missing: servers would be 'LAN only'"));

        place(".local/share/Steam/steamcmd/linux32");
        let (_, text) = found();
        assert!(text.contains("it is in"), "{text}");
        fs_err::os::unix::fs::symlink(at(".local/share/Steam/steamcmd/linux32"), at("linux32"))
            .unwrap();
        assert_eq!(found().0, Severity::Ok);

        place("client");
        fs_err::create_dir_all(at(".steam")).unwrap();
        fs_err::os::unix::fs::symlink("/nonexistent", at(".steam/sdk32")).unwrap();
        let (severity, text) = found();
        assert_eq!(severity, Severity::Warn);
        assert!(
            text.contains(".steam/sdk32/steamclient.so is missing: servers keep the copy in"),
            "{text}"
        );
    }
}
