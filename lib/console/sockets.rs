//! Sockets to the games of this host. In its unit, the program that reads what games send has no
//! network of its own: it gets each socket from another process of this program, which reads no
//! packet ([`serve`]). Those sockets belong to the other one's control group, which systemd keeps to
//! this host's addresses, and to the loopback interface: TCP could not leave it, while a UDP socket
//! can name another interface for each packet (IP_PKTINFO).

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Read as _, Result, Write as _};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::a2s::MOST_ADDRESSES;
use super::network;
use crate::wire::line::timeout;

/// The only interface that is used.
const LOOPBACK: &str = "lo";
/// Asks for a UDP socket. Games have other ports.
const UDP: u16 = 0;
/// How long the other process may take. systemd may have to start it.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// After a failure it is not asked for this long, so that waiting for it does not take all time.
const PAUSE: Duration = Duration::from_secs(5);
/// What a UDP socket may hold until it is read, in bytes.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// An answer, in bytes: the error of the call that failed or 0, and addresses.
const ANSWER: usize = 4 + 4 * MOST_ADDRESSES;
/// The most connections to the other process.
const MOST_CLIENTS: usize = 8;
/// Without a connection it exits after this time.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// Where sockets come from.
pub enum Sockets {
    /// This process opens them: by hand, and in tests.
    Own,
    /// Another process opens them, behind the socket at this path.
    From {
        path: PathBuf,
        connection: Option<UnixStream>,
        /// When it last failed.
        failed: Option<Instant>,
    },
}

impl Sockets {
    pub fn new(from: Option<PathBuf>) -> Self {
        match from {
            None => Sockets::Own,
            Some(path) => Sockets::From {
                path,
                connection: None,
                failed: None,
            },
        }
    }

    /// An unconnected UDP socket that does not block, and this host's addresses other than loopback.
    pub fn udp(&mut self) -> Result<(UdpSocket, Vec<Ipv4Addr>)> {
        match self {
            Sockets::Own => Ok((open_udp()?, network::own_addresses())),
            Sockets::From { .. } => {
                let (socket, addresses) = self.ask(UDP)?;
                Ok((socket.into(), addresses))
            }
        }
    }

    /// A TCP socket that does not block, and connects to a port of this host.
    pub fn tcp(&mut self, port: u16) -> Result<TcpStream> {
        match self {
            Sockets::Own => open_tcp(port).map(TcpStream::from),
            Sockets::From { .. } => Ok(self.ask(port)?.0.into()),
        }
    }

    /// Asks the other process. It may have been restarted since the last time.
    fn ask(&mut self, port: u16) -> Result<Given> {
        let Sockets::From {
            path,
            connection,
            failed,
        } = self
        else {
            return Err(ErrorKind::Unsupported.into());
        };
        if failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(Error::other("left4me-console-network does not answer"));
        }

        if let Some(stream) = connection.take()
            && let Ok(answer) = request(&stream, port)
        {
            *connection = Some(stream);
            return answer;
        }
        match connect_to(path).and_then(|stream| Ok((request(&stream, port)?, stream))) {
            Ok((answer, stream)) => {
                *connection = Some(stream);
                answer
            }
            Err(error) => {
                *failed = Some(Instant::now());
                Err(error)
            }
        }
    }
}

fn connect_to(path: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    Ok(stream)
}

/// A socket, and this host's addresses.
type Given = (OwnedFd, Vec<Ipv4Addr>);

/// Sends a request and waits for its answer: a socket, or the error of the call that failed. Fails
/// when the connection fails.
fn request(mut stream: &UnixStream, port: u16) -> Result<Result<Given>> {
    stream.write_all(&port.to_be_bytes())?;

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; ANSWER];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let received = rustix::net::recvmsg(stream, &mut parts, &mut ancillary, flags)?;
    if received.bytes != bytes.len() {
        return Err(ErrorKind::UnexpectedEof.into());
    }

    let sockets = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let socket = sockets.flatten().next();
    let (words, _) = bytes.as_chunks::<4>();
    let mut words = words.iter().copied();
    match (socket, words.next().map(i32::from_be_bytes)) {
        (Some(socket), Some(0)) => {
            let addresses = words.map(Ipv4Addr::from);
            let addresses = addresses.filter(|address| !address.is_unspecified());
            Ok(Ok((socket, addresses.collect())))
        }
        (_, errno) => Ok(Err(Error::from_raw_os_error(errno.unwrap_or_default()))),
    }
}

/// Hands out sockets, bound to loopback, until nobody is connected for a while. It reads a port and
/// nothing else.
pub fn serve(listener: &UnixListener) -> crate::base::Result<()> {
    listener.set_nonblocking(true)?;
    let mut clients: Vec<UnixStream> = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            clients
                .iter()
                .map(|client| PollFd::new(client.as_fd(), PollFlags::POLLIN)),
        );
        let time = match clients.is_empty() {
            true => IDLE_TIME,
            false => Duration::from_secs(3600),
        };
        let count = match poll(&mut fds, timeout(time)) {
            Err(Errno::EINTR) => continue,
            result => result.map_err(Error::from)?,
        };
        if count == 0 && clients.is_empty() {
            return Ok(());
        }

        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let mut is_ready = ready.iter().skip(1);
        clients
            .retain(|client| !is_ready.next().copied().unwrap_or(false) || answer(client).is_ok());

        while let Ok((client, _)) = listener.accept() {
            // Only one process of left4me-console is there, and for a moment its successor.
            if clients.len() < MOST_CLIENTS && client.set_read_timeout(Some(ANSWER_TIME)).is_ok() {
                clients.push(client);
            }
        }
    }
}

/// Answers one request. Fails when the connection is over.
fn answer(mut client: &UnixStream) -> Result<()> {
    let mut port = [0; 2];
    client.read_exact(&mut port)?;
    let socket = match u16::from_be_bytes(port) {
        UDP => open_udp().and_then(|udp| bind_to_loopback(udp.into())),
        port => tcp_socket()
            .and_then(bind_to_loopback)
            .and_then(|socket| connect(socket, port)),
    };

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let (errno, sockets) = match &socket {
        Ok(socket) => (0, vec![socket.as_fd()]),
        Err(error) => (error.raw_os_error().unwrap_or(Errno::EIO as i32), vec![]),
    };
    if !sockets.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&sockets));
    }
    let mut bytes = errno.to_be_bytes().to_vec();
    if u16::from_be_bytes(port) == UDP {
        let own = network::own_addresses();
        bytes.extend(own.iter().take(MOST_ADDRESSES).flat_map(Ipv4Addr::octets));
    }
    bytes.resize(ANSWER, 0);
    let parts = [IoSlice::new(&bytes)];
    rustix::net::sendmsg(client, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Once bound, only a process with CAP_NET_RAW can bind a socket to another interface.
fn bind_to_loopback(socket: OwnedFd) -> Result<OwnedFd> {
    setsockopt(&socket, sockopt::BindToDevice, &LOOPBACK.into())?;
    Ok(socket)
}

fn open_udp() -> Result<UdpSocket> {
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    udp.set_nonblocking(true)?;
    // As much as the host allows: hundreds of games answer in the same moment.
    setsockopt(&udp, sockopt::RcvBuf, &RECEIVE_BUFFER).ok();
    Ok(udp)
}

fn open_tcp(port: u16) -> Result<OwnedFd> {
    connect(tcp_socket()?, port)
}

fn tcp_socket() -> Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    Ok(socket)
}

/// Begins to connect. Fails at once when nothing listens at the port.
fn connect(socket: OwnedFd, port: u16) -> Result<OwnedFd> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A process that hands out sockets, which is a thread here.
    fn given() -> (tempfile::TempDir, Sockets) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || serve(&listener));
        (dir, Sockets::new(Some(path)))
    }

    #[test]
    fn sockets_that_are_handed_over_reach_this_host_and_nothing_else() {
        let (_dir, mut sockets) = given();
        let game = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = game.local_addr().unwrap().port();
        let mut stream = sockets.tcp(port).unwrap();
        game.accept().unwrap().0.write_all(b"hello").unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");

        let game = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (udp, own) = sockets.udp().unwrap();
        assert_eq!(own, network::own_addresses());
        udp.send_to(b"question", game.local_addr().unwrap())
            .unwrap();
        let mut bytes = [0; 64];
        let (count, from) = game.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"question");
        assert!(from.ip().is_loopback());

        for socket in [OwnedFd::from(stream), OwnedFd::from(udp)] {
            let device = nix::sys::socket::getsockopt(&socket, sockopt::BindToDevice).unwrap();
            assert_eq!(device.to_string_lossy().trim_end_matches('\0'), LOOPBACK);
        }
    }

    #[test]
    fn a_refused_connection_and_a_missing_process_are_errors_with_their_reason() {
        let (dir, mut sockets) = given();
        // Nothing listens there. The kernel may say so a moment later.
        let refused = sockets.tcp(1).and_then(|mut stream| {
            stream.set_nonblocking(false)?;
            stream.read(&mut [0])
        });
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(sockets.udp().is_ok(), "the connection is still good");

        let mut missing = Sockets::new(Some(dir.path().join("missing.sock")));
        assert_eq!(missing.udp().unwrap_err().kind(), ErrorKind::NotFound);
    }
}
