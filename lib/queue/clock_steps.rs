//! Handles steps of the host's clock while jobs run: set by an administrator, or by NTP after a
//! boot without a clock. The times of unfinished jobs move with the clock, so that ages and
//! durations stay correct.

use crate::base::Result;
use crate::base::clock::{self, Moment};
use crate::db::Db;
use crate::db::events::{self, NewEvent};
use crate::db::under_way::{self, Step};

/// The smallest change that counts as a step, in ms. NTP corrects a clock by small amounts all the
/// time.
const LEAST: i64 = 5_000;

/// Detects steps of the clock.
#[derive(Clone, Copy, Debug)]
pub struct ClockSteps {
    last: Moment,
}

impl ClockSteps {
    pub fn new(now: Moment) -> Self {
        Self { last: now }
    }

    /// Moves the times of active jobs if the clock was set since the last call. A failed write is
    /// tried again at the next call.
    pub fn apply(&mut self, db: &mut Db, now: Moment) -> Result<()> {
        // The boot time stays the same unless the clock is set.
        let by = now.booted_at - self.last.booted_at;
        if by.abs() >= LEAST {
            let step = Step {
                by,
                after: self.last.now + by,
                now: now.now,
            };

            let way = if by > 0 { "forward" } else { "back" };
            let detail = format!(
                "the host's clock was set {way} by {}",
                clock::span(by.abs())
            );

            db.write(|tx| {
                under_way::shift(tx, step)?;
                let event = NewEvent::new("clock.set", events::OUTSIDE, &detail);

                events::add(tx, now.now, &event)
            })?;

            tracing::warn!("{detail}; the times of unfinished jobs are adjusted");
        }

        self.last = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// A moment `up` ms after a boot, on a clock that is `off` ms ahead.
    fn moment(up: i64, off: i64) -> Moment {
        let booted_at = 1_800_000_000_000 + off;
        Moment {
            now: booted_at + up,
            monotonic_us: u64::try_from(up * 1000).unwrap(),
            booted_at,
        }
    }

    #[test]
    fn what_runs_has_run_as_long_as_it_has_whatever_becomes_of_the_clock() {
        for off in [HOUR, -HOUR, -1_800_000_000_000, 12 * 365 * 24 * HOUR] {
            let root = tempfile::tempdir().unwrap();
            let mut db = Db::open(&root.path().join("left4me.db")).unwrap();
            let begun = moment(0, 0).now;

            db.write(|tx| {
                tx.execute_batch(&format!(
                    "INSERT INTO jobs (id, operation, requested_by, created_at, updated_at,
                         state, started_at, finished_at, exit_code, worker_id)
                     VALUES (1, 'stop', 'x', {begun}, 1, 'succeeded', {begun}, {begun}, 0, 'w'),
                         (2, 'update', 'x', {begun}, 1, 'running', {begun}, NULL, NULL, 'w'),
                         (3, 'stop', 'x', {begun}, 1, 'queued', NULL, NULL, NULL, NULL);
                     INSERT INTO tasks (job_id, position, kind, state, started_at, finished_at)
                     VALUES (2, 0, 'stop', 'succeeded', {begun}, {begun}),
                         (2, 1, 'install-runtime', 'running', {begun}, NULL);
                     INSERT INTO runners (task_id, verb, started_at)
                     VALUES (2, 'install', {begun})"
                ))?;

                Ok(())
            })
            .unwrap();

            let mut steps = ClockSteps::new(moment(590_000, 0));

            // Accepted after the clock was set, a second before the step is detected.
            let after = moment(599_000, off).now;

            db.write(|tx| {
                tx.execute(
                    "INSERT INTO jobs (id, operation, requested_by, created_at, updated_at)
                     VALUES (4, 'start', 'x', ?1, ?1)",
                    [after],
                )?;

                Ok(())
            })
            .unwrap();

            let now = moment(600_000, off);
            steps.apply(&mut db, now).unwrap();
            steps.apply(&mut db, moment(601_000, off + 20)).unwrap();

            let ages = |sql: &str| -> Vec<i64> {
                let mut statement = db.connection().prepare(sql).unwrap();
                let rows = statement
                    .query_map([], |row| Ok(now.now - row.get::<_, i64>(0)?))
                    .unwrap();
                rows.map(Result::unwrap).collect()
            };

            assert_eq!(
                ages("SELECT created_at FROM jobs WHERE id > 1 ORDER BY id"),
                [600_000, 600_000, 1_000],
                "{off}"
            );

            assert_eq!(ages("SELECT started_at FROM jobs WHERE id = 2"), [600_000]);
            assert_eq!(
                ages("SELECT started_at FROM tasks ORDER BY id"),
                [600_000, 600_000]
            );

            assert_eq!(
                ages("SELECT finished_at FROM tasks WHERE id = 1"),
                [600_000]
            );

            assert_eq!(ages("SELECT started_at FROM runners"), [600_000]);
            assert_eq!(
                ages("SELECT started_at FROM jobs WHERE id = 1"),
                [600_000 + off],
                "history stays as it was told"
            );

            let told = events::last(db.connection(), None, 9).unwrap();
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0].detail.starts_with("the host's clock was set "),
                "{told:?}"
            );
        }
    }
}
