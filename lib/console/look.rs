//! A request that is answered over A2S: which questions it takes, and its result when they are
//! answered.

use std::time::Duration;

use super::a2s::packet::{Answer, Info, Player, Question};
use super::a2s::{Answered, Outcome, Unanswered};
use super::remote::Ticket;
use crate::base::names::InstanceName;
use crate::wire::console::{self, ConsoleResult, Failure, GameInfo};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    Info,
    Players,
    Rules,
    Look,
}

impl Parts {
    pub fn questions(self) -> &'static [Question] {
        match self {
            Parts::Info => &[Question::Info],
            Parts::Players => &[Question::Players],
            Parts::Rules => &[Question::Rules],
            Parts::Look => &[Question::Info, Question::Players],
        }
    }
}

/// A request that waits.
pub struct Asked {
    pub ticket: Ticket,
    pub server: InstanceName,
    parts: Parts,
    info: Option<GameInfo>,
    players: Option<Vec<console::Player>>,
    rules: Option<Vec<(String, String)>>,
    failed: Option<Unanswered>,
}

impl Asked {
    pub fn new(ticket: Ticket, server: InstanceName, parts: Parts) -> Self {
        Self {
            ticket,
            server,
            parts,
            info: None,
            players: None,
            rules: None,
            failed: None,
        }
    }

    /// Takes what became of a question, if the request needs it.
    pub fn take(&mut self, question: Question, outcome: &Outcome) {
        if !self.parts.questions().contains(&question) {
            return;
        }
        match outcome {
            Ok(Answered { answer, took }) => match answer {
                Answer::Info(info) => self.info = Some(game_info(info, *took)),
                Answer::Players(all) => self.players = Some(all.iter().map(player).collect()),
                Answer::Rules(rules) => self.rules = Some(rules.clone()),
                Answer::Challenge(_) => {}
            },
            Err(why) => self.failed = Some(*why),
        }
    }

    /// The result, once all that it needs has come.
    pub fn result(&mut self) -> Option<ConsoleResult> {
        if let Some(why) = self.failed {
            return Some(failed(why));
        }
        match self.parts {
            Parts::Info => self.info.take().map(ConsoleResult::Info),
            Parts::Players => self.players.take().map(ConsoleResult::Players),
            Parts::Rules => self.rules.take().map(ConsoleResult::Rules),
            Parts::Look => match (&self.info, &self.players) {
                (Some(_), Some(_)) => Some(ConsoleResult::Look {
                    info: self.info.take()?,
                    players: self.players.take()?,
                }),
                _ => None,
            },
        }
    }
}

fn failed(why: Unanswered) -> ConsoleResult {
    match why {
        Unanswered::Silent => ConsoleResult::failed(
            Failure::NoAnswer,
            "the game did not answer over UDP within 1.5 s: it may be loading a map",
        ),
        Unanswered::Bad(bad) => ConsoleResult::failed(
            Failure::BadAnswer,
            format!("the game's answer over UDP breaks the protocol: {bad}"),
        ),
    }
}

fn game_info(info: &Info, took: Duration) -> GameInfo {
    GameInfo {
        name: info.name.clone(),
        map: info.map.clone(),
        game: info.game.clone(),
        players: info.players.saturating_sub(info.bots),
        bots: info.bots,
        max_players: info.max_players,
        password: info.password,
        vac: info.vac,
        version: info.version.clone(),
        response_ms: took.as_millis().try_into().unwrap_or(u32::MAX),
    }
}

fn player(player: &Player) -> console::Player {
    console::Player {
        name: player.name.clone(),
        score: player.score,
        // Saturates, and makes 0 of what is no number.
        seconds: player.seconds as u32,
    }
}
