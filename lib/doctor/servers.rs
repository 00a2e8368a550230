//! Checks servers by what the poller recorded: whether it polls at all, servers that need
//! attention, and units that belong to no server.

use std::collections::BTreeMap;
use std::path::Path;

use super::Finding;
use super::finding::{Advice, quoted};
use crate::base::config::PollSeconds;
use crate::base::names::ServerId;
use crate::base::{Result, clock};
use crate::db::Db;
use crate::db::blueprints::{self, Blueprint};
use crate::db::poll::{self, Orphan, Poll};
use crate::db::servers::{self, Server};
use crate::db::stale::{self, FoundStale};
use crate::domain::disk;
use crate::domain::drift::Drift;

/// How many intervals without a poll are too many. [`SILENT`] is the minimum, because a poll may
/// have to wait.
const MISSED: i64 = 3;
/// How long without a poll is too long, in ms. See [`MISSED`].
const SILENT: i64 = 90_000;

pub(super) fn check(path: &Path, poll_seconds: &PollSeconds, now: i64) -> Vec<Finding> {
    // The check of the settings reports a bad value; systemd's generator then uses 30.
    let (mut findings, seconds) = (Vec::new(), poll_seconds.number().unwrap_or(30));
    // Earlier checks have reported problems of the database.
    if let Ok((last, servers, orphans, refused, stale)) = read(path) {
        findings.extend(judge(&last, &servers, &orphans, seconds, now));
        findings.extend(
            servers
                .iter()
                .filter_map(|server| Some(stale_files(server, stale.get(&server.id)?))),
        );
        findings.extend(
            refused
                .iter()
                .map(|(blueprint, why)| unusable(blueprint, why)),
        );
    }

    findings
}

type ServerFacts = (
    Poll,
    Vec<Server>,
    Vec<Orphan>,
    Vec<(Blueprint, Vec<String>)>,
    BTreeMap<ServerId, FoundStale>,
);

fn read(path: &Path) -> Result<ServerFacts> {
    Db::peek(path, |tx| {
        Ok((
            poll::last(tx)?,
            servers::all(tx)?,
            poll::orphans(tx)?,
            blueprints::refused(tx)?,
            stale::all(tx)?,
        ))
    })
}

/// Reports files that the game of a server wrote and that hide newer ones since an update.
fn stale_files(server: &Server, found: &FoundStale) -> Finding {
    let id = server.id;
    let amount = found.amount();
    let hide = if found.count == 1 { "hides" } else { "hide" };
    Finding::warn(
        format!("stale files of server {id} ({})", server.name),
        format!(
            "{amount} ({}) that its game wrote {hide} newer game files since an update",
            disk::bytes(found.size)
        ),
        Advice::run(format!("left4me server show {id}")).and(format!(
            "it lists them; `left4me-job enqueue reset --stale --server {id}` drops them"
        )),
    )
}

/// Reports a blueprint that cannot start any server.
fn unusable(blueprint: &Blueprint, why: &[String]) -> Finding {
    let check = format!("blueprint {} ({})", blueprint.id, blueprint.name);
    let advice = format!(
        "correct it on its page, or with `left4me blueprint edit {}`",
        blueprint.id
    );

    let servers: Vec<String> = blueprint.servers.iter().map(ToString::to_string).collect();
    if servers.is_empty() {
        return Finding::warn(
            check,
            format!("no server can be started with it: {}", why.join("; ")),
            advice,
        );
    }

    Finding::fail(
        check,
        format!(
            "server {} cannot be started: {}",
            servers.join(", "),
            why.join("; ")
        ),
        advice,
    )
}

fn judge(
    last: &Poll,
    servers: &[Server],
    orphans: &[Orphan],
    poll_seconds: u32,
    now: i64,
) -> Vec<Finding> {
    let mut findings = vec![poller(last, poll_seconds, now)];
    for server in servers {
        if let Some(drift) = &server.drift {
            let (mend, accept) = drift.kind.remedies();
            let id = server.id;
            let advice = match drift.kind {
                Drift::Crashing => Drift::crash_advice(id).into(),
                _ => Advice::run(format!("left4me-job enqueue {mend} --server {id}")).and(format!(
                    "or leave it so: `left4me-job enqueue {accept} --server {id}`"
                )),
            };

            findings.push(Finding::warn(
                format!("server {} ({})", server.id, server.name),
                format!("{}: {}", drift.kind.message(server.actual_state), drift.why),
                advice,
            ));
        }
    }

    findings.extend(orphans.iter().map(|orphan| {
        let advice = Advice::root(format!(
            "left4me-helper disable {}",
            quoted(&orphan.instance)
        ));

        Finding::warn(
            "orphan",
            format!(
                "{} belongs to no server and is {}",
                orphan.unit(),
                orphan.state
            ),
            advice,
        )
    }));

    findings
}

fn poller(last: &Poll, poll_seconds: u32, now: i64) -> Finding {
    let check = "poller";
    let poller = "left4me-poller.service";

    let advice = Advice::root(format!(
        "systemctl restart left4me-poller.timer && systemctl start {poller}"
    ));
    if let Some(error) = &last.error {
        return Finding::fail(check, format!("it cannot see the servers: {error}"), advice);
    }

    match last.polled_at {
        None => Finding::warn(check, "it has not polled yet", advice),
        // The poller writes its time at each poll. A time in the future is from before the clock
        // was set back.
        Some(at) if at - now > SILENT => Finding::fail(
            check,
            format!(
                "its last poll is {} in the future: \
                 the clock was set back, and there was no poll since",
                clock::span(at - now)
            ),
            advice,
        ),
        Some(at) if now - at > SILENT.max(MISSED * i64::from(poll_seconds) * 1000) => {
            Finding::fail(
                check,
                format!("there was no poll for {}", clock::span(now - at)),
                advice,
            )
            .unit_of(poller)
        }
        Some(at) => Finding::ok(check, format!("last poll {} ago", clock::span(now - at))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::with_servers;
    use crate::doctor::Severity;
    use crate::domain::stale::Stale;

    #[test]
    fn stale_files_are_told_with_what_lists_and_what_drops_them() {
        let db = with_servers(2);
        let found = Stale {
            count: 3,
            size: 2048,
            ..Stale::default()
        };
        stale::record(&db, ServerId(2), &found, 5).unwrap();

        let (servers, stale) = (servers::all(&db).unwrap(), stale::all(&db).unwrap());
        assert_eq!(stale.len(), 1);
        let finding = stale_files(&servers[1], &stale[&ServerId(2)]);
        assert_eq!(finding.severity, Severity::Warn);
        let text = format!("{finding:?}");
        for part in [
            "server 2",
            "3 files (2.0 KiB)",
            "left4me server show 2",
            "reset --stale --server 2",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_poller_that_is_silent_or_blind_is_told() {
        let look = |polled_at, error: Option<&str>| {
            poller(
                &Poll {
                    polled_at,
                    error: error.map(str::to_owned),
                },
                30,
                1_000_000,
            )
            .severity
        };

        assert_eq!(look(Some(920_000), None), Severity::Ok);
        assert_eq!(
            poller(
                &Poll {
                    polled_at: Some(920_000),
                    error: None
                },
                1,
                1_000_000
            )
            .severity,
            Severity::Ok
        );

        assert_eq!(look(Some(900_000), None), Severity::Fail);
        assert_eq!(
            look(Some(1_060_000), None),
            Severity::Ok,
            "a clock is corrected by seconds"
        );

        assert_eq!(
            look(Some(4_600_000), None),
            Severity::Fail,
            "it has died, and the clock was set back by an hour"
        );

        assert_eq!(look(Some(990_000), Some("no bus")), Severity::Fail);
        assert_eq!(look(None, None), Severity::Warn);
    }
}
