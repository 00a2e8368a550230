//! The output of the game's command `status`: who plays, with the numbers that kicks and bans need.
//!
//! ```text
//! map     : c2m1_highway
//! players : 2 humans, 1 bots (12 max) (not hibernating) (unreserved)
//!
//! # userid name uniqueid connected ping loss state rate adr
//! # 26 1 "name" STEAM_1:0:12345 05:40 99 0 active 30000 192.0.2.4:27005
//! #27 "Coach" BOT active
//! #end
//! ```
//!
//! The forms are those of published outputs of Left 4 Dead 2 and its siblings. A name may hold
//! quotes, spaces and whole rows as text. So a row is read from its end: no field after the name
//! can hold a quote, and each has a strict form. A name with a line break, which the engine does
//! not allow, would leave a row without its end; nothing after such a row is believed.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::base::names::{BadName, shown};
use crate::base::visible;

/// A Steam account, as `STEAM_1:Y:Z`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SteamId {
    low: u8,
    high: u32,
}

impl fmt::Display for SteamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "STEAM_1:{}:{}", self.low, self.high)
    }
}

impl Serialize for SteamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for SteamId {
    type Err = BadName;

    /// Takes `STEAM_X:Y:Z`, where X says nothing about the account (the game itself writes 1), and
    /// `[U:1:N]`.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || {
            BadName::new(format!(
                "'{}' is no Steam ID: STEAM_1:0:12345 or [U:1:24690] is needed",
                shown(text)
            ))
        };

        let upper = text.to_ascii_uppercase();
        if let Some(number) = upper
            .strip_prefix("[U:1:")
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let number = digits(number).ok_or_else(bad)?;
            return Ok(Self {
                low: u8::from(number % 2 == 1),
                high: number / 2,
            });
        }

        let mut parts = upper.strip_prefix("STEAM_").ok_or_else(bad)?.split(':');
        let mut part = || parts.next().and_then(digits);
        let (universe, low, high) = (part(), part(), part());
        match (universe, low, high, parts.next()) {
            (Some(0..=5), Some(low @ 0..=1), Some(high), None) if high <= u32::MAX / 2 => {
                Ok(Self {
                    low: u8::from(low == 1),
                    high,
                })
            }
            _ => Err(bad()),
        }
    }
}

/// A player in the output of `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The number that kicks use. No other player gets it while the game runs.
    pub user_id: u32,
    /// As the game has it: escape it for output.
    pub name: String,
    /// None for a bot, and while Steam has not confirmed the account.
    pub steam_id: Option<SteamId>,
    pub is_bot: bool,
    /// Seconds since the player connected; none for a bot.
    pub connected: Option<u32>,
    /// Milliseconds; none for a bot.
    pub ping: Option<u32>,
    /// `active`, `spawning`, `connecting`, …
    pub state: String,
}

/// The output of `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub map: Option<String>,
    /// The number of people; none when the line is missing.
    pub humans: Option<u32>,
    pub bots: Option<u32>,
    pub rows: Vec<Row>,
}

impl Status {
    /// Reads the output. None if it is no output of `status`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut status = Self::default();
        let (mut has_table, mut is_broken) = (false, false);
        for line in text.lines() {
            let line = line.trim();
            if let Some(row) = line.strip_prefix('#') {
                let row = row.trim_start();
                if row.starts_with("end") {
                    break;
                }

                has_table |= row.starts_with("userid");
                match parse_row(row) {
                    _ if is_broken => {}
                    Line::Row(row) => status.rows.push(row),
                    Line::Unfinished => is_broken = true,
                    Line::Other => {}
                }
            } else if !has_table && let Some((key, value)) = line.split_once(':') {
                status.heading(key.trim(), value.trim());
            }
        }

        (has_table || status.humans.is_some()).then_some(status)
    }

    fn heading(&mut self, key: &str, value: &str) {
        match key {
            "map" => {
                let map = value.split([' ', '\t']).next();
                self.map = map.filter(|map| !map.is_empty()).map(str::to_owned);
            }
            "players" => {
                let count = |what: &str| {
                    let (number, _) = value.split_once(what)?;
                    digits(number.rsplit([' ', '\t']).next()?)
                };
                (self.humans, self.bots) = (count(" humans"), count(" bots"));
            }
            _ => {}
        }
    }

    /// The player that `who` means.
    ///
    /// Fails with 3 when nobody fits, or several do.
    pub fn find(&self, who: &Who) -> Result<&Row, NoSuchPlayer> {
        let fits = |exactly: bool| {
            self.rows.iter().filter(move |row| match who {
                Who::UserId(id) => row.user_id == *id,
                Who::Steam(id) => row.steam_id.as_ref() == Some(id),
                Who::Name(name) if exactly => row.name == *name,
                Who::Name(name) => visible_name(&row.name) == visible_name(name),
            })
        };

        let exact: Vec<&Row> = fits(true).collect();
        let found = if exact.is_empty() {
            fits(false).collect()
        } else {
            exact
        };

        match found.as_slice() {
            [] => Err(NoSuchPlayer::None),
            [row] => Ok(row),
            several => Err(NoSuchPlayer::Several(
                several.iter().map(|row| row.user_id).collect(),
            )),
        }
    }
}

/// A name as people see and type it.
fn visible_name(name: &str) -> String {
    visible::visible(name.trim()).to_lowercase()
}

/// Why no player was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSuchPlayer {
    None,
    /// More than one has the name; their user ids.
    Several(Vec<u32>),
}

/// How people name a player: `#12` by user id, a Steam ID, else a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    UserId(u32),
    Steam(SteamId),
    Name(String),
}

impl FromStr for Who {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if let Some(id) = text.strip_prefix('#').and_then(digits) {
            return Ok(Self::UserId(id));
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Steam(id));
        }
        if text.trim().is_empty() {
            return Err(BadName::new(
                "a player is needed: a name, #NUMBER or STEAM_1:0:12345".to_owned(),
            ));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserId(id) => write!(f, "#{id}"),
            Self::Steam(id) => id.fmt(f),
            Self::Name(name) => write!(f, "'{}'", shown(name)),
        }
    }
}

/// What a line that begins with `#` is.
enum Line {
    Row(Row),
    /// It begins as a row, and its end is missing.
    Unfinished,
    Other,
}

/// Reads a row without its `#`.
fn parse_row(line: &str) -> Line {
    let Some((front, rest)) = line.split_once('"') else {
        return Line::Other;
    };
    let Some(user_id) = numbers(front) else {
        return Line::Other;
    };
    // No field after the name has a quote.
    let Some((name, tail)) = rest.rsplit_once('"') else {
        return Line::Unfinished;
    };

    let tail: Vec<&str> = tail.split_whitespace().collect();
    let row = |steam_id, connected, ping: Option<u32>, state: &str| {
        Line::Row(Row {
            user_id,
            name: name.to_owned(),
            steam_id,
            is_bot: ping.is_none(),
            connected,
            ping,
            state: state.to_owned(),
        })
    };

    match tail.as_slice() {
        ["BOT", state] if is_state(state) => row(None, None, None, state),
        ["BOT", state, rate] if is_state(state) && digits(rate).is_some() => {
            row(None, None, None, state)
        }
        [id, connected, ping, loss, state, end @ ..]
            if is_state(state) && digits(loss).is_some() && is_end(end) =>
        {
            match (unique_id(id), seconds(connected), digits(ping)) {
                (Some(id), Some(connected), Some(ping)) => {
                    row(id, Some(connected), Some(ping), state)
                }
                _ => Line::Unfinished,
            }
        }
        _ => Line::Unfinished,
    }
}

/// The user id in front of a name, alone or followed by the entity's number.
fn numbers(front: &str) -> Option<u32> {
    let mut words = front.split_whitespace();
    let user_id = digits(words.next()?)?;
    let entity_fits = words.next().is_none_or(|word| digits(word).is_some());
    (entity_fits && words.next().is_none()).then_some(user_id)
}

/// The rate and the address; either can be missing.
fn is_end(end: &[&str]) -> bool {
    let is_rate = |word: &str| digits(word).is_some();
    let is_address = |word: &str| {
        word == "loopback"
            || word.contains([':', '.'])
                && word
                    .bytes()
                    .all(|b| b.is_ascii_hexdigit() || b".:[]*".contains(&b))
    };

    match end {
        [] => true,
        [one] => is_rate(one) || is_address(one),
        [rate, address] => is_rate(rate) && is_address(address),
        _ => false,
    }
}

/// The Steam account of a row; the inner none for an account that is not known (yet).
fn unique_id(word: &str) -> Option<Option<SteamId>> {
    match word.parse() {
        Ok(id) => Some(Some(id)),
        Err(_) => ["STEAM_ID_LAN", "STEAM_ID_PENDING", "UNKNOWN"]
            .contains(&word)
            .then_some(None),
    }
}

fn is_state(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())
}

/// `MM:SS` or `H:MM:SS`.
fn seconds(text: &str) -> Option<u32> {
    let parts: Vec<u32> = text.split(':').map(digits).collect::<Option<_>>()?;
    if !(2..=3).contains(&parts.len()) {
        return None;
    }

    parts
        .iter()
        .try_fold(0_u32, |sum, part| sum.checked_mul(60)?.checked_add(*part))
}

/// A number of digits only.
fn digits(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
