//! Reads what comes from the engine. What a message does and the cursor of its stream are written
//! in one transaction: nothing is read twice, and nothing is left out. What no member of the fleet has
//! signed is counted and dropped.

use rusqlite::Connection;

use super::accept::{self, Host, Outcome};
use super::signed::Signed;
use super::{driving, project, resend, settle};
use crate::base::keys::{PublicKey, Purpose};
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Error, Result, failpoint};
use crate::db::Db;
use crate::db::fleet::cursors::{self, Cursor, Stream};
use crate::db::fleet::{hosts, places, self_row};
use crate::domain::fleet::event::FleetEvent;
use crate::domain::fleet::roster::Roster;
use crate::domain::fleet::rules;
use crate::domain::fleet::status::HostStatus;
use crate::wire::gate::{Message, Source};

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The sequence up to which the stream has been read.
    pub sequence: u64,
    /// How many messages were noise.
    pub noise: u32,
    /// Whether orders came that may have made jobs: the worker is to be woken.
    pub carried_out: bool,
    /// Whether there are receipts to tell.
    pub has_news: bool,
}

/// Reads messages of one stream or bucket, in their order. `generation` is the stream's.
///
/// Fails if the database does; then nothing was read.
pub fn deliver(
    db: &mut Db,
    host: &Host<'_>,
    from: Source,
    generation: &str,
    messages: &[Message],
    now: i64,
) -> Result<Read> {
    let stream = match from {
        Source::Orders => Stream::Orders,
        Source::Events => Stream::Events,
        Source::Hosts => Stream::Hosts,
        Source::Roster => Stream::Roster,
        Source::Places => Stream::Places,
        Source::Rollouts => Stream::Rollouts,
    };
    if stream.is_log() && generation.is_empty() {
        return Err(Error::usage("a stream without its generation"));
    }

    db.write(|tx| {
        let mut read = Read::default();
        let mut first_noise = None;
        self_row::ensure(tx)?;

        resend::before_reading(tx, stream, generation, now)?;
        let before = position(tx, stream, generation)?;
        if stream.is_log() {
            read.sequence = before.sequence;
        }
        for message in messages {
            // A repeated request, whose answer was lost.
            if stream.is_log() && message.sequence <= before.sequence {
                continue;
            }
            // What is read again was counted then.
            if let Err(why) = one(tx, host, from, message, &mut read, now)?
                && message.sequence > before.counted
            {
                read.noise += 1;
                first_noise.get_or_insert((message.sequence, why));
            }
            read.sequence = read.sequence.max(message.sequence);
        }

        let has_moved = stream.is_log() && read.sequence != before.sequence;
        if has_moved || first_noise.is_some() {
            let after = rules::cursor_after(generation, read.sequence);
            let cursor = Cursor {
                generation: after.generation.to_owned(),
                sequence: after.sequence,
                counted: before.counted.max(after.sequence),
            };
            cursors::set(tx, stream, &cursor, now)?;
        }
        if let Some((sequence, why)) = first_noise {
            // One line for all of them: who makes noise must not fill the journal.
            let (noise, all) = (read.noise, messages.len());
            tracing::warn!(
                "{noise} of {all} messages of {from:?} are noise; number {sequence}: {why}"
            );
            self_row::add_noise(tx, noise)?;
        }
        failpoint::hit("gate.read");
        Ok(read)
    })
}

/// How far a stream of this generation has been read.
fn position(tx: &Connection, stream: Stream, generation: &str) -> Result<Cursor> {
    let cursor = cursors::get(tx, stream)?;
    let cursor = cursor.filter(|cursor| cursor.generation == generation);
    Ok(cursor.unwrap_or_else(|| Cursor::at_beginning(generation)))
}

/// Reads one message. Gives why it is noise.
fn one(
    tx: &Connection,
    host: &Host<'_>,
    from: Source,
    message: &Message,
    read: &mut Read,
    now: i64,
) -> Result<Result<(), String>> {
    match from {
        Source::Orders => match accept::message(tx, host, message, now)? {
            Outcome::Noise(why) => return Ok(Err(why)),
            Outcome::CarriedOut => (read.carried_out, read.has_news) = (true, true),
            Outcome::Known | Outcome::Refused(_) => read.has_news = true,
        },
        Source::Events => return event(tx, message, now),
        Source::Hosts => return status(tx, message, now),
        Source::Roster => return roster(tx, host, message),
        Source::Places => return place(tx, message, now),
        Source::Rollouts => match driving::read(tx, host, message, now)? {
            Ok(has_news) => read.has_news |= has_news,
            Err(why) => return Ok(Err(why)),
        },
    }
    Ok(Ok(()))
}

/// The host that the message is of, if that host has signed it.
fn sender(
    tx: &Connection,
    message: &Message,
    purpose: Purpose,
) -> Result<Result<(FleetHost, Vec<u8>), String>> {
    let Ok(name) = message.subject.parse::<FleetHost>() else {
        return Ok(Err("its subject names no host".to_owned()));
    };
    let Some(signed) = Signed::read(message) else {
        return Ok(Err("it is not in base64".to_owned()));
    };
    let key = hosts::key_of(tx, &name)?;
    let key = key.and_then(|key| key.parse::<PublicKey>().ok());
    Ok(match key {
        None => Err(format!("{name} does not belong to the fleet")),
        Some(key) if signed.is_by(&key, purpose) => Ok((name, signed.body)),
        Some(_) => Err(format!("{name} has not signed it")),
    })
}

fn event(tx: &Connection, message: &Message, now: i64) -> Result<Result<(), String>> {
    let (name, body) = match sender(tx, message, Purpose::Event)? {
        Ok(sent) => sent,
        Err(why) => return Ok(Err(why)),
    };
    let event: FleetEvent = match serde_json::from_slice(&body) {
        Ok(event) => event,
        Err(error) => return Ok(Err(format!("not an event: {error}"))),
    };
    if event.host != name {
        return Ok(Err(format!("{name} tells an event of {}", event.host)));
    }

    settle::event(tx, &event, now)?;
    project::event(tx, &event, now)?;
    Ok(Ok(()))
}

/// A status that is older than the known one changes nothing: an engine that brings it again must
/// not make its host look alive.
fn status(tx: &Connection, message: &Message, now: i64) -> Result<Result<(), String>> {
    let (name, body) = match sender(tx, message, Purpose::Status)? {
        Ok(sent) => sent,
        Err(why) => return Ok(Err(why)),
    };
    let status: HostStatus = match serde_json::from_slice(&body) {
        Ok(status) => status,
        Err(error) => return Ok(Err(format!("not a status: {error}"))),
    };
    if status.host != name {
        return Ok(Err(format!("{name} tells the status of {}", status.host)));
    }
    project::status(tx, &status, now)?;
    Ok(Ok(()))
}

/// The roster is believed if a controller that root installed here has signed it.
fn roster(tx: &Connection, host: &Host<'_>, message: &Message) -> Result<Result<(), String>> {
    let Some(signed) = Signed::read(message) else {
        return Ok(Err("it is not in base64".to_owned()));
    };
    let mut controllers = host.controllers.values();
    if !controllers.any(|key| signed.is_by(key, Purpose::Roster)) {
        return Ok(Err("no controller of this host has signed it".to_owned()));
    }
    match serde_json::from_slice::<Roster>(&signed.body) {
        Ok(roster) => project::roster(tx, &roster).map(|_| Ok(())),
        Err(error) => Ok(Err(format!("not a roster: {error}"))),
    }
}

/// How far a place's epoch may be ahead of the known one. Places are not signed: one with an epoch that
/// no move can reach would stay.
const MOST_EPOCHS: u64 = 1000;

/// A value of the bucket of places; its key is the server.
#[derive(serde::Deserialize)]
struct PlaceText {
    host: FleetHost,
    epoch: u64,
}

/// Where a server belongs, as the engine's bucket has it. Nothing is started or stopped by that:
/// hosts obey orders, which are signed.
fn place(tx: &Connection, message: &Message, now: i64) -> Result<Result<(), String>> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let body = STANDARD.decode(&message.body).unwrap_or_default();
    let place = serde_json::from_slice::<PlaceText>(&body);
    let (Ok(server), Ok(place)) = (message.subject.parse::<Ulid>(), place) else {
        return Ok(Err("not a place".to_owned()));
    };
    let known = places::get(tx, server)?.map_or(0, |known| known.epoch);
    // Epochs count from 1.
    if place.epoch == 0 || place.epoch > known.saturating_add(MOST_EPOCHS) {
        return Ok(Err(format!("epoch {} after {known}", place.epoch)));
    }
    project::place(tx, server, &place.host, place.epoch, now)?;
    Ok(Ok(()))
}
