//! Types for names and ids from outside. Each type is the only parser of its text. After parsing,
//! the code passes a `ServerId`, a `JobId` or an `OverlayName`, never a plain `String`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::free_text::{is_free_text, is_no_id};
use super::visible;

pub use super::free_text::normal;

/// Why a text was refused: one line, without the program's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadName(String);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadName {}

impl BadName {
    /// A refusal with this message.
    pub fn new(message: String) -> Self {
        Self(message)
    }
}

impl From<BadName> for crate::base::Error {
    fn from(bad: BadName) -> Self {
        crate::base::Error::usage(bad.0)
    }
}

/// A refused text, safe for an error message: at most 40 characters, with invisible and control
/// characters escaped.
pub fn shown(text: &str) -> String {
    let begin: String = text.chars().take(40).collect();
    let mut out = String::with_capacity(begin.len());
    for c in visible::visible(&begin).chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }

    if text.chars().nth(40).is_some() {
        out.push('…');
    }

    out
}

macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(minimum = 1, maximum = 999_999_999_999_999_999_i64)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                let digits = !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
                match text.parse() {
                    Ok(id) if digits && id > 0 => Ok(Self(id)),
                    _ => Err(BadName(format!("'{}' is not a {} id: a positive number is needed", shown(text), $what))),
                }
            }
        }
    };
}

row_id!(
    /// `servers.id`; also the instance of its units.
    ServerId, "server");
row_id!(
    /// `jobs.id`; grows with time, so it also orders jobs.
    JobId, "job");
row_id!(TaskId, "task");
row_id!(CancellationId, "cancellation");
row_id!(UserId, "user");
row_id!(
    /// `overlays.id`.
    OverlayId, "overlay");
row_id!(BlueprintId, "blueprint");
row_id!(TokenId, "token");
row_id!(AlertId, "alert");
row_id!(
    /// `schedules.id`; also the instance of its timer.
    ScheduleId, "schedule");

/// Text in any script, in its [`normal`] form.
macro_rules! free_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $also:expr) => {
        name_type!($(#[$doc])* $name);

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                let also: fn(&str) -> bool = $also;
                let name = normal(text);
                if is_free_text(text) && also(&name) {
                    Ok(Self(name))
                } else {
                    Err(BadName(format!("'{}' is not a valid {}: {}", shown(text), $what, $rule)))
                }
            }
        }
    };
}

/// Text that is checked but not changed.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        name_type!($(#[$doc])* $name);

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName(format!("'{}' is not a valid {}: {}", shown(text), $what, $rule)))
                }
            }
        }
    };
}

/// What all name types have in common.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

checked_name!(
    /// A host's name in its fleet.
    FleetHost, "host name", "lower-case letters, digits and '-', at most 32, \
                             a letter or digit first and last",
    |text| slug(text, 32, |b| b.is_ascii_lowercase() || b.is_ascii_digit(), b"-") && !text.ends_with('-'));
checked_name!(
    /// The instance of `left4me-server@…`: a server's id, or a name given to `l4d2ctl`.
    InstanceName, "instance name", "lower-case letters, digits, '-' and '_', \
                                    at most 64, a letter or digit first",
    |text| slug(text, 64, |b| b.is_ascii_lowercase() || b.is_ascii_digit(), b"_-"));
checked_name!(
    /// An overlay in the catalog.
    OverlayName, "overlay name", "letters, digits, '.', '-' and '_', \
                                  at most 64, a letter or digit first",
    |text| slug(text, 64, |b| b.is_ascii_alphanumeric(), b"._-") && !text.contains(".."));
checked_name!(
    /// A path below `overlays/`, as `left4me overlay add --path` takes it: `name` or `folder/name`.
    OverlayRef, "overlay path",
    "folders below the overlays directory, separated by '/', \
     without '..', ':' or ',', at most 255 characters",
    overlay_ref);
free_text!(
    /// The name of a local account: free text, used to sign in.
    UserName, "user name", "1 to 64 characters, none of them invisible or a control character; no \
                           '-' first, no '..' as in a path",
    |text| !text.bytes().all(|b| b == b'.'));
free_text!(
    /// A server's display name: free text, unique per user.
    ServerName, "server name",
    "1 to 64 characters, none of them invisible or a control character; \
     no '-' first, no '..' as in a path, not only digits",
    is_no_id);
free_text!(
    /// A blueprint's display name: free text, unique per user.
    BlueprintName, "blueprint name",
    "1 to 64 characters, none of them invisible or a control character; \
     no '-' first, no '..' as in a path, not only digits",
    is_no_id);
free_text!(
    /// What a token is for: free text of its owner.
    TokenName, "token name",
    "1 to 64 characters, none of them invisible or a control character; \
     no '-' first, no '..' as in a path",
    |_| true);

free_text!(
    /// The name of an alert: free text, unique.
    AlertName, "alert name",
    "1 to 64 characters, none of them invisible or a control character; \
     no '-' first, no '..' as in a path",
    |_| true);

checked_name!(
    /// Identifies repeated requests as the same request. Chosen by the client, per user.
    RequestKey, "idempotency key", "1 to 200 letters, digits, '.', '-' and '_'",
    |text| slug(text, 200, |b| b.is_ascii_alphanumeric() || b"._-".contains(&b), b""));
row_id!(SessionId, "session");
checked_name!(
    /// A position in the journal, as journald writes it: `s=…;i=…;b=…;m=…;t=…;x=…`.
    Cursor, "journal cursor", "s=, i=, b=, m=, t= and x= with hexadecimal digits, \
                               as the journal gives it",
    cursor);

/// A reference to a server, `ID|NAME`. Digits are an id, so no display name consists only of
/// digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerRef {
    Id(ServerId),
    /// By its display name, which is unique only per user.
    Name(ServerName),
}

/// A reference to a blueprint, `ID|NAME`, as [`ServerRef`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlueprintRef {
    Id(BlueprintId),
    /// By its display name, which is unique only per user.
    Name(BlueprintName),
}

macro_rules! id_or_name {
    ($reference:ident) => {
        impl FromStr for $reference {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
                    text.parse().map(Self::Id)
                } else {
                    text.parse().map(Self::Name)
                }
            }
        }

        impl fmt::Display for $reference {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Id(id) => id.fmt(f),
                    Self::Name(name) => name.fmt(f),
                }
            }
        }
    };
}

id_or_name!(ServerRef);
id_or_name!(BlueprintRef);

impl From<ServerId> for InstanceName {
    fn from(id: ServerId) -> Self {
        Self(id.to_string())
    }
}

/// The unit of a server: `left4me-server@INSTANCE.service`.
pub fn server_unit(instance: impl fmt::Display) -> String {
    format!("left4me-server@{instance}.service")
}

/// The unit that empties a server's upper layer: `left4me-purge@INSTANCE.service`.
pub fn purge_unit(instance: impl fmt::Display) -> String {
    format!("left4me-purge@{instance}.service")
}

/// The unit that finds the stale files of a server: `left4me-stale@INSTANCE.service`.
pub fn stale_unit(instance: impl fmt::Display) -> String {
    format!("left4me-stale@{instance}.service")
}

/// The unit that drops the stale files of a server: `left4me-purge-stale@INSTANCE.service`.
pub fn purge_stale_unit(instance: impl fmt::Display) -> String {
    format!("left4me-purge-stale@{instance}.service")
}

/// The unit that mounts the layers of a server: `left4me-overlay@INSTANCE.service`.
pub fn overlay_unit(instance: impl fmt::Display) -> String {
    format!("left4me-overlay@{instance}.service")
}

/// The timer of a schedule: `left4me-schedule@ID.timer`. It starts the service of the same name.
pub fn schedule_timer(id: ScheduleId) -> String {
    format!("left4me-schedule@{id}.timer")
}

/// The schedule in the name of a timer. None for other units.
pub fn timer_schedule(unit: &str) -> Option<ScheduleId> {
    unit.strip_prefix("left4me-schedule@")?
        .strip_suffix(".timer")?
        .parse()
        .ok()
}

/// The instance in the name of an overlay's unit.
pub fn overlay_instance(unit: &str) -> Option<&str> {
    unit.strip_prefix("left4me-overlay@")?
        .strip_suffix(".service")
        .filter(|instance| !instance.is_empty())
}

/// The instance in the name of a server's unit. None for other units and for the template.
pub fn server_instance(unit: &str) -> Option<&str> {
    unit.strip_prefix("left4me-server@")?
        .strip_suffix(".service")
        .filter(|instance| !instance.is_empty())
}

/// Whether `text` has 1 to `most` bytes, the first of which passes `first`, and the others pass it
/// or are in `also`.
fn slug(text: &str, most: usize, first: fn(u8) -> bool, also: &[u8]) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= most
        && first(bytes[0])
        && bytes.iter().all(|&b| first(b) || also.contains(&b))
}

fn overlay_ref(text: &str) -> bool {
    text.len() <= 255
        && text.split('/').all(|part| {
            slug(part, 255, |b| b.is_ascii_alphanumeric(), b"._-+@") && !part.contains("..")
        })
}

/// Whether `text` has exactly the six fields in journald's order: two 128-bit ids and four 64-bit
/// numbers.
fn cursor(text: &str) -> bool {
    let hex = |digits: &str| {
        digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };

    let mut parts = text.split(';');
    let mut fields = [
        ("s=", 32..=32),
        ("i=", 1..=16),
        ("b=", 32..=32),
        ("m=", 1..=16),
        ("t=", 1..=16),
        ("x=", 1..=16),
    ]
    .into_iter();

    fields.all(|(name, lengths)| {
        let digits = parts.next().and_then(|part| part.strip_prefix(name));
        digits.is_some_and(|digits| lengths.contains(&digits.len()) && hex(digits))
    }) && parts.next().is_none()
}

#[cfg(test)]
mod tests;
