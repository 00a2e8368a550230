//! A2S: <https://developer.valvesoftware.com/wiki/Server_queries>.
//!
//! Each kind of query wants a challenge, which is the asker's address's own and changes. What comes
//! while the game loads a map waits in the socket and is answered afterwards.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::controls;
use crate::game::{Game, Shared};

pub const SIMPLE: &[u8] = b"\xff\xff\xff\xff";
pub const INFO_REQUEST: &[u8] = b"\xff\xff\xff\xffTSource Engine Query\0";
const SPLIT: &[u8] = b"\xfe\xff\xff\xff";

/// A longer packet is split (`MAX_ROUTABLE_PAYLOAD`).
const LONGEST: usize = 1260;
/// What each part of it carries, without its header of 12 bytes.
const PART: usize = 1248;

/// So long a challenge is given out; the one before it is accepted too.
const CHALLENGE_AGE: Duration = Duration::from_secs(30);

const PROTOCOL: u8 = 17;
const APP_ID: u16 = 550;
/// Of an anonymous server.
const STEAM_ID: u64 = 90_167_827_942_855_688;

/// Extra data flags: port, Steam id, SourceTV, keywords, game id.
const PORT: u8 = 0x80;
const STEAM: u8 = 0x10;
const TV: u8 = 0x40;
const KEYWORDS: u8 = 0x20;
const GAME_ID: u8 = 0x01;

pub fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut packet = [0_u8; 1400];
    let (challenges, mut rates) = (Challenges::new(), Rates::default());
    let mut answers = 0_u32;
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut packet) else {
            continue;
        };
        // It is not read late but never: the plugin that hangs has the game's only thread.
        if controls::has_fault("hang") {
            continue;
        }

        let mut game = shared.when_free();
        if is_silent(&mut game, &peer, &mut rates) {
            continue;
        }
        let Some(reply) = answer(&packet[..len], &peer, &game, &challenges) else {
            continue;
        };
        drop(game);

        answers += 1;
        for part in parts(&reply, answers) {
            let _ = socket.send_to(&part, peer);
        }
    }
}

fn is_silent(game: &mut Game, peer: &SocketAddr, rates: &mut Rates) -> bool {
    let is_unlisted = game.has_option("-insecure") || game.has_option("-nomaster");
    is_unlisted && controls::is_there("silent-insecure")
        || peer.ip().is_loopback() && controls::is_there("silent-loopback")
        || game.bans.is_address_banned(peer.ip())
        || rates.is_over(peer.ip(), game)
}

// ---- challenges and rates ---------------------------------------------------------------------

struct Challenges {
    secret: RandomState,
    since: Instant,
}

impl Challenges {
    fn new() -> Self {
        Self {
            secret: RandomState::new(),
            since: Instant::now(),
        }
    }

    fn period(&self) -> u64 {
        self.since.elapsed().as_secs() / CHALLENGE_AGE.as_secs()
    }

    fn of(&self, address: IpAddr, period: u64) -> [u8; 4] {
        let hash = self.secret.hash_one((address, period)).to_le_bytes();
        // Never ff ff ff ff, which asks for one.
        [hash[0], hash[1], hash[2], hash[3] & 0x7f]
    }

    fn accepts(&self, challenge: &[u8], address: IpAddr) -> bool {
        let now = self.period();
        [Some(now), now.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|period| challenge == self.of(address, period))
    }
}

/// Queries answered in the present window: of each address, and of all.
#[derive(Default)]
struct Rates {
    of: HashMap<Option<IpAddr>, (Instant, f64)>,
}

impl Rates {
    /// `sv_max_queries_sec` is an average over `sv_max_queries_window` seconds: many at once are
    /// answered, and then none until the window ends. Each packet counts, a challenge's too.
    fn is_over(&mut self, address: IpAddr, game: &Game) -> bool {
        let window = game.cvars.number("sv_max_queries_window").max(1.0);
        let limits = [
            (Some(address), "sv_max_queries_sec"),
            (None, "sv_max_queries_sec_global"),
        ];
        let is_over = |(whose, cvar)| {
            let (since, count) = self
                .of
                .entry(whose)
                .or_insert_with(|| (Instant::now(), 0.0));
            if since.elapsed().as_secs_f64() > window {
                (*since, *count) = (Instant::now(), 0.0);
            }
            *count += 1.0;
            *count / window > game.cvars.number(cvar)
        };
        limits.map(is_over).contains(&true)
    }
}

// ---- answers ----------------------------------------------------------------------------------

fn answer(
    packet: &[u8],
    peer: &SocketAddr,
    game: &Game,
    challenges: &Challenges,
) -> Option<Vec<u8>> {
    let (kind, challenge) = match packet.strip_prefix(INFO_REQUEST) {
        Some(rest) => (b'T', rest),
        // The old A2S_SERVERQUERY_GETCHALLENGE (0x57) is none of them.
        None => match packet.strip_prefix(SIMPLE)? {
            [kind @ (b'U' | b'V'), rest @ ..] => (*kind, rest),
            _ => return None,
        },
    };

    let mut reply = SIMPLE.to_vec();
    let given = challenge.get(..4).unwrap_or_default();
    if !challenges.accepts(given, peer.ip()) {
        reply.push(b'A');
        reply.extend(challenges.of(peer.ip(), challenges.period()));
        return Some(reply);
    }

    match kind {
        b'T' => info(&mut reply, game),
        b'U' => players(&mut reply, game),
        _ => rules(&mut reply, game),
    }
    Some(reply)
}

fn text(reply: &mut Vec<u8>, text: &[u8]) {
    reply.extend(text);
    reply.push(0);
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn info(reply: &mut Vec<u8>, game: &Game) {
    reply.extend([b'I', PROTOCOL]);
    text(reply, game.cvars.value("hostname"));
    text(reply, game.map.as_bytes());
    text(reply, crate::GAME.as_bytes());
    text(reply, b"Left 4 Dead 2");
    reply.extend(APP_ID.to_le_bytes());

    let visible = game.cvars.number("sv_visiblemaxplayers");
    let max = if visible >= 1.0 {
        visible as usize
    } else {
        game.max_players()
    };
    reply.extend([byte(game.players.len()), byte(max), byte(game.bots())]);
    // Dedicated, Linux.
    reply.extend(b"dl");
    let is_locked = !game.cvars.value("sv_password").is_empty();
    reply.extend([u8::from(is_locked), u8::from(!game.is_insecure())]);
    text(reply, game.version.as_bytes());

    let has_tv = game.cvars.is_on("tv_enable");
    let tv = if has_tv { TV } else { 0 };
    reply.push(PORT | STEAM | tv | KEYWORDS | GAME_ID);
    let port = game.address.1;
    reply.extend(port.to_le_bytes());
    reply.extend((STEAM_ID + u64::from(port)).to_le_bytes());
    if has_tv {
        let tv_port = game.cvars.number("tv_port") as u16;
        reply.extend(tv_port.to_le_bytes());
        text(reply, game.cvars.value("tv_name"));
    }

    let empty = if game.humans() == 0 { "empty," } else { "" };
    let secure = if game.is_insecure() {
        "insecure"
    } else {
        "secure"
    };
    let mode = game.cvars.text("mp_gamemode");
    text(reply, format!("{mode},{empty}{secure}").as_bytes());
    reply.extend(u64::from(APP_ID).to_le_bytes());
}

fn players(reply: &mut Vec<u8>, game: &Game) {
    reply.extend([b'D', byte(game.players.len())]);
    for player in &game.players {
        // An index that is always 0.
        reply.push(0);
        text(reply, &player.name);
        reply.extend(player.score.to_le_bytes());
        reply.extend(player.since.elapsed().as_secs_f32().to_le_bytes());
    }
}

fn rules(reply: &mut Vec<u8>, game: &Game) {
    let rules = game.cvars.rules();
    reply.push(b'E');
    reply.extend(u16::try_from(rules.len()).unwrap_or(u16::MAX).to_le_bytes());
    for (name, value) in rules {
        text(reply, name.as_bytes());
        text(reply, value);
    }
}

/// The packets of an answer: itself, or parts that say how many they are. The last comes first, as
/// packets may.
fn parts(reply: &[u8], id: u32) -> Vec<Vec<u8>> {
    if reply.len() <= LONGEST {
        return vec![reply.to_vec()];
    }

    let parts = reply.chunks(PART);
    let total = byte(parts.len());
    let part = |(at, part): (usize, &[u8])| {
        let size = u16::try_from(PART).unwrap_or_default().to_le_bytes();
        [SPLIT, &id.to_le_bytes(), &[total, byte(at)], &size, part].concat()
    };
    parts.enumerate().map(part).rev().collect()
}
