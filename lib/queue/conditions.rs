//! Jobs that wait for a condition: what the worker does about them, in two parts around the
//! questions that it asks the games outside of any transaction.
//!
//! [`look`] judges each waiting job by the rows: some end, some become ordinary queued jobs, some
//! warn their players. For a job whose servers seem to be empty and that could start at once, it
//! gives the servers to ask. [`answered`] records what the games said. A confirmation counts for
//! five seconds, in which [`claim`](super::claim) may start the job. So a job that has started
//! never waits again, and the stop follows the confirmation at once.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::base::journal::info_or_warn;
use crate::base::names::{InstanceName, JobId, ServerId};
use crate::base::{Result, clock};
use crate::db::conditions::{self, Waiting, WaitingServer};
use crate::db::events::{self, NewEvent};
use crate::db::fleet::here;
use crate::db::{Db, candidates, jobs, logs, queue, tasks};
use crate::domain::condition::hold::{CONFIRMED, Occupancy, Verdict, occupied};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::schedule::Schedule;
use crate::domain::server::{ActualState, DesiredState};
use crate::domain::task::TaskState;
use crate::queue::enqueue::{WORKER, plan_now, set_desired};
use crate::queue::finish::abandon;
use crate::queue::observe::{self, Cause};
use crate::wire::Stream;
use crate::wire::console::{ConsoleResult, ConsoleVerb, ask_all};

/// The poller wakes a worker, and a worker stays, when something is due within this time, ms. The
/// poller runs every 30 s.
pub const SOON: i64 = 70_000;

/// How long the games have to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What there is to do after a look at the waiting jobs.
#[derive(Debug, Default)]
pub struct Look {
    /// Ask whether these are empty.
    pub to_confirm: Vec<Question>,
    /// Tell players.
    pub to_warn: Vec<Warning>,
    /// What became of jobs, for the journal.
    pub changes: Vec<HoldChange>,
    /// When a warning or a deadline is next, unix ms.
    pub next_at: Option<i64>,
}

/// A server to talk to: its id, port and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Game {
    pub server: WaitingServer,
    pub name: String,
}

/// A job whose servers are to be asked whether they are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub job: JobId,
    /// Those that run.
    pub games: Vec<Game>,
}

/// What players of a job's servers are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub job: JobId,
    pub games: Vec<Game>,
    pub line: String,
}

/// What became of a waiting job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldChange {
    pub job: JobId,
    pub message: String,
    /// Whether it was cancelled.
    pub is_end: bool,
}

impl HoldChange {
    /// Writes it to the journal.
    pub fn log(&self) {
        let Self { job, message, .. } = self;
        info_or_warn!(self.is_end, job_id = job.0, "job {job} {message}");
    }
}

/// Judges all waiting jobs at `now`, unix ms. `schedule` is what a job must not conflict with in
/// order to start; none if none can start. `is_asked`: whether a question about the job is under
/// way.
pub fn look(
    db: &mut Db,
    schedule: Option<&Schedule>,
    is_asked: impl Fn(JobId) -> bool,
    now: i64,
) -> Result<Look> {
    let mut look = Look::default();
    if !conditions::any(db.connection())? {
        return Ok(look);
    }

    let (all, paused) =
        db.read(|tx| Ok((conditions::waiting(tx, now)?, queue::pause(tx)?.is_some())))?;

    for waiting in all {
        match act(&waiting, paused, now) {
            Act::Nothing => {}
            Act::Ask => {
                let candidate = candidates::get(db.connection(), waiting.id)?;
                let could_start = candidate
                    .zip(schedule)
                    .is_some_and(|(job, schedule)| schedule.has_room_for(&job));
                let is_confirmed = waiting
                    .confirmed_at
                    .is_some_and(|at| (0..CONFIRMED).contains(&(now - at)));
                if could_start && !is_confirmed && !is_asked(waiting.id) {
                    look.to_confirm.push(Question {
                        job: waiting.id,
                        games: running(&waiting),
                    });
                }
            }
            Act::Warn(said, line) => {
                if db.write(|tx| warn(tx, &waiting, said, &line, now))? {
                    look.to_warn.push(Warning {
                        job: waiting.id,
                        games: running(&waiting),
                        line,
                    });
                }
            }
            Act::Go(message) => {
                if db.write(|tx| release(tx, waiting.id, &message, now))? {
                    look.changes.push(change(&waiting, message, false));
                }
                continue;
            }
            Act::End(message) => {
                if db.write(|tx| end(tx, &waiting, &message, now))? {
                    look.changes.push(change(&waiting, message, true));
                }
                continue;
            }
        }

        // Warnings are left out while the queue is paused: they would be late, or wrong.
        let next = match paused {
            true => waiting.hold.condition.deadline.as_ref().map(|one| one.at),
            false => waiting.hold.next_at(now),
        };
        look.next_at = look.next_at.into_iter().chain(next).min();
    }

    Ok(look)
}

/// What to do about a waiting job.
enum Act {
    Nothing,
    /// Ask its servers whether they are empty.
    Ask,
    /// So many warnings are said with this line.
    Warn(usize, String),
    /// It waits no longer.
    Go(String),
    /// It is cancelled.
    End(String),
}

fn act(waiting: &Waiting, paused: bool, now: i64) -> Act {
    // It fails when it is claimed.
    let Some(operation) = waiting.operation else {
        return Act::Go("waits no longer: its operation is unknown".to_owned());
    };

    let hold = &waiting.hold;
    let deadline = hold.condition.deadline.as_ref();
    let at = deadline.map_or_else(String::new, |one| clock::minute(one.at, now));
    match hold.verdict(now) {
        Verdict::Void => Act::End(hold.void.clone().unwrap_or_default()),
        Verdict::GiveUp => Act::End(format!("gave up at {at}: {}", hold.occupied())),
        Verdict::Go if hold.condition.when_empty => {
            Act::Go(format!("goes ahead at {at}: {}", hold.occupied()))
        }
        Verdict::Go => Act::Go(format!("goes ahead at {at}")),
        Verdict::Empty => Act::Ask,
        Verdict::Wait => {
            let warnings = &hold.condition.warnings;
            let due = deadline.and_then(|one| warnings.due(waiting.said, one.at, now));
            match due.filter(|_| !paused) {
                Some(due) => Act::Warn(due.said, warnings.line(operation, due.left)),
                None => Act::Nothing,
            }
        }
    }
}

fn change(waiting: &Waiting, message: String, is_end: bool) -> HoldChange {
    HoldChange {
        job: waiting.id,
        message,
        is_end,
    }
}

/// The servers of the job whose game can be asked.
fn running(waiting: &Waiting) -> Vec<Game> {
    let both = waiting.servers.iter().zip(&waiting.hold.servers);
    let running = both.filter(|(_, seen)| seen.actual == ActualState::Running);
    running
        .map(|(&server, seen)| Game {
            server,
            name: seen.name.clone(),
        })
        .collect()
}

/// Records a warning before it is said: an event for each server, and a line in the job's log.
/// False if the job no longer waits, or another worker was faster.
fn warn(tx: &Connection, waiting: &Waiting, said: usize, line: &str, now: i64) -> Result<bool> {
    if !conditions::set_said(tx, waiting.id, waiting.said, said)? {
        return Ok(false);
    }

    let games = running(waiting);
    for game in &games {
        let event = NewEvent {
            job: Some(waiting.id),
            server: Some(game.server.id),
            ..NewEvent::new("job.warned", &waiting.requested_by, line)
        };
        events::add(tx, now, &event)?;
    }

    let names: Vec<&str> = games.iter().map(|game| game.name.as_str()).collect();
    let line = match names.is_empty() {
        true => format!("no server runs that could be told: {line}"),
        false => format!("told the players on {}: {line}", names.join(", ")),
    };
    logs::append(tx, waiting.id, now, Stream::Stdout, &line)?;
    Ok(true)
}

/// Ends the wait of a job: it is an ordinary queued job from now on. Its servers get their desired
/// state, and an update the plan that fits to what runs now. `message` says why, for a job that its
/// deadline releases. False if it did not wait.
pub fn release(tx: &Connection, id: JobId, message: &str, now: i64) -> Result<bool> {
    conditions::set_released(tx, id, now)?;
    if !jobs::release(tx, id, now)? {
        return Ok(false);
    }

    let job = jobs::get(tx, id)?;
    if let Ok(operation) = job.operation.parse::<Operation>() {
        // A restart does not start a server that was stopped while it waited for the others.
        let mut served = conditions::served(tx, id, operation, &job.servers)?;
        if operation.desired_state() == Some(DesiredState::Running) {
            let moved = here::moved(tx)?;
            let is_new = |id: &&ServerId| !served.iter().any(|(server, _)| server == *id);
            let moved: Vec<_> = job
                .servers
                .iter()
                .filter(|id| moved.contains_key(*id))
                .filter(is_new)
                .map(|id| (*id, "it has moved to another host".to_owned()))
                .collect();
            served.extend(moved);
        }
        for (server, why) in &served {
            for task in job.tasks.iter().filter(|task| task.server == Some(*server)) {
                tasks::skip(tx, task.id, why, now)?;
            }
        }
        let is_left = |id: &ServerId| !served.iter().any(|(server, _)| server == id);
        let left: Vec<ServerId> = job.servers.iter().copied().filter(is_left).collect();
        set_desired(tx, operation, &left, now)?;
        // Servers were started and stopped while it waited. A plan that somebody has changed stays.
        let is_whole = job
            .tasks
            .iter()
            .all(|task| task.state == TaskState::Pending);
        if operation == Operation::Update && is_whole {
            let plan = plan_now(tx, operation, &job.servers, &job.options)?;
            tasks::replace_plan(tx, id, &plan)?;
        }
    }

    let event = NewEvent {
        job: Some(id),
        server: events::only_server(&job.servers),
        ..NewEvent::new("job.released", &job.requested_by, message)
    };
    events::add(tx, now, &event)?;
    if !message.is_empty() {
        logs::append(tx, id, now, Stream::Stdout, message)?;
    }
    Ok(true)
}

/// Cancels a waiting job. False if it no longer waits.
fn end(tx: &Connection, waiting: &Waiting, message: &str, now: i64) -> Result<bool> {
    Ok(jobs::is_on_hold(tx, waiting.id)?
        && cancel(tx, waiting.id, &waiting.requested_by, message, now)?)
}

/// Cancels a queued job because what it is for has come to nothing. False if it is no longer queued.
pub(super) fn cancel(
    tx: &Connection,
    id: JobId,
    requested_by: &str,
    message: &str,
    now: i64,
) -> Result<bool> {
    if !jobs::cancel(tx, id, JobState::Queued, message, now)? {
        return Ok(false);
    }

    abandon(tx, id, WORKER, message, now)?;
    logs::append(tx, id, now, Stream::Stderr, message)?;
    let targets = jobs::targets(tx, id)?;
    let event = NewEvent {
        job: Some(id),
        server: events::only_server(&targets),
        ..NewEvent::new("job.cancelled", WORKER, message)
    };
    events::add(tx, now, &event)?;

    for server in targets {
        let cause = Cause::Job(id, requested_by);
        observe::judge_server(tx, server, &cause, now)?;
    }
    Ok(true)
}

/// What the games of a job answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub job: JobId,
    /// When they were asked, unix ms.
    pub asked_at: i64,
    /// Who plays, if anybody does or a game did not answer.
    pub occupied: Option<String>,
}

/// Asks the games of a job who plays. Takes at most two seconds.
pub fn ask(console: &Path, question: &Question) -> Answer {
    let (asked_at, games) = (clock::now_ms(), &question.games);
    let (results, asked) = ask_games(console, games, &ConsoleVerb::Info);
    let found: Vec<Occupancy> = games
        .iter()
        .zip(results)
        .map(|(game, result)| occupancy(game, result))
        .collect();

    let occupied = match asked {
        Err(error) => Some(format!("nobody can be asked who plays: {error}")),
        Ok(()) if found.iter().all(|one| *one == Occupancy::Empty) => None,
        Ok(()) => {
            let names = games.iter().map(|game| game.name.as_str());
            Some(occupied(names.zip(found)))
        }
    };
    Answer {
        job: question.job,
        asked_at,
        occupied,
    }
}

fn occupancy(game: &Game, result: Option<ConsoleResult>) -> Occupancy {
    let unknown = |why: &str| Occupancy::Unknown(format!("{} {why}", game.name));
    match result {
        None => unknown("does not answer"),
        Some(ConsoleResult::Info(info)) if info.players == 0 => Occupancy::Empty,
        Some(ConsoleResult::Info(info)) => Occupancy::Players(info.players.into()),
        Some(ConsoleResult::Failed { message, .. }) => {
            unknown(&format!("does not answer ({message})"))
        }
        Some(_) => unknown("gave another answer"),
    }
}

fn ask_games(
    console: &Path,
    games: &[Game],
    verb: &ConsoleVerb,
) -> (Vec<Option<ConsoleResult>>, Result<()>) {
    let places = games.iter().map(|game| {
        let WaitingServer { id, port } = game.server;
        (InstanceName::from(id), port)
    });
    ask_all(console, places, verb, TIMEOUT, &mut || false)
}

/// Records an answer: the job may start within the next seconds, or waits on.
pub fn answered(tx: &Connection, answer: &Answer) -> Result<()> {
    match &answer.occupied {
        None => conditions::confirm(tx, answer.job, answer.asked_at),
        Some(why) => conditions::doubt(tx, answer.job, answer.asked_at, why),
    }
}

/// Says a warning to the players. Gives what went wrong.
pub fn say(console: &Path, warning: &Warning) -> Vec<String> {
    let command = format!("say {}", warning.line);
    let (results, asked) = ask_games(console, &warning.games, &ConsoleVerb::Exec { command });
    if let Err(error) = asked {
        return vec![format!("the players were not told: {error}")];
    }

    let failure = |(game, result): (&Game, Option<ConsoleResult>)| {
        let why = match result {
            None => "no answer".to_owned(),
            Some(ConsoleResult::Failed { message, .. }) => message,
            Some(_) => return None,
        };
        Some(format!("the players on {} were not told: {why}", game.name))
    };
    warning
        .games
        .iter()
        .zip(results)
        .filter_map(failure)
        .collect()
}

/// Adds lines about a warning to the job's log, as long as it waits. Later its tasks write there.
pub fn not_warned(tx: &Connection, job: JobId, lines: &[String], now: i64) -> Result<()> {
    if jobs::is_on_hold(tx, job)? {
        for line in lines {
            logs::append(tx, job, now, Stream::Stderr, line)?;
        }
    }
    Ok(())
}

/// Whether a worker has something to do for a waiting job now, or will within [`SOON`]. The poller
/// asks: no worker stays for hours because a job waits.
pub fn needs_worker(connection: &Connection, now: i64) -> Result<bool> {
    if !conditions::any(connection)? {
        return Ok(false);
    }

    let paused = queue::pause(connection)?.is_some();
    let needs = |waiting: &Waiting| match act(waiting, paused, now) {
        Act::Ask => !paused,
        Act::Nothing => waiting.hold.next_at(now).is_some_and(|at| at - now <= SOON),
        Act::Warn(..) | Act::Go(_) | Act::End(_) => true,
    };
    Ok(conditions::waiting(connection, now)?.iter().any(needs))
}
