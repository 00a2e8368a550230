//! Checks the units, by one call of systemctl for all of them.

use std::path::{Path, PathBuf};

use super::Finding;
use super::finding::{Advice, quoted};
use crate::base::{Error, Result};
use crate::process::systemctl;

/// Units that must be active, and enabled if they can be.
const ACTIVE: [&str; 12] = [
    "left4me.target",
    "left4me-worker.socket",
    "left4me-helper.socket",
    "left4me-runner.socket",
    "left4me-publisher.socket",
    "left4me-web.socket",
    "left4me-console.socket",
    "left4me-alerts.socket",
    "left4me-notify.socket",
    "left4me-schedules.socket",
    "left4me-poller.timer",
    "left4me-prune.timer",
];

/// Services that exit when idle and must not have failed, with the unit that starts each.
const SERVICES: [(&str, &str); 8] = [
    ("left4me-worker.service", "left4me-worker.socket"),
    ("left4me-poller.service", "left4me-poller.timer"),
    ("left4me-web.service", "left4me-web.socket"),
    ("left4me-alerts.service", "left4me-alerts.socket"),
    ("left4me-schedules.service", "left4me-schedules.socket"),
    ("left4me-prune.service", "left4me-prune.timer"),
    ("left4me-console.service", "left4me-console.socket"),
    (
        "left4me-console-network.service",
        "left4me-console-network.socket",
    ),
];

/// The package's other units that servers and jobs need.
const OTHERS: [&str; 18] = [
    "left4me-web-peers.socket",
    "left4me-console-network.socket",
    "left4me-helper@.service",
    "left4me-runner@.service",
    "left4me-publisher@.service",
    "left4me-notify@.service",
    "left4me-overlay@.service",
    "left4me-server@.service",
    "left4me-purge@.service",
    "left4me-purge-stale@.service",
    "left4me-stale@.service",
    "left4me-watch@.timer",
    "left4me-schedule@.service",
    "left4me-changed.target",
    "left4me-reload.timer",
    "left4me-reload.service",
    "l4d2-game.slice",
    "l4d2-build.slice",
];

/// While it waits, systemd is about to read symlinks of servers; until then systemd 257 calls every
/// unit's file changed.
const RELOAD: &str = "left4me-reload.timer";

/// Where a file can hide the package's unit, in systemd's order.
const OVER: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];

/// Where the package installs its units.
const SHIPPED: &str = "/usr/lib/systemd/system";

/// Reinstalls files of the package. Unpacking it again restores a deleted file, but one in /etc
/// only with this option.
pub(super) const REINSTALL: &str = "dpkg --force-confmiss --install left4me_*.deb";

/// What systemd reports about one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    name: String,
    load: String,
    pub(super) active: String,
    pub(super) sub: String,
    result: String,
    file: String,
    /// Drop-ins that an admin wrote.
    drop_ins: Vec<String>,
    is_stale: bool,
    /// Where its sockets listen: address and kind.
    pub(super) listen: Vec<(String, String)>,
    /// When it last became active, in microseconds since boot.
    pub(super) active_since: u64,
}

impl Unit {
    /// Whether it has failed, or failed and waits for its restart.
    pub(super) fn is_looping(&self) -> bool {
        self.sub == "auto-restart" || self.active == "failed"
    }

    fn is_masked(&self) -> bool {
        self.load == "masked"
    }
}

/// All units, as systemd reports them.
pub(super) struct Units(pub(super) Vec<Unit>);

impl Units {
    pub(super) fn get(&self, name: &str) -> Option<&Unit> {
        self.0.iter().find(|unit| unit.name == name)
    }
}

/// Asks systemd about all units.
pub(super) fn read() -> Result<Units, Box<Finding>> {
    if !Path::new("/run/systemd/system").is_dir() {
        let advice =
            "left4me needs a host that systemd booted; see deploy/lab for one to try it in";
        return Err(Box::new(Finding::fail(
            "systemd",
            "it is not this host's PID 1",
            advice,
        )));
    }

    let names = ACTIVE
        .into_iter()
        .chain(SERVICES.map(|(name, _)| name))
        .chain([RELOAD]);
    let failed =
        |error: Error| Finding::fail("systemd", error.to_string(), "see `systemctl status`");
    ask(names)
        .map(Units)
        .map_err(|error| Box::new(failed(error)))
}

/// Runs `systemctl show` for units. The output has one paragraph per unit.
///
/// Fails with 69 if systemctl cannot be started.
pub(super) fn ask<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Unit>> {
    let properties = "--property=Id,LoadState,ActiveState,SubState,Result,UnitFileState,DropInPaths,NeedDaemonReload,\
                      Listen,ActiveEnterTimestampMonotonic";
    systemctl("left4me", ["show", properties].into_iter().chain(names))
        .map(|(_, text)| parse(&text))
}

pub(super) fn check(units: &Units) -> Vec<Finding> {
    let mut findings = judge(&units.0);
    let over = OVER.map(Path::new);
    findings.extend(hidden(&over, Path::new(SHIPPED)));
    findings
}

fn parse(text: &str) -> Vec<Unit> {
    let mut units = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut unit = Unit::default();
        for (name, value) in paragraph.lines().filter_map(|line| line.split_once('=')) {
            let field = match name {
                "Id" => &mut unit.name,
                "LoadState" => &mut unit.load,
                "ActiveState" => &mut unit.active,
                "SubState" => &mut unit.sub,
                "Result" => &mut unit.result,
                "UnitFileState" => &mut unit.file,
                "DropInPaths" => {
                    let all = value
                        .split(' ')
                        .filter(|path| OVER.iter().any(|over| path.starts_with(over)));
                    unit.drop_ins = all.map(str::to_owned).collect();
                    continue;
                }
                "NeedDaemonReload" => {
                    unit.is_stale = value == "yes";
                    continue;
                }
                "ActiveEnterTimestampMonotonic" => {
                    unit.active_since = value.parse().unwrap_or_default();
                    continue;
                }
                // `127.0.0.1:8000 (Stream)`, one per line.
                "Listen" => {
                    let pair = value
                        .rsplit_once(" (")
                        .map(|(address, kind)| (address, kind.trim_end_matches(')')));
                    unit.listen
                        .extend(pair.map(|(address, kind)| (address.to_owned(), kind.to_owned())));
                    continue;
                }
                _ => continue,
            };

            value.clone_into(field);
        }

        if !unit.name.is_empty() {
            units.push(unit);
        }
    }

    units
}

fn judge(units: &[Unit]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_reload_due = |unit: &Unit| unit.name == RELOAD && unit.active == "active";
    let reload_is_due = units.iter().any(is_reload_due);

    for unit in units.iter().filter(|unit| unit.name != RELOAD) {
        match SERVICES.iter().find(|(name, _)| *name == unit.name) {
            Some((_, starter)) => findings.extend(service(unit, starter)),
            None => findings.push(one(unit)),
        }

        if unit.is_stale && !reload_is_due {
            let found = "its file has changed since systemd read it";
            let advice = Advice::root("systemctl daemon-reload");
            findings.push(Finding::warn(format!("unit {}", unit.name), found, advice));
        }
    }

    findings
}

/// Checks a service: it must be neither masked nor failed.
fn service(unit: &Unit, starter: &str) -> Option<Finding> {
    let Unit {
        name,
        active,
        result,
        ..
    } = unit;

    let check = format!("unit {name}");
    if let Some(finding) = unusable(unit, &format!("systemctl start {starter}")) {
        return Some(finding);
    }

    if !unit.is_looping() {
        return None;
    }

    let (found, advice) = if active == "failed" {
        let again = Advice::root(format!("systemctl start {name}")).after("remove the cause");
        (format!("failed ({result})"), again)
    } else {
        let advice = "remove the cause: it is started again every 2 s";
        (
            format!("fails at every start ({result})"),
            Advice::from(advice),
        )
    };

    Some(Finding::fail(check, format!("{found}{}", changed(unit)), advice).unit_of(name))
}

/// Checks a unit that must be active.
fn one(unit: &Unit) -> Finding {
    let Unit {
        name,
        active,
        result,
        file,
        ..
    } = unit;

    let check = format!("unit {name}");
    let is_target = name.ends_with(".target");
    let starts = match file.as_str() {
        // It has no [Install] section: the unit that wants it starts it.
        "static" => format!("systemctl restart {name}"),
        // Restarting the target would stop what runs.
        _ if is_target => format!("systemctl enable --now {name}"),
        _ => format!("systemctl enable {name} && systemctl restart {name}"),
    };

    if let Some(finding) = unusable(unit, &starts) {
        return finding;
    }

    if active != "active" {
        let why = if result.is_empty() || result == "success" {
            String::new()
        } else {
            format!(" ({result})")
        };

        let finding = Finding::fail(
            check,
            format!("{active}{why}{}", changed(unit)),
            Advice::root(starts),
        );

        return if active == "failed" {
            finding.unit_of(name)
        } else {
            finding
        };
    }

    if file == "disabled" {
        let advice = Advice::root(format!("systemctl enable {name}"));
        return Finding::fail(check, "active, but not after the next boot", advice);
    }

    Finding::ok(
        check,
        if file.is_empty() {
            active.clone()
        } else {
            format!("{active}, {file}")
        },
    )
}

/// Reports a unit that systemd cannot start at all. `starts` is the command that starts it
/// afterwards.
fn unusable(unit: &Unit, starts: &str) -> Option<Finding> {
    let Unit { name, load, .. } = unit;
    let check = format!("unit {name}");
    if unit.is_masked() {
        let runtime = if unit.file == "masked-runtime" {
            " --runtime"
        } else {
            ""
        };

        let advice = Advice::root(format!("systemctl unmask{runtime} {name} && {starts}"));
        return Some(Finding::fail(
            check,
            "masked: systemd does not start it",
            advice,
        ));
    }

    if load == "not-found" {
        let advice = Advice::root(REINSTALL).after("in the directory of the package's file");
        return Some(Finding::fail(check, "its file is missing", advice));
    }

    if load != "loaded" {
        let found = format!("systemd cannot read it ({load}){}", changed(unit));
        let advice = Advice::root(format!("systemctl revert {name} && {starts}"))
            .after("correct the local changes, or revert them");
        return Some(Finding::fail(check, found, advice).unit_of(name));
    }

    None
}

/// The drop-ins that change a unit, for a unit that does not work.
fn changed(unit: &Unit) -> String {
    if unit.drop_ins.is_empty() {
        String::new()
    } else {
        format!("; changed by {}", unit.drop_ins.join(", "))
    }
}

/// Reports files that override the package's own: whole copies, which an upgrade does not change,
/// and masks of units that systemd is not asked about.
fn hidden(over: &[&Path], shipped: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let all = ACTIVE
        .into_iter()
        .chain(SERVICES.map(|(name, _)| name))
        .chain(OTHERS);
    for name in all {
        for directory in over {
            let path = directory.join(name);
            let Ok(found) = path.symlink_metadata() else {
                continue;
            };
            let check = format!("unit {name}");

            let is_mask =
                std::fs::read_link(&path).is_ok_and(|target| target == Path::new("/dev/null"));
            if is_mask && OTHERS.contains(&name) {
                let runtime = if directory.starts_with("/run") {
                    " --runtime"
                } else {
                    ""
                };

                let advice = Advice::root(format!("systemctl unmask{runtime} {name}"));
                findings.push(Finding::fail(
                    check,
                    "masked: systemd does not start it",
                    advice,
                ));
            } else if !is_mask && !found.is_dir() {
                findings.extend(copy(check, &path, &shipped.join(name)));
            }
        }
    }

    findings
}

fn copy(check: String, path: &PathBuf, shipped: &Path) -> Option<Finding> {
    let shown = path.display();
    let is_same = std::fs::read(path)
        .ok()
        .is_some_and(|own| std::fs::read(shipped).is_ok_and(|other| own == other));
    let differs = if is_same {
        "still identical"
    } else {
        "different content"
    };

    let found =
        format!("{shown} overrides the package's unit ({differs}): upgrades do not change it");
    let name = path.file_name()?.to_string_lossy().into_owned();
    let aside = quoted(path.with_extension("replaced"));
    let advice = Advice::root(format!(
        "mv {} {aside} && systemctl daemon-reload",
        quoted(path)
    ))
    .after(format!(
        "keep what differs as a drop-in (`systemctl edit {name}`)"
    ));

    Some(Finding::warn(check, found, advice))
}

#[cfg(test)]
mod tests;
