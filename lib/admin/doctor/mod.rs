//! `left4me doctor`: looks at everything left4me stands on, changes nothing, and says what to do.

mod database;
mod files;
mod game;
mod servers;
mod units;

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::Context;
use crate::base::table::{Tone, colours};
use crate::base::{Result, config, output};

/// Check units, sockets, permissions, the database, Steam and libraries; say what to do
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// steamcmd [default: steam/steamcmd.sh in LEFT4ME_ROOT]
    #[arg(long, env = "LEFT4ME_STEAMCMD", value_name = "LEFT4ME_STEAMCMD", value_parser = config::absolute,
          hide_env_values = true)]
    steamcmd: Option<PathBuf>,
    #[command(flatten)]
    poll: config::PollSeconds,
}

const EXAMPLES: &str = "\
Run it as root: others cannot look at everything. Exit code: 0 when nothing failed, 1 otherwise.

Examples:
  sudo left4me doctor
  left4me doctor --json | jq '.[] | select(.severity == \"fail\")'";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Ok,
    Warn,
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    severity: Severity,
    /// What was looked at.
    check: String,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, check: check.into(), found: found.into(), advice: None }
    }

    fn warn(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Warn, check: check.into(), found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Fail, check: check.into(), found: found.into(), advice: Some(advice.into()) }
    }
}

pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let steamcmd = args.steamcmd.clone().unwrap_or_else(|| context.paths.root.join("steam/steamcmd.sh"));
    let mut findings = files::users();
    findings.extend(files::directories(&context.paths.root));
    findings.extend(files::settings_and_sudoers());
    findings.extend(database::check(&context.paths.database()));
    findings.extend(units::check());
    findings.extend(servers::check(&context.paths.database(), &args.poll, context.now));
    findings.extend(files::sockets(&context.worker_socket, &context.hands));
    findings.extend(game::check(&context.paths.root, &steamcmd));
    if args.json {
        output::json(&findings)?;
    } else {
        print(&findings)?;
    }
    let failed = findings.iter().any(|finding| finding.severity == Severity::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(findings: &[Finding]) -> Result<()> {
    let colours = colours();
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    for finding in findings {
        let (word, tone) = match finding.severity {
            Severity::Ok => ("ok  ", Tone::Good),
            Severity::Warn => ("warn", Tone::Warning),
            Severity::Fail => ("fail", Tone::Bad),
        };
        let (check, found) = (output::printable(&finding.check), output::printable(&finding.found));
        output::line(&format!("{}  {check:<width$}  {found}", tone.paint(word, colours)))?;
        if let Some(advice) = &finding.advice {
            output::line(&format!("      -> {}", output::printable(advice)))?;
        }
    }
    let number = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    output::line(&format!(
        "{} ok, {} to look at, {} failed",
        number(Severity::Ok),
        number(Severity::Warn),
        number(Severity::Fail)
    ))
}
