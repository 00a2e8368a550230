//! A question that came in another host's name. It is answered if that host has signed it, for this
//! host, just now.
//!
//! One that is brought again within that time is answered again. That does no harm: a question
//! changes nothing, and only the host that has asked can open the answer.

use super::noise::Noise;
use super::{answer, signed};
use crate::base::keys::{PublicKey, Purpose, SealKey};
use crate::base::names::FleetHost;
use crate::base::{Error, Result, clock};
use crate::db::Db;
use crate::db::fleet::hosts;
use crate::domain::fleet::VERSION;
use crate::domain::fleet::question::{Answer, Asking, Failure, Head, Said, Sealed};
use crate::wire::gate::SignedText;

/// The answer, for left4me-link to sign: a refusal for what is not believed.
///
/// Fails with 2 for what is no question: then nothing is answered.
pub fn asked(
    db: &mut Db,
    here: &FleetHost,
    from: &FleetHost,
    text: &SignedText,
    noise: &mut Noise,
    now: i64,
) -> Result<String> {
    let head = Head::read(&text.body)?;
    let answer = match believed(db, (here, from), &head, text, noise, now) {
        Ok((asking, seal_to)) => Answer {
            v: VERSION,
            id: head.id,
            from: here.clone(),
            to: from.clone(),
            said: sealed(db, here, asking, &seal_to)?,
        },
        Err(error) => {
            noise.tell(&format_args!("a question of {from} was refused: {error}"));
            Answer::refusal(head.id, here, from, &error)
        }
    };
    answer.to_text()
}

/// The question, and the key that its answer is sealed to.
///
/// Fails with 2 for a version or a question that is not known here, 77 if `from` has not signed it or it
/// is not for this host, 4 if it is not of now.
fn believed(
    db: &Db,
    (here, from): (&FleetHost, &FleetHost),
    head: &Head,
    text: &SignedText,
    noise: &mut Noise,
    now: i64,
) -> Result<(Asking, SealKey)> {
    head.check(&format!("the question of {from}"), here)?;
    let host = hosts::get(db.connection(), from.as_str())?;
    let Some(host) = host.filter(|host| host.expelled_at.is_none()) else {
        noise.add();
        return Err(Error::not_permitted(format!(
            "{here} has no roster that names {from}; if the fleet has it, ask again in a minute"
        )));
    };
    if !signed::is_by(text, &host.key.parse::<PublicKey>()?, Purpose::Question) {
        noise.add();
        return Err(Error::not_permitted(format!(
            "{from} has not signed the question: somewhere between {from} and {here} it was made \
             or changed"
        )));
    }

    let asking = Asking::read(&text.body)?;
    if asking.from != *from || asking.to != *here {
        noise.add();
        return Err(Error::not_permitted(format!(
            "the question is one of {} to {}, and came to {here} as one of {from}",
            asking.from, asking.to
        )));
    }
    if let Some(apart) = asking.too_far(now) {
        return Err(Error::conflict(format!(
            "the question of {from} is {} away from the time on {here}: the clocks of the two differ, \
             or it was held up; `timedatectl` on each says whether its clock is right",
            clock::span(apart)
        )));
    }
    Ok((asking, host.seal_key.parse()?))
}

fn sealed(db: &mut Db, here: &FleetHost, asking: Asking, seal_to: &SealKey) -> Result<Said> {
    let answered = answer::answer(db, here, &asking.from, &asking.question);
    let sealed = Sealed {
        id: asking.id,
        question: asking.question,
        value: answered.unwrap_or_else(|error| Failure::value(&error)),
    };
    let text = serde_json::to_vec(&sealed)
        .map_err(|error| Error::failed(format!("the answer to {}: {error}", asking.from)))?;
    let (text, by) = seal_to.seal_once(&text)?;
    Ok(Said::Sealed { by, text })
}
