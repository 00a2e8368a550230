//! Which build of the game Steam publishes, and which one is installed.

use serde::{Deserialize, Serialize};

/// What a check found, or an installation at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builds {
    /// What Steam publishes. On the wire as earlier versions know it: a worker of before an upgrade may
    /// still ask.
    #[serde(rename = "published")]
    pub available: u64,
    /// When Steam published it, unix ms, if Steam says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<i64>,
    /// The installed build; none unless the installation is proved to be whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<u64>,
    /// What an installation that is not whole lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaw: Option<String>,
    /// What the available build takes, if Steam says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
}

/// What a build takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Its files, once they are installed.
    pub files: u64,
    /// The download of all of them; an update downloads less.
    pub download: u64,
}

impl Builds {
    /// What an installation leaves: it takes what Steam publishes at that moment.
    pub fn installed(build: u64) -> Self {
        Self {
            available: build,
            installed: Some(build),
            ..Self::default()
        }
    }

    /// Whether an update would change nothing. A lower number than the installed one is news too:
    /// Valve has taken a build back.
    pub fn is_current(&self) -> bool {
        self.installed == Some(self.available)
    }

    /// `build 5 is current`, or what an update would install. `local` writes a time.
    pub fn message(&self, local: impl Fn(i64) -> String) -> String {
        let build = self.available;
        let published = self
            .published_at
            .map_or_else(String::new, |at| format!(", published {}", local(at)));

        match (self.installed, &self.flaw) {
            (Some(installed), _) if installed == build => {
                format!("build {build} is current{published}")
            }
            (Some(installed), _) => {
                format!("build {build} is available (installed: {installed}){published}")
            }
            (None, Some(flaw)) => format!(
                "build {build} is available (the installation is not whole: {flaw}){published}"
            ),
            (None, None) => {
                format!("build {build} is available (nothing is installed){published}")
            }
        }
    }

    /// What an update says that has nothing to do.
    pub fn nothing_to_do(&self) -> String {
        format!("build {} is current: nothing to do", self.available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builds(installed: Option<u64>, flaw: Option<&str>) -> Builds {
        Builds {
            available: 6,
            installed,
            flaw: flaw.map(str::to_owned),
            ..Builds::default()
        }
    }

    #[test]
    fn only_the_published_build_in_a_whole_installation_is_current() {
        for (found, message) in [
            (builds(Some(6), None), "build 6 is current"),
            (builds(Some(5), None), "build 6 is available (installed: 5)"),
            (builds(Some(7), None), "build 6 is available (installed: 7)"),
            (
                builds(None, None),
                "build 6 is available (nothing is installed)",
            ),
            (
                builds(None, Some("it has no buildid")),
                "build 6 is available (the installation is not whole: it has no buildid)",
            ),
        ] {
            assert_eq!(found.message(|_| String::new()), message);
            assert_eq!(found.is_current(), message.ends_with("current"));
        }

        let dated = Builds {
            published_at: Some(5),
            ..builds(Some(6), None)
        };
        assert_eq!(
            dated.message(|at| format!("at {at}")),
            "build 6 is current, published at 5"
        );
    }
}
