//! The database file: whose it is, what schema it has, whether it is whole.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Finding;
use super::files::{owned, told};
use crate::base::users::LEFT4ME;
use crate::db::{migrate, upkeep};

/// A file of so many bytes is read in less than a second.
const QUICK: u64 = 64 << 20;

pub(super) fn check(path: &Path) -> Vec<Finding> {
    let check = "database";
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let advice = "run `left4me migrate`: it makes the file";
            return vec![Finding::fail(check, format!("{} is missing", path.display()), advice)];
        }
        Err(error) => return vec![told(check, path, &error)],
    };
    let mut findings = vec![owned("database owner", path, &found, LEFT4ME, LEFT4ME, 0o660)];
    for beside in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        let beside = PathBuf::from(name);
        if let Ok(other) = beside.symlink_metadata()
            && other.uid() != found.uid()
        {
            let advice = format!("as root: chown --reference={} {}", path.display(), beside.display());
            findings.push(Finding::fail(
                "database owner",
                format!("{} belongs to another user", beside.display()),
                advice,
            ));
        }
    }
    findings.extend(content(path));
    findings
}

/// Schema and content alone, for who cannot tell whose the file is; none for a file that takes long to read.
pub(super) fn whole(path: &Path) -> Option<Vec<Finding>> {
    path.metadata().is_ok_and(|found| found.len() <= QUICK).then(|| content(path))
}

fn content(path: &Path) -> Vec<Finding> {
    match upkeep::look(path) {
        Ok(health) => vec![
            schema(health.schema),
            match health.complaints.first() {
                None => Finding::ok("database check", "whole"),
                Some(first) => Finding::fail(
                    "database check",
                    format!("damaged: {first}"),
                    "restore a backup: see `left4me backup --help`",
                ),
            },
        ],
        Err(error) => vec![Finding::fail("database", error.to_string(), "see the message")],
    }
}

fn schema(found: i64) -> Finding {
    let check = "database schema";
    let known = migrate::LATEST;
    match found {
        _ if found == known => Finding::ok(check, found.to_string()),
        _ if found < known => Finding::warn(
            check,
            format!("{found}, this program knows {known}"),
            "run `left4me migrate`; any program does it when it starts",
        ),
        _ => Finding::fail(
            check,
            format!("{found}, this program knows {known}"),
            "the file is from a newer left4me: upgrade this one",
        ),
    }
}
