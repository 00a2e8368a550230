//! What players would have noticed: a program in the lab asks each server all the time, every
//! 100 ms, and writes down when it answered and on which build (`tests/standin/srcds/probe.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lab::{Lab, s, wait_for};
use crate::site::SRCDS;

/// The port of server 1; the others follow.
const FIRST_PORT: u32 = 27000;

/// A probe that runs.
pub struct Probe<'a> {
    lab: &'a Lab,
    servers: u32,
    file: String,
    unit: String,
}

/// A time without an answer, longer than 300 ms.
#[derive(Clone, Debug)]
pub struct Gap {
    pub server: u32,
    /// Unix ms of the last answer before it.
    pub from: i64,
    /// Of the next one; when the probe was read if there was none.
    pub to: i64,
    /// What it answers with afterwards; empty if it does not.
    pub version: String,
}

impl Gap {
    pub fn length(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.to - self.from).unwrap_or(0))
    }
}

/// What a probe has seen.
#[derive(Debug)]
pub struct Seen {
    pub gaps: Vec<Gap>,
    /// The versions of each server, in their order.
    pub versions: BTreeMap<u32, Vec<String>>,
    /// Unix ms.
    pub begun: i64,
}

impl Lab {
    /// Asks servers 1 to `servers`; returns once each has answered.
    #[track_caller]
    pub fn probe(&self, servers: u32) -> Probe<'_> {
        let unit = format!("probe-{}", self.sh("date +%s%N"));
        let file = format!("/root/{unit}.log");
        let ports: Vec<String> = (0..servers)
            .map(|at| (FIRST_PORT + at).to_string())
            .collect();
        self.sh(&format!(
            "systemd-run --quiet --collect --unit={unit} --property=Nice=-10 {SRCDS} --probe {file} {}",
            ports.join(" ")
        ));

        let probe = Probe {
            lab: self,
            servers,
            file,
            unit,
        };
        wait_for("all servers answer", s(60), || {
            let seen = probe.read();
            match seen.silent().is_empty() {
                true => Ok(()),
                false => Err(format!("{:?} are silent", seen.silent())),
            }
        });
        probe
    }

    /// Waits until servers 1 to `servers` answer with this build.
    #[track_caller]
    pub fn all_answer_with(&self, servers: u32, build: u64) {
        let probe = self.probe(servers);
        wait_for(&format!("all are on build {build}"), s(60), || {
            let seen = probe.read();
            let others: Vec<_> = (1..=servers)
                .filter(|id| seen.last(*id) != version(build))
                .map(|id| (id, seen.last(id)))
                .collect();
            match others.is_empty() {
                true => Ok(()),
                false => Err(format!("{others:?}")),
            }
        });
        probe.stop();
    }
}

/// What the game of a build calls itself.
pub fn version(build: u64) -> String {
    format!("2.2.{build}")
}

impl Probe<'_> {
    /// What it has seen so far.
    #[track_caller]
    pub fn read(&self) -> Seen {
        let text = self.lab.sh(&format!(
            "cat {} 2>/dev/null || true; date +%s%3N",
            self.file
        ));
        let mut lines: Vec<&str> = text.lines().collect();
        let read = lines
            .pop()
            .and_then(|now| now.parse().ok())
            .expect("a time");
        parse(&lines, self.servers, read)
    }

    /// Ends it; gives what it has seen.
    #[track_caller]
    pub fn stop(self) -> Seen {
        let seen = self.read();
        self.lab.run(&["systemctl", "stop", &self.unit]);
        seen
    }
}

fn parse(lines: &[&str], servers: u32, read: i64) -> Seen {
    let mut seen = Seen {
        gaps: Vec::new(),
        versions: (1..=servers).map(|id| (id, Vec::new())).collect(),
        begun: read,
    };

    let mut silent: BTreeMap<u32, i64> = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(' ').collect();
        let at: i64 = fields[0].parse().expect("a time");
        let [_, port, what, ..] = fields[..] else {
            seen.begun = at;
            continue;
        };
        let server = port.parse::<u32>().expect("a port") - FIRST_PORT + 1;
        if what == "silent" {
            silent.insert(server, at);
            continue;
        }

        let version = fields[3].to_owned();
        if let Some(from) = silent.remove(&server) {
            seen.gaps.push(Gap {
                server,
                from,
                to: at,
                version: version.clone(),
            });
        }
        let versions = seen.versions.entry(server).or_default();
        if versions.last() != Some(&version) {
            versions.push(version);
        }
    }

    for (server, from) in silent {
        seen.gaps.push(Gap {
            server,
            from,
            to: read,
            version: String::new(),
        });
    }
    seen.gaps.sort_by_key(|gap| gap.from);
    seen
}

impl Seen {
    /// The servers that have not answered yet, or do not answer now.
    pub fn silent(&self) -> Vec<u32> {
        let never = self.versions.iter().filter(|(_, all)| all.is_empty());
        let now = self.gaps.iter().filter(|gap| gap.version.is_empty());
        never
            .map(|(id, _)| *id)
            .chain(now.map(|gap| gap.server))
            .collect()
    }

    /// What a server answers with now.
    pub fn last(&self, server: u32) -> String {
        if self.silent().contains(&server) {
            return "nothing".to_owned();
        }
        self.versions[&server].last().cloned().unwrap_or_default()
    }

    pub fn gaps_of(&self, server: u32) -> Vec<&Gap> {
        self.gaps
            .iter()
            .filter(|gap| gap.server == server)
            .collect()
    }

    /// The longest time without an answer.
    pub fn longest(&self) -> Duration {
        let lengths = self.gaps.iter().map(Gap::length);
        lengths.max().unwrap_or_default()
    }

    /// How many servers gave no answer at one moment, at most.
    pub fn most_at_once(&self) -> usize {
        let at_start = |start: i64| {
            let covers = |gap: &&Gap| gap.from <= start && start < gap.to;
            self.gaps.iter().filter(covers).count()
        };
        let counts = self.gaps.iter().map(|gap| at_start(gap.from));
        counts.max().unwrap_or(0)
    }

    /// Panics if a server has missed a query, which waits 500 ms for its answer.
    #[track_caller]
    pub fn no_query_was_missed(&self, when: &str) {
        let query = Duration::from_millis(500);
        let missed: Vec<&Gap> = self
            .gaps
            .iter()
            .filter(|gap| gap.length() > query)
            .collect();
        assert!(missed.is_empty(), "{when}: {missed:?}");
    }

    /// Panics if a server ran with files of two builds.
    #[track_caller]
    pub fn no_build_was_mixed(&self) {
        for (server, versions) in &self.versions {
            let mixed = versions.iter().any(|version| version.contains("mixed"));
            assert!(!mixed, "server {server}: {versions:?}");
        }
    }
}
