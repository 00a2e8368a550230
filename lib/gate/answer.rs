//! Answers one request of left4me-link. Nothing that it says is believed: signatures are verified,
//! and the tables say how far everything is.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize as _;

use super::GateCli;
use super::keys::Keys;
use crate::base::fleet::{self, Fleet};
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, clock};
use crate::cancel::request::{CancelRequest, request_in};
use crate::db::Db;
use crate::db::fleet::self_row;
use crate::db::overlays;
use crate::domain::fleet::question::{Failure, Question};
use crate::domain::fleet::status::HostStatus;
use crate::domain::fleet::subjects::ROSTER;
use crate::domain::fleet::view::STATUS_EVERY;
use crate::host::overlay_digest;
use crate::queue::fleet::accept::{self, CancelOrder};
use crate::queue::fleet::answer::EventPart;
use crate::queue::fleet::answered::{self, Asked};
use crate::queue::fleet::noise::Noise;
use crate::queue::fleet::{asked, missing, outbox, read, status};
use crate::queue::wake;
use crate::wire::gate::{
    BATCH, GateAnswer, GateRequest, Generations, LinkState, Message, SignedText, Source, Taken,
};

/// How often it is looked whether overlays have changed, in ms.
const OVERLAYS_EVERY: i64 = 60_000;

pub(super) struct Gate {
    cli: GateCli,
    db: Db,
    keys: Keys,
    /// What reads the overlays, and when it began last, unix ms.
    reader: (Option<JoinHandle<()>>, i64),
    /// The status that left4me-link took last.
    told: Option<HostStatus>,
    /// What left4me-link said of the engine's streams last, and since when it was connected then.
    streams: Option<(i64, Generations)>,
    /// Of questions and answers, since left4me-link took last.
    noise: Noise,
    /// When the roster in this host's own file was written, as far as it was read.
    roster: Option<SystemTime>,
}

impl Gate {
    pub(super) fn new(cli: GateCli, db: Db, keys: Keys) -> Self {
        Self {
            cli,
            db,
            keys,
            reader: (None, i64::MIN),
            told: None,
            streams: None,
            noise: Noise::default(),
            roster: None,
        }
    }

    /// The answer to one line.
    pub(super) fn answer(&mut self, line: &str) -> GateAnswer {
        let answer = match serde_json::from_str(line) {
            Ok(request) => self.handle(request),
            Err(error) => Err(Error::usage(format!("not a request: {error}"))),
        };
        answer.unwrap_or_else(|error| {
            tracing::warn!("{error}");
            GateAnswer::Failed {
                why: error.to_string(),
            }
        })
    }

    fn handle(&mut self, request: GateRequest) -> Result<GateAnswer> {
        let now = clock::now_ms();
        // Read each time: a controller that root removes is not obeyed from then on.
        let fleet = Fleet::read(&self.cli.fleet.fleet_dir)?.ok_or_else(|| {
            Error::conflict("this host belongs to no fleet: `left4me fleet join`")
        })?;

        match request {
            GateRequest::Take { link, limit } => self
                .take(&fleet, &link, limit, now)
                .map(|taken| GateAnswer::Taken(Box::new(taken))),
            GateRequest::Sent {
                orders,
                events,
                rollouts,
                generations,
            } => {
                let sent = outbox::Sent {
                    orders: &orders,
                    events,
                    rollouts: &rollouts,
                };
                outbox::sent(&mut self.db, &sent, &generations, now)?;
                Ok(GateAnswer::Done {})
            }
            GateRequest::Deliver {
                from,
                generation,
                messages,
            } => self.deliver(&fleet, from, &generation, &messages, now),
            GateRequest::Ask { from, question } => asked::asked(
                &mut self.db,
                &fleet.host,
                &from,
                &question,
                &mut self.noise,
                now,
            )
            .map(|body| GateAnswer::Answer { body }),
            GateRequest::Answered {
                host,
                id,
                question,
                answer,
            } => {
                let opened = self.answered(&fleet, (&host, id, &question), &answer, now);
                Ok(GateAnswer::Asked(
                    opened.unwrap_or_else(|error| Failure::value(&error)),
                ))
            }
        }
    }

    /// What another host has answered. Events that were missing are taken in.
    fn answered(
        &mut self,
        fleet: &Fleet,
        (host, id, question): (&FleetHost, Ulid, &Question),
        answer: &SignedText,
        now: i64,
    ) -> Result<serde_json::Value> {
        let asked = Asked {
            here: &fleet.host,
            opening: self.keys.opening.as_ref(),
            host,
            id,
            question,
        };
        let opened = answered::answered(&self.db, &asked, answer, &mut self.noise)?;
        if let Question::Events { after } = *question
            && fleet.views()
        {
            let part = EventPart::deserialize(&opened.value).map_err(|error| {
                Error::unavailable(format!("{host} answered no events: {error}"))
            })?;
            missing::take_in(&mut self.db, host, after, &part, now)?;
        }
        Ok(opened.value)
    }

    fn take(&mut self, fleet: &Fleet, link: &LinkState, limit: usize, now: i64) -> Result<Taken> {
        self.noise.write(&mut self.db)?;
        let link = self.judged(link)?;
        let signing = self.keys.signing.as_ref().filter(|_| fleet.controls());
        let mut taken = outbox::take(&mut self.db, &fleet.host, signing, &link, limit, now)?;
        taken.views = fleet.views();
        taken.controls = signing.is_some();
        self.read_overlays(now)?;
        // Without a connection it takes nothing.
        if limit > 0 {
            taken.status = self.status(fleet, now)?;
            if taken.views {
                taken.missing = missing::missing(&mut self.db, &fleet.host, now)?;
            }
        }
        wake::alerts(self.db.connection(), &self.cli.alerts.alerts_socket);
        Ok(taken)
    }

    /// Reads overlays whose files have changed, beside the requests: that may take minutes. One that
    /// is new in the catalog is read at once: until its digest is told, no server that needs it comes
    /// here.
    fn read_overlays(&mut self, now: i64) -> Result<()> {
        let (reader, began) = &mut self.reader;
        let is_reading = reader.as_ref().is_some_and(|reader| !reader.is_finished());
        let is_recent = (*began..began.saturating_add(OVERLAYS_EVERY)).contains(&now);
        if is_reading || (is_recent && !overlays::any_since(self.db.connection(), *began)?) {
            return Ok(());
        }

        let (database, root) = (self.db.path().to_owned(), self.cli.paths.root.clone());
        let link = self.cli.fleet.link_socket.clone();
        *began = now;
        *reader = Some(std::thread::spawn(move || {
            let read = Db::open_existing(&database)
                .and_then(|mut db| overlay_digest::refresh(&mut db, &root, now));
            match read {
                Ok(true) => wake::link(&link),
                Ok(false) => {}
                Err(error) => tracing::warn!("the overlays have not been read: {error}"),
            }
        }));
        Ok(())
    }

    /// The same state. How far the streams are counts only when it is news: left4me-link may say the
    /// same as long as it is connected, while they grow.
    fn judged(&mut self, link: &LinkState) -> Result<LinkState> {
        let own = self_row::get(self.db.connection())?;
        let mut judged = link.clone();
        let said = Some((link.since, link.generations.clone()));
        let is_same_connection = own.and_then(|own| own.connected_since) == Some(link.since);
        if self.streams == said || (self.streams.is_none() && is_same_connection) {
            judged.generations.last_order = u64::MAX;
            judged.generations.last_event = u64::MAX;
        }
        self.streams = said;
        Ok(judged)
    }

    /// The status document if it has changed, or is due.
    fn status(&mut self, fleet: &Fleet, now: i64) -> Result<Option<String>> {
        let host = status::Host {
            name: &fleet.host,
            capacity: fleet.capacity,
            ports: self.cli.ports.port_range,
            root: &self.cli.paths.root,
        };
        let new = status::status(&mut self.db, &host, now)?;
        let is_told = self.told.as_ref().is_some_and(|told| {
            // Half of it: left4me-link may not ask for a while.
            let age = now.saturating_sub(told.at);
            (0..STATUS_EVERY / 2).contains(&age)
                && HostStatus {
                    at: told.at,
                    ..new.clone()
                } == *told
        });
        if is_told {
            return Ok(None);
        }

        let text = status::text(&new)?;
        self.told = Some(new);
        Ok(Some(text))
    }

    fn deliver(
        &mut self,
        fleet: &Fleet,
        from: Source,
        generation: &str,
        messages: &[Message],
        now: i64,
    ) -> Result<GateAnswer> {
        if messages.len() > BATCH {
            return Err(Error::usage(format!("at most {BATCH} messages at once")));
        }
        let controllers = fleet::controllers(&self.cli.fleet.fleet_dir)?;
        let host = accept::Host {
            name: &fleet.host,
            controllers: &controllers,
            opening: self.keys.opening.as_ref(),
            capacity: fleet.capacity,
            ports: self.cli.ports.port_range,
            root: &self.cli.paths.root,
            cancel,
        };
        // The host that made the fleet knows who was admitted before the engine tells it: what a new host says at
        // once is not noise.
        if matches!(from, Source::Events | Source::Hosts)
            && let Some(own) = own_roster(
                &self.cli.fleet.fleet_dir.join("roster.json"),
                &mut self.roster,
            )?
        {
            read::deliver(&mut self.db, &host, Source::Roster, "", &[own], now)?;
        }
        let read = read::deliver(&mut self.db, &host, from, generation, messages, now)?;
        crate::base::failpoint::hit("gate.committed");

        if read.carried_out
            && let Err(error) = wake::worker(&self.cli.worker.worker_socket)
        {
            tracing::warn!("the orders' jobs wait: {error}");
        }
        if read.has_news {
            wake::link(&self.cli.fleet.link_socket);
            wake::alerts(self.db.connection(), &self.cli.alerts.alerts_socket);
        }
        Ok(GateAnswer::Delivered {
            sequence: read.sequence,
            noise: read.noise,
        })
    }
}

/// The roster that `left4me fleet admit` and `expel` wrote on this host, if it has changed since `read`.
fn own_roster(file: &Path, read: &mut Option<SystemTime>) -> Result<Option<Message>> {
    let written = std::fs::metadata(file)
        .and_then(|found| found.modified())
        .ok();
    if written.is_none() || written == *read {
        return Ok(None);
    }
    let text =
        std::fs::read_to_string(file).map_err(|error| Error::from(error).within(file.display()))?;
    let signed: SignedText = serde_json::from_str(&text)
        .map_err(|error| Error::failed(format!("{}: {error}", file.display())))?;
    *read = written;
    Ok(Some(Message {
        sequence: 0,
        subject: ROSTER.to_owned(),
        key: signed.key,
        signature: signed.signature,
        body: STANDARD.encode(signed.body),
    }))
}

/// Cancels a job for an order. One that has ended is a refusal: the order did nothing.
pub fn cancel(tx: &rusqlite::Connection, order: &CancelOrder<'_>, now: i64) -> Result<String> {
    let request = CancelRequest {
        force: order.force,
        reason: order.reason,
        ..CancelRequest::new(order.job, order.by)
    };
    let result = request_in(tx, &request, now)?;
    match result.success || result.cancellation_id.is_some() {
        true => Ok(result.message),
        false => Err(Error::conflict(result.message)),
    }
}
