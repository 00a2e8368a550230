//! Stops the units that use the database, and the units that start them; starts them again later.

use std::path::Path;

use crate::base::{Error, Result};

/// The units in stop order: sockets and timers before the services they start.
const UNITS: [&str; 19] = [
    "left4me.target",
    "left4me-web.socket",
    "left4me-web-peers.socket",
    "left4me-worker.socket",
    "left4me-helper.socket",
    "left4me-runner.socket",
    "left4me-publisher.socket",
    "left4me-alerts.socket",
    "left4me-schedules.socket",
    "left4me-poller.timer",
    "left4me-prune.timer",
    "left4me-web.service",
    "left4me-worker.service",
    "left4me-poller.service",
    "left4me-alerts.service",
    "left4me-schedules.service",
    "left4me-update.service",
    "left4me-backup.service",
    "left4me-prune.service",
];

/// Runs of schedules, which end by themselves and are not started again.
const RUNS: &str = "left4me-schedule@*.service";

/// The units to start again.
pub(super) struct StoppedUnits(Vec<&'static str>);

impl StoppedUnits {
    /// Stops all units. Does nothing without systemd.
    ///
    /// Fails if a unit does not stop; then those that were active are started again.
    pub(super) fn stop() -> Result<Self> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Ok(Self(Vec::new()));
        }

        let (_, states) = systemctl("is-active", &UNITS)?;
        let states = states.lines().chain(std::iter::repeat("unknown"));
        let active = UNITS
            .into_iter()
            .zip(states)
            .filter(|(name, state)| *state == "active" && comes_back(name));
        let units = Self(active.map(|(name, _)| name).collect());

        let mut stopped = UNITS.to_vec();
        stopped.push(RUNS);
        match systemctl("stop", &stopped)? {
            (0, _) => Ok(units),
            (_, text) => {
                let failed =
                    Error::unavailable(format!("left4me cannot be stopped: {}", one_line(&text)));
                units.start()?;
                Err(failed)
            }
        }
    }

    /// Starts the units that were active.
    ///
    /// Fails with the command to start them.
    pub(super) fn start(&self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }

        match systemctl("start", &self.0)? {
            (0, _) => Ok(()),
            (_, text) => Err(Error::unavailable(format!(
                "left4me does not start again: {}; see `left4me doctor`, \
                 then as root `systemctl start {}`",
                one_line(&text),
                self.0.join(" ")
            ))),
        }
    }
}

/// Whether to start the unit again. Services return by their socket or timer, except the worker,
/// which the target also starts.
fn comes_back(unit: &str) -> bool {
    !unit.ends_with(".service") || unit == "left4me-worker.service"
}

fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// systemctl's exit code and what it printed.
fn systemctl(verb: &str, units: &[&str]) -> Result<(i32, String)> {
    crate::process::systemctl("left4me", [verb].into_iter().chain(units.iter().copied()))
}
