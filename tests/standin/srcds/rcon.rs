//! RCON: <https://developer.valvesoftware.com/wiki/Source_RCON_Protocol>.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::bans::Limits;
use crate::game::{Game, Shared};
use crate::say;

const AUTH: i32 = 3;
const EXECCOMMAND: i32 = 2;
const AUTH_RESPONSE: i32 = 2;
const RESPONSE_VALUE: i32 = 0;

/// What `size` counts besides the body: id, type, two NULs.
const AROUND: usize = 10;
/// The most that `size` may say, in both directions. So a body has at most 4,086 bytes.
const LARGEST: usize = 4096;

/// What follows the mirrored packet, between type and the two NULs. The wiki's "0000 0001 0000
/// 0000" are these with two bytes of the type before them and the NULs behind.
const AFTER_MIRROR: &[u8] = &[0, 1, 0, 0];

const REFUSED: i32 = -1;

struct Packet {
    id: i32,
    kind: i32,
    body: Vec<u8>,
}

pub fn serve(listener: &TcpListener, shared: &Shared) {
    loop {
        let Ok((stream, peer)) = listener.accept() else {
            continue;
        };
        let shared = shared.clone();
        thread::spawn(move || {
            // Who went away is not the game's concern.
            let _ = talk(stream, peer, &shared);
            shared.lock().authenticated.retain(|(own, _)| *own != peer);
        });
    }
}

/// One connection. No password, or a ban, and it is closed at once.
fn talk(mut stream: TcpStream, peer: SocketAddr, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if !accepts(&mut shared.when_free(), peer.ip()) {
        return Ok(());
    }

    while let Some(packet) = next(&mut stream)? {
        let mut game = shared.when_free();
        let is_in = |game: &Game| game.authenticated.iter().any(|(own, _)| *own == peer);
        match packet.kind {
            AUTH => {
                authenticate(&mut game, &packet, peer, &stream)?;
                let id = if is_in(&game) { packet.id } else { REFUSED };
                let is_banned = !accepts(&mut game, peer.ip());
                drop(game);
                send(&mut stream, packet.id, RESPONSE_VALUE, b"")?;
                send(&mut stream, id, AUTH_RESPONSE, b"")?;
                if is_banned {
                    return Ok(());
                }
            }
            _ if !is_in(&game) => {
                drop(game);
                send(&mut stream, REFUSED, AUTH_RESPONSE, b"")?;
            }
            EXECCOMMAND => {
                let text = game.answer(&packet.body, &peer.to_string());
                let is_closed = !is_in(&game);
                drop(game);
                if is_closed {
                    return Ok(());
                }
                send(&mut stream, packet.id, RESPONSE_VALUE, &text)?;
            }
            RESPONSE_VALUE => {
                drop(game);
                send(&mut stream, packet.id, RESPONSE_VALUE, b"")?;
                send(&mut stream, packet.id, RESPONSE_VALUE, AFTER_MIRROR)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn accepts(game: &mut Game, address: IpAddr) -> bool {
    !game.cvars.value("rcon_password").is_empty() && !game.bans.is_address_banned(address)
}

fn authenticate(
    game: &mut Game,
    packet: &Packet,
    peer: SocketAddr,
    stream: &TcpStream,
) -> io::Result<()> {
    game.authenticated.retain(|(own, _)| *own != peer);
    if packet.body == game.cvars.value("rcon_password") {
        game.bans.password_accepted(peer.ip());
        game.authenticated.push((peer, stream.try_clone()?));
        return Ok(());
    }

    game.log(format!("rcon from \"{peer}\": Bad Password"));
    let limits = Limits {
        at_all: game.cvars.number("sv_rcon_maxfailures"),
        within: game.cvars.number("sv_rcon_minfailures"),
        window: Duration::from_secs_f64(game.cvars.number("sv_rcon_minfailuretime").max(0.0)),
    };
    if game.bans.password_failed(peer.ip(), &limits) {
        say(format!("Banning {} for rcon hacking attempts", peer.ip()));
        let minutes = game.cvars.number("sv_rcon_banpenalty");
        game.bans.ban_address(peer.ip(), minutes);
    }
    Ok(())
}

/// The next packet, or `None` at the end. The body ends at its first NUL.
fn next(stream: &mut TcpStream) -> io::Result<Option<Packet>> {
    let mut size = [0; 4];
    match stream.read_exact(&mut size) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let size = usize::try_from(i32::from_le_bytes(size)).unwrap_or(0);
    if !(AROUND..=LARGEST).contains(&size) {
        return Err(io::Error::other("no packet has such a size"));
    }

    let mut packet = vec![0; size];
    stream.read_exact(&mut packet)?;
    let number = |at: usize| {
        let bytes = packet.get(at..)?.first_chunk()?;
        Some(i32::from_le_bytes(*bytes))
    };
    let body = packet[8..].split(|byte| *byte == 0).next();
    Ok(Some(Packet {
        id: number(0).unwrap_or(REFUSED),
        kind: number(4).unwrap_or(REFUSED),
        body: body.unwrap_or_default().to_vec(),
    }))
}

/// A body that is too large is sent in several packets, cut wherever that is, in a character too.
/// No packet says that another follows.
fn send(stream: &mut TcpStream, id: i32, kind: i32, body: &[u8]) -> io::Result<()> {
    let mut parts: Vec<&[u8]> = body.chunks(LARGEST - AROUND).collect();
    if parts.is_empty() {
        parts.push(b"");
    }

    for part in parts {
        let size = i32::try_from(part.len() + AROUND).unwrap_or_default();
        let head = [size, id, kind].map(i32::to_le_bytes).concat();
        stream.write_all(&[&head, part, b"\0\0"].concat())?;
    }
    Ok(())
}
