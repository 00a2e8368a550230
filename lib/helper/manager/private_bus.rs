//! A connection to PID 1's private socket, as systemctl has for root: no message bus in between.
//!
//! PID 1 names itself there as the sender of its messages, `org.freedesktop.systemd1`. The D-Bus
//! specification allows only unique names in that field, and zbus refuses such messages. So this
//! socket puts a unique name of the same length into the field; nothing here depends on it.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zruntime::{AsyncIo, Shared, SharedRuntime};

const PATH: &str = "/run/systemd/private";

/// How long PID 1 may take to accept the connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// The fixed part of a message's header, in bytes.
const HEADER: usize = 16;

/// The longest message that the specification allows, in bytes.
const LONGEST: usize = 128 * 1024 * 1024;

/// The sender's field: its code, the signature `s`, the length, and the name.
const SENDER: &[u8] = b"\x07\x01s\x00\x18\x00\x00\x00org.freedesktop.systemd1\x00";
const UNIQUE: &[u8] = b"\x07\x01s\x00\x18\x00\x00\x00:1.000000000000000000001\x00";
const _: () = assert!(SENDER.len() == UNIQUE.len());

type PrivateStream = Arc<AsyncIo<UnixStream, Shared>>;

/// Connects as this process's user.
pub(super) async fn connect(runtime: &SharedRuntime) -> zbus::Result<zbus::Connection> {
    let (stream, guid) = authenticated()?;
    let stream = AsyncIo::new(runtime, stream)?;
    let socket = PrivateSocket(Arc::new(stream));
    zbus::connection::Builder::authenticated_socket(socket, guid.as_str())
        .p2p()
        .build()
        .await
}

/// The socket after the handshake, and the server's id. PID 1 takes the user from the kernel.
fn authenticated() -> io::Result<(UnixStream, String)> {
    let mut stream = UnixStream::connect(PATH)?;
    stream.set_read_timeout(Some(PATIENCE))?;

    let uid: String = nix::unistd::geteuid()
        .to_string()
        .bytes()
        .map(|digit| format!("{digit:02x}"))
        .collect();
    stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;

    // Byte by byte: the first message may follow at once.
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
        if line.len() > 256 {
            return Err(io::Error::other("its answer to the handshake is too long"));
        }
    }

    let answer = String::from_utf8_lossy(&line);
    let guid = answer
        .trim_end()
        .strip_prefix("OK ")
        .ok_or_else(|| io::Error::other(format!("it refused the connection: {answer}")))?;
    Ok((stream, guid.to_owned()))
}

struct PrivateSocket(PrivateStream);

impl Socket for PrivateSocket {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let reader = Reader {
            stream: Arc::clone(&self.0),
            message: Vec::new(),
            read: 0,
        };
        Split::new(reader, Writer(self.0))
    }
}

#[derive(Debug)]
struct Reader {
    stream: PrivateStream,
    /// The current message.
    message: Vec<u8>,
    /// How much of it zbus has.
    read: usize,
}

impl Reader {
    async fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = self
                .stream
                .read_with(|mut stream| stream.read(&mut buffer[filled..]))
                .await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
        }
        Ok(())
    }

    async fn next_message(&mut self) -> io::Result<()> {
        let mut message = vec![0; HEADER];
        self.fill(&mut message).await?;

        let (fields, body) = lengths(&message)?;
        message.resize(HEADER + fields + body, 0);
        self.fill(&mut message[HEADER..]).await?;

        name_sender(&mut message[HEADER..HEADER + fields]);
        (self.message, self.read) = (message, 0);
        Ok(())
    }
}

/// The lengths of the header's fields, padded, and of the body.
fn lengths(header: &[u8]) -> io::Result<(usize, usize)> {
    let number = |at: usize| match header.get(at..at + 4).map(<[u8; 4]>::try_from) {
        Some(Ok(bytes)) => u32::from_le_bytes(bytes) as usize,
        _ => LONGEST,
    };
    let (body, fields) = (number(4), number(12).next_multiple_of(8));

    // Both sides are on one machine; sd-bus writes its own byte order.
    if header.first() != Some(&b'l') || body + fields > LONGEST {
        return Err(io::Error::other("PID 1 sent something that is no message"));
    }
    Ok((fields, body))
}

fn name_sender(fields: &mut [u8]) {
    let found = fields.windows(SENDER.len()).position(|part| part == SENDER);
    if let Some(at) = found {
        fields[at..at + UNIQUE.len()].copy_from_slice(UNIQUE);
    }
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        if self.read == self.message.len() {
            self.next_message().await?;
        }

        let rest = &self.message[self.read..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        Ok((count, Vec::new()))
    }
}

#[derive(Debug)]
struct Writer(PrivateStream);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, bytes: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write_with(|mut stream| stream.write(bytes)).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.get_ref().shutdown(std::net::Shutdown::Both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_replaced_and_nothing_else() {
        let call = zbus::Message::signal("/a", "org.freedesktop.systemd1.Manager", "JobRemoved")
            .sender(":1.123456789012345678901")
            .build(&("org.freedesktop.systemd1", 7_u32))
            .unwrap();
        let expected = call.data().bytes().to_vec();

        let name = expected
            .windows(4)
            .position(|part| part == b":1.1")
            .unwrap();
        let mut message = expected.clone();
        message[name..name + 24].copy_from_slice(b"org.freedesktop.systemd1");

        let (fields, body) = lengths(&message[..HEADER]).unwrap();
        assert_eq!(HEADER + fields + body, message.len());
        name_sender(&mut message[HEADER..HEADER + fields]);
        assert_eq!(&message[name..name + 24], b":1.000000000000000000001");

        message[name..name + 24].copy_from_slice(&expected[name..name + 24]);
        assert_eq!(message, expected);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            &b"OK 0123456789abc"[..],
            b"l\x01\x00\x01\xff\xff\xff\x7f\0\0\0\0\0\0\0\0",
            b"l",
        ] {
            assert!(lengths(bad).is_err(), "{bad:?}");
        }
    }
}
