//! `left4me-job retry`, `pause` and `resume`.

use std::process::ExitCode;

use crate::base::names::JobId;
use crate::base::{Error, Result, caller, clock, output};
use crate::cli::{self, Context};
use crate::db::{jobs, queue};
use crate::queue::{enqueue, retry};

/// Queue a new job with the operation and servers of a finished one
#[derive(clap::Args)]
pub struct RetryArgs {
    /// The finished job
    id: JobId,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Pause the queue: no further job starts; running jobs continue
#[derive(clap::Args)]
pub struct PauseArgs {
    /// Reason, one line; shown while the queue is paused
    #[arg(long)]
    reason: Option<String>,
}

/// Resume a paused queue
#[derive(clap::Args)]
pub struct ResumeArgs {}

pub fn retry(context: &mut Context, args: &RetryArgs) -> Result<ExitCode> {
    let accepted = retry::retry(
        &mut context.db,
        args.id,
        context.build_mode,
        &enqueue::Requester::local(&caller::caller()),
        clock::now_ms(),
    )?;

    context.wake_worker();
    if args.json {
        output::json(&accepted)?
    } else {
        output::line(&accepted.job_id.to_string())?
    }

    Ok(ExitCode::SUCCESS)
}

pub fn pause(context: &mut Context, args: &PauseArgs) -> Result<ExitCode> {
    let (by, reason) = (caller::caller(), cli::reason(args.reason.as_deref())?);
    let (paused, running) = context.db.write(|tx| {
        let done = queue::set_paused(tx, clock::now_ms(), &by, reason.as_deref())?;
        Ok((done, jobs::counts(tx)?.1))
    })?;

    if !paused {
        let who = queue::pause(context.db.connection())?
            .map_or_else(String::new, |pause| format!(" by {}", pause.paused_by));
        return Err(Error::conflict(format!(
            "the queue is paused already{who}; resume it with `left4me-job resume`"
        )));
    }

    let rest = if running > 0 {
        format!("; running jobs continue: {running}")
    } else {
        String::new()
    };

    output::line(&format!("the queue is paused{rest}"))?;
    Ok(ExitCode::SUCCESS)
}

pub fn resume(context: &mut Context, _: &ResumeArgs) -> Result<ExitCode> {
    let by = caller::caller();
    let (resumed, queued) = context.db.write(|tx| {
        Ok((
            queue::set_resumed(tx, clock::now_ms(), &by)?,
            jobs::counts(tx)?.0,
        ))
    })?;

    if !resumed {
        return Err(Error::conflict("the queue is not paused"));
    }

    context.wake_worker();
    output::line(&format!("the queue is resumed; {queued} queued"))?;
    Ok(ExitCode::SUCCESS)
}
