//! What an administrator does in a lab: describing servers, enqueueing jobs, looking at what came
//! of them.

use serde_json::Value;

use crate::lab::{Lab, Output, s, wait_for};

/// Where the stand-in for steamcmd lies, with what tells it how to behave and what it printed.
pub const STEAM: &str = "/var/lib/left4me/steam";

/// The game's stand-in, which also asks a server for its name.
pub const SRCDS: &str = "/usr/local/lib/left4me-standin/srcds";

const SETTINGS: &str = "/etc/left4me/left4me.env";

/// A line of a job's log.
pub struct Line {
    pub seq: i64,
    pub stream: String,
    pub line: String,
}

/// A queued job's number, and how it ended.
pub struct Job {
    pub id: i64,
    pub state: String,
    /// Empty when there was none.
    pub error: String,
    pub exit_code: Option<i64>,
}

/// The setting up.
impl Lab {
    /// A setting of left4me, for whatever starts from now on. The worker, if one runs, is told to
    /// leave.
    #[track_caller]
    pub fn set(&self, setting: &str) {
        self.run_with("root", &["tee", "-a", SETTINGS], &format!("{setting}\n"))
            .ends_with(0);
        self.ok(&["systemctl", "stop", "left4me-worker.service"]);
    }

    /// How the next runs of steamcmd behave; without memory of the ones before.
    #[track_caller]
    pub fn steamcmd(&self, behaviour: &str) {
        self.sh(&format!(
            "rm -f {STEAM}/standin.{{failures,primed,updated}} {STEAM}/standin-printed.log"
        ));
        self.write(
            &format!("{STEAM}/standin.conf"),
            &behaviour.replace(' ', "\n"),
        );
    }

    /// A user, an overlay, a blueprint and servers of these names, in this order from id 1 on.
    #[track_caller]
    pub fn describe(&self, servers: &[&str]) {
        let config = "hostname \"first name\"\nsv_steamgroup_exclusive 0\n";
        self.describe_with(config, servers);
    }

    /// The same, with these lines in the blueprint.
    #[track_caller]
    pub fn describe_with(&self, config: &str, servers: &[&str]) {
        self.run_with(
            "root",
            &[
                "left4me",
                "user",
                "add",
                "admin",
                "--admin",
                "--password-stdin",
            ],
            "correct horse 7\n",
        )
        .ends_with(0);

        self.ok(&["left4me", "overlay", "add", "demo"]);
        self.write("/root/server.cfg", config);

        self.ok(&[
            "left4me",
            "blueprint",
            "create",
            "versus",
            "--user",
            "admin",
            "--overlay",
            "demo",
            "--arg=+map",
            "--arg=c1m1_hotel",
            "--config-file",
            "/root/server.cfg",
        ]);

        for server in servers {
            self.ok(&[
                "left4me",
                "server",
                "create",
                server,
                "--blueprint",
                "versus",
                "--user",
                "admin",
            ]);
        }
    }
}

/// Jobs.
impl Lab {
    /// Enqueues and waits; gives what `left4me-job` said.
    pub fn enqueue_and_wait(&self, request: &[&str]) -> Output {
        self.run(&[&["left4me-job", "enqueue", "--wait"], request].concat())
    }

    /// A job that has to succeed.
    #[track_caller]
    pub fn job(&self, request: &[&str]) -> Job {
        let output = self.enqueue_and_wait(request).ends_with(0);
        self.show(number(&output))
    }

    /// A job that has to fail: `left4me-job` ends with 1 and says why on one line, which has these
    /// words.
    #[track_caller]
    pub fn failing_job(&self, request: &[&str], words: &[&str]) -> Job {
        let output = self
            .enqueue_and_wait(request)
            .ends_with(1)
            .complains_of(words);
        let job = self.show(number(&output));
        assert_eq!(job.state, "failed", "{output}");
        job
    }

    /// Enqueues without waiting.
    #[track_caller]
    pub fn enqueue(&self, request: &[&str]) -> i64 {
        number(
            &self
                .run(&[&["left4me-job", "enqueue"], request].concat())
                .ends_with(0),
        )
    }

    /// A job as it is now.
    #[track_caller]
    pub fn show(&self, id: i64) -> Job {
        let job = self.json(&["left4me-job", "show", &id.to_string(), "--json"]);
        Job {
            id,
            state: job["state"].as_str().expect("a state").to_owned(),
            error: job["error"].as_str().unwrap_or_default().to_owned(),
            exit_code: job["exit_code"].as_i64(),
        }
    }

    /// Waits for a job's end, whatever it is.
    #[track_caller]
    pub fn ended(&self, id: i64, seconds: u64) -> Job {
        wait_for(&format!("job {id} ends"), s(seconds), || {
            let job = self.show(id);
            let ended = matches!(job.state.as_str(), "succeeded" | "failed" | "cancelled");
            if ended { Ok(job) } else { Err(job.state) }
        })
    }

    /// How many jobs there are, ended ones too.
    #[track_caller]
    pub fn job_count(&self) -> usize {
        self.json(&["left4me-job", "list", "--limit", "1000", "--json"])
            .as_array()
            .expect("a list")
            .len()
    }

    /// A job's log, its numbers checked: 1, 2, 3 … without gaps.
    #[track_caller]
    pub fn log(&self, job: i64) -> Vec<Line> {
        let text = self.ok(&["left4me-job", "logs", &job.to_string(), "--json"]);
        let lines: Vec<Line> = text
            .lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).expect("a JSON document per line");
                let text = |key: &str| line[key].as_str().expect("a text").to_owned();
                Line {
                    seq: line["seq"].as_i64().expect("a seq"),
                    stream: text("stream"),
                    line: text("line"),
                }
            })
            .collect();
        for (line, seq) in lines.iter().zip(1..) {
            assert_eq!(line.seq, seq, "seq without gaps in job {job}");
        }
        lines
    }

    /// Panics unless a line of the job's log, on that stream, has all of `words`.
    #[track_caller]
    pub fn logged(&self, job: i64, stream: &str, words: &[&str]) {
        let log = self.log(job);
        let found = log
            .iter()
            .any(|line| line.stream == stream && words.iter().all(|word| line.line.contains(word)));
        let tail: Vec<&str> = log
            .iter()
            .rev()
            .take(20)
            .rev()
            .map(|line| line.line.as_str())
            .collect();
        assert!(
            found,
            "job {job} has no line with {words:?} on {stream}; its last lines:\n{}",
            tail.join("\n")
        );
    }
}

/// Servers.
impl Lab {
    /// One JSON document of a command.
    #[track_caller]
    pub fn json(&self, argv: &[&str]) -> Value {
        let text = self.ok(argv);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{argv:?} printed no JSON document: {error}\n{text}"))
    }

    #[track_caller]
    pub fn server(&self, name: &str) -> Value {
        self.json(&["left4me", "server", "show", name, "--json"])
    }

    /// Waits until the server's game answers on its port; gives the name that it calls itself.
    #[track_caller]
    pub fn answers(&self, server: &str) -> String {
        let port = self.server(server)["port"].as_u64().expect("a port");
        let address = format!("127.0.0.1:{port}");
        wait_for(
            &format!("server {server} answers on {address}"),
            s(30),
            || {
                let output = self.run(&[SRCDS, "--query", &address]);
                if output.code == 0 {
                    Ok(output.stdout)
                } else {
                    Err(output.to_string())
                }
            },
        )
    }

    /// Panics unless the server is what `enqueue start` promises: running, at boot too, as its own
    /// user, on its overlay.
    #[track_caller]
    pub fn runs(&self, id: u32, server: &str) {
        let unit = format!("left4me-server@{id}.service");
        assert_eq!(self.unit(&unit, "ActiveState"), "active", "{unit}");
        assert_eq!(self.unit(&unit, "UnitFileState"), "enabled", "{unit}");
        let merged = format!("/var/lib/left4me/runtime/{id}/merged");
        assert!(self.mounts().contains(&merged), "{merged} is not mounted");
        let group = self.unit(&unit, "ControlGroup");
        let users = self.sh(&format!(
            "ps -o user:32= -p $(paste -sd, /sys/fs/cgroup{group}/cgroup.procs) | sort -u"
        ));
        assert_eq!(
            users,
            format!("left4me_{id}"),
            "the users of the game's processes"
        );

        let server = self.server(server);
        for (key, expected) in [("desired_state", "running"), ("actual_state", "running")] {
            assert_eq!(server[key], expected, "{server:#}");
        }
        assert_eq!(server["enabled"], true, "{server:#}");
    }

    /// Panics unless the server is what `enqueue stop` promises.
    #[track_caller]
    pub fn is_stopped(&self, id: u32, server: &str) {
        let unit = format!("left4me-server@{id}.service");
        assert_eq!(self.unit(&unit, "ActiveState"), "inactive", "{unit}");
        assert_eq!(self.unit(&unit, "UnitFileState"), "disabled", "{unit}");
        let merged = format!("/var/lib/left4me/runtime/{id}/merged");
        assert!(
            !self.mounts().contains(&merged),
            "{merged} is still mounted"
        );

        let server = self.server(server);
        for (key, expected) in [("desired_state", "stopped"), ("actual_state", "stopped")] {
            assert_eq!(server[key], expected, "{server:#}");
        }
        assert_eq!(server["enabled"], false, "{server:#}");
    }

    #[track_caller]
    pub fn main_pid(&self, id: u32) -> String {
        self.unit(&format!("left4me-server@{id}.service"), "MainPID")
    }

    /// Where overlays are mounted.
    #[track_caller]
    pub fn mounts(&self) -> Vec<String> {
        let found =
            self.sh("awk '$3 == \"overlay\" && $2 != \"/usr\" { print $2 }' /proc/mounts | sort");
        found.lines().map(str::to_owned).collect()
    }

    /// A unit's lines of the journal, as they were printed.
    #[track_caller]
    pub fn console(&self, unit: &str) -> String {
        self.ok(&[
            "journalctl",
            "--no-pager",
            "--output",
            "cat",
            "--unit",
            unit,
        ])
    }

    /// The processes of a user, one a line; nothing when there are none.
    pub fn processes_of(&self, user: &str) -> String {
        self.run(&["pgrep", "--list-full", "--uid", user]).stdout
    }
}

/// The id that `enqueue` printed.
#[track_caller]
fn number(output: &Output) -> i64 {
    output
        .stdout
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("a job's id on standard output\n{output}"))
}
