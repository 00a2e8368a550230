//! A file system on which a reader hangs in the kernel: even SIGKILL ends the reader only after its
//! request is answered.
//!
//! It implements the part of FUSE (linux/fuse.h, version 7.31) that is needed to mount it and to
//! open its files. The kernel does not release a process whose request the server has read but not
//! answered. The root directory has these files, without listing them:
//!
//! | file | a process that opens it |
//! |---|---|
//! | `ever` | waits until the file system is released |
//! | `N` | waits until N ms after it got a signal, then gets EIO: a disk that was away for a while |
//!
//! When the serving process is gone, however it ends, the kernel releases all waiting processes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The longest request of the kernel (FUSE_MIN_READ_BUFFER, and the limits set by INIT).
const LONGEST: usize = 64 * 1024;

const HEADER: usize = 40;
const ROOT: u64 = 1;
const EVER: u64 = 2;
/// File `N` is node `WHILE + N`.
const WHILE: u64 = 1000;

// Operations of linux/fuse.h.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// The mounted file system. Dropping it releases all waiting processes and unmounts it.
#[derive(Debug)]
pub struct Stuck {
    directory: PathBuf,
    readers: Arc<AtomicUsize>,
    stop: Option<OwnedFd>,
    server: Option<JoinHandle<()>>,
}

impl Stuck {
    /// Mounts it at `directory` for all users; a thread of this process serves it.
    ///
    /// Fails if there is no /dev/fuse, or if this process may not mount.
    pub fn mount(directory: &Path) -> io::Result<Self> {
        let device = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/fuse")?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );

        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some("stuck"),
            directory,
            Some("fuse.stuck"),
            flags,
            Some(options.as_str()),
        )?;

        let readers = Arc::new(AtomicUsize::new(0));
        let mut server = Server {
            device,
            waiting: HashMap::new(),
            readers: Arc::clone(&readers),
        };

        let mut mounted = Self {
            directory: directory.to_owned(),
            readers,
            stop: None,
            server: None,
        };

        let (stopped, stop) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;

        mounted.stop = Some(stop);
        mounted.server = Some(std::thread::spawn(move || server.serve(&stopped)));
        Ok(mounted)
    }

    /// How many opens there have been.
    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::SeqCst)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// A process that waits for file `N`.
struct Waiting {
    /// How long to wait after a signal.
    time: Duration,
    until: Option<Instant>,
}

struct Server {
    device: File,
    /// By request number.
    waiting: HashMap<u64, Waiting>,
    readers: Arc<AtomicUsize>,
}

impl Server {
    /// Serves until the other end of `stopped` is closed or the file system is unmounted. Closing
    /// the device releases all waiting processes.
    fn serve(&mut self, stopped: &OwnedFd) {
        let mut request = vec![0; LONGEST];
        loop {
            let due = self
                .waiting
                .values()
                .filter_map(|waiting| waiting.until)
                .min();
            let time = due.map_or(PollTimeout::NONE, |due| {
                let left = due.saturating_duration_since(Instant::now()).as_millis();
                PollTimeout::try_from(left + 1).unwrap_or(PollTimeout::MAX)
            });

            let mut fds = [
                PollFd::new(self.device.as_fd(), PollFlags::POLLIN),
                PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
            ];

            match poll(&mut fds, time) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }

            if fds[1].any().unwrap_or(true) {
                return;
            }

            match self.device.read(&mut request) {
                Ok(length) if length >= HEADER => self.answer(&request[..length]),
                Ok(_) => return,
                // The request was withdrawn meanwhile.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EAGAIN | libc::EINTR | libc::ENOENT)
                    ) => {}
                Err(_) => return,
            }

            self.let_go();
        }
    }

    fn answer(&mut self, request: &[u8]) {
        let (operation, unique, node) =
            (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
        let body = &request[HEADER..];
        let answer = match operation {
            FORGET | BATCH_FORGET => return,
            OPEN => {
                self.readers.fetch_add(1, Ordering::SeqCst);
                if node >= WHILE {
                    self.waiting.insert(
                        unique,
                        Waiting {
                            time: Duration::from_millis(node - WHILE),
                            until: None,
                        },
                    );
                }

                return;
            }
            INTERRUPT => {
                if let Some(waiting) = self.waiting.get_mut(&u64_at(body, 0)) {
                    waiting.until = waiting.until.or(Some(Instant::now() + waiting.time));
                }
                return;
            }
            INIT => Ok(init(u32_at(body, 8))),
            LOOKUP => node_of(body).map(entry).ok_or(libc::ENOENT),
            GETATTR => Ok([&[0; 16][..], &attributes(node)].concat()),
            STATFS => Ok(statistics()),
            OPENDIR => Ok(vec![0; 16]),
            READDIR | RELEASEDIR => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        };

        self.send(unique, answer);
    }

    fn let_go(&mut self) {
        let now = Instant::now();
        let is_due = |waiting: &Waiting| waiting.until.is_some_and(|until| until <= now);
        let due: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| is_due(waiting))
            .map(|(id, _)| *id)
            .collect();
        for unique in due {
            self.waiting.remove(&unique);
            self.send(unique, Err(libc::EIO));
        }
    }

    /// Sends an answer in one write. The kernel refuses it if no process waits for it any more.
    fn send(&mut self, unique: u64, answer: Result<Vec<u8>, i32>) {
        let (error, body) = answer.map_or_else(|errno| (-errno, Vec::new()), |body| (0, body));
        let length = u32::try_from(16 + body.len()).expect("a short answer");
        let header = [
            &length.to_ne_bytes()[..],
            &error.to_ne_bytes(),
            &unique.to_ne_bytes(),
        ]
        .concat();

        let _ = self.device.write(&[header, body].concat());
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| {
        u32::from_ne_bytes(word.try_into().expect("four bytes"))
    })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |word| {
        u64::from_ne_bytes(word.try_into().expect("eight bytes"))
    })
}

/// The node of a name in the root directory; the name ends with NUL.
fn node_of(name: &[u8]) -> Option<u64> {
    match std::str::from_utf8(name).ok()?.trim_end_matches('\0') {
        "ever" => Some(EVER),
        time => time
            .parse()
            .ok()
            .filter(|ms| *ms <= 60_000)
            .map(|ms: u64| WHILE + ms),
    }
}

/// struct fuse_init_out, 64 bytes. Version 7.31, without optional features.
fn init(readahead: u32) -> Vec<u8> {
    let words = [
        7,
        31,
        readahead,
        0,
        0,
        u32::try_from(LONGEST / 2).expect("it fits"),
    ];

    let mut answer: Vec<u8> = words
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect();
    answer.resize(64, 0);
    answer
}

/// struct fuse_entry_out, 128 bytes, not to be cached.
fn entry(node: u64) -> Vec<u8> {
    [&node.to_ne_bytes()[..], &[0; 32], &attributes(node)].concat()
}

/// struct fuse_attr, 88 bytes: a directory, or a file with mode 0666.
fn attributes(node: u64) -> Vec<u8> {
    let (mode, links): (u32, u32) = if node == ROOT {
        (0o40777, 2)
    } else {
        (0o100_666, 1)
    };

    [
        &node.to_ne_bytes()[..],
        &[0; 52],
        &mode.to_ne_bytes(),
        &links.to_ne_bytes(),
        &[0; 20],
    ]
    .concat()
}

/// struct fuse_kstatfs, 80 bytes, of which the length of a block and of a name matter.
fn statistics() -> Vec<u8> {
    [
        &[0; 40][..],
        &4096_u32.to_ne_bytes(),
        &255_u32.to_ne_bytes(),
        &4096_u32.to_ne_bytes(),
        &[0; 28],
    ]
    .concat()
}
