//! A data directory with a database, and the real programs that work on it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use left4me::base::config::PortRange;
use left4me::base::names::{BlueprintName, JobId, UserId};
use left4me::base::password;
use left4me::db::{Db, blueprint_change, blueprints, jobs, logs, servers, users};
use left4me::domain::job::JobState;
use serde_json::Value;

use super::{
    Finished, JOB, LEFT4ME, PASSWORD, PUBLISHER, RUNNER, Root, SocketUnit, WORKER, accept,
    batch::accept_batches, ended,
};

/// The ports of servers.
pub const PORTS: PortRange = PortRange {
    first: 27000,
    last: 27999,
};

/// A data directory with a database, and the programs that work on it.
pub struct TestHost {
    pub root: Root,
    /// Updates stop the servers and change the files that they use (LEFT4ME_BUILDS).
    pub in_place: bool,
}

impl TestHost {
    /// Without servers.
    pub fn new() -> Self {
        let host = Self {
            root: Root::new(),
            in_place: false,
        };
        drop(host.db());
        host
    }

    /// With `count` servers S1, S2, … of one user.
    pub fn with_servers(count: u16) -> Self {
        let host = Self::new();
        host.db()
            .write(|tx| {
                let user = users::create(tx, 1, "test", &"alice".parse()?, users::Role::User, "-")?;
                let name: BlueprintName = "plain".parse()?;
                let blueprint = blueprint_change::create(
                    tx,
                    1,
                    "test",
                    user.id,
                    &name,
                    &blueprints::Content::default(),
                )?;

                for number in 0..count {
                    let name = format!("S{}", number + 1).parse()?;
                    let new = servers::NewServer {
                        user: user.id,
                        name: &name,
                        blueprint: blueprint.id,
                        port: Some(27000 + number),
                    };

                    servers::create(tx, 1, "test", &new, PORTS)?;
                }

                Ok(())
            })
            .unwrap();

        host
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("db/left4me.db")
    }

    /// Opens the database.
    pub fn db(&self) -> Db {
        Db::open(&self.database()).unwrap()
    }

    /// A command with the environment for this data directory.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .envs(self.root.envs())
            .stdin(Stdio::null());
        command.env("LEFT4ME_WORKER_SOCKET", self.root.join("worker.sock"));
        command.env("LEFT4ME_HELPER_SOCKET", self.root.join("helper.sock"));
        command.env("LEFT4ME_RUNNER_SOCKET", self.root.join("runner.sock"));
        command.env("LEFT4ME_PUBLISHER_SOCKET", self.root.join("publisher.sock"));
        if self.in_place {
            command.env("LEFT4ME_BUILDS", "in-place");
        }
        command.env("LEFT4ME_CONSOLE_SOCKET", self.root.join("console.sock"));
        command.env("LEFT4ME_SCHEDULES_SOCKET", self.root.join("schedules.sock"));
        command.env("LEFT4ME_FLEET_DIR", self.root.join("fleet"));
        command.env("LEFT4ME_LINK_SOCKET", self.root.join("link.sock"));
        command
    }

    /// Runs `left4me-job`; returns its exit code, standard output and standard error.
    pub fn job(&self, args: &[&str]) -> (i32, String, String) {
        let Finished { code, out, err } = Finished::from(self.command(JOB, args).output().unwrap());
        (code, out, err)
    }

    /// Runs `left4me-job … --json`; returns its exit code and its document.
    pub fn job_json(&self, args: &[&str]) -> (i32, Value) {
        let (code, out, err) = self.job(&[args, &["--json"]].concat());
        let document = serde_json::from_str(&out);
        (
            code,
            document.unwrap_or_else(|error| panic!("{args:?}: {error}: {out}{err}")),
        )
    }

    /// Runs `left4me`.
    pub fn left4me(&self, args: &[&str]) -> Finished {
        Finished::from(self.command(LEFT4ME, args).output().unwrap())
    }

    /// Runs `left4me` with `input` as its standard input.
    pub fn left4me_with_input(&self, args: &[&str], input: &str) -> Finished {
        let mut command = self.command(LEFT4ME, args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that fails early does not read its input.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        Finished::from(child.wait_with_output().unwrap())
    }

    /// Creates a user with [`PASSWORD`].
    pub fn user(&self, name: &str, role: users::Role) -> UserId {
        let user = self
            .db()
            .write(|tx| users::create(tx, 1, "test", &name.parse()?, role, password_hash()));
        user.unwrap().id
    }

    /// Creates a user with [`PASSWORD`] and a blueprint.
    pub fn user_with_blueprint(&self, name: &str, blueprint: &str) -> UserId {
        let user = self.user(name, users::Role::User);
        let content = blueprints::Content::default();
        let made = self.db().write(|tx| {
            blueprint_change::create(tx, 1, "test", user, &blueprint.parse()?, &content)
        });
        made.unwrap();
        user
    }

    /// Queues a job; returns its id.
    pub fn enqueue(&self, args: &[&str]) -> JobId {
        let (code, out, err) = self.job(&[&["enqueue"], args].concat());
        assert_eq!(code, 0, "{err}");
        out.trim().parse().unwrap()
    }

    /// The output of `show --json`.
    pub fn show(&self, id: JobId) -> Value {
        let (code, out, err) = self.job(&["show", &id.to_string(), "--json"]);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap()
    }

    pub fn state(&self, id: JobId) -> JobState {
        jobs::state(self.db().connection(), id).unwrap().0
    }

    /// Starts a worker in the foreground that exits after `idle` seconds with an empty queue.
    pub fn worker(&self, idle: u32) -> Child {
        self.command(WORKER, &["--idle-seconds", &idle.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Runs a worker until the queue is empty.
    pub fn drain(&self) {
        assert_eq!(ended(&mut self.worker(0)), 0);
    }

    /// Serves runner.sock, with `script` as steamcmd.
    pub fn runner(&self, script: &str) -> SocketUnit {
        let steamcmd = self.root.script("steam/steamcmd.sh", script);
        let mut envs = self.root.envs();
        envs.push((
            "LEFT4ME_STEAMCMD".into(),
            steamcmd.into_os_string().into_string().unwrap(),
        ));
        accept(&self.root.join("runner.sock"), &[RUNNER], &envs)
    }

    /// Serves publisher.sock.
    pub fn publisher(&self) -> SocketUnit {
        let socket = self.root.join("publisher.sock");
        accept(&socket, &[PUBLISHER], &self.root.envs())
    }

    /// Serves helper.sock with a shell script that has the connection at descriptor 3 and replies
    /// in systemd's place. Of a batch, each server has a script of its own.
    pub fn helper(&self, script: &str) -> SocketUnit {
        let script = self.root.script("helper.sh", script);
        accept_batches(
            &self.root.join("helper.sock"),
            &["/bin/bash", &script.to_string_lossy()],
            &self.root.envs(),
        )
    }

    /// A job's log.
    pub fn lines(&self, id: JobId) -> Vec<String> {
        logs::after(self.db().connection(), id, 0, 1_000_000)
            .unwrap()
            .into_iter()
            .map(|line| line.line)
            .collect()
    }
}

/// The hash of [`PASSWORD`]. It takes long to compute on purpose, so a process does it once.
pub fn password_hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| password::hash(PASSWORD).unwrap())
}

/// Sends a signal to a program.
pub fn stop(worker: &Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(worker.id().try_into().unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}
