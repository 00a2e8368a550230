//! Follows a job's log until the job has ended. Commits wake it; it never polls.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};

use crate::base::names::JobId;
use crate::base::{Error, Result, output};
use crate::cli::Context;
use crate::cli::progress::ProgressLine;
use crate::db::jobs;
use crate::db::logs::{self, Line};
use crate::db::watch::Watch;
use crate::domain::job::JobState;
use crate::wire::Stream;

/// Lines per query.
const PAGE: u32 = 1000;

/// Where and how lines are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// stdout to stdout, stderr to stderr.
    Lines,
    /// One JSON document per line.
    Json,
    /// All to standard error, because standard output holds another document.
    Aside,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Only lines after this seq.
    pub after: i64,
    pub style: Style,
}

/// Prints lines until the job has ended and its last line is printed. Fails unless it succeeded.
pub fn follow(context: &Context, job: JobId, options: &Options) -> Result<ExitCode> {
    leave_running_on_interrupt(&[job]);
    let connection = context.db.connection();
    let mut watch = Watch::new(context.db.path())?;
    let mut progress = ProgressLine::new(
        options.style == Style::Lines
            && std::io::stderr().is_terminal()
            && std::io::stdout().is_terminal(),
    );

    let mut after = options.after;

    loop {
        // Read the state before the lines: when it is terminal, all lines are in the database.
        let (state, _) = jobs::state(connection, job)?;
        loop {
            let lines = logs::after(connection, job, after, PAGE)?;
            for line in &lines {
                print(line, options.style, &mut progress)?;
                after = line.seq;
            }

            if lines.len() < PAGE as usize {
                break;
            }
        }

        if state.is_terminal() {
            progress.end();
            return report_end(context, job, state);
        }

        watch.wait(None)?;
    }
}

/// Prints one line as `style` says.
pub fn print(line: &Line, style: Style, progress: &mut ProgressLine) -> Result<()> {
    if progress.consume(&line.line) {
        return Ok(());
    }

    match (style, line.stream) {
        (Style::Json, _) => output::json(line),
        (Style::Lines, Stream::Stdout) => {
            progress.suspend(|| output::line(&output::printable(&line.line)))
        }
        _ => progress.suspend(|| {
            // A failure to write standard error cannot be reported anywhere.
            writeln!(
                std::io::stderr().lock(),
                "{}",
                output::printable(&line.line)
            )
            .ok();

            Ok(())
        }),
    }
}

/// Returns the exit code of a job that succeeded, or an error that says how the job ended.
pub fn report_end(context: &Context, job: JobId, state: JobState) -> Result<ExitCode> {
    if state == JobState::Succeeded {
        return Ok(ExitCode::SUCCESS);
    }
    let ended = jobs::get(context.db.connection(), job)?;
    let why = ended
        .error
        .map_or_else(String::new, |error| format!(": {error}"));
    Err(Error::failed(format!(
        "job {job} ({}) {state}{why}",
        ended.operation
    )))
}

/// Makes Ctrl-C stop the watching, not the job, and say so.
pub fn leave_running_on_interrupt(jobs: &[JobId]) {
    let ids = jobs
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    exit_on_interrupt(format!(
        "stopped watching; the job keeps running: `left4me-job logs {ids} --follow` shows it again"
    ));
}

/// Makes Ctrl-C print `message` and exit.
pub fn exit_on_interrupt(message: String) {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGINT);
    if mask.thread_block().is_err() {
        return;
    }

    let wait = move || {
        if mask.wait().is_ok() {
            eprintln!("\nleft4me-job: {message}");
            // 128 + SIGINT, as a shell reports it.
            std::process::exit(130);
        }
    };

    // Without the thread, Ctrl-C does nothing; SIGTERM still ends the program.
    std::thread::Builder::new().spawn(wait).ok();
}
