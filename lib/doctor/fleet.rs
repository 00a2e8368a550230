//! Checks this host's part in its fleet: its files, its connection to the engine, hosts that are
//! silent and orders without an answer. Nothing where there is no fleet.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Finding;
use super::finding::Advice;
use crate::base::fleet::{self, Fleet};
use crate::base::{Result, clock};
use crate::db::Db;
use crate::db::fleet::hosts::{self, Host};
use crate::db::fleet::overview::{self, Unsettled};
use crate::db::fleet::self_row::{self, SelfRow};
use crate::domain::fleet::view::{HostState, LinkView, tells_late};

const LINK: &str = "left4me-link.service";

/// Files that only root may read.
const SECRETS: [&str; 3] = ["host.seed", "host.xseed", "controller.seed"];

pub(super) fn check(directory: &Path, database: &Path, now: i64) -> Vec<Finding> {
    let mut findings = files(directory);
    // The checks of the database report its problems.
    if let Ok(Some(known)) = read(database) {
        findings.extend(judge(&known, now));
    }
    findings
}

/// What the tables say.
struct Known {
    own: SelfRow,
    hosts: Vec<Host>,
    orders: Unsettled,
}

fn read(database: &Path) -> Result<Option<Known>> {
    Db::peek(database, |tx| {
        let Some(own) = self_row::get(tx)? else {
            return Ok(None);
        };
        Ok(Some(Known {
            own,
            hosts: hosts::all(tx)?,
            orders: overview::unsettled(tx)?,
        }))
    })
}

fn files(directory: &Path) -> Vec<Finding> {
    let again = || Advice::root("left4me fleet join URL").after("correct it, or join again");
    let found = match Fleet::read(directory) {
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Finding::fail("fleet", error.to_string(), again())],
        Ok(Some(found)) => found,
    };

    let mut findings = Vec::new();
    let whose = format!("{} of {}", found.host, found.fleet);
    findings.push(match fleet::controllers(directory) {
        Ok(keys) if keys.is_empty() => Finding::warn(
            "fleet",
            format!("{whose}; it obeys the orders of no host, as it has no controller's key"),
            Advice::root(format!("ls {}/controllers", directory.display()))
                .after("put a controller's public key there"),
        ),
        Ok(keys) => {
            let names: Vec<_> = keys.into_keys().collect();
            Finding::ok("fleet", format!("{whose}; it obeys {}", names.join(", ")))
        }
        Err(error) => Finding::fail(
            "fleet",
            format!("it obeys no orders: {error}"),
            Advice::root(format!("ls -l {}/controllers", directory.display())),
        ),
    });

    for secret in SECRETS {
        let path = directory.join(secret);
        let open = path
            .symlink_metadata()
            .is_ok_and(|it| it.mode() & 0o077 != 0);
        if open {
            findings.push(Finding::fail(
                "fleet keys",
                format!("others than root may read {}", path.display()),
                Advice::root(format!("chmod 0600 {}", path.display())),
            ));
        }
    }
    findings
}

fn judge(known: &Known, now: i64) -> Vec<Finding> {
    let mut findings = vec![connection(&known.own, now)];
    let is_connected = overview::link(&known.own, now).is_connected();

    let silent: Vec<_> = known
        .hosts
        .iter()
        .filter(|host| is_connected && host.state(now) == HostState::Silent)
        .map(|host| {
            let since = host.status_received_at.map(|at| clock::minute(at, now));
            format!("{} since {}", host.name, since.unwrap_or_default())
        })
        .collect();
    if !silent.is_empty() {
        findings.push(Finding::warn(
            "fleet hosts",
            format!(
                "silent: {}; how they are now is not known",
                silent.join(", ")
            ),
            Advice::run("left4me fleet hosts").and("look at left4me-link.service there"),
        ));
    }

    if tells_late(known.orders.oldest, now) {
        let waiting = known.orders.kept + known.orders.sent;
        findings.push(Finding::warn(
            "fleet orders",
            format!("{waiting} without an answer for more than five minutes"),
            Advice::run("left4me fleet orders"),
        ));
    }
    if known.own.noise > 0 {
        findings.push(Finding::warn(
            "fleet messages",
            format!(
                "{} were not believed: nothing, or not signed by whom they should be",
                known.own.noise
            ),
            Advice::root("journalctl -u left4me-gate.service").after("see what they were"),
        ));
    }
    findings
}

fn connection(own: &SelfRow, now: i64) -> Finding {
    let why = own.link_error.as_deref().unwrap_or("it says no reason");
    let look = || Advice::root(format!("journalctl -u {LINK} -n 20"));
    match overview::link(own, now) {
        _ if own.is_clone => Finding::fail(
            "fleet link",
            "another machine has this host's identity: this one is refused",
            Advice::root("left4me fleet hosts")
                .after("stop left4me-link.service on the machine that should not have it"),
        )
        .unit_of(LINK),
        LinkView::Connected { since } => Finding::ok(
            "fleet link",
            format!("connected since {}", clock::local(since)),
        ),
        LinkView::Away { since } => Finding::fail(
            "fleet link",
            format!("no connection since {}: {why}", clock::local(since)),
            look(),
        )
        .unit_of(LINK),
        LinkView::Silent { since } => Finding::fail(
            "fleet link",
            format!("left4me-link has been silent since {}", clock::local(since)),
            Advice::root(format!("systemctl restart left4me-gate.socket {LINK}")),
        )
        .unit_of(LINK),
        LinkView::Never => Finding::fail(
            "fleet link",
            "left4me-link has not connected yet",
            Advice::root(format!("systemctl enable --now left4me-gate.socket {LINK}")),
        )
        .unit_of(LINK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    fn own() -> SelfRow {
        SelfRow {
            link_at: Some(999_000),
            connected_since: Some(5_000),
            ..SelfRow::default()
        }
    }

    fn found(own: SelfRow, orders: Unsettled) -> Vec<(String, Severity, String)> {
        let known = Known {
            own,
            hosts: vec![Host {
                name: "waw-1".to_owned(),
                key: String::new(),
                seal_key: String::new(),
                labels: Default::default(),
                roles: Vec::new(),
                admitted_at: 1,
                expelled_at: None,
                status: None,
                status_at: Some(5_000),
                status_received_at: Some(5_000),
            }],
            orders,
        };
        let findings = judge(&known, 1_000_000).into_iter();
        findings
            .map(|one| (one.check, one.severity, one.found))
            .collect()
    }

    #[test]
    fn what_is_wrong_with_the_fleet_is_told_with_what_to_do() {
        let all = found(own(), Unsettled::default());
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(all[0].1, Severity::Ok);
        assert!(all[1].2.starts_with("silent: waw-1 since "), "{all:?}");

        let late = Unsettled {
            kept: 2,
            sent: 1,
            accepted: 4,
            oldest: Some(1_000),
        };
        let noisy = SelfRow { noise: 3, ..own() };
        let all = found(noisy, late);
        assert!(all[2].2.starts_with("3 without an answer"), "{all:?}");
        assert!(all[3].2.starts_with("3 were not believed"), "{all:?}");

        let away = SelfRow {
            connected_since: None,
            disconnected_since: Some(7_000),
            link_error: Some("refused".to_owned()),
            ..own()
        };
        let all = found(away, Unsettled::default());
        assert_eq!(all.len(), 1, "nothing is known of other hosts: {all:?}");
        assert_eq!(all[0].1, Severity::Fail);
        assert!(all[0].2.ends_with("refused"), "{all:?}");

        let copied = SelfRow {
            is_clone: true,
            ..own()
        };
        assert!(
            found(copied, Unsettled::default())[0]
                .2
                .contains("identity")
        );
        let dead = SelfRow {
            link_at: Some(1),
            ..own()
        };
        assert!(
            found(dead, Unsettled::default())[0]
                .2
                .contains("silent since")
        );
    }

    #[test]
    fn a_key_that_others_can_read_and_a_missing_controller_are_found() {
        use crate::base::keys::{OpeningKey, SigningKey};
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().unwrap();
        assert!(files(directory.path()).is_empty(), "no fleet");
        let part = Fleet {
            v: 1,
            fleet: "home".to_owned(),
            host: "ams-1".parse().unwrap(),
            key: SigningKey::generate().public(),
            seal_key: OpeningKey::generate().public(),
            engine: Vec::new(),
            roles: Vec::new(),
            capacity: None,
        };
        let json = directory.path().join("fleet.json");
        std::fs::write(&json, serde_json::to_string(&part).unwrap()).unwrap();
        let seed = directory.path().join("host.seed");
        std::fs::write(&seed, "x").unwrap();
        std::fs::set_permissions(&seed, std::fs::Permissions::from_mode(0o644)).unwrap();

        let found = files(directory.path());
        assert!(found[0].found.contains("obeys the orders of no host"));
        assert!(found[1].found.contains("may read"), "{found:?}");
        std::fs::write(&json, "{").unwrap();
        assert_eq!(files(directory.path())[0].severity, Severity::Fail);
    }
}
