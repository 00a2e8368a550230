//! A whole fleet of real programs on loopback: the engine's nodes, and hosts with their workers, gates and
//! links. It is made as an administrator makes one, with `left4me fleet init`, `join` and `admit`.

pub mod engine;
pub mod member;
pub mod service;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::host::TestHost;
use super::{Finished, LEFT4ME, PATIENCE, until};
use engine::Engine;
pub use member::Member;
use member::Newcomer;

pub struct Fleet {
    /// The first one is the controller.
    pub members: Vec<Member>,
    pub engine: Engine,
    _directory: tempfile::TempDir,
}

impl Fleet {
    /// One node or three, and these hosts. Returns when all are connected and know each other.
    pub fn up(nodes: usize, hosts: &[&str]) -> Self {
        Self::with_controllers(nodes, hosts, &[])
    }

    /// The same, with `further` controllers among the hosts, which all obey.
    pub fn with_controllers(nodes: usize, hosts: &[&str], further: &[&str]) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("left4me-test-engine-")
            .tempdir()
            .expect("a directory");
        let mut engine = Engine::new(nodes, directory.path());
        let mut newcomers = hosts.iter().map(|name| Newcomer::new(name, 4));
        let controller = newcomers.next().expect("a controller");

        let made = init(&controller, &engine, directory.path());
        for (index, node) in made.iter().enumerate() {
            engine.start(index, node);
            engine.listens(index);
        }
        engine.settled();
        make_streams(&controller);

        let others: Vec<Newcomer> = newcomers.collect();
        for other in &others {
            admit(&controller, other, further.contains(&other.name.as_str()));
        }
        for name in further {
            let of = |host: &Newcomer| host.fleet_dir().join("controllers").join(name);
            let own = others.iter().find(|other| other.name.as_str() == *name);
            let key = std::fs::read(of(own.expect("a host of this name"))).expect("its key");
            for host in others.iter().chain([&controller]) {
                std::fs::write(of(host), &key).expect("its key is installed");
            }
        }
        // What a host says before the controller knows that it belongs to the fleet is noise.
        let controller = controller.start();
        until("the controller has its roster", || {
            let known = controller.column("SELECT name FROM fleet_hosts");
            (known.len() == hosts.len()).then_some(())
        });
        let mut members = vec![controller];
        members.extend(others.into_iter().map(Newcomer::start));
        let fleet = Self {
            members,
            engine,
            _directory: directory,
        };
        fleet.all_are_seen();
        fleet
    }

    pub fn member(&self, name: &str) -> &Member {
        let found = self.members.iter().find(|one| one.name.as_str() == name);
        found.expect("a host of this name")
    }

    /// Waits until the controller has a status of each host.
    pub fn all_are_seen(&self) {
        let controller = &self.members[0];
        let begun = Instant::now();
        loop {
            let seen = controller.column("SELECT name FROM fleet_hosts WHERE status IS NOT NULL");
            if seen.len() == self.members.len() {
                return;
            }
            if begun.elapsed() > PATIENCE {
                self.tell_all();
                panic!("the controller sees only {seen:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What helps to understand a failure.
    pub fn tell_all(&self) {
        for member in &self.members {
            eprintln!("{}", member.tell());
        }
    }
}

/// `left4me fleet init` again, now that the engine runs: makes its streams. Three nodes on a busy machine elect more
/// than once before they serve.
fn make_streams(controller: &Newcomer) {
    let begun = Instant::now();
    loop {
        let done = run(&controller.host, &["fleet", "init"], "");
        if done.code == 0 {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE * 3,
            "the engine has no streams: {}",
            done.err
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// `left4me fleet init`; gives the configuration of each node.
fn init(controller: &Newcomer, engine: &Engine, directory: &std::path::Path) -> Vec<PathBuf> {
    let made = controller.fleet_dir().join("engine");
    let (tls, data) = (made.join("NODE"), directory.join("NODE"));
    let (tls, data) = (tls.display().to_string(), data.display().to_string());
    let ends = engine
        .nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}:{}", node.port, node.cluster_port));
    let ends: Vec<String> = ends.collect();

    let mut args = vec!["fleet", "init", "home", "--host", controller.name.as_str()];
    args.extend(["--node-tls", &tls, "--node-data", &data]);
    for end in &ends {
        args.extend(["--engine", end]);
    }
    run(&controller.host, &args, "").done();
    let conf = |node: &engine::Node| made.join(&node.name).join("nats-server.conf");
    engine.nodes.iter().map(conf).collect()
}

/// The new host prints a command, the controller runs it, and the new host takes what that prints.
fn admit(controller: &Newcomer, other: &Newcomer, controls: bool) {
    let asked = run(&other.host, &["fleet", "join", other.name.as_str()], "").done();
    let mut words: Vec<&str> = asked.split_whitespace().skip(1).collect();
    if controls {
        words.extend(["--role", "control"]);
    }
    let ticket = run(&controller.host, &words, "").done();
    let join = ["fleet", "join", other.name.as_str(), "--ticket", "-"];
    run(&other.host, &join, &ticket).done();
}

fn run(host: &TestHost, args: &[&str], input: &str) -> Finished {
    use std::io::Write as _;

    let mut child = Command::new(LEFT4ME)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(member::envs(host))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("left4me starts");
    let mut input_pipe = child.stdin.take().expect("a pipe");
    // A program that fails early does not read its input.
    input_pipe.write_all(input.as_bytes()).ok();
    drop(input_pipe);
    Finished::from(child.wait_with_output().expect("it ends"))
}
