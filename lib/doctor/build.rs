//! Says whether Steam has a new build of the game, as the last check found.

use std::path::Path;

use super::Finding;
use super::builds::current;
use super::finding::Advice;
use super::game;
use crate::base::clock;
use crate::db::Db;
use crate::db::builds::{self, Available, Rejected};

/// A finding once a check has asked Steam. Nothing if the database cannot be read, or the game is
/// not installed: those are findings of other checks.
pub(super) fn check(database: &Path, root: &Path) -> Option<Finding> {
    let known = Db::peek(database, |tx| {
        Ok((builds::available(tx)?, builds::rejected(tx)?))
    });
    let (available, rejected) = known.ok()?;
    let available = available?;
    let installed = current(root).or_else(|| game::build(root))?;
    let rejected = rejected.iter().find(|one| one.build == available.build);
    Some(judge(&available, rejected, installed))
}

fn judge(available: &Available, rejected: Option<&Rejected>, installed: u64) -> Finding {
    let (check, build) = ("game build", available.build);
    let checked = format!("Steam was asked {}", clock::local(available.checked_at));
    if !available.is_new(installed) {
        return Finding::ok(check, format!("build {installed} is current; {checked}"));
    }

    if let Some(rejected) = rejected {
        let found = format!(
            "build {build} was rejected by {}: {} (current: {installed}); {checked}",
            rejected.actor, rejected.why
        );
        let command = format!("left4me-job enqueue rollback --build {build}");
        let advice = Advice::run(&command).and("which takes it all the same, or wait for the next");
        return Finding::warn(check, found, advice);
    }

    let since = clock::local(available.known_since);
    let found = format!(
        "build {build} is available (installed: {installed}), known since {since}; {checked}"
    );
    let advice = Advice::run("left4me-job enqueue update --follow")
        .and("servers run on during the download; --when-empty restarts each when it is empty");
    Finding::warn(check, found, advice)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn a_new_build_is_worth_a_look_until_it_is_installed() {
        let available = Available {
            build: 6,
            published_at: None,
            known_since: 0,
            checked_at: 60_000,
        };

        let found = judge(&available, None, 5);
        assert_eq!(found.severity, Severity::Warn);
        assert!(
            found
                .found
                .starts_with("build 6 is available (installed: 5), known since 1970"),
            "{found:?}"
        );
        assert_eq!(
            found.command.as_deref(),
            Some("left4me-job enqueue update --follow")
        );

        let found = judge(&available, None, 6);
        assert_eq!(found.severity, Severity::Ok);
        assert!(found.found.starts_with("build 6 is current"), "{found:?}");

        let rejected = Rejected {
            build: 6,
            at: 0,
            actor: "left4me-worker".to_owned(),
            why: "server 3 did not come up on it".to_owned(),
        };
        let found = judge(&available, Some(&rejected), 5);
        assert!(
            found
                .found
                .starts_with("build 6 was rejected by left4me-worker: server 3"),
            "{found:?}"
        );
    }
}
