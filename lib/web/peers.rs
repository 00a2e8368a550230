//! Which user of this host opened a connection. Loopback alone says little: a plugin in a game
//! server is on loopback too. The kernel knows the owner of each socket; `sock_diag`, the interface
//! of `ss`, returns it.
//!
//! The web front's sandbox has its own network, where there is nothing to ask. So systemd passes it
//! a netlink socket of the host's network (left4me-web-peers.socket); in the foreground it opens
//! one itself.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockopt, recvfrom,
    sendto, socket, sockopt,
};
use nix::sys::stat::fstat;

use crate::base::{server_user, users};

/// From linux/sock_diag.h and linux/inet_diag.h: the request, and the length of the answer's fixed
/// part.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const HEADER: usize = 16;
const ANSWER: usize = 72;
/// From linux/unix_diag.h: the length of the answer's fixed part, the requested data, and its
/// attributes.
const UNIX_ANSWER: usize = 16;
const UDIAG_SHOW_PEER: u32 = 0x04;
const UDIAG_SHOW_UID: u32 = 0x40;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_UID: u16 = 7;
/// The kernel's uid for users outside the user namespace.
const OVERFLOW_UID: u32 = 65_534;
/// The state of a listening socket, which is not a client.
const LISTEN: u8 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A program on another host.
    Elsewhere,
    /// A program on this host, by user id.
    User(u32),
    /// A game server or steamcmd on this host: foreign code.
    Foreign(u32),
    /// A program on this host whose user is unknown.
    Unknown,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub addr: SocketAddr,
    pub owner: Owner,
}

/// Asks the kernel for socket owners.
pub struct Peers {
    socket: Option<Mutex<(OwnedFd, u32)>>,
    /// The named users that run foreign code.
    foreign: Vec<u32>,
    has_complained: AtomicBool,
}

impl Peers {
    /// Uses systemd's socket, or opens one.
    pub fn new(passed: Option<OwnedFd>) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let open = || {
            socket(
                AddressFamily::Netlink,
                SockType::Raw,
                flags,
                SockProtocol::NetlinkSockDiag,
            )
        };

        let opened = passed.map_or_else(open, Ok).and_then(|socket| {
            // The kernel answers while it handles the request, so no call ever blocks.
            fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            Ok(Mutex::new((socket, 0)))
        });

        if let Err(errno) = &opened {
            tracing::warn!(
                "cannot determine the users of local connections: no netlink socket: {}",
                errno.desc()
            );
        }

        let foreign = [users::GAME, users::STEAM]
            .iter()
            .filter_map(|name| users::uid(name))
            .map(|uid| uid.as_raw());
        Self {
            socket: opened.ok(),
            foreign: foreign.collect(),
            has_complained: AtomicBool::new(false),
        }
    }

    /// Who opened the connection from `peer` to `own`.
    pub fn owner(&self, peer: SocketAddr, own: SocketAddr) -> Owner {
        let (peer, own) = (canonical(peer), canonical(own));
        match self.uid(peer, own) {
            Ok(Some(uid)) if self.is_foreign(uid) => Owner::Foreign(uid),
            Ok(Some(uid)) => Owner::User(uid),
            Ok(None) if !is_local(peer, own) => Owner::Elsewhere,
            // The peer closed its end already, and reads no answer.
            Ok(None) => Owner::Unknown,
            Err(errno) => {
                if !self.has_complained.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "cannot determine the users of local connections: sock_diag: {}",
                        errno.desc()
                    );
                }

                if is_local(peer, own) {
                    Owner::Unknown
                } else {
                    Owner::Elsewhere
                }
            }
        }
    }

    /// Who opened a unix socket's connection. In the web front's user namespace SO_PEERCRED shows
    /// most users as one, so sock_diag is asked first.
    pub fn unix_owner(&self, connection: BorrowedFd<'_>) -> Owner {
        let shown = getsockopt(&connection, sockopt::PeerCredentials).map(|peer| peer.uid());
        let shown = || shown.ok().filter(|uid| *uid != OVERFLOW_UID);
        match self.unix_uid(connection).ok().flatten().or_else(shown) {
            Some(uid) if self.is_foreign(uid) => Owner::Foreign(uid),
            Some(uid) => Owner::User(uid),
            None => Owner::Unknown,
        }
    }

    fn is_foreign(&self, uid: u32) -> bool {
        self.foreign.contains(&uid) || server_user::is_server_user(uid)
    }

    /// The owner of the socket at the other end: first its inode, then its uid.
    fn unix_uid(&self, connection: BorrowedFd<'_>) -> Result<Option<u32>, Errno> {
        let own = u32::try_from(fstat(connection)?.st_ino).map_err(|_| Errno::EOVERFLOW)?;
        let Some(peer) = self.unix_attribute(own, UDIAG_SHOW_PEER, UNIX_DIAG_PEER)? else {
            return Ok(None);
        };
        self.unix_attribute(peer, UDIAG_SHOW_UID, UNIX_DIAG_UID)
    }

    fn unix_attribute(&self, inode: u32, show: u32, attribute: u16) -> Result<Option<u32>, Errno> {
        self.ask(
            |number| unix_request(number, inode, show),
            |bytes, number| unix_answer(bytes, number, inode, attribute),
        )
    }

    /// The owner of the socket at `peer` that is connected to `own`, if it is on this host.
    fn uid(&self, peer: SocketAddr, own: SocketAddr) -> Result<Option<u32>, Errno> {
        self.ask(
            |number| request(number, peer, own),
            |bytes, number| answer(bytes, number, peer.port(), own.port()),
        )
    }

    /// Sends a request and reads until its answer arrives.
    fn ask(
        &self,
        request: impl FnOnce(u32) -> Vec<u8>,
        answer: impl Fn(&[u8], u32) -> Option<Result<Option<u32>, Errno>>,
    ) -> Result<Option<u32>, Errno> {
        let Some(socket) = &self.socket else {
            return Err(Errno::ENOTCONN);
        };
        let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.1 = socket.1.wrapping_add(1);

        let number = socket.1;
        let fd = socket.0.as_raw_fd();
        sendto(
            fd,
            &request(number),
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;

        let mut bytes = [0; 1024];
        loop {
            let (length, from) = recvfrom::<NetlinkAddr>(fd, &mut bytes)?;
            // Only the kernel may answer. Skip what is left of an earlier request.
            if from.is_some_and(|from| from.pid() == 0)
                && let Some(answer) = answer(&bytes[..length], number)
            {
                return answer;
            }
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_local(peer: SocketAddr, own: SocketAddr) -> bool {
    peer.ip().is_loopback() || peer.ip() == own.ip()
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`, for exactly one socket.
fn request(number: u32, peer: SocketAddr, own: SocketAddr) -> Vec<u8> {
    let family = if peer.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };

    let mut body = Vec::with_capacity(72);

    body.extend_from_slice(&(HEADER as u32 + 56).to_ne_bytes());
    body.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    body.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    body.extend_from_slice(&number.to_ne_bytes());
    body.extend_from_slice(&[0; 4]);

    // TCP, no extensions, in any state.
    body.extend_from_slice(&[family as u8, 6, 0, 0]);
    body.extend_from_slice(&u32::MAX.to_ne_bytes());
    body.extend_from_slice(&peer.port().to_be_bytes());
    body.extend_from_slice(&own.port().to_be_bytes());

    for address in [peer.ip(), own.ip()] {
        let mut whole = [0; 16];
        match address {
            IpAddr::V4(v4) => whole[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => whole.copy_from_slice(&v6.octets()),
        }

        body.extend_from_slice(&whole);
    }

    // Any interface, no cookie.
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&[0xff; 8]);
    body
}

/// `struct nlmsghdr` and `struct unix_diag_req`, for exactly one socket.
fn unix_request(number: u32, inode: u32, show: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEADER + 24);
    body.extend_from_slice(&(HEADER as u32 + 24).to_ne_bytes());
    body.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    body.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    body.extend_from_slice(&number.to_ne_bytes());
    body.extend_from_slice(&[0; 4]);

    // In any state, no cookie.
    body.extend_from_slice(&[AddressFamily::Unix as u8, 0, 0, 0]);
    for word in [u32::MAX, inode, show, u32::MAX, u32::MAX] {
        body.extend_from_slice(&word.to_ne_bytes());
    }

    body
}

/// An attribute of a unix socket in an answer; `Ok(None)` if there is no such socket or attribute,
/// None if it answers another request.
fn unix_answer(
    bytes: &[u8],
    number: u32,
    inode: u32,
    attribute: u16,
) -> Option<Result<Option<u32>, Errno>> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let short = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    if word(8)? != number {
        return None;
    }

    if short(4)? != SOCK_DIAG_BY_FAMILY {
        let errno = Errno::from_raw(word(HEADER)?.cast_signed().wrapping_neg());
        return Some(if errno == Errno::ENOENT {
            Ok(None)
        } else {
            Err(errno)
        });
    }

    if word(HEADER + 4) != Some(inode) {
        return Some(Err(Errno::EBADMSG));
    }

    let mut at = HEADER + UNIX_ANSWER;
    while let (Some(length), Some(kind)) = (short(at), short(at + 2)) {
        if kind == attribute {
            // 0 is no socket's inode, but root's uid.
            let value = word(at + 4).filter(|value| attribute != UNIX_DIAG_PEER || *value != 0);
            return Some(Ok(value));
        }

        // Attributes are aligned to 4 bytes. One of length 0 would loop.
        at += usize::from(length.max(4)).next_multiple_of(4);
    }

    Some(Ok(None))
}

/// The uid in an answer; `Ok(None)` if there is no such socket, None if it answers another request.
fn answer(bytes: &[u8], number: u32, peer: u16, own: u16) -> Option<Result<Option<u32>, Errno>> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let short = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    if word(8)? != number {
        return None;
    }

    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    if kind != SOCK_DIAG_BY_FAMILY {
        let errno = Errno::from_raw(word(HEADER)?.cast_signed().wrapping_neg());
        return Some(if errno == Errno::ENOENT {
            Ok(None)
        } else {
            Err(errno)
        });
    }

    if bytes.len() < HEADER + ANSWER {
        return Some(Err(Errno::EBADMSG));
    }

    let (state, inode) = (bytes[HEADER + 1], word(HEADER + 68)?);
    let is_it = short(HEADER + 4)? == peer && short(HEADER + 6)? == own && state != LISTEN;

    // A socket without a process: older kernels say that root owns it.
    Some(Ok(if is_it && inode != 0 {
        Some(word(HEADER + 64)?)
    } else {
        None
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_knows_the_owner_of_a_local_connection() {
        let peers = Peers::new(None);

        let me = nix::unistd::geteuid().as_raw();
        for at in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let port = listener.local_addr().unwrap().port();

            let to: Vec<&str> = if at == "[::]:0" {
                vec!["127.0.0.1", "::1"]
            } else {
                vec![&at[..at.len() - 2]]
            };

            for to in to {
                let client = TcpStream::connect((to.trim_matches(['[', ']']), port)).unwrap();
                let (server, peer) = listener.accept().unwrap();
                let own = server.local_addr().unwrap();
                assert_eq!(peers.owner(peer, own), Owner::User(me), "{at} {to}");
                // A closed one has no owner.
                drop(client);
                assert_eq!(peers.owner(peer, own), Owner::Unknown, "{at} {to}");
            }
        }
    }

    #[test]
    fn the_kernel_knows_the_owner_of_a_unix_connection() {
        use std::os::fd::AsFd as _;
        use std::os::unix::net::{UnixListener, UnixStream};

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let me = nix::unistd::geteuid().as_raw();
        let peers = Peers::new(None);

        assert_eq!(peers.unix_uid(server.as_fd()), Ok(Some(me)), "by sock_diag");
        assert_eq!(peers.unix_owner(server.as_fd()), Owner::User(me));

        let mute = Peers {
            socket: None,
            foreign: vec![me],
            has_complained: AtomicBool::new(true),
        };

        assert_eq!(
            mute.unix_owner(server.as_fd()),
            Owner::Foreign(me),
            "by SO_PEERCRED"
        );

        drop(client);
    }

    #[test]
    fn another_host_is_elsewhere_and_a_listener_is_no_client() {
        let peers = Peers::new(None);
        let own = "192.0.2.1:8000".parse().unwrap();
        assert_eq!(
            peers.owner("192.0.2.7:4000".parse().unwrap(), own),
            Owner::Elsewhere
        );

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(
            peers.owner(
                listener.local_addr().unwrap(),
                "127.0.0.1:9".parse().unwrap()
            ),
            Owner::Unknown
        );
    }

    #[test]
    fn without_a_socket_a_local_program_is_unknown() {
        let peers = Peers {
            socket: None,
            foreign: Vec::new(),
            has_complained: AtomicBool::new(true),
        };

        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(
            peers.owner(at("127.0.0.1:1"), at("127.0.0.1:2")),
            Owner::Unknown
        );

        assert_eq!(
            peers.owner(at("10.0.0.1:1"), at("10.0.0.1:2")),
            Owner::Unknown
        );

        assert_eq!(
            peers.owner(at("10.0.0.2:1"), at("10.0.0.1:2")),
            Owner::Elsewhere
        );
    }

    #[test]
    fn an_answer_that_is_cut_or_of_another_request_is_none() {
        assert_eq!(answer(&[], 1, 1, 2), None);

        let mut bytes = vec![0; HEADER + ANSWER];
        bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes[8] = 7;
        assert_eq!(answer(&bytes, 6, 0, 0), None);
        assert_eq!(answer(&bytes, 7, 0, 0), Some(Ok(None)), "no process has it");
        bytes[HEADER + 68] = 1;
        assert_eq!(answer(&bytes, 7, 0, 0), Some(Ok(Some(0))));
        assert_eq!(answer(&bytes, 7, 1, 0), Some(Ok(None)));
        assert_eq!(
            answer(&bytes[..HEADER + 20], 7, 0, 0),
            Some(Err(Errno::EBADMSG))
        );
    }
}
