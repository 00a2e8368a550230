//! Asks all running games who plays, through left4me-console, and records the answers and the
//! samples in one transaction. It runs after the states are recorded, which never wait for a game.
//!
//! A game that does not answer costs the others nothing: the wait for it ends when another poll is
//! requested, which would otherwise see a change that much later. If left4me-console itself does not
//! answer, nothing is known about any game, and what was known stays.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::base::names::{InstanceName, ServerId};
use crate::base::{Result, clock};
use crate::db::game::{self, Askable, PlayerRow};
use crate::db::samples::{self, Sample};
use crate::db::{Db, servers};
use crate::domain::game::{Figures, Game};
use crate::queue::observe::{self, Cause, StateReport};
use crate::wire::console::{ConsoleResult, ConsoleVerb, Failure, GameInfo, Player, ask_all};

/// How long one poll waits for all answers, so that it takes less than two seconds in all.
/// left4me-console gives up a game after 1.5 s.
const PATIENCE: Duration = Duration::from_millis(1_800);

/// After so long, ms, without a whole wait for a game, it is waited for although another poll is
/// requested: else a game that hangs would never be found while servers start and end all the time.
const LONGEST_CUT: i64 = 90_000;

/// The most players of a server that are recorded.
const MOST_PLAYERS: usize = 128;

/// What became of a question.
enum Answer {
    Answered(Figures, Vec<PlayerRow>),
    /// The game did not answer.
    Silent,
    /// Nothing is known: left4me-console did not ask, or is not there, or there was no time.
    NotAsked,
}

/// Asks all running games and records what they answer, with the samples of this poll. Returns the
/// servers that have been silent for so long that only a map load could explain it.
///
/// When another poll `is_requested`, that one asks the games that have not answered until then.
pub(super) fn look(
    db: &mut Db,
    console: &Path,
    samples: Vec<(ServerId, Sample)>,
    is_requested: impl Fn() -> bool,
) -> Result<Vec<ServerId>> {
    let asked = game::askable(db.connection())?;
    let at = clock::now_ms();
    let may_cut = game::asked_since(db.connection(), at - LONGEST_CUT)?;
    let answers = ask(console, &asked, || may_cut && is_requested());

    let (silent, reports) = db.write(|tx| {
        let (mut silent, mut reports, mut seen) = (Vec::new(), Vec::new(), HashMap::new());
        for (one, answer) in asked.iter().zip(answers) {
            let Some(game) = record(tx, one, answer, at, &mut reports)? else {
                continue;
            };
            if game.is_silent() {
                silent.push(one.id);
            }
            seen.insert(one.id, game.figures);
        }

        for (server, mut sample) in samples {
            let figures = seen.remove(&server).flatten();
            sample.players = figures.as_ref().map(|figures| figures.players);
            sample.response_ms = figures.as_ref().map(|figures| figures.response_ms);
            add_sample(tx, server, &sample)?;
        }

        Ok((silent, reports))
    })?;

    reports.iter().for_each(StateReport::log);
    Ok(silent)
}

/// Records one answer. Returns what is known now; none if nothing was recorded.
fn record(
    tx: &Connection,
    asked: &Askable,
    answer: Answer,
    at: i64,
    reports: &mut Vec<StateReport>,
) -> Result<Option<Game>> {
    let (figures, players) = match answer {
        Answer::Answered(figures, players) => (Some(figures), players),
        Answer::Silent => (None, Vec::new()),
        Answer::NotAsked => return Ok(None),
    };

    // The answer, or the silence, may be that of a run which has ended meanwhile.
    let Some(known) = game::known(tx, asked)?.filter(|known| known.is_same_run) else {
        return Ok(None);
    };

    let before = known.game.as_ref();
    let now = Game::after(before, figures, at);
    game::record(tx, asked.id, before, &now, &players)?;
    if known.is_unresponsive && now.unanswered == 0 {
        reports.extend(observe::judge_server(tx, asked.id, &Cause::Outside, at)?);
    }

    Ok(Some(now))
}

/// A server that was removed meanwhile gets no sample.
fn add_sample(tx: &Connection, server: ServerId, sample: &Sample) -> Result<()> {
    match servers::has(tx, server)? {
        true => samples::add(tx, server, sample),
        false => Ok(()),
    }
}

/// Asks these games side by side. Gives an answer for each, in their order.
fn ask(console: &Path, servers: &[Askable], is_requested: impl Fn() -> bool) -> Vec<Answer> {
    let games = servers
        .iter()
        .map(|server| (InstanceName::from(server.id), server.port));
    let mut is_cut = false;
    let mut is_over = || {
        is_cut = is_requested();
        is_cut
    };
    let (results, asked) = ask_all(console, games, &ConsoleVerb::Look, PATIENCE, &mut is_over);
    if let Err(error) = &asked {
        tracing::debug!("games cannot be asked who plays: {error}");
    }

    let answer = |result| match (result, &asked) {
        (Some(result), _) => read(result),
        // It was asked and has had its time.
        (None, Ok(())) if !is_cut => Answer::Silent,
        (None, _) => Answer::NotAsked,
    };
    results.into_iter().map(answer).collect()
}

fn read(result: ConsoleResult) -> Answer {
    match result {
        ConsoleResult::Look { info, players } => Answer::Answered(
            figures(info),
            players.into_iter().take(MOST_PLAYERS).map(player).collect(),
        ),
        ConsoleResult::Failed { kind, .. } => match kind {
            Failure::NoAnswer | Failure::NotListening | Failure::BadAnswer | Failure::TimedOut => {
                Answer::Silent
            }
            // The fault is not the game's.
            Failure::WrongPassword
            | Failure::Banned
            | Failure::NoPassword
            | Failure::Refused
            | Failure::Busy => Answer::NotAsked,
        },
        // An answer to another question.
        _ => Answer::NotAsked,
    }
}

fn figures(info: GameInfo) -> Figures {
    Figures {
        players: info.players.into(),
        bots: info.bots.into(),
        max_players: info.max_players.into(),
        map: info.map,
        response_ms: info.response_ms,
    }
}

fn player(player: Player) -> PlayerRow {
    PlayerRow {
        name: player.name,
        score: player.score,
        seconds: player.seconds,
    }
}

#[cfg(test)]
pub(super) mod tests;
