//! The result of the last overlay test on the file system of the data.
//! left4me-overlay-check.service runs the test and writes the result; the doctor and the runner
//! start that unit and read it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Result, clock};

/// The unit that runs the test.
pub const UNIT: &str = "left4me-overlay-check.service";

/// The unit's RuntimeDirectory=. Only root can write there.
const DIRECTORY: &str = "/run/left4me-overlay-check";

/// How long a result is valid, in microseconds. An older one says nothing about what is mounted
/// now, so callers start the unit first.
const FRESH_US: u64 = 120_000_000;

/// The result of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The data directory that was tested.
    pub root: PathBuf,
    /// The type of the file system below `runtime/`, by the kernel's name.
    pub file_system: String,
    /// When the test ran: CLOCK_MONOTONIC, microseconds.
    pub at_us: u64,
    pub verdict: OverlayVerdict,
}

/// What works on an overlay there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlayVerdict {
    /// Everything that servers need.
    Good,
    /// Servers start, but something does not work.
    Limited {
        /// What does not work, and why.
        why: String,
        advice: String,
    },
    /// No server can start.
    Unfit { why: String, advice: String },
    /// The test could not run.
    Untried { why: String },
}

impl Checked {
    /// Writes the result. Creates the directory when root runs the program by hand; otherwise the
    /// unit has made it.
    pub fn write(&self) -> Result<()> {
        fs_err::create_dir_all(DIRECTORY)?;
        let file = Path::new(DIRECTORY).join("result");
        let new = file.with_extension("new");
        fs_err::write(
            &new,
            serde_json::to_vec(self).map_err(std::io::Error::from)?,
        )?;

        fs_err::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        Ok(fs_err::rename(new, file)?)
    }

    /// The result of a test for `root` in the last two minutes, if there was one.
    pub fn recent(root: &Path) -> Option<Self> {
        let now = clock::Moment::now().monotonic_us;
        Self::last(root).filter(|checked| now.saturating_sub(checked.at_us) < FRESH_US)
    }

    /// The result of the last test for `root` since the host booted, if there was one.
    pub fn last(root: &Path) -> Option<Self> {
        let text = fs_err::read_to_string(Path::new(DIRECTORY).join("result")).ok()?;
        Self::parse(&text, root)
    }

    fn parse(text: &str, root: &Path) -> Option<Self> {
        serde_json::from_str(text)
            .ok()
            .filter(|checked: &Self| checked.root == root)
    }

    /// Why a download makes no sense: no server could start.
    pub fn refusal(&self) -> Option<String> {
        let OverlayVerdict::Unfit { why, .. } = &self.verdict else {
            return None;
        };
        Some(format!("{}: {why}", self.place()))
    }

    /// What does not work, although servers start.
    pub fn limits(&self) -> Option<String> {
        let OverlayVerdict::Limited { why, .. } = &self.verdict else {
            return None;
        };
        Some(format!("{}: {why}", self.place()))
    }

    /// The tested directory and its file system: `/var/lib/left4me/runtime (overlay)`.
    pub fn place(&self) -> String {
        format!(
            "{} ({})",
            self.root.join("runtime").display(),
            self.file_system
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_read_back_for_its_own_root_only_and_refuses_only_what_no_server_can_start_on() {
        let checked = |verdict| Checked {
            root: PathBuf::from("/srv/l4"),
            file_system: "zfs".to_owned(),
            at_us: 7,
            verdict,
        };

        let unfit = checked(OverlayVerdict::Unfit {
            why: "no overlay".to_owned(),
            advice: "move it".to_owned(),
        });

        let text = serde_json::to_string(&unfit).unwrap();

        assert_eq!(
            Checked::parse(&text, Path::new("/srv/l4")),
            Some(unfit.clone())
        );

        assert_eq!(Checked::parse(&text, Path::new("/var/lib/left4me")), None);
        assert_eq!(Checked::parse("{}", Path::new("/srv/l4")), None);

        assert_eq!(
            unfit.refusal().as_deref(),
            Some("/srv/l4/runtime (zfs): no overlay")
        );

        for other in [
            OverlayVerdict::Good,
            OverlayVerdict::Limited {
                why: "x".to_owned(),
                advice: "y".to_owned(),
            },
            OverlayVerdict::Untried {
                why: "x".to_owned(),
            },
        ] {
            assert_eq!(checked(other).refusal(), None);
        }
    }
}
