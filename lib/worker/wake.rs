//! What wakes the worker: a poke, the end of a task, a signal; in the foreground also another process's commit.

use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::base::{Error, Result, notify};
use crate::db::watch::Watch;

/// Why [`Wake::wait`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There may be something to do.
    Work,
    /// SIGTERM or SIGINT.
    Stop,
}

/// All that the worker waits for.
pub struct Wake {
    socket: Option<UnixDatagram>,
    watch: Option<Watch>,
    signals: SignalFd,
    bell: Arc<EventFd>,
    /// Pokes are left in the socket: a worker that was told to stop claims nothing more. systemd, which holds the socket
    /// too, starts the next one for them.
    deaf: bool,
    /// The socket's path, when it is ours to remove.
    bound: Option<PathBuf>,
}

/// Wakes the worker from another thread.
#[derive(Clone)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    /// Wakes the worker.
    pub fn ring(&self) {
        if let Err(error) = self.0.write(1) {
            tracing::error!(%error, "the worker's bell does not ring");
        }
    }
}

impl Wake {
    /// Takes systemd's socket, if there is one, and reads what is in it. Signals are taken from here on.
    ///
    /// # Errors
    /// 1 when the kernel gives no descriptor.
    pub fn open(path: &Path) -> Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.thread_block().map_err(io)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(io)?;
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(io)?;
        let socket = notify::passed_socket().map(UnixDatagram::from);
        let wake = Self { socket, watch: None, signals, bell: Arc::new(bell), deaf: false, bound: None };
        if let Some(socket) = &wake.socket {
            socket.set_nonblocking(true).map_err(|error| Error::from(error).within(path.display()))?;
        }
        wake.drain();
        Ok(wake)
    }

    /// In the foreground, without systemd's socket: binds one where none is in use, and watches the database, so that
    /// jobs are seen also when somebody else has the socket. To be called under the worker's lock.
    ///
    /// # Errors
    /// 69 when the database cannot be watched.
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
                socket.set_nonblocking(true).map_err(|error| Error::from(error).within(path.display()))?;
                self.socket = Some(socket);
                self.bound = Some(path.to_owned());
            }
            Err(error) => {
                tracing::info!("no socket at {} ({error}): jobs are seen by their commits alone", path.display())
            }
        }
        Ok(())
    }

    /// A bell for another thread.
    #[must_use]
    pub fn bell(&self) -> Bell {
        Bell(Arc::clone(&self.bell))
    }

    /// Whether a poke is in the socket.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        })
    }

    /// Waits for something, at most `time`.
    ///
    /// # Errors
    /// 1 when the kernel refuses to wait.
    pub fn wait(&mut self, time: Duration) -> Result<Event> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.bell.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.heard().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.watch.as_ref().and_then(Watch::descriptor).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        // Rounded up, so that the last wait before a deadline does not spin.
        let watch = self.watch.as_ref().map_or(time, |watch| watch.due().min(time));
        let ms = watch.as_millis() + 1;
        match poll(&mut fds, PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(io(error)),
        }
        // The signal first: a poke that came with it is for the next worker.
        let told_to_stop = self.signals.read_signal().map_err(io)?.is_some();
        self.deaf |= told_to_stop;
        self.drain();
        if let Some(watch) = &mut self.watch {
            watch.look()?;
        }
        Ok(if told_to_stop { Event::Stop } else { Event::Work })
    }

    fn heard(&self) -> Option<&UnixDatagram> {
        self.socket.as_ref().filter(|_| !self.deaf)
    }

    fn drain(&self) {
        let mut byte = [0_u8; 16];
        if let Some(socket) = self.heard() {
            while socket.recv(&mut byte).is_ok() {}
        }
        // An empty bell answers EAGAIN.
        self.bell.read().ok();
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Some(path) = &self.bound {
            fs_err::remove_file(path).ok();
        }
    }
}

/// Whether a socket file is there that nobody serves.
fn is_stale(path: &Path) -> bool {
    let is_socket = path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && UnixDatagram::unbound()
            .and_then(|probe| probe.connect(path))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn io(errno: nix::errno::Errno) -> Error {
    Error::from(std::io::Error::from(errno))
}
