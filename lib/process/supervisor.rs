//! Supervises commands in one poll loop: their output, control lines and hangup of the peer,
//! signals to this process, deadlines.

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
use super::escalation::{Escalation, NextStep};
use super::peer::{Peer, PeerEvent, PeerFd};
use super::running::{Relay, Running};
use super::silence::{Silence, SilenceWatch};
use super::spawn::spawn;
use super::{Outcome, Spec};
use crate::base::names::InstanceName;
use crate::base::{Error, Exit, Result};
use crate::wire::batch::BatchLine;
use crate::wire::line::timeout;
use crate::wire::{Answer, Builds, Cancel, Observation, REFUSED, Started, Stream};

/// How much of one output is read before the others get their share, in bytes.
const SHARE: usize = 64 * 1024;

/// How long the last answers wait for a reader that does not read.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// Carries out one request. A process has at most one: it takes the process's signals and reaps all
/// its children.
#[derive(Debug)]
pub struct Supervisor {
    peer: Peer,
    grace: Duration,
    signals: SignalFd,
    cgroup: Option<Rc<Cgroup>>,
    requested: Option<Cancel>,
    /// A signal stopped this process: it does not wait until the last answers are read.
    stopped: bool,
    /// The peer sent a line that is no control line.
    malformed: bool,
    /// What else ends a wait while no command runs: a batch's other thread has something to report.
    wake: Option<OwnedFd>,
    buffer: Vec<u8>,
}

/// What the poll loop waits for.
#[derive(Clone, Copy)]
enum PollSource {
    Signals,
    Peer(PeerFd),
    Output(usize),
    Tree,
    Wake,
}

impl Supervisor {
    /// Takes SIGTERM, SIGINT, SIGHUP and SIGCHLD of this process, becomes the reaper of everything
    /// it starts, and makes the command's control group where one is delegated. Tells the peer
    /// which unit serves it, so that it knows even when this process hangs before it starts a
    /// command. `grace` is the time between the first signal and SIGKILL.
    pub fn new(peer: Peer, grace: Duration) -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ] {
            set.add(signal);
        }

        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)
            .and_then(|()| set_child_subreaper(true))
            .and_then(|()| SignalFd::with_flags(&set, flags));
        let signals = signals
            .map_err(|errno| Error::failed(format!("cannot watch processes: {}", errno.desc())))?;

        let mut supervisor = Self {
            peer,
            grace,
            signals,
            cgroup: Cgroup::delegated().map(Rc::new),
            requested: None,
            stopped: false,
            malformed: false,
            wake: None,
            buffer: vec![0; SHARE],
        };

        let unit = own_unit();

        if !unit.is_empty() {
            let (pid, cgroup) = (std::process::id(), own_group());
            supervisor.peer.started(Started { unit, pid, cgroup });
            supervisor.flush();
        }

        // Control lines may have come together with the request.
        let event = supervisor.peer.controls();
        supervisor.handle(event);
        Ok(supervisor)
    }

    /// Sends a line of this program itself.
    pub fn write_line(&mut self, stream: Stream, text: &str) {
        self.peer
            .line(stream, &super::lines::clean(text.as_bytes(), false));
    }

    /// Runs one command to its end. `observe` gets each line and decides whether the peer gets it.
    /// Starts nothing once the peer is gone, has cancelled, or a signal stopped this process.
    pub fn run(
        &mut self,
        spec: &Spec,
        observe: &mut dyn FnMut(Stream, &str) -> Relay,
    ) -> Result<Outcome> {
        if let Some(outcome) = self.pause(Duration::ZERO) {
            return Ok(outcome);
        }
        self.supervise(spec, observe, None, None)
            .map(|(outcome, _)| outcome)
    }

    /// As [`Supervisor::run`], for a program that may hang: when it is silent for too long, it is
    /// ended as if it was cancelled. The second value says whether that happened.
    pub fn run_watched(
        &mut self,
        spec: &Spec,
        silence: Silence<'_>,
        observe: &mut dyn FnMut(Stream, &str) -> Relay,
    ) -> Result<(Outcome, bool)> {
        if let Some(outcome) = self.pause(Duration::ZERO) {
            return Ok((outcome, false));
        }

        let watch = SilenceWatch::new(silence, Instant::now());
        let (outcome, hung) = self.supervise(spec, observe, None, Some(watch))?;
        // A cancellation counts for more than the silence before it.
        Ok((outcome, hung && self.requested.is_none()))
    }

    /// Runs a command that cannot be cancelled, and is killed after `patience`: one more after a
    /// cancellation, to end what an earlier one began elsewhere; or one for a batch.
    pub fn run_after_the_end(
        &mut self,
        spec: &Spec,
        patience: Duration,
        observe: &mut dyn FnMut(Stream, &str) -> Relay,
    ) -> Result<Outcome> {
        let deadline = Instant::now() + patience;
        self.supervise(spec, observe, Some(deadline), None)
            .map(|(outcome, _)| outcome)
    }

    /// Starts the command and waits for its end. With a `deadline` only that ends it early; without
    /// one a cancellation does, or `watch` when the command hangs. The second value says whether it
    /// hung.
    fn supervise(
        &mut self,
        spec: &Spec,
        observe: &mut dyn FnMut(Stream, &str) -> Relay,
        deadline: Option<Instant>,
        mut watch: Option<SilenceWatch<'_>>,
    ) -> Result<(Outcome, bool)> {
        let procs = self.cgroup.as_ref().map(|cgroup| cgroup.procs());
        let child = spawn(spec, procs).map_err(|error| {
            let exit = match error.kind() {
                io::ErrorKind::PermissionDenied => Exit::NotPermitted,
                _ => Exit::Unavailable,
            };

            Error::new(exit, format!("cannot start `{spec}`: {error}"))
        })?;

        let cgroup = self
            .cgroup
            .as_ref()
            .map_or_else(own_group, |cgroup| cgroup.path().to_owned());
        let pid = child.pid.as_raw().unsigned_abs();
        self.peer.started(Started {
            unit: own_unit(),
            pid,
            cgroup,
        });

        let mut running = Running::new(child, spec.line_limit, self.cgroup.clone(), observe);
        let mut escalation = Escalation::new(self.grace);
        loop {
            running.tree.reap();
            let now = Instant::now();
            running.relay_due(&mut self.peer, now);

            let requested = match deadline {
                None => self.requested,
                Some(deadline) => (now >= deadline).then_some(Cancel::Kill),
            };

            requested
                .into_iter()
                .for_each(|cancel| escalation.request(cancel));
            let hung = watch.as_mut().is_some_and(|watch| {
                // A command that waits for a slow reader has not hung.
                watch.is_over(
                    std::mem::take(&mut running.signs.any) || self.peer.is_full(),
                    now,
                )
            });

            if hung {
                escalation.request(Cancel::Terminate);
            }

            let due = watch
                .as_ref()
                .and_then(SilenceWatch::due)
                .into_iter()
                .chain(deadline)
                .min();
            match escalation.next(running.state(), now) {
                NextStep::Signal => running.tree.signal(spec.first_signal),
                NextStep::Kill => running.tree.kill(),
                NextStep::Wait(until) => {
                    self.wait(Some(&mut running), until.into_iter().chain(due).min());
                }
                NextStep::Done(ended_by, tree) => {
                    running.drain(&mut self.peer, &mut self.buffer);
                    let code = running.tree.code.unwrap_or(128 + 9);
                    return Ok((
                        Outcome {
                            code,
                            ended_by,
                            tree,
                        },
                        hung,
                    ));
                }
            }
        }
    }

    /// Tells the peer what works for it now, when that is no command of this process.
    pub fn served_by(&mut self, started: Started) {
        self.peer.started(started);
    }

    /// Sends the peer what systemd reported of the unit.
    pub fn observed(&mut self, observation: Observation) {
        self.peer.observed(observation);
    }

    /// Sends the peer the builds of the game.
    pub fn builds(&mut self, builds: Builds) {
        self.peer.builds(builds);
    }

    /// Lets bytes on `wake` end [`Supervisor::wait_in_batch`]. Their reader is the caller.
    pub fn watch(&mut self, wake: OwnedFd) {
        self.wake = Some(wake);
    }

    /// Waits until there is something to do for a batch: a line of the client, or bytes on the watched
    /// descriptor. Returns how all of it was cancelled, if so.
    pub fn wait_in_batch(&mut self) -> Option<Cancel> {
        if self.requested.is_none() && !self.peer.has_batch_lines() {
            self.wait(None, None);
        }
        self.requested
    }

    /// The lines of the batch that arrived since the last call.
    pub fn batch_lines(&mut self) -> Vec<BatchLine> {
        self.peer.take_batch_lines()
    }

    /// Sends an answer that concerns one server of the batch.
    pub fn of_server(&mut self, server: &InstanceName, answer: Answer<'_>) {
        self.peer.of_server(server, answer);
    }

    /// Waits for `time`. Returns early, with the outcome to answer, when the request is or was
    /// cancelled.
    pub fn pause(&mut self, time: Duration) -> Option<Outcome> {
        let until = Instant::now() + time;
        loop {
            self.wait(None, Some(until));
            match self.requested {
                None if Instant::now() < until => {}
                requested => return requested.map(Outcome::cancelled),
            }
        }
    }

    /// Sends the last answer and waits until the peer has read everything. Returns the exit code.
    pub fn end(mut self, result: Result<Outcome>) -> i32 {
        let code = match result {
            _ if self.malformed => {
                let expected =
                    "a control line is {\"cancel\":\"terminate\"} or {\"cancel\":\"kill\"}";
                self.peer.error(expected);
                self.last(Outcome::exit(REFUSED))
            }
            Ok(outcome) => self.last(outcome),
            Err(error) => {
                self.peer.error(&error.to_string());
                self.last(Outcome::exit(error.exit.code().into()))
            }
        };

        self.flush();
        let until = Instant::now() + LAST_ANSWERS;
        while self.peer.waiting() > 0 && Instant::now() < until && !self.stopped {
            self.wait(None, Some(until));
        }
        code
    }

    fn last(&mut self, outcome: Outcome) -> i32 {
        let Outcome {
            code,
            ended_by,
            tree,
        } = outcome;

        self.peer
            .last(&Answer::exit(code, Some(ended_by), Some(tree)));
        code
    }

    /// Waits once, until something happens or `until`, and handles it.
    fn wait(&mut self, mut running: Option<&mut Running<'_>>, until: Option<Instant>) {
        self.flush();
        let outputs = running.iter().flat_map(|running| running.outputs.iter());
        let due = outputs.filter_map(|output| output.lines.due());
        let until = due.chain(until).min();
        let time = until.map_or(PollTimeout::NONE, |until| {
            timeout(until.saturating_duration_since(Instant::now()))
        });

        for (source, ready) in self.ready(running.as_deref(), time) {
            match (source, running.as_deref_mut()) {
                (PollSource::Signals, _) => self.read_signals(),
                (PollSource::Peer(fd), _) => {
                    let event = self.peer.serve(fd, ready);
                    self.handle(event);
                }
                (PollSource::Output(i), Some(running)) => {
                    running.read(i, SHARE, &mut self.peer, &mut self.buffer);
                }
                (PollSource::Output(_) | PollSource::Tree | PollSource::Wake, _) => {}
            }
        }

        self.flush();
    }

    /// Polls. Returns what is ready.
    fn ready(
        &self,
        running: Option<&Running<'_>>,
        time: PollTimeout,
    ) -> Vec<(PollSource, PollFlags)> {
        let (out, err) = (io::stdout(), io::stderr());
        let mut sources = vec![PollSource::Signals];
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];

        for polled in self.peer.polled(out.as_fd(), err.as_fd()) {
            sources.push(PollSource::Peer(polled.which));
            fds.push(PollFd::new(polled.fd, polled.events));
        }

        if let (Some(wake), None) = (&self.wake, running) {
            sources.push(PollSource::Wake);
            fds.push(PollFd::new(wake.as_fd(), PollFlags::POLLIN));
        }

        if let Some(running) = running {
            for (i, output) in running.outputs.iter().enumerate() {
                if let (Some(fd), false) = (&output.fd, self.peer.is_full()) {
                    sources.push(PollSource::Output(i));
                    fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLIN));
                }
            }

            if let (Some(cgroup), Some(_)) = (&self.cgroup, running.tree.code) {
                sources.push(PollSource::Tree);
                fds.push(PollFd::new(cgroup.events(), PollFlags::POLLPRI));
            }
        }

        match poll(&mut fds, time) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Vec::new(),
            // Out of memory, for example: nothing is known to be ready, and the loop must not spin.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }

        let flags = fds
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        sources
            .into_iter()
            .zip(flags)
            .filter(|(_, flags)| !flags.is_empty())
            .collect()
    }

    fn flush(&mut self) {
        let event = self.peer.flush();
        self.handle(event);
    }

    fn handle(&mut self, event: PeerEvent) {
        let cancel = match event {
            PeerEvent::None => return,
            PeerEvent::Cancel(cancel) => cancel,
            PeerEvent::Gone => Cancel::Terminate,
            PeerEvent::Malformed => {
                if !self.malformed {
                    tracing::warn!(
                        "the peer sent a line that is no control line: the command is ended"
                    );
                }

                self.malformed = true;
                Cancel::Terminate
            }
        };

        self.requested = self.requested.max(Some(cancel));
    }

    /// SIGCHLD only wakes the loop. The first of the other signals terminates, the second kills.
    fn read_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if i32::try_from(info.ssi_signo) != Ok(Signal::SIGCHLD as i32) {
                let cancel = if self.stopped {
                    Cancel::Kill
                } else {
                    Cancel::Terminate
                };

                self.requested = Some(cancel).max(self.requested);
                self.stopped = true;
            }
        }
    }
}
