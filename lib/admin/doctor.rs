//! `left4me doctor`: looks at everything left4me stands on, tries it, and says what to do.
//!
//! What others can exchange is looked at by the user to whom the database belongs: root runs this
//! program once more as that user, and adds to its findings what root alone can see.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use nix::unistd::{Gid, Uid};

use super::Context;
use crate::base::table::{Tone, colours};
use crate::base::{Error, Result, output, users};
use crate::doctor::{self, DoctorPaths, DoctorSettings, Finding, Severity};
use crate::process::reexec_as;

/// Check units, sockets, permissions, the database, Steam and libraries; say what to do
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DoctorArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Leave out what root adds; what root's own doctor runs as another user
    #[arg(long, hide = true, requires = "json")]
    part: bool,
    #[command(flatten)]
    looks: DoctorSettings,
}

const EXAMPLES: &str = "\
Run it as root: some checks need root, among them a test mount of an overlay. All other checks
run as user left4me. Idle services are started for the check and exit again. A line that
begins with \"skip\" was not checked.

Exit code: 0 if no check failed, 1 otherwise.

Examples:
  sudo left4me doctor
  left4me doctor --json | jq '.[] | select(.severity == \"fail\")'";

pub(super) fn run(context: &Context, args: &DoctorArgs) -> Result<ExitCode> {
    let database = context.paths.database();
    let mut findings = match users::unprivileged_user(database.parent().unwrap_or(&database)) {
        None => doctor::on_host(
            &places(context, args),
            &context.fleet.fleet_dir,
            context.now,
        ),
        Some(owner) => match as_owner(context, args, owner)? {
            Ok(findings) => findings,
            Err(code) => return Ok(code),
        },
    };

    // The part that another user ran leaves this to root.
    if !args.part {
        doctor::complete(&mut findings, &context.paths.root);
    }
    if args.json {
        output::json(&findings)?;
    } else {
        print(&findings)?;
    }

    let failed = findings
        .iter()
        .any(|finding| finding.severity == Severity::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn places(context: &Context, args: &DoctorArgs) -> DoctorPaths {
    DoctorPaths {
        root: context.paths.root.clone(),
        database: context.paths.database(),
        worker_socket: context.worker_socket.clone(),
        sockets: context.sockets.clone(),
        looks: args.looks.clone(),
    }
}

/// What the owner of the database finds; or the exit code of the part that could not be run.
fn as_owner(
    context: &Context,
    args: &DoctorArgs,
    owner: (Uid, Gid),
) -> Result<Result<Vec<Finding>, ExitCode>> {
    let places = places(context, args);
    let flag = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
        let mut flag = OsString::from(format!("--{name}="));
        flag.push(value);
        flag
    };

    let mut arguments = vec![
        flag("root", &places.root),
        flag("db", &places.database),
        flag("worker-socket", &places.worker_socket),
        flag("helper-socket", &places.sockets.helper_socket),
        flag("runner-socket", &places.sockets.runner_socket),
        flag("publisher-socket", &places.sockets.publisher_socket),
        flag("fleet-dir", &context.fleet.fleet_dir),
    ];

    arguments.extend(["doctor", "--json", "--part"].map(OsString::from));
    arguments.push(flag("poll-seconds", &places.looks.poll.poll_seconds));
    arguments.extend(
        places
            .looks
            .place
            .steamcmd
            .iter()
            .map(|path| flag("steamcmd", path)),
    );

    let (mut reader, writer) = std::io::pipe()?;
    let writer = File::from(OwnedFd::from(writer));
    let (code, text) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });

        let code = reexec_as(owner, &arguments, writer);
        (code, reading.join().unwrap_or_else(|_| Ok(String::new())))
    });

    let (code, text) = (code?, text?);
    if !matches!(code, 0 | 1) {
        return Ok(Err(ExitCode::from(code)));
    }
    let findings = serde_json::from_str(&text);
    findings.map(Ok).map_err(|error| {
        Error::failed(format!(
            "the findings of user id {} are unreadable: {error}",
            owner.0
        ))
    })
}

fn print(findings: &[Finding]) -> Result<()> {
    let colours = colours();
    let width = findings
        .iter()
        .map(|finding| finding.check.chars().count())
        .max()
        .unwrap_or(0);
    for finding in findings {
        let (word, tone) = match finding.severity {
            Severity::Ok => ("ok  ", Tone::Good),
            Severity::Skip => ("skip", Tone::Plain),
            Severity::Warn => ("warn", Tone::Warning),
            Severity::Fail => ("fail", Tone::Bad),
        };

        let (check, found) = (
            output::printable(&finding.check),
            output::printable(&finding.found),
        );

        output::line(&format!(
            "{}  {check:<width$}  {found}",
            tone.paint(word, colours)
        ))?;

        if let Some(advice) = &finding.advice {
            output::line(&format!("      -> {}", output::printable(advice)))?;
        }
    }

    let number = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };

    let mut numbers = format!(
        "{} ok, {} to review",
        number(Severity::Ok),
        number(Severity::Warn)
    );

    numbers.push_str(&format!(", {} failed", number(Severity::Fail)));
    if number(Severity::Skip) > 0 {
        numbers.push_str(&format!(", {} not checked", number(Severity::Skip)));
    }
    output::line(&numbers)
}
