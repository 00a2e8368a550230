//! ULIDs: names that are unique without asking anyone, and sort by the time at which they were made.
//! A server of a fleet has one, and so has each order.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::{BadName, shown};

/// 26 characters in Crockford's base 32, upper case: `01KAZ6T5R8Y3W9M2F4B7C1D0XN`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(ulid::Ulid);

impl Ulid {
    /// A new one, made at `now` (unix ms).
    pub fn new(now: i64) -> Self {
        let mut random = [0; 16];
        if let Err(error) = getrandom::fill(&mut random) {
            // Nothing else works then either, and a name that is not unique would do harm.
            tracing::error!(%error, "the kernel has no random numbers");
            std::process::abort();
        }
        Self::from_parts(now, u128::from_le_bytes(random))
    }

    /// The one of this time, with the lower 80 bits of `random`: so that the same request makes the
    /// same one again.
    pub fn from_parts(at: i64, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(
            u64::try_from(at).unwrap_or_default(),
            random,
        ))
    }

    /// When it was made, unix ms.
    pub fn made_at(self) -> i64 {
        i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl fmt::Debug for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ulid {
    type Err = BadName;

    /// Only the one way in which it is written: a second one would be a second primary key.
    fn from_str(text: &str) -> Result<Self, BadName> {
        match ulid::Ulid::from_string(text) {
            Ok(ulid) if ulid.to_string() == text => Ok(Self(ulid)),
            _ => Err(BadName::new(format!(
                "'{}' is not a ULID: 26 digits and capital letters are needed, as {}",
                shown(text),
                "01KAZ6T5R8Y3W9M2F4B7C1D0XN"
            ))),
        }
    }
}

impl Serialize for Ulid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ulid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ones_sort_later_and_each_is_written_in_one_way() {
        let (first, second) = (Ulid::new(1_000), Ulid::new(1_001));
        assert!(first < second && first.to_string() < second.to_string());
        assert_eq!(first.made_at(), 1_000);
        assert_eq!(first.to_string().parse::<Ulid>().unwrap(), first);

        let lower = first.to_string().to_lowercase();
        for bad in ["", "01", lower.as_str(), "81KAZ6T5R8Y3W9M2F4B7C1D0XN"] {
            assert!(bad.parse::<Ulid>().is_err(), "{bad}");
        }
    }
}
