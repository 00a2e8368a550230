//! Packets of Source RCON: builds requests and splits what a game sends. It does no I/O. The format
//! is described at <https://developer.valvesoftware.com/wiki/Source_RCON_Protocol>.

use std::fmt;

/// What a packet is. In requests 2 is a command, in answers the result of a login.
pub const LOGIN: i32 = 3;
pub const COMMAND: i32 = 2;
pub const LOGIN_RESULT: i32 = 2;
pub const RESPONSE: i32 = 0;

/// Id and kind, and the two NUL bytes at the end.
const FRAME: usize = 10;

/// The largest packet that is read, in bytes without its size. The game's have at most 4,096 and a
/// few.
const LARGEST: usize = 16 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub id: i32,
    pub kind: i32,
    /// Without the NUL bytes at its end.
    pub body: Vec<u8>,
}

/// The size of a packet that no game sends, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSize(pub i32);

impl fmt::Display for BadSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a packet of {} bytes", self.0)
    }
}

/// Builds a packet. `body` has no NUL.
pub fn build(id: i32, kind: i32, body: &[u8]) -> Vec<u8> {
    // A body is a command of at most 500 bytes, or a password.
    let size = i32::try_from(body.len() + FRAME).unwrap_or(i32::MAX);
    let mut packet = Vec::with_capacity(body.len() + FRAME + 4);
    packet.extend(size.to_le_bytes());
    packet.extend(id.to_le_bytes());
    packet.extend(kind.to_le_bytes());
    packet.extend(body);
    packet.extend([0, 0]);
    packet
}

/// The bytes of a connection that are no whole packet yet. It holds one packet and what is given to
/// it at once.
#[derive(Debug, Default)]
pub struct Packets {
    bytes: Vec<u8>,
    start: usize,
}

impl Packets {
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet; `None` when more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Packet>, BadSize> {
        let rest = &self.bytes[self.start..];
        let Some((size, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };

        let size = i32::from_le_bytes(*size);
        let Some(length) = usize::try_from(size)
            .ok()
            .filter(|length| (FRAME..=LARGEST).contains(length))
        else {
            return Err(BadSize(size));
        };
        let Some(packet) = rest.get(..length) else {
            return Ok(None);
        };

        self.start += 4 + length;
        Ok(parse(packet))
    }
}

/// `packet` has at least the bytes of a frame.
fn parse(packet: &[u8]) -> Option<Packet> {
    let (id, rest) = packet.split_first_chunk()?;
    let (kind, body) = rest.split_first_chunk()?;
    let body = body.strip_suffix(&[0]).unwrap_or(body);
    let body = body.strip_suffix(&[0]).unwrap_or(body);
    Some(Packet {
        id: i32::from_le_bytes(*id),
        kind: i32::from_le_bytes(*kind),
        body: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Result<Vec<Packet>, BadSize> {
        let (mut packets, mut found) = (Packets::default(), Vec::new());
        packets.add(bytes);
        while let Some(packet) = packets.next()? {
            found.push(packet);
        }
        Ok(found)
    }

    /// The example of Valve's page: a login with the password `passwrd`, and its two answers.
    #[test]
    fn the_published_login_is_built_and_its_answers_are_parsed() {
        let login = b"\x11\0\0\0\0\0\0\0\x03\0\0\0passwrd\0\0";
        assert_eq!(build(0, LOGIN, b"passwrd"), login);

        let answers = b"\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\x02\0\0\0\0\0";
        let answer = |kind| Packet {
            id: 0,
            kind,
            body: Vec::new(),
        };
        assert_eq!(
            all(answers).unwrap(),
            [answer(RESPONSE), answer(LOGIN_RESULT)]
        );
    }

    #[test]
    fn sizes_that_no_game_sends_are_refused_at_once() {
        for size in [i32::MAX, i32::MIN, -1, 0, 3, 9, 16 * 1024 + 1] {
            assert_eq!(all(&size.to_le_bytes()), Err(BadSize(size)));
        }
        assert_eq!(all(&10_i32.to_le_bytes()), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn packets_survive_any_split(
            sent in prop::collection::vec((any::<i32>(), any::<i32>(), "[^\0]{0,300}"), 0..8),
            step in 1..40_usize,
        ) {
            let stream: Vec<u8> = sent.iter()
                .flat_map(|(id, kind, body)| build(*id, *kind, body.as_bytes()))
                .collect();

            let (mut packets, mut found) = (Packets::default(), Vec::new());
            for piece in stream.chunks(step) {
                packets.add(piece);
                while let Some(packet) = packets.next().unwrap() {
                    found.push((packet.id, packet.kind, String::from_utf8(packet.body).unwrap()));
                }
            }
            prop_assert_eq!(found, sent);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_within_bounds(
            bytes in prop::collection::vec(any::<u8>(), 0..600)
        ) {
            if let Ok(found) = all(&bytes) {
                let size: usize = found.iter().map(|packet| packet.body.len()).sum();
                prop_assert!(size <= bytes.len());
            }
        }
    }
}
