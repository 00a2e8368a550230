//! Checks the database file: its owner, its schema and its integrity. Reads only, so that the file
//! of an older version keeps its schema.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Finding;
use super::files::{TMPFILES, io_finding, owned, repair};
use super::finding::{Advice, quoted};
use crate::base::Exit;
use crate::base::config::DATABASE;
use crate::base::files::kind;
use crate::base::users::LEFT4ME;
use crate::db::{maintenance, migrate};

/// The largest file, in bytes, that is checked completely. It takes less than a second to read.
const QUICK: u64 = 64 << 20;

pub(super) fn check(root: &Path, path: &Path) -> Vec<Finding> {
    let check = "database";
    let mut findings: Vec<Finding> = former(root, path).into_iter().collect();
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let make = Advice::root(format!("{TMPFILES} && left4me migrate"));
            let advice =
                restore(root).map_or(make, |restore| restore.after("a new file would be empty"));
            findings.push(Finding::fail(
                check,
                format!("{} is missing", path.display()),
                advice,
            ));

            return findings;
        }
        Err(error) => {
            findings.push(io_finding(check, path, &error));
            return findings;
        }
    };

    if !found.is_file() {
        let text = format!(
            "{} is {}, not a regular file: no program opens it",
            path.display(),
            kind(found.file_type())
        );

        let advice = Advice::root(format!("rm -d {}", quoted(path)))
            .after("see who put it there, and run doctor again");
        findings.push(Finding::fail(check, text, advice));
        return findings;
    }

    findings.push(owned(
        "database owner",
        path,
        &found,
        LEFT4ME,
        LEFT4ME,
        0o660,
    ));

    findings.extend(
        ["-wal", "-shm"]
            .iter()
            .filter_map(|name| beside(path, name, found.uid())),
    );

    findings.extend(content(root, path));
    findings
}

/// The command that restores the newest of the numbered backups.
fn restore(root: &Path) -> Option<Advice> {
    let backups = root
        .join("backups")
        .read_dir()
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    let number = |path: &Path| {
        path.file_stem()?
            .to_str()?
            .strip_prefix("left4me-")?
            .rsplit('-')
            .next()?
            .parse()
            .ok()
    };

    let databases = backups.filter(|path| path.extension().is_some_and(|end| end == "db"));
    let newest = databases
        .filter_map(|path| Some((number(&path)?, path)))
        .max_by_key(|(number, _): &(u64, _)| *number);
    newest.map(|(_, path)| Advice::root(format!("left4me restore {}", quoted(path))))
}

/// Checks the owner of a file that SQLite keeps beside the database: it has to be the database's
/// owner.
fn beside(path: &Path, name: &str, owner: u32) -> Option<Finding> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(name);

    let beside = PathBuf::from(beside);
    let found = beside.symlink_metadata().ok()?;

    let shown = beside.display();
    if !found.is_file() {
        let text = format!(
            "{shown} is {}, not a regular file: no program opens the database",
            kind(found.file_type())
        );

        return Some(Finding::fail(
            "database",
            text,
            Advice::root(format!("rm -d {}", quoted(&beside))),
        ));
    }

    (found.uid() != owner).then(|| {
        let advice = repair(&beside, LEFT4ME, LEFT4ME, 0o660);
        Finding::fail(
            "database owner",
            format!("{shown} belongs to another user"),
            advice,
        )
    })
}

/// Checks for a database in the place that older versions used: it has not been moved yet, or a
/// program that knows only the old place has created it since.
fn former(root: &Path, path: &Path) -> Option<Finding> {
    let former = root.join("left4me.db");
    if path != root.join(DATABASE) || former.symlink_metadata().is_err() {
        return None;
    }

    let shown = former.display();
    let check = "database of an older version";

    Some(if path.symlink_metadata().is_ok() {
        let text = format!("{shown} is still there, and no program of this version reads it");
        let see = format!(
            "see what wrote it, and what is in it; when it holds nothing that {} lacks",
            path.display()
        );

        let advice = Advice::root(format!("rm {}", quoted(&former))).after(see);
        Finding::warn(check, text, advice)
    } else {
        let text = format!(
            "{shown} is not moved to {} yet: no program can use it",
            path.display()
        );

        Finding::fail(check, text, Advice::root("left4me-helper upgrade"))
    })
}

/// Checks only schema and integrity, for callers that cannot see owners. None for a file that takes
/// long to read.
pub(super) fn whole(root: &Path, path: &Path) -> Option<Vec<Finding>> {
    path.symlink_metadata()
        .is_ok_and(|found| found.len() <= QUICK)
        .then(|| content(root, path))
}

fn content(root: &Path, path: &Path) -> Vec<Finding> {
    match maintenance::check(path) {
        Ok(health) => vec![
            schema(health.schema),
            match health.complaints.first() {
                None => Finding::ok("database check", "whole"),
                Some(first) => Finding::fail(
                    "database check",
                    format!("damaged: {first}"),
                    from_backup(root),
                ),
            },
        ],
        Err(error) => {
            let advice = match error.exit {
                Exit::NotPermitted => "run this as root; then see the findings about owners".into(),
                _ if error.to_string().contains("damaged") => from_backup(root),
                _ => Advice::from(
                    "see `journalctl -k` for what the disk says, and the findings about writing",
                ),
            };

            vec![Finding::fail("database", error.to_string(), advice)]
        }
    }
}

fn from_backup(root: &Path) -> Advice {
    restore(root).unwrap_or_else(|| "restore a backup: `left4me restore FILE`, as root".into())
}

fn schema(found: i64) -> Finding {
    let check = "database schema";
    let known = migrate::LATEST;
    match found {
        _ if found == known => Finding::ok(check, found.to_string()),
        _ if found < known => Finding::warn(
            check,
            format!(
                "{found}, this program knows {known}: \
                 checks of the queue and the servers may be missing here"
            ),
            Advice::run("left4me migrate").and("any other program migrates it when it starts"),
        ),
        _ => Finding::fail(
            check,
            format!("{found}, this program knows {known}"),
            "the file is from a newer left4me: upgrade this one",
        ),
    }
}
