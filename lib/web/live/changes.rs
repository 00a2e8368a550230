//! The change feed: which servers and jobs changed. The tables are read once for all subscribers,
//! at most four times a second; each subscriber gets only what it may see.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::Connection;
use serde_json::json;

use super::feed::Subscriber;
use super::sse;
use super::stream::Source;
use crate::base::Result;
use crate::base::names::{JobId, ServerId, UserId};
use crate::db::access;
use crate::db::change_feed::{self, JobVersion, ServerVersion};
use crate::db::queue;
use crate::domain::steam;

/// The shortest time between two reads of the tables.
pub const MIN_INTERVAL: Duration = Duration::from_millis(250);
/// The shortest time in which an install's percentage counts as a change.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// If more events than these came since the last read, everything counts as changed.
const MAX_EVENTS: u32 = 500;
/// Changes kept for subscribers that are slow or come back.
const MAX_KEPT: usize = 64;

/// Whose rights decide what a subscriber gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Sees everything.
    Admin,
    /// Sees this user's own servers and jobs.
    User(UserId),
}

impl Viewer {
    /// Whether it may see what `users` may see.
    fn is_among(self, users: &[UserId]) -> bool {
        match self {
            Viewer::Admin => true,
            Viewer::User(user) => users.contains(&user),
        }
    }
}

/// What changed between two reads of the tables.
#[derive(Default)]
struct ChangeSet {
    all: bool,
    servers: Vec<(ServerId, UserId)>,
    jobs: Vec<(JobId, Vec<UserId>)>,
    queue: bool,
    /// Something of the fleet, which only admins see.
    fleet: bool,
}

impl ChangeSet {
    fn everything() -> Self {
        Self {
            all: true,
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        !self.all && !self.queue && !self.fleet && self.servers.is_empty() && self.jobs.is_empty()
    }
}

/// The tables as of the last read.
struct TableVersions {
    event: i64,
    servers: HashMap<ServerId, ServerVersion>,
    jobs: HashMap<JobId, JobVersion>,
    pause: Option<queue::Pause>,
    fleet: [i64; 5],
    percents: HashMap<JobId, String>,
    percents_at: Instant,
}

/// The state of the change feed.
pub struct Changes {
    /// Identifies this feed. A position of an earlier feed means nothing in this one.
    run: String,
    snapshot: Option<TableVersions>,
    checked_at: Instant,
    /// The position of the last change.
    last: u64,
    kept: VecDeque<Arc<ChangeSet>>,
}

impl Changes {
    pub fn new(run: String) -> Self {
        Self {
            run,
            snapshot: None,
            checked_at: Instant::now(),
            last: 0,
            kept: VecDeque::new(),
        }
    }

    /// The earliest time of the next read; none before the first one.
    pub fn due(&self) -> Option<Instant> {
        self.snapshot
            .as_ref()
            .map(|_| self.checked_at + MIN_INTERVAL)
    }

    /// Whether the last read left out the percentages.
    pub fn has_pending_progress(&self) -> bool {
        let is_pending = |snapshot: &TableVersions| {
            snapshot.percents_at < self.checked_at && snapshot.jobs.values().any(|job| job.installs)
        };
        self.snapshot.as_ref().is_some_and(is_pending)
    }

    /// Reads the tables and returns whether anything changed. The first read counts as a change.
    pub fn check(&mut self, connection: &Connection, now: Instant) -> Result<bool> {
        self.checked_at = now;

        let Some(before) = self.snapshot.take() else {
            self.snapshot = Some(TableVersions::first(connection, now)?);
            return Ok(true);
        };

        match before.compare(connection, now) {
            Ok((change, snapshot)) => {
                self.snapshot = Some(snapshot);
                Ok(!change.is_empty() && self.keep(change))
            }
            Err(error) => {
                // Changes until the next successful read are lost: report everything as
                // changed.
                self.keep(ChangeSet::everything());
                Err(error)
            }
        }
    }

    fn keep(&mut self, change: ChangeSet) -> bool {
        self.last += 1;
        self.kept.push_back(Arc::new(change));
        if self.kept.len() > MAX_KEPT {
            self.kept.pop_front();
        }
        true
    }

    /// The changes after `position`; none if some of them are no longer kept.
    fn after(&self, position: u64) -> Option<Vec<Arc<ChangeSet>>> {
        let missing = usize::try_from(self.last.checked_sub(position)?).ok()?;
        Some(
            self.kept
                .range(self.kept.len().checked_sub(missing)?..)
                .cloned()
                .collect(),
        )
    }
}

impl TableVersions {
    fn first(connection: &Connection, now: Instant) -> Result<Self> {
        let mut snapshot = Self {
            event: change_feed::last_event(connection)?,
            servers: servers(connection)?,
            jobs: jobs(connection)?,
            pause: queue::pause(connection)?,
            fleet: change_feed::fleet_version(connection)?,
            percents: HashMap::new(),
            percents_at: now,
        };

        snapshot.percents = percents(connection, &snapshot.jobs, HashMap::new())?;
        Ok(snapshot)
    }

    fn compare(mut self, connection: &Connection, now: Instant) -> Result<(ChangeSet, Self)> {
        let events = change_feed::events_after(connection, self.event, MAX_EVENTS)?;
        if events.len() >= MAX_EVENTS as usize {
            return Ok((ChangeSet::everything(), Self::first(connection, now)?));
        }

        let (servers, jobs) = (servers(connection)?, jobs(connection)?);
        let pause = queue::pause(connection)?;
        let fleet = change_feed::fleet_version(connection)?;

        // Jobs with an event, with another row, or whose row is gone.
        let mut changed_jobs: BTreeSet<JobId> =
            events.iter().filter_map(|event| event.job).collect();
        changed_jobs.extend(
            jobs.values()
                .filter(|version| self.jobs.get(&version.id) != Some(version))
                .map(|version| version.id),
        );

        changed_jobs.extend(self.jobs.keys().filter(|id| !jobs.contains_key(id)));

        if now >= self.percents_at + PROGRESS_INTERVAL {
            let percents = percents(connection, &jobs, self.percents.clone())?;
            let moved = percents
                .iter()
                .filter(|(id, percent)| self.percents.get(id) != Some(percent));
            changed_jobs.extend(moved.map(|(id, _)| *id));
            (self.percents, self.percents_at) = (percents, now);
        }

        // Servers with another row, or whose row is new or gone.
        let mut changed_servers = BTreeSet::new();
        for (one, other) in [(&servers, &self.servers), (&self.servers, &servers)] {
            let different = one
                .values()
                .filter(|version| other.get(&version.id) != Some(version));
            changed_servers.extend(different.map(|version| (version.id, version.owner)));
        }

        // A server that changed its owner concerns both owners; an event concerns the current one.
        let by_event = events
            .iter()
            .filter_map(|event| servers.get(&event.server?));
        changed_servers.extend(by_event.map(|version| (version.id, version.owner)));

        let with_viewers = |id: JobId| Ok((id, access::viewers(connection, id)?));
        let change = ChangeSet {
            all: false,
            servers: changed_servers.into_iter().collect(),
            jobs: changed_jobs
                .into_iter()
                .map(with_viewers)
                .collect::<Result<_>>()?,
            queue: pause != self.pause || events.iter().any(|event| event.kind.starts_with("job.")),
            fleet: fleet != self.fleet,
        };

        let event = events.last().map_or(self.event, |event| event.id);
        Ok((
            change,
            Self {
                event,
                servers,
                jobs,
                pause,
                fleet,
                ..self
            },
        ))
    }
}

fn servers(connection: &Connection) -> Result<HashMap<ServerId, ServerVersion>> {
    let all = change_feed::server_versions(connection)?.into_iter();
    Ok(all.map(|version| (version.id, version)).collect())
}

fn jobs(connection: &Connection) -> Result<HashMap<JobId, JobVersion>> {
    let all = change_feed::job_versions(connection)?.into_iter();
    Ok(all.map(|version| (version.id, version)).collect())
}

/// The progress of running installs, in whole percents.
fn percents(
    connection: &Connection,
    jobs: &HashMap<JobId, JobVersion>,
    mut known: HashMap<JobId, String>,
) -> Result<HashMap<JobId, String>> {
    known.retain(|id, _| jobs.contains_key(id));

    for job in jobs.values().filter(|job| job.installs) {
        let line = change_feed::last_line(connection, job.id)?;
        if let Some(progress) = line.as_deref().and_then(steam::progress) {
            known.insert(
                job.id,
                format!("{} {:.0}", progress.phase, progress.percent),
            );
        }
    }

    Ok(known)
}

/// One subscriber's position in the change feed.
pub struct ChangesSource {
    feed: Subscriber<Changes>,
    viewer: Viewer,
    /// None: the subscriber has to fetch everything first.
    at: Option<u64>,
}

impl ChangesSource {
    pub(super) fn new(
        feed: Subscriber<Changes>,
        viewer: Viewer,
        last_event_id: Option<&str>,
    ) -> Self {
        let at = {
            let changes = feed.state();
            match last_event_id.map(|id| id.split_once('-')) {
                None => Some(changes.last),
                Some(Some((run, at))) if run == changes.run => {
                    at.parse().ok().filter(|at| *at <= changes.last)
                }
                Some(_) => None,
            }
        };

        Self { feed, viewer, at }
    }

    fn event(&self, run: &str, at: u64, changes: Option<&[Arc<ChangeSet>]>) -> Option<Bytes> {
        let all = changes.is_none_or(|changes| changes.iter().any(|change| change.all));
        let changes = changes.filter(|_| !all).unwrap_or_default();

        let visible = |change: &Arc<ChangeSet>| {
            let servers = change
                .servers
                .iter()
                .filter(|(_, owner)| self.viewer.is_among(&[*owner]))
                .map(|(id, _)| *id);
            let jobs = change
                .jobs
                .iter()
                .filter(|(_, users)| self.viewer.is_among(users))
                .map(|(id, _)| *id);
            (servers.collect::<Vec<_>>(), jobs.collect::<Vec<_>>())
        };

        let (servers, jobs): (Vec<_>, Vec<_>) = changes.iter().map(visible).unzip();
        let servers: BTreeSet<_> = servers.into_iter().flatten().collect();
        let jobs: BTreeSet<_> = jobs.into_iter().flatten().collect();

        let queue = all || changes.iter().any(|change| change.queue);
        let fleet = self.viewer == Viewer::Admin && changes.iter().any(|change| change.fleet);
        if !all && !queue && !fleet && servers.is_empty() && jobs.is_empty() {
            return None;
        }

        let mut data = json!({"servers": servers, "jobs": jobs, "queue": queue});
        if fleet {
            data["fleet"] = true.into();
        }
        if all {
            data["all"] = true.into();
        }

        Some(sse::one(
            Some(&format_args!("{run}-{at}")),
            "changed",
            &data,
        ))
    }
}

impl Source for ChangesSource {
    fn watch(&self, waker: &Waker) {
        self.feed.watch(waker);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let (run, last, changes) = {
            let changes = self.feed.state();
            if changes.snapshot.is_none() || self.at == Some(changes.last) {
                return Poll::Pending;
            }
            (
                changes.run.clone(),
                changes.last,
                self.at.and_then(|at| changes.after(at)),
            )
        };

        self.at = Some(last);
        self.event(&run, last, changes.as_deref())
            .map_or(Poll::Pending, |event| Poll::Ready(Some(event)))
    }
}
