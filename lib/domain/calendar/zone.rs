//! Names of time zones.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::base::clock;
use crate::base::names::{BadName, shown};

/// A name such as Europe/Berlin that the host's time zone database has, as it is spelt there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName {
    name: String,
    zone: TimeZone,
}

impl ZoneName {
    /// The longest name, in bytes; the database's are shorter.
    const LONGEST: usize = 64;

    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Its rules.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

impl FromStr for ZoneName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let zone = is_plain(text).then(|| clock::zone_named(text)).flatten();
        let name = zone.as_ref().and_then(TimeZone::iana_name);
        match (name.map(str::to_owned), zone) {
            (Some(name), Some(zone)) => Ok(Self { name, zone }),
            _ => Err(BadName::new(format!(
                "there is no time zone '{}' on this host; an example is Europe/Berlin, \
                 timedatectl list-timezones has all",
                shown(text)
            ))),
        }
    }
}

/// Whether a text can be a zone's name. Files of the database that are none begin in lower case:
/// localtime, posixrules, and the folders posix and right.
fn is_plain(text: &str) -> bool {
    let is_word = |word: &str| {
        let odd = |byte: u8| !byte.is_ascii_alphanumeric() && !b"-_+".contains(&byte);
        !word.is_empty() && !word.bytes().any(odd)
    };
    let lower = text.to_ascii_lowercase();
    let is_other = ["localtime", "posixrules", "factory"].contains(&lower.as_str());
    let is_other = is_other || lower.starts_with("posix/") || lower.starts_with("right/");
    text.len() <= ZoneName::LONGEST && text.split('/').all(is_word) && !is_other
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl TryFrom<String> for ZoneName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<ZoneName> for String {
    fn from(zone: ZoneName) -> Self {
        zone.name
    }
}
