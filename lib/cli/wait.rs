//! `left4me-job wait`: waits until jobs have ended.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::base::names::JobId;
use crate::base::{Error, Result};
use crate::cli::{Context, follow};
use crate::db::jobs;
use crate::db::watch::Watch;

/// Wait until jobs have ended; exit 0 if all succeeded, else 1
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me-job wait 7
  left4me-job wait 7 8 9 --timeout 600")]
pub struct WaitArgs {
    /// The jobs' ids
    #[arg(required = true)]
    ids: Vec<JobId>,
    /// Stop waiting after this many seconds and exit 1; the jobs continue
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

pub fn run(context: &mut Context, args: &WaitArgs) -> Result<ExitCode> {
    wait(
        context,
        &args.ids,
        args.timeout
            .map(|seconds| Duration::from_secs(seconds.into())),
    )
}

/// Waits for all of `ids`, at most `timeout`.
pub fn wait(context: &Context, ids: &[JobId], timeout: Option<Duration>) -> Result<ExitCode> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let connection = context.db.connection();
    // Report a missing job before waiting for another one.
    for &id in ids {
        jobs::state(connection, id)?;
    }

    follow::leave_running_on_interrupt(ids);
    let mut watch = Watch::new(context.db.path())?;
    let mut failed: Vec<Error> = Vec::new();

    for &id in ids {
        loop {
            let (state, _) = jobs::state(connection, id)?;
            if state.is_terminal() {
                failed.extend(follow::report_end(context, id, state).err());
                break;
            }

            if !watch.wait(deadline)? && deadline.is_some_and(|deadline| Instant::now() >= deadline)
            {
                return Err(Error::failed(format!(
                    "job {id} is still {state} and continues"
                )));
            }
        }
    }

    // The last error becomes the exit code; report the others here.
    let Some(last) = failed.pop() else {
        return Ok(ExitCode::SUCCESS);
    };
    for error in failed {
        let _ = error.report(super::PROGRAM);
    }

    Err(last)
}
