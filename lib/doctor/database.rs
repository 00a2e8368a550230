//! The database file: whose it is, what schema it has, whether it is whole. It is only read: a file of an older version
//! keeps its schema.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::files::{TMPFILES, mend, owned, told};
use super::{Finding, quoted};
use crate::base::config::DATABASE;
use crate::base::files::kind;
use crate::base::users::LEFT4ME;
use crate::db::{migrate, upkeep};

/// A file of so many bytes is read in less than a second.
const QUICK: u64 = 64 << 20;

pub(super) fn check(root: &Path, path: &Path) -> Vec<Finding> {
    let check = "database";
    let mut findings: Vec<Finding> = former(root, path).into_iter().collect();
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let advice = format!("{TMPFILES}; then `left4me migrate` makes the file");
            findings.push(Finding::fail(check, format!("{} is missing", path.display()), advice));
            return findings;
        }
        Err(error) => {
            findings.push(told(check, path, &error));
            return findings;
        }
    };
    if !found.is_file() {
        let text =
            format!("{} is {}, not a regular file: no program opens it", path.display(), kind(found.file_type()));
        let advice = format!("see who put it there; as root: rm -d {}, then restore a backup", quoted(path));
        findings.push(Finding::fail(check, text, advice));
        return findings;
    }
    findings.push(owned("database owner", path, &found, LEFT4ME, LEFT4ME, 0o660));
    findings.extend(["-wal", "-shm"].iter().filter_map(|name| beside(path, name, found.uid())));
    findings.extend(content(path));
    findings
}

/// What SQLite keeps beside the file belongs to the file's owner.
fn beside(path: &Path, name: &str, owner: u32) -> Option<Finding> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(name);
    let beside = PathBuf::from(beside);
    let found = beside.symlink_metadata().ok()?;
    let shown = beside.display();
    if !found.is_file() {
        let text = format!("{shown} is {}, not a regular file: no program opens the database", kind(found.file_type()));
        return Some(Finding::fail("database", text, format!("as root: rm -d {}", quoted(&beside))));
    }
    (found.uid() != owner).then(|| {
        let advice = mend(&beside, LEFT4ME, LEFT4ME, 0o660);
        Finding::fail("database owner", format!("{shown} belongs to another user"), advice)
    })
}

/// A file where older versions had it: not moved yet, or made there since by a program that still knows the old place.
fn former(root: &Path, path: &Path) -> Option<Finding> {
    let former = root.join("left4me.db");
    if path != root.join(DATABASE) || former.symlink_metadata().is_err() {
        return None;
    }
    let shown = former.display();
    let check = "database of an older version";
    Some(if path.symlink_metadata().is_ok() {
        let text = format!("{shown} is still there, and no program of this version reads it");
        let advice = format!(
            "see what wrote it, and what is in it; when it holds nothing that {} lacks, as root: rm {}",
            path.display(),
            quoted(&former)
        );
        Finding::warn(check, text, advice)
    } else {
        let text = format!("{shown} is not moved to {} yet: no program can use it", path.display());
        Finding::fail(check, text, "as root: left4me-helper upgrade")
    })
}

/// Schema and content alone, for who cannot tell whose the file is; none for a file that takes long to read.
pub(super) fn whole(path: &Path) -> Option<Vec<Finding>> {
    path.symlink_metadata().is_ok_and(|found| found.len() <= QUICK).then(|| content(path))
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
            format!("{found}, this program knows {known}: checks of the queue and the servers may be missing here"),
            "run `left4me migrate`; any other program migrates it when it starts",
        ),
        _ => Finding::fail(
            check,
            format!("{found}, this program knows {known}"),
            "the file is from a newer left4me: upgrade this one",
        ),
    }
}
