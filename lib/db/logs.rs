//! Job logs: every output line of a job's commands, numbered per job without gaps.
//!
//! While a job runs, its worker's log writer adds the lines of its commands, and the scheduler those
//! about its course. Before and after, the code that ends the job adds them, in the same transaction.

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use crate::base::Result;
use crate::base::names::{JobId, TaskId};
use crate::db::{first, one, query, run, text};
use crate::wire::Stream;

/// How many lines are kept from a log's beginning, once it has grown past [`KEEP_HEAD`] and
/// [`KEEP_TAIL`] together.
pub const KEEP_HEAD: i64 = 500_000;
/// How many lines are kept from the end of such a log.
pub const KEEP_TAIL: i64 = 500_000;

/// One line of a log.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// 1, 2, 3 … within the job.
    pub seq: i64,
    /// Unix ms.
    pub at: i64,
    /// `stdout` or `stderr`.
    pub stream: Stream,
    /// The task that printed it; none for the job's own lines.
    pub task_id: Option<TaskId>,
    /// At most 4096 characters, without line break.
    pub line: String,
}

/// The job's last seq; 0 without lines.
pub fn last_seq(connection: &Connection, job: JobId) -> Result<i64> {
    let sql = "SELECT coalesce(max(seq), 0) FROM job_logs WHERE job_id = ?1";
    one(connection, sql, [job], |row| row.get(0))
}

/// Inserts a line at `seq`.
pub fn insert(
    tx: &Connection,
    job: JobId,
    seq: i64,
    at: i64,
    stream: Stream,
    task: Option<TaskId>,
    line: &str,
) -> Result<()> {
    let sql = "INSERT INTO job_logs (job_id, seq, at, stream, task_id, line)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    run(tx, sql, params![job, seq, at, stream.as_str(), task, line])
}

/// Adds a line after the job's last one.
pub fn append(tx: &Connection, job: JobId, at: i64, stream: Stream, line: &str) -> Result<()> {
    insert(tx, job, last_seq(tx, job)? + 1, at, stream, None, line)
}

/// Lines after `after`, in order, at most `limit`.
pub fn after(connection: &Connection, job: JobId, after: i64, limit: u32) -> Result<Vec<Line>> {
    let sql = "SELECT seq, at, stream, task_id, line FROM job_logs WHERE job_id = ?1 AND seq > ?2
               ORDER BY seq LIMIT ?3";
    query(connection, sql, params![job, after, limit], from_row)
}

/// The same, but the lines end once they have `bytes` of text.
pub fn page(
    connection: &Connection,
    job: JobId,
    after: i64,
    limit: u32,
    bytes: usize,
) -> Result<Vec<Line>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, at, stream, task_id, line FROM job_logs WHERE job_id = ?1 AND seq > ?2
         ORDER BY seq LIMIT ?3",
    )?;

    let mut rows = statement.query(params![job, after, limit])?;

    let (mut lines, mut taken) = (Vec::new(), 0);
    while let (true, Some(row)) = (taken < bytes, rows.next()?) {
        let line = from_row(row)?;
        taken += line.line.len();
        lines.push(line);
    }

    Ok(lines)
}

/// The last lines before `before`, in order, at most `limit`; `i64::MAX` selects the log's end.
pub fn before(connection: &Connection, job: JobId, before: i64, limit: u32) -> Result<Vec<Line>> {
    let sql = "SELECT seq, at, stream, task_id, line FROM job_logs WHERE job_id = ?1 AND seq < ?2
               ORDER BY seq DESC LIMIT ?3";
    let mut lines = query(connection, sql, params![job, before, limit], from_row)?;
    lines.reverse();
    Ok(lines)
}

/// How many of a log's last lines are searched for the progress of an installation. While steamcmd
/// works it reports its progress many times a second; the lines after it, about an update's
/// servers, are few.
const TAIL_LINES: u32 = 2000;

/// The last of the log's `TAIL_LINES` last lines that looks like a progress line of steamcmd.
pub fn last_progress(connection: &Connection, job: JobId) -> Result<Option<String>> {
    let sql = "SELECT line FROM (SELECT seq, line FROM job_logs WHERE job_id = ?1
         ORDER BY seq DESC LIMIT ?2) WHERE line LIKE '%Update state%progress:%'
         ORDER BY seq DESC LIMIT 1";
    first(connection, sql, params![job, TAIL_LINES], |row| {
        text(row, 0)
    })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Line> {
    Ok(Line {
        seq: row.get(0)?,
        at: row.get(1)?,
        stream: if row.get_ref(2)?.as_str()? == Stream::Stderr.as_str() {
            Stream::Stderr
        } else {
            Stream::Stdout
        },
        task_id: row.get(3)?,
        line: text(row, 4)?,
    })
}

/// The direction of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Towards its end.
    Down,
    /// Towards its beginning.
    Up,
}

/// The result of searching one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// This line contains the text.
    At(i64),
    /// No match up to and including this line.
    NotYet(i64),
    /// No match, and there are no more lines.
    Nowhere,
}

/// Searches for the nearest line beyond `from` (exclusive) that contains `words`. The case of ASCII
/// letters does not count. At most `page` lines are read, so that a long log does not delay the
/// answer.
pub fn find(
    connection: &Connection,
    job: JobId,
    from: i64,
    way: Way,
    words: &str,
    page: u32,
) -> Result<Found> {
    let mut statement = connection.prepare_cached(match way {
        Way::Down => {
            "SELECT seq, instr(lower(line), lower(?4)) FROM job_logs
             WHERE job_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
        }
        Way::Up => {
            "SELECT seq, instr(lower(line), lower(?4)) FROM job_logs WHERE job_id = ?1 AND seq < ?2
             ORDER BY seq DESC LIMIT ?3"
        }
    })?;

    let mut rows = statement.query(params![job, from, page, words])?;

    let (mut looked_at, mut last) = (0, from);
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        looked_at += 1;
        if row.get::<_, i64>(1)? > 0 {
            return Ok(Found::At(last));
        }
    }

    Ok(if looked_at < page {
        Found::Nowhere
    } else {
        Found::NotYet(last)
    })
}

/// Removes the middle of a log that has grown past head and tail: the rows between the head and
/// `tail_from` are deleted, and one line in their place says how many they were.
pub fn leave_out_middle(tx: &Connection, job: JobId, tail_from: i64, now: i64) -> Result<()> {
    let notice_seq = KEEP_HEAD + 1;
    let sql = "DELETE FROM job_logs WHERE job_id = ?1 AND seq >= ?2 AND seq < ?3";
    run(tx, sql, params![job, notice_seq, tail_from])?;
    let words = format!(
        "[… {} lines are omitted here: the log is longer than {} lines …]",
        tail_from - notice_seq,
        KEEP_HEAD + KEEP_TAIL
    );

    insert(tx, job, notice_seq, now, Stream::Stderr, None, &words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;

    fn log(lines: &[&str]) -> Connection {
        let db = with_servers(0);
        db.execute(
            "INSERT INTO jobs (operation, requested_by, created_at, updated_at)
             VALUES ('install', 'x', 1, 1)",
            [],
        )
        .unwrap();

        for line in lines {
            append(&db, JobId(1), 1, Stream::Stdout, line).unwrap();
        }

        db
    }

    fn seqs(lines: &[Line]) -> Vec<i64> {
        lines.iter().map(|line| line.seq).collect()
    }

    #[test]
    fn a_page_before_a_line_is_in_order_and_the_one_before_the_end_is_the_tail() {
        let db = log(&["a", "b", "c", "d"]);
        assert_eq!(seqs(&before(&db, JobId(1), i64::MAX, 2).unwrap()), [3, 4]);
        assert_eq!(seqs(&before(&db, JobId(1), 3, 5).unwrap()), [1, 2]);
        assert_eq!(seqs(&before(&db, JobId(1), 1, 5).unwrap()), [0_i64; 0]);
    }

    #[test]
    fn a_page_has_at_least_a_line_and_ends_with_the_one_that_fills_it() {
        let db = log(&["aaaa", "b", "cccc", "d"]);
        let page = |from, limit, bytes| seqs(&page(&db, JobId(1), from, limit, bytes).unwrap());
        assert_eq!(
            [page(0, 9, 1), page(0, 9, 5), page(1, 9, 4)],
            [vec![1], vec![1, 2], vec![2, 3]]
        );
        assert_eq!([page(0, 3, 99), page(4, 9, 99)], [vec![1, 2, 3], vec![]]);
    }

    #[test]
    fn how_far_an_installation_is_is_found_behind_other_lines_but_not_for_ever() {
        let line = " Update state (0x61) downloading, progress: 45.32 (1 / 2)";
        let db = log(&[
            "Update state (0x61) downloading, progress: 1.00 (0 / 2)",
            line,
            "Update state",
        ]);

        assert_eq!(last_progress(&db, JobId(1)).unwrap().as_deref(), Some(line));
        assert_eq!(last_progress(&db, JobId(2)).unwrap(), None);
        for _ in 0..TAIL_LINES {
            append(&db, JobId(1), 1, Stream::Stdout, "x").unwrap();
        }

        assert_eq!(last_progress(&db, JobId(1)).unwrap(), None);
    }

    #[test]
    fn a_search_goes_both_ways_page_by_page_and_does_not_mind_the_case() {
        let db = log(&["one", "Two", "three", "twofold", "100% of 'it'"]);
        let find = |from, way, words, page| find(&db, JobId(1), from, way, words, page).unwrap();

        assert_eq!(find(0, Way::Down, "tWO", 10), Found::At(2));
        assert_eq!(find(2, Way::Down, "two", 10), Found::At(4));
        assert_eq!(find(4, Way::Up, "two", 10), Found::At(2));
        assert_eq!(find(2, Way::Up, "two", 10), Found::Nowhere);
        assert_eq!(find(0, Way::Down, "twof", 3), Found::NotYet(3));
        assert_eq!(find(3, Way::Down, "twof", 3), Found::At(4));
        assert_eq!(
            find(0, Way::Down, "0% of '", 10),
            Found::At(5),
            "no letter has a meaning of its own"
        );

        assert_eq!(find(i64::MAX, Way::Up, "nothing", 10), Found::Nowhere);
    }
}
