//! The runner's answer to `check`.

use serde::{Deserialize, Serialize};

/// `{"builds":{…}}`: which build of the game Steam publishes, and which one is installed. It is no
/// line of output, so nothing that steamcmd prints can be taken for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builds {
    pub published: u64,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<i64>,
    /// Only if the installation is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<u64>,
    /// What an installation that is not whole lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaw: Option<String>,
}
