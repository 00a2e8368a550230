//! `left4me-job cancel`: end a job, or one of its tasks, and watch it happen.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::base::names::{CancellationId, JobId, TaskId};
use crate::base::{Error, Result, caller, clock, lock, output};
use crate::cancel::result::Terminated;
use crate::cancel::{self, CancelRequest, CancelResult, result};
use crate::cli::{self, Context, PROGRAM, follow};
use crate::db::cancellations::StepRow;
use crate::db::watch::Watch;
use crate::domain::cancellation::StepState;
use crate::queue::enqueue::{Poke, poke};

/// How long a worker that did not hear the poke may take to see the request all the same: one in the foreground looks at
/// the database.
const UNHEARD: Duration = Duration::from_secs(2);

/// How often it is looked then whether one is there.
const LOOK: Duration = Duration::from_millis(200);

/// Cancel a job, or one of its tasks, and show each step as it happens
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me-job cancel 7 --reason 'wrong server'
  left4me-job cancel 7 --force                    kill at once, without asking first
  left4me-job cancel 7 --task 31                  one task (`left4me-job show 7`), and what depends on it
  left4me-job cancel 7 --task 31 --no-cascade     what depends on it goes on as if it had succeeded

Asking again shows the same cancellation; with --force it is killed now. Cancelling is not undoing: what was done stays done.
Exit codes: 0 cancelled, 1 something could not be ended, 3 no such job or task, 4 it has finished already.")]
pub struct Args {
    /// The job's id
    id: JobId,
    /// Why, for whoever wonders: one line
    #[arg(long)]
    reason: Option<String>,
    /// Kill what runs, without asking it to end first
    #[arg(long)]
    force: bool,
    /// Only this task
    #[arg(long, value_name = "N")]
    task: Option<TaskId>,
    /// With --task: what depends on it goes on as if it had succeeded
    #[arg(long, requires = "task")]
    no_cascade: bool,
    /// Do not wait for its end
    #[arg(long)]
    no_wait: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(context: &mut Context, args: &Args) -> Result<ExitCode> {
    let by = caller::caller();
    let reason = cli::reason(args.reason.as_deref())?;
    let request = CancelRequest {
        task: args.task,
        force: args.force,
        cascade: !args.no_cascade,
        reason: &reason.unwrap_or_default(),
        ..CancelRequest::new(args.id, &by)
    };
    let asked = cancel::request(&mut context.db, &request, clock::now_ms())?;
    let (Some(id), false) = (asked.cancellation_id, asked.is_over()) else {
        // A job that had not begun needs nobody's help to end; who waits behind it is poked.
        if asked.success {
            context.poke();
        }
        return conclude(&asked, args.json);
    };
    let unheard = match poke(&context.worker_socket) {
        Poke::Sent => None,
        Poke::Unheard(error) => Some(error),
    };
    if args.no_wait {
        if let Some(error) = unheard {
            eprintln!("{PROGRAM}: warning: the cancellation waits: {error}");
        }
        return conclude(&asked, args.json);
    }
    follow::say_on_interrupt(format!(
        "not watching any more; the cancellation goes on: `left4me-job cancel-status {}` tells how far it is",
        args.id
    ));
    let over = watch(context, id, unheard, &mut Steps::new(args.json))?;
    conclude(&over, args.json)
}

/// Prints what came of it; the exit code says it too.
fn conclude(result: &CancelResult, json: bool) -> Result<ExitCode> {
    if json {
        output::json(result)?;
    }
    if result.success {
        if !json {
            output::line(&output::printable(&result.message))?;
            outcome(result)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let went_wrong = result.errors.join("; ");
    if !json {
        outcome(result)?;
    }
    if result.errors.is_empty() {
        Err(Error::conflict(result.message.clone()))
    } else {
        Err(Error::failed(format!("{}: {went_wrong}", result.message)))
    }
}

/// Prints the tasks and the commands that it ended, one per line.
pub fn outcome(result: &CancelResult) -> Result<()> {
    let lines = affected(result).into_iter().chain(result.runners_terminated.iter().map(command));
    lines.map(|line| output::printable(&line).into_owned()).try_for_each(|line| output::line(&line))
}

fn command(runner: &Terminated) -> String {
    let unit = runner.unit.as_deref().filter(|unit| !unit.is_empty()).unwrap_or("a command");
    let pid = runner.pid.map_or_else(String::new, |pid| format!(", process {pid}"));
    let end = match runner.ended_by.as_deref() {
        Some("terminate") => "ended by SIGTERM",
        Some("kill") => "ended by SIGKILL",
        Some("lost") => "did not say how it ended",
        _ => "has not ended",
    };
    let left = if runner.tree.as_deref() == Some("left") { ", and a process of it would not die" } else { "" };
    format!("  {unit} ({} of task {}{pid}): {end}{left}", runner.verb, runner.task_id)
}

fn affected(result: &CancelResult) -> Vec<String> {
    let task = |task: &crate::db::cancellations::Affected| {
        let server = task.server.map_or_else(String::new, |id| format!(" of server {id}"));
        let cause = task.caused_by.map_or_else(String::new, |id| format!(", with task {id}"));
        format!("  task {} ({}{server}): {} -> {}{cause}", task.id, task.kind, task.previous_state, task.state)
    };
    result.tasks_affected.iter().map(task).collect()
}

/// Waits for the end, showing each step.
fn watch(context: &Context, id: CancellationId, unheard: Option<Error>, steps: &mut Steps) -> Result<CancelResult> {
    let mut watch = Watch::new(context.db.path())?;
    let mut seen = 0;
    let mut patience = Instant::now() + UNHEARD;
    loop {
        let result = result::of(context.db.connection(), id)?;
        steps.show(&result.steps)?;
        if result.is_over() {
            steps.end();
            return Ok(result);
        }
        let begun = result.steps.iter().filter(|step| step.started_at.is_some()).count();
        if seen != begun {
            seen = begun;
            patience = Instant::now() + UNHEARD;
        }
        watch.wait(unheard.is_some().then_some(patience))?;
        if let Some(error) = &unheard
            && Instant::now() >= patience
            && lock::is_held(context.db.path(), "worker") != Some(true)
        {
            return Err(Error::unavailable(format!(
                "the cancellation is written down and waits for a worker: {error}"
            )));
        }
        patience = patience.max(Instant::now() + LOOK);
    }
}

/// The steps as they happen: on a terminal the one under way with a spinner, elsewhere a line for each that is over.
struct Steps {
    quiet: bool,
    bar: Option<ProgressBar>,
    told: usize,
}

impl Steps {
    fn new(quiet: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let bar = (on_terminal && !quiet).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
            let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { quiet, bar, told: 0 }
    }

    fn show(&mut self, steps: &[StepRow]) -> Result<()> {
        let over: Vec<&StepRow> = steps.iter().filter(|step| step.finished_at.is_some()).collect();
        for step in over.iter().skip(self.told) {
            if !self.quiet {
                let text = line(step);
                match &self.bar {
                    Some(bar) => bar.suspend(|| output::line(&output::printable(&text)))?,
                    None => output::line(&output::printable(&text))?,
                }
            }
        }
        self.told = over.len();
        if let (Some(bar), Some(step)) = (&self.bar, steps.iter().find(|step| step.state == StepState::Running)) {
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

/// `terminate  10.2 s  1 command killed`
pub fn line(step: &StepRow) -> String {
    let took = match (step.started_at, step.finished_at) {
        (Some(from), Some(to)) => took(to - from),
        (Some(_), None) => "…".to_owned(),
        (None, _) => String::new(),
    };
    let mark = match step.state {
        StepState::Pending => "pending",
        StepState::Running => "running",
        StepState::Succeeded => "",
        StepState::Failed => "FAILED: ",
    };
    format!("{:<10} {took:>8}  {mark}{}", step.step, step.detail.as_deref().unwrap_or(""))
}

/// Milliseconds for people: `12 ms`, `10.2 s`.
pub fn took(ms: i64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}
