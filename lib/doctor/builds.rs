//! Checks the published builds: where the link to the current one leads, whether that is whole, and
//! what an interrupted copy left.

use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::Finding;
use super::finding::{Advice, quoted};
use crate::base::builds::{self, CURRENT, DIRECTORY};
use crate::base::clock;
use crate::base::config::{self, EnvFile};
use crate::base::users::STEAM;
use crate::process::game_files;

const CHECK: &str = "current build";

/// The build that servers take at their next start. None if none is published, or the link to it
/// leads nowhere, which is a finding.
pub(super) fn current(root: &Path) -> Option<u64> {
    builds::current(root).ok().flatten()
}

pub(super) fn check(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    match builds::current(root) {
        Ok(Some(build)) => findings.push(whole(root, build)),
        Ok(None) => findings.extend(unpublished(root)),
        Err(error) => findings.push(dangling(root, &error.to_string())),
    }
    findings.extend(leftovers(root));
    findings
}

fn whole(root: &Path, build: u64) -> Finding {
    let path = builds::path(root, build);
    match game_files::verify_finished(&path) {
        Ok(found) if found == build => {
            let about = builds::list(root).unwrap_or_default();
            let about = about.into_iter().find(|one| one.build == build);
            let since = about.and_then(|one| one.about).map_or_else(
                || "installed by an older version".to_owned(),
                |about| format!("published {}", clock::local(about.published_at)),
            );
            Finding::ok(
                CHECK,
                format!("build {build} in {}, {since}", path.display()),
            )
        }
        Ok(found) => incomplete(
            root,
            build,
            &format!("its manifest is that of build {found}"),
        ),
        Err(why) => incomplete(root, build, &why),
    }
}

fn incomplete(root: &Path, build: u64, why: &str) -> Finding {
    let found = format!("build {build} is not complete, and servers would start with it: {why}");
    Finding::fail(CHECK, found, another(root, Some(build)))
}

fn dangling(root: &Path, why: &str) -> Finding {
    Finding::fail(
        CHECK,
        format!("no server starts: {why}"),
        another(root, None),
    )
}

/// How to get a current build that is whole.
fn another(root: &Path, other_than: Option<u64>) -> Advice {
    let published = builds::list(root).unwrap_or_default();
    let is_good = |build: u64| {
        Some(build) != other_than
            && game_files::verify_finished(&builds::path(root, build)) == Ok(build)
    };
    if let Some(one) = published.iter().find(|one| is_good(one.build)) {
        let build = one.build;
        if other_than.is_none() {
            // No job runs while the link leads nowhere.
            let link = quoted(root.join(DIRECTORY).join(CURRENT));
            return Advice::root(format!("sudo -u {STEAM} ln -sfn {build} {link}"));
        }
        return Advice::run(format!(
            "left4me-job enqueue rollback --build {build} --follow"
        ));
    }
    if other_than.is_none() && game_files::verify(&root.join("installation")).is_ok() {
        let link = quoted(root.join(DIRECTORY).join(CURRENT));
        return Advice::root(format!("rm {link} && left4me-helper upgrade"));
    }
    if other_than.is_none() {
        // While the link leads nowhere, no job can set it.
        let link = quoted(root.join(DIRECTORY).join(CURRENT));
        return Advice::root(format!("rm {link}"))
            .and("then `left4me-job enqueue install --follow` downloads the game");
    }
    Advice::run("left4me-job enqueue update --validate --follow")
}

/// What is installed is no build yet.
fn unpublished(root: &Path) -> Option<Finding> {
    if is_in_place() || !builds::list(root).is_ok_and(|found| found.is_empty()) {
        return None;
    }
    let build = game_files::verify_finished(&root.join("installation")).ok()?;
    Some(Finding::warn(
        CHECK,
        format!(
            "build {build} in installation/ is not published: servers use the files \
             that an update changes"
        ),
        Advice::root("left4me-helper upgrade").and("which makes it the current build in place"),
    ))
}

/// Whether updates are made in place. A program reads the settings when it starts; this is for
/// anyone who runs the doctor.
fn is_in_place() -> bool {
    const NAME: &str = "LEFT4ME_BUILDS";
    let value = std::env::var(NAME).ok().or_else(|| {
        let text = std::fs::read_to_string(config::settings_file()).ok()?;
        let assigned = EnvFile::parse(&text).assignments;
        let mut values = assigned.into_iter().rev();
        values.find(|one| one.name == NAME).map(|one| one.value)
    });
    value.as_deref() == Some("in-place")
}

/// What an interrupted copy or removal left. While one is under way it is none of that.
fn leftovers(root: &Path) -> Option<Finding> {
    let directory = root.join(DIRECTORY);
    let opened = std::fs::File::open(&directory).ok()?;
    let _idle = Flock::lock(opened, FlockArg::LockSharedNonblock).ok()?;

    let entries = std::fs::read_dir(&directory).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names
        .filter(|name| name.starts_with(".new-") || name.starts_with(".old-"))
        .collect();
    names.sort();
    if names.is_empty() {
        return None;
    }
    Some(Finding::warn(
        "builds",
        format!(
            "{} in {} is left of an interrupted copy or removal; nothing uses it",
            names.join(", "),
            directory.display()
        ),
        "the next update removes it",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn game(directory: &Path, build: u64) {
        for name in ["bin", "left4dead2/bin", "steamapps"] {
            std::fs::create_dir_all(directory.join(name)).unwrap();
        }
        for name in ["srcds_linux", "bin/engine.so", "left4dead2/bin/server.so"] {
            std::fs::write(directory.join(name), "x").unwrap();
        }
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.join("srcds_linux"), mode).unwrap();
        let manifest = format!(
            r#""AppState" {{ "appid" "222860" "StateFlags" "4" "buildid" "{build}"
               "InstalledDepots" {{ "222861" {{ }} "222863" {{ }} }} }}"#
        );
        std::fs::write(game_files::manifest(directory), manifest).unwrap();
    }

    fn only(root: &Path) -> (Severity, String, String) {
        let found = check(root);
        assert_eq!(found.len(), 1, "{found:?}");
        let one = found[0].clone();
        let advice = one.command.or(one.advice).unwrap_or_default();
        (one.severity, one.found, advice)
    }

    #[test]
    fn the_current_build_has_to_be_whole_and_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("builds")).unwrap();
        assert_eq!(check(root), []);

        symlink("7", root.join("builds/current")).unwrap();
        let found = check(root).remove(0);
        let (command, advice) = (found.command.unwrap(), found.advice.unwrap());
        assert!(
            command.starts_with("rm ") && advice.contains("enqueue install"),
            "{advice}"
        );
        std::fs::remove_file(root.join("builds/current")).unwrap();

        game(&root.join("installation"), 6);
        let (severity, found, advice) = only(root);
        assert_eq!(severity, Severity::Warn);
        assert!(
            found.contains("not published") && advice.contains("upgrade"),
            "{found} {advice}"
        );

        symlink("7", root.join("builds/current")).unwrap();
        let (severity, found, advice) = only(root);
        assert_eq!(severity, Severity::Fail);
        assert!(
            found.contains("leads to 7") && advice.contains("rm "),
            "{found} {advice}"
        );
        game(&root.join("builds/6"), 6);
        let (_, _, advice) = only(root);
        assert!(advice.contains("ln -sfn 6 "), "{advice}");

        game(&root.join("builds/7"), 7);
        let (severity, found, _) = only(root);
        assert!(
            severity == Severity::Ok && found.starts_with("build 7 in "),
            "{found}"
        );

        game(&root.join("builds/6"), 6);
        std::fs::remove_file(root.join("builds/7/bin/engine.so")).unwrap();
        let (severity, found, advice) = only(root);
        assert_eq!(severity, Severity::Fail);
        assert!(
            found.contains("engine") && advice.contains("rollback --build 6"),
            "{advice}"
        );
    }

    #[test]
    fn leftovers_are_named_unless_something_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [".new-7", ".old-5", "6"] {
            std::fs::create_dir_all(root.join("builds").join(name)).unwrap();
        }
        let (severity, found, _) = only(root);
        assert!(
            severity == Severity::Warn && found.contains(".new-7, .old-5 in"),
            "{found}"
        );

        let opened = std::fs::File::open(root.join("builds")).unwrap();
        let _lock = Flock::lock(opened, FlockArg::LockExclusive).unwrap();
        assert_eq!(check(root), []);
    }
}
