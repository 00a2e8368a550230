//! What came as another host's answer. It is believed if that host has signed it as the answer to this
//! one question; then it is opened.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::noise::Noise;
use super::signed;
use crate::base::keys::{OpeningKey, PublicKey, Purpose, SealKey};
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Error, Exit, Result};
use crate::db::Db;
use crate::db::fleet::hosts;
use crate::domain::fleet::question::{Answer, Failure, Head, Question, Said, Sealed};
use crate::wire::gate::SignedText;

/// This host, which has asked; the host that was asked; the question and its name.
pub struct Asked<'a> {
    pub here: &'a FleetHost,
    pub opening: Option<&'a OpeningKey>,
    pub host: &'a FleetHost,
    pub id: Ulid,
    pub question: &'a Question,
}

/// Opens an answer.
///
/// Fails with 77 if the host has not signed it, 69 if it cannot be read here, and with the host's own
/// error if it has refused the question, or has none of what was asked for.
pub fn answered(
    db: &Db,
    asked: &Asked<'_>,
    text: &SignedText,
    noise: &mut Noise,
) -> Result<Sealed> {
    let Asked { here, host, id, .. } = *asked;
    let key = hosts::key_of(db.connection(), host)?.ok_or_else(|| {
        Error::not_found(format!(
            "{here} has no roster that names {host}, so that its answer cannot be verified: \
             `left4me fleet hosts`"
        ))
    })?;
    if !signed::is_by(text, &key.parse::<PublicKey>()?, Purpose::Answer) {
        let why = format!("{host} has not signed what came as its answer");
        return Err(forged(noise, &why));
    }

    Head::read(&text.body)?.check(&format!("the answer of {host}"), here)?;
    let answer = Answer::read(&text.body)?;
    if (&answer.from, &answer.to, answer.id) != (host, here, id) {
        let why = format!("what came as the answer of {host} answers another question");
        return Err(forged(noise, &why));
    }
    match answer.said {
        Said::Refused { why, exit } => Err(theirs(host, &why, exit)),
        Said::Sealed { by, text } => {
            let opened = open(asked, &by, &text)?;
            match Failure::of(&opened.value) {
                Some(Failure { error, exit }) => Err(theirs(host, &error, exit)),
                None => Ok(opened),
            }
        }
    }
}

/// An error of the other host, as it tells one.
fn theirs(host: &FleetHost, why: &str, exit: u8) -> Error {
    Error::new(Exit::Foreign(exit.max(1)), format!("{host}: {why}"))
}

/// Such an answer is counted: an engine that is well brings none.
fn forged(noise: &mut Noise, why: &str) -> Error {
    noise.add();
    noise.tell(&why);
    Error::not_permitted(format!(
        "{why}: it was made, changed or exchanged on its way; ask again, and examine the engine's \
         nodes if that stays so"
    ))
}

fn open(asked: &Asked<'_>, by: &SealKey, text: &str) -> Result<Sealed> {
    let host = asked.host;
    let cannot = |why: &dyn std::fmt::Display| {
        Error::unavailable(format!("the answer of {host} cannot be opened: {why}"))
    };
    let key = asked.opening.ok_or_else(|| {
        cannot(&"this host has no key for that, host.xseed among the fleet's files")
    })?;
    let sealed = STANDARD.decode(text).map_err(|error| cannot(&error))?;
    let opened = key.open(&sealed, by).map_err(|error| cannot(&error))?;
    let opened: Sealed = serde_json::from_slice(&opened).map_err(|error| cannot(&error))?;
    // What the host says that it was asked decides what becomes of its answer.
    let is_answer = opened.id == asked.id && opened.question == *asked.question;
    match is_answer && opened.value.is_object() {
        true => Ok(opened),
        false => Err(cannot(&"it is no answer to this question")),
    }
}
