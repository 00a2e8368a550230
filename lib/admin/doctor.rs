//! `left4me doctor`: looks at everything left4me stands on, changes nothing, and says what to do.

use std::process::ExitCode;

use super::Context;
use crate::base::table::{Tone, colours};
use crate::base::{Result, output};
use crate::doctor::{self, Finding, Looks, Places, Severity};

/// Check units, sockets, permissions, the database, Steam and libraries; say what to do
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    looks: Looks,
}

const EXAMPLES: &str = "\
Run it as root: others cannot look at everything. Root looks at what only root can see, mounts an overlay where the
data is and removes it again, and looks at all else as user left4me. Exit code: 0 when nothing failed, 1 otherwise.

Examples:
  sudo left4me doctor
  left4me doctor --json | jq '.[] | select(.severity == \"fail\")'";

/// What only root can look at. No user but root can exchange it.
pub(super) fn for_root(context: &Context) -> Vec<Finding> {
    if nix::unistd::geteuid().is_root() { doctor::for_root(&context.paths.root) } else { Vec::new() }
}

/// `seen` is what root has looked at; all else is looked at as left4me.
pub(super) fn run(context: &Context, args: &Args, seen: Vec<Finding>) -> Result<ExitCode> {
    let places = Places {
        root: context.paths.root.clone(),
        database: context.paths.database(),
        worker_socket: context.worker_socket.clone(),
        hands: context.hands.clone(),
        looks: args.looks.clone(),
    };
    let findings = doctor::at_home(&places, context.now, seen);
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
