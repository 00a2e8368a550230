//! The loop of left4me-link. Everything happens one after the other, so that nothing is handed to
//! gate out of order; what waits for others (questions, reading) has tasks of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixDatagram, UnixListener};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, sleep_until};

use super::ask::Asks;
use super::carry::{self, Signer};
use super::engine::{Engine, Heard};
use super::gate::Gate;
use super::hold::Hold;
use super::readers::{Read, Readers};
use super::roster::SignedRoster;
use super::status::Status;
use crate::base::{Error, Result, clock, notify};
use crate::domain::fleet::lease::{self, Lease};
use crate::wire::gate::{BATCH, GateAnswer, GateRequest, Generations, LinkState, Source, Taken};

/// The time between two exchanges when nothing wakes link.
const LOOK: Duration = Duration::from_secs(30);

/// The time before the next attempt after a failure.
const AGAIN: Duration = Duration::from_secs(3);

/// The time before a reader that has ended begins again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// The time between two attempts to get the lease that another process holds.
const LEASE_LOOK: Duration = Duration::from_secs(5);

/// For how long it is told that a copy of this host was refused.
const COPY_TOLD: Duration = Duration::from_secs(300);

/// A visit ends when nothing has happened for this time.
const QUIET: Duration = Duration::from_secs(2);

/// A visit ends after this time without a connection or the lease.
const LONGEST_VISIT: Duration = Duration::from_secs(110);

pub struct Sockets {
    /// A datagram here: there is something to take.
    pub wake: UnixDatagram,
    /// Programs of this host ask other hosts here.
    pub ask: UnixListener,
}

/// How long it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Until it is stopped.
    Resident,
    /// Until everything has been carried.
    Visit,
}

pub struct Link<E> {
    pub engine: E,
    pub gate: Gate,
    pub gate_socket: PathBuf,
    pub signer: Arc<Signer>,
    pub hold: Hold,
    pub status: Status,
    pub roster: SignedRoster,
    pub stay: Stay,
    readers: Readers,
    /// Whether there is a connection, and since when it is or is not; unix ms.
    connected: bool,
    since: i64,
    complaint: Option<String>,
    /// Another process of this host's identity, which was refused.
    copy: Option<(String, Instant)>,
    /// When the engine was asked about its streams; None until it was on this connection.
    asked: Option<Instant>,
    /// What it said last.
    generations: Generations,
    look: Instant,
    renewal: Instant,
    active: Instant,
}

/// What [`Link::new`] needs.
pub struct Parts<E> {
    pub engine: E,
    pub gate_socket: PathBuf,
    pub signer: Signer,
    pub lease: Lease,
    pub status: Status,
    pub roster: SignedRoster,
    pub stay: Stay,
}

impl<E: Engine> Link<E> {
    pub fn new(parts: Parts<E>) -> (Self, mpsc::Receiver<(u64, Read)>) {
        let (readers, read) = Readers::new();
        let now = Instant::now();
        let link = Self {
            engine: parts.engine,
            gate: Gate::new(parts.gate_socket.clone()),
            gate_socket: parts.gate_socket,
            hold: Hold::new(parts.signer.host.clone(), parts.lease),
            signer: Arc::new(parts.signer),
            status: parts.status,
            roster: parts.roster,
            stay: parts.stay,
            readers,
            connected: false,
            since: clock::now_ms(),
            complaint: None,
            copy: None,
            asked: None,
            generations: Generations::default(),
            // The first exchange tells gate that there is no connection yet, unless one comes at once.
            look: now + AGAIN,
            renewal: now,
            active: now,
        };
        (link, read)
    }

    /// Runs until `stop`, or until the visit is over.
    pub async fn run(
        mut self,
        mut read: mpsc::Receiver<(u64, Read)>,
        mut heard: mpsc::UnboundedReceiver<Heard>,
        sockets: Sockets,
        stop: impl Future<Output = ()>,
    ) {
        let begin = Instant::now();
        let mut stop = std::pin::pin!(stop);
        let mut watchdog =
            tokio::time::interval(notify::watchdog_interval().unwrap_or(Duration::from_secs(3600)));
        loop {
            // In the middle of anything: what waits for the engine may wait long, and all that is carried
            // may be carried twice.
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = self.turn(&mut read, &mut heard, &sockets, &mut watchdog) => {}
            }
            if self.stay == Stay::Visit && self.is_over(begin) {
                break;
            }
        }

        notify::stopping("stopping");
        self.readers.stop_all();
        let leave = async {
            if self.stay == Stay::Resident
                && self.connected
                && let Err(error) = self.hold.give_back(&self.engine).await
            {
                tracing::info!(%error, "the lease was not given back");
            }
        };
        tokio::time::timeout(AGAIN, leave).await.ok();
    }

    /// Waits for the next thing that happens, and does what follows from it.
    async fn turn(
        &mut self,
        read: &mut mpsc::Receiver<(u64, Read)>,
        heard: &mut mpsc::UnboundedReceiver<Heard>,
        sockets: &Sockets,
        watchdog: &mut Interval,
    ) {
        let mut byte = [0; 16];
        let next = self.next();
        tokio::select! {
            biased;
            Some(event) = heard.recv() => self.hear(event),
            _ = sockets.wake.recv(&mut byte) => self.look = Instant::now(),
            _ = watchdog.tick() => {}
            Some((number, read)) = read.recv() => self.take_in(number, read).await,
            Ok((stream, _)) = sockets.ask.accept() => {
                self.active = Instant::now();
                tokio::spawn(self.asks().serve(stream, self.connected));
            }
            () = sleep_until(next) => {}
        }
        notify::watchdog();
        self.work().await;
    }

    fn asks(&self) -> Asks<E> {
        Asks {
            engine: self.engine.clone(),
            signer: Arc::clone(&self.signer),
            gate_socket: self.gate_socket.clone(),
        }
    }

    fn next(&self) -> Instant {
        let next = match self.connected {
            true => self.look.min(self.renewal),
            false => self.look,
        };
        match self.stay {
            Stay::Resident => next,
            Stay::Visit => next.min(Instant::now() + QUIET),
        }
    }

    /// Whether a visit has nothing left to do.
    fn is_over(&self, begin: Instant) -> bool {
        let is_done = self.connected && self.hold.is_held() && self.asked.is_some();
        (is_done && self.active.elapsed() >= QUIET) || begin.elapsed() >= LONGEST_VISIT
    }

    /// What is due.
    async fn work(&mut self) {
        let now = Instant::now();
        if self.connected && self.renewal <= now {
            self.renew().await;
        }
        if self.look <= now {
            self.look = now + LOOK;
            if let Err(error) = self.exchange().await {
                tracing::warn!(%error, "nothing was exchanged; it is tried again");
                self.look = Instant::now() + AGAIN;
                // The engine may be another one now.
                self.asked = None;
            }
        }
    }

    fn hear(&mut self, event: Heard) {
        match event {
            Heard::Connected => self.set_connected(true),
            Heard::Disconnected => self.set_connected(false),
            Heard::Complaint(why) => {
                tracing::warn!("the engine: {why}");
                if !self.connected && self.complaint.as_ref() != Some(&why) {
                    self.complaint = Some(why);
                    self.look = Instant::now();
                }
            }
            // Another process is this host, and answers.
            Heard::Asked(_) if !self.hold.is_held() => {}
            Heard::Asked(asked) => {
                self.active = Instant::now();
                tokio::spawn(self.asks().answer(asked));
            }
            Heard::Refused(body) => self.hear_of_copy(&body),
        }
    }

    fn hear_of_copy(&mut self, body: &[u8]) {
        // One's own words come back, too.
        if !self.hold.is_held() {
            return;
        }
        let machine = serde_json::from_slice(body).map_or_else(
            |_| "unknown".to_owned(),
            |lease: Lease| lease.machine.chars().take(64).collect(),
        );
        tracing::warn!("a copy of this host, on machine {machine}, was refused");
        self.copy = Some((machine, Instant::now()));
        self.look = Instant::now();
    }

    fn set_connected(&mut self, connected: bool) {
        if self.connected != connected {
            self.since = clock::now_ms();
            tracing::info!(
                "{}",
                if connected {
                    "connected"
                } else {
                    "disconnected"
                }
            );
        }
        self.connected = connected;
        self.readers.stop_all();
        self.asked = None;
        self.roster.forget();
        (self.look, self.renewal) = (Instant::now(), Instant::now());
        if connected {
            self.complaint = None;
        }
        notify::status(match connected {
            true => "connected to the engine",
            false => "not connected to the engine: orders and events wait",
        });
    }

    /// Takes or renews the lease.
    async fn renew(&mut self) {
        let (had, was_refused) = (self.hold.is_held(), self.hold.other().is_some());
        let renewed = self.hold.renew(&self.engine).await;
        let is_held = self.hold.is_held();
        let pause = match (&renewed, is_held) {
            (Ok(()), true) => Duration::from_millis(lease::RENEWAL.unsigned_abs()),
            (Ok(()), false) => LEASE_LOOK,
            (Err(_), _) => AGAIN,
        };
        self.renewal = Instant::now() + pause;
        if let Err(error) = renewed {
            tracing::warn!(%error, "the lease was not renewed");
        }
        if had != is_held || was_refused != self.hold.other().is_some() {
            self.look = Instant::now();
        }
        if !is_held {
            self.readers.stop_all();
        }
        if let (Some(other), false) = (self.hold.other(), was_refused) {
            tracing::error!(
                "another process has this host's identity, on machine {}: nothing is carried here",
                other.machine
            );
            notify::status("refused: another process has this host's identity");
        }
    }

    /// How the connection is, for gate.
    fn state(&self) -> LinkState {
        let other = self.hold.other();
        let copy = self
            .copy
            .as_ref()
            .filter(|(_, at)| at.elapsed() < COPY_TOLD);
        let error = match (other, self.connected, copy) {
            (Some(other), ..) => Some(format!(
                "another machine, {}, has this host's identity; stop one of the two, and make a new \
                 key for it with `left4me fleet join`",
                other.machine
            )),
            (None, false, _) => self.complaint.clone(),
            (None, true, Some((machine, _))) => Some(format!(
                "a copy of this host, on machine {machine}, was refused"
            )),
            (None, true, None) => None,
        };
        LinkState {
            connected: self.connected && other.is_none(),
            since: self.since,
            error,
            is_clone: other.is_some(),
            generations: self.generations.clone(),
        }
    }

    /// Takes what gate has, and carries it. Without a connection or the lease, it only says so.
    async fn exchange(&mut self) -> Result<()> {
        let carries = self.connected && self.hold.is_held();
        if carries {
            self.ask_generations().await?;
        }

        loop {
            let taken = self.take(if carries { BATCH } else { 0 }).await?;
            if !carries {
                return Ok(());
            }
            if taken.controls {
                self.roster.tell(&self.engine).await?;
            }
            let is_beginning = self.readers.start(&self.engine, &taken, &self.generations);
            if let Some(missing) = taken.missing.clone() {
                self.active = Instant::now();
                tokio::spawn(self.asks().fetch(missing));
            }

            let generations = &mut self.generations;
            let carried = carry::carry(&self.engine, &self.signer, &taken, generations).await?;
            let has_news = !taken.orders.is_empty() || !taken.events.is_empty();
            if has_news || !taken.rollouts.is_empty() {
                self.active = Instant::now();
                self.gate.ask(&carried.sent).await?;
            }
            if let Some(status) = self.status.due(taken.status) {
                carry::tell_status(&self.engine, &self.signer, &status).await?;
                self.status.told();
            }
            if is_beginning {
                // On a slow line all of that takes long, and what waits for this host is only read now.
                self.active = Instant::now();
            }
            if let Some(error) = carried.failed {
                return Err(error);
            }
            if !taken.more {
                return Ok(());
            }
            notify::watchdog();
        }
    }

    /// Asks the engine when its streams were made, unless that is known from just before.
    async fn ask_generations(&mut self) -> Result<()> {
        let is_fresh = |at: Instant| at.elapsed() < LOOK / 2;
        if !self.asked.is_some_and(is_fresh) {
            self.generations = self.engine.generations().await?;
            self.asked = Some(Instant::now());
        }
        Ok(())
    }

    async fn take(&mut self, limit: usize) -> Result<Box<Taken>> {
        let request = GateRequest::Take {
            link: self.state(),
            limit,
        };
        match self.gate.ask(&request).await? {
            GateAnswer::Taken(taken) => Ok(taken),
            _ => Err(Error::unavailable(
                "left4me-gate gave another answer than asked for",
            )),
        }
    }

    /// Hands to gate what was read.
    async fn take_in(&mut self, number: u64, read: Read) {
        if !self.readers.is_current(number) {
            return;
        }
        let batch = match read {
            Read::Batch(batch) => batch,
            Read::Ended(from, error) => {
                tracing::info!(%error, "{from:?} are read again from where they were taken");
                self.again(from);
                return;
            }
        };
        // Another process may be this host by now.
        if !self.hold.is_held() {
            self.again(batch.from);
            return;
        }

        self.active = Instant::now();
        let from = batch.from;
        let last = batch.messages.last().map_or(0, |message| message.sequence);
        match from {
            Source::Orders => self.generations.last_order = self.generations.last_order.max(last),
            Source::Events => self.generations.last_event = self.generations.last_event.max(last),
            Source::Hosts | Source::Roster | Source::Places | Source::Rollouts => {}
        }
        let request = GateRequest::Deliver {
            from,
            generation: batch.generation,
            messages: batch.messages,
        };
        let answer = self.gate.ask(&request).await;
        // Also without an answer: gate may have taken it.
        if from == Source::Roster {
            self.believe_again();
        }
        match answer {
            // The receipts of orders are taken at once.
            Ok(_) if from == Source::Orders => self.look = Instant::now(),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "{from:?} were not taken; they are read again");
                self.again(from);
            }
        }
    }

    /// What hosts told before the roster named them was noise: the statuses are read again, and the
    /// events from where gate says now. A host that is no viewer reads neither.
    fn believe_again(&mut self) {
        let hosts = self.readers.stop(Source::Hosts);
        let events = self.readers.stop(Source::Events);
        if hosts || events {
            self.look = Instant::now();
        }
    }

    /// Reads this again, from the position that gate has, in a moment.
    fn again(&mut self, from: Source) {
        self.readers.stop(from);
        self.asked = None;
        self.look = self
            .look
            .min(Instant::now() + READ_AGAIN)
            .max(Instant::now());
    }
}
