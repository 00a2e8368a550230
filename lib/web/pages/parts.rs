//! Building blocks of pages: relative times, sizes, rows of jobs, pages of a long list. Pure: `now`
//! is a parameter.

use crate::base::clock;
use crate::base::names::{JobId, ServerId};
use crate::db::job_rows::{JobRow, Target};
use crate::db::links::Linked;
use crate::db::lists::Part;
use crate::domain::disk;
use crate::domain::job::JobState;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A time in unix ms, by value or by reference, as templates pass it.
pub trait Moment {
    fn ms(&self) -> i64;
}

impl Moment for i64 {
    fn ms(&self) -> i64 {
        *self
    }
}

impl<M: Moment> Moment for &M {
    fn ms(&self) -> i64 {
        (**self).ms()
    }
}

/// A relative time: `just now`, `3 min ago`, `in 2 h`; a date if it is months away. app.js has the
/// same texts.
pub fn ago(ms: impl Moment, now: impl Moment) -> String {
    let (ms, now) = (ms.ms(), now.ms());
    let away = now.saturating_sub(ms);
    let words = match away.saturating_abs() {
        ..5_000 => return "just now".to_owned(),
        away @ ..MINUTE => format!("{} s", away / SECOND),
        away @ ..HOUR => format!("{} min", away / MINUTE),
        away if away < 2 * DAY => format!("{} h", away / HOUR),
        away if away < 60 * DAY => format!("{} d", away / DAY),
        _ => return clock::day(ms),
    };

    if away > 0 {
        format!("{words} ago")
    } else {
        format!("in {words}")
    }
}

/// `ms` for a `datetime` attribute.
pub fn iso(ms: impl Moment) -> String {
    clock::iso(ms.ms())
}

/// `ms` in the host's time zone, to the second, with the zone's name.
pub fn exact(ms: impl Moment) -> String {
    clock::local(ms.ms())
}

/// Formats bytes: `0 B`, `512 KiB`, `1.3 GiB`.
pub fn bytes(bytes: i64) -> String {
    disk::bytes(u64::try_from(bytes).unwrap_or(0))
}

/// Whether a host name means the client's own machine.
pub fn is_loopback(host: &str) -> bool {
    let name = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    let address = name
        .parse::<std::net::IpAddr>()
        .map(|address| address.to_canonical());
    address.map_or(name == "localhost" || name.ends_with(".localhost"), |at| {
        at.is_loopback() || at.is_unspecified()
    })
}

/// A row in a table of jobs.
#[derive(Clone, Debug)]
pub struct JobLine {
    pub id: JobId,
    pub operation: String,
    pub servers: Vec<Target>,
    /// The number of further servers.
    pub more: i64,
    pub state: JobState,
    pub by: String,
    /// Unix ms.
    pub created_at: i64,
    pub took: Elapsed,
    /// The first line of its error.
    pub error: Option<String>,
    /// What it waits for.
    pub waiting: Option<String>,
    /// Whether the viewer may see it.
    pub open: bool,
}

impl JobLine {
    pub fn of(job: JobRow, now: i64) -> Self {
        Self {
            id: job.id,
            took: took(job.started_at, job.finished_at, now),
            operation: job.operation,
            servers: job.servers,
            more: job.more,
            state: job.state,
            by: job.requested_by,
            created_at: job.created_at,
            error: job.error.as_deref().map(first_line),
            waiting: job.waiting,
            open: job.open,
        }
    }

    /// Whether it is queued and the viewer may cancel it.
    pub fn can_cancel(&self) -> bool {
        self.open && self.state == JobState::Queued
    }

    pub fn all(jobs: Vec<JobRow>, now: i64) -> Vec<Self> {
        jobs.into_iter().map(|job| Self::of(job, now)).collect()
    }
}

/// A duration, final or so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elapsed {
    /// The duration; a dash if it has not started.
    pub words: String,
    /// The start, unix ms, if it is not finished: app.js counts on from there.
    pub since: Option<i64>,
}

/// The duration of something that may not have started or ended.
pub fn took(started_at: Option<i64>, finished_at: Option<i64>, now: i64) -> Elapsed {
    match (started_at, finished_at) {
        (Some(start), Some(end)) => Elapsed {
            words: clock::span(end - start),
            since: None,
        },
        (Some(start), None) => Elapsed {
            words: so_far(start, now),
            since: Some(start),
        },
        (None, _) => Elapsed {
            words: "–".to_owned(),
            since: None,
        },
    }
}

/// The time since `start` in whole seconds. app.js counts on with the same texts.
pub fn so_far(start: impl Moment, now: impl Moment) -> String {
    clock::span((now.ms() - start.ms()).max(0) / SECOND * SECOND)
}

/// The first line, at most 160 characters of it.
pub fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Ids for `data-servers` and `data-jobs`, which say which changes concern a page.
pub fn ids<T: ToString>(ids: impl IntoIterator<Item = T>) -> String {
    ids.into_iter()
        .map(|id| id.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

pub fn job_ids(jobs: &[JobLine]) -> String {
    ids(jobs.iter().map(|job| job.id))
}

/// A server's name, or its id if the name is unknown.
pub fn server_name(id: ServerId, names: &[(ServerId, String)]) -> String {
    let found = names.iter().find(|(other, _)| *other == id);
    found.map_or_else(|| format!("server {id}"), |(_, name)| name.clone())
}

/// Whether `id`, as typed, is none of these servers'.
pub fn is_gone(servers: &[Linked], id: &str) -> bool {
    let id = id.trim();
    !id.is_empty() && !servers.iter().any(|server| server.id.to_string() == id)
}

/// The total of a list as seen from one of its pages.
pub fn counted(total: i64, part: Part) -> String {
    if total < part.most() {
        total.to_string()
    } else {
        format!("{total} or more")
    }
}

/// The position in a long list.
#[derive(Clone, Debug)]
pub struct Pager {
    path: String,
    page: u32,
    per: u32,
    total: i64,
}

impl Pager {
    /// The highest page, which keeps the offset in range.
    const LAST: u32 = 1_000_000;

    /// Page `page`, counted from 1, of `per` rows each. `path` is the list's path, with
    /// percent-encoded filters after a `?` if it has any.
    pub fn new(path: impl Into<String>, page: Option<u32>, per: u32) -> Self {
        Self {
            path: path.into(),
            page: page.unwrap_or(1).clamp(1, Self::LAST),
            per,
            total: 0,
        }
    }

    /// The number of rows on a page.
    pub fn limit(&self) -> u32 {
        self.per
    }

    /// The number of rows before this page.
    pub fn offset(&self) -> u32 {
        (self.page - 1).saturating_mul(self.per)
    }

    /// Sets the number of rows in all.
    pub fn with_total(mut self, total: i64) -> Self {
        self.total = total;
        self
    }

    /// `51–100 of 123`, and `1–50 of 1050 or more` for a list that is not counted to its end.
    pub fn message(&self) -> String {
        let (first, last) = (
            i64::from(self.offset()) + 1,
            (i64::from(self.offset()) + i64::from(self.per)).min(self.total),
        );

        let part = Part {
            limit: self.per,
            offset: self.offset(),
        };
        let total = counted(self.total, part);

        if first > last {
            format!("none of {total}")
        } else {
            format!("{first}–{last} of {total}")
        }
    }

    /// The URL of the page with newer rows.
    pub fn newer(&self) -> Option<String> {
        (self.page > 1).then(|| self.url(self.page - 1))
    }

    /// The URL of the page with older rows.
    pub fn older(&self) -> Option<String> {
        (i64::from(self.offset()) + i64::from(self.per) < self.total)
            .then(|| self.url(self.page + 1))
    }

    fn url(&self, page: u32) -> String {
        let sign = if self.path.contains('?') { '&' } else { '?' };
        format!("{}{sign}page={page}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_time_uses_its_largest_unit() {
        let now = 1_700_000_000_000;
        let texts = [
            0,
            4_999,
            5_000,
            59_999,
            60_000,
            3_599_999,
            HOUR,
            47 * HOUR,
            2 * DAY,
            59 * DAY,
        ]
        .map(|away| ago(now - away, now));

        assert_eq!(
            texts,
            [
                "just now",
                "just now",
                "5 s ago",
                "59 s ago",
                "1 min ago",
                "59 min ago",
                "1 h ago",
                "47 h ago",
                "2 d ago",
                "59 d ago"
            ]
        );

        assert_eq!(
            [ago(now + 4_000, now), ago(now + 2 * HOUR, now)],
            ["just now", "in 2 h"]
        );

        assert_eq!(ago(now - 400 * DAY, now).len(), "2022-10-11".len());

        // Rows that were edited by hand.
        for odd in [i64::MIN, i64::MAX, 0, -1] {
            assert!(!ago(odd, now).is_empty());
        }
    }

    #[test]
    fn host_names_of_the_client_itself_are_loopback() {
        for host in [
            "localhost",
            "LOCALHOST",
            "a.localhost",
            "127.0.0.1",
            "127.9.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
        ] {
            assert!(is_loopback(host), "{host}");
        }

        for host in [
            "l4d.example.org",
            "192.0.2.1",
            "[2001:db8::1]",
            "localhost.example.org",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_size_has_two_digits_that_matter() {
        assert_eq!(
            [
                -5,
                0,
                1023,
                1024,
                1536,
                10 * 1024,
                1 << 20,
                1_395_864_371,
                i64::MAX
            ]
            .map(bytes),
            [
                "0 B", "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 KiB", "1.0 MiB", "1.3 GiB",
                "8192 PiB"
            ]
        );
    }

    #[test]
    fn a_list_is_turned_page_by_page_and_has_an_end() {
        let first = Pager::new("/servers/1/jobs", None, 50).with_total(123);
        assert_eq!(
            (first.message().as_str(), first.newer(), first.offset()),
            ("1–50 of 123", None, 0)
        );

        assert_eq!(first.older().as_deref(), Some("/servers/1/jobs?page=2"));

        let last = Pager::new("/admin/jobs?state=failed", Some(3), 50).with_total(123);
        assert_eq!(
            (last.message().as_str(), last.older()),
            ("101–123 of 123", None)
        );

        assert_eq!(
            last.newer().as_deref(),
            Some("/admin/jobs?state=failed&page=2")
        );

        assert_eq!(
            Pager::new("/x", Some(0), 50).with_total(0).message(),
            "none of 0"
        );

        let long = Pager::new("/x", Some(2), 50).with_total(1100);
        assert_eq!(long.message(), "51–100 of 1100 or more");

        let far = Pager::new("/x", Some(u32::MAX), 5000).with_total(10);
        assert_eq!((far.message().as_str(), far.older()), ("none of 10", None));
    }

    #[test]
    fn a_long_error_is_cut_at_a_character() {
        assert_eq!(first_line("one\ntwo"), "one");
        assert_eq!(first_line(&"漢".repeat(4096)).chars().count(), 161);
    }

    #[test]
    fn a_duration_counts_from_the_start() {
        let texts = |start, end, now| {
            let Elapsed { words, since } = took(start, end, now);
            (words, since)
        };

        assert_eq!(texts(None, Some(9), 10), ("–".to_owned(), None));
        assert_eq!(
            texts(Some(0), Some(12_000), 99_000),
            ("12 s".to_owned(), None)
        );

        assert_eq!(texts(Some(0), None, 12_345), ("12 s".to_owned(), Some(0)));
        assert_eq!(
            texts(Some(50), None, 0),
            ("0 s".to_owned(), Some(50)),
            "a clock that was set back"
        );
    }
}
