//! Checks settings, in the file and in drop-ins: the parser of the program that reads one judges it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::drop_ins::WITH_SETTINGS;
use super::files::io_finding;
use super::finding::{Advice, quoted};
use super::{Finding, proxy};
use crate::base::config::{self, EnvFile, Fault, PollSeconds};
use crate::base::names::shown;
use crate::domain::{env_file, steam};

/// Where admins put drop-ins of units.
const DROP_INS: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];

/// Names that no program's parser knows but that have a meaning.
const OTHERS: [&str; 1] = ["LEFT4ME_ENV_FILE"];

/// Applies a new poll interval: a timer cannot read settings itself.
const RETIME: &str = "systemctl daemon-reload && systemctl restart left4me-poller.timer";

/// Checks the settings in the file and in drop-ins of the units.
pub(super) fn check() -> Vec<Finding> {
    let path = config::settings_file();
    let read = std::fs::read(&path);
    let in_file = read
        .as_ref()
        .ok()
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    let in_file = EnvFile::parse(in_file.unwrap_or_default());

    let mut findings = match read {
        Ok(bytes) => file(&path, &bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => vec![Finding::warn(
            "settings",
            format!(
                "{} is missing: all settings have their defaults",
                path.display()
            ),
            Advice::root(format!("touch {}", quoted(&path)))
                .after("leave it so, or write settings into a new file"),
        )],
        Err(error) => vec![io_finding("settings", &path, &error)],
    };

    for directory in DROP_INS {
        findings.extend(WITH_SETTINGS.iter().flat_map(|unit| {
            drop_ins(
                &Path::new(directory).join(format!("{unit}.d")),
                unit,
                &in_file,
            )
        }));
    }

    findings
}

/// One finding for each problem of a settings file, or one that says that it is fine.
fn file(path: &Path, bytes: &[u8]) -> Vec<Finding> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        let line = bytes
            .split(|&byte| byte == b'\n')
            .position(|line| std::str::from_utf8(line).is_err());
        let line = line.map_or(1, |line| line + 1);
        let found = format!(
            "{} line {line} is no UTF-8 text: systemd reads none of the file",
            path.display()
        );

        let command = format!(
            "LC_ALL=C sed -i '{line}s/[\\x80-\\xff]//g; {line}s/^/#/' {}",
            quoted(path)
        );

        let advice =
            Advice::root(command).after(format!("write line {line} as UTF-8, or take it out"));
        return vec![Finding::fail("settings", found, advice)];
    };

    let read = EnvFile::parse(text);
    let mut findings = Vec::new();
    if read.has_mark {
        let found = format!(
            "{} begins with a byte order mark: systemd skips its first line",
            path.display()
        );

        let command = format!("sed -i '1s/^\\xef\\xbb\\xbf//' {}", quoted(path));
        findings.push(Finding::warn("settings", found, Advice::root(command)));
    }

    findings.extend(read.faults.iter().map(|fault| faulty(path, *fault)));
    findings.extend(values(path, &read));
    findings.extend(unknown(path, &read));

    if findings.is_empty() {
        let set = read
            .assignments
            .iter()
            .filter(|one| one.name.starts_with("LEFT4ME_"))
            .count();
        findings.push(Finding::ok(
            "settings",
            format!("{set} set, all others as by default"),
        ));
    }

    findings.extend(proxy::check(&read));
    findings
}

fn faulty(path: &Path, (fault, first, last): (Fault, usize, usize)) -> Finding {
    let place = format!("{} line {first}", path.display());
    match fault {
        Fault::NoAssignment => {
            let found = format!("{place} is no NAME=value: no program of left4me starts");
            Finding::fail("settings", found, comment(path, first, last))
        }
        Fault::NoName => {
            let found = format!(
                "{place} sets no variable, and no program reads it: NAME=value, without 'export'"
            );
            Finding::warn("settings", found, comment(path, first, last))
        }
        Fault::OpenQuote => {
            let found = format!(
                "{place} opens a quote that its line does not close: lines to {last} are one value"
            );
            Finding::fail("settings", found, comment(path, first, last))
        }
        Fault::CommentContinues => {
            let found = format!(
                "{place} is a comment that ends in a backslash: \
                 systemd 252 takes the next line for it"
            );

            let command = format!("sed -i '{first}s/\\\\*[[:space:]]*$//' {}", quoted(path));
            Finding::warn("settings", found, Advice::root(command))
        }
    }
}

/// The command that comments lines out. It keeps the numbers of all other lines.
fn comment(path: &Path, first: usize, last: usize) -> Advice {
    let (lines, name) = if first == last {
        (first.to_string(), format!("line {first}"))
    } else {
        (
            format!("{first},{last}"),
            format!("lines {first} to {last}"),
        )
    };

    Advice::root(format!("sed -i '{lines}s/^/#/' {}", quoted(path))).after(format!(
        "correct {name} of {}, or take it out",
        path.display()
    ))
}

/// Checks for values that a program refuses. The advice restarts nothing: each program reads its
/// settings when it starts.
fn values(path: &Path, read: &EnvFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for known in config::settings() {
        let Some(set) = read.last(&known.name) else {
            continue;
        };
        let place = format!("{} line {}", path.display(), set.line);
        let (found, retime) = match refused(&known, &set.value) {
            Some(Refusal::Stops(why)) => (
                format!("{why}, and it stops {} ({place})", known.stops),
                false,
            ),
            Some(Refusal::Interval(why)) => (format!("{why}: every 30 s it is ({place})"), true),
            None => continue,
        };

        let mut advice = comment(path, set.line, set.last);
        if retime {
            advice = Advice::root(format!(
                "sed -i '{}s/^/#/' {} && {RETIME}",
                set.line,
                quoted(path)
            ))
            .after(format!("correct line {}, or take it out", set.line));
        }

        findings.push(Finding::fail("settings", found, advice));
    }

    findings
}

enum Refusal {
    Stops(String),
    /// The poll interval. It stops no program, because systemd's generator uses its default
    /// instead.
    Interval(String),
}

/// Why the program that reads a setting refuses a value.
fn refused(known: &config::KnownSetting, value: &str) -> Option<Refusal> {
    if let Err(why) = known.judge(value) {
        return Some(Refusal::Stops(format!(
            "{}={} is refused: {why}",
            known.name,
            shown(value)
        )));
    }

    match known.name.as_str() {
        // The value may be a password, so the message does not repeat it.
        "LEFT4ME_STEAM_ACCOUNT" => steam::account(value).err().map(Refusal::Stops),
        "LEFT4ME_POLL_SECONDS" => {
            let poll = PollSeconds {
                poll_seconds: value.to_owned(),
            };
            poll.number()
                .err()
                .map(|error| Refusal::Interval(error.to_string()))
        }
        _ => None,
    }
}

/// Checks for names that no program reads, and suggests the likely one.
fn unknown(path: &Path, read: &EnvFile) -> Vec<Finding> {
    let known = config::settings();
    let is_known =
        |name: &str| OTHERS.contains(&name) || known.iter().any(|known| known.name == name);
    let ours = read
        .assignments
        .iter()
        .filter(|one| one.name.to_uppercase().contains("LEFT4ME"));
    let strange = ours.filter(|one| !is_known(&one.name));

    strange
        .map(|one| {
            let name = &one.name;
            let meant = known
                .iter()
                .map(|known| (distance(name, &known.name), &known.name))
                .min();
            let meant = meant.filter(|(far, _)| *far <= 3).map(|(_, meant)| meant);
            let place = format!("{} line {}", path.display(), one.line);
            let question = meant
                .map(|meant| format!("; did you mean {meant}?"))
                .unwrap_or_default();
            let found = format!("no program reads {} ({place}){question}", shown(name));
            let file = quoted(path);
            let advice = match meant {
                Some(meant) => {
                    Advice::root(format!("sed -i '{}s/{name}/{meant}/' {file}", one.line))
                }
                None => comment(path, one.line, one.last),
            };

            Finding::warn("settings", found, advice)
        })
        .collect()
}

/// The edit distance of two names: how many letters have to be inserted, removed or replaced.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.to_uppercase().chars().enumerate() {
        let mut before = i;
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let exchanged = before + usize::from(a != *b);
            before = row[j + 1];
            row[j + 1] = exchanged.min(before + 1).min(row[j] + 1);
        }
    }

    row.last().copied().unwrap_or_default()
}

/// Checks `Environment=` in an admin's drop-ins. A setting that the settings file also has is
/// skipped, because the file overrides the drop-in.
fn drop_ins(directory: &Path, unit: &str, settings: &EnvFile) -> Vec<Finding> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();

    paths.retain(|path| path.extension().is_some_and(|end| end == "conf"));
    paths.sort();

    let texts = paths
        .into_iter()
        .filter_map(|path| Some((std::fs::read_to_string(&path).ok()?, path)));
    texts
        .flat_map(|(text, path)| environment(&text, &path, unit, settings))
        .collect()
}

fn environment(text: &str, path: &Path, unit: &str, settings: &EnvFile) -> Vec<Finding> {
    let known = config::settings();
    let lines = text
        .lines()
        .enumerate()
        .filter_map(|(number, line)| Some((number + 1, line.trim().strip_prefix("Environment=")?)));
    let words = lines.flat_map(|(number, words)| {
        env_file::split(words)
            .into_iter()
            .map(move |word| (number, word))
    });

    let mut findings = Vec::new();
    for (line, word) in words {
        let Some((name, value)) = word.split_once('=') else {
            continue;
        };
        let Some(known) = known.iter().find(|known| known.name == name) else {
            continue;
        };
        if settings.last(name).is_some() {
            continue;
        }

        if let Some(Refusal::Stops(why) | Refusal::Interval(why)) = refused(known, value) {
            let found = format!(
                "{why}, and it stops {unit} ({} line {line})",
                path.display()
            );

            let command = format!(
                "sed -i '{line}s/^/#/' {} && systemctl daemon-reload",
                quoted(path)
            );

            let advice =
                Advice::root(command).after(format!("correct line {line}, or take it out"));
            findings.push(Finding::fail("settings", found, advice));
        }
    }

    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    fn judged(text: impl AsRef<[u8]>) -> Vec<Finding> {
        file(Path::new("/etc/left4me/left4me.env"), text.as_ref())
    }

    fn one(text: impl AsRef<[u8]>) -> Finding {
        let mut findings = judged(text);
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings.swap_remove(0)
    }

    #[test]
    fn a_value_that_a_program_refuses_is_named_with_what_is_allowed_and_where_it_stands() {
        let finding = one("# x\nLEFT4ME_LOG=info\nLEFT4ME_WORKER_SLOTS=four\n");
        assert_eq!(finding.severity, Severity::Fail);
        for word in [
            "LEFT4ME_WORKER_SLOTS=four",
            "1 to 256",
            "left4me-worker",
            "left4me.env line 3",
        ] {
            assert!(finding.found.contains(word), "{}", finding.found);
        }

        assert_eq!(
            finding.command.unwrap(),
            "sed -i '3s/^/#/' /etc/left4me/left4me.env"
        );

        let poll = one("LEFT4ME_POLL_SECONDS=0");
        assert!(
            poll.found.contains("every 30 s") && poll.command.unwrap().contains("daemon-reload")
        );
    }

    #[test]
    fn a_steam_account_is_a_name_and_what_is_none_is_not_repeated() {
        for good in [
            "",
            "LEFT4ME_STEAM_ACCOUNT=",
            "LEFT4ME_STEAM_ACCOUNT=\"anna_7\"",
            "#LEFT4ME_STEAM_ACCOUNT=a b",
        ] {
            assert_eq!(one(good).severity, Severity::Ok, "{good}");
        }

        let finding = one("LEFT4ME_STEAM_ACCOUNT=anna hunter2\n");
        assert!(
            finding.severity == Severity::Fail && !finding.found.contains("hunter2"),
            "{finding:?}"
        );
    }

    #[test]
    fn a_name_that_no_program_reads_is_told_with_the_one_that_is_meant() {
        assert_eq!(
            one("# LEFT4ME_OLD=1\nLEFT4ME_LOG=info\nTZ=UTC\n").severity,
            Severity::Ok
        );

        for (typed, meant) in [
            ("LEFT4ME_PORTRANGE", "LEFT4ME_PORT_RANGE"),
            ("left4me_log", "LEFT4ME_LOG"),
            ("LEFT4ME_WORKERS_SLOTS", "LEFT4ME_WORKER_SLOTS"),
            (
                "LEFT4ME_CANCEL_GRACE_SECOND",
                "LEFT4ME_CANCEL_GRACE_SECONDS",
            ),
        ] {
            let finding = one(format!("{typed}=1\n"));
            assert!(
                finding.severity == Severity::Warn && finding.found.contains(meant),
                "{finding:?}"
            );
        }

        assert!(
            !one("LEFT4ME_SOMETHING_ELSE=1")
                .found
                .contains("did you mean")
        );
    }

    #[test]
    fn what_systemd_skips_is_told_with_its_line_and_a_file_of_windows_is_read() {
        for (text, severity, line) in [
            (
                "LEFT4ME_LOG=info\nLEFT4ME_WORKER_SLOTS 4\n",
                Severity::Fail,
                "line 2",
            ),
            ("export LEFT4ME_LOG=info\n", Severity::Warn, "line 1"),
            ("A=1\nLEFT4ME_LOG=\"info\nB=2\n", Severity::Fail, "line 2"),
            (
                "\u{feff}LEFT4ME_LOG=info\n",
                Severity::Warn,
                "byte order mark",
            ),
            ("# C:\\\nLEFT4ME_LOG=info\n", Severity::Warn, "backslash"),
        ] {
            let findings = judged(text);
            let told = findings.iter().find(|finding| finding.found.contains(line));
            assert!(
                told.is_some_and(|finding| finding.severity == severity),
                "{text:?}: {findings:?}"
            );
        }

        assert!(one(b"A=1\nLEFT4ME_LOG=\xff\n").found.contains("line 2"));
        assert_eq!(
            one("LEFT4ME_WORKER_SLOTS=3\r\nLEFT4ME_LOG=info\r\n").severity,
            Severity::Ok
        );
    }

    #[test]
    fn a_drop_ins_value_counts_where_the_file_has_none() {
        let text = "[Service]\nEnvironment=\"A=b c\" \
                   LEFT4ME_WORKER_SLOTS=0\nEnvironment=LEFT4ME_LOG=info\n";
        let found = |settings: &str| {
            environment(
                text,
                Path::new("/x.conf"),
                "left4me-worker.service",
                &EnvFile::parse(settings),
            )
        };

        let findings = found("");
        assert!(
            findings.len() == 1 && findings[0].found.contains("/x.conf line 2"),
            "{findings:?}"
        );

        assert_eq!(found("LEFT4ME_WORKER_SLOTS=3"), []);
    }
}
