//! left4me-link with the real nats-server: three nodes on loopback, made by `left4me fleet init`. A
//! stand-in for left4me-gate speaks its protocol.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use left4me::base::keys::{PublicKey, Purpose};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{LEFT4ME, until};

const LINK: &str = env!("CARGO_BIN_EXE_left4me-link");

/// How long a test waits for what the engine has to agree on first.
const PATIENCE: Duration = Duration::from_secs(60);

fn patiently<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, condition)
}

fn within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends its process when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn pid(process: &Process) -> Pid {
    Pid::from_raw(process.0.id().cast_signed())
}

fn signal(process: &Process, signal: Signal) {
    kill(pid(process), signal).unwrap();
}

/// A fleet `home` with the controller fra-1.
struct Fleet {
    nodes: Vec<Option<Process>>,
    directory: tempfile::TempDir,
}

impl Fleet {
    fn new(count: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ports = crate::support::real_fleet::engine::free_ports(2 * count);

        let fleet = Self {
            nodes: (0..count).map(|_| None).collect(),
            directory,
        };
        let path = |below: &str| fleet.path(below).display().to_string();
        let (tls, data) = (path("fra-1/engine/NODE"), path("data/NODE"));
        let mut args = vec!["init", "home", "--host", "fra-1", "--node-tls", &tls];
        args.extend(["--node-data", &data]);
        let engine: Vec<_> = ports
            .chunks(2)
            .map(|ports| format!("127.0.0.1:{}:{}", ports[0], ports[1]))
            .collect();
        engine
            .iter()
            .for_each(|engine| args.extend(["--engine", engine]));
        fleet.command("fra-1", &args);
        fleet
    }

    /// With its nodes up and its streams made.
    fn up(count: usize) -> Self {
        let mut fleet = Self::new(count);
        for node in 0..count {
            fleet.start_node(node);
            fleet.is_ready(node);
        }
        fleet.prepare();
        fleet
    }

    /// Makes the streams, once the nodes answer.
    fn prepare(&self) {
        // On a busy machine the nodes elect several times.
        let begun = Instant::now();
        loop {
            let (code, text) = self.try_command("fra-1", &["init"]);
            if code == 0 {
                return;
            }
            assert!(
                begun.elapsed() < 2 * PATIENCE,
                "the engine has no streams: {text}\n{}",
                self.tell_nodes()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a node listens. Nodes that begin in the same moment connect to each other twice, close one of
    /// the two connections, and now and then never become a group: nats-server 2.10.
    fn is_ready(&self, index: usize) {
        let log = self.path(&format!("engine-{}.log", index + 1));
        patiently("a node is ready", || {
            let said = std::fs::read_to_string(&log).ok()?;
            said.contains("Server is ready").then_some(())
        });
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// The last that each node has logged.
    fn tell_nodes(&self) -> String {
        let logs = (1..=self.nodes.len()).map(|number| {
            let name = format!("engine-{number}");
            let log =
                std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(8)..].join("\n");
            format!("{name}:\n{last}\n")
        });
        logs.collect()
    }

    fn start_node(&mut self, index: usize) {
        let name = format!("engine-{}", index + 1);
        std::fs::create_dir_all(self.path(&format!("data/{name}"))).unwrap();
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(self.path(&format!("fra-1/engine/{name}/nats-server.conf")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server is in PATH: tests/run unpacks it into target/programs");
        self.nodes[index] = Some(Process(child));
    }

    fn try_command(&self, host: &str, args: &[&str]) -> (i32, String) {
        let output = Command::new(LEFT4ME)
            .arg("fleet")
            .args(args)
            .env("LEFT4ME_ENV_FILE", "/dev/null")
            .env("LEFT4ME_ROOT", self.path("root"))
            .env("LEFT4ME_FLEET_DIR", self.path(host))
            .env("LEFT4ME_LINK_SOCKET", self.path(&format!("{host}.sock")))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// What it prints on standard output and standard error.
    fn command(&self, host: &str, args: &[&str]) -> String {
        let (code, text) = self.try_command(host, args);
        assert_eq!(code, 0, "left4me fleet {args:?}: {text}");
        text
    }

    fn admit(&self, host: &str, more: &[&str]) {
        let text = self.command(host, &["join", host]);
        let words: Vec<_> = text.lines().next().unwrap().split(' ').collect();
        assert_eq!(words[..3], ["left4me", "fleet", "admit"], "{text}");
        let text = self.command("fra-1", &[&words[2..], more].concat());
        let ticket = self.path("ticket");
        std::fs::write(&ticket, text.lines().next().unwrap()).unwrap();
        let ticket = ticket.display().to_string();
        self.command(host, &["join", host, "--ticket", &ticket]);
    }

    /// The node that leads a stream, and whether all are well.
    fn leader(&self, stream: &str) -> Option<usize> {
        let (_, text) = self.try_command("fra-1", &["check"]);
        let line = text
            .lines()
            .find(|line| line.contains(&format!(" {stream},")))?;
        let number = line.split("led by engine-").nth(1)?;
        Some(number.chars().next()?.to_digit(10)? as usize - 1)
    }
}

/// What a stand-in for gate has and has got.
#[derive(Default)]
struct Book {
    orders: VecDeque<Value>,
    events: Vec<Value>,
    events_sent: i64,
    /// This process is stopped when there is something to take, before that is answered.
    freezes: Option<Pid>,
    cursors: [u64; 2],
    generations: [String; 2],
    /// `[source, sequence, subject, body]`.
    delivered: Vec<(String, u64, String, String)>,
    sent: Vec<Value>,
    link: Value,
    /// Refuses so many deliveries.
    refuses: u32,
    refuses_questions: bool,
    /// Messages without a key and a signature.
    unsigned: u32,
}

#[derive(Clone)]
struct Gate(Arc<Mutex<Book>>);

impl Gate {
    fn start(path: &Path, host: &str) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let gate = Self(Arc::default());
        let (book, host) = (gate.clone(), host.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (book, host) = (book.clone(), host.clone());
                std::thread::spawn(move || book.serve(stream, &host));
            }
        });
        gate
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: UnixStream, host: &str) {
        let mut to = stream.try_clone().unwrap();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let answer = self.answer(&serde_json::from_str(&line).unwrap(), host);
            if writeln!(to, "{answer}").is_err() {
                break;
            }
        }
    }

    fn answer(&self, request: &Value, host: &str) -> Value {
        let mut book = self.book();
        let controls = host.starts_with("fra");
        match request["do"].as_str().unwrap() {
            "take" => {
                book.link = request["link"].clone();
                for (index, name) in ["orders", "events"].into_iter().enumerate() {
                    let now = request["link"]["generations"][name]
                        .as_str()
                        .unwrap()
                        .to_owned();
                    if !now.is_empty() && book.generations[index] != now {
                        book.generations[index] = now;
                        book.cursors[index] = 0;
                    }
                }
                let is_open = request["limit"] != 0;
                if is_open
                    && !book.orders.is_empty()
                    && let Some(pid) = book.freezes.take()
                {
                    kill(pid, Signal::SIGSTOP).unwrap();
                }
                let events: Vec<_> = book
                    .events
                    .iter()
                    .filter(|event| is_open && event["seq"].as_i64().unwrap() > book.events_sent)
                    .cloned()
                    .collect();
                let orders: Vec<_> = book.orders.iter().filter(|_| is_open).cloned().collect();
                json!({
                    "answer": "taken", "orders": orders, "events": events,
                    "status": json!({"host": host}).to_string(),
                    "roster": null, "places": [],
                    "orders_after": book.cursors[0], "events_after": book.cursors[1],
                    "views": controls, "controls": controls, "more": false,
                })
            }
            "sent" => {
                for sent in request["orders"].as_array().unwrap() {
                    book.orders.retain(|order| order["id"] != sent["id"]);
                    book.sent.push(sent.clone());
                }
                if let Some(event) = request["events"].as_i64() {
                    book.events_sent = event;
                }
                json!({"answer": "done"})
            }
            "deliver" if book.refuses > 0 => {
                book.refuses -= 1;
                json!({"answer": "failed", "why": "the database is locked"})
            }
            "deliver" => {
                let from = request["from"].as_str().unwrap().to_owned();
                let messages = request["messages"].as_array().unwrap();
                for message in messages {
                    let is_signed = message["key"] != "" && message["signature"] != "";
                    book.unsigned += u32::from(!is_signed);
                    let body = STANDARD.decode(message["body"].as_str().unwrap()).unwrap();
                    let sequence = message["sequence"].as_u64().unwrap();
                    match from.as_str() {
                        "orders" => book.cursors[0] = sequence,
                        "events" => book.cursors[1] = sequence,
                        _ => {}
                    }
                    book.delivered.push((
                        from.clone(),
                        sequence,
                        message["subject"].as_str().unwrap().to_owned(),
                        String::from_utf8_lossy(&body).into_owned(),
                    ));
                }
                json!({"answer": "delivered", "sequence": 0, "noise": 0})
            }
            "ask" if book.refuses_questions => {
                json!({"answer": "failed", "why": "the database is locked"})
            }
            "ask" => {
                let body = json!({"by": request["from"], "question": request["question"]});
                json!({"answer": "answer", "body": body.to_string()})
            }
            _ => json!({"answer": "asked", "id": request["id"], "text": request["answer"]}),
        }
    }

    fn order(&self, id: &str, attempt: u32, to: &str, body: &str) {
        self.book().orders.push_back(json!({
            "id": id, "attempt": attempt, "to": to, "body": STANDARD.encode(body),
            "key": "U", "signature": "U0lH",
        }));
    }

    fn event(&self, seq: i64, body: &str) {
        let event = json!({"seq": seq, "body": body});
        self.book().events.push(event);
    }

    /// The bodies that came from there.
    fn delivered(&self, from: &str) -> Vec<String> {
        let book = self.book();
        let mine = book.delivered.iter().filter(|row| row.0 == from);
        mine.map(|row| row.3.clone()).collect()
    }

    fn link(&self) -> Value {
        self.book().link.clone()
    }

    fn is_connected(&self) -> Option<()> {
        (self.link()["connected"] == true).then_some(())
    }
}

/// left4me-link of a host, with its gate.
struct Host {
    gate: Gate,
    wake: PathBuf,
    ask: PathBuf,
    link: Option<Process>,
    command: Box<dyn Fn() -> Command>,
}

impl Host {
    /// `place` is where the process is: a copy of a host has another one.
    fn new(fleet: &Fleet, host: &str, place: &str) -> Self {
        let at = |below: &str| fleet.path(&format!("{place}.{below}"));
        let gate = Gate::start(&at("gate"), host);
        for directory in ["run", "state"] {
            std::fs::create_dir_all(at(directory)).unwrap();
        }
        let (wake, ask) = (at("sock"), at("ask"));
        let envs = [
            ("LEFT4ME_ENV_FILE", PathBuf::from("/dev/null")),
            ("LEFT4ME_FLEET_DIR", fleet.path(host)),
            ("LEFT4ME_LINK_SOCKET", wake.clone()),
            ("LEFT4ME_ASK_SOCKET", ask.clone()),
            ("LEFT4ME_GATE_SOCKET", at("gate")),
            ("RUNTIME_DIRECTORY", at("run")),
            ("STATE_DIRECTORY", at("state")),
        ];
        let log = at("log");
        let command = move || {
            let log = std::fs::File::options()
                .create(true)
                .append(true)
                .open(&log)
                .unwrap();
            let mut command = Command::new(LINK);
            command.envs(envs.clone()).stdin(Stdio::null()).stderr(log);
            command
        };
        Self {
            gate,
            wake,
            ask,
            link: None,
            command: Box::new(command),
        }
    }

    fn start(fleet: &Fleet, host: &str) -> Self {
        let mut started = Self::new(fleet, host, host);
        started.run();
        patiently("connected", || started.gate.is_connected());
        started
    }

    fn run(&mut self) {
        self.link = Some(Process((self.command)().spawn().unwrap()));
    }

    fn wake(&self) {
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(b"!", &self.wake).unwrap();
    }

    fn ask(&self, host: &str) -> Value {
        let mut stream = UnixStream::connect(&self.ask).unwrap();
        let question = json!({"host": host, "question": {"ask": "job", "job": 7}});
        writeln!(stream, "{question}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

/// A question or an answer, which this host has signed.
fn text_of(fleet: &Fleet, host: &str, purpose: Purpose, signed: &Value) -> Value {
    let text = std::fs::read_to_string(fleet.path(host).join("fleet.json")).unwrap();
    let known: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(signed["key"], known["key"]);
    let key: PublicKey = known["key"].as_str().unwrap().parse().unwrap();
    let body = signed["body"].as_str().unwrap();
    let signature = STANDARD
        .decode(signed["signature"].as_str().unwrap())
        .unwrap();
    assert!(
        key.verifies(purpose, body.as_bytes(), &signature),
        "{signed}"
    );
    serde_json::from_str(body).unwrap()
}

const ORDER: &str = "01KAZ6T5R8Y3W9M2F4B7C1D0XN";
const OTHER: &str = "01KAZ6T5R8Y3W9M2F4B7C1D0XP";

#[test]
fn orders_events_and_statuses_arrive_and_hosts_answer_questions() {
    let fleet = Fleet::up(3);
    fleet.admit("ams-1", &["--label", "region=eu"]);
    let (fra, ams) = (Host::start(&fleet, "fra-1"), Host::start(&fleet, "ams-1"));

    fra.gate.order(ORDER, 1, "ams-1", "restart");
    fra.wake();
    patiently("the order arrives", || {
        (ams.gate.delivered("orders") == ["restart"]).then_some(())
    });
    patiently("the sender knows", || fra.gate.book().sent.first().cloned());

    ams.gate.event(1, "accepted");
    ams.wake();
    patiently("the event arrives", || {
        fra.gate
            .delivered("events")
            .contains(&"accepted".to_owned())
            .then_some(())
    });
    patiently("the status arrives", || {
        fra.gate
            .delivered("hosts")
            .iter()
            .find(|body| body.contains("ams-1"))
            .cloned()
    });
    patiently("the roster arrives", || {
        fra.gate
            .delivered("roster")
            .iter()
            .find(|body| body.contains("region"))
            .cloned()
    });
    assert!(
        ams.gate.delivered("events").is_empty(),
        "ams-1 is no viewer"
    );

    let answer = fra.ask("ams-1");
    let answered: Value = text_of(&fleet, "ams-1", Purpose::Answer, &answer["text"]);
    assert_eq!(answered["by"], "fra-1", "{answered}");
    let asked = text_of(&fleet, "fra-1", Purpose::Question, &answered["question"]);
    assert_eq!(
        (&asked["from"], &asked["to"]),
        (&json!("fra-1"), &json!("ams-1"))
    );
    assert_eq!(
        (&asked["id"], &asked["question"]["job"]),
        (&answer["id"], &json!(7))
    );
    // What gate cannot do now is answered, too.
    ams.gate.book().refuses_questions = true;
    let answer = fra.ask("ams-1");
    let refused = text_of(&fleet, "ams-1", Purpose::Answer, &answer["text"]);
    let why = refused["said"]["refused"]["why"].as_str().unwrap();
    assert!(why.contains("the database is locked"), "{refused}");
    assert_eq!(refused["id"], answer["id"]);
    let answer = fra.ask("ber-1");
    assert!(
        answer["why"].as_str().unwrap().contains("not connected"),
        "{answer}"
    );
    // A host that is no viewer knows who may ask it, and may not ask.
    patiently("the roster arrives there, too", || {
        ams.gate.delivered("roster").first().cloned()
    });
    assert_eq!(ams.ask("fra-1")["answer"], "failed");
}

#[test]
fn the_same_attempt_is_kept_once_and_a_further_one_again() {
    let fleet = Fleet::up(1);
    fleet.admit("ams-1", &[]);
    let (fra, ams) = (Host::start(&fleet, "fra-1"), Host::start(&fleet, "ams-1"));
    for (attempt, body) in [(1, "same"), (1, "same"), (2, "same"), (1, "same")] {
        let sent = fra.gate.book().sent.len();
        fra.gate.order(ORDER, attempt, "ams-1", body);
        fra.wake();
        patiently("acknowledged", || {
            (fra.gate.book().sent.len() > sent).then_some(())
        });
    }
    fra.gate.order(OTHER, 1, "ams-1", "last");
    fra.wake();
    patiently("the last order", || {
        ams.gate
            .delivered("orders")
            .contains(&"last".to_owned())
            .then_some(())
    });
    assert_eq!(ams.gate.delivered("orders"), ["same", "same", "last"]);
}

#[test]
fn what_gate_cannot_take_is_delivered_again_and_nothing_before_it() {
    let fleet = Fleet::up(1);
    fleet.admit("ams-1", &[]);
    let (fra, ams) = (Host::start(&fleet, "fra-1"), Host::start(&fleet, "ams-1"));
    ams.gate.book().refuses = 2;
    fra.gate.order(ORDER, 1, "ams-1", "first");
    fra.gate.order(OTHER, 1, "ams-1", "second");
    fra.wake();
    patiently("both", || {
        (ams.gate.delivered("orders").len() >= 2).then_some(())
    });
    assert_eq!(ams.gate.delivered("orders"), ["first", "second"]);
}

#[test]
fn a_copy_of_a_living_host_is_refused_and_takes_its_place_when_it_dies() {
    let fleet = Fleet::up(1);
    fleet.admit("ams-1", &[]);
    let mut ams = Host::start(&fleet, "ams-1");
    let mut copy = Host::new(&fleet, "ams-1", "copy");
    copy.run();
    patiently("the copy knows", || {
        (copy.gate.link()["is_clone"] == true).then_some(())
    });
    assert_eq!(copy.gate.link()["connected"], false);
    patiently("the living one knows", || {
        let error = ams.gate.link()["error"].as_str()?.to_owned();
        error.contains("was refused").then_some(())
    });
    assert_eq!(ams.gate.link()["connected"], true);

    // Its own restart waits for nothing, even after a kill.
    ams.link = None;
    ams.gate.book().link = Value::Null;
    ams.run();
    until("connected again", || ams.gate.is_connected());
    assert_eq!(copy.gate.link()["is_clone"], true);

    ams.link = None;
    patiently("the copy takes its place", || copy.gate.is_connected());
    assert_eq!(copy.gate.link()["is_clone"], false);
}

#[test]
fn an_expelled_host_is_out_within_a_second_and_stays_out() {
    let fleet = Fleet::up(3);
    fleet.admit("ams-1", &[]);
    let (fra, mut ams) = (Host::start(&fleet, "fra-1"), Host::start(&fleet, "ams-1"));
    let begin = Instant::now();
    fleet.command("fra-1", &["expel", "ams-1"]);
    patiently("out", || {
        (ams.gate.link()["connected"] == false).then_some(())
    });
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );

    ams.link = None;
    ams.gate.book().link = Value::Null;
    ams.run();
    patiently("refused", || {
        let error = ams.gate.link()["error"].as_str()?.to_owned();
        error.contains("authorization violation").then_some(())
    });
    assert_eq!(ams.gate.link()["connected"], false);
    patiently("the others know", || {
        fra.gate
            .delivered("roster")
            .iter()
            .find(|body| body.contains("expelled_at"))
            .cloned()
    });

    // Its key is not admitted a second time.
    let keys = fleet.command("ams-1", &["join", "ams-1"]);
    let words: Vec<_> = keys.lines().next().unwrap().split(' ').skip(2).collect();
    let (code, text) = fleet.try_command("fra-1", &words);
    assert_eq!(code, 4, "{text}");
}

#[test]
fn a_dead_leader_delays_and_loses_nothing() {
    let mut fleet = Fleet::up(3);
    fleet.admit("ams-1", &[]);
    let (fra, ams) = (Host::start(&fleet, "fra-1"), Host::start(&fleet, "ams-1"));
    // Not before the other nodes have everything, too.
    patiently("all is well", || {
        (fleet.try_command("fra-1", &["check"]).0 == 0).then_some(())
    });
    let leader = patiently("a leader", || fleet.leader("ORDERS"));
    fleet.nodes[leader] = None;
    fra.gate.order(ORDER, 1, "ams-1", "restart");
    fra.wake();
    // On a busy machine the others elect several times: of the nodes, of the stream, of the leases.
    within(2 * PATIENCE, "the order arrives", || {
        (ams.gate.delivered("orders") == ["restart"]).then_some(())
    });
    let (code, text) = fleet.try_command("fra-1", &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("only 2 of 3 are up"), "{text}");
}

/// systemd kills it after the unit's TimeoutStopSec, and calls it failed.
#[test]
fn a_link_that_waits_for_an_engine_that_hangs_ends_when_it_is_told_to() {
    let fleet = Fleet::up(1);
    let mut fra = Host::start(&fleet, "fra-1");
    let node = fleet.nodes[0].as_ref().unwrap();
    fra.gate.book().freezes = Some(pid(node));
    fra.gate.order(ORDER, 1, "fra-1", "restart");
    fra.wake();
    patiently("link has the order, and the engine hangs", || {
        fra.gate.book().freezes.is_none().then_some(())
    });

    let link = fra.link.as_mut().unwrap();
    signal(link, Signal::SIGTERM);
    let unit = include_str!("../../systemd/left4me-link.service");
    let limit = unit.split("TimeoutStopSec=").nth(1).unwrap();
    let limit: u64 = limit.lines().next().unwrap().parse().unwrap();
    let status = within(Duration::from_secs(limit / 2), "its end", || {
        link.0.try_wait().unwrap()
    });
    assert!(status.success(), "{status}");
    signal(node, Signal::SIGCONT);
}

#[test]
fn streams_that_were_lost_and_made_again_are_read_from_their_beginning() {
    let mut fleet = Fleet::up(1);
    fleet.admit("ams-1", &[]);
    let (fra, ams) = (Host::start(&fleet, "fra-1"), Host::start(&fleet, "ams-1"));
    for (id, body) in [(ORDER, "one"), (OTHER, "two")] {
        fra.gate.order(id, 1, "ams-1", body);
    }
    fra.wake();
    patiently("both", || {
        (ams.gate.delivered("orders").len() == 2).then_some(())
    });
    let before = ams.gate.book().generations[0].clone();

    fleet.nodes[0] = None;
    std::fs::remove_dir_all(fleet.path("data")).unwrap();
    fleet.start_node(0);
    fleet.prepare();
    fra.gate.order(ORDER, 2, "ams-1", "one");
    fra.wake();
    patiently("the order arrives once more", || {
        (ams.gate.delivered("orders") == ["one", "two", "one"]).then_some(())
    });
    assert_ne!(ams.gate.book().generations[0], before);
    patiently("the roster is back", || {
        (fra.gate.delivered("roster").len() >= 2).then_some(())
    });
}

#[test]
fn a_link_that_does_not_stay_carries_what_waits_and_ends() {
    let fleet = Fleet::up(1);
    fleet.admit("ams-1", &[]);
    let fra = Host::start(&fleet, "fra-1");
    fra.gate.order(ORDER, 1, "ams-1", "restart");
    fra.wake();
    patiently("with the engine", || fra.gate.book().sent.first().cloned());

    let ams = Host::new(&fleet, "ams-1", "ams-1");
    ams.gate.event(1, "started");
    let mut visit = (ams.command)();
    let mut visit = Process(visit.env("LEFT4ME_FLEET_STAY", "no").spawn().unwrap());
    let ended = patiently("it ends", || visit.0.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
    assert_eq!(ams.gate.delivered("orders"), ["restart"]);
    assert_eq!(ams.gate.book().events_sent, 1);
}

/// Speaks to the engine as a host that has been taken over: with its key, without left4me-link.
struct Intruder {
    client: async_nats::Client,
    violations: Arc<Mutex<Vec<String>>>,
}

impl Intruder {
    async fn connect(fleet: &Fleet, host: &str) -> Self {
        let read = |name: &str| std::fs::read_to_string(fleet.path(host).join(name)).unwrap();
        let engine: Value = serde_json::from_str(&read("fleet.json")).unwrap();
        let key = Arc::new(left4me::base::keys::SigningKey::from_seed(&read("host.seed")).unwrap());
        let violations = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&violations);
        let sign = move |nonce: Vec<u8>| {
            let key = Arc::clone(&key);
            async move { key.sign_raw(&nonce).map_err(async_nats::AuthError::new) }
        };
        let client = async_nats::ConnectOptions::with_jwt(read("host.jwt").trim().to_owned(), sign)
            .add_root_certificates(fleet.path(host).join("ca.pem"))
            .custom_inbox_prefix(format!("_INBOX.{host}"))
            .event_callback(move |event| {
                heard.lock().unwrap().push(event.to_string());
                async {}
            })
            .connect(engine["engine"][0].as_str().unwrap())
            .await
            .unwrap();
        Self { client, violations }
    }

    /// Whether the engine has refused a subject.
    async fn is_refused(&self, subject: &str) -> bool {
        for _ in 0..500 {
            let found = self.violations.lock().unwrap().iter().any(|text| {
                text.to_lowercase().contains("permissions violation") && text.contains(subject)
            });
            if found {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

#[tokio::test]
async fn a_host_that_is_taken_over_can_order_and_read_nothing_of_others() {
    let fleet = Fleet::up(1);
    fleet.admit("ams-1", &[]);
    fleet.admit("ber-1", &[]);
    let intruder = Intruder::connect(&fleet, "ams-1").await;
    for subject in [
        "l4m.order.ber-1",
        "l4m.order.ams-1",
        "l4m.event.ber-1",
        "l4m.ask.ber-1.ams-1",
        "l4m.answer.fra-1.ber-1.x",
        "$KV.hosts.ber-1",
        "$KV.lease.ber-1",
        "$KV.roster.roster",
        "$KV.places.01KAZ6T5R8Y3W9M2F4B7C1D0XN",
        "$JS.API.CONSUMER.CREATE.ORDERS.ams-1",
        "$JS.API.CONSUMER.CREATE.ORDERS.ams-1.l4m.order.ber-1",
        "$JS.API.CONSUMER.MSG.NEXT.ORDERS.ber-1",
        "$JS.API.CONSUMER.CREATE.EVENTS.ams-1",
        "$JS.API.STREAM.MSG.GET.ORDERS",
        "$JS.API.STREAM.PURGE.ORDERS",
        "$JS.API.STREAM.DELETE.ORDERS",
        "$JS.API.STREAM.CREATE.MORE",
        "$SYS.REQ.CLAIMS.UPDATE",
    ] {
        intruder.client.publish(subject, "{}".into()).await.unwrap();
        assert!(intruder.is_refused(subject).await, "{subject}");
    }
    // A question of one's own opens no other subject.
    let mut own = intruder.client.subscribe("l4m.live.ams-1.x").await.unwrap();
    intruder
        .client
        .publish_with_reply("l4m.live.ams-1.x", "l4m.order.fra-1", "{}".into())
        .await
        .unwrap();
    own.next().await.unwrap();
    let subject = "l4m.order.fra-1";
    intruder.client.publish(subject, "{}".into()).await.unwrap();
    assert!(intruder.is_refused(subject).await, "{subject}");
    for subject in [
        "l4m.>",
        "l4m.order.ber-1",
        "l4m.live.ber-1.>",
        "_INBOX.>",
        "_INBOX.ber-1.>",
    ] {
        let _reads = intruder.client.subscribe(subject).await.unwrap();
        assert!(intruder.is_refused(subject).await, "{subject}");
    }
}

#[tokio::test]
async fn an_acknowledgement_that_is_sent_to_another_host_is_no_order() {
    let fleet = Fleet::up(1);
    fleet.admit("ams-1", &[]);
    fleet.admit("ber-1", &[]);
    let ber = Host::start(&fleet, "ber-1");
    let intruder = Intruder::connect(&fleet, "ams-1").await;
    intruder
        .client
        .publish_with_reply("l4m.event.ams-1", "l4m.order.ber-1", "{}".into())
        .await
        .unwrap();
    intruder.client.flush().await.unwrap();
    patiently("what the engine has stored", || {
        ber.gate.delivered("orders").first().cloned()
    });
    let book = ber.gate.book();
    let (_, _, subject, body) = book.delivered.iter().find(|row| row.0 == "orders").unwrap();
    assert_eq!(subject, "ber-1");
    assert!(body.contains("EVENTS"), "{body}");
    assert!(book.unsigned > 0, "it comes without a signature");
}

#[tokio::test]
async fn an_event_is_not_swallowed_by_another_host_that_uses_its_number_first() {
    let fleet = Fleet::up(1);
    fleet.admit("ams-1", &[]);
    fleet.admit("ber-1", &[]);
    let (fra, ams) = (Host::start(&fleet, "fra-1"), Host::start(&fleet, "ams-1"));
    let generation = patiently("the stream is known", || {
        let generation = ams.gate.book().generations[1].clone();
        (!generation.is_empty()).then_some(generation)
    });
    let intruder = Intruder::connect(&fleet, "ber-1").await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("ams-1:1@{generation}"));
    headers.insert("L4m-Key", "U".repeat(1_000));
    intruder
        .client
        .publish_with_headers("l4m.event.ber-1", headers, "first".into())
        .await
        .unwrap();
    intruder.client.flush().await.unwrap();
    patiently("the engine has it", || fra.gate.delivered("events").pop());
    ams.gate.event(1, "accepted");
    ams.wake();
    patiently("the event arrives", || {
        (fra.gate.delivered("events") == ["first", "accepted"]).then_some(())
    });
}
