//! Checks the start script that comes with the game. left4me does not run it; the unit sets what
//! public copies of it set. This check reports anything else that the installed script sets.

use std::io::{self, Read as _};
use std::path::Path;

use super::Finding;
use super::finding::{Advice, quoted};
use crate::base::builds::GameFiles;
use crate::base::files;
use crate::base::names::shown;

/// The largest script that is read, in bytes. Valve ships none that is larger.
const LIMIT: u64 = 256 * 1024;

/// What the unit or the launch arguments set in the same way, and core dumps for gdb, which only
/// the script's -debug turns on.
const KNOWN: [&str; 6] = [
    "export LD_LIBRARY_PATH=.:bin:$LD_LIBRARY_PATH",
    "HL=./srcds_linux",
    "DEFAULT_GAME=left4dead2",
    "DEFAULT_MAP=c1m1_hotel",
    "ulimit -c 2000",
    "ulimit -c unlimited",
];

/// Where an admin adds settings to the unit of a server.
const DROP_INS: &str = "/etc/systemd/system/left4me-server@.service.d";

/// None if there is no script.
pub(super) fn check(root: &Path) -> Option<Finding> {
    let game = GameFiles::current(root).unwrap_or(GameFiles::Installation);
    let path = game.directory(root).join("srcds_run");
    let advice = "if the game needs it, add it with `systemctl edit left4me-server@.service` \
                 (Environment=, LimitNOFILE=, \
                  LimitCORE=), and report it to left4me";

    let found = match read(&path) {
        Ok(script) => {
            let added = drop_ins(Path::new(DROP_INS));
            let unknown = unknown(&script).into_iter();
            unknown
                .filter(|command| !is_added(command, &added))
                .collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let found = format!("{} cannot be read: {error}", path.display());
            let advice = Advice::root(format!(
                "rm -d {} && left4me-job enqueue update --validate --follow",
                quoted(&path)
            ));

            return Some(Finding::warn("srcds_run", found, advice));
        }
    };

    let found: Vec<String> = found;
    if found.is_empty() {
        return Some(Finding::ok(
            "srcds_run",
            "it sets what the unit of a server sets; left4me does not run it",
        ));
    }

    let shown = found
        .iter()
        .map(|line| format!("'{}'", shown(line)))
        .collect::<Vec<_>>()
        .join(", ");
    Some(Finding::warn(
        "srcds_run",
        format!("it sets what the unit of a server does not: {shown}"),
        advice,
    ))
}

fn drop_ins(directory: &Path) -> String {
    let files = directory.read_dir().into_iter().flatten().flatten();
    files
        .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Whether a drop-in already sets what a command of the script sets.
fn is_added(command: &str, drop_ins: &str) -> bool {
    let has = |begin: &str, name: &str| {
        drop_ins
            .lines()
            .any(|line| line.starts_with(begin) && line.contains(name))
    };

    match command.split_once(' ') {
        Some(("export", set)) => has(
            "Environment=",
            set.split_inclusive('=').next().unwrap_or(set),
        ),
        Some(("ulimit", set)) if set.starts_with("-n") => has("LimitNOFILE=", ""),
        Some(("ulimit", set)) if set.starts_with("-c") => has("LimitCORE=", ""),
        _ => false,
    }
}

/// Reads the script. steamcmd owns the file, so it may be a link to another user's file, or a pipe
/// without a writer.
fn read(path: &Path) -> io::Result<String> {
    let mut script = String::new();
    files::open_to_read(path)?
        .take(LIMIT + 1)
        .read_to_string(&mut script)?;
    if script.len() as u64 > LIMIT {
        return Err(io::Error::other("it is too large for a script"));
    }
    Ok(script)
}

/// The lines that set something for the game and are not in [`KNOWN`], each once.
fn unknown(script: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in script.lines() {
        let line = line.split(" #").next().unwrap_or_default();
        let commands = line.split(';').flat_map(|part| part.split("&&"));
        for command in commands.map(|command| command.trim().replace(['"', '\''], "")) {
            if sets_something(&command)
                && !KNOWN.contains(&command.as_str())
                && !found.contains(&command)
            {
                found.push(command);
            }
        }
    }

    found
}

/// Whether a line exports a variable, sets a limit, or sets one of the three variables of the
/// script that select what it starts.
fn sets_something(command: &str) -> bool {
    let begins = [
        "export ",
        "declare -x ",
        "typeset -x ",
        "ulimit ",
        "HL=./",
        "DEFAULT_GAME=",
        "DEFAULT_MAP=",
    ];

    // `ulimit -c` without a value only reads the limit, in a test.
    begins.iter().any(|begin| command.starts_with(begin)) && command != "ulimit -c"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    const SCRIPT: &str = "#!/bin/sh\n# export NOT=this\nexport \
                         LD_LIBRARY_PATH=\".:bin:$LD_LIBRARY_PATH\"\n\
        init() {\n\tHL=./srcds_linux\n\tDEFAULT_MAP=\"c1m1_hotel\"\n\tif test x; then\n\t\tulimit \
        -c 2000\n\tfi\n}\n";

    fn checked(script: &str) -> Option<Finding> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("installation")).unwrap();
        std::fs::write(root.path().join("installation/srcds_run"), script).unwrap();
        check(root.path())
    }

    #[test]
    fn the_script_as_it_is_known_is_good_and_a_missing_one_is_not_needed() {
        assert_eq!(checked(SCRIPT).unwrap().severity, Severity::Ok);
        assert_eq!(check(tempfile::tempdir().unwrap().path()), None);
    }

    #[test]
    fn what_the_unit_does_not_set_is_named() {
        for (line, named) in [
            ("export MALLOC_ARENA_MAX=1\n", "MALLOC_ARENA_MAX=1"),
            ("\tulimit -n 2048 && true\n", "ulimit -n 2048"),
            (
                "export LD_LIBRARY_PATH=\".:bin:lib32:$LD_LIBRARY_PATH\"\n",
                "lib32",
            ),
            ("test x && export A=b\n", "export A=b"),
            ("\tHL=./srcds_linux64\n", "srcds_linux64"),
            ("\tDEFAULT_MAP=\"c2m1_highway\"\n", "c2m1_highway"),
        ] {
            let finding = checked(&format!("{SCRIPT}{line}")).unwrap();
            assert_eq!(finding.severity, Severity::Warn, "{line}");
            assert!(
                finding.found.contains(named) && !finding.found.contains("NOT"),
                "{}",
                finding.found
            );
        }
    }

    #[test]
    fn what_an_admin_has_added_to_the_unit_is_not_told_again() {
        let drop_ins = "[Service]\nEnvironment=A=b MALLOC_ARENA_MAX=2\nLimitNOFILE=4096\n";
        assert!(
            is_added("export MALLOC_ARENA_MAX=1", drop_ins) && is_added("ulimit -n 2048", drop_ins)
        );
        for other in ["export MALLOC=1", "ulimit -c 5", "HL=./srcds_linux64"] {
            assert!(!is_added(other, drop_ins), "{other}");
        }
    }

    #[test]
    fn what_is_no_script_is_told_and_a_link_is_not_followed() {
        assert!(
            checked(&"x".repeat(300_000))
                .unwrap()
                .found
                .contains("too large")
        );

        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("installation")).unwrap();

        let path = root.path().join("installation/srcds_run");
        std::fs::write(root.path().join("secret"), "export PASSWORD=hunter2").unwrap();
        std::os::unix::fs::symlink("../secret", &path).unwrap();

        let finding = check(root.path()).unwrap();
        assert!(
            finding.severity == Severity::Warn && !finding.found.contains("hunter2"),
            "{}",
            finding.found
        );

        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(check(root.path()).unwrap().found.contains("regular file"));
    }
}
