//! `--query HOST:PORT`: asks a server for its name.

use std::io;
use std::net::UdpSocket;
use std::process::ExitCode;
use std::time::Duration;

use crate::query::{INFO_REQUEST, SIMPLE};
use crate::say;

const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

pub fn command(address: Option<&String>) -> ExitCode {
    let Some(address) = address else {
        eprintln!("standin-srcds --query HOST:PORT");
        return ExitCode::from(2);
    };

    match name_of(address) {
        Ok(name) => {
            say(&name);
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{address}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn name_of(address: &str) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(QUERY_TIMEOUT))?;
    let mut reply = ask(&socket, INFO_REQUEST)?;
    if let Some(challenge) = reply.strip_prefix(b"A") {
        reply = ask(&socket, &[INFO_REQUEST, challenge].concat())?;
    }
    reply
        .strip_prefix(b"I")
        .and_then(|info| info.get(1..)?.split(|byte| *byte == 0).next())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .ok_or_else(|| io::Error::other("no A2S_INFO in the answer"))
}

/// Sends a packet; the answer comes without the four bytes that every one begins with.
fn ask(socket: &UdpSocket, packet: &[u8]) -> io::Result<Vec<u8>> {
    socket.send(packet)?;
    let mut reply = [0_u8; 1400];
    let len = socket.recv(&mut reply)?;
    let body = reply[..len].strip_prefix(SIMPLE);
    body.map(<[u8]>::to_vec)
        .ok_or_else(|| io::Error::other("not an A2S answer"))
}
