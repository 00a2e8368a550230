//! The builds of the game, as the command line, the API and the pages show them: those that are
//! kept, the one that Steam publishes, and those that updates leave alone; and who uses which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::Connection;
use serde::Serialize;

use crate::base::builds::{self, GameFiles, Published};
use crate::base::names::{InstanceName, JobId, ServerId};
use crate::base::{Error, Result};
use crate::db::builds::{Available, Rejected, available, rejected};
use crate::db::observations;
use crate::db::overview::shared_job;
use crate::db::servers::{self, Server};
use crate::domain::job::JobState;
use crate::domain::server::ActualState;
use crate::host::instance;
use crate::host::operation::{foreign, verdict};
use crate::wire::PublisherRequest;
use crate::wire::client;

/// A build of the game.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Build {
    /// Its number.
    pub build: u64,
    /// Whether servers take it at their next start.
    pub current: bool,
    /// Whether it is on this host. Otherwise Steam publishes it, or it was rejected.
    pub kept: bool,
    /// Whether Steam publishes it, as of the last check.
    pub available: bool,
    /// When it was made ready for servers, unix ms; `null` for the build that an upgrade from an
    /// earlier version found.
    pub published_at: Option<i64>,
    /// The job that did so.
    pub job_id: Option<JobId>,
    /// The bytes of its files.
    pub size: Option<u64>,
    /// The bytes that it takes itself; the others are shared.
    pub copied: Option<u64>,
    /// The servers that use it.
    pub servers: Vec<BuildUser>,
    /// Why updates leave it alone; `null` if they do not.
    pub rejected: Option<RejectedBuild>,
}

/// A server that uses a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct BuildUser {
    /// The server; `null` for an instance of `l4d2ctl`.
    pub id: Option<ServerId>,
    /// Its name.
    pub name: String,
    /// Whether it runs: it uses the build now, not only if it is started outside left4me.
    pub running: bool,
    /// Since when it has been on this build, unix ms; `null` if that was not recorded.
    pub since: Option<i64>,
}

/// Why updates leave a build alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RejectedBuild {
    /// Unix ms.
    pub at: i64,
    /// Who went back from it.
    pub actor: String,
    /// The reason.
    pub why: String,
}

/// What the disk says of builds.
#[derive(Clone, Debug, Default)]
pub struct OnDisk {
    pub published: Vec<Published>,
    /// What each instance was initialized with.
    pub used: BTreeMap<InstanceName, GameFiles>,
}

impl OnDisk {
    pub fn read(root: &Path) -> Result<Self> {
        let used = match instance::all_game_files(root) {
            Ok(used) => used,
            // There are no instances yet.
            Err(_) if !root.join("instances").exists() => BTreeMap::new(),
            Err(error) => return Err(error.within("the servers' builds cannot be read")),
        };
        let published = builds::list(root).map_err(|error| {
            Error::from(error).within("the builds below LEFT4ME_ROOT/builds cannot be read")
        })?;
        Ok(Self { published, used })
    }

    /// The build that servers take at their next start.
    pub fn current(&self) -> Option<u64> {
        let current = self.published.iter().find(|one| one.is_current);
        current.map(|one| one.build)
    }
}

/// All builds, the newest first.
pub fn all(connection: &Connection, disk: &OnDisk) -> Result<Vec<Build>> {
    let (available, rejected) = (available(connection)?, rejected(connection)?);
    let mut users = users(connection, disk)?;

    let kept = disk.published.iter().map(|one| one.build);
    let others = available.iter().map(|one| one.build);
    let numbers: BTreeSet<u64> = kept
        .chain(others)
        .chain(rejected.iter().map(|one| one.build))
        .collect();
    Ok(numbers
        .into_iter()
        .rev()
        .map(|build| Build {
            servers: users.remove(&GameFiles::Build(build)).unwrap_or_default(),
            ..described(build, disk, available, &rejected)
        })
        .collect())
}

fn described(
    build: u64,
    disk: &OnDisk,
    available: Option<Available>,
    rejected: &[Rejected],
) -> Build {
    let kept = disk.published.iter().find(|one| one.build == build);
    let about = kept.and_then(|one| one.about.as_ref());
    let rejected = rejected.iter().find(|one| one.build == build);
    Build {
        build,
        current: kept.is_some_and(|one| one.is_current),
        kept: kept.is_some(),
        available: available.is_some_and(|one| one.build == build),
        published_at: about.map(|about| about.published_at),
        job_id: about.and_then(|about| about.job).map(JobId),
        size: about.map(|about| about.size),
        copied: about.map(|about| about.copied_size),
        servers: Vec::new(),
        rejected: rejected.map(|one| RejectedBuild {
            at: one.at,
            actor: one.actor.clone(),
            why: one.why.clone(),
        }),
    }
}

/// The servers that use each of the game files.
pub fn users(
    connection: &Connection,
    disk: &OnDisk,
) -> Result<BTreeMap<GameFiles, Vec<BuildUser>>> {
    let servers: BTreeMap<ServerId, Server> = servers::all(connection)?
        .into_iter()
        .map(|server| (server.id, server))
        .collect();

    let mut users: BTreeMap<GameFiles, Vec<BuildUser>> = BTreeMap::new();
    for (instance, &game) in &disk.used {
        let server = instance.as_str().parse().ok();
        let server = server.and_then(|id: ServerId| servers.get(&id));
        let came_up = server.filter(|server| server.build == game.build());
        let user = BuildUser {
            id: server.map(|server| server.id),
            name: server.map_or_else(|| instance.to_string(), |server| server.name.clone()),
            running: server.is_some_and(is_up),
            since: came_up.and_then(|server| server.build_since),
        };
        users.entry(game).or_default().push(user);
    }
    for users in users.values_mut() {
        users.sort_by_key(|user| user.id);
    }
    Ok(users)
}

fn is_up(server: &Server) -> bool {
    !matches!(
        server.actual_state,
        ActualState::Stopped | ActualState::Failed | ActualState::Unknown
    )
}

/// Checks that a build may be removed.
///
/// Fails with 3 if it is not kept; 4 if it is the current one, a server uses it, or a job works on
/// builds.
pub fn check_removal(connection: &Connection, disk: &OnDisk, build: u64) -> Result<()> {
    let kept = disk.published.iter().find(|one| one.build == build);
    let kept = kept.ok_or_else(|| {
        Error::not_found(format!(
            "build {build} is not kept: `left4me build list` shows those that are"
        ))
    })?;
    if kept.is_current {
        return Err(Error::conflict(format!(
            "build {build} is the current one, which servers take at their next start: \
             `left4me-job enqueue rollback` makes an earlier one the current one"
        )));
    }

    if let Some(job) = shared_job(connection)?
        && job.state != JobState::Queued
    {
        return Err(Error::conflict(format!(
            "job {} ({}) works on the builds: wait for it with `left4me-job wait {}`",
            job.id, job.operation, job.id
        )));
    }

    may_go_back(connection, build)?;
    let users = users(connection, disk)?.remove(&GameFiles::Build(build));
    match users.as_deref() {
        None | Some([]) => Ok(()),
        Some(users) => Err(Error::conflict(in_use(build, users))),
    }
}

/// Checks that no job restarts a server that last came up on this build: it goes back to it if the
/// game does not come up on another one.
fn may_go_back(connection: &Connection, build: u64) -> Result<()> {
    for server in servers::all(connection)? {
        if server.build != Some(build) {
            continue;
        }
        if let Some(job) = observations::active_job(connection, server.id)? {
            return Err(Error::conflict(format!(
                "job {job} works on server {} ('{}'), which may go back to build {build}: wait for \
                 it with `left4me-job wait {job}`",
                server.id, server.name
            )));
        }
    }
    Ok(())
}

/// `build 5 is in use by Friday and Sunday: …`, with what gives these the current build.
fn in_use(build: u64, users: &[BuildUser]) -> String {
    let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    let (last, first) = match names.split_last() {
        Some((last, first)) => (*last, first),
        None => ("", &[][..]),
    };
    let names = match first {
        [] => last.to_owned(),
        first => format!("{} and {last}", first.join(", ")),
    };

    let job = |operation: &str, running: bool| {
        let theirs = users.iter().filter(|user| user.running == running);
        let options: String = theirs
            .filter_map(|user| user.id)
            .map(|id| format!(" --server {id}"))
            .collect();
        (!options.is_empty()).then(|| format!("`left4me-job enqueue {operation}{options}`"))
    };
    // A server that is stopped takes the current build as soon as its settings are written.
    let jobs: Vec<String> = [job("restart", true), job("initialize", false)]
        .into_iter()
        .flatten()
        .collect();
    match jobs.len() {
        0 => format!("build {build} is in use by {names}"),
        _ => format!(
            "build {build} is in use by {names}: first run {}",
            jobs.join(" and ")
        ),
    }
}

/// Removes a build, through the publisher. [`check_removal`] comes first.
///
/// Fails if the publisher refuses or cannot do it; 69 if it cannot be reached, 77 if that is not
/// permitted.
pub fn remove(publisher: &Path, build: u64) -> Result<()> {
    let request = PublisherRequest::Remove { build };
    let mut connection = client::Connection::open(publisher, &request)?;
    let mut last = None;
    let end = connection.run(|output| {
        if let client::Output::Lines(lines) = output {
            last = lines.into_iter().next_back().map(|(_, line)| line);
        }
        Ok(())
    })?;
    match end.refused {
        Some(why) => Err(Error::new(foreign(end.exit), why)),
        None => verdict("remove", &end, last, None),
    }
}

#[cfg(test)]
mod tests;
