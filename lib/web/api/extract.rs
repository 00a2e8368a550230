//! Extractors for API requests: the id in a path, the query, a JSON body. Each is accepted as a
//! whole, or refused with one line that names the cause.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::map::Entry;
use serde_json::{Map, Value};

use crate::base::names::{BadName, RequestKey, shown};
use crate::base::visible::visible;
use crate::db::lists::Part;
use crate::web::failure::Failure;

/// The default length of a list.
const LIMIT: u32 = 50;
/// The greatest length of a list.
const MOST: u32 = 500;
/// The longest error message, in characters.
const LINE: usize = 400;

/// The id in a path. Text that is no id is a 404.
pub struct Id<T>(pub T);

impl<S: Send + Sync, T: FromStr<Err = BadName>> FromRequestParts<S> for Id<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let missing = |why: String| Failure::new(StatusCode::NOT_FOUND, why);
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|_| missing("the path is not valid text".to_owned()))?;
        text.parse()
            .map(Id)
            .map_err(|bad: BadName| missing(bad.to_string()))
    }
}

/// The query. A repeated parameter is a list.
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let text = parts.uri.query().unwrap_or_default();
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(text).map_err(|error| refused("the query", error))?;

        let mut fields = Map::new();
        for (name, value) in pairs {
            match fields.entry(name) {
                Entry::Vacant(empty) => {
                    empty.insert(Value::String(value));
                }
                Entry::Occupied(mut before) => match before.get_mut() {
                    Value::Array(all) => all.push(Value::String(value)),
                    first => *first = Value::Array(vec![first.take(), Value::String(value)]),
                },
            }
        }

        read(fields).map(Query)
    }
}

/// For routes without parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// A JSON object. No body is the same as an empty object.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let is_json = is_json(request.headers());
        // auth has already read it and checked its length.
        let bytes = Bytes::from_request(request, state).await;

        let bytes = bytes
            .map_err(|_| Failure::new(StatusCode::BAD_REQUEST, "the request is incomplete"))?;
        if bytes.is_empty() {
            return read(Map::new()).map(Body);
        }

        if !is_json {
            let message = "the body must be JSON: Content-Type: application/json";
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }

        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => read(fields).map(Body),
            Ok(_) => Err(Failure::unprocessable("the body must be a JSON object")),
            Err(error) => Err(refused("the body is not JSON", error)),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Failure> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        match error.path().to_string().as_str() {
            "." => refused("", error.inner()),
            path => refused(path, error.inner()),
        }
    })
}

/// 422 with one short line, whatever was sent.
fn refused(what: &str, why: impl Display) -> Failure {
    let line = if what.is_empty() {
        why.to_string()
    } else {
        format!("{what}: {why}")
    };

    let line = visible(&line);
    let printable = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    Failure::unprocessable(printable.take(LINE).collect::<String>())
}

pub fn key(headers: &HeaderMap) -> Result<Option<RequestKey>, Failure> {
    let mut all = headers.get_all("idempotency-key").iter();
    let (Some(value), more) = (all.next(), all.next()) else {
        return Ok(None);
    };
    if more.is_some() {
        return Err(Failure::unprocessable(
            "Idempotency-Key: must not be repeated",
        ));
    }

    let text = String::from_utf8_lossy(value.as_bytes());
    text.parse()
        .map(Some)
        .map_err(|bad: BadName| refused("Idempotency-Key", bad))
}

/// Parses a field from its text.
pub fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err = BadName>>(
    from: D,
) -> Result<T, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

/// The same for an optional field.
pub fn parsed_or_none<'de, D: Deserializer<'de>, T: FromStr<Err = BadName>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    parsed(from).map(Some)
}

/// A parameter that may be repeated.
pub fn parsed_list<'de, D: Deserializer<'de>, T: FromStr<Err = BadName>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    let texts = match Value::deserialize(from)? {
        Value::Array(all) => all,
        one => vec![one],
    };

    texts
        .iter()
        .map(|text| {
            text.as_str()
                .unwrap_or_default()
                .parse()
                .map_err(D::Error::custom)
        })
        .collect()
}

/// The most items in a list.
#[derive(Clone, Copy)]
pub struct Limit(u32);

impl Default for Limit {
    fn default() -> Self {
        Self(LIMIT)
    }
}

impl FromStr for Limit {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let number = text
            .parse()
            .ok()
            .filter(|number| (1..=MOST).contains(number));
        let bad = || {
            BadName::new(format!(
                "'{}' is not a limit: a number from 1 to {MOST}",
                shown(text)
            ))
        };

        number.map(Limit).ok_or_else(bad)
    }
}

/// The number of items to skip.
#[derive(Clone, Copy, Default)]
pub struct Offset(u32);

impl FromStr for Offset {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = |_| {
            BadName::new(format!(
                "'{}' is not an offset: a number from 0 on",
                shown(text)
            ))
        };
        text.parse().map(Offset).map_err(bad)
    }
}

/// The part of a list that these select.
pub fn part(limit: Limit, offset: Offset) -> Part {
    Part {
        limit: limit.0,
        offset: offset.0,
    }
}
