//! Hosts and servers of the fleet as they are shown: what each told last, and whether it is still
//! so. `left4me fleet … --json`, the REST API and the pages have the same objects.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use serde::Serialize;

use crate::base::ulid::Ulid;
use crate::base::{Result, clock};
use crate::db::fleet::hosts::{self, Host};
use crate::db::fleet::jobs::HostJob;
use crate::db::fleet::places;
use crate::db::fleet::servers::{self, FleetServer};
use crate::domain::fleet::view::HostState;

/// A host of the fleet.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SeenHost {
    pub name: String,
    pub state: HostState,
    /// Unix ms: when its last status came, by this host's clock. What follows from the status is
    /// of then.
    pub seen_at: Option<i64>,
    /// Unix ms: the same, by that host's clock.
    pub told_at: Option<i64>,
    pub labels: BTreeMap<String, String>,
    /// `view`: it is told about all hosts; `control`: it may also send orders.
    pub roles: Vec<String>,
    /// Unix ms.
    pub admitted_at: i64,
    /// Unix ms; `null` while it belongs to the fleet.
    pub expelled_at: Option<i64>,
    /// The public key that it signs with.
    pub key: String,
    /// left4me's version there; this and the rest is `null` until it has told its status.
    pub version: Option<String>,
    /// How many servers it takes.
    pub capacity: Option<u32>,
    /// How many servers it has.
    pub used: Option<u32>,
    /// How many people play there; servers whose number is unknown count as none.
    pub players: Option<u32>,
    /// Whether it takes in no more servers.
    pub cordoned: Option<bool>,
    /// Jobs that wait there.
    pub queued: Option<u32>,
    /// Jobs that run there.
    pub running: Option<u32>,
    /// Whether its queue is paused.
    pub paused: Option<bool>,
    /// The build of the game that servers take at their next start.
    pub build: Option<u64>,
    /// The build that Steam publishes, if it is another one.
    pub available: Option<u64>,
    /// Its overlays, each with the digest of its files.
    pub overlays: BTreeMap<String, String>,
}

impl SeenHost {
    pub fn of(host: Host, now: i64) -> Self {
        let state = host.state(now);
        let status = host.status.as_ref();
        let count = |servers: &[crate::domain::fleet::status::ServerStatus]| {
            servers.iter().filter_map(|server| server.players).sum()
        };
        Self {
            state,
            seen_at: host.status_received_at,
            told_at: host.status_at,
            version: status.map(|it| it.version.clone()),
            capacity: status.map(|it| it.capacity),
            used: status.map(|it| it.used),
            players: status.map(|it| count(&it.servers)),
            cordoned: status.map(|it| it.cordoned),
            queued: status.map(|it| it.queue.queued),
            running: status.map(|it| it.queue.running),
            paused: status.map(|it| it.queue.paused),
            build: status.and_then(|it| it.build),
            available: status.and_then(|it| it.available),
            overlays: status.map(|it| it.overlays.clone()).unwrap_or_default(),
            name: host.name,
            labels: host.labels,
            roles: host.roles,
            admitted_at: host.admitted_at,
            expelled_at: host.expelled_at,
            key: host.key,
        }
    }

    /// `disk=ssd region=eu`
    pub fn label_text(&self) -> String {
        let pairs = self.labels.iter();
        let pairs: Vec<_> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join(" ")
    }

    /// `2 queued, 1 running, paused`; empty if it was never known.
    pub fn queue_text(&self) -> String {
        if let Some(at) = self.seen_at.filter(|_| !self.state.is_known()) {
            return format!("unknown since {}", clock::local(at));
        }
        let (Some(queued), Some(running)) = (self.queued, self.running) else {
            return String::new();
        };
        let paused = if self.paused == Some(true) {
            ", paused"
        } else {
            ""
        };
        format!("{queued} queued, {running} running{paused}")
    }

    /// `3 of 10`; empty while unknown.
    pub fn servers_text(&self) -> String {
        match (self.used, self.capacity) {
            (Some(used), Some(capacity)) => format!("{used} of {capacity}"),
            _ => String::new(),
        }
    }
}

/// A server of a host.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SeenServer {
    pub host: String,
    /// Its name in the fleet, which it keeps when it moves.
    #[schema(value_type = String)]
    pub id: Ulid,
    /// Its number on that host.
    pub number: i64,
    pub name: String,
    /// The owner's user name on that host.
    pub owner: String,
    pub port: u16,
    /// Whether the host tells its status. If not, the server was as follows at `seen_at`; how it is
    /// now is not known.
    pub known: bool,
    /// Unix ms: when its host's last status came.
    pub seen_at: Option<i64>,
    pub desired_state: String,
    pub actual_state: String,
    /// Whether the two differ.
    pub drift: bool,
    /// People who play; `null` while unknown.
    pub players: Option<u32>,
    pub max_players: Option<u32>,
    pub map: Option<String>,
    /// The build of the game that it runs.
    pub build: Option<u64>,
    /// The host where it belongs, if it has been placed by the fleet.
    pub place: Option<String>,
    /// Grows with each move; 0 for a server that was never placed.
    pub epoch: u64,
}

impl SeenServer {
    fn of(row: FleetServer, host: Option<&Host>, place: Option<String>, now: i64) -> Self {
        let server = row.server;
        Self {
            known: host.is_some_and(|host| host.state(now).is_known()),
            seen_at: host.and_then(|host| host.status_received_at),
            host: row.host,
            id: server.id,
            number: server.number,
            name: server.name,
            owner: server.owner,
            port: server.port,
            desired_state: server.desired,
            actual_state: server.actual,
            drift: server.drift,
            players: server.players,
            max_players: server.max_players,
            map: server.map,
            build: server.build,
            place,
            epoch: server.epoch,
        }
    }

    /// `3/8`; empty while unknown.
    pub fn players_text(&self) -> String {
        match (self.players, self.max_players) {
            _ if !self.known => String::new(),
            (Some(players), Some(most)) => format!("{players}/{most}"),
            (Some(players), None) => players.to_string(),
            (None, _) => String::new(),
        }
    }

    /// The other host where it belongs: it has moved away from this one.
    pub fn moved_to(&self) -> Option<&str> {
        self.place.as_deref().filter(|place| *place != self.host)
    }
}

/// All hosts by name, with the expelled ones.
pub fn all_hosts(connection: &Connection, now: i64) -> Result<Vec<SeenHost>> {
    let hosts = hosts::all(connection)?.into_iter();
    Ok(hosts.map(|host| SeenHost::of(host, now)).collect())
}

/// A job as its host told it.
#[derive(Clone, Debug, Serialize)]
pub struct SeenJob {
    #[serde(flatten)]
    pub job: HostJob,
    /// Since when nothing is known of its state, unix ms: its host is silent, and it may have ended.
    pub unknown_since: Option<i64>,
}

impl SeenJob {
    pub fn of(job: HostJob, hosts: &[SeenHost]) -> Self {
        Self {
            unknown_since: unknown_since(&job, hosts),
            job,
        }
    }

    pub fn all(jobs: Vec<HostJob>, hosts: &[SeenHost]) -> Vec<Self> {
        jobs.into_iter().map(|job| Self::of(job, hosts)).collect()
    }

    /// Its state, or since when that is unknown.
    pub fn state(&self) -> String {
        match self.unknown_since {
            Some(at) => format!("unknown since {}", clock::local(at)),
            None => self.job.state.clone(),
        }
    }
}

fn unknown_since(job: &HostJob, hosts: &[SeenHost]) -> Option<i64> {
    let has_ended = matches!(&*job.state, "succeeded" | "failed" | "cancelled");
    let host = hosts.iter().find(|host| host.name == job.host)?;
    let is_known = has_ended || host.state.is_known();
    host.seen_at.filter(|_| !is_known)
}

/// All servers, or those of one host, by host and name.
pub fn all_servers(connection: &Connection, of: Option<&str>, now: i64) -> Result<Vec<SeenServer>> {
    let hosts = hosts::all(connection)?;
    let hosts: HashMap<_, _> = hosts
        .iter()
        .map(|host| (host.name.as_str(), host))
        .collect();
    let places = places::all(connection)?.into_iter();
    let places: HashMap<_, _> = places.map(|place| (place.server, place.host)).collect();

    let rows = servers::list(connection, of)?.into_iter();
    let seen = rows.map(|row| {
        let host = hosts.get(row.host.as_str()).copied();
        // Two hosts can have the same server, while it moves.
        let place = places.get(&row.server.id).cloned();
        SeenServer::of(row, host, place, now)
    });
    Ok(seen.collect())
}
