//! Accepting a job: one transaction, then a one-byte poke. The row is the truth, the poke only a hint.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde::Serialize;

use crate::base::names::{JobId, RequestKey, ServerId, ServerRef, UserId};
use crate::base::{Error, Result};
use crate::db::events::{self, NewEvent};
use crate::db::jobs::{self, Job, NewJob};
use crate::db::{Db, request_keys, servers};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::plan::plan;

/// Which servers a job is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// None: the operation is for what all share.
    None,
    /// Every server there is when the job is accepted.
    All,
    /// These.
    Named(Vec<ServerRef>),
}

/// A wish.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// What to do.
    pub operation: Operation,
    /// To whom.
    pub targets: Targets,
    /// When the same is queued or running already, that job is the answer.
    pub unique: bool,
    /// Who asks.
    pub asker: Asker<'a>,
}

/// Who asks for a job.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The name that the job and its events remember.
    pub name: &'a str,
    /// The account, for one who asks over the web.
    pub user: Option<UserId>,
    /// The same key of the same account again means the same job: a double click, a repeated call.
    pub key: Option<&'a RequestKey>,
}

impl<'a> Asker<'a> {
    /// Somebody at this host's command line.
    #[must_use]
    pub fn here(name: &'a str) -> Self {
        Self { name, user: None, key: None }
    }
}

/// The answer to a wish.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Accepted {
    /// The job.
    pub job_id: JobId,
    /// Its state.
    pub state: JobState,
    /// 1 for the next one; only while queued.
    pub queue_position: Option<i64>,
    /// False when `unique`, or the asker's key, found the job there already.
    #[serde(skip)]
    pub added: bool,
}

/// Accepts a job. When this returns it is on disk.
///
/// # Errors
/// 2 when operation and targets do not go together; 3 for an unknown server; 4 when the asker's key belongs to another
/// wish; 69 when the database cannot be written.
pub fn enqueue(db: &mut Db, wish: &Wish<'_>, now: i64) -> Result<Accepted> {
    db.write(|tx| {
        let targets = resolve(tx, wish)?;
        if let Some(job) = repeated(tx, &wish.asker, now)? {
            if job.operation != wish.operation.as_str() || job.servers != targets || job.retry_of.is_some() {
                return Err(reused(&job));
            }
            return accepted(tx, job.id, false);
        }

        if wish.unique
            && let Some(job_id) = jobs::find_live_twin(tx, wish.operation, &targets)?
        {
            return accepted(tx, job_id, false);
        }

        let id = accept(tx, wish.operation, &targets, &wish.asker, None, now)?;
        accepted(tx, id, true)
    })
}

/// The job that was accepted under this key before.
fn repeated(tx: &rusqlite::Connection, asker: &Asker<'_>, now: i64) -> Result<Option<Job>> {
    let (Some(user), Some(key)) = (asker.user, asker.key) else { return Ok(None) };
    request_keys::find(tx, user, key, now)?.map(|id| jobs::get(tx, id)).transpose()
}

/// The same key for another wish: whoever asks would take that job's fate for this one's.
fn reused(job: &Job) -> Error {
    Error::conflict(format!(
        "this key belongs to job {} ({}): another wish needs a key of its own",
        job.id, job.operation
    ))
}

/// Accepts a fresh job that does what `id` did.
///
/// # Errors
/// 3 for an unknown job or when one of its servers is gone; 4 while it has not ended; 69 when the database cannot be
/// written.
pub fn retry(db: &mut Db, id: JobId, asker: &Asker<'_>, now: i64) -> Result<Accepted> {
    db.write(|tx| {
        if let Some(job) = repeated(tx, asker, now)? {
            return if job.retry_of == Some(id) { accepted(tx, job.id, false) } else { Err(reused(&job)) };
        }

        let job = jobs::get(tx, id)?;
        if !job.state.is_terminal() {
            return Err(Error::conflict(format!(
                "job {id} is {}: only a job that has ended can be retried",
                job.state
            )));
        }

        let operation =
            job.operation.parse::<Operation>().map_err(|error| Error::from(error).within(format!("job {id}")))?;

        for &server in &job.servers {
            if servers::get(tx, server)?.is_none() {
                return Err(Error::not_found(format!("job {id} cannot be retried: server {server} is gone")));
            }
        }

        let new = accept(tx, operation, &job.servers, asker, Some(id), now)?;
        accepted(tx, new, true)
    })
}

fn accepted(tx: &rusqlite::Connection, job_id: JobId, added: bool) -> Result<Accepted> {
    let state = if added { JobState::Queued } else { jobs::state(tx, job_id)?.0 };
    let queue_position = if state == JobState::Queued { Some(jobs::queue_position(tx, job_id)?) } else { None };
    Ok(Accepted { job_id, state, queue_position, added })
}

/// The servers, ascending and each once.
fn resolve(tx: &rusqlite::Connection, wish: &Wish<'_>) -> Result<Vec<ServerId>> {
    let operation = wish.operation;
    let mut ids: Vec<ServerId> = match &wish.targets {
        Targets::None if operation.is_exclusive() => return Ok(Vec::new()),
        Targets::None => {
            return Err(Error::usage(format!("{operation} is for servers: name them with --server, or take --all")));
        }
        _ if operation.is_exclusive() => {
            return Err(Error::usage(format!(
                "{operation} is for what all servers share: it takes no --server and no --all"
            )));
        }
        Targets::All => servers::all_ids(tx)?,
        Targets::Named(names) => names.iter().map(|name| servers::find_id(tx, name)).collect::<Result<_>>()?,
    };

    if ids.is_empty() {
        return Err(Error::not_found("there is no server yet: `left4me server create NAME --blueprint B` makes one"));
    }

    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn accept(
    tx: &rusqlite::Connection,
    operation: Operation,
    targets: &[ServerId],
    asker: &Asker<'_>,
    retry_of: Option<JobId>,
    now: i64,
) -> Result<JobId> {
    let running = if operation == Operation::Update { servers::wanted_running(tx)? } else { Vec::new() };
    let plan = plan(operation, targets, &running);
    let new = NewJob { operation, targets, requested_by: asker.name, user: asker.user, retry_of };

    let id = jobs::insert(tx, &new, &plan, now)?;
    if let (Some(user), Some(key)) = (asker.user, asker.key) {
        request_keys::add(tx, user, key, id, now)?;
    }

    if let Some(desired) = operation.desired_state() {
        for &server in targets {
            servers::set_desired(tx, server, desired, now)?;
        }
    }

    let server = if let [one] = targets { Some(*one) } else { None };
    events::add(
        tx,
        now,
        &NewEvent {
            kind: "job.queued",
            actor: asker.name,
            job: Some(id),
            server,
            detail: operation.as_str(),
            ..NewEvent::default()
        },
    )?;

    Ok(id)
}

/// Whether the worker heard the poke.
#[derive(Debug)]
pub enum Poke {
    /// It is in the socket: systemd starts the worker if it does not run.
    Sent,
    /// Nobody will hear it until a worker is started in another way; why.
    Unheard(Error),
}

/// Tells the worker that there is something to do. A full socket means that it has been told already.
#[must_use]
pub fn poke(socket: &Path) -> Poke {
    let sent = UnixDatagram::unbound().and_then(|datagram| {
        datagram.set_nonblocking(true)?;
        datagram.send_to(b"!", socket)
    });

    match sent {
        Ok(_) => Poke::Sent,
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poke::Sent,
        Err(error) => {
            let path = socket.display();

            Poke::Unheard(match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::unavailable(format!(
                    "no worker listens at {path}: is left4me-worker.socket active? (`systemctl start left4me.target`, `left4me doctor`)"
                )),
                ErrorKind::PermissionDenied => {
                    Error::not_permitted(format!("{path} is closed to this user: be a member of group left4me"))
                }
                _ => Error::unavailable(format!("{path}: {error}")),
            })
        }
    }
}
