//! The one loop: it accepts clients, reads their requests, asks the games, and answers as the
//! answers come. Nothing in it waits for one client or one game.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Uid;

use super::a2s::{A2s, Key, Outcome};
use super::client::Client;
use super::complaints::Complaints;
use super::look::{Asked, Parts};
use super::remote::{Remote, Ticket};
use super::sockets::Sockets;
use crate::base::names::InstanceName;
use crate::base::{Error, Result, notify, users};
use crate::domain::game_command;
use crate::process::handshake;
use crate::wire::console::{ConsoleAnswer, ConsoleRequest, ConsoleResult, ConsoleVerb, Failure};
use crate::wire::line::timeout;

/// The most connections; further ones wait in the listener.
const MOST_CLIENTS: usize = 64;
/// The most games whose console is used at once.
const MOST_REMOTES: usize = 1024;
/// The most questions under way over UDP.
const MOST_QUESTIONS: usize = 4096;
/// The most datagrams that are read at once.
const MOST_DATAGRAMS: usize = 512;
/// How long requests under way may take at exit.
const DRAIN_TIME: Duration = Duration::from_secs(6);

/// What the program is given.
pub struct Settings {
    pub listener: UnixListener,
    /// SIGTERM and SIGINT.
    pub signals: SignalFd,
    pub sockets: Sockets,
    /// The data directory.
    pub root: PathBuf,
    /// Exit after this time without a request.
    pub idle: Duration,
}

pub struct Server {
    settings: Settings,
    clients: HashMap<u64, Client>,
    next_client: u64,
    a2s: A2s,
    /// Open only while something is asked: what comes later is nobody's answer.
    udp: Option<UdpSocket>,
    /// Requests that wait for an answer over UDP, by port.
    asked: HashMap<u16, Vec<Asked>>,
    remotes: HashMap<(InstanceName, u16), Remote>,
    complaints: Complaints,
    active: Instant,
    stop_at: Option<Instant>,
}

/// One of the descriptors that are waited for.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Udp,
    Client(u64),
    /// A connection to a game: it is tried anyway.
    Remote,
}

impl Server {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            clients: HashMap::new(),
            next_client: 0,
            a2s: A2s::default(),
            udp: None,
            asked: HashMap::new(),
            remotes: HashMap::new(),
            complaints: Complaints::default(),
            active: Instant::now(),
            stop_at: None,
        }
    }

    /// Serves until idle, or until it is told to stop and what is under way has ended.
    pub fn run(&mut self) -> Result<()> {
        let beat = notify::watchdog_interval();
        while !self.is_over(Instant::now()) {
            notify::watchdog();
            let left = self.due(beat).saturating_duration_since(Instant::now());
            let ready = self.wait(left)?;

            let now = Instant::now();
            for (source, flags) in ready {
                match source {
                    Source::Signals => self.stop(now),
                    Source::Listener => self.accept(now),
                    Source::Udp => self.receive(now),
                    Source::Client(client) => self.read(now, client, flags),
                    Source::Remote => {}
                }
            }

            self.a2s.tick(now);
            self.answer_asked(now);
            self.advance_remotes(now);
            self.send(now);
            self.close_clients(now);
        }
        Ok(())
    }

    fn wait(&self, time: Duration) -> Result<Vec<(Source, PollFlags)>> {
        let (mut sources, mut fds) = (Vec::new(), Vec::new());
        let mut add = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::new(fd, flags));
        };

        add(
            Source::Signals,
            self.settings.signals.as_fd(),
            PollFlags::POLLIN,
        );
        if self.stop_at.is_none() && self.clients.len() < MOST_CLIENTS {
            let listener: BorrowedFd<'_> = self.settings.listener.as_fd();
            add(Source::Listener, listener, PollFlags::POLLIN);
        }
        if let Some(udp) = &self.udp {
            add(Source::Udp, udp.as_fd(), PollFlags::POLLIN);
        }
        for (client, one) in &self.clients {
            let (fd, mut flags) = one.events();
            if self.stop_at.is_some() {
                flags.remove(PollFlags::POLLIN);
            }
            add(Source::Client(*client), fd, flags);
        }
        for (fd, flags) in self.remotes.values().filter_map(Remote::events) {
            add(Source::Remote, fd, flags);
        }

        match poll(&mut fds, timeout(time)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::failed(format!("poll: {}", errno.desc()))),
        }
        let flags = fds.iter().map(PollFd::revents);
        let ready = sources.into_iter().zip(flags);
        Ok(ready
            .filter_map(|(source, flags)| Some((source, flags?)))
            .filter(|(_, flags)| !flags.is_empty())
            .collect())
    }

    /// When something has to be done although nothing happens.
    fn due(&self, beat: Option<Duration>) -> Instant {
        let now = Instant::now();
        let clients = self.clients.values().map(Client::due);
        let remotes = self.remotes.values().filter_map(Remote::due);
        let idle = (!self.is_busy()).then(|| self.active + self.settings.idle);
        clients
            .chain(remotes)
            .chain(self.a2s.due())
            .chain(idle.filter(|at| *at > now))
            .chain(self.stop_at)
            .chain(beat.map(|beat| now + beat))
            .min()
            .unwrap_or(now + Duration::from_secs(60))
    }

    fn is_busy(&self) -> bool {
        !self.asked.is_empty()
            || self.remotes.values().any(Remote::is_busy)
            || self.clients.values().any(Client::is_waiting)
    }

    fn is_over(&self, now: Instant) -> bool {
        if let Some(at) = self.stop_at {
            return now >= at || !self.is_busy();
        }
        // A refused password would be tried again by the next process.
        let remembers = || self.remotes.values().any(|remote| remote.remembers(now));
        let is_idle = now.saturating_duration_since(self.active) >= self.settings.idle;
        is_idle && !self.is_busy() && !remembers()
    }

    /// Takes no further requests. What is under way ends in a moment.
    fn stop(&mut self, now: Instant) {
        let _ = self.settings.signals.read_signal();
        if self.stop_at.is_none() {
            notify::stopping("exiting");
            self.stop_at = Some(now + DRAIN_TIME);
        }
    }

    fn accept(&mut self, now: Instant) {
        while self.clients.len() < MOST_CLIENTS {
            let stream = match self.settings.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    return;
                }
            };
            self.active = now;
            if stream.set_nonblocking(true).is_err() {
                continue;
            }

            let refusal = refusal(&stream);
            let mut client = Client::new(stream, now);
            if let Some(why) = refusal {
                tracing::warn!("connection refused: {why}");
                client.refuse(&why);
                continue;
            }
            self.clients.insert(self.next_client, client);
            self.next_client += 1;
        }
    }

    fn read(&mut self, now: Instant, number: u64, ready: PollFlags) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        let requests = client.read(now, ready);
        for request in requests {
            self.active = now;
            self.request(now, number, request);
        }
    }

    fn request(&mut self, now: Instant, client: u64, request: ConsoleRequest) {
        let ticket = Ticket {
            client,
            id: request.id,
        };
        let (server, port) = (request.server, request.port);
        let parts = match request.verb {
            ConsoleVerb::Exec { command } => {
                if let Some(result) = self.exec(now, ticket, server, port, command) {
                    self.answer(now, ticket, result);
                }
                return;
            }
            ConsoleVerb::Info => Parts::Info,
            ConsoleVerb::Players => Parts::Players,
            ConsoleVerb::Rules => Parts::Rules,
            ConsoleVerb::Look => Parts::Look,
        };
        if let Some(result) = self.ask(now, ticket, server, port, parts) {
            self.answer(now, ticket, result);
        }
    }

    /// Asks over UDP. Returns the result if it is known.
    fn ask(
        &mut self,
        now: Instant,
        ticket: Ticket,
        server: InstanceName,
        port: u16,
        parts: Parts,
    ) -> Option<ConsoleResult> {
        if self.a2s.under_way() >= MOST_QUESTIONS {
            return Some(busy());
        }
        if let Err(error) = self.open_udp() {
            let why = format!("cannot ask over UDP: {error}");
            return Some(ConsoleResult::failed(Failure::NoAnswer, why));
        }

        let mut asked = Asked::new(ticket, server, parts);
        for question in parts.questions() {
            if let Some(outcome) = self.a2s.ask(now, (port, *question)) {
                asked.take(*question, &outcome);
            }
        }
        match asked.result() {
            Some(result) => Some(result),
            None => {
                self.asked.entry(port).or_default().push(asked);
                None
            }
        }
    }

    fn open_udp(&mut self) -> std::io::Result<()> {
        if self.udp.is_some() {
            return Ok(());
        }
        let (udp, own_addresses) = self.settings.sockets.udp()?;
        self.udp = Some(udp);
        self.a2s.set_own_addresses(own_addresses);
        Ok(())
    }

    fn receive(&mut self, now: Instant) {
        let mut bytes = vec![0; 64 * 1024];
        for _ in 0..MOST_DATAGRAMS {
            let Some(udp) = &self.udp else { return };
            let (count, from) = match udp.recv_from(&mut bytes) {
                Ok((count, SocketAddr::V4(from))) => (count, from),
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Nothing more, or a message about a packet of ours that was not delivered.
                Err(_) => return,
            };
            if let Some((port, bad)) = self.a2s.receive(now, from, &bytes[..count]) {
                let server = self.asked.get(&port).and_then(|asked| asked.first());
                let server = server.map(|asked| asked.server.clone());
                self.complain(now, server.as_ref(), port, &format!("over UDP: {bad}"));
            }
        }
    }

    /// Passes on what has been answered over UDP or given up.
    fn answer_asked(&mut self, now: Instant) {
        for (key, outcome) in self.a2s.take_ended() {
            for (ticket, result) in self.ended(key, &outcome) {
                self.answer(now, ticket, result);
            }
        }
        if self.a2s.under_way() == 0 {
            self.udp = None;
        }
    }

    /// The requests that the outcome completes.
    fn ended(&mut self, (port, question): Key, outcome: &Outcome) -> Vec<(Ticket, ConsoleResult)> {
        let mut complete = Vec::new();
        let Some(all) = self.asked.get_mut(&port) else {
            return complete;
        };
        all.retain_mut(|asked| {
            asked.take(question, outcome);
            match asked.result() {
                Some(result) => {
                    complete.push((asked.ticket, result));
                    false
                }
                None => true,
            }
        });
        if all.is_empty() {
            self.asked.remove(&port);
        }
        complete
    }

    /// Queues a command. Returns the result if it is refused.
    fn exec(
        &mut self,
        now: Instant,
        ticket: Ticket,
        server: InstanceName,
        port: u16,
        command: String,
    ) -> Option<ConsoleResult> {
        if let Err(why) = game_command::check(&command) {
            return Some(ConsoleResult::failed(Failure::Refused, why.to_string()));
        }

        let key = (server, port);
        if self.remotes.len() >= MOST_REMOTES && !self.remotes.contains_key(&key) {
            return Some(busy());
        }
        let root = &self.settings.root;
        let remote = self
            .remotes
            .entry(key)
            .or_insert_with_key(|(server, port)| Remote::new(root, server, *port));
        remote.push(now, ticket, command)
    }

    fn advance_remotes(&mut self, now: Instant) {
        let mut ended = Vec::new();
        let mut complaints = Vec::new();
        for ((server, port), remote) in &mut self.remotes {
            let (done, complaint) = remote.advance(now, &mut self.settings.sockets);
            ended.extend(done);
            complaints.extend(complaint.map(|why| (server.clone(), *port, why)));
        }
        self.remotes.retain(|_, remote| !remote.is_over(now));

        for (ticket, result) in ended {
            self.answer(now, ticket, result);
        }
        for (server, port, why) in complaints {
            self.complain(now, Some(&server), port, &format!("over TCP: {why}"));
        }
    }

    fn send(&mut self, now: Instant) {
        for (to, packet) in self.a2s.take_packets() {
            if let Some(udp) = &self.udp
                && let Err(error) = udp.send_to(&packet, to)
            {
                // Asked again in a moment. systemd may forbid an address of this host.
                tracing::debug!("cannot send to {to}: {error}");
            }
        }
        for client in self.clients.values_mut() {
            client.write(now);
        }
    }

    /// Forgets clients that have gone or do not read, and their commands that were not sent.
    fn close_clients(&mut self, now: Instant) {
        let over: Vec<u64> = self
            .clients
            .iter()
            .filter(|(_, client)| client.is_over(now))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            self.clients.remove(&number);
            for remote in self.remotes.values_mut() {
                remote.forget(number);
            }
            self.asked.retain(|_, all| {
                all.retain(|asked| asked.ticket.client != number);
                !all.is_empty()
            });
        }
    }

    fn answer(&mut self, now: Instant, ticket: Ticket, result: ConsoleResult) {
        self.active = now;
        if let Some(client) = self.clients.get_mut(&ticket.client) {
            let id = ticket.id;
            client.answer(now, &ConsoleAnswer { id, result });
        }
    }

    fn complain(&mut self, now: Instant, server: Option<&InstanceName>, port: u16, why: &str) {
        if !self.complaints.may_say(now, port) {
            return;
        }
        match server {
            Some(server) => tracing::warn!(
                server_id = server.as_str(),
                "server {server}, port {port}: a bad answer {why}"
            ),
            None => tracing::warn!("port {port}: an unexpected packet {why}"),
        }
    }
}

/// Why the user who opened a connection may not ask.
fn refusal(stream: &UnixStream) -> Option<String> {
    match handshake::peer(stream) {
        Ok((user, _)) if user == Uid::effective() || users::is_admin(user) => None,
        Ok((user, _)) => Some(format!("not permitted for user id {user}")),
        Err(errno) => Some(format!("the peer's user is unknown: {}", errno.desc())),
    }
}

fn busy() -> ConsoleResult {
    ConsoleResult::failed(
        Failure::Busy,
        "left4me-console has too much to do: try again in a moment",
    )
}
