//! Pages of lists with totals, limited to what a user may see, for the REST API.
//!
//! A page of all jobs, of a server's, of a user's, and of those in a state costs the same however
//! many jobs have ended. A rare operation has no index: with a million jobs it takes 80 to 150 ms.
//! What a user may see of a state or an operation takes 1.5 µs per job of the user.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{CancellationId, JobId, ServerId, UserId};
use crate::db::access;
use crate::db::cancellations::{self, Cancellation};
use crate::db::job_filter;
use crate::db::jobs::{self, Job};
pub use crate::db::paging::Part;
use crate::db::paging::{part_of, words};
use crate::db::servers::{self, Server};
use crate::db::users;
use crate::domain::cancellation::Progress;
use crate::domain::server::ActualState;

/// A page ends early when its rows exceed about this many bytes of JSON, so that stored data cannot
/// make a response arbitrarily long. It has at least one row.
const BYTES: usize = 1024 * 1024;

/// The rows of a page, and the total, as far as it is counted (paging.rs).
pub type Listed<T> = (Vec<T>, i64);

/// Jobs with their tasks, newest first.
pub fn jobs(connection: &Connection, filter: &jobs::Filter) -> Result<Listed<Job>> {
    let (ids, total) = job_filter::page(connection, filter)?;
    let (mut part, mut bytes) = (Vec::with_capacity(ids.len()), 0);
    for id in ids {
        bytes += jobs::size(connection, id)?;
        if bytes > BYTES && !part.is_empty() {
            break;
        }
        part.push(id);
    }

    Ok((jobs::with_ids(connection, &part)?, total))
}

#[derive(Clone, Debug, Default)]
pub struct Cancellations {
    /// Only those of jobs that this user may see; none for an admin, who sees all.
    pub viewer: Option<UserId>,
    /// Only those of this job.
    pub job: Option<JobId>,
    /// Only those in one of these states; empty means all.
    pub states: Vec<Progress>,
}

/// Cancellations, newest first.
pub fn cancellations(
    connection: &Connection,
    which: &Cancellations,
    part: Part,
) -> Result<Listed<Cancellation>> {
    let mut from = "FROM cancellations WHERE TRUE".to_owned();
    if let Some(user) = which.viewer {
        from.push_str(&format!(
            " AND EXISTS (SELECT 1 FROM jobs WHERE jobs.id = cancellations.job_id AND {})",
            access::may_see("jobs", user)
        ));
    }

    if let Some(job) = which.job {
        from.push_str(&format!(" AND job_id = {job}"));
    }

    if !which.states.is_empty() {
        from.push_str(&format!(" AND state IN ({})", words(&which.states)));
    }

    let (ids, total) = part_of(connection, &[from], "DESC", part)?;
    let (mut part, mut bytes) = (Vec::with_capacity(ids.len()), 0);
    for id in ids {
        let row = cancellations::get(connection, CancellationId(id))?;
        bytes += 400 + row.reason.len() + row.message.as_ref().map_or(0, String::len);
        if bytes > BYTES && !part.is_empty() {
            break;
        }
        part.push(row);
    }

    Ok((part, total))
}

#[derive(Clone, Debug, Default)]
pub struct Servers {
    /// Only servers of this user; none for an admin, who sees all.
    pub viewer: Option<UserId>,
    /// Only servers of the user with this name.
    pub owner: Option<String>,
    /// Only servers in one of these states; empty means all.
    pub states: Vec<ActualState>,
}

/// Servers, ordered by id.
pub fn servers(connection: &Connection, which: &Servers, part: Part) -> Result<Listed<Server>> {
    let mut from = "FROM servers WHERE TRUE".to_owned();
    if let Some(user) = which.viewer {
        from.push_str(&format!(" AND user_id = {user}"));
    }

    if let Some(owner) = &which.owner {
        // The name is free text, so the condition uses the id. No row has the id 0.
        let owner = users::by_name(connection, owner)?.map_or(0, |owner| owner.id.0);
        from.push_str(&format!(" AND user_id = {owner}"));
    }

    if !which.states.is_empty() {
        from.push_str(&format!(" AND actual_state IN ({})", words(&which.states)));
    }

    let (ids, total) = part_of(connection, &[from], "ASC", part)?;
    let rows = ids
        .into_iter()
        .filter_map(|id| servers::get(connection, ServerId(id)).transpose());
    Ok((rows.collect::<Result<_>>()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::jobs::Filter;
    use crate::db::with_servers;
    use crate::domain::job::JobState;
    use proptest::prelude::*;

    /// Servers 1 and 2 of user 1, 3 and 4 of user 2, and the given jobs.
    fn house(rows: &[(u8, u8, u8)]) -> Connection {
        let db = with_servers(4);
        db.execute_batch(
            "INSERT INTO users (name, password_hash, created_at, updated_at)
             VALUES ('bert', '', 1, 1);
             UPDATE servers SET user_id = 2 WHERE id > 2;",
        )
        .unwrap();

        for (requester, targets, state) in rows {
            let requester = (1..=2).contains(requester).then_some(*requester);
            let row = match state % 3 {
                0 => "'queued', NULL, NULL, NULL, NULL",
                1 => "'running', 1, NULL, NULL, 'w'",
                _ => "'failed', 1, 1, 1, 'w'",
            };

            db.execute(
                &format!(
                    "INSERT INTO jobs (operation, requested_by, user_id, created_at, updated_at,
                     state, started_at, finished_at, exit_code, worker_id)
                     VALUES ('stop', 'x', ?1, 1, 1, {row})"
                ),
                [requester],
            )
            .unwrap();

            let id = db.last_insert_rowid();
            // The fifth stands for a server whose row is gone.
            for server in (1..=5).filter(|server| targets & (1 << server) != 0) {
                db.execute(
                    "INSERT INTO job_targets (job_id, server_id) VALUES (?1, ?2)",
                    [id, server],
                )
                .unwrap();
            }
        }

        db
    }

    fn ids(listed: &Listed<Job>) -> Vec<i64> {
        listed.0.iter().map(|job| job.id.0).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_list_has_exactly_what_the_viewer_may_see(rows in prop::collection::vec((0_u8..4, 0_u8..64, any::<u8>()), 0..12)) {
            let db = house(&rows);
            for viewer in [None, Some(UserId(1)), Some(UserId(2)), Some(UserId(9))] {
                let visible: Vec<i64> = (1..=i64::try_from(rows.len()).unwrap()).rev()
                    .filter(|id| access::job(&db, JobId(*id), viewer).unwrap()).collect();
                let listed = jobs(&db, &Filter { viewer, limit: 500, ..Filter::default() }).unwrap();
                prop_assert_eq!(ids(&listed), visible.clone());
                prop_assert_eq!(listed.1, i64::try_from(visible.len()).unwrap());

                for states in [vec![JobState::Queued], vec![JobState::Running], vec![JobState::Queued, JobState::Cancelling, JobState::Running],
                               vec![JobState::Failed, JobState::Queued]] {
                    let which = Filter { viewer, states: states.clone(), limit: 2, offset: 1, ..Filter::default() };
                    let part = jobs(&db, &which).unwrap();
                    let all: Vec<&Job> = listed.0.iter().filter(|job| states.contains(&job.state)).collect();
                    prop_assert_eq!(part.1, i64::try_from(all.len()).unwrap());
                    let wanted: Vec<i64> = all.iter().skip(1).take(2).map(|job| job.id.0).collect();
                    prop_assert_eq!(ids(&part), wanted);
                }

                for states in [vec![], vec![JobState::Queued], vec![JobState::Failed]] {
                    let server = ServerId(2);
                    let which = Filter { viewer, server: Some(server), states: states.clone(), limit: 500, ..Filter::default() };
                    let found = jobs(&db, &which).unwrap();
                    let wanted: Vec<i64> = listed.0.iter()
                        .filter(|job| job.servers.contains(&server) && (states.is_empty() || states.contains(&job.state)))
                        .map(|job| job.id.0).collect();
                    prop_assert_eq!(ids(&found), wanted.clone());
                    prop_assert_eq!(found.1, i64::try_from(wanted.len()).unwrap());
                }

                for job in &listed.0 {
                    prop_assert_eq!(job.queue_position, jobs::get(&db, job.id).unwrap().queue_position);
                }
            }
        }
    }
}
