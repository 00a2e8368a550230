//! The content of files: read, compared and copied without changing what the page cache holds.
//! Running games have their maps there, and the game is larger than the memory of most hosts.
//!
//! A file is read past the cache (O_DIRECT) where the file system can do that; a file that running
//! servers may use is never told to leave the cache. What is written leaves the cache as soon as it
//! is on disk.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Advice, Mode, OFlags, fadvise, fcntl_getfl, fcntl_setfl, fdatasync, openat};
use rustix::io::{Errno, read, write};

use super::context::{Context, Progress, Work};

/// How much is read at once, in bytes: a cancellation waits for that.
const CHUNK: usize = 4 * 1024 * 1024;

/// The alignment that O_DIRECT needs at most.
const ALIGNMENT: usize = 4096;

/// How much of a file is written before it leaves the cache, in bytes.
const FLUSH: u64 = 32 * 1024 * 1024;

/// Memory for one chunk.
pub(super) struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(super) fn new() -> Self {
        let memory = vec![0; CHUNK + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start }
    }

    fn chunk(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..CHUNK]
    }
}

/// A file that is read.
pub(super) struct Source {
    pub fd: OwnedFd,
    is_direct: bool,
    /// Whether no running server uses the file, so that it may leave the cache.
    is_idle: bool,
}

impl Source {
    /// Opens a file in `above` without following a link, and without blocking on a FIFO.
    pub(super) fn open(above: &OwnedFd, name: &CStr, is_idle: bool) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = |fd, is_direct| Self {
            fd,
            is_direct,
            is_idle,
        };
        match openat(above, name, flags | OFlags::DIRECT, Mode::empty()) {
            // The file system cannot read past the cache.
            Err(Errno::INVAL) => {
                openat(above, name, flags, Mode::empty()).map(|fd| source(fd, false))
            }
            opened => opened.map(|fd| source(fd, true)),
        }
    }

    /// Fills `chunk` as far as the file goes. Returns how much that is.
    fn fill(&mut self, chunk: &mut [u8]) -> Result<usize, Errno> {
        let mut filled = 0;
        while filled < chunk.len() {
            match read(&self.fd, &mut chunk[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                // After a short read the rest is no longer aligned.
                Err(Errno::INVAL) if self.is_direct => self.use_cache()?,
                Err(errno) => return Err(errno),
            }
        }
        Ok(filled)
    }

    fn use_cache(&mut self) -> Result<(), Errno> {
        self.is_direct = false;
        fcntl_setfl(&self.fd, fcntl_getfl(&self.fd)? - OFlags::DIRECT)
    }

    /// Lets the file leave the cache, if no running server uses it.
    pub(super) fn forget(&self) {
        if self.is_idle {
            forget(&self.fd);
        }
    }
}

/// Lets a file leave the cache. It is advice: a failure costs memory only.
pub(super) fn forget(file: impl AsFd) {
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

/// The result of a file operation that may be cancelled.
pub(super) type Done<T> = Work<Result<T, Errno>>;

/// Whether two files have the same content.
pub(super) fn are_equal(
    context: &mut Context<'_>,
    buffers: &mut [Buffer; 2],
    progress: &mut Progress,
    one: &mut Source,
    other: &mut Source,
) -> Done<bool> {
    let [first, second] = buffers;
    loop {
        context.check()?;
        let (mine, theirs) = (first.chunk(), second.chunk());
        let (count, other_count) = match (one.fill(mine), other.fill(theirs)) {
            (Ok(count), Ok(other)) => (count, other),
            (Err(errno), _) | (_, Err(errno)) => return Ok(Err(errno)),
        };
        progress.add(context, count as u64);
        if mine[..count] != theirs[..other_count] {
            return Ok(Ok(false));
        }
        if count < CHUNK {
            return Ok(Ok(true));
        }
    }
}

/// Copies a file's content. Returns how many bytes it has.
pub(super) fn copy(
    context: &mut Context<'_>,
    buffer: &mut Buffer,
    progress: &mut Progress,
    from: &mut Source,
    to: &OwnedFd,
) -> Done<u64> {
    let (mut total, mut unflushed) = (0, 0);
    loop {
        context.check()?;
        let chunk = buffer.chunk();
        let count = match from.fill(chunk) {
            Ok(count) => count,
            Err(errno) => return Ok(Err(errno)),
        };
        if let Err(errno) = write_all(to, &chunk[..count]) {
            return Ok(Err(errno));
        }

        (total, unflushed) = (total + count as u64, unflushed + count as u64);
        progress.add(context, count as u64);
        if unflushed >= FLUSH {
            if let Err(errno) = fdatasync(to) {
                return Ok(Err(errno));
            }
            forget(to);
            unflushed = 0;
        }
        if count < CHUNK {
            return Ok(Ok(total));
        }
    }
}

pub(super) fn write_all(to: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
