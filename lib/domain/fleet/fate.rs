//! What has become of an order, as far as a rollout asks.

use serde::Deserialize;

use crate::base::words::words;

words! {
    /// What has become of an order.
    pub enum Fate ("what has become of an order") {
        UnderWay = "under way",
        Succeeded = "succeeded",
        Refused = "refused",
        Failed = "failed",
        Cancelled = "cancelled",
        /// Its time is over without an answer.
        Unknown = "not known",
    }
}

impl Fate {
    /// Whether it has ended, and not well.
    pub fn is_bad(self) -> bool {
        !matches!(self, Self::UnderWay | Self::Succeeded)
    }
}

impl<'de> Deserialize<'de> for Fate {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}
