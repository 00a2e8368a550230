//! The engine of a fleet: real nats-servers on loopback. As root, each has a disk of its own that can lose its
//! power: what was not synced is gone then.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::super::{is_real_root, until};

/// Some nodes; their processes and disks end with it.
pub struct Engine {
    pub nodes: Vec<Node>,
    disks: Option<Disks>,
}

pub struct Node {
    /// Its name among the nodes: `engine-1`.
    pub name: String,
    /// Where hosts connect.
    pub port: u16,
    pub cluster_port: u16,
    monitor: u16,
    conf: PathBuf,
    data: PathBuf,
    child: Option<Child>,
}

impl Engine {
    /// Nodes with ports that are free now. None runs until [`Engine::start`]: its configuration has to be
    /// written first, with [`Node::data`] as the directory of its data.
    pub fn new(count: usize, directory: &Path) -> Self {
        let ports = free_ports(count * 3);
        let disks = is_real_root().then(Disks::new);
        let nodes = (0..count).map(|index| {
            let data = directory.join(format!("engine-{}", index + 1));
            std::fs::create_dir_all(&data).expect("a directory");
            Node {
                name: format!("engine-{}", index + 1),
                port: ports[index * 3],
                cluster_port: ports[index * 3 + 1],
                monitor: ports[index * 3 + 2],
                conf: PathBuf::new(),
                data,
                child: None,
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        if let Some(disks) = &disks {
            for node in &nodes {
                disks.make(&node.data);
            }
        }
        Self { nodes, disks }
    }

    /// Starts a node, for the first time or again.
    pub fn start(&mut self, index: usize, conf: &Path) {
        conf.clone_into(&mut self.nodes[index].conf);
        self.start_again(index);
    }

    pub fn start_again(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let mut command = match &self.disks {
            Some(disks) => disks.command(),
            None => Command::new("setpriv"),
        };
        command.args(["--pdeathsig", "KILL", "nats-server", "-c"]);
        command
            .arg(&node.conf)
            .args(["-m", &node.monitor.to_string()]);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(node.conf.with_extension("log"))
            .expect("a log");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn();
        node.child = Some(child.expect(
            "nats-server is missing: tests/run brings it (Debian 13's, in target/programs/trixie/usr/sbin)",
        ));
    }

    /// Waits until a node listens. Nodes that begin in the same moment connect to each other twice, close one of
    /// the two connections, and now and then never become a group: nats-server 2.10.
    pub fn listens(&self, index: usize) {
        let node = &self.nodes[index];
        until(&format!("{} listens", node.name), || {
            TcpStream::connect(("127.0.0.1", node.port)).ok().map(drop)
        });
    }

    /// Starts the nodes that do not run.
    pub fn start_missing(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].child.is_none() {
                self.start_again(index);
            }
        }
    }

    /// Kills a node with SIGKILL.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.nodes[index].child.take() {
            child.kill().ok();
            child.wait().expect("wait");
        }
    }

    /// Waits until all nodes are healthy, and each stream has a leader.
    pub fn settled(&self) {
        for node in &self.nodes {
            until(&format!("{} is healthy", node.name), || {
                let answer = node.ask("/healthz")?;
                (answer["status"] == "ok").then_some(())
            });
        }
    }

    /// Which node leads a stream.
    pub fn leader(&self, stream: &str) -> Option<usize> {
        let of = |node: &Node| {
            let answer = node.ask("/jsz?accounts=true&streams=true")?;
            let accounts = answer["account_details"].as_array()?.clone();
            let streams = accounts
                .iter()
                .filter_map(|account| account["stream_detail"].as_array());
            let found = streams.flatten().find(|found| found["name"] == stream)?;
            Some(found["cluster"]["leader"].as_str()?.to_owned())
        };
        let leader = self.nodes.iter().find_map(of)?;
        self.nodes.iter().position(|node| node.name == leader)
    }

    /// All nodes lose their power at once, and what they had not synced. Without root they are only killed.
    pub fn cut_power(&mut self) {
        if let Some(disks) = &self.disks {
            for node in &self.nodes {
                disks.shut_down(&node.data);
            }
        }
        for index in 0..self.nodes.len() {
            self.kill(index);
        }
        if let Some(disks) = &self.disks {
            for node in &self.nodes {
                disks.mount_again(&node.data);
            }
        }
        for index in 0..self.nodes.len() {
            self.start_again(index);
        }
    }

    /// A node gets a new, empty disk.
    pub fn wipe(&mut self, index: usize) {
        self.kill(index);
        let data = self.nodes[index].data.clone();
        match &self.disks {
            Some(disks) => {
                disks.unmount(&data);
                disks.make(&data);
            }
            None => {
                std::fs::remove_dir_all(&data).expect("it is removed");
                std::fs::create_dir(&data).expect("a directory");
            }
        }
        self.start_again(index);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for index in 0..self.nodes.len() {
            self.kill(index);
        }
    }
}

impl Node {
    /// Where it keeps what it has.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Asks its monitoring port.
    pub fn ask(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

/// File systems in files, mounted in a mount namespace of their own, which ends with the test.
struct Disks {
    /// It holds the namespace as long as its standard input is open.
    holder: Child,
}

impl Disks {
    fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                "echo; exec cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let mut line = [0];
        let out = holder.stdout.as_mut().expect("a pipe");
        out.read_exact(&mut line).expect("the namespace is there");
        Self { holder }
    }

    /// `setpriv` in the namespace: what ends with this process.
    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.holder.id().to_string();
        command.args(["--mount", "--target", &target, "--", "setpriv"]);
        command
    }

    #[track_caller]
    fn run(&self, script: &str, data: &Path) {
        let target = self.holder.id().to_string();
        let output = Command::new("nsenter")
            .args([
                "--mount", "--target", &target, "--", "sh", "-ec", script, "sh",
            ])
            .arg(data)
            .output()
            .expect("nsenter runs");
        assert!(output.status.success(), "{script}: {output:?}");
    }

    fn make(&self, data: &Path) {
        self.run(
            "rm -f \"$1.disk\"; truncate --size=1G \"$1.disk\"; mkfs.ext4 -q -m 0 \"$1.disk\"; mount -o loop \"$1.disk\" \"$1\"",
            data,
        );
    }

    fn unmount(&self, data: &Path) {
        self.run("umount \"$1\"", data);
    }

    fn mount_again(&self, data: &Path) {
        self.run("umount \"$1\"; mount -o loop \"$1.disk\" \"$1\"", data);
    }

    /// EXT4_IOC_SHUTDOWN, without a flush of the journal: from now on nothing reaches the disk.
    fn shut_down(&self, data: &Path) {
        self.run(
            r#"perl -e 'open(my $d, "<", $ARGV[0]) or die $!; my $how = pack("L", 2); ioctl($d, 0x8004587d, $how) or die $!' "$1""#,
            data,
        );
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}

/// Ports that are free now, and below those that the kernel gives to connections: while a node is
/// down, none takes its port. Not those of games, from 27000 on. Tests in other processes begin their search
/// elsewhere.
pub fn free_ports(count: usize) -> Vec<u16> {
    let first = 11_000 + (std::process::id() % 700) * 20;
    let free = (first..26_000)
        .chain(11_000..first)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.take(count).collect()
}
