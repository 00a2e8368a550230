//! The handshake of runner and helper: reads and checks the one request of a connection.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;
use serde::de::DeserializeOwned;

use super::Peer;
use crate::wire::line::{Batch, LineReader, REQUEST_TIME};
use crate::wire::{Answer, REFUSED, REQUEST_LIMIT, parse};

/// Reads the request from a connection that systemd accepted. The peer must be root or in
/// `allowed`, and send one valid request line in time. Any other peer gets `error` and `exit` 64,
/// is logged with its uid and pid, and the result is `None`.
pub fn read_request<R: DeserializeOwned>(socket: OwnedFd, allowed: &[Uid]) -> Option<(R, Peer)> {
    let (uid, pid) = match peer(&socket) {
        Ok(peer) => peer,
        Err(errno) => {
            refuse(
                &socket,
                None,
                &format!("the peer's user is unknown: {}", errno.desc()),
            );

            return None;
        }
    };

    if !uid.is_root() && !allowed.contains(&uid) {
        refuse(
            &socket,
            Some((uid, pid)),
            &format!("not permitted for user id {uid}"),
        );

        return None;
    }

    let mut lines = LineReader::new(REQUEST_LIMIT);
    let parsed = match lines.read_line(socket.as_fd(), REQUEST_TIME) {
        Ok(line) => parse(line).map_err(|why| format!("not a request: {why}")),
        Err(bad) => Err(format!("not a request: {bad}")),
    };

    match parsed {
        Ok(request) => Some((request, Peer::wire(socket, lines))),
        Err(why) => {
            refuse(&socket, Some((uid, pid)), &why);
            None
        }
    }
}

/// The user and the process that opened a connection, from the kernel.
pub fn peer(socket: &impl AsFd) -> nix::Result<(Uid, i32)> {
    let peer = getsockopt(socket, PeerCredentials)?;
    Ok((Uid::from_raw(peer.uid()), peer.pid()))
}

fn refuse(socket: &OwnedFd, peer: Option<(Uid, i32)>, why: &str) {
    let (uid, pid) = peer.map_or((None, None), |(uid, pid)| (Some(uid.as_raw()), Some(pid)));
    tracing::warn!(
        peer_uid = uid,
        peer_pid = pid,
        "request refused: {why} (peer uid {uid:?}, pid {pid:?})"
    );

    let mut answer = Batch::default();
    answer.answer(&Answer::error(why));
    answer.answer(&Answer::exit(REFUSED, None, None));
    // A peer that does not read this misses only the reason.
    let _ = answer.send(socket.as_fd());
}
