//! What is done at set times: the operations, and what makes a request for a schedule valid.

use std::num::NonZeroU16;

use jiff::tz::TimeZone;

use crate::base::clock;
use crate::base::names::{BadName, ServerRef, shown};
use crate::base::words::words;
use crate::domain::calendar::{Calendar, LONGEST, ZoneName};
use crate::domain::condition::{Condition, ConditionRequest};
use crate::domain::operation::Operation;

/// Two runs of a schedule are at least so far apart, in ms. A restart takes minutes with many
/// servers, and no server is worth playing on that restarts more often.
pub const SHORTEST_GAP: i64 = 5 * 60_000;

/// So many schedules one user may have.
pub const MOST_OF_USER: i64 = 100;

/// So many schedules there may be. Each is a timer of systemd.
pub const MOST: i64 = 1000;

words! {
    /// What a schedule does.
    pub enum ScheduledOperation ("something that can be scheduled") {
        Restart = "restart",
        Stop = "stop",
        Start = "start",
        Initialize = "initialize",
        Reset = "reset",
        Update = "update",
        /// A backup of the database. It is no job.
        Backup = "backup",
    }
}

impl ScheduledOperation {
    /// The operation of the job; none for a backup.
    pub fn operation(self) -> Option<Operation> {
        Some(match self {
            Self::Restart => Operation::Restart,
            Self::Stop => Operation::Stop,
            Self::Start => Operation::Start,
            Self::Initialize => Operation::Initialize,
            Self::Reset => Operation::Reset,
            Self::Update => Operation::Update,
            Self::Backup => return None,
        })
    }

    /// Whether it is for servers, rather than for the whole host.
    pub fn takes_servers(self) -> bool {
        !matches!(self, Self::Update | Self::Backup)
    }
}

words! {
    /// How a schedule stands.
    pub enum ScheduleState ("the state of a schedule") {
        /// For its next run.
        Waiting = "waiting",
        Paused = "paused",
        /// Its last run failed, or systemd has no timer for it.
        Failed = "failed",
        /// It never runs again.
        Ended = "ended",
    }
}

impl ScheduleState {
    /// `has_error`: of its last run, or of its timer.
    pub fn of(is_paused: bool, has_error: bool, has_next: bool) -> Self {
        match (is_paused, has_error, has_next) {
            (true, _, _) => Self::Paused,
            (_, true, _) => Self::Failed,
            (_, _, false) => Self::Ended,
            (_, _, true) => Self::Waiting,
        }
    }
}

/// Which servers a schedule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleTargets {
    /// No server: the operation is for the whole host.
    None,
    /// All servers that exist when it runs.
    All,
    /// These servers.
    Named(Vec<ServerRef>),
}

/// A schedule as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRequest {
    pub operation: ScheduledOperation,
    pub targets: ScheduleTargets,
    /// When it runs.
    pub on: Calendar,
    /// The zone of that; none for the host's own.
    pub zone: Option<ZoneName>,
    /// Whether a run that was missed while the host was off is made up for, once.
    pub persistent: bool,
    /// At most so many servers at a time.
    pub rolling: Option<NonZeroU16>,
    /// For an update: whether no server is restarted.
    pub no_restart: bool,
    /// What each job waits for.
    pub condition: ConditionRequest,
}

impl ScheduleRequest {
    /// Checks everything that needs no database. `zone` is the host's. `option` names a part as the
    /// caller's interface does: `--until`, or `until`. Gives the time of the first run.
    ///
    /// Fails with what to change.
    pub fn check(
        &self,
        now: i64,
        zone: &TimeZone,
        option: fn(&str) -> String,
    ) -> Result<i64, BadName> {
        self.check_targets(option)?;
        let zone = self.zone.as_ref().map_or(zone, ZoneName::zone);
        let first = self.check_times(now, zone, option)?;
        let condition = resolve(self.operation, &self.condition, first, zone, option)?;

        let rolling = option("rolling");
        let why = match (self.rolling.is_some(), condition.is_some()) {
            (true, true) if self.operation == ScheduledOperation::Update => format!(
                "{rolling} does not go with a condition: with one, each server restarts by itself"
            ),
            (true, true) => format!(
                "{rolling} does not go with a condition: its later servers would be stopped long \
                 after it was met; add a schedule for each server"
            ),
            (rolls, waits) if self.no_restart => {
                return self
                    .check_no_restart(rolls || waits, option)
                    .map(|()| first);
            }
            _ => return Ok(first),
        };
        Err(BadName::new(why))
    }

    fn check_no_restart(
        &self,
        has_policy: bool,
        option: fn(&str) -> String,
    ) -> Result<(), BadName> {
        let no_restart = option("no-restart");
        let operation = self.operation;
        match (operation, has_policy) {
            (ScheduledOperation::Update, false) => Ok(()),
            (ScheduledOperation::Update, true) => Err(BadName::new(format!(
                "{no_restart} does not go with {} or a condition: without restarts there is \
                 nothing to wait for",
                option("rolling")
            ))),
            _ => Err(BadName::new(format!(
                "{operation} takes no {no_restart}: only update does"
            ))),
        }
    }

    fn check_targets(&self, option: fn(&str) -> String) -> Result<(), BadName> {
        let operation = self.operation;
        let (server, all) = (option("server"), option("all"));
        let why = match &self.targets {
            ScheduleTargets::Named(names) if names.is_empty() && operation.takes_servers() => {
                format!("{operation} needs servers: {server} or {all}")
            }
            ScheduleTargets::None if operation.takes_servers() => {
                format!("{operation} needs servers: {server} or {all}")
            }
            ScheduleTargets::All | ScheduleTargets::Named(_) if !operation.takes_servers() => {
                format!("{operation} is for the whole host: it takes no {server} and no {all}")
            }
            _ if self.rolling.is_some() && operation == ScheduledOperation::Backup => format!(
                "{operation} takes no {}: it is for the whole host",
                option("rolling")
            ),
            _ => return Ok(()),
        };
        Err(BadName::new(why))
    }

    /// Gives the time of the first run.
    fn check_times(
        &self,
        now: i64,
        zone: &TimeZone,
        option: fn(&str) -> String,
    ) -> Result<i64, BadName> {
        let on = option("on");
        // It is stored, and given to systemd, as it is written here, with its zone.
        let zone_length = self.zone.as_ref().map_or(0, |zone| zone.as_str().len() + 1);
        if self.on.bounded().to_string().len() + zone_length > LONGEST {
            return Err(BadName::new(format!(
                "{on} '{}' is too long: with its time zone it has more than {LONGEST} bytes; \
                 make two schedules of it",
                shown(&self.on.to_string())
            )));
        }

        let first = self.on.next_after(now, zone).ok_or_else(|| {
            BadName::new(format!(
                "{on} '{}' never comes: it is in the past, or there is no such date",
                self.on
            ))
        })?;

        match self.on.shortest_gap(now, zone) {
            Some(gap) if gap < SHORTEST_GAP => Err(BadName::new(format!(
                "{on} '{}' comes again after {}: at least {} must lie between two runs",
                self.on,
                clock::span(gap),
                clock::span(SHORTEST_GAP)
            ))),
            _ => Ok(first),
        }
    }
}

/// When a schedule runs, from `*-*-* 05:00`, or `*-*-* 05:00 Europe/Berlin`, and a zone beside it.
///
/// Fails if both have a zone, and these differ.
pub fn when(on: &str, zone: Option<&ZoneName>) -> Result<(Calendar, Option<ZoneName>), BadName> {
    let (calendar, own) = Calendar::with_zone(on)?;
    let zone = one_zone(own.as_ref(), zone).map_err(|(own, zone)| {
        BadName::new(format!(
            "two time zones are given, {own} and {zone}: leave one out"
        ))
    })?;
    Ok((calendar, zone.cloned()))
}

/// The zone of an expression that may end with its `own`, and of one `beside` it.
///
/// Fails with both if they differ.
pub fn one_zone<'a>(
    own: Option<&'a ZoneName>,
    beside: Option<&'a ZoneName>,
) -> Result<Option<&'a ZoneName>, (&'a ZoneName, &'a ZoneName)> {
    match (own, beside) {
        (Some(own), Some(beside)) if own != beside => Err((own, beside)),
        (own, beside) => Ok(own.or(beside)),
    }
}

/// What a job waits for that is accepted at `now`, for a schedule in this zone.
///
/// Fails with what to change if the condition does not fit to the operation, or its parts not
/// together.
pub fn resolve(
    operation: ScheduledOperation,
    condition: &ConditionRequest,
    now: i64,
    zone: &TimeZone,
    option: fn(&str) -> String,
) -> Result<Option<Condition>, BadName> {
    match operation.operation() {
        Some(operation) => condition.resolve(operation, now, zone, option),
        None if *condition == ConditionRequest::default() => Ok(None),
        None => Err(BadName::new(format!(
            "{operation} takes no condition: it ends no player's game"
        ))),
    }
}

/// Whose rights a schedule has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    All,
    /// Operations on the user's own servers.
    OwnServers,
}

impl Rights {
    /// Whether such a schedule may be made and run. `owns` says whether all of its servers are the
    /// user's.
    ///
    /// Fails with the reason.
    pub fn check(
        self,
        operation: ScheduledOperation,
        of_all: bool,
        owns: bool,
    ) -> Result<(), &'static str> {
        match self {
            Self::All => Ok(()),
            Self::OwnServers if !operation.takes_servers() => {
                Err("only admins schedule what is for the whole host")
            }
            Self::OwnServers if of_all => Err("only admins schedule something for all servers"),
            Self::OwnServers if !owns => Err("not all of its servers belong to its owner"),
            Self::OwnServers => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20 12:00 UTC.
    const NOW: i64 = 1_795_176_000_000;

    fn request(operation: ScheduledOperation, on: &str) -> ScheduleRequest {
        let targets = match operation.takes_servers() {
            true => ScheduleTargets::Named(vec![ServerRef::Id(crate::base::names::ServerId(1))]),
            false => ScheduleTargets::None,
        };
        ScheduleRequest {
            operation,
            targets,
            on: on.parse().unwrap(),
            zone: None,
            persistent: false,
            rolling: None,
            no_restart: false,
            condition: ConditionRequest::default(),
        }
    }

    fn check(request: &ScheduleRequest) -> Result<i64, String> {
        let option = |name: &str| format!("--{name}");
        let checked = request.check(NOW, &TimeZone::UTC, option);
        checked.map_err(|error| error.to_string())
    }

    #[test]
    fn each_operation_has_the_word_of_its_job() {
        for operation in ScheduledOperation::ALL {
            match operation.operation() {
                Some(job) => {
                    assert_eq!(job.as_str(), operation.as_str());
                    assert_eq!(job.is_exclusive(), !operation.takes_servers());
                }
                None => assert_eq!(operation, ScheduledOperation::Backup),
            }
        }
    }

    #[test]
    fn servers_are_needed_exactly_by_what_is_for_servers() {
        for operation in ScheduledOperation::ALL {
            let mut wrong = request(operation, "*-*-* 05:00:00");
            assert!(check(&wrong).is_ok(), "{operation}");

            let (targets, said) = match operation.takes_servers() {
                true => (ScheduleTargets::None, "needs servers: --server or --all"),
                false => (ScheduleTargets::All, "it takes no --server and no --all"),
            };
            wrong.targets = targets;
            assert!(check(&wrong).unwrap_err().contains(said), "{operation}");
        }

        let mut backup = request(ScheduledOperation::Backup, "*-*-* 05:00:00");
        backup.rolling = NonZeroU16::new(2);
        assert!(check(&backup).unwrap_err().contains("takes no --rolling"));
    }

    #[test]
    fn an_update_rolls_waits_or_restarts_nothing() {
        let policy = |operation, rolling, when_empty, no_restart| {
            let mut request = request(operation, "*-*-* 05:00:00");
            request.rolling = NonZeroU16::new(rolling);
            request.condition.when_empty = when_empty;
            request.no_restart = no_restart;
            check(&request)
        };
        let update = ScheduledOperation::Update;
        for (rolling, when_empty, no_restart) in
            [(4, false, false), (0, true, false), (0, false, true)]
        {
            assert!(policy(update, rolling, when_empty, no_restart).is_ok());
        }

        for (refused, said) in [
            (policy(update, 4, true, false), "--rolling does not go"),
            (policy(update, 4, false, true), "--no-restart does not go"),
            (policy(update, 0, true, true), "--no-restart does not go"),
            (
                policy(ScheduledOperation::Restart, 0, false, true),
                "restart takes no --no-restart",
            ),
        ] {
            let refused = refused.unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn the_first_run_is_the_next_such_time_in_the_zone() {
        let mut restart = request(ScheduledOperation::Restart, "*-*-* 05:00:00");
        assert_eq!(check(&restart), Ok(NOW + 17 * 3_600_000));
        restart.zone = Some("Europe/Berlin".parse().unwrap());
        assert_eq!(check(&restart), Ok(NOW + 16 * 3_600_000));
    }

    #[test]
    fn what_never_comes_or_comes_too_often_is_refused() {
        for never in ["*-02-30 05:00:00", "2020-01-01 05:00:00"] {
            let said = check(&request(ScheduledOperation::Update, never)).unwrap_err();
            assert!(said.contains("never comes"), "{said}");
        }
        for often in ["*-*-* *:*:00", "*-*-* *:*:*"] {
            let said = check(&request(ScheduledOperation::Update, often)).unwrap_err();
            assert!(said.contains("at least 5 min 0 s must lie"), "{said}");
        }
        assert!(check(&request(ScheduledOperation::Update, "*-*-* *:00/5:00")).is_ok());
    }

    #[test]
    fn a_condition_must_fit_to_the_operation_and_to_itself() {
        let with = |operation, until: Option<&str>| {
            let mut request = request(operation, "*-*-* 05:00:00");
            request.condition.when_empty = true;
            request.condition.until = until.map(|until| until.parse().unwrap());
            request
        };
        assert!(check(&with(ScheduledOperation::Restart, None)).is_ok());
        for (request, said) in [
            (with(ScheduledOperation::Start, None), "takes no condition"),
            (with(ScheduledOperation::Backup, None), "takes no condition"),
            (
                with(ScheduledOperation::Restart, Some("06:00")),
                "--until with --when-empty needs --then go or --then give-up",
            ),
        ] {
            let refused = check(&request).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }

        let mut rolling = with(ScheduledOperation::Restart, None);
        rolling.rolling = NonZeroU16::new(2);
        assert!(
            check(&rolling)
                .unwrap_err()
                .contains("--rolling does not go")
        );
    }

    #[test]
    fn a_user_schedules_only_for_own_servers() {
        let (own, restart) = (Rights::OwnServers, ScheduledOperation::Restart);
        assert!(own.check(restart, false, true).is_ok());
        assert!(own.check(restart, true, true).is_err());
        assert!(own.check(restart, false, false).is_err());
        for operation in [ScheduledOperation::Update, ScheduledOperation::Backup] {
            assert!(own.check(operation, false, true).is_err());
            assert!(Rights::All.check(operation, false, false).is_ok());
        }
    }
}
