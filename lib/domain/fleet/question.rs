//! Questions between hosts, and their answers. Nothing keeps either, so that both are believed by
//! their signatures alone. An answer is sealed to the host that asked: a node of the engine can
//! neither ask in a host's name nor read what is answered.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::VERSION;
use crate::base::keys::SealKey;
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result};

/// How old a question may be by the clock of the host that is asked, or how far ahead, in ms: clocks
/// may differ by two minutes, and it may be on its way for some seconds.
pub const GOOD_FOR: i64 = 150_000;

/// What hosts ask each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// The lines of a job's log after this one.
    Log { job: i64, after: i64 },
    /// Events after this one, for a viewer that sees a gap.
    Events { after: i64 },
    /// A job, as `left4me-job show --json` prints it.
    Job { job: i64 },
}

/// A question, as the host that asks signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    pub v: u32,
    /// Names the question. Its answer repeats it, and so answers no other one.
    pub id: Ulid,
    pub from: FleetHost,
    pub to: FleetHost,
    /// Unix ms, by the clock of the host that asks.
    pub at: i64,
    pub question: Question,
}

/// What is answered, as the host that answers signs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub v: u32,
    /// Of the question.
    pub id: Ulid,
    /// The host that answers, and the one that has asked.
    pub from: FleetHost,
    pub to: FleetHost,
    pub said: Said,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Said {
    /// A [`Sealed`] for the host that has asked.
    Sealed {
        /// The key that sealed it, which is used once: the signature says whose it is.
        by: SealKey,
        /// In base64.
        text: String,
    },
    /// The question was not believed, so that nothing is sealed to whom it names.
    Refused { why: String, exit: u8 },
}

/// What is sealed. It names its question, so that nothing else that was sealed to the same host, such as
/// a blueprint, is taken for an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    pub id: Ulid,
    pub question: Question,
    /// The answer, or `{"error": …, "exit": 3}`.
    pub value: Value,
}

/// What each version can read of a question or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Head {
    pub v: u32,
    pub id: Ulid,
}

impl Head {
    pub fn read(body: &str) -> Result<Self> {
        serde_json::from_str(body)
            .map_err(|error| Error::usage(format!("neither a question nor an answer: {error}")))
    }

    /// Fails with 2 for a version that is not known here.
    pub fn check(&self, what: &str, here: &FleetHost) -> Result<()> {
        match self.v {
            VERSION => Ok(()),
            v => Err(Error::usage(format!(
                "{what} is of version {v}, and {here} knows version {VERSION} alone: install the \
                 same version of left4me on both hosts"
            ))),
        }
    }
}

impl Asking {
    /// Fails with 2 for what this version cannot read.
    pub fn read(body: &str) -> Result<Self> {
        serde_json::from_str(body).map_err(|error| {
            Error::usage(format!("not a question that this version knows: {error}"))
        })
    }

    /// How far its time is from `now`, if that is too far, in ms.
    pub fn too_far(&self, now: i64) -> Option<i64> {
        let apart = now.saturating_sub(self.at).saturating_abs();
        (apart > GOOD_FOR).then_some(apart)
    }
}

impl Answer {
    /// The refusal of a question.
    pub fn refusal(id: Ulid, from: &FleetHost, to: &FleetHost, error: &Error) -> Self {
        Self {
            v: VERSION,
            id,
            from: from.clone(),
            to: to.clone(),
            said: Said::Refused {
                why: error.to_string(),
                exit: error.exit.code(),
            },
        }
    }

    pub fn read(body: &str) -> Result<Self> {
        serde_json::from_str(body).map_err(|error| {
            Error::unavailable(format!("not an answer that this version knows: {error}"))
        })
    }

    pub fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::failed(format!("the answer: {error}")))
    }
}

/// An error in the place of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: String,
    pub exit: u8,
}

impl Failure {
    /// The error, if this is one.
    pub fn of(value: &Value) -> Option<Self> {
        Self::deserialize(value).ok()
    }

    pub fn value(error: &Error) -> Value {
        serde_json::json!({ "error": error.to_string(), "exit": error.exit.code() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_good_for_a_few_minutes_around_its_time() {
        let asking = Asking {
            v: VERSION,
            id: Ulid::from_parts(1, 1),
            from: "fra-1".parse().unwrap(),
            to: "ams-1".parse().unwrap(),
            at: 1_000_000,
            question: Question::Job { job: 1 },
        };
        for apart in [0, 1, GOOD_FOR] {
            assert_eq!(asking.too_far(1_000_000 + apart), None);
            assert_eq!(asking.too_far(1_000_000 - apart), None);
        }
        let apart = GOOD_FOR + 1;
        assert_eq!(asking.too_far(1_000_000 + apart), Some(apart));
        assert_eq!(asking.too_far(1_000_000 - apart), Some(apart));
        assert!(asking.too_far(i64::MIN).is_some());
    }

    #[test]
    fn another_version_is_named_however_it_looks() {
        let here = "ams-1".parse().unwrap();
        let body = r#"{"v":7,"id":"01KAZ6T5R8Y3W9M2F4B7C1D0XN","more":[1]}"#;
        let head = Head::read(body).unwrap();
        let why = head.check("the question", &here).unwrap_err().to_string();
        assert!(
            why.contains("version 7") && why.contains("version 1"),
            "{why}"
        );
        assert!(Head::read("{}").is_err());
    }
}
