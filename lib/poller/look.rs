//! The two looks: at the rows, then at the units. In this order: a row that changes after it was read keeps the change.

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

/// The rows, before anybody asked systemd.
pub(super) struct Before {
    /// All servers whose rows make sense. Those of jobs are sorted out when rows are written: jobs come and go.
    pub(super) watched: Vec<Watched>,
    /// Units without a row, as they were known.
    pub(super) orphans: Vec<Orphan>,
    /// When the poller looked last.
    pub(super) last: Poll,
}

/// What came of asking systemd.
pub(super) enum Now {
    /// The host goes down: that servers end is no news.
    GoingDown,
    /// What it said.
    Seen(Seen),
}

/// What systemd says.
pub(super) struct Seen {
    /// When.
    pub(super) at: Moment,
    loaded: BTreeMap<String, Observed>,
    failed_overlays: BTreeMap<String, i64>,
    moving: BTreeSet<String>,
    enabled: BTreeSet<String>,
    has_template: bool,
}

impl Before {
    /// Reads all rows; one that makes no sense is told and left alone.
    pub(super) fn read(db: &mut Db) -> Result<Self> {
        let (rows, orphans, last) = db.read(|tx| Ok((observations::all(tx)?, poll::orphans(tx)?, poll::last(tx)?)))?;
        let mut before = Self { watched: Vec::new(), orphans, last };
        for row in rows {
            match row {
                Ok(watched) => before.watched.push(watched),
                Err(bad) => {
                    tracing::warn!("the row of server {} makes no sense and is left alone: {}", bad.id, bad.why);
                }
            }
        }

        Ok(before)
    }
}

/// Asks systemd for all units and looks at its symlinks.
pub(super) fn look() -> Result<Now> {
    let units = bus::read()?;
    if units.going_down {
        return Ok(Now::GoingDown);
    }

    let enabled = enablement::enabled(Path::new(enablement::SYSTEM))?;
    Ok(Now::Seen(Seen {
        at: units.at,
        loaded: units.loaded,
        failed_overlays: units.failed_overlays,
        moving: units.moving,
        enabled,
        has_template: units.has_template,
    }))
}

impl Seen {
    /// What was seen of a server: a unit that is not loaded does nothing. None while it moves.
    pub(super) fn of(&self, server: ServerId) -> Option<Observed> {
        let instance = server.to_string();
        (!self.moving.contains(&instance)).then(|| self.instance(&instance))
    }

    fn instance(&self, instance: &str) -> Observed {
        let enabled = self.enabled.contains(instance);
        let mut observed = match self.loaded.get(instance) {
            Some(observed) => observed.clone(),
            None => Observed { unit: Unit::unloaded(enabled), at: self.at },
        };

        observed.unit.enabled = Some(enabled);
        observed.unit.overlay_failed_at = self.failed_overlays.get(instance).copied();

        observed
    }

    /// Units that are enabled or do something, and are none of `ids`.
    pub(super) fn orphans(&self, ids: &HashSet<ServerId>) -> Vec<Orphan> {
        let instances: BTreeSet<&String> = self.loaded.keys().chain(&self.enabled).collect();
        let is_known = |instance: &str| {
            instance.parse::<ServerId>().is_ok_and(|id| id.to_string() == instance && ids.contains(&id))
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

    /// What an admin has to mend before servers can start.
    pub(super) fn complaint(&self) -> Option<Error> {
        (!self.has_template).then(|| {
            Error::unavailable(
                "left4me-server@.service is not installed: no server can start; reinstall the package (apt-get install --reinstall left4me)",
            )
        })
    }
}
