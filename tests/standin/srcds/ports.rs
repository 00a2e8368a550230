//! The ports that the game takes.

use std::net::{TcpListener, UdpSocket};

use crate::game::Game;
use crate::say;

const DEFAULT_PORT: u16 = 27015;
const TV_PORT: u16 = 27020;
/// So many ports after the first are tried without `-strictportbind`.
const FURTHER_PORTS: u16 = 10;

/// Where RCON listens without `+ip`: the address of the host's own name, which is this one in
/// Debian's /etc/hosts, and not 127.0.0.1.
const OWN_NAME: &str = "127.0.1.1";

/// The game's UDP and RCON's TCP port; with `-strictportbind` that one port or none.
pub fn bind(game: &mut Game) -> Result<(UdpSocket, TcpListener), String> {
    let given = Some(game.cvars.text("ip")).filter(|ip| ip != "localhost");
    let ip = given.as_deref().unwrap_or("0.0.0.0");
    let rcon_ip = given.as_deref().unwrap_or(OWN_NAME);
    let text = game.cvars.text("hostport");
    let first: u16 = if text.is_empty() {
        DEFAULT_PORT
    } else {
        text.parse()
            .map_err(|_| format!("Error: bad port {text}"))?
    };

    let last = if game.has_option("-strictportbind") {
        first
    } else {
        first.saturating_add(FURTHER_PORTS)
    };

    for port in first..=last {
        let sockets = UdpSocket::bind((ip, port))
            .and_then(|udp| Ok((udp, TcpListener::bind((rcon_ip, port))?)));
        match sockets {
            Ok(sockets) => {
                say(format!(
                    "Network: IP {ip}, mode MP, dedicated Yes, ports {port} SV"
                ));
                game.address = (ip.to_owned(), port);
                return Ok(sockets);
            }
            Err(e) => say(format!("WARNING: UDP_OpenSocket: port {port}: bind: {e}")),
        }
    }

    Err(format!(
        "Couldn't allocate dedicated server IP {ip} port {first}."
    ))
}

/// SourceTV's port, UDP. One that is taken leaves it without SourceTV.
pub fn bind_tv(game: &Game) -> Option<UdpSocket> {
    if !game.cvars.is_on("tv_enable") {
        return None;
    }

    let port = game.cvars.text("tv_port").parse().unwrap_or(TV_PORT);
    let bound = UdpSocket::bind((game.address.0.as_str(), port));
    match &bound {
        Ok(_) => say(format!("SourceTV on port {port}")),
        Err(e) => say(format!("WARNING: UDP_OpenSocket: port {port}: bind: {e}")),
    }

    bound.ok()
}
