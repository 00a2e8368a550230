//! What wakes the worker: a notification datagram, the end of a task, a signal; in the foreground
//! also a commit of another process.

use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use crate::base::{Error, Result, notify, service};
use crate::db::watch::Watch;
use crate::queue::wake::Waker;

/// Why [`Wake::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// A notification, an ended task, or the time is over.
    Work,
    /// SIGTERM or SIGINT.
    Stop,
}

/// Everything that the worker waits for.
pub struct Wake {
    socket: Option<UnixDatagram>,
    watch: Option<Watch>,
    signals: SignalFd,
    waker: Waker,
    /// Notifications stay in the socket: a worker that was stopped claims no further job. systemd
    /// holds the socket too, and starts the next worker for them.
    ignores_notifications: bool,
    /// The socket's path, when this process has to remove it.
    bound: Option<PathBuf>,
}

impl Wake {
    /// Takes systemd's socket, if there is one, and reads what is in it. From here on SIGTERM and
    /// SIGINT are read by [`Wake::wait`].
    pub fn open(path: &Path) -> Result<Self> {
        let signals = service::end_signals()?;
        let socket = notify::passed_socket().map(UnixDatagram::from);
        let wake = Self {
            socket,
            watch: None,
            signals,
            waker: Waker::new().map_err(io)?,
            ignores_notifications: false,
            bound: None,
        };

        if let Some(socket) = &wake.socket {
            socket
                .set_nonblocking(true)
                .map_err(|error| Error::from(error).within(path.display()))?;
        }

        wake.drain();
        Ok(wake)
    }

    /// In the foreground, without systemd's socket: binds a socket where none is in use, and
    /// watches the database, so that jobs are found also when another process holds the socket. The
    /// caller holds the worker's lock.
    pub fn listen(&mut self, path: &Path, database: &Path) -> Result<()> {
        if self.socket.is_some() {
            return Ok(());
        }
        self.watch = Some(Watch::new(database)?);

        if is_stale(path)
            && let Err(error) = fs_err::remove_file(path)
        {
            tracing::debug!(%error, "the stale socket stays");
        }

        match UnixDatagram::bind(path) {
            Ok(socket) => {
                socket
                    .set_nonblocking(true)
                    .map_err(|error| Error::from(error).within(path.display()))?;
                self.socket = Some(socket);
                self.bound = Some(path.to_owned());
            }
            Err(error) => {
                let path = path.display();
                tracing::info!(
                    "no socket at {path} ({error}): new jobs are found by watching the database"
                );
            }
        }

        Ok(())
    }

    /// A handle for another thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Whether a notification is in the socket.
    pub fn is_pending(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        })
    }

    /// Waits for an event, at most `time`.
    pub fn wait(&mut self, time: Duration) -> Result<WakeReason> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.waker.as_fd(), PollFlags::POLLIN),
        ];

        let socket = self.notifications().map(UnixDatagram::as_fd);
        let watch = self.watch.as_ref().and_then(Watch::descriptor);
        fds.extend(
            socket
                .into_iter()
                .chain(watch)
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );

        // Rounded up, so that the last wait before a deadline does not spin.
        let time = self
            .watch
            .as_ref()
            .map_or(time, |watch| watch.due().min(time));
        let ms = time.as_millis() + 1;
        match poll(
            &mut fds,
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(io(error)),
        }

        // The signal first: a notification that came with it is for the next worker.
        let is_stopped = self.signals.read_signal().map_err(io)?.is_some();
        self.ignores_notifications |= is_stopped;
        self.drain();

        if let Some(watch) = &mut self.watch {
            watch.check()?;
        }

        Ok(if is_stopped {
            WakeReason::Stop
        } else {
            WakeReason::Work
        })
    }

    fn notifications(&self) -> Option<&UnixDatagram> {
        self.socket.as_ref().filter(|_| !self.ignores_notifications)
    }

    fn drain(&self) {
        let mut byte = [0_u8; 16];
        if let Some(socket) = self.notifications() {
            while socket.recv(&mut byte).is_ok() {}
        }

        self.waker.clear();
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Some(path) = &self.bound {
            fs_err::remove_file(path).ok();
        }
    }
}

/// Whether a socket file exists that no process serves.
fn is_stale(path: &Path) -> bool {
    let is_socket = path
        .symlink_metadata()
        .is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && UnixDatagram::unbound()
            .and_then(|probe| probe.connect(path))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn io(errno: nix::errno::Errno) -> Error {
    Error::from(std::io::Error::from(errno))
}
