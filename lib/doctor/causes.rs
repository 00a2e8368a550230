//! Finds out why a unit failed (its last lines in the journal) and which program holds a port.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::Finding;
use crate::base::output::printable;
use crate::domain::reason::{LONGEST, bare, is_one};
use crate::process::journalctl;

/// How many of a unit's last lines are read.
const LINES: &str = "40";

/// One entry of the journal.
#[derive(Deserialize)]
struct Entry {
    #[serde(default, rename = "MESSAGE")]
    message: serde_json::Value,
    #[serde(default, rename = "SYSLOG_IDENTIFIER")]
    from: String,
    /// The unit that PID 1 writes about, or the unit that the writing program is in.
    #[serde(default, rename = "UNIT")]
    about: String,
    #[serde(default, rename = "_SYSTEMD_UNIT")]
    within: String,
}

impl Entry {
    fn unit(&self) -> &str {
        if self.about.is_empty() {
            &self.within
        } else {
            &self.about
        }
    }
}

/// What systemd reports when the program could not: the program's sandbox may hide the journal from
/// it.
const STATUSES: [(&str, &str); 4] = [
    (
        "status=203/EXEC",
        "its program cannot be executed (203/EXEC): see the file's mode, and whether it is there",
    ),
    (
        "status=226/NAMESPACE",
        "its sandbox cannot be made (226/NAMESPACE): a path that the unit names is missing",
    ),
    ("status=217/USER", "its user is missing (217/USER)"),
    (
        "status=200/CHDIR",
        "its working directory cannot be entered (200/CHDIR)",
    ),
];

/// Adds the cause to each finding that names a unit. Users who may not read the journal get a hint
/// instead.
pub(super) fn explain(findings: &mut [Finding]) {
    for finding in findings {
        let Some(unit) = &finding.unit else { continue };
        let mut arguments = lines_of(unit);
        arguments.extend(
            [
                "--lines",
                LINES,
                "--output=json",
                "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,UNIT,_SYSTEMD_UNIT",
            ]
            .map(str::to_owned),
        );
        let cause = journalctl("left4me", arguments.iter().map(String::as_str)).ok();

        let cause = cause.as_deref().and_then(reason);

        let is_root = nix::unistd::geteuid().is_root();
        match cause {
            Some(cause) => {
                let holder = in_use(&cause)
                    .and_then(holder)
                    .map(|who| format!("; {who}"))
                    .unwrap_or_default();
                finding.found = format!("{}: {cause}{holder}", finding.found);
            }
            None if is_root => {}
            None => finding
                .found
                .push_str(" (the cause needs root: `sudo left4me doctor`)"),
        }
    }
}

/// What journalctl is asked for. `--unit` finds lines about a unit only if PID 1 wrote them. Those of
/// the child with which PID 1 opens a socket it finds only if journald could still read the child's
/// control group, and on a busy host the child is gone by then.
fn lines_of(unit: &str) -> Vec<String> {
    if unit.contains(['*', '?', '[']) {
        return vec!["--unit".to_owned(), unit.to_owned()];
    }

    vec![
        format!("_SYSTEMD_UNIT={unit}"),
        "+".to_owned(),
        format!("UNIT={unit}"),
        "_UID=0".to_owned(),
    ]
}

/// The last line of the journal that gives a reason. If several instances match, that of the last
/// instance.
fn reason(text: &str) -> Option<String> {
    let entries: Vec<Entry> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let unit = entries.last()?.unit();
    let lines = || {
        let of_it = entries.iter().filter(|entry| entry.unit() == unit);
        of_it.filter_map(|entry| Some((entry.from.as_str(), entry.message.as_str()?)))
    };

    // systemd opens an Internet socket in a child, whose line has the reason; its own says only that
    // the child could not.
    let is_of_child = |line: &str| line.contains("Failed to create listening socket (");
    let is_second_hand = |line: &str| line.contains("Failed to receive listening socket (");
    let mut told = lines()
        .filter(|(from, line)| (is_one(from, line) || is_of_child(line)) && !is_second_hand(line))
        .map(|(from, line)| bare(line, &[unit, from]));
    let by_status = |line: &str| {
        STATUSES
            .iter()
            .find(|(status, _)| line.contains(status))
            .map(|(_, words)| *words)
    };

    let last = told
        .next_back()
        .or_else(|| lines().filter_map(|(_, line)| by_status(line)).next_back())?;

    Some(
        printable(&last.chars().take(LONGEST).collect::<String>())
            .trim_end_matches('.')
            .to_owned(),
    )
}

/// The port in `Failed to create listening socket (127.0.0.1:8000): Address already in use`.
fn in_use(cause: &str) -> Option<u16> {
    let (before, _) = cause.split_once("): Address already in use")?;
    before.rsplit_once(':')?.1.parse().ok()
}

/// The program that listens on a port. Only root sees it.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|table| fs::read_to_string(table).unwrap_or_default());
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| listeners(table, port))
        .collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name
            .to_str()
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            continue;
        };

        // PID 1 holds the sockets of all units open.
        if pid != "1" && has_open(&process.path(), &sockets) {
            let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!(
                "port {port} is taken by process {pid} ({})",
                printable(program.trim_end())
            ));
        }
    }

    None
}

/// The sockets that listen on a port, by the names that /proc/PID/fd shows for them.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let hex = format!(":{port:04X}");
    let listens = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1)?.ends_with(&hex) && *words.get(3)? == "0A";
        is_it.then(|| words.get(9).map(|inode| format!("socket:[{inode}]")))?
    };
    table.lines().filter_map(listens).collect()
}

fn has_open(process: &Path, sockets: &[String]) -> bool {
    let open = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| {
            target
                .to_str()
                .is_some_and(|target| sockets.iter().any(|socket| socket == target))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(from: &str, unit: &str, message: &str) -> String {
        serde_json::json!({"SYSLOG_IDENTIFIER": from, "UNIT": unit, "MESSAGE": message}).to_string()
    }

    #[test]
    fn the_last_line_that_gives_a_reason_is_the_cause() {
        let unit = "left4me-web.service";
        let journal = [
            entry("left4me-web", unit, "left4me-web: old"),
            entry("left4me-web", unit, "left4me-web: LEFT4ME_X=y is refused."),
            entry(
                "systemd",
                unit,
                "left4me-web.service: Main process exited, code=exited, status=2/INVALIDARGUMENT",
            ),
            entry(
                "systemd",
                unit,
                "left4me-web.service: Failed with result 'exit-code'.",
            ),
        ]
        .join("\n");

        assert_eq!(reason(&journal).unwrap(), "LEFT4ME_X=y is refused");
        assert_eq!(reason(&entry("systemd", unit, "Stopped x.")), None);
        assert_eq!(reason("{\"MESSAGE\":[1,2]}\nnonsense"), None);
    }

    #[test]
    fn the_cause_is_that_of_the_last_instance_and_systemds_status_where_nothing_is_said() {
        let (former, last) = ("left4me-runner@1.service", "left4me-runner@2.service");
        let journal = [
            entry("left4me-runner", former, "request refused: not a request"),
            entry(
                "systemd",
                last,
                "left4me-runner@2.service: Main process exited, code=exited, status=203/EXEC",
            ),
            entry(
                "systemd",
                last,
                "left4me-runner@2.service: Failed with result 'exit-code'.",
            ),
        ];

        assert!(
            reason(&journal.join("\n"))
                .unwrap()
                .starts_with("its program cannot be executed")
        );

        assert_eq!(
            reason(&journal[0]).unwrap(),
            "request refused: not a request"
        );
    }

    #[test]
    fn the_child_that_opens_a_socket_has_the_reason() {
        let unit = "left4me-web.socket";
        let journal = [
            entry(
                "(sd-listen)",
                unit,
                "left4me-web.socket: Failed to create listening socket (127.0.0.1:8000): Address already in use",
            ),
            entry(
                "systemd",
                unit,
                "left4me-web.socket: Failed to receive listening socket (127.0.0.1:8000): Input/output error",
            ),
            entry("systemd", unit, "left4me-web.socket: Failed with result 'resources'."),
        ]
        .join("\n");
        let cause = reason(&journal).unwrap();
        assert!(
            cause.ends_with("(127.0.0.1:8000): Address already in use"),
            "{cause}"
        );
        assert_eq!(in_use(&cause), Some(8000));
    }

    #[test]
    fn a_port_in_use_is_read_from_what_systemd_says() {
        let said = "Failed to create listening socket ([::1]:8000): Address already in use";
        assert_eq!(in_use(said), Some(8000));
        assert_eq!(
            in_use("Failed to create listening socket ([::1]:8000): Address family not supported"),
            None
        );

        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr \
                     tm->when retrnsmt   uid  timeout inode\n   0: \
                     0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 \
                     00000000     0        0 4711 1 0\n   1: 0100007F:1F40 0100007F:9999 \
                     01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n";
        assert_eq!(listeners(table, 8000), ["socket:[4711]"]);
        assert_eq!(listeners(table, 8001), Vec::<String>::new());
    }
}
