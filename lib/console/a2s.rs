//! Asks many games at once over A2S. It does no I/O and takes the time as a parameter: the caller
//! sends what [`A2s::take_packets`] gives, and passes on what it receives.
//!
//! A question is sent up to three times. From the second time on it also goes to this host's other
//! addresses: some games do not answer on loopback, and some answer from another address than was
//! asked. Answers are kept for a second.

pub mod packet;
mod pieces;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use packet::{Answer, BadPacket, Challenge, Datagram, Question};
use pieces::Pieces;

/// How long an answer is kept.
const FRESH: Duration = Duration::from_secs(1);
/// The time after which a question is sent again, or given up after the last time. A poll of all
/// games has 2 s.
const PATIENCE: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 3;
/// The most datagrams that a game may send in answer to the questions of a moment.
const MOST_PACKETS: u32 = 512;
/// The most challenges in answer to the questions of a moment. Each of this host's addresses may
/// send one.
const MOST_CHALLENGES: u32 = 16;
/// The most other addresses of this host that are asked.
pub const MOST_ADDRESSES: usize = 8;
/// How many games are remembered.
const MOST_GAMES: usize = 4096;

/// What is asked of whom.
pub type Key = (u16, Question);

/// What became of a question.
pub type Outcome = Result<Answered, Unanswered>;

#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    pub answer: Answer,
    /// From the last question to the answer.
    pub took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    Silent,
    Bad(BadPacket),
}

/// The questions under way, and what is known of each game.
#[derive(Debug, Default)]
pub struct A2s {
    games: HashMap<u16, Game>,
    kept: HashMap<Key, (Instant, Outcome)>,
    own: Vec<Ipv4Addr>,
    packets: Vec<(SocketAddrV4, Vec<u8>)>,
    ended: Vec<(Key, Outcome)>,
}

/// What is known of the game at a port, and what it is asked.
#[derive(Debug, Default)]
struct Game {
    /// Where it answered the last time.
    address: Option<Ipv4Addr>,
    /// The last one, which holds for all questions.
    challenge: Option<Challenge>,
    queries: Vec<Query>,
    /// Of these questions: where a challenge came from.
    settled: Option<Ipv4Addr>,
    pieces: Option<Pieces>,
    packets: u32,
    challenges: u32,
    bad: Option<BadPacket>,
}

#[derive(Debug)]
struct Query {
    question: Question,
    /// When it was sent; none while it waits for a challenge that another one brings.
    sent: Option<Instant>,
    attempts: u32,
    due: Instant,
}

impl A2s {
    /// Sets this host's addresses other than loopback. Answers from any other are ignored.
    pub fn set_own_addresses(&mut self, mut own: Vec<Ipv4Addr>) {
        own.truncate(MOST_ADDRESSES);
        self.own = own;
    }

    /// Asks the game at a port, unless it is being asked. Returns what is kept; otherwise the outcome
    /// comes with [`A2s::take_ended`].
    pub fn ask(&mut self, now: Instant, (port, question): Key) -> Option<Outcome> {
        if let Some((at, outcome)) = self.kept.get(&(port, question))
            && now.saturating_duration_since(*at) < FRESH
        {
            return Some(outcome.clone());
        }

        if self.games.len() >= MOST_GAMES {
            self.games.retain(|_, game| !game.queries.is_empty());
        }
        let game = self.games.entry(port).or_default();
        if game.is_asked(question) {
            return None;
        }

        // A second question without a challenge would only bring the same challenge again.
        let waits = !game.queries.is_empty() && game.challenge.is_none();
        game.queries.push(Query {
            question,
            sent: (!waits).then_some(now),
            attempts: 1,
            due: now + PATIENCE,
        });

        if !waits {
            let target = game.address.unwrap_or(Ipv4Addr::LOCALHOST);
            let packet = question.packet(game.challenge);
            self.packets.push((SocketAddrV4::new(target, port), packet));
        }
        None
    }

    /// Takes a datagram. Returns the port of the game and the reason if the datagram is refused, for
    /// the journal.
    pub fn receive(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        bytes: &[u8],
    ) -> Option<(u16, BadPacket)> {
        let port = from.port();
        let is_own = from.ip().is_loopback() || self.own.contains(from.ip());
        let Some(game) = self.games.get_mut(&port).filter(|_| is_own) else {
            return Some((port, BadPacket::Unasked));
        };
        if game.queries.is_empty() {
            // Late, or the second answer to what was asked twice.
            return None;
        }

        game.packets += 1;
        let taken = match game.packets {
            MOST_PACKETS.. => Err(BadPacket::Endless),
            _ => game.whole(bytes),
        };
        match taken {
            Ok(None) => None,
            Ok(Some(Answer::Challenge(challenge))) => self.challenged(now, from, challenge),
            Ok(Some(answer)) => {
                self.answered(now, from, answer);
                None
            }
            Err(bad) => {
                // A game that floods gets no more time. Otherwise a better answer may follow.
                game.bad = Some(bad);
                if bad == BadPacket::Endless {
                    self.end_all(now, port, bad);
                }
                Some((port, bad))
            }
        }
    }

    /// Sends again what was not answered, and gives up what was not answered for long.
    pub fn tick(&mut self, now: Instant) {
        let mut ended = Vec::new();
        for (port, game) in &mut self.games {
            let (settled, bad) = (game.settled, game.bad);
            if settled.is_none() && game.queries.iter().any(|query| query.due <= now) {
                // It may be another game by now, which does not know the challenge.
                game.challenge = None;
            }

            let asked = game.queries.len();
            let targets = game.targets(&self.own);
            let challenge = game.challenge;
            game.queries.retain_mut(|query| {
                if query.due > now {
                    return true;
                }
                if query.attempts >= ATTEMPTS {
                    let why = bad.map_or(Unanswered::Silent, Unanswered::Bad);
                    ended.push(((*port, query.question), Err(why)));
                    return false;
                }

                query.attempts += 1;
                query.sent = Some(now);
                query.due = now + PATIENCE;
                let packet = query.question.packet(challenge);
                let to = |target| (SocketAddrV4::new(target, *port), packet.clone());
                self.packets.extend(targets.iter().copied().map(to));
                true
            });

            let is_silent = asked > 0 && game.queries.is_empty() && game.packets == 0;
            if is_silent {
                (game.address, game.challenge) = (None, None);
            }
        }

        for (key, outcome) in ended {
            self.end(now, key, outcome);
        }
        self.kept
            .retain(|_, (at, _)| now.saturating_duration_since(*at) < FRESH);
    }

    /// When [`A2s::tick`] has to be called next; none while nothing is asked.
    pub fn due(&self) -> Option<Instant> {
        let queries = self.games.values().flat_map(|game| &game.queries);
        queries.map(|query| query.due).min()
    }

    /// The number of questions under way.
    pub fn under_way(&self) -> usize {
        self.games.values().map(|game| game.queries.len()).sum()
    }

    /// What has to be sent.
    pub fn take_packets(&mut self) -> Vec<(SocketAddrV4, Vec<u8>)> {
        std::mem::take(&mut self.packets)
    }

    /// What has ended since the last call.
    pub fn take_ended(&mut self) -> Vec<(Key, Outcome)> {
        std::mem::take(&mut self.ended)
    }

    fn challenged(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        challenge: Challenge,
    ) -> Option<(u16, BadPacket)> {
        let port = from.port();
        let game = self.games.get_mut(&port)?;
        game.challenges += 1;
        if game.challenges > MOST_CHALLENGES {
            self.end_all(now, port, BadPacket::Challenges);
            return Some((port, BadPacket::Challenges));
        }

        // When several addresses were asked, the first that answers is taken.
        if *game.settled.get_or_insert(*from.ip()) != *from.ip() {
            return None;
        }
        game.challenge = Some(challenge);
        for query in &mut game.queries {
            query.sent = Some(now);
            let packet = query.question.packet(Some(challenge));
            self.packets.push((from, packet));
        }
        None
    }

    fn answered(&mut self, now: Instant, from: SocketAddrV4, answer: Answer) {
        let port = from.port();
        let Some(game) = self.games.get_mut(&port) else {
            return;
        };
        let asked = |query: &&Query| answer.is_to(query.question);
        let Some(query) = game.queries.iter().find(asked) else {
            return;
        };

        let took = query.sent.map(|sent| now.saturating_duration_since(sent));
        let (question, took) = (query.question, took.unwrap_or_default());
        game.address = Some(*from.ip());
        self.end(now, (port, question), Ok(Answered { answer, took }));
    }

    fn end_all(&mut self, now: Instant, port: u16, bad: BadPacket) {
        let game = self.games.get(&port).into_iter();
        let all: Vec<Question> = game
            .flat_map(|game| game.queries.iter().map(|query| query.question))
            .collect();
        for question in all {
            self.end(now, (port, question), Err(Unanswered::Bad(bad)));
        }
    }

    fn end(&mut self, now: Instant, key: Key, outcome: Outcome) {
        if let Some(game) = self.games.get_mut(&key.0) {
            game.queries.retain(|query| query.question != key.1);
            if game.queries.is_empty() {
                game.forget_moment();
            }
        }
        self.kept.insert(key, (now, outcome.clone()));
        self.ended.push((key, outcome));
    }
}

impl Game {
    fn is_asked(&self, question: Question) -> bool {
        let mut queries = self.queries.iter();
        queries.any(|query| query.question == question)
    }

    /// Forgets what belongs to the questions that have ended.
    fn forget_moment(&mut self) {
        *self = Self {
            address: self.address,
            challenge: self.challenge,
            ..Self::default()
        };
    }

    /// Whom to ask again.
    fn targets(&self, own: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
        if let Some(address) = self.settled {
            return vec![address];
        }
        std::iter::once(Ipv4Addr::LOCALHOST)
            .chain(own.iter().copied())
            .collect()
    }

    /// The answer that a datagram has or completes.
    fn whole(&mut self, bytes: &[u8]) -> Result<Option<Answer>, BadPacket> {
        let piece = match Datagram::parse(bytes)? {
            Datagram::Whole(bytes) => return Answer::parse(bytes).map(Some),
            Datagram::Piece(piece) => piece,
        };

        let pieces = match &mut self.pieces {
            Some(pieces) if pieces.is_of(&piece) => pieces,
            pieces => pieces.insert(Pieces::begin(&piece)?),
        };
        match pieces.add(&piece) {
            Ok(None) => Ok(None),
            Ok(Some(whole)) => {
                self.pieces = None;
                Answer::parse(&whole).map(Some)
            }
            Err(bad) => {
                self.pieces = None;
                Err(bad)
            }
        }
    }
}

#[cfg(test)]
mod tests;
