//! Checks the overlays of the catalog by the rules of the game, and the blueprints for settings
//! that hide their servers from players, or that left4me's own replace.

use std::path::Path;

use super::Finding;
use crate::base::Result;
use crate::base::names::OverlayRef;
use crate::db::blueprints::{self, Blueprint};
use crate::db::overlays::{self, Overlay};
use crate::db::{Db, ports};
use crate::domain::notices;
use crate::host::content;

pub(super) fn check(database: &Path, root: &Path) -> Vec<Finding> {
    // Other checks report problems of the database.
    let Ok((overlays, notices, shared)) = Db::peek(database, |tx| {
        Ok((overlays::all(tx)?, notices(tx)?, ports::shared(tx)?))
    }) else {
        return Vec::new();
    };

    let mut findings = seen(root, &overlays);
    findings.extend(notices);
    findings.extend(shared.iter().map(|clash| {
        let advice = "give one blueprint a tv_port of its own, or one server another port";
        Finding::fail("ports", clash.to_string(), advice)
    }));

    findings
}

/// One finding for each overlay that has files the game does not see.
fn seen(root: &Path, overlays: &[Overlay]) -> Vec<Finding> {
    let all: Vec<OverlayRef> = overlays
        .iter()
        .filter_map(|overlay| overlay.reference.parse().ok())
        .collect();
    let mut findings = Vec::new();
    for reference in &all {
        let Ok(found) = content::inspect(root, std::slice::from_ref(reference), &all) else {
            continue;
        };
        if !found.is_clean() {
            let told: Vec<String> = found.messages().collect();
            let advice = "correct these files; servers have it from their next start";
            findings.push(Finding::warn(
                format!("overlay {reference}"),
                told.join("; "),
                advice,
            ));
        }
    }

    if findings.is_empty() && !all.is_empty() {
        findings.push(Finding::ok(
            "overlays",
            format!("the game can read all of {}", all.len()),
        ));
    }

    findings
}

/// Notices about the blueprints that servers use.
fn notices(tx: &rusqlite::Connection) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for blueprint in blueprints::all(tx)?
        .iter()
        .filter(|blueprint| !blueprint.servers.is_empty())
    {
        // Another check reports content that is refused.
        let Ok(content) = blueprints::content(tx, blueprint.id) else {
            continue;
        };
        let leave = "leave it if that is meant; else";
        let told = notices::of(&content.arguments, &content.config);
        findings.extend(told.iter().map(|notice| finding(blueprint, notice, leave)));

        let told = notices::rcon_passwords(&content.config);
        let remove = "remove the line, which only shows a password to readers:";
        findings.extend(told.iter().map(|notice| finding(blueprint, notice, remove)));
    }

    Ok(findings)
}

/// `what` is to be done, with the editor as the last words.
fn finding(blueprint: &Blueprint, notice: &str, what: &str) -> Finding {
    let servers: Vec<String> = blueprint.servers.iter().map(ToString::to_string).collect();
    let advice = format!("{what} `left4me blueprint edit {}`", blueprint.id);

    let check = format!("blueprint {} ({})", blueprint.id, blueprint.name);
    Finding::warn(
        check,
        format!("server {}: {notice}", servers.join(", ")),
        advice,
    )
}
