//! Which jobs a list shows: the filter of all lists of jobs, and the only place that makes SQL of
//! it.

use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, ServerId, UserId, UserName};
use crate::db::access;
use crate::db::paging::{self, Part, words};
use crate::domain::job::JobState;
use crate::domain::operation::Operation;

#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only jobs that this user may see; none for an admin, who sees all.
    pub viewer: Option<UserId>,
    /// Only jobs for this server, alone or among others.
    pub server: Option<ServerId>,
    /// Only jobs in one of these states; empty means all.
    pub states: Vec<JobState>,
    /// Only jobs of this operation.
    pub operation: Option<Operation>,
    /// Only jobs requested by this user, on the command line, over the web or over the API.
    pub requester: Option<UserName>,
    /// The most rows to return.
    pub limit: u32,
    pub offset: u32,
}

impl Filter {
    fn part(&self) -> Part {
        Part {
            limit: self.limit,
            offset: self.offset,
        }
    }

    /// Whether only queued and running jobs can match. They are few, so each of them is checked.
    fn is_live(&self) -> bool {
        !self.states.is_empty() && self.states.iter().all(|state| !state.is_terminal())
    }

    /// Whether every job that the viewer may see matches.
    fn is_all(&self) -> bool {
        self.states.is_empty()
            && self.server.is_none()
            && self.operation.is_none()
            && self.requester.is_none()
    }

    /// `FROM … WHERE …` with the column `id`, in arms of which a job matches at most one. The
    /// search begins where it finds few jobs that do not match: the user's, the server's, or those
    /// of an index. Without further conditions it ends with the page and what is counted beyond it.
    fn arms(&self) -> Vec<String> {
        let (mut from, mut rule) = ("jobs", String::new());
        match self.viewer {
            Some(user) if self.is_all() => {
                let ids = access::last_jobs_of(user, self.part().most());
                return vec![format!("FROM ({ids})")];
            }
            Some(user) if self.is_live() || self.server.is_some() => {
                rule += &format!(" AND {}", access::may_see("jobs", user));
            }
            Some(user) => rule += &format!(" AND id IN ({})", access::jobs_of(user)),
            None => {}
        }

        match self.server {
            Some(server) if self.is_live() => {
                rule += &format!(
                    " AND EXISTS (SELECT 1 FROM job_targets t
                      WHERE t.job_id = jobs.id AND t.server_id = {server})"
                );
            }
            Some(server) => {
                from = "job_targets r CROSS JOIN jobs ON jobs.id = r.job_id";
                rule += &format!(" AND r.server_id = {server}");
            }
            None => {}
        }

        if let Some(operation) = self.operation {
            rule += &format!(" AND operation = '{operation}'");
        }

        if let Some(requester) = &self.requester {
            let names = ["", "web:", "api:"].map(|way| literal(&format!("{way}{requester}")));
            rule += &format!(" AND requested_by IN ({})", names.join(", "));
        }

        let arms = arms_of(&self.states).into_iter();
        let id = if from == "jobs" { "id" } else { "r.job_id" };
        arms.map(|arm| format!("FROM (SELECT {id} AS id FROM {from} WHERE {arm}{rule})"))
            .collect()
    }
}

/// `text` as an SQL literal, for a user's name, which is free text. It contains no NUL, which would
/// end the statement.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Conditions of which a job fulfils at most one. All states but `succeeded`, which most jobs have,
/// have an index, which SQLite uses only if its condition is repeated literally.
fn arms_of(states: &[JobState]) -> Vec<String> {
    use JobState::{Cancelled, Cancelling, Failed, Queued, Running, Succeeded};

    if states.is_empty() {
        return vec!["TRUE".to_owned()];
    }

    let mut arms = Vec::new();
    for (indexed, condition) in [
        (&[Queued][..], "state = 'queued'"),
        (&[Running, Cancelling], "state IN ('running', 'cancelling')"),
        (&[Failed, Cancelled], "state IN ('failed', 'cancelled')"),
        (&[Succeeded], "state = 'succeeded'"),
    ] {
        let wanted: Vec<JobState> = indexed
            .iter()
            .copied()
            .filter(|state| states.contains(state))
            .collect();
        if !wanted.is_empty() {
            arms.push(format!("{condition} AND state IN ({})", words(&wanted)));
        }
    }

    arms
}

/// The ids of the jobs, newest first.
pub(super) fn ids(connection: &Connection, filter: &Filter) -> Result<Vec<JobId>> {
    let ids = paging::ids(connection, &filter.arms(), "DESC", filter.part())?;
    Ok(ids.into_iter().map(JobId).collect())
}

/// The same with the total, which is at most [`Part::most`].
pub(super) fn page(connection: &Connection, filter: &Filter) -> Result<(Vec<JobId>, i64)> {
    let (arms, part) = (filter.arms(), filter.part());
    let (ids, total) = match filter.viewer {
        Some(_) if !filter.is_live() && filter.server.is_none() => {
            paging::part_of_few(connection, &arms.join(" UNION ALL SELECT id "), part)?
        }
        _ => paging::part_of(connection, &arms, "DESC", part)?,
    };

    Ok((ids.into_iter().map(JobId).collect(), total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    #[test]
    fn what_did_not_succeed_is_found_by_an_index() {
        let db = with_servers(0);
        for states in [
            vec![JobState::Queued],
            vec![JobState::Running],
            vec![JobState::Queued, JobState::Running],
            vec![JobState::Failed],
            vec![JobState::Queued, JobState::Failed, JobState::Cancelled],
        ] {
            for arm in arms_of(&states) {
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
                        .all(|step| ["jobs_queued", "jobs_live", "jobs_unsuccessful"]
                            .iter()
                            .any(|index| step.contains(index))),
                    "{steps:?}"
                );
            }
        }
    }
}
