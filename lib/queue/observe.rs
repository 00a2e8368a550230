//! Records the state of a server: its row, what happened since the last poll, and drift. Worker and
//! poller both use this file, so that they record the same in the same way.

use rusqlite::Connection;

use crate::base::names::{JobId, ServerId};
use crate::base::{Result, clock};
use crate::db::crashes;
use crate::db::events::{self, NewEvent, OUTSIDE};
use crate::db::observations::{self, Seen, Watched};
use crate::domain::drift::{Crashes, Drift, Judgement, judge};
use crate::domain::history::{Change, Start, booted_at, changes};
use crate::domain::server::ActualState;
use crate::host::units::Observed;

/// What caused a change.
#[derive(Clone, Copy, Debug)]
pub enum Cause<'a> {
    /// A job, and who requested it.
    Job(JobId, &'a str),
    /// systemd by itself, or a person with systemctl.
    Outside,
}

/// The result of recording a state.
#[derive(Clone, Debug)]
pub enum Written {
    /// It is recorded: what happened since the last poll, and the new row.
    Done(Vec<Change>, Box<Watched>),
    /// Nothing was written: the row has changed since it was read, or the server is gone.
    Outdated,
}

/// A drift that began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It began: its kind and the reason.
    Began(Drift, String),
    /// It ended.
    Ended(Drift),
}

/// What to report about a server after the commit.
#[derive(Clone, Debug)]
pub struct News {
    /// The server.
    pub server: ServerId,
    /// What happened.
    pub changes: Vec<Change>,
    /// Drifts that began or ended.
    pub told: Vec<Told>,
}

impl News {
    /// Writes it to the journal: problems as warnings, everything else as info.
    pub fn tell(&self) {
        let (id, server_id) = (self.server, self.server.0);
        for change in &self.changes {
            let what = change.kind().trim_start_matches("server.");
            if change.is_bad() {
                tracing::warn!(server_id, "server {id} {what}: {}", change.words());
            } else {
                tracing::info!(server_id, "server {id} {what}: {}", change.words());
            }
        }

        for told in &self.told {
            match told {
                Told::Began(kind, why) => {
                    tracing::warn!(server_id, "server {id} {why} ({})", advice(*kind, id));
                }
                Told::Ended(kind) => tracing::info!(server_id, "server {id} is no longer {kind}"),
            }
        }
    }
}

/// What an admin can do about a drift.
fn advice(kind: Drift, id: ServerId) -> String {
    let (mend, accept) = kind.remedies();
    match kind {
        Drift::Crashing => Drift::crash_advice(id),
        _ => format!(
            "left4me does not correct it: `left4me-job enqueue {mend} --server {id}` does; `{accept}` accepts it"
        ),
    }
}

impl Cause<'_> {
    fn event<'e>(&'e self, kind: &'e str, server: ServerId, detail: &'e str) -> NewEvent<'e> {
        let (actor, job) = match *self {
            Cause::Job(job, by) => (by, Some(job)),
            Cause::Outside => (OUTSIDE, None),
        };
        NewEvent { kind, actor, job, server: Some(server), detail, ..NewEvent::default() }
    }
}

/// Records the state that a job saw. It is newer than everything known before. Gives what happened,
/// if anything.
///
/// # Errors
/// 69 if the database cannot be written.
pub fn record(tx: &Connection, server: ServerId, observed: &Observed, cause: &Cause<'_>) -> Result<Option<News>> {
    let Some(watched) = observations::get(tx, server)? else { return Ok(None) };
    match record_over(tx, &watched, observed, cause)? {
        Written::Done(changes, _) if !changes.is_empty() => Ok(Some(News { server, changes, told: Vec::new() })),
        _ => Ok(None),
    }
}

/// How late a state may be recorded, in ms.
const LATE: i64 = 60_000;

/// Records and judges the state of a server without a job. Does nothing if a newer state is already
/// recorded.
///
/// # Errors
/// 69 if the database cannot be written.
pub fn look(tx: &Connection, server: ServerId, observed: &Observed) -> Result<Vec<News>> {
    let Some(watched) = observations::get(tx, server)? else { return Ok(Vec::new()) };
    // A recorded time further in the future is from before the clock was set back, and so is older
    // than this state.
    let latest = observed.at.now.saturating_add(LATE);
    if watched.known.looked_at.is_some_and(|at| at > observed.at.now && at <= latest) {
        return Ok(Vec::new());
    }

    let mut news = Vec::from_iter(record(tx, server, observed, &Cause::Outside)?);
    news.extend(settle(tx, server, &Cause::Outside, observed.at.now)?);
    Ok(news)
}

/// Records the state of a server, unless its row has changed since `watched` was read.
///
/// # Errors
/// 69 if the database cannot be written.
pub fn record_over(tx: &Connection, watched: &Watched, observed: &Observed, cause: &Cause<'_>) -> Result<Written> {
    let Observed { unit, at } = observed;
    let happened = changes(&watched.known, unit, booted_at(&watched.known, unit, at));
    let known = watched.known.after(unit, at.now);
    let end = happened.iter().rfind(|change| !matches!(change, Change::Started(_))).map(Change::words);

    let since = match known.actual {
        ActualState::Running => at.wall(unit.active_enter_us),
        ActualState::Stopped | ActualState::Failed if known.exit_us != watched.known.exit_us => at.wall(known.exit_us),
        _ => at.now,
    };

    let seen = Seen {
        known: &known,
        sub: Some(unit.sub.as_str()).filter(|sub| !sub.is_empty()),
        last_end: end.as_deref().or(watched.last_end.as_deref()),
        since,
        now: at.now,
    };

    if !observations::write(tx, watched.id, watched.version, &seen)? {
        return Ok(Written::Outdated);
    }

    for change in &happened {
        match change {
            Change::Crashed { more, .. } => crashes::add(tx, watched.id, more.saturating_add(1), at.now)?,
            // systemd resets its counter when a server is started on purpose, so the crashes are
            // reset too. A restart by systemd can look like a start if the poll happened during it.
            Change::Started(Start::Started | Start::Restarted) if unit.restarts == 0 => {
                crashes::forget(tx, watched.id)?;
            }
            _ => {}
        }
        events::add(tx, at.now, &cause.event(change.kind(), watched.id, &change.words()))?;
    }

    let after = Watched { last_end: end.or_else(|| watched.last_end.clone()), known, ..watched.clone() };
    Ok(Written::Done(happened, Box::new(after)))
}

/// Judges whether the desired and the actual state of a server differ, and reports a change once. A
/// server with an unfinished job is not judged, unless the job has waited or run for too long.
///
/// # Errors
/// 69 if the database cannot be written.
pub fn settle(tx: &Connection, server: ServerId, cause: &Cause<'_>, now: i64) -> Result<Option<News>> {
    if observations::job_under_way(tx, server, now)?.is_some_and(|job| job.is_in_time) {
        return Ok(None);
    }
    let Some(watched) = observations::get(tx, server)? else { return Ok(None) };
    let told = settle_drift(tx, &watched, cause, now)?;
    Ok((!told.is_empty()).then_some(News { server, changes: Vec::new(), told }))
}

/// Like [`settle`], for a row that was just read or written and whose server has no active job.
///
/// # Errors
/// 69 if the database cannot be written.
pub fn settle_drift(tx: &Connection, watched: &Watched, cause: &Cause<'_>, now: i64) -> Result<Vec<Told>> {
    let id = watched.id;
    let before = watched.drift.as_ref();
    let crashes = crashes::count(tx, id, now)?;
    let crashing = crashes.keep_coming(before.is_some_and(|drifted| drifted.kind == Drift::Crashing));
    let found = match judge(watched.desired, watched.known.actual, watched.known.enabled, crashing) {
        Judgement::Open => return Ok(Vec::new()),
        Judgement::InOrder => None,
        Judgement::Drifted(kind) => {
            let mut reason = why(kind, watched, cause, crashes);
            // A job that hangs does not cause crashes.
            if kind != Drift::Crashing
                && let Some(job) = observations::job_under_way(tx, id, now)?
            {
                reason = format!("{reason}; {}", slow(&job, now));
            }
            Some((kind, reason))
        }
    };

    let mut told = Vec::new();
    match (before, &found) {
        (None, None) => return Ok(told),
        (Some(before), Some((kind, why))) if before.kind == *kind => {
            // The reason may become known later, or the server may have ended again in another way.
            // The part of a job in the reason is kept.
            let is_new = match kind {
                Drift::Down => watched.last_end.as_ref().is_some_and(|end| !before.why.contains(end)),
                Drift::Crashing => before.why != *why,
                _ => false,
            };
            if is_new {
                observations::set_drift(tx, id, Some((*kind, before.since, why)))?;
            }
            return Ok(told);
        }
        _ => {}
    }

    if let Some(before) = before {
        let detail = format!("was {}: it should be {} and is {}", before.kind, watched.desired, watched.known.actual);
        events::add(tx, now, &cause.event("server.drift_ended", id, &detail))?;
        told.push(Told::Ended(before.kind));
    }

    observations::set_drift(tx, id, found.as_ref().map(|(kind, why)| (*kind, now, why.as_str())))?;
    if let Some((kind, why)) = found {
        let detail = format!("{}: {why}", kind.words(watched.known.actual));
        events::add(tx, now, &cause.event("server.drifted", id, &detail))?;
        told.push(Told::Began(kind, detail));
    }

    Ok(told)
}

/// The job that the server waits for, and for how long.
fn slow(job: &observations::LiveJob, now: i64) -> String {
    let how = if job.is_queued { "has waited" } else { "has run" };
    format!("job {} ({}) {how} for {}", job.id, job.operation, clock::span(now - job.since))
}

/// The reason of a drift, as far as it is known. A failed job is part of it if it is the job that
/// ends now, or if there is no other reason.
fn why(kind: Drift, watched: &Watched, cause: &Cause<'_>, crashes: Crashes) -> String {
    let failed_job = watched.last_error.as_ref().map(|error| match error.starts_with("job ") {
        true => error.clone(),
        false => format!("the last job failed: {error}"),
    });

    let by_job = failed_job.clone().filter(|_| matches!(cause, Cause::Job(..)));
    match kind {
        Drift::Down => {
            let mut reasons: Vec<String> = watched.last_end.iter().cloned().collect();
            reasons.extend(if reasons.is_empty() { failed_job } else { by_job });
            if reasons.is_empty() {
                reasons.push("it has not been started".to_owned());
            }
            if watched.known.enabled == Some(false) {
                reasons.push("its unit is disabled".to_owned());
            }
            reasons.join("; ")
        }
        Drift::Up => by_job.unwrap_or_else(|| "it was started from outside".to_owned()),
        Drift::Enabled => by_job.unwrap_or_else(|| "its unit was enabled from outside".to_owned()),
        Drift::Disabled => "its unit was disabled from outside".to_owned(),
        Drift::Crashing => {
            let last = watched.last_end.as_ref().map_or_else(String::new, |end| format!(", last by {end}"));
            format!("{crashes}{last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Moment;
    use crate::db::{servers, with_servers};
    use crate::domain::server::DesiredState;
    use crate::domain::unit::{MainExit, Unit};

    const SERVER: ServerId = ServerId(1);

    fn at(now: i64) -> Moment {
        Moment { now, monotonic_us: u64::try_from(now).unwrap() * 1000, booted_at: 0 }
    }

    fn running(now: i64, enabled: bool) -> Observed {
        let unit = Unit {
            active: "active".into(),
            sub: "running".into(),
            active_enter_us: 10_000,
            enabled: Some(enabled),
            ..Unit::default()
        };
        Observed { unit, at: at(now) }
    }

    fn killed(now: i64, sub: &str) -> Observed {
        let unit = Unit {
            active: if sub == "failed" { "failed" } else { "activating" }.into(),
            sub: sub.into(),
            result: "signal".into(),
            exit: Some(MainExit::Signal(9)),
            active_enter_us: 10_000,
            exit_us: 50_000,
            active_exit_us: 50_001,
            enabled: Some(true),
            ..Unit::default()
        };
        Observed { unit, at: at(now) }
    }

    /// Records and judges a state, and gives all events so far.
    fn see(db: &Connection, observed: &Observed, cause: &Cause<'_>) -> Vec<String> {
        record(db, SERVER, observed, cause).unwrap();
        settle(db, SERVER, cause, observed.at.now).unwrap();
        told(db)
    }

    fn told(db: &Connection) -> Vec<String> {
        let mut statement =
            db.prepare("SELECT kind || ', ' || coalesce('job ' || job_id, actor) FROM events ORDER BY id").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_look_after_the_clock_was_set_back_counts_and_one_that_is_late_does_not() {
        let (db, now, hour) = (with_servers(1), 7_200_000, 3_600_000);
        see(&db, &running(now, true), &Cause::Outside);
        assert!(look(&db, SERVER, &killed(now - 100, "failed")).unwrap().is_empty(), "what was seen since is newer");
        assert!(!look(&db, SERVER, &killed(now - hour, "failed")).unwrap().is_empty());
    }

    #[test]
    fn a_drift_is_told_when_it_begins_and_when_it_ends_and_not_in_between() {
        let db = with_servers(1);
        servers::set_desired(&db, SERVER, DesiredState::Running, 1).unwrap();
        see(&db, &running(20, true), &Cause::Job(JobId(3), "anna"));
        assert_eq!(told(&db), ["server.started, job 3"]);

        // In between: systemd restarts it or gives up.
        see(&db, &killed(60, "auto-restart"), &Cause::Outside);
        let crashed = see(&db, &killed(61, "failed"), &Cause::Outside);
        assert_eq!(crashed[1..], ["server.crashed, outside", "server.failed, outside", "server.drifted, outside"]);
        assert_eq!(see(&db, &killed(62, "failed"), &Cause::Outside).len(), 4, "told once");
        let server = servers::get(&db, SERVER).unwrap().unwrap();
        let drift = server.drift.unwrap();
        assert_eq!((drift.kind, drift.since, drift.why.as_str()), (Drift::Down, 61, "signal 9 (KILL)"));
        assert_eq!((server.last_end.as_deref(), server.actual_since), (Some("signal 9 (KILL)"), Some(61)));

        let mut again = running(90, true);
        again.unit.active_enter_us = 80_000;
        let mended = see(&db, &again, &Cause::Job(JobId(4), "anna"));
        assert_eq!(mended[4..], ["server.started, job 4", "server.drift_ended, job 4"]);
        let server = servers::get(&db, SERVER).unwrap().unwrap();
        assert_eq!((server.drift, server.actual_since), (None, Some(80)));
    }

    #[test]
    fn a_server_with_a_live_job_is_not_judged_and_one_on_its_way_keeps_its_drift() {
        let db = with_servers(1);
        servers::set_desired(&db, SERVER, DesiredState::Running, 1).unwrap();
        db.execute_batch(
            "INSERT INTO jobs (id, operation, requested_by, created_at, updated_at) VALUES (1, 'start', 'x', 1, 1);
             INSERT INTO job_targets VALUES (1, 1);",
        )
        .unwrap();
        let stopped = Observed { unit: Unit::unloaded(false), at: at(30) };
        assert_eq!(see(&db, &stopped, &Cause::Outside), Vec::<String>::new());
        db.execute("UPDATE jobs SET state = 'failed', finished_at = 1, exit_code = 1", []).unwrap();
        assert_eq!(see(&db, &stopped, &Cause::Outside), ["server.drifted, outside"]);
        let why = servers::get(&db, SERVER).unwrap().unwrap().drift.unwrap().why;
        assert_eq!(why, "it has not been started; its unit is disabled");
        let mut starting = Observed { unit: Unit::unloaded(true), at: at(31) };
        starting.unit.job = Some("start".into());
        assert_eq!(see(&db, &starting, &Cause::Outside).len(), 1);
        assert!(servers::get(&db, SERVER).unwrap().unwrap().drift.is_some());
    }

    #[test]
    fn a_server_whose_job_waits_or_runs_for_too_long_is_judged_and_the_job_is_named() {
        let db = with_servers(2);
        servers::set_desired(&db, SERVER, DesiredState::Running, 1).unwrap();
        db.execute_batch(
            "INSERT INTO jobs (id, operation, requested_by, created_at, updated_at) VALUES (7, 'start', 'x', 1, 1);
             INSERT INTO job_targets VALUES (7, 1);",
        )
        .unwrap();
        let stopped = |now| Observed { unit: Unit::unloaded(true), at: at(now) };
        assert_eq!(see(&db, &stopped(299_000), &Cause::Outside), Vec::<String>::new());
        assert_eq!(see(&db, &stopped(361_000), &Cause::Outside), ["server.drifted, outside"]);
        let drift = servers::get(&db, SERVER).unwrap().unwrap().drift.unwrap();
        assert_eq!(drift.kind, Drift::Down);
        assert!(drift.why.contains("job 7 (start) has waited for 6"), "{}", drift.why);

        // The job starts at last, and hangs.
        db.execute("UPDATE jobs SET state = 'running', started_at = 400000, worker_id = 'w'", []).unwrap();
        assert_eq!(see(&db, &running(420_000, true), &Cause::Outside).len(), 2, "it is on its way again");
        assert!(
            see(&db, &running(701_000, true), &Cause::Outside).ends_with(&["server.drift_ended, outside".to_owned()])
        );
    }

    #[test]
    fn a_look_at_what_has_changed_meanwhile_is_not_written() {
        let db = with_servers(1);
        let early = observations::get(&db, SERVER).unwrap().unwrap();
        see(&db, &killed(60, "failed"), &Cause::Outside);
        let outcome = record_over(&db, &early, &running(20, true), &Cause::Outside).unwrap();
        assert!(matches!(outcome, Written::Outdated));
        assert_eq!(servers::get(&db, SERVER).unwrap().unwrap().actual_state, ActualState::Failed);
        assert!(record(&db, ServerId(9), &running(20, true), &Cause::Outside).unwrap().is_none());
        assert!(look(&db, SERVER, &running(59, true)).unwrap().is_empty(), "somebody has looked later");
        assert_eq!(servers::get(&db, SERVER).unwrap().unwrap().actual_state, ActualState::Failed);
    }

    #[test]
    fn one_kind_of_drift_may_follow_another() {
        let db = with_servers(1);
        see(&db, &running(20, true), &Cause::Outside);
        let drift = servers::get(&db, SERVER).unwrap().unwrap().drift.unwrap();
        assert_eq!((drift.kind, drift.why.as_str()), (Drift::Up, "it was started from outside"));
        see(&db, &Observed { unit: Unit::unloaded(true), at: at(30) }, &Cause::Outside);
        assert_eq!(servers::get(&db, SERVER).unwrap().unwrap().drift.unwrap().kind, Drift::Enabled);
        let last: Vec<String> = told(&db).split_off(2);
        assert_eq!(last, ["server.stopped, outside", "server.drift_ended, outside", "server.drifted, outside"]);
    }
    /// The game crashes 15 s after each start. A poll happens at each crash and at each restart.
    #[test]
    fn a_server_that_crashes_15_s_after_each_start_keeps_crashing_until_it_is_started_on_purpose_or_stays_up() {
        let db = with_servers(1);
        servers::set_desired(&db, SERVER, DesiredState::Running, 1).unwrap();
        let up = |start: i64, restarts: u32| {
            let mut up = running(start + 1, true);
            (up.unit.active_enter_us, up.unit.restarts) = (u64::try_from(start).unwrap() * 1000, restarts);
            up
        };
        let down = |start: i64, restarts: u32| {
            let mut down = killed(start + 15_000, "auto-restart");
            let at = |ms: i64| u64::try_from(ms).unwrap() * 1000;
            (down.unit.active_enter_us, down.unit.restarts) = (at(start), restarts);
            (down.unit.exit_us, down.unit.active_exit_us) = (at(start + 15_000) - 9, at(start + 15_000) - 8);
            down
        };
        let drift = || servers::get(&db, SERVER).unwrap().unwrap().drift;
        for round in 0..7_u32 {
            let start = 1_000 + i64::from(round) * 20_000;
            see(&db, &up(start, round), &Cause::Outside);
            see(&db, &down(start, round), &Cause::Outside);
            let found = drift().map(|drift| (drift.kind, drift.why));
            let expected = (round >= 2)
                .then(|| (Drift::Crashing, format!("crashed {} times in 10 min, last by signal 9 (KILL)", round + 1)));
            assert_eq!(found, expected, "after {} crashes", round + 1);
        }
        assert_eq!(told(&db).iter().filter(|event| event.starts_with("server.drifted")).count(), 1, "told once");
        assert_eq!(crash_total(&db), 7);

        // It stays up: the drift ends after ten quiet minutes, and not before.
        see(&db, &up(141_000, 7), &Cause::Outside);
        let mut later = up(141_000, 7);
        later.at = at(700_000);
        see(&db, &later, &Cause::Outside);
        assert!(drift().is_some());
        later.at = at(740_000);
        see(&db, &later, &Cause::Outside);
        assert_eq!(drift(), None);

        // Two more crashes are not three, and a start on purpose resets the count.
        for (start, restarts) in [(800_000, 7), (820_000, 8)] {
            see(&db, &up(start, restarts), &Cause::Outside);
            see(&db, &down(start, restarts), &Cause::Outside);
        }
        assert_eq!(drift(), None);
        see(&db, &up(900_000, 0), &Cause::Job(JobId(4), "anna"));
        see(&db, &down(900_000, 0), &Cause::Outside);
        assert_eq!((drift(), crash_total(&db)), (None, 10));
    }

    fn crash_total(db: &Connection) -> u64 {
        crate::db::metrics::snapshot(db).unwrap().crashes.iter().map(|server| server.count).sum()
    }
}
