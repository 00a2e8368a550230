//! `left4me-job cancel`: cancels a job, or one of its tasks, and shows the progress.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::names::{CancellationId, FleetHost, JobId, TaskId};
use crate::base::{Error, Result, caller, clock, lock, output};
use crate::cancel::result::Terminated;
use crate::cancel::{self, CancelRequest, CancelResult, result};
use crate::cli::remote::{self, JobOrOrder};
use crate::cli::{self, Context, PROGRAM, follow};
use crate::db::cancellations::StepRow;
use crate::db::watch::Watch;
use crate::domain::cancellation::StepState;
use crate::domain::fleet::order::What;
use crate::queue::wake;

/// How long to wait for a worker that did not get the wake-up. A worker in the foreground has no
/// socket unit, but watches the database and sees the request anyway.
const WORKER_TIMEOUT: Duration = Duration::from_secs(2);

/// How often to check for a worker after that.
const LOCK_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Cancel a job, or one of its tasks, and show each step as it happens
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me-job cancel 7 --reason 'wrong server'
  left4me-job cancel 7 --force                    kill at once, without SIGTERM and grace
  left4me-job cancel 7 --task 31                  one task of job 7, and its dependents
  left4me-job cancel 7 --task 31 --no-cascade     run its dependents as if it had succeeded
  left4me-job cancel 7 --leave-stopped            for an update: do not start servers again

An update or rollback that is cancelled restarts the servers it stopped.
`left4me-job show 7` lists the tasks. A second `cancel` follows the same cancellation; with --force
it kills at once. Cancelling does not undo what the job has already done.

Exit codes: 0 cancelled, 1 a process could not be ended, 3 no such job or task,
4 already finished.")]
pub struct CancelArgs {
    /// The job's id, or that of the order that asked for it on another host
    #[arg(value_name = "ID")]
    id: JobOrOrder,
    /// Reason, one line; shown with the job and in its events
    #[arg(long)]
    reason: Option<String>,
    /// Send SIGKILL at once, without SIGTERM and grace
    #[arg(long)]
    force: bool,
    /// Only this task
    #[arg(long, value_name = "N")]
    task: Option<TaskId>,
    /// With --task: run the tasks that depend on it as if it had succeeded
    #[arg(long, requires = "task")]
    no_cascade: bool,
    /// For an update or rollback: the servers that it has stopped stay stopped
    #[arg(long, conflicts_with = "task")]
    leave_stopped: bool,
    /// Do not wait until it is cancelled
    #[arg(long)]
    no_wait: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(context: &mut Context, args: &CancelArgs) -> Result<ExitCode> {
    let reason = cli::reason(args.reason.as_deref())?;
    match (args.id, context.host.clone()) {
        (JobOrOrder::Job(id), None) => cancel_here(context, args, id, reason),
        (JobOrOrder::Job(_), Some(host)) => send(context, args, &host, reason),
        (JobOrOrder::Order(id), _) => {
            let host = remote::get(context, id)?.to_host.parse()?;
            send(context, args, &host, reason)
        }
    }
}

/// Cancels a job of another host.
fn send(
    context: &mut Context,
    args: &CancelArgs,
    host: &FleetHost,
    reason: Option<String>,
) -> Result<ExitCode> {
    let instead = "only the whole job can be cancelled from here";
    remote::refuse(args.task.is_some(), "--task", instead)?;
    let instead = "cancel it on that host";
    remote::refuse(args.leave_stopped, "--leave-stopped", instead)?;

    let (order, job) = match args.id {
        JobOrOrder::Order(id) => (Some(id), None),
        JobOrOrder::Job(id) => (None, Some(id)),
    };
    let reason = reason.unwrap_or_default();
    let what = What::Cancel {
        order,
        job,
        force: args.force,
        reason: reason.clone(),
    };
    let options = remote::Options {
        reason: &reason,
        wait: !args.no_wait,
        json: args.json,
        ..remote::Options::default()
    };
    remote::send(context, host, what, options)
}

fn cancel_here(
    context: &mut Context,
    args: &CancelArgs,
    job: JobId,
    reason: Option<String>,
) -> Result<ExitCode> {
    let by = caller::caller();
    let request = CancelRequest {
        task: args.task,
        force: args.force,
        cascade: !args.no_cascade,
        leave_stopped: args.leave_stopped,
        reason: &reason.unwrap_or_default(),
        ..CancelRequest::new(job, &by)
    };

    let requested = cancel::request(&mut context.db, &request, clock::now_ms())?;
    let (Some(id), false) = (requested.cancellation_id, requested.is_over()) else {
        // A queued job is cancelled already; wake the worker for the jobs behind it.
        if requested.success {
            context.wake_worker();
        }
        return report(&requested, args.json);
    };

    // A running job is cancelled by the worker.
    let unheard = wake::worker(&context.worker_socket).err();

    if args.no_wait {
        if let Some(error) = unheard {
            eprintln!("{PROGRAM}: warning: the cancellation waits for a worker: {error}");
        }
        return report(&requested, args.json);
    }

    follow::exit_on_interrupt(format!(
        "stopped watching; the cancellation continues: see `left4me-job cancel-status {job}`"
    ));

    let over = watch(context, id, unheard, &mut Steps::new(args.json))?;
    report(&over, args.json)
}

/// Prints the result; a failed cancellation is an error.
fn report(result: &CancelResult, json: bool) -> Result<ExitCode> {
    if json {
        output::json(result)?;
    }

    if result.success {
        if !json {
            output::line(&output::printable(&result.message))?;
            print_affected(result)?;
        }

        return Ok(ExitCode::SUCCESS);
    }

    let errors = result.errors.join("; ");
    if !json {
        print_affected(result)?;
    }

    if result.errors.is_empty() {
        Err(Error::conflict(result.message.clone()))
    } else {
        Err(Error::failed(format!("{}: {errors}", result.message)))
    }
}

/// Prints the tasks and the commands that were ended, one per line.
pub fn print_affected(result: &CancelResult) -> Result<()> {
    let lines = affected_tasks(result)
        .into_iter()
        .chain(result.runners_terminated.iter().map(runner_line));
    lines
        .map(|line| output::printable(&line).into_owned())
        .try_for_each(|line| output::line(&line))
}

fn runner_line(runner: &Terminated) -> String {
    let unit = runner
        .unit
        .as_deref()
        .filter(|unit| !unit.is_empty())
        .unwrap_or("a command");
    let pid = runner
        .pid
        .map_or_else(String::new, |pid| format!(", process {pid}"));
    let end = match runner.ended_by.as_deref() {
        Some("terminate") => "ended by SIGTERM",
        Some("kill") => "ended by SIGKILL",
        Some("lost") => "did not say how it ended",
        _ => "has not ended",
    };

    let left = if runner.tree.as_deref() == Some("left") {
        ", and one of its processes could not be killed"
    } else {
        ""
    };

    format!(
        "  {unit} ({} of task {}{pid}): {end}{left}",
        runner.verb, runner.task_id
    )
}

fn affected_tasks(result: &CancelResult) -> Vec<String> {
    let task = |task: &crate::db::cancellations::Affected| {
        let server = task
            .server
            .map_or_else(String::new, |id| format!(" of server {id}"));
        let cause = task
            .caused_by
            .map_or_else(String::new, |id| format!(", with task {id}"));
        format!(
            "  task {} ({}{server}): {} -> {}{cause}",
            task.id, task.kind, task.previous_state, task.state
        )
    };

    result.tasks_affected.iter().map(task).collect()
}

/// Waits until the cancellation is over and shows each step.
fn watch(
    context: &Context,
    id: CancellationId,
    unheard: Option<Error>,
    steps: &mut Steps,
) -> Result<CancelResult> {
    let mut watch = Watch::new(context.db.path())?;
    let mut steps_started = 0;
    let mut deadline = Instant::now() + WORKER_TIMEOUT;

    loop {
        let result = result::of(context.db.connection(), id)?;
        steps.show(&result.steps)?;
        if result.is_over() {
            steps.end();
            return Ok(result);
        }

        // Each step that starts shows that a worker is at it.
        let started = result
            .steps
            .iter()
            .filter(|step| step.started_at.is_some())
            .count();
        if started != steps_started {
            steps_started = started;
            deadline = Instant::now() + WORKER_TIMEOUT;
        }

        watch.wait(unheard.is_some().then_some(deadline))?;
        if let Some(error) = &unheard
            && Instant::now() >= deadline
            && lock::is_held(context.db.path(), "worker") != Some(true)
        {
            return Err(Error::unavailable(format!(
                "the cancellation is recorded and waits for a worker: {error}"
            )));
        }

        deadline = deadline.max(Instant::now() + LOCK_CHECK_INTERVAL);
    }
}

/// Prints a line per finished step; on a terminal, the running step has a spinner below.
struct Steps {
    quiet: bool,
    bar: Option<ProgressBar>,
    printed: usize,
}

impl Steps {
    fn new(quiet: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let bar = (on_terminal && !quiet).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
            let bar = ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });

        Self {
            quiet,
            bar,
            printed: 0,
        }
    }

    fn show(&mut self, steps: &[StepRow]) -> Result<()> {
        let over: Vec<&StepRow> = steps
            .iter()
            .filter(|step| step.finished_at.is_some())
            .collect();
        for step in over.iter().skip(self.printed) {
            if !self.quiet {
                let text = line(step);
                match &self.bar {
                    Some(bar) => bar.suspend(|| output::line(&output::printable(&text)))?,
                    None => output::line(&output::printable(&text))?,
                }
            }
        }

        self.printed = over.len();
        if let (Some(bar), Some(step)) = (
            &self.bar,
            steps.iter().find(|step| step.state == StepState::Running),
        ) {
            bar.set_message(step.step.to_string());
        }

        Ok(())
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A step on one line: `terminate  10.2 s  1 command killed`.
pub fn line(step: &StepRow) -> String {
    let time = match (step.started_at, step.finished_at) {
        (Some(from), Some(to)) => duration(to - from),
        (Some(_), None) => "…".to_owned(),
        (None, _) => String::new(),
    };

    let mark = match step.state {
        StepState::Pending => "pending",
        StepState::Running => "running",
        StepState::Succeeded => "",
        StepState::Failed => "FAILED: ",
    };

    format!(
        "{:<10} {time:>8}  {mark}{}",
        step.step,
        step.detail.as_deref().unwrap_or("")
    )
}

/// Formats milliseconds: `12 ms`, `10.2 s`.
pub fn duration(ms: i64) -> String {
    // The clock may have been set back in between.
    let ms = ms.max(0);
    if ms < 1000 {
        format!("{ms} ms")
    } else {
        format!("{}.{} s", ms / 1000, ms % 1000 / 100)
    }
}
