//! Checks whether the overlays of servers can be mounted where the data is.
//! left4me-overlay-check.service tests it; only root can start that unit. Other users read the last
//! result, or without one judge by the type of the file system.

use std::path::Path;

use super::Finding;
use crate::base::filesystem;
use crate::base::overlay_check::{Checked, OverlayVerdict, UNIT};
use crate::process::systemctl;

const CHECK: &str = "file system";

/// Runs the test now, as root. None where systemd does not run; another check reports that.
pub(super) fn test_now(root: &Path) -> Option<Finding> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }

    // The exit code says no more than the result.
    let said = systemctl("left4me", ["start", UNIT]);

    Some(match Checked::recent(root) {
        Some(checked) => judge(&checked),
        None => {
            let why = match said {
                Ok((_, text)) => text
                    .lines()
                    .next()
                    .unwrap_or("it left no result")
                    .to_owned(),
                Err(error) => error.to_string(),
            };

            by_type(root).unwrap_or_else(|| not_tested(&format!("{UNIT}: {why}")))
        }
    })
}

/// The last result, or a guess by the type of the file system. For users other than root.
pub(super) fn known(root: &Path) -> Option<Finding> {
    Checked::last(root).map_or_else(|| by_type(root), |checked| Some(judge(&checked)))
}

fn by_type(root: &Path) -> Option<Finding> {
    let kind = filesystem::unfit(&root.join("runtime"))?;
    let found = format!(
        "{} is on {kind}: no server's overlay can be mounted there, so none can start",
        root.display()
    );
    Some(Finding::fail(CHECK, found, filesystem::ADVICE))
}

fn judge(checked: &Checked) -> Finding {
    let place = checked.place();
    match &checked.verdict {
        OverlayVerdict::Good => Finding::ok(
            CHECK,
            format!("{place}: an overlay was mounted and used as a server does"),
        ),
        OverlayVerdict::Limited { why, advice } => {
            Finding::warn(CHECK, format!("{place}: {why}"), advice.clone())
        }
        OverlayVerdict::Unfit { why, advice } => Finding::fail(
            CHECK,
            format!("{place}: {why}; no server can start"),
            advice.clone(),
        ),
        OverlayVerdict::Untried { why } => not_tested(why),
    }
}

fn not_tested(why: &str) -> Finding {
    let advice = format!("mend that, or see `journalctl -u {UNIT}`");
    Finding::warn(CHECK, format!("no overlay could be tried: {why}"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn only_what_no_server_can_start_on_fails_and_each_finding_says_where() {
        let judged = |verdict| {
            judge(&Checked {
                root: "/srv/l4".into(),
                file_system: "zfs".to_owned(),
                at_us: 1,
                verdict,
            })
        };

        let (why, advice) = (
            "no overlay (the kernel: x)".to_owned(),
            "move it".to_owned(),
        );

        let unfit = judged(OverlayVerdict::Unfit {
            why: why.clone(),
            advice: advice.clone(),
        });

        assert_eq!(
            (unfit.severity, unfit.advice.as_deref()),
            (Severity::Fail, Some("move it"))
        );

        assert_eq!(
            unfit.found,
            "/srv/l4/runtime (zfs): no overlay (the kernel: x); no server can start"
        );

        assert_eq!(
            judged(OverlayVerdict::Limited {
                why: why.clone(),
                advice
            })
            .severity,
            Severity::Warn
        );

        assert_eq!(judged(OverlayVerdict::Good).severity, Severity::Ok);

        let untried = judged(OverlayVerdict::Untried { why });
        assert!(
            untried.severity == Severity::Warn && untried.found.contains("no overlay"),
            "{untried:?}"
        );
    }
}
