//! Sends commands to games as `left4me server exec` does: each is an event before it is sent, and
//! the event keeps the reply. A thread waits for the reply, so that the screen does not.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::names::{ServerId, ServerRef};
use crate::base::{Error, Result, caller};
use crate::db::{Db, servers};
use crate::queue::game::{Recorded, Reply};

/// How long the end of the monitor waits for replies.
const FINISH: Duration = Duration::from_secs(3);

/// A command that has ended.
type Ended = (Recorded, Result<Reply>);

/// The commands under way.
pub struct Commands {
    /// The socket of left4me-console.
    socket: PathBuf,
    ended: Receiver<Ended>,
    ends: Sender<Ended>,
    /// Readable when a command has ended.
    wake: PipeReader,
    waker: PipeWriter,
    /// How many have been sent and not taken.
    open: AtomicUsize,
}

impl Commands {
    pub fn new(socket: &Path) -> Result<Self> {
        let (ends, ended) = channel();
        let (wake, waker) = std::io::pipe()?;
        Ok(Self {
            socket: socket.to_owned(),
            ended,
            ends,
            wake,
            waker,
            open: AtomicUsize::new(0),
        })
    }

    /// What becomes readable when a command has ended.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Records a command of the caller, and sends it.
    ///
    /// Fails with 2 when it is refused, 3 when the server is gone, 4 when it does not run.
    pub fn send(&self, db: &mut Db, server: ServerId, command: &str, now: i64) -> Result<()> {
        let waker = self.waker.try_clone()?;
        let recorded = db.write(|tx| {
            let server = servers::find(tx, &ServerRef::Id(server))?;
            Recorded::new(tx, now, &caller::caller(), &server, command, "")
        })?;

        let (socket, ends) = (self.socket.clone(), self.ends.clone());
        self.open.fetch_add(1, Ordering::Relaxed);
        let work = move || {
            let reply = recorded.send(&socket);
            let (mut waker, _) = (waker, ends.send((recorded, reply)));
            waker.write_all(b".").ok();
        };
        if let Err(error) = thread::Builder::new()
            .name("command".to_owned())
            .spawn(work)
        {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::failed(format!("the command was not sent: {error}")));
        }
        Ok(())
    }

    /// Waits a moment for what is under way, so that it is sent and the history gets the reply.
    pub fn finish(self, db: &mut Db) {
        let until = Instant::now() + FINISH;
        for _ in 0..self.open.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            let Ok((recorded, reply)) = self.ended.recv_timeout(left) else {
                return;
            };
            if let Err(error) = db.write(|tx| recorded.keep(tx, &reply)) {
                tracing::warn!("a reply is not in the history: {error}");
            }
        }
    }

    /// Takes what has ended, after the descriptor became readable, and records the replies.
    pub fn take(&mut self, db: &mut Db) -> Vec<(ServerId, Result<Reply>)> {
        // One byte for each; the next one wakes again.
        self.wake.read_exact(&mut [0]).ok();
        let mut replies = Vec::new();
        for (recorded, reply) in self.ended.try_iter() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            let kept = db.write(|tx| recorded.keep(tx, &reply));
            replies.push((recorded.server, reply));
            // The command was carried out, whatever becomes of its record.
            if let Err(error) = kept {
                let why = Error::failed(format!("the reply is not in the history: {error}"));
                replies.push((recorded.server, Err(why)));
            }
        }
        replies
    }
}
