//! A host of a fleet: a data directory, with the real worker, gate and link.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use left4me::base::clock::now_ms;
use left4me::base::names::FleetHost;
use left4me::base::ulid::Ulid;
use left4me::domain::fleet::order::What;
use left4me::queue::fleet::send::{self, Draft};
use left4me::queue::fleet::withdraw;
use left4me::queue::wake;

use super::super::host::TestHost;
use super::super::{Envs, Finished, WORKER};
use super::service::{Service, Socket, When};

pub const GATE: &str = env!("CARGO_BIN_EXE_left4me-gate");
pub const LINK: &str = env!("CARGO_BIN_EXE_left4me-link");
const ROLLOUT: &str = env!("CARGO_BIN_EXE_left4me-rollout");

pub struct Member {
    pub name: FleetHost,
    /// The ULIDs of its servers.
    pub servers: Vec<Ulid>,
    // The programs end before their directory is removed: fields are dropped in this order.
    pub link: Service,
    pub gate: Service,
    pub worker: Service,
    /// Drives rollouts, on a controller.
    pub rollout: Service,
    pub host: TestHost,
}

/// A host that is not in the fleet yet: its name, and where its part in the fleet will be.
pub struct Newcomer {
    pub name: FleetHost,
    pub host: TestHost,
}

impl Newcomer {
    pub fn new(name: &str, servers: u16) -> Self {
        Self {
            name: name.parse().expect("a name"),
            host: TestHost::with_servers(servers),
        }
    }

    pub fn fleet_dir(&self) -> PathBuf {
        self.host.root.join("fleet")
    }

    /// Starts its programs: it has been admitted.
    pub fn start(self) -> Member {
        let root = &self.host.root;
        let envs = envs(&self.host);
        for directory in ["link-state", "link-run"] {
            std::fs::create_dir_all(root.join(directory)).expect("a directory");
        }
        let servers = ulids(&self.host);
        let log = |name: &str| root.join(format!("{name}.log"));

        let worker = [Socket::Datagram("worker", root.join("worker.sock"))];
        let gate = [Socket::Stream("gate", root.join("gate.sock"))];
        let link = [
            Socket::Datagram("link", root.join("link.sock")),
            Socket::Stream("ask", root.join("ask.sock")),
        ];
        let rollout = [Socket::Datagram("rollout", root.join("rollout.sock"))];
        Member {
            servers,
            rollout: Service::start(ROLLOUT, &envs, &rollout, When::Asked, &log("rollout")),
            worker: Service::start(WORKER, &envs, &worker, When::Asked, &log("worker")),
            gate: Service::start(GATE, &envs, &gate, When::Asked, &log("gate")),
            link: Service::start(LINK, &envs, &link, When::Always, &log("link")),
            name: self.name,
            host: self.host,
        }
    }
}

pub(super) fn envs(host: &TestHost) -> Envs {
    let root = &host.root;
    let mut envs = root.envs();
    for (name, below) in [
        ("LEFT4ME_WORKER_SOCKET", "worker.sock"),
        ("LEFT4ME_HELPER_SOCKET", "helper.sock"),
        ("LEFT4ME_RUNNER_SOCKET", "runner.sock"),
        ("LEFT4ME_PUBLISHER_SOCKET", "publisher.sock"),
        ("LEFT4ME_CONSOLE_SOCKET", "console.sock"),
        ("LEFT4ME_SCHEDULES_SOCKET", "schedules.sock"),
        ("LEFT4ME_ALERTS_SOCKET", "alerts.sock"),
        ("LEFT4ME_GATE_SOCKET", "gate.sock"),
        ("LEFT4ME_LINK_SOCKET", "link.sock"),
        ("LEFT4ME_ASK_SOCKET", "ask.sock"),
        ("LEFT4ME_FLEET_DIR", "fleet"),
        ("CREDENTIALS_DIRECTORY", "fleet"),
        ("STATE_DIRECTORY", "link-state"),
        ("RUNTIME_DIRECTORY", "link-run"),
    ] {
        envs.push((name.to_owned(), root.join(below).display().to_string()));
    }
    if let Ok(level) = std::env::var("LEFT4ME_TEST_LOG") {
        envs.push(("LEFT4ME_LOG".to_owned(), level));
    }
    envs
}

fn ulids(host: &TestHost) -> Vec<Ulid> {
    let db = host.db();
    let mut query = db
        .connection()
        .prepare("SELECT ulid FROM servers ORDER BY id")
        .expect("a query");
    let rows = query.query_map([], |row| row.get::<_, String>(0));
    rows.expect("rows")
        .map(|ulid| ulid.expect("a ULID").parse().expect("a ULID"))
        .collect()
}

impl Member {
    /// `left4me` on this host.
    pub fn left4me(&self, args: &[&str]) -> Finished {
        super::run(&self.host, args, "")
    }

    /// Writes an order down, as `left4me-job --host` does, and wakes left4me-link.
    pub fn send(&self, to: &FleetHost, what: What) -> Ulid {
        let draft = Draft {
            id: None,
            to,
            what,
            by: "alice",
            here: &self.name,
            reason: "",
            good_for: None,
            rollout: None,
        };
        let id = send::send(&mut self.host.db(), &draft, now_ms()).expect("it is written down");
        wake::link(&self.host.root.join("link.sock"));
        id
    }

    /// Withdraws an order. One that has ended already stays as it is.
    pub fn withdraw(&self, order: Ulid) {
        withdraw::withdraw(
            &mut self.host.db(),
            order,
            ("alice", &self.name),
            "",
            now_ms(),
        )
        .ok();
    }

    /// Orders from here that have no end yet, in words.
    pub fn open_orders(&self) -> Vec<String> {
        self.column(
            "SELECT id || ' to ' || to_host || ': ' || kind || ', ' || state || ', attempt ' || attempt ||
                coalesce(', sent ' || (sent_at - created_at) || ' ms after', '')
             FROM fleet_orders_out WHERE settled_at IS NULL ORDER BY id",
        )
    }

    /// The state of each order from here.
    pub fn states(&self) -> HashMap<Ulid, String> {
        self.pairs("SELECT id, state FROM fleet_orders_out")
    }

    /// What became of each order that came here, by its rows.
    pub fn truth(&self) -> HashMap<Ulid, String> {
        self.pairs(
            "SELECT o.id,
                CASE WHEN o.state = 'refused' THEN 'refused' WHEN o.state = 'tombstone' THEN 'withdrawn'
                     WHEN o.ended = 'withdrawn' THEN 'withdrawn'
                     WHEN j.id IS NOT NULL THEN j.state ELSE coalesce(o.ended, 'no end') END
             FROM fleet_orders_in o LEFT JOIN jobs j ON j.id = o.job_id",
        )
    }

    pub fn jobs_without_order(&self) -> usize {
        self.column(
            "SELECT id || '' FROM jobs WHERE id NOT IN
                (SELECT job_id FROM fleet_orders_in WHERE job_id IS NOT NULL)",
        )
        .len()
    }

    /// The first column of a query.
    pub fn column(&self, sql: &str) -> Vec<String> {
        let db = self.host.db();
        let mut query = db.connection().prepare(sql).expect("a query");
        let rows = query.query_map([], |row| row.get(0)).expect("rows");
        rows.map(|value| value.expect("text")).collect()
    }

    fn pairs(&self, sql: &str) -> HashMap<Ulid, String> {
        let db = self.host.db();
        let mut query = db.connection().prepare(sql).expect("a query");
        let rows = query.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        });
        rows.expect("rows")
            .map(|row| row.expect("a row"))
            .map(|(id, word)| (id.parse().expect("a ULID"), word))
            .collect()
    }

    /// How often its programs were started, and the last lines that they said.
    pub fn tell(&self) -> String {
        const LINES: usize = 5;
        let mut tail = format!(
            "{}: link started {} times, gate {}, worker {}\n",
            self.name,
            self.link.starts(),
            self.gate.starts(),
            self.worker.starts()
        );
        tail += &self
            .column(
                "SELECT 'noise ' || noise || ', roster ' || roster || ', events sent ' || events_sent ||
                    coalesce(', connected since ' || connected_since, '') || coalesce(', ' || link_error, '')
                 FROM fleet_self",
            )
            .join("\n");
        tail += "\n";
        for name in ["link", "gate", "worker", "rollout"] {
            let text = read(&self.host.root.join(format!("{name}.log")));
            let all: Vec<&str> = text.lines().collect();
            let last = all[all.len().saturating_sub(LINES)..].join("\n");
            tail += &format!("---- {} {name}\n{last}\n", self.name);
        }
        tail
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
