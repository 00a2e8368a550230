//! `left4me-job logs`: the output of a job's commands.

use std::process::ExitCode;

use crate::base::Result;
use crate::base::config::AskSocket;
use crate::base::names::JobId;
use crate::cli::follow::{self, Options, Style};
use crate::cli::progress::ProgressLine;
use crate::cli::{Context, remote};
use crate::db::{jobs, logs};

/// Print a job's log
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  left4me-job logs 7
  left4me-job --host ams-1 logs 17           asks that host for it now
  left4me-job logs 7 --follow                until the job ends; exit 0 if it succeeded
  left4me-job logs 7 --after 1200 --json     one JSON document per line: seq, at, stream, task_id, \
  line")]
pub struct LogsArgs {
    /// The job's id
    id: JobId,
    /// Keep printing new lines until the job ends
    #[arg(long, short)]
    follow: bool,
    /// Only lines after this sequence number
    #[arg(long, value_name = "SEQ", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    after: i64,
    /// Print one JSON document per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: AskSocket,
}

pub fn run(context: &mut Context, args: &LogsArgs) -> Result<ExitCode> {
    const PAGE: u32 = 1000;
    if let Some(host) = &context.host {
        let options = remote::LogOptions {
            after: args.after,
            follow: args.follow,
            json: args.json,
        };
        return remote::logs(&args.ask.ask_socket, host, args.id, options);
    }
    let style = if args.json { Style::Json } else { Style::Lines };
    let connection = context.db.connection();
    jobs::state(connection, args.id)?;
    if args.follow {
        return follow::follow(
            context,
            args.id,
            &Options {
                after: args.after,
                style,
            },
        );
    }

    let mut after = args.after;
    loop {
        let lines = logs::after(connection, args.id, after, PAGE)?;
        for line in &lines {
            follow::print(line, style, &mut ProgressLine::new(false))?;
            after = line.seq;
        }

        if lines.len() < PAGE as usize {
            return Ok(ExitCode::SUCCESS);
        }
    }
}
