//! Says whether Steam has a new build of the game, as the last check found.

use std::path::Path;

use super::Finding;
use super::builds::current;
use super::finding::Advice;
use super::game;
use crate::base::clock;
use crate::db::Db;
use crate::db::builds::{self, Available};

/// A finding once a check has asked Steam. Nothing if the database cannot be read, or the game is
/// not installed: those are findings of other checks.
pub(super) fn check(database: &Path, root: &Path) -> Option<Finding> {
    let available = Db::peek(database, |tx| builds::available(tx)).ok()??;
    let installed = current(root).or_else(|| game::build(root))?;
    Some(judge(&available, installed))
}

fn judge(available: &Available, installed: u64) -> Finding {
    let (check, build) = ("game build", available.build);
    let checked = format!("Steam was asked {}", clock::local(available.checked_at));
    if !available.is_new(installed) {
        return Finding::ok(check, format!("build {installed} is current; {checked}"));
    }

    let since = clock::local(available.known_since);
    let found = format!(
        "build {build} is available (installed: {installed}), known since {since}; {checked}"
    );
    let advice = Advice::run("left4me-job enqueue update --follow")
        .and("running servers are stopped for as long as the download takes");
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

        let found = judge(&available, 5);
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

        let found = judge(&available, 6);
        assert_eq!(found.severity, Severity::Ok);
        assert!(found.found.starts_with("build 6 is current"), "{found:?}");
    }
}
