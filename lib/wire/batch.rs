//! Requests for many servers over one connection to the helper.
//!
//! The client sends one line per group of servers, each with the verb, and more of them while the
//! helper works: `{"verb":"enable","servers":["1","2"],"more":true}`. A line without `more` is the
//! last one. Every answer names its server, and each server has an end of its own. A control line
//! with a server cancels that server only. After the last server's end follows the connection's.

use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use super::{Cancel, Control, HelperRequest};
use crate::base::names::InstanceName;

/// The most servers that one connection has under way.
pub const MOST: usize = 500;

/// What is done for each server of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchVerb {
    /// Start now and at each boot.
    Enable,
    /// Stop now and at each boot, and unmount the overlay.
    Disable,
    /// Read the state of the unit.
    Show,
}

impl BatchVerb {
    /// The request's name, for logs and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            BatchVerb::Enable => "enable",
            BatchVerb::Disable => "disable",
            BatchVerb::Show => "show",
        }
    }
}

/// A line of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    pub verb: BatchVerb,
    /// The servers to add; none in a line that only ends the batch.
    pub servers: Vec<InstanceName>,
    /// For `disable`: the servers are started again at once, so systemd need not forget yet that
    /// they start at boot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Whether the client may add servers in another line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl BatchRequest {
    /// Adds one server.
    pub fn one(verb: BatchVerb, server: &InstanceName) -> Self {
        Self {
            verb,
            servers: vec![server.clone()],
            again: false,
            more: true,
        }
    }

    /// Adds no server, and ends the batch.
    pub fn end() -> Self {
        Self {
            verb: BatchVerb::Show,
            servers: Vec::new(),
            again: false,
            more: false,
        }
    }
}

/// The first line of a connection to the helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperCall {
    One(HelperRequest),
    Batch(BatchRequest),
}

/// Not an untagged enum, so that a refusal names what is wrong with the request.
impl<'de> Deserialize<'de> for HelperCall {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        if value.get("servers").is_some() {
            let batch = serde_json::from_value(value).map_err(D::Error::custom)?;
            return Ok(HelperCall::Batch(batch));
        }
        let request = serde_json::from_value(value).map_err(D::Error::custom)?;
        Ok(HelperCall::One(request))
    }
}

/// A later line of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchLine {
    Add(BatchRequest),
    /// Cancels the operation on one server, or all of them.
    Cancel(Cancel, Option<InstanceName>),
}

impl<'de> Deserialize<'de> for BatchLine {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        if value.get("cancel").is_none() {
            let batch = serde_json::from_value(value).map_err(D::Error::custom)?;
            return Ok(BatchLine::Add(batch));
        }
        let control: Control = serde_json::from_value(value).map_err(D::Error::custom)?;
        Ok(BatchLine::Cancel(control.cancel, control.server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    #[test]
    fn a_request_with_servers_is_a_batch() {
        let call = |line: &str| parse::<HelperCall>(line);
        let batch = call(r#"{"verb":"enable","servers":["1","x-2"],"more":true}"#).unwrap();
        assert_eq!(
            batch,
            HelperCall::Batch(BatchRequest {
                verb: BatchVerb::Enable,
                servers: vec!["1".parse().unwrap(), "x-2".parse().unwrap()],
                again: false,
                more: true,
            })
        );

        let one = call(r#"{"verb":"enable","server":"1"}"#).unwrap();
        assert!(matches!(one, HelperCall::One(HelperRequest::Enable { .. })));

        for bad in [
            r#"{"verb":"purge","servers":["1"]}"#,
            r#"{"verb":"enable","servers":["../1"]}"#,
            r#"{"verb":"enable","servers":"1"}"#,
            r#"{"verb":"enable","servers":["1"],"server":"1"}"#,
            r#"{"verb":"enable","servers":["1"],"observe":true}"#,
        ] {
            assert!(call(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_batch_takes_servers_and_cancellations() {
        let line = |line: &str| parse::<BatchLine>(line);
        let one = BatchRequest::one(BatchVerb::Disable, &"7".parse().unwrap());
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(text, r#"{"verb":"disable","servers":["7"],"more":true}"#);
        assert_eq!(line(&text).unwrap(), BatchLine::Add(one));

        assert_eq!(
            line(r#"{"cancel":"kill","server":"7"}"#).unwrap(),
            BatchLine::Cancel(Cancel::Kill, Some("7".parse().unwrap()))
        );
        assert_eq!(
            line(r#"{"cancel":"terminate"}"#).unwrap(),
            BatchLine::Cancel(Cancel::Terminate, None)
        );

        let end = serde_json::to_string(&BatchRequest::end()).unwrap();
        assert_eq!(line(&end).unwrap(), BatchLine::Add(BatchRequest::end()));
        assert!(line(r#"{"cancel":"stop"}"#).is_err());
        assert!(line("{}").is_err());
    }
}
