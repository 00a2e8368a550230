//! Pages of lists with exact totals, limited to what a user may see, for the REST API.
//!
//! Measured with 1.1 million jobs: a page of all takes 40 ms, a page of queued or running jobs 8
//! ms, by the indexes that the worker needs anyway. A rare state or operation, which has no index,
//! takes 80 to 150 ms. What a user may see is found from the user's side, at about 1.5 µs per job
//! of the user, once for page and total. Queued and running jobs and cancellations are few, so each
//! of them is checked instead.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{CancellationId, JobId, ServerId, UserId};
use crate::db::access;
use crate::db::cancellations::{self, Cancellation};
use crate::db::jobs::{self, Job};
use crate::db::servers::{self, Server};
use crate::db::users;
use crate::domain::cancellation::Progress;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::server::ActualState;

/// Which page of a list.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The most rows to return.
    pub limit: u32,
    /// How many to skip.
    pub offset: u32,
}

/// A page ends early when its rows exceed about this many bytes of JSON, so that stored data cannot
/// make a response arbitrarily long. It has at least one row.
const BYTES: usize = 1024 * 1024;

/// The rows of a page, and the total.
pub type Listed<T> = (Vec<T>, i64);

#[derive(Clone, Debug, Default)]
pub struct Jobs {
    /// Only jobs that this user may see; none for an admin, who sees all.
    pub viewer: Option<UserId>,
    /// Only jobs in one of these states; empty means all.
    pub states: Vec<JobState>,
    /// Only jobs of this operation.
    pub operation: Option<Operation>,
    /// Only jobs for this server, alone or among others.
    pub server: Option<ServerId>,
}

/// Jobs with their tasks, newest first.
pub fn jobs(connection: &Connection, which: &Jobs, part: Part) -> Result<Listed<Job>> {
    let mut rule = String::new();
    let is_live = !which.states.is_empty() && which.states.iter().all(|state| !state.is_terminal());
    match which.viewer {
        Some(user) if is_live => rule.push_str(&format!(" AND {}", access::may_see("jobs", user))),
        Some(user) => rule.push_str(&format!(" AND id IN ({})", access::jobs_of(user))),
        None => {}
    }

    if let Some(operation) = which.operation {
        rule.push_str(&format!(" AND operation = '{operation}'"));
    }

    if let Some(server) = which.server {
        rule.push_str(&format!(
            " AND id IN (SELECT job_id FROM job_targets WHERE server_id = {server})"
        ));
    }

    let arms: Vec<String> = arms(&which.states)
        .into_iter()
        .map(|arm| format!("FROM jobs WHERE {arm}{rule}"))
        .collect();
    let (ids, total) = match which.viewer {
        Some(_) if !is_live => part_of_few(connection, &arms.join(" UNION ALL SELECT id "), part)?,
        _ => part_of(connection, &arms, "DESC", part)?,
    };

    let (mut part, mut bytes) = (Vec::with_capacity(ids.len()), 0);
    for id in ids.into_iter().map(JobId) {
        bytes += jobs::size(connection, id)?;
        if bytes > BYTES && !part.is_empty() {
            break;
        }
        part.push(id);
    }

    Ok((jobs::with_ids(connection, &part)?, total))
}

/// Conditions of which a job fulfils at most one. Queued and running jobs have an index each, which
/// SQLite uses only if its condition is repeated literally.
fn arms(states: &[JobState]) -> Vec<String> {
    use JobState::Queued;

    if states.is_empty() {
        return vec!["TRUE".to_owned()];
    }

    if states.iter().any(|state| state.is_terminal()) {
        return vec![format!("state IN ({})", words(states))];
    }

    let mut arms = Vec::new();
    if states.contains(&Queued) {
        arms.push("state = 'queued'".to_owned());
    }

    let live: Vec<JobState> = states
        .iter()
        .copied()
        .filter(|state| *state != Queued)
        .collect();
    if !live.is_empty() {
        arms.push(format!(
            "state IN ('running', 'cancelling') AND state IN ({})",
            words(&live)
        ));
    }

    arms
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

fn words(states: &[impl std::fmt::Display]) -> String {
    states
        .iter()
        .map(|state| format!("'{state}'"))
        .collect::<Vec<_>>()
        .join(",")
}

/// The ids of one page, and the total. Each of `arms` is a `FROM …`; no row is in two of them. The
/// text differs from call to call, so the statement is not cached: it would only displace those
/// that are needed often.
fn part_of(
    connection: &Connection,
    arms: &[String],
    order: &str,
    part: Part,
) -> Result<(Vec<i64>, i64)> {
    let counts: Vec<String> = arms
        .iter()
        .map(|arm| format!("(SELECT count(*) {arm})"))
        .collect();
    let total = connection
        .prepare(&format!("SELECT {}", counts.join(" + ")))?
        .query_row([], |row| row.get(0))?;
    let rows: Vec<String> = arms.iter().map(|arm| format!("SELECT id {arm}")).collect();
    let mut statement = connection.prepare(&format!(
        "{} ORDER BY id {order} LIMIT ?1 OFFSET ?2",
        rows.join(" UNION ALL ")
    ))?;

    let ids = statement
        .query_map([part.limit, part.offset], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok((ids, total))
}

/// The same for rows that cost more to find than to keep in memory: they are found once, for the
/// total and for the page.
fn part_of_few(connection: &Connection, from: &str, part: Part) -> Result<(Vec<i64>, i64)> {
    let mut statement = connection.prepare(&format!(
        "WITH found (id) AS MATERIALIZED (SELECT id {from})
         SELECT TRUE, count(*) FROM found
         UNION ALL SELECT FALSE, id FROM (SELECT id FROM found ORDER BY id DESC LIMIT ?1 OFFSET ?2)"
    ))?;

    let mut rows = statement.query([part.limit, part.offset])?;

    let (mut ids, mut total) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        match row.get(0)? {
            true => total = row.get(1)?,
            false => ids.push(row.get(1)?),
        }
    }

    ids.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
    Ok((ids, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;
    use proptest::prelude::*;

    const ALL: Part = Part {
        limit: 500,
        offset: 0,
    };

    /// Servers 1 and 2 of user 1, 3 and 4 of user 2, and the given jobs.
    fn house(rows: &[(u8, u8, u8)]) -> Connection {
        let db = with_servers(4);
        db.execute_batch(
            "INSERT INTO users (name, password_hash, created_at, updated_at) VALUES ('bert', '', \
             1, 1);
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
                    "INSERT INTO jobs (operation, requested_by, user_id, created_at, \
                          updated_at, state, started_at, finished_at, exit_code, worker_id) VALUES \
                          ('stop', 'x', ?1, 1, 1, {row})"
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
                let listed = jobs(&db, &Jobs { viewer, ..Jobs::default() }, ALL).unwrap();
                prop_assert_eq!(ids(&listed), visible.clone());
                prop_assert_eq!(listed.1, i64::try_from(visible.len()).unwrap());

                for states in [vec![JobState::Queued], vec![JobState::Running], vec![JobState::Queued, JobState::Cancelling, JobState::Running],
                               vec![JobState::Failed, JobState::Queued]] {
                    let which = Jobs { viewer, states: states.clone(), ..Jobs::default() };
                    let part = jobs(&db, &which, Part { limit: 2, offset: 1 }).unwrap();
                    let all: Vec<&Job> = listed.0.iter().filter(|job| states.contains(&job.state)).collect();
                    prop_assert_eq!(part.1, i64::try_from(all.len()).unwrap());
                    let wanted: Vec<i64> = all.iter().skip(1).take(2).map(|job| job.id.0).collect();
                    prop_assert_eq!(ids(&part), wanted);
                }

                for job in &listed.0 {
                    prop_assert_eq!(job.queue_position, jobs::get(&db, job.id).unwrap().queue_position);
                }
            }
        }
    }

    #[test]
    fn what_is_queued_or_runs_is_found_by_its_index() {
        let db = house(&[]);
        for states in [
            vec![JobState::Queued],
            vec![JobState::Running],
            vec![JobState::Queued, JobState::Running],
        ] {
            for arm in arms(&states) {
                let mut plan = db
                    .prepare(&format!(
                        "EXPLAIN QUERY PLAN SELECT count(*) FROM jobs WHERE {arm}"
                    ))
                    .unwrap();
                let steps: Vec<String> = plan
                    .query_map([], |row| row.get(3))
                    .unwrap()
                    .map(Result::unwrap)
                    .collect();
                assert!(
                    steps
                        .iter()
                        .all(|step| step.contains("jobs_queued") || step.contains("jobs_live")),
                    "{steps:?}"
                );
            }
        }
    }
}
