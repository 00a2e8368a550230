//! The one poll loop: output of the command, control lines and hangup of the peer, signals to us, deadlines.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::cgroup::{Cgroup, own_group, own_unit};
use super::ladder::{Ladder, Seen, Step};
use super::lines::Lines;
use super::peer::{Door, Peer, Wish};
use super::silence::{Silence, Watch};
use super::spawn::{Child, spawn};
use super::tree::ProcessTree;
use super::{Outcome, Spec};
use crate::base::{Error, Exit, Result};
use crate::wire::line::timeout;
use crate::wire::{Answer, Cancel, EndedBy, Observation, REFUSED, Started, Stream, Tree};

/// How much of one output is read before the others have their turn, in bytes.
const SHARE: usize = 64 * 1024;

/// What may be left in a pipe after its last writer is gone, at most, in bytes (fcntl(2), F_SETPIPE_SZ).
const PIPE_MOST: usize = 1024 * 1024;

/// How long the last words wait for a reader that does not read.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Whether and how a line of output goes on to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// As it is.
    On,
    /// Something else in its place.
    Instead(Stream, String),
    /// On the other stream.
    As(Stream),
    /// Not at all.
    Keep,
}

/// Where one request is carried out. There is one in a process: it takes the process's signals and all its children.
#[derive(Debug)]
pub struct Stage {
    peer: Peer,
    grace: Duration,
    signals: SignalFd,
    cgroup: Option<Rc<Cgroup>>,
    wanted: Option<Cancel>,
    /// A signal asked us to end: nobody waits for the last words of a stopped service.
    stopped: bool,
    nonsense: bool,
    scratch: Vec<u8>,
}

/// One output of a running command.
#[derive(Debug)]
struct Output {
    stream: Stream,
    fd: Option<OwnedFd>,
    lines: Lines,
}

/// A running command.
struct Running<'o> {
    tree: ProcessTree,
    outputs: Vec<Output>,
    observe: &'o mut dyn FnMut(Stream, &str) -> Pass,
    life: Life,
}

/// Signs of life: bytes that end no line, and lines that differ from the one before. A hung program can repeat itself.
#[derive(Debug, Default)]
struct Life {
    alive: bool,
    last: String,
}

/// What poll is asked about.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Peer(Door),
    Output(usize),
    Tree,
}

impl Stage {
    /// Takes SIGTERM, SIGINT, SIGHUP and SIGCHLD of this process, becomes the reaper of everything it starts, and
    /// makes the command's control group where one is delegated. The peer is told where it is served: it has to know
    /// should we get stuck before there is a command. `grace` is the time between asking and killing.
    ///
    /// # Errors
    /// When the system refuses one of these.
    pub fn new(peer: Peer, grace: Duration) -> Result<Self> {
        let mut set = SigSet::empty();
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD].into_iter().for_each(|s| set.add(s));
        let prepared = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)
            .and_then(|()| set_child_subreaper(true))
            .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC));
        let signals = prepared.map_err(|errno| Error::failed(format!("cannot watch processes: {}", errno.desc())))?;
        let cgroup = Cgroup::delegated().map(Rc::new);
        let scratch = vec![0; SHARE];
        let mut stage = Self { peer, grace, signals, cgroup, wanted: None, stopped: false, nonsense: false, scratch };
        let unit = own_unit();
        if !unit.is_empty() {
            stage.peer.started(Started { unit, pid: std::process::id(), cgroup: own_group() });
            let sent = stage.peer.flush();
            stage.heed(sent);
        }
        // Control lines may have come in one piece with the request.
        let wish = stage.peer.controls();
        stage.heed(wish);
        Ok(stage)
    }

    /// Says a line of our own.
    pub fn say(&mut self, stream: Stream, text: &str) {
        self.peer.line(stream, &super::lines::clean(text.as_bytes(), false));
    }

    /// Runs one command to its end; `observe` sees each line and decides whether it goes on. Once the peer went away,
    /// asked for the end, or we were told to stop, nothing is started any more.
    ///
    /// # Errors
    /// Exit 69 when the program cannot be started; the message names it.
    pub fn run(&mut self, spec: &Spec, observe: &mut dyn FnMut(Stream, &str) -> Pass) -> Result<Outcome> {
        if let Some(outcome) = self.pause(Duration::ZERO) {
            return Ok(outcome);
        }
        self.climb(spec, observe, None, None).map(|(outcome, _)| outcome)
    }

    /// As [`Stage::run`], for a foreign program that may hang: one that is silent for too long is ended as if that had
    /// been asked for. The second value says whether it was.
    ///
    /// # Errors
    /// As [`Stage::run`].
    pub fn run_watched(
        &mut self,
        spec: &Spec,
        silence: Silence<'_>,
        observe: &mut dyn FnMut(Stream, &str) -> Pass,
    ) -> Result<(Outcome, bool)> {
        if let Some(outcome) = self.pause(Duration::ZERO) {
            return Ok((outcome, false));
        }
        let (outcome, hung) = self.climb(spec, observe, None, Some(Watch::new(silence, Instant::now())))?;
        // Somebody's request counts for more than the silence before it.
        Ok((outcome, hung && self.wanted.is_none()))
    }

    /// Runs one more command after the end was asked for, to end what an earlier one has begun elsewhere. No wish ends
    /// it, but it has only `patience`.
    ///
    /// # Errors
    /// As [`Stage::run`].
    pub fn run_after_the_end(
        &mut self,
        spec: &Spec,
        patience: Duration,
        observe: &mut dyn FnMut(Stream, &str) -> Pass,
    ) -> Result<Outcome> {
        self.climb(spec, observe, Some(Instant::now() + patience), None).map(|(outcome, _)| outcome)
    }

    /// Starts the command and sees it to its end, which comes by itself, by somebody's wish, with a `deadline` then, or
    /// when the `watch` says that it has hung; that is the second value.
    fn climb(
        &mut self,
        spec: &Spec,
        observe: &mut dyn FnMut(Stream, &str) -> Pass,
        deadline: Option<Instant>,
        mut watch: Option<Watch<'_>>,
    ) -> Result<(Outcome, bool)> {
        let child = spawn(spec, self.cgroup.as_ref().map(|cgroup| cgroup.procs())).map_err(|error| {
            let exit =
                if error.kind() == io::ErrorKind::PermissionDenied { Exit::NotPermitted } else { Exit::Unavailable };
            Error::new(exit, format!("cannot start `{spec}`: {error}"))
        })?;
        let cgroup = self.cgroup.as_ref().map_or_else(own_group, |cgroup| cgroup.path().to_owned());
        self.peer.started(Started { unit: own_unit(), pid: child.pid.as_raw().unsigned_abs(), cgroup });
        let mut running = Running::new(child, spec.line_limit, self.cgroup.clone(), observe);
        let mut ladder = Ladder::new(self.grace);
        loop {
            running.tree.reap();
            let now = Instant::now();
            running.tick(&mut self.peer, now);
            let wanted = match deadline {
                None => self.wanted,
                Some(deadline) => (now >= deadline).then_some(Cancel::Kill),
            };
            wanted.into_iter().for_each(|cancel| ladder.want(cancel));
            let hung = watch.as_mut().is_some_and(|watch| {
                // A reader that takes no more holds the command up.
                watch.is_over(std::mem::take(&mut running.life.alive) || self.peer.is_full(), now)
            });
            if hung {
                ladder.want(Cancel::Terminate);
            }
            let due = watch.as_ref().and_then(Watch::due).into_iter().chain(deadline).min();
            match ladder.next(running.seen(), now) {
                Step::Ask => running.tree.signal(spec.first_signal),
                Step::Kill => running.tree.kill(),
                Step::Wait(until) => self.wait(Some(&mut running), until.into_iter().chain(due).min()),
                Step::Done(ended_by, tree) => {
                    running.drain(&mut self.peer, &mut self.scratch);
                    return Ok((Outcome { code: running.tree.code.unwrap_or(128 + 9), ended_by, tree }, hung));
                }
            }
        }
    }

    /// Tells the peer what works for it now, when that is no command of ours.
    pub fn served_by(&mut self, started: Started) {
        self.peer.started(started);
    }

    /// Gives the peer what systemd reported of the unit.
    pub fn observed(&mut self, observation: Observation) {
        self.peer.observed(observation);
    }

    /// Waits for `time`; ends early, with what to answer, when the end is asked for or was asked for before.
    pub fn pause(&mut self, time: Duration) -> Option<Outcome> {
        let until = Instant::now() + time;
        loop {
            self.wait(None, Some(until));
            let (signal, ended_by) = match self.wanted {
                None if Instant::now() < until => continue,
                None => return None,
                Some(Cancel::Terminate) => (Signal::SIGTERM, EndedBy::Terminate),
                Some(Cancel::Kill) => (Signal::SIGKILL, EndedBy::Kill),
            };
            return Some(Outcome { code: 128 + signal as i32, ended_by, tree: Tree::Empty });
        }
    }

    /// Tells the peer how it ended and waits until it has taken every word. The result is the exit code.
    #[must_use]
    pub fn end(mut self, result: Result<Outcome>) -> i32 {
        let code = match result {
            _ if self.nonsense => {
                self.peer.error("a control line is {\"cancel\":\"terminate\"} or {\"cancel\":\"kill\"}");
                self.last(Outcome::exit(REFUSED))
            }
            Ok(outcome) => self.last(outcome),
            Err(error) => {
                self.peer.error(&error.to_string());
                self.last(Outcome::exit(error.exit.code().into()))
            }
        };
        let sent = self.peer.flush();
        self.heed(sent);
        let until = Instant::now() + LAST_WORDS;
        while self.peer.waiting() > 0 && Instant::now() < until && !self.stopped {
            self.wait(None, Some(until));
        }
        code
    }

    fn last(&mut self, outcome: Outcome) -> i32 {
        self.peer.last(&Answer::exit(outcome.code, Some(outcome.ended_by), Some(outcome.tree)));
        outcome.code
    }

    /// Waits once, until something happened or `until`, and serves what happened.
    fn wait(&mut self, mut running: Option<&mut Running<'_>>, until: Option<Instant>) {
        let sent = self.peer.flush();
        self.heed(sent);
        let due = running.iter().flat_map(|running| running.outputs.iter().filter_map(|output| output.lines.due()));
        let until = due.chain(until).min();
        let time = until.map_or(PollTimeout::NONE, |until| timeout(until.saturating_duration_since(Instant::now())));
        for (source, ready) in self.ready(running.as_deref(), time) {
            match (source, running.as_deref_mut()) {
                (Source::Signals, _) => self.signalled(),
                (Source::Peer(door), _) => {
                    let wish = self.peer.serve(door, ready);
                    self.heed(wish);
                }
                (Source::Output(i), Some(running)) => running.read(i, SHARE, &mut self.peer, &mut self.scratch),
                (Source::Output(_) | Source::Tree, _) => {}
            }
        }
        let sent = self.peer.flush();
        self.heed(sent);
    }

    /// Polls; gives what is ready.
    fn ready(&self, running: Option<&Running<'_>>, time: PollTimeout) -> Vec<(Source, PollFlags)> {
        let (out, err) = (io::stdout(), io::stderr());
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        for watched in self.peer.watched(out.as_fd(), err.as_fd()) {
            sources.push(Source::Peer(watched.door));
            fds.push(PollFd::new(watched.fd, watched.events));
        }
        if let Some(running) = running {
            for (i, output) in running.outputs.iter().enumerate() {
                if let (Some(fd), false) = (&output.fd, self.peer.is_full()) {
                    sources.push(Source::Output(i));
                    fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLIN));
                }
            }
            if let (Some(cgroup), Some(_)) = (&self.cgroup, running.tree.code) {
                sources.push(Source::Tree);
                fds.push(PollFd::new(cgroup.events(), PollFlags::POLLPRI));
            }
        }
        match poll(&mut fds, time) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Vec::new(),
            // Out of memory, say: nothing is known to be ready, and the loop must not spin.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
        let flags = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        sources.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty()).collect()
    }

    fn heed(&mut self, wish: Wish) {
        let cancel = match wish {
            Wish::Nothing => return,
            Wish::Cancel(cancel) => cancel,
            Wish::Gone => Cancel::Terminate,
            Wish::Nonsense => {
                if !self.nonsense {
                    tracing::warn!("the peer sent a line that is no control line: the command is ended");
                }
                self.nonsense = true;
                Cancel::Terminate
            }
        };
        self.wanted = self.wanted.max(Some(cancel));
    }

    /// SIGCHLD only wakes; the others ask for the end, and the second of them for a kill.
    fn signalled(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if i32::try_from(info.ssi_signo) != Ok(Signal::SIGCHLD as i32) {
                self.wanted = Some(if self.stopped { Cancel::Kill } else { Cancel::Terminate }).max(self.wanted);
                self.stopped = true;
            }
        }
    }
}

impl<'o> Running<'o> {
    fn new(
        child: Child,
        line_limit: usize,
        cgroup: Option<Rc<Cgroup>>,
        observe: &'o mut dyn FnMut(Stream, &str) -> Pass,
    ) -> Self {
        let output = |(stream, fd)| Output { stream, fd: Some(fd), lines: Lines::up_to(line_limit) };
        let outputs = child.outputs.into_iter().map(output).collect();
        Self { tree: ProcessTree::new(child.pid, cgroup), outputs, observe, life: Life::default() }
    }

    fn seen(&mut self) -> Seen {
        let main_ended = self.tree.code.is_some();
        Seen {
            main_ended,
            group_empty: main_ended && self.tree.group_empty(),
            tree_empty: main_ended && self.tree.empty(),
            output_open: self.outputs.iter().any(|output| output.fd.is_some()),
        }
    }

    /// Tells progress updates whose time has come.
    fn tick(&mut self, peer: &mut Peer, now: Instant) {
        for output in &mut self.outputs {
            output.lines.tick(now, &mut teller(output.stream, peer, self.observe, &mut self.life));
        }
    }

    /// Reads what is there now of one output, at most `most` bytes.
    fn read(&mut self, which: usize, most: usize, peer: &mut Peer, scratch: &mut [u8]) {
        let Some(output) = self.outputs.get_mut(which) else { return };
        let mut taken = 0;
        while let (Some(fd), true) = (&output.fd, taken < most) {
            match nix::unistd::read(fd, scratch) {
                Ok(count) if count > 0 => {
                    let bytes = &scratch[..count];
                    let now = Instant::now();
                    output.lines.feed(bytes, now, &mut teller(output.stream, peer, self.observe, &mut self.life));
                    self.life.alive |= !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
                    taken += count;
                }
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // The end: no writer has a pipe open (0), or a terminal (EIO).
                Ok(_) | Err(_) => {
                    output.fd = None;
                    output.lines.finish(&mut teller(output.stream, peer, self.observe, &mut self.life));
                }
            }
        }
    }

    /// Reads what is left, without waiting for more, and closes the outputs.
    fn drain(&mut self, peer: &mut Peer, scratch: &mut [u8]) {
        for which in 0..self.outputs.len() {
            self.read(which, PIPE_MOST, peer, scratch);
            let output = &mut self.outputs[which];
            if output.fd.take().is_some() {
                output.lines.finish(&mut teller(output.stream, peer, self.observe, &mut self.life));
            }
        }
    }
}

/// What is done with one line of `stream`.
fn teller<'a>(
    stream: Stream,
    peer: &'a mut Peer,
    observe: &'a mut dyn FnMut(Stream, &str) -> Pass,
    life: &'a mut Life,
) -> impl FnMut(&str) + 'a {
    move |text| {
        if life.last != text {
            life.alive = true;
            text.clone_into(&mut life.last);
        }
        match observe(stream, text) {
            Pass::On => peer.line(stream, text),
            Pass::Instead(other, words) => peer.line(other, &words),
            Pass::As(other) => peer.line(other, text),
            Pass::Keep => {}
        }
    }
}
