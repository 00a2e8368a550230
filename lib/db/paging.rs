//! Pages of a list: the ids of the rows, and the total. A total is counted up to a number of rows
//! beyond the page, so that a page costs the same however long the list has become.

use rusqlite::Connection;

use crate::base::Result;

/// How many rows beyond a page are counted. A longer list has this total, as seen from the page.
pub const COUNTED: u32 = 1000;

/// Which page of a list.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The most rows to return.
    pub limit: u32,
    pub offset: u32,
}

impl Part {
    /// The largest total of this page: the list has as many rows, or more.
    pub fn most(self) -> i64 {
        i64::from(self.offset) + i64::from(self.limit) + i64::from(COUNTED)
    }
}

pub(super) fn words(states: &[impl std::fmt::Display]) -> String {
    states
        .iter()
        .map(|state| format!("'{state}'"))
        .collect::<Vec<_>>()
        .join(",")
}

/// The ids of one page, and the total, which is at most [`Part::most`]. Each of `arms` is a `FROM …`; no row is in two of them. The
/// text differs from call to call, so the statement is not cached: it would only displace those
/// that are needed often.
pub(super) fn part_of(
    connection: &Connection,
    arms: &[String],
    order: &str,
    part: Part,
) -> Result<(Vec<i64>, i64)> {
    let counts: Vec<String> = arms
        .iter()
        .map(|arm| format!("(SELECT count(*) FROM (SELECT 1 {arm} LIMIT ?1))"))
        .collect();
    let total = connection
        .prepare(&format!("SELECT min(?1, {})", counts.join(" + ")))?
        .query_row([part.most()], |row| row.get(0))?;
    Ok((ids(connection, arms, order, part)?, total))
}

/// The same without the total.
pub(super) fn ids(
    connection: &Connection,
    arms: &[String],
    order: &str,
    part: Part,
) -> Result<Vec<i64>> {
    let rows: Vec<String> = arms.iter().map(|arm| format!("SELECT id {arm}")).collect();
    let mut statement = connection.prepare(&format!(
        "{} ORDER BY id {order} LIMIT ?1 OFFSET ?2",
        rows.join(" UNION ALL ")
    ))?;

    let rows = statement.query_map([part.limit, part.offset], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// [`part_of`] for rows that cost more to find than to keep in memory: they are found once, for the
/// total and for the page.
pub(super) fn part_of_few(
    connection: &Connection,
    from: &str,
    part: Part,
) -> Result<(Vec<i64>, i64)> {
    let mut statement = connection.prepare(&format!(
        "WITH found (id) AS MATERIALIZED (SELECT id {from})
         SELECT TRUE, min(?3, count(*)) FROM found
         UNION ALL SELECT FALSE, id FROM (SELECT id FROM found ORDER BY id DESC LIMIT ?1 OFFSET ?2)"
    ))?;

    let limits = [part.limit.into(), part.offset.into(), part.most()];
    let mut rows = statement.query(limits)?;

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
