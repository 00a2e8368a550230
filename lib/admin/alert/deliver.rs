//! Delivers what waits in the outbox: reads it, hands one message at a time to left4me-notify for
//! each destination, and records what came of it. It has the database and no network; left4me-notify
//! has the network and no database.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::super::Context;
use super::client;
use crate::base::names::AlertId;
use crate::base::{Error, Result, clock, host_name, lock, notify};
use crate::db::Db;
use crate::db::deliveries::{self, Destination};
use crate::domain::alert::pace::{self, Key, Next};
use crate::domain::alert::{Answer, Delivery, Target, message};

/// How long it stays when nothing waits.
const IDLE: Duration = Duration::from_secs(5);

/// The longest wait before it looks again: the clock may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How many destinations are delivered to side by side.
const SIDE_BY_SIDE: usize = 16;

/// Delivers until nothing waits. Without a socket of systemd's, by hand, it delivers what is due
/// and does not wait for later attempts.
pub(super) fn run(context: &Context) -> Result<()> {
    // The datagram is read before anything can fail: systemd would start this again and again for
    // one that stays in the socket.
    let socket = notify::passed_socket();
    let stays = socket.is_some();
    let (sender, reports) = channel();
    if let Some(socket) = socket {
        forward(socket, sender.clone())?;
    }

    let db = context.db()?;
    let _lock = lock::take(&context.paths.database(), "alerts")?;
    db.stay()?;
    notify::ready("delivering alerts");
    let mut deliverer = Deliverer {
        context,
        db,
        host: this_host(),
        under_way: HashMap::new(),
        sender,
        reports,
    };
    deliverer.run(stays)?;
    deliverer.db.checkpoint();
    Ok(())
}

/// Turns datagrams into reports.
fn forward(socket: OwnedFd, sender: Sender<Report>) -> Result<()> {
    let socket = UnixDatagram::from(socket);
    socket.set_nonblocking(true)?;
    let mut byte = [0_u8; 16];
    while socket.recv(&mut byte).is_ok() {}
    socket.set_nonblocking(false)?;

    let work = move || {
        while socket.recv(&mut byte).is_ok() && sender.send(Report::Woken).is_ok() {}
    };
    std::thread::Builder::new()
        .name("wake".to_owned())
        .spawn(work)?;
    Ok(())
}

/// The name of this host, for people.
pub(super) fn this_host() -> String {
    host_name().unwrap_or_else(|| "left4me".to_owned())
}

/// What other threads report.
enum Report {
    /// An event may have filled the outbox.
    Woken,
    /// What came of a message to this alert.
    Done(AlertId, Result<Answer>),
}

/// A message that is under way.
struct UnderWay {
    name: String,
    masked: String,
    /// Its rows of the outbox.
    ids: Vec<i64>,
    about: Option<Key>,
    failures: u32,
}

struct Deliverer<'a> {
    context: &'a Context,
    db: Db,
    host: String,
    under_way: HashMap<AlertId, UnderWay>,
    sender: Sender<Report>,
    reports: Receiver<Report>,
}

impl Deliverer<'_> {
    fn run(&mut self, stays: bool) -> Result<()> {
        loop {
            let due = self.start_due()?;
            let is_idle = self.under_way.is_empty();
            if is_idle && !stays {
                return Ok(());
            }

            let wait = match due {
                Some(wait) => wait.clamp(Duration::from_millis(10), LONGEST_WAIT),
                None if is_idle => IDLE,
                None => LONGEST_WAIT,
            };
            match self.reports.recv_timeout(wait) {
                Ok(Report::Woken) => {}
                Ok(Report::Done(alert, answer)) => self.record(alert, answer)?,
                Err(RecvTimeoutError::Timeout) if due.is_none() && is_idle => return Ok(()),
                Err(_) => {}
            }
        }
    }

    /// Starts all messages that are due. Gives the time until the next one is.
    fn start_due(&mut self) -> Result<Option<Duration>> {
        let now = clock::now_ms();
        let mut next: Option<i64> = None;

        for destination in deliveries::destinations(self.db.connection())? {
            if self.under_way.contains_key(&destination.alert)
                || self.under_way.len() >= SIDE_BY_SIDE
            {
                continue;
            }
            let at = self.start_one(destination, now)?;
            next = next.into_iter().chain(at).min();
        }

        let wait = |at: i64| Duration::from_millis(u64::try_from(at - now).unwrap_or(0));
        Ok(next.map(wait))
    }

    /// Starts the next message to one destination, if one is due. Gives the time when it will be.
    fn start_one(&mut self, destination: Destination, now: i64) -> Result<Option<i64>> {
        let alert = destination.alert;
        if pace::is_too_late(destination.oldest, now) {
            let before = now - pace::DAY;
            let lost = self
                .db
                .write(|tx| deliveries::expire(tx, alert, before, now))?;
            let (name, why) = (&destination.name, destination.last_error.as_deref());
            tracing::warn!(
                "alert '{name}': {lost} events were not delivered within a day: {}",
                why.unwrap_or("?")
            );
        }

        // A time far in the future is from before the clock was set back.
        let retry_at = destination.retry_at.filter(|at| *at <= now + pace::DAY);
        if let Some(at) = retry_at.filter(|at| *at > now) {
            return Ok(Some(at));
        }

        let waiting = deliveries::waiting(self.db.connection(), alert)?;
        let sent = deliveries::sent(self.db.connection(), alert, now - pace::MEMORY)?;
        match (pace::next(&waiting, &sent, now), destination.target) {
            (Next::Nothing, _) => Ok(None),
            (Next::Wait(at), _) => Ok(Some(at)),
            (Next::Send { ids, .. }, Err(error)) => {
                let why = format!("its row is damaged: {error}");
                self.give_up(alert, &destination.name, &ids, destination.failures, &why)?;
                Ok(Some(now))
            }
            (Next::Send { ids, about }, Ok(target)) => {
                let message = UnderWay {
                    masked: target.masked(),
                    name: destination.name,
                    ids,
                    about,
                    failures: destination.failures,
                };
                self.send(alert, target, message)
            }
        }
    }

    /// Hands a message over, in a thread of its own. Gives a time if there was nothing to send.
    fn send(&mut self, alert: AlertId, target: Target, message: UnderWay) -> Result<Option<i64>> {
        let told = message.ids.len().min(message::LINES);
        let happenings = deliveries::happenings(self.db.connection(), &message.ids[..told])?;
        if happenings.is_empty() {
            let why = "the events are gone";
            let (ids, failures) = (&message.ids, message.failures);
            self.give_up(alert, &message.name, ids, failures, why)?;
            return Ok(Some(clock::now_ms()));
        }

        let more = message.ids.len() - told;
        let alike = deliveries::are_alike(self.db.connection(), &message.ids)?;
        let delivery = Delivery {
            to: target,
            message: message::message(&message.name, &self.host, &happenings, more, alike),
        };
        let (socket, sender) = (self.context.notify_socket.clone(), self.sender.clone());
        let work = move || {
            let answer = client::deliver(&socket, &delivery);
            // Nobody waits for it any more only while the process exits.
            drop(sender.send(Report::Done(alert, answer)));
        };
        let thread = std::thread::Builder::new().name("deliver".to_owned());
        thread
            .spawn(work)
            .map_err(|error| Error::unavailable(format!("no thread: {error}")))?;
        self.under_way.insert(alert, message);
        Ok(None)
    }

    /// Records what came of a message.
    fn record(&mut self, alert: AlertId, answer: Result<Answer>) -> Result<()> {
        let Some(message) = self.under_way.remove(&alert) else {
            return Ok(());
        };
        let UnderWay { name, masked, .. } = &message;
        let (ids, failures) = (&message.ids, message.failures);
        let now = clock::now_ms();

        let (why, after) = match answer {
            Ok(Answer::Sent(said)) => {
                tracing::info!(
                    "alert '{name}': {} events sent to {masked}: {said}",
                    ids.len()
                );
                let is_mixed = message.about.is_none();
                return self
                    .db
                    .write(|tx| deliveries::record_sent(tx, alert, ids, is_mixed, now));
            }
            Ok(Answer::Refused(why)) => return self.give_up(alert, name, ids, failures, &why),
            Ok(Answer::Retry { why, after }) => (why, after),
            Err(error) => (error.to_string(), None),
        };

        let at = pace::retry_at(failures.saturating_add(1), after, now);
        tracing::warn!(
            "alert '{name}': {masked}: {why}; next attempt in {}",
            clock::span(at - now)
        );
        self.db
            .write(|tx| deliveries::record_retry(tx, alert, ids, &why, at))
    }

    /// Gives up a message that no later attempt can deliver. The next one waits all the same:
    /// services close out whoever keeps sending what they refuse.
    fn give_up(
        &mut self,
        alert: AlertId,
        name: &str,
        ids: &[i64],
        failures: u32,
        why: &str,
    ) -> Result<()> {
        let now = clock::now_ms();
        let at = pace::retry_at(failures.saturating_add(1), None, now);
        tracing::warn!(
            "alert '{name}': {} events are given up: {why}; `left4me alert test` shows whether it \
             works again",
            ids.len()
        );
        self.db.write(|tx| {
            deliveries::record_failed(tx, ids, why, now)?;
            deliveries::record_retry(tx, alert, &[], why, at)
        })
    }
}
