//! Rollouts as they are shown: of this host, and of others as they told them last.

use rusqlite::Connection;
use serde::Serialize;

use crate::base::{Result, clock};
use crate::db::fleet::hosts::{self, Host};
use crate::db::fleet::rollouts::{self, Rollout};
use crate::db::lists::Part;

#[derive(Clone, Debug, Serialize)]
pub struct SeenRollout {
    #[serde(flatten)]
    pub rollout: Rollout,
    /// Since when the host that drives it has been silent, unix ms: the rollout stands still, or goes on unseen.
    pub driver_silent_since: Option<i64>,
}

impl SeenRollout {
    pub fn of(rollout: Rollout, all: &[Host], now: i64) -> Self {
        let host = all
            .iter()
            .find(|host| Some(&host.name) == rollout.driver.as_ref());
        let silent = host.filter(|host| !host.state(now).is_known());
        Self {
            driver_silent_since: silent
                .and_then(|host| host.status_received_at)
                .filter(|_| !rollout.state.has_ended()),
            rollout,
        }
    }

    /// Its state; on the host that drove it before, who took it over.
    pub fn state(&self) -> String {
        let rollout = &self.rollout;
        match &rollout.driver {
            Some(driver) if rollout.lost_at.is_some() && !rollout.state.has_ended() => {
                format!("taken over by {driver}")
            }
            None if rollout.taken_from.is_some() => "being taken over".to_owned(),
            _ => rollout.state.to_string(),
        }
    }

    /// `this host`, `fra-2`, or `fra-2, silent since 14:02`.
    pub fn driver_text(&self) -> String {
        match (&self.rollout.driver, self.driver_silent_since) {
            (None, _) => "this host".to_owned(),
            (Some(driver), None) => driver.clone(),
            (Some(driver), Some(at)) => format!("{driver}, silent since {}", clock::local(at)),
        }
    }
}

/// The newest ones, newest first.
pub fn newest(connection: &Connection, part: Part, now: i64) -> Result<Vec<SeenRollout>> {
    let hosts = hosts::all(connection)?;
    let rollouts = rollouts::newest(connection, part)?.into_iter();
    Ok(rollouts
        .map(|rollout| SeenRollout::of(rollout, &hosts, now))
        .collect())
}
