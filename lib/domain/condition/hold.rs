//! Decides whether a job still waits, by what was seen of its servers. Only an answer of the game
//! says that nobody plays: no answer, an old one, or a state that changes never does.

use crate::base::names::JobId;
use crate::domain::condition::{AtDeadline, Condition, serves};
use crate::domain::operation::Operation;
use crate::domain::server::ActualState;

/// How long the answer counts that a server is empty, ms: the stop must follow at once.
pub const CONFIRMED: i64 = 5_000;

/// A server of a waiting job, as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSeen {
    pub name: String,
    /// What systemd reported.
    pub actual: ActualState,
    /// When systemd was asked, unix ms.
    pub polled_at: Option<i64>,
    /// How many people play, by the game's last answer.
    pub players: Option<i64>,
    /// When the game answered last, unix ms.
    pub answered_at: Option<i64>,
    /// How many questions since then got no answer.
    pub unanswered: i64,
}

/// Whether somebody plays on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupancy {
    Empty,
    /// So many people play.
    Players(i64),
    /// It is not known; the reason names the server.
    Unknown(String),
}

impl ServerSeen {
    /// Whether somebody plays. What was seen before `fresh_since` (unix ms) is not known any more.
    pub fn occupancy(&self, fresh_since: i64) -> Occupancy {
        let name = &self.name;
        let unknown = |why: &str| Occupancy::Unknown(format!("{name} {why}"));
        let is_fresh = |at: Option<i64>| at.is_some_and(|at| at >= fresh_since);

        match self.actual {
            ActualState::Stopped | ActualState::Failed if is_fresh(self.polled_at) => {
                Occupancy::Empty
            }
            ActualState::Stopped | ActualState::Failed => unknown("was not checked lately"),
            ActualState::Starting | ActualState::Stopping => {
                unknown(&format!("is {}", self.actual))
            }
            ActualState::Unknown => unknown("is in an unknown state"),
            ActualState::Running if self.unanswered > 0 => unknown("does not answer"),
            ActualState::Running => match self.players {
                None => unknown("has not answered yet"),
                Some(_) if !is_fresh(self.answered_at) => unknown("has not answered lately"),
                Some(0) => Occupancy::Empty,
                Some(players) => Occupancy::Players(players),
            },
        }
    }
}

/// The last attempt to confirm that the servers are empty failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// When, unix ms: only newer answers count.
    pub at: i64,
    /// `1 player on Friday`
    pub why: String,
}

/// A waiting job, with what is known of its servers.
#[derive(Clone, Debug)]
pub struct Hold {
    pub condition: Condition,
    pub servers: Vec<ServerSeen>,
    pub doubt: Option<Doubt>,
    /// What was seen before this moment is old, unix ms.
    pub fresh_since: i64,
    /// What makes it pointless.
    pub void: Option<String>,
}

/// What is to be done with a waiting job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is pointless: cancel it.
    Void,
    /// Its time has come: cancel it.
    GiveUp,
    /// Its time has come: it is an ordinary queued job from now on.
    Go,
    /// Nobody seems to play. The servers have to be asked once more before it starts.
    Empty,
    Wait,
}

impl Hold {
    /// What is to be done at `now`, unix ms.
    pub fn verdict(&self, now: i64) -> Verdict {
        if self.void.is_some() {
            return Verdict::Void;
        }

        let deadline = self.condition.deadline.as_ref();
        match deadline.filter(|deadline| deadline.at <= now) {
            Some(deadline) if deadline.then == AtDeadline::Go => Verdict::Go,
            Some(_) => Verdict::GiveUp,
            None if self.condition.when_empty && self.is_empty() => Verdict::Empty,
            None => Verdict::Wait,
        }
    }

    /// Whether nobody plays on any server, by what was seen.
    fn is_empty(&self) -> bool {
        let empty = |server: &ServerSeen| server.occupancy(self.fresh_since) == Occupancy::Empty;
        !self.is_doubtful() && self.servers.iter().all(empty)
    }

    /// Whether a server that runs has not answered since the last doubt.
    fn is_doubtful(&self) -> bool {
        let Some(doubt) = &self.doubt else {
            return false;
        };
        let is_older = |server: &ServerSeen| {
            server.actual == ActualState::Running
                && server.answered_at.is_none_or(|at| at <= doubt.at)
        };
        self.servers.iter().any(is_older)
    }

    /// When the next warning or the deadline is, unix ms, not counting what is due at `now`.
    pub fn next_at(&self, now: i64) -> Option<i64> {
        let deadline = self.condition.deadline.as_ref()?.at;
        let warning = self.condition.warnings.next_at(deadline, now);
        warning.or(Some(deadline).filter(|at| *at > now))
    }

    /// What it waits for: `3 players on Friday (until 06:00)`. `until` is the deadline in words.
    pub fn waiting(&self, until: Option<&str>) -> String {
        match (self.condition.when_empty, until) {
            (false, Some(until)) => format!("until {until}"),
            (_, Some(until)) => format!("{} (until {until})", self.occupied()),
            (_, None) => self.occupied(),
        }
    }

    /// Who plays where: `3 players on Friday, 1 on Saturday; Sunday does not answer`.
    pub fn occupied(&self) -> String {
        if let Some(doubt) = self.doubt.as_ref().filter(|_| self.is_doubtful()) {
            return doubt.why.clone();
        }

        let seen = self.servers.iter();
        occupied(seen.map(|server| (server.name.as_str(), server.occupancy(self.fresh_since))))
    }
}

/// So many servers are named; the others are counted.
const NAMED: usize = 3;

/// Who plays on these servers.
pub fn occupied<'a>(servers: impl Iterator<Item = (&'a str, Occupancy)>) -> String {
    let (mut parts, mut unknown, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (name, occupancy) in servers {
        names.push(name);
        match occupancy {
            Occupancy::Empty => {}
            Occupancy::Unknown(why) => unknown.push(why),
            Occupancy::Players(1) if parts.is_empty() => parts.push(format!("1 player on {name}")),
            Occupancy::Players(count) if parts.is_empty() => {
                parts.push(format!("{count} players on {name}"));
            }
            Occupancy::Players(count) => parts.push(format!("{count} on {name}")),
        }
    }

    let (playing, of) = (parts.len(), parts.len() + unknown.len());
    let mut lists: Vec<String> = Vec::new();
    parts.truncate(NAMED);
    if playing > 0 {
        lists.push(parts.join(", "));
    }

    unknown.truncate(NAMED - parts.len());
    lists.extend(unknown.iter().cloned());
    let named = parts.len() + unknown.len();
    if named < of {
        lists.push(format!("and {} more", of - named));
    }

    match (lists.is_empty(), &names[..]) {
        (false, _) => lists.join("; "),
        (true, []) => "no server runs".to_owned(),
        (true, [name]) => format!("no players on {name}"),
        (true, _) => format!("no players on {} servers", names.len()),
    }
}

/// A job that has succeeded after a waiting one was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    pub id: JobId,
    pub operation: Operation,
}

/// Why a waiting job is pointless, given for each of its servers the later jobs that have
/// succeeded: something has served its purpose on each of them. A job for the game files has one
/// such list.
pub fn void(held: Operation, later: &[Vec<Done>]) -> Option<String> {
    let mut reasons = later.iter().map(|done| served(held, done));
    let first = reasons.next()??;
    reasons.all(|reason| reason.is_some()).then_some(first)
}

/// Why a waiting job is pointless for one server, given the later jobs that have succeeded for it.
pub fn served(held: Operation, later: &[Done]) -> Option<String> {
    let done = later.iter().find(|done| serves(held, done.operation))?;
    Some(format!(
        "no longer needed: job {} ({}) has succeeded meanwhile",
        done.id, done.operation
    ))
}
