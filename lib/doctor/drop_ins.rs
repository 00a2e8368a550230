//! Checks an admin's drop-ins of servers' units. These units have a root directory of their own, and
//! systemd takes paths of some settings as the host's unless they begin with a plus: there they have
//! no effect, and a wall that an admin meant to add is not there.

use std::path::Path;

use super::Finding;

/// Units whose drop-ins can contain settings.
pub(super) const WITH_SETTINGS: [&str; 15] = [
    "left4me-worker.service",
    "left4me-web.service",
    "left4me-poller.service",
    "left4me-console.service",
    "left4me-runner@.service",
    "left4me-publisher@.service",
    "left4me-helper@.service",
    "left4me-notify@.service",
    "left4me-alerts.service",
    "left4me-schedules.service",
    "left4me-schedule@.service",
    "left4me-update.service",
    "left4me-backup.service",
    "left4me-prune.service",
    "left4me-overlay@.service",
];

/// Settings whose paths need a plus (systemd.exec(5)).
const SETTINGS: [&str; 5] = [
    "InaccessiblePaths",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "NoExecPaths",
    "ExecPaths",
];

/// Where admins put drop-ins.
const PLACES: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];

/// The drop-ins of all servers and of single ones.
const PREFIX: &str = "left4me-server@";

pub(super) fn check() -> Vec<Finding> {
    PLACES
        .iter()
        .flat_map(|place| inside(Path::new(place)))
        .collect()
}

fn inside(place: &Path) -> Vec<Finding> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let is_ours = |name: &str| name.starts_with(PREFIX) && name.ends_with(".service.d");

    let mut findings = Vec::new();
    for directory in entries(place) {
        if !directory.file_name().to_str().is_some_and(is_ours) {
            continue;
        }
        for file in entries(&directory.path()) {
            let path = file.path();
            if path.extension().is_some_and(|end| end == "conf") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                findings.extend(without_effect(&text).map(|(setting, value)| {
                    let found = format!(
                        "{}: {setting}={value} has no effect: a server has a root directory of its own",
                        path.display()
                    );
                    let plus = match value.strip_prefix('-') {
                        Some(path) => format!("-+{path}"),
                        None => format!("+{value}"),
                    };
                    let advice = format!(
                        "write {setting}={plus} there, then run `sudo systemctl daemon-reload`; \
                         it applies at the server's next start"
                    );
                    Finding::warn("drop-ins of servers", found, advice)
                }));
            }
        }
    }

    findings
}

/// The paths without a plus, each with its setting.
fn without_effect(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let settings = lines
        .map(|(setting, paths)| (setting.trim(), paths))
        .filter(|(setting, _)| SETTINGS.contains(setting));

    settings.flat_map(|(setting, paths)| {
        let paths = paths.split_whitespace();
        let no_plus = paths.filter(|path| path.trim_start_matches('-').starts_with('/'));
        no_plus.map(move |path| (setting, path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_host_in_a_servers_drop_in_is_named() {
        let place = tempfile::tempdir().unwrap();
        let write = |directory: &str, file: &str, text: &str| {
            let directory = place.path().join(directory);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(file), text).unwrap();
        };

        write(
            "left4me-server@.service.d",
            "walls.conf",
            "[Service]\nMemoryMax=3G\n# ReadOnlyPaths=/no\nInaccessiblePaths=-/srv +/opt\nBindPaths=/a\n",
        );
        write(
            "left4me-server@7.service.d",
            "x.conf",
            "ReadWritePaths=/x\n",
        );
        write("left4me-server@7.service.d", "x.txt", "ReadWritePaths=/x\n");
        write("ssh.service.d", "x.conf", "ReadWritePaths=/x\n");

        let findings = inside(place.path());
        let texts: Vec<String> = findings
            .iter()
            .map(|finding| format!("{} {}", finding.found, finding.advice.as_deref().unwrap()))
            .collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        let has = |words: &str| texts.iter().any(|text| text.contains(words));
        assert!(has("InaccessiblePaths=-/srv has no effect") && has("InaccessiblePaths=-+/srv"));
        assert!(has("ReadWritePaths=+/x there"), "{texts:?}");
    }
}
