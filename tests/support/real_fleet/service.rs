//! A unit in systemd's place: sockets that stay, and a program that is started again however it ends.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::Envs;

const PAUSE: Duration = Duration::from_millis(50);

/// A socket of a unit, with its name as FileDescriptorName= gives it.
pub enum Socket {
    Stream(&'static str, PathBuf),
    Datagram(&'static str, PathBuf),
}

/// When the program runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Once something waits at its socket.
    Asked,
    Always,
}

pub struct Service {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    child: Mutex<Option<Child>>,
    is_over: AtomicBool,
    is_held: AtomicBool,
    starts: AtomicU32,
}

impl Service {
    /// Binds at most two sockets, and serves them with `program` until it is dropped. What the program
    /// says goes to `log`.
    pub fn start(program: &str, envs: &Envs, sockets: &[Socket], when: When, log: &Path) -> Self {
        assert!((1..=2).contains(&sockets.len()));
        let inner = Arc::new(Inner {
            child: Mutex::new(None),
            is_over: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
            starts: AtomicU32::new(0),
        });
        let names: Vec<_> = sockets.iter().map(Socket::name).collect();
        let unit = Unit {
            program: program.to_owned(),
            envs: envs.clone(),
            names: names.join(":"),
            sockets: sockets.iter().map(Socket::bind).collect(),
            when,
            log: log.to_owned(),
        };
        let watched = Arc::clone(&inner);
        // The child dies with this thread, whatever ends the test.
        let thread = std::thread::spawn(move || unit.run(&watched));
        Self {
            inner,
            thread: Some(thread),
        }
    }

    /// SIGKILL. It is started again, as after a crash. Whether it ran.
    pub fn kill(&self) -> bool {
        self.signal(Signal::SIGKILL)
    }

    pub fn signal(&self, signal: Signal) -> bool {
        let child = self.inner.child.lock().expect("no panic");
        child
            .as_ref()
            .is_some_and(|child| kill(Pid::from_raw(child.id().cast_signed()), signal).is_ok())
    }

    /// Stops it; it stays stopped until [`Service::release`].
    pub fn hold(&self) {
        self.inner.is_held.store(true, Ordering::SeqCst);
        self.kill();
    }

    pub fn release(&self) {
        self.inner.is_held.store(false, Ordering::SeqCst);
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.inner.starts.load(Ordering::SeqCst)
    }

    pub fn pid(&self) -> Option<u32> {
        let child = self.inner.child.lock().expect("no panic");
        child.as_ref().map(Child::id)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::SeqCst);
        self.signal(Signal::SIGCONT);
        self.kill();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Socket {
    fn name(&self) -> &'static str {
        match self {
            Self::Stream(name, _) | Self::Datagram(name, _) => name,
        }
    }

    fn bind(&self) -> OwnedFd {
        match self {
            Self::Stream(_, path) => UnixListener::bind(path).expect("a socket").into(),
            Self::Datagram(_, path) => UnixDatagram::bind(path).expect("a socket").into(),
        }
    }
}

struct Unit {
    program: String,
    envs: Envs,
    names: String,
    sockets: Vec<OwnedFd>,
    when: When,
    log: PathBuf,
}

impl Unit {
    fn run(&self, inner: &Inner) {
        while !inner.is_over.load(Ordering::SeqCst) {
            if inner.is_held.load(Ordering::SeqCst) || !self.is_due() {
                std::thread::sleep(PAUSE);
                continue;
            }
            *inner.child.lock().expect("no panic") = Some(self.spawn());
            inner.starts.fetch_add(1, Ordering::SeqCst);
            // Waits without the lock, so that others can send signals.
            while !has_ended(inner) {
                if inner.is_over.load(Ordering::SeqCst) {
                    self.end(inner);
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether something waits at one of its sockets, or it is to run anyway.
    fn is_due(&self) -> bool {
        if self.when == When::Always {
            return true;
        }
        let mut polled: Vec<PollFd<'_>> = self
            .sockets
            .iter()
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut polled, PollTimeout::from(100_u8)).is_ok_and(|ready| ready > 0)
    }

    /// Descriptors 3 and 4 come by way of 0 and 1.
    fn spawn(&self) -> Child {
        let copy = |socket: &OwnedFd| Stdio::from(socket.try_clone().expect("a copy"));
        let script = match self.sockets.len() {
            1 => "exec setpriv --pdeathsig KILL \"$0\" 3<&0 </dev/null >/dev/null",
            _ => "exec setpriv --pdeathsig KILL \"$0\" 3<&0 4<&1 </dev/null >/dev/null",
        };
        let script = format!(
            "export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}; {script}",
            self.sockets.len(),
            self.names
        );
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log");
        let out = self.sockets.get(1).map_or_else(Stdio::null, copy);
        Command::new("sh")
            .args(["-c", &script, &self.program])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.envs.iter().cloned())
            .stdin(copy(&self.sockets[0]))
            .stdout(out)
            .stderr(log)
            .spawn()
            .expect("sh starts")
    }

    fn end(&self, inner: &Inner) {
        if let Some(mut child) = inner.child.lock().expect("no panic").take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn has_ended(inner: &Inner) -> bool {
    let mut child = inner.child.lock().expect("no panic");
    let ended = match child.as_mut() {
        Some(child) => child.try_wait().expect("wait").is_some(),
        None => true,
    };
    if ended {
        *child = None;
    }
    ended
}
