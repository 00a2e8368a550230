//! A data directory with a database, and the real programs that work on it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use left4me::base::config::PortRange;
use left4me::base::names::{BlueprintName, JobId};
use left4me::db::{Db, blueprint_change, blueprints, jobs, logs, servers, users};
use left4me::domain::job::JobState;
use serde_json::Value;

use super::{Guard, Root, accept, ended};

pub const JOB: &str = env!("CARGO_BIN_EXE_left4me-job");
pub const WORKER: &str = env!("CARGO_BIN_EXE_left4me-worker");
pub const RUNNER: &str = env!("CARGO_BIN_EXE_left4me-runner");

/// A data directory with a database, and the programs that work on it.
pub struct TestHost {
    pub root: Root,
}

impl TestHost {
    /// Without servers.
    pub fn new() -> Self {
        let host = Self { root: Root::new() };
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

                    servers::create(
                        tx,
                        1,
                        "test",
                        &new,
                        PortRange {
                            first: 27000,
                            last: 27999,
                        },
                    )?;
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
        command
    }

    /// Runs `left4me-job`; returns its exit code, standard output and standard error.
    pub fn job(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.command(JOB, args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
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
    pub fn runner(&self, script: &str) -> Guard {
        let steamcmd = self.root.script("steam/steamcmd.sh", script);
        let mut envs = self.root.envs();
        envs.push((
            "LEFT4ME_STEAMCMD".into(),
            steamcmd.into_os_string().into_string().unwrap(),
        ));
        accept(&self.root.join("runner.sock"), &[RUNNER], &envs)
    }

    /// Serves helper.sock with a shell script that has the connection at descriptor 3 and replies
    /// in systemd's place.
    pub fn helper(&self, script: &str) -> Guard {
        let script = self.root.script("helper.sh", script);
        accept(
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

/// Sends a signal to a program.
pub fn stop(worker: &Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(worker.id().try_into().unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}
