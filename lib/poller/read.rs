//! Reads the rows first, then the units. In this order a row that changes after it was read keeps
//! its change.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use crate::base::clock::Moment;
use crate::base::names::ServerId;
use crate::base::{Error, Result};
use crate::db::Db;
use crate::db::observations::{self, Watched};
use crate::db::poll::{self, Orphan, Poll};
use crate::domain::unit::Unit;
use crate::host::units::Observed;
use crate::host::{bus, enablement};

/// The rows, read before systemd is asked.
pub(super) struct PreviousRows {
    /// All servers with valid rows. Servers with jobs are excluded only when rows are written,
    /// because jobs come and go.
    pub(super) watched: Vec<Watched>,
    /// The known units without a row.
    pub(super) orphans: Vec<Orphan>,
    pub(super) last: Poll,
}

pub(super) enum SystemdAnswer {
    /// The host is shutting down, so servers that stop are not recorded.
    GoingDown,
    /// The state of the units.
    PollResult(PollResult),
}

/// What systemd reports about all units.
pub(super) struct PollResult {
    pub(super) at: Moment,
    loaded: BTreeMap<String, Observed>,
    failed_overlays: BTreeMap<String, i64>,
    moving: BTreeSet<String>,
    enabled: BTreeSet<String>,
    has_template: bool,
}

impl PreviousRows {
    /// Reads all rows. An invalid row is logged and skipped.
    pub(super) fn read(db: &mut Db) -> Result<Self> {
        let (rows, orphans, last) =
            db.read(|tx| Ok((observations::all(tx)?, poll::orphans(tx)?, poll::last(tx)?)))?;
        let mut before = Self {
            watched: Vec::new(),
            orphans,
            last,
        };

        for row in rows {
            match row {
                Ok(watched) => before.watched.push(watched),
                Err(bad) => {
                    tracing::warn!(
                        "the row of server {} is invalid and is left unchanged: {}",
                        bad.id,
                        bad.why
                    );
                }
            }
        }

        Ok(before)
    }
}

/// Asks systemd for all units, and reads its symlinks.
pub(super) fn read() -> Result<SystemdAnswer> {
    let units = bus::read()?;
    if units.going_down {
        return Ok(SystemdAnswer::GoingDown);
    }

    let enabled = enablement::enabled(Path::new(enablement::SYSTEM))?;
    Ok(SystemdAnswer::PollResult(PollResult {
        at: units.at,
        loaded: units.loaded,
        failed_overlays: units.failed_overlays,
        moving: units.moving,
        enabled,
        has_template: units.has_template,
    }))
}

impl PollResult {
    /// The state of a server. A unit that is not loaded is inactive. None while the unit changes
    /// its state.
    pub(super) fn of(&self, server: ServerId) -> Option<Observed> {
        let instance = server.to_string();
        (!self.moving.contains(&instance)).then(|| self.instance(&instance))
    }

    fn instance(&self, instance: &str) -> Observed {
        let enabled = self.enabled.contains(instance);
        let mut observed = match self.loaded.get(instance) {
            Some(observed) => observed.clone(),
            None => Observed {
                unit: Unit::unloaded(enabled),
                at: self.at,
            },
        };

        observed.unit.enabled = Some(enabled);
        observed.unit.overlay_failed_at = self.failed_overlays.get(instance).copied();

        observed
    }

    /// Units that are enabled or active and do not belong to `ids`.
    pub(super) fn orphans(&self, ids: &HashSet<ServerId>) -> Vec<Orphan> {
        let instances: BTreeSet<&String> = self.loaded.keys().chain(&self.enabled).collect();
        let is_known = |instance: &str| {
            instance
                .parse::<ServerId>()
                .is_ok_and(|id| id.to_string() == instance && ids.contains(&id))
        };

        let mut orphans = Vec::new();
        for instance in instances.into_iter().filter(|instance| !is_known(instance)) {
            let observed = self.instance(instance);
            let does_something = !matches!(observed.unit.active.as_str(), "inactive" | "failed");
            if self.enabled.contains(instance) || does_something {
                orphans.push(Orphan {
                    instance: instance.clone(),
                    enabled: self.enabled.contains(instance),
                    state: observed.unit.actual().to_string(),
                    since: self.at.now,
                });
            }
        }

        orphans
    }

    /// A problem that an admin must fix before servers can start.
    pub(super) fn complaint(&self) -> Option<Error> {
        (!self.has_template).then(|| {
            Error::unavailable(
                "left4me-server@.service is not installed: no server can start; reinstall the \
                package (apt-get install --reinstall left4me)",
            )
        })
    }
}
