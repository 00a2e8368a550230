//! Listeners and connections, over TCP or a unix socket. systemd passes one listener for each
//! `ListenStream=` of left4me-web.socket; all of them are served.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::peers::{Owner, Peer, Peers};
use crate::base::{Error, Result};

pub enum Listener {
    Tcp(TcpListener),
    /// With a path, or an abstract name.
    Unix(UnixListener),
}

pub enum Connection {
    /// With the peer's address.
    Tcp(TcpStream, SocketAddr),
    /// From a program on this host.
    Unix(UnixStream),
}

impl Listener {
    /// A listener that systemd passed.
    pub fn inherited(socket: OwnedFd) -> Result<Self> {
        let own = getsockname::<SockaddrStorage>(socket.as_raw_fd());
        let family = own.ok().and_then(|own| own.family());
        let is_stream = getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream);

        let failed = |error: io::Error| Error::from(error).within("systemd's socket");
        match family {
            Some(AddressFamily::Inet | AddressFamily::Inet6) if is_stream => {
                let listener = std::net::TcpListener::from(socket);
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Self::Tcp(TcpListener::from_std(listener).map_err(failed)?))
            }
            Some(AddressFamily::Unix) if is_stream => {
                let listener = std::os::unix::net::UnixListener::from(socket);
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Self::Unix(
                    UnixListener::from_std(listener).map_err(failed)?,
                ))
            }
            _ => Err(Error::unavailable(
                "systemd passed a socket that takes no connections: left4me-web.socket may have \
                 ListenStream= only; correct it (`systemctl edit left4me-web.socket`), then as \
                 root `systemctl restart left4me-web.socket`",
            )),
        }
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Connection>> {
        match self {
            Self::Tcp(listener) => listener
                .poll_accept(context)
                .map_ok(|(stream, peer)| Connection::Tcp(stream, peer)),
            Self::Unix(listener) => listener
                .poll_accept(context)
                .map_ok(|(stream, _)| Connection::Unix(stream)),
        }
    }
}

/// All listeners. None can starve the others.
pub struct Listeners {
    all: Vec<Listener>,
    /// The listener that is polled first.
    next: usize,
}

impl Listeners {
    pub fn new(all: Vec<Listener>) -> Self {
        Self { all, next: 0 }
    }

    /// The next connection at any of them.
    pub async fn accept(&mut self) -> io::Result<Connection> {
        poll_fn(|context| {
            let count = self.all.len();
            for step in 0..count {
                let at = (self.next + step) % count;
                if let Poll::Ready(taken) = self.all[at].poll_accept(context) {
                    self.next = (at + 1) % count;
                    return Poll::Ready(taken);
                }
            }

            Poll::Pending
        })
        .await
    }
}

impl Connection {
    /// The peer. Call it at once: the owner is known only while the connection is open.
    pub fn peer(&self, peers: &Peers) -> Peer {
        match self {
            Self::Tcp(stream, addr) => {
                let owner = stream
                    .local_addr()
                    .map_or(Owner::Unknown, |own| peers.owner(*addr, own));
                Peer { addr: *addr, owner }
            }
            // A unix socket's peer is on this host, as one on loopback is, so both get the same
            // rules.
            Self::Unix(stream) => Peer {
                addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                owner: peers.unix_owner(stream.as_fd()),
            },
        }
    }

    /// Disables Nagle's algorithm.
    pub fn set_nodelay(&self) {
        if let Self::Tcp(stream, _) = self {
            stream.set_nodelay(true).ok();
        }
    }

    /// Lets the kernel discard unsent data when the connection is closed.
    pub fn forget_unsent(&self) {
        if let Self::Tcp(stream, _) = self {
            stream.set_zero_linger().ok();
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream, _) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// What both kinds of connection can do.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Connection {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn Stream> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream),
            Self::Unix(stream) => Pin::new(stream),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
