//! Does what a schedule is for, when systemd's timer says that its time has come.

use super::super::{Context, backup};
use crate::base::Result;
use crate::base::names::ScheduleId;
use crate::queue::schedules::{self, Due};
use crate::queue::wake;

pub(super) fn run(context: &Context, id: ScheduleId) -> Result<()> {
    let mut db = context.db()?;
    let due = schedules::run(&mut db, id, context.build_mode, context.now);
    // A failure may be what an alert waits for.
    wake::alerts(db.connection(), &context.alerts_socket);

    match due? {
        Due::Nothing(why) => {
            tracing::info!("schedule {id}: nothing to do: {why}");
            Ok(())
        }
        Due::Job(job) => {
            tracing::info!("schedule {id}: job {} is {}", job.job_id, job.state);
            wake::worker(&context.worker_socket)
        }
        Due::Backup => {
            // Not beside this connection: closing the file there would drop this one's locks.
            drop(db);
            let result = backup::nightly(context);
            let mut db = context.db()?;
            schedules::record_backup(&mut db, id, context.now, &result)?;
            wake::alerts(db.connection(), &context.alerts_socket);
            result
        }
    }
}
