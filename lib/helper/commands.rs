//! Runs systemctl and journalctl by absolute path, in a fixed environment, on pipes.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::base::Result;
pub(super) use crate::base::names::{
    overlay_unit, purge_stale_unit, purge_unit, server_unit, stale_unit,
};
use crate::process::{Outcome, Relay, Spec, Supervisor, Terminal};
use crate::wire::{LINE_LIMIT, Started, Stream};

/// How long stopping an interrupted unit may take. A unit that only removes files stops at once.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Runs systemctl. Its output goes to the peer.
pub(super) fn systemctl(supervisor: &mut Supervisor, arguments: &[&str]) -> Result<Outcome> {
    systemctl_with(supervisor, arguments, &mut |_, _| Relay::AsIs)
}

/// Runs systemctl. `observe` decides what happens to each line.
pub(super) fn systemctl_with(
    supervisor: &mut Supervisor,
    arguments: &[&str],
    observe: &mut dyn FnMut(Stream, &str) -> Relay,
) -> Result<Outcome> {
    let arguments = [&["--no-ask-password"], arguments].concat();
    supervisor.run(&spec("/usr/bin/systemctl", &arguments), observe)
}

/// Stops a unit whose start was interrupted. Otherwise systemd would continue with it, although the
/// client is gone.
pub(super) fn stop_after_the_end(supervisor: &mut Supervisor, unit: &str) -> Result<Outcome> {
    let spec = spec("/usr/bin/systemctl", &["--no-ask-password", "stop", unit]);
    supervisor.run_after_the_end(&spec, STOP_PATIENCE, &mut |_, _| Relay::AsIs)
}

/// Reports to the peer that `unit` does the work from now on, with its main process and control
/// group.
pub(super) fn serve_from(supervisor: &mut Supervisor, unit: &str) -> Result<()> {
    let spec = spec(
        "/usr/bin/systemctl",
        &[
            "--no-ask-password",
            "show",
            "-P",
            "MainPID",
            "-P",
            "ControlGroup",
            unit,
        ],
    );

    let mut values = Vec::new();

    supervisor.run_after_the_end(&spec, STOP_PATIENCE, &mut |stream, line| {
        if stream == Stream::Stdout {
            values.push(line.to_owned());
        }
        Relay::Drop
    })?;

    let pid = values
        .iter()
        .find_map(|value| value.parse().ok())
        .unwrap_or(0);
    let cgroup = values
        .into_iter()
        .find(|value| value.starts_with('/'))
        .unwrap_or_default();
    supervisor.served_by(Started {
        unit: unit.to_owned(),
        pid,
        cgroup,
    });

    Ok(())
}

/// Runs journalctl. `observe` decides what happens to each line.
pub(super) fn journalctl(
    supervisor: &mut Supervisor,
    arguments: &[&str],
    observe: &mut dyn FnMut(Stream, &str) -> Relay,
) -> Result<Outcome> {
    let arguments = [&["--no-pager"], arguments].concat();
    supervisor.run(&spec("/usr/bin/journalctl", &arguments), observe)
}

/// Like [`journalctl`], for JSON output with lines of up to `line_limit` characters. With `patience`,
/// only that ends it early.
pub(super) fn journalctl_json(
    supervisor: &mut Supervisor,
    arguments: &[&str],
    line_limit: usize,
    patience: Option<Duration>,
    observe: &mut dyn FnMut(Stream, &str) -> Relay,
) -> Result<Outcome> {
    let spec = spec(
        "/usr/bin/journalctl",
        &[&["--no-pager"], arguments].concat(),
    );
    let spec = Spec { line_limit, ..spec };
    match patience {
        None => supervisor.run(&spec, observe),
        Some(patience) => supervisor.run_after_the_end(&spec, patience, observe),
    }
}

fn spec(program: &str, arguments: &[&str]) -> Spec {
    let environment = [
        ("LANG", "C.UTF-8"),
        ("PATH", "/usr/bin:/bin"),
        // The helper's unit has its own root directory, but talks to the host's PID 1.
        ("SYSTEMD_IGNORE_CHROOT", "1"),
        ("SYSTEMD_COLORS", "0"),
        ("SYSTEMD_PAGER", ""),
        ("SYSTEMD_URLIFY", "0"),
    ];

    Spec {
        argv: std::iter::once(&program)
            .chain(arguments)
            .map(|&word| word.into())
            .collect(),
        env: environment
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        cwd: "/".into(),
        terminal: Terminal::Pipes,
        first_signal: Signal::SIGTERM,
        line_limit: LINE_LIMIT,
    }
}
