//! Packets of A2S, Valve's server queries: builds questions and parses answers. It does no I/O. The
//! format is described at <https://developer.valvesoftware.com/wiki/Server_queries>.
//!
//! Left 4 Dead 2 answers each question first with a challenge, to keep others from using it against
//! a forged address. Long answers are split into pieces.

use std::fmt;

use crate::base::output::printable;
use crate::wire::console::PLAYER_NAME_LIMIT;

/// The four bytes that a question has to repeat.
pub type Challenge = [u8; 4];

const WHOLE: [u8; 4] = [0xff; 4];
const SPLIT: [u8; 4] = [0xfe, 0xff, 0xff, 0xff];
/// Asks for a challenge.
const NONE_YET: Challenge = [0xff; 4];

/// The longest text other than a player's name that is kept, in characters.
const TEXT_LIMIT: usize = 256;
/// More settings than this are not kept. The game has about 100.
const RULES_LIMIT: usize = 2048;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    Info,
    Players,
    Rules,
}

/// An answer of the game. Texts are made visible.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Challenge(Challenge),
    Info(Info),
    Players(Vec<Player>),
    Rules(Vec<(String, String)>),
}

/// The answer to [`Question::Info`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub name: String,
    pub map: String,
    pub game: String,
    /// Bots are among them.
    pub players: u8,
    pub max_players: u8,
    pub bots: u8,
    pub password: bool,
    pub vac: bool,
    pub version: String,
}

/// A row of the answer to [`Question::Players`].
#[derive(Clone, Debug, PartialEq)]
pub struct Player {
    pub name: String,
    pub score: i32,
    /// Since the player connected.
    pub seconds: f32,
}

/// A datagram of the game.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// A whole answer, for [`Answer::parse`].
    Whole(&'a [u8]),
    Piece(Piece<'a>),
}

/// A piece of a long answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The same in all pieces of an answer.
    pub id: u32,
    pub total: u8,
    pub number: u8,
    pub bytes: &'a [u8],
}

/// Why a datagram or an answer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPacket {
    /// It ends within a field.
    Short,
    /// It begins with neither of the two headers.
    Header,
    /// An answer of an unknown kind.
    Kind(u8),
    /// Compressed with bzip2: Left 4 Dead 2 does not do that.
    Compressed,
    /// Pieces that contradict one another, or more than an answer may have.
    Pieces,
    /// More bytes than an answer may have.
    Large,
    /// More datagrams than any answer takes.
    Endless,
    /// A new challenge for each question.
    Challenges,
    /// From a port or an address that was not asked.
    Unasked,
}

impl fmt::Display for BadPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadPacket::Short => f.write_str("it ends too early"),
            BadPacket::Header => f.write_str("it is no A2S packet"),
            BadPacket::Kind(kind) => write!(f, "its kind 0x{kind:02x} is unknown"),
            BadPacket::Compressed => f.write_str("it is compressed"),
            BadPacket::Pieces => f.write_str("its pieces do not fit together"),
            BadPacket::Large => f.write_str("it is too large"),
            BadPacket::Endless => f.write_str("there are too many packets"),
            BadPacket::Challenges => f.write_str("each question is answered with a challenge"),
            BadPacket::Unasked => f.write_str("nobody asked there"),
        }
    }
}

impl Question {
    /// The packet that asks.
    pub fn packet(self, challenge: Option<Challenge>) -> Vec<u8> {
        let mut packet = WHOLE.to_vec();
        match self {
            Question::Info => {
                packet.extend(b"TSource Engine Query\0");
                packet.extend(challenge.into_iter().flatten());
            }
            Question::Players => {
                packet.push(b'U');
                packet.extend(challenge.unwrap_or(NONE_YET));
            }
            Question::Rules => {
                packet.push(b'V');
                packet.extend(challenge.unwrap_or(NONE_YET));
            }
        }
        packet
    }
}

impl<'a> Datagram<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadPacket> {
        let mut rest = Bytes(bytes);
        match rest.array()? {
            WHOLE => Ok(Datagram::Whole(bytes)),
            SPLIT => {
                let id = u32::from_le_bytes(rest.array()?);
                if id & (1 << 31) != 0 {
                    return Err(BadPacket::Compressed);
                }

                let (total, number) = (rest.byte()?, rest.byte()?);
                // The size at which the game splits: its own business.
                rest.array::<2>()?;
                Ok(Datagram::Piece(Piece {
                    id,
                    total,
                    number,
                    bytes: rest.0,
                }))
            }
            _ => Err(BadPacket::Header),
        }
    }
}

impl Answer {
    /// Parses a whole answer, with its header.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadPacket> {
        let mut rest = Bytes(bytes);
        if rest.array()? != WHOLE {
            return Err(BadPacket::Header);
        }

        match rest.byte()? {
            b'A' => Ok(Answer::Challenge(rest.array()?)),
            b'I' => rest.info().map(Answer::Info),
            b'D' => rest.players().map(Answer::Players),
            b'E' => rest.rules().map(Answer::Rules),
            kind => Err(BadPacket::Kind(kind)),
        }
    }

    /// Whether this answers `question`.
    pub fn is_to(&self, question: Question) -> bool {
        matches!(
            (self, question),
            (Answer::Info(_), Question::Info)
                | (Answer::Players(_), Question::Players)
                | (Answer::Rules(_), Question::Rules)
        )
    }
}

/// What is left to parse.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadPacket> {
        let (array, rest) = self.0.split_first_chunk().ok_or(BadPacket::Short)?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, BadPacket> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A text that a NUL ends, at most `limit` characters of it.
    fn text(&mut self, limit: usize) -> Result<String, BadPacket> {
        let end = self.0.iter().position(|&byte| byte == 0);
        let end = end.ok_or(BadPacket::Short)?;
        let text = String::from_utf8_lossy(&self.0[..end]);
        let text = printable(&text).replace('\t', " ");
        self.0 = &self.0[end + 1..];
        Ok(text.chars().take(limit).collect())
    }

    fn info(&mut self) -> Result<Info, BadPacket> {
        let _protocol = self.byte()?;
        let (name, map) = (self.text(TEXT_LIMIT)?, self.text(TEXT_LIMIT)?);
        let _folder = self.text(TEXT_LIMIT)?;
        let game = self.text(TEXT_LIMIT)?;
        let _app: [u8; 2] = self.array()?;
        let [players, max_players, bots, _kind, _system, password, vac] = self.array()?;

        // What follows the version (port, SteamID, keywords) is of no use here.
        let version = self.text(TEXT_LIMIT)?;
        Ok(Info {
            name,
            map,
            game,
            players,
            max_players,
            bots,
            password: password != 0,
            vac: vac != 0,
            version,
        })
    }

    /// The count says how many rows there are at most: a game may send fewer.
    fn players(&mut self) -> Result<Vec<Player>, BadPacket> {
        let count = self.byte()?;
        let mut players = Vec::new();
        while players.len() < usize::from(count) && !self.0.is_empty() {
            let _index = self.byte()?;
            players.push(Player {
                name: self.text(PLAYER_NAME_LIMIT)?,
                score: i32::from_le_bytes(self.array()?),
                seconds: f32::from_le_bytes(self.array()?),
            });
        }
        Ok(players)
    }

    /// As for the players, the count is a maximum.
    fn rules(&mut self) -> Result<Vec<(String, String)>, BadPacket> {
        let count = usize::from(u16::from_le_bytes(self.array()?));
        let mut rules = Vec::new();
        while rules.len() < count.min(RULES_LIMIT) && !self.0.is_empty() {
            rules.push((self.text(TEXT_LIMIT)?, self.text(TEXT_LIMIT)?));
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests;
