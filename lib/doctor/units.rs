//! Units, as systemd tells them: one question for all.

use std::path::Path;

use super::Finding;
use crate::base::Result;
use crate::process::systemctl;

/// Units that have to be active, and those of them that have to be enabled.
const ACTIVE: [&str; 6] = [
    "left4me.target",
    "left4me-worker.socket",
    "left4me-helper.socket",
    "left4me-runner.socket",
    "left4me-web.socket",
    "left4me-poller.timer",
];

/// Services that come and go, and must not have failed.
const NOT_FAILED: [&str; 3] = ["left4me-worker.service", "left4me-poller.service", "left4me-web.service"];

/// What systemd says of one unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unit {
    name: String,
    load: String,
    active: String,
    result: String,
    file: String,
}

pub(super) fn check() -> Vec<Finding> {
    if !Path::new("/run/systemd/system").is_dir() {
        let advice = "left4me needs a host that systemd booted; see deploy/lab for one to try it in";
        return vec![Finding::fail("systemd", "it is not this host's PID 1", advice)];
    }
    match ask() {
        Ok(text) => judge(&parse(&text)),
        Err(error) => vec![Finding::fail("systemd", error.to_string(), "see `systemctl status`")],
    }
}

/// `systemctl show` of all units: a paragraph each.
fn ask() -> Result<String> {
    let show = ["show", "--property=Id,LoadState,ActiveState,Result,UnitFileState"];
    let units = ACTIVE.iter().chain(&NOT_FAILED).copied();
    systemctl("left4me", show.into_iter().chain(units)).map(|(_, text)| text)
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
                "Result" => &mut unit.result,
                "UnitFileState" => &mut unit.file,
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
    for unit in units {
        let name = unit.name.as_str();
        if NOT_FAILED.contains(&name) {
            if unit.active == "failed" {
                let advice = format!("see `journalctl -u {name}`, then as root: systemctl reset-failed {name}");
                findings.push(Finding::fail(format!("unit {name}"), format!("failed ({})", unit.result), advice));
            }
            continue;
        }
        findings.push(one(unit));
    }
    findings
}

fn one(unit: &Unit) -> Finding {
    let Unit { name, load, active, result, file } = unit;
    let check = format!("unit {name}");
    if load != "loaded" {
        return Finding::fail(
            check,
            format!("not installed ({load})"),
            "reinstall the package, then as root: systemctl daemon-reload",
        );
    }
    if active != "active" {
        let why = if result.is_empty() || result == "success" { String::new() } else { format!(" ({result})") };
        return Finding::fail(check, format!("{active}{why}"), format!("as root: systemctl enable --now {name}"));
    }
    if file == "disabled" {
        return Finding::fail(
            check,
            "active, but not after the next boot",
            format!("as root: systemctl enable {name}"),
        );
    }
    Finding::ok(check, if file.is_empty() { active.clone() } else { format!("{active}, {file}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    fn judged(text: &str) -> Vec<(Severity, String)> {
        judge(&parse(text)).into_iter().map(|finding| (finding.severity, finding.check)).collect()
    }

    #[test]
    fn a_unit_has_to_be_active_and_enabled() {
        let text = "Result=success\nId=left4me-worker.socket\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n\
                    Id=left4me-helper.socket\nLoadState=loaded\nActiveState=failed\nResult=trigger-limit-hit\n\n\
                    Id=left4me.target\nLoadState=loaded\nActiveState=active\nUnitFileState=disabled\n\n\
                    Id=left4me-runner.socket\nLoadState=not-found\nActiveState=inactive\n\n\
                    Id=left4me-worker.service\nLoadState=loaded\nActiveState=inactive\nResult=success\n";
        assert_eq!(
            judged(text),
            [
                (Severity::Ok, "unit left4me-worker.socket".to_owned()),
                (Severity::Fail, "unit left4me-helper.socket".to_owned()),
                (Severity::Fail, "unit left4me.target".to_owned()),
                (Severity::Fail, "unit left4me-runner.socket".to_owned()),
            ]
        );
    }

    #[test]
    fn a_service_may_be_idle_but_must_not_have_failed() {
        let text = "Id=left4me-worker.service\nLoadState=loaded\nActiveState=failed\nResult=exit-code\n";
        assert_eq!(judged(text), [(Severity::Fail, "unit left4me-worker.service".to_owned())]);
    }
}
