//! Serves helper.sock with one script per server of a batch, as if each had a connection of its own.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::socket::{MsgFlags, recv};
use serde_json::{Value, json};

use super::{Envs, SocketUnit, accept_with, start, until};

type Children = Arc<Mutex<Vec<Child>>>;

/// As [`super::accept`], but a batch gets an instance of `argv` per server. Each reads the request
/// for its one server, and control lines for it.
pub fn accept_batches(path: &Path, argv: &[&str], envs: &Envs) -> SocketUnit {
    let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
    let envs = envs.clone();
    accept_with(path, move |connection, children| {
        if !is_batch(&connection) {
            children.lock().unwrap().push(run(&argv, &envs, connection));
            return;
        }

        let batch = Batch {
            argv: argv.clone(),
            envs: envs.clone(),
            children: Arc::clone(children),
            client: Arc::new(Mutex::new(connection.try_clone().unwrap())),
            operations: Arc::default(),
        };
        thread::spawn(move || batch.serve(connection));
    })
}

/// Sends one line at once. The other side may be gone.
fn send(to: &mut &UnixStream, line: &Value) {
    let _ = to.write_all(format!("{line}\n").as_bytes());
}

fn run(argv: &[String], envs: &Envs, connection: UnixStream) -> Child {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    start(&words, envs, connection, Stdio::inherit())
}

/// Whether the first line, which stays unread, is a batch.
fn is_batch(connection: &UnixStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        let flags = MsgFlags::MSG_PEEK;
        let count = recv(connection.as_raw_fd(), &mut bytes, flags).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..count]);
        if count == 0 || text.contains('\n') {
            return text.contains("\"servers\"");
        }
        thread::yield_now();
    }
}

#[derive(Clone)]
struct Batch {
    argv: Vec<String>,
    envs: Envs,
    children: Children,
    client: Arc<Mutex<UnixStream>>,
    /// The connections of the scripts that run, by server.
    operations: Arc<Mutex<HashMap<String, UnixStream>>>,
}

impl Batch {
    fn serve(self, connection: UnixStream) {
        let mut unit = self.unit(&connection);
        let mut threads = Vec::new();
        for line in BufReader::new(connection).lines() {
            let Ok(line) = line else { break };
            let line: Value = serde_json::from_str(&line).unwrap();
            if let Some(how) = line.get("cancel") {
                let operations = self.operations.lock().unwrap();
                let operation = line["server"].as_str().and_then(|id| operations.get(id));
                if let Some(mut operation) = operation {
                    send(&mut operation, &json!({ "cancel": how }));
                }
                continue;
            }

            for server in line["servers"].as_array().unwrap() {
                let server = server.as_str().unwrap().to_owned();
                threads.push(self.begin(&line["verb"], server));
            }
            if line["more"] != true {
                threads.drain(..).for_each(|thread| thread.join().unwrap());
                let end = json!({"exit": 0, "ended_by": "exit", "tree": "empty"});
                send(&mut &*self.client.lock().unwrap(), &end);
                break;
            }
        }

        for operation in self.operations.lock().unwrap().values() {
            let _ = operation.shutdown(Shutdown::Both);
        }
        let _ = unit.kill();
        let _ = unit.wait();
    }

    /// The process that serves the connection, as the client sees it: the sender of the first answer.
    /// It lives as long as the connection.
    fn unit(&self, connection: &UnixStream) -> Child {
        let answer = r#"{"started":{"unit":"left4me-helper@x.service","pid":0,"cgroup":""}}"#;
        let script = format!("printf '%s\\n' '{answer}' >&3; exec 3>&- sleep 600");
        let argv = ["/bin/bash", "-c", &script].map(str::to_owned);
        let child = run(&argv, &self.envs, connection.try_clone().unwrap());

        let comm = format!("/proc/{}/comm", child.id());
        until("the first answer is sent", || {
            let name = std::fs::read_to_string(&comm).unwrap_or_default();
            (name.trim_end() == "sleep").then_some(())
        });
        child
    }

    fn begin(&self, verb: &Value, server: String) -> thread::JoinHandle<()> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // The order of the keys as in a request of its own.
        let request = format!("{{\"verb\":{verb},\"server\":\"{server}\",\"observe\":true}}\n");
        (&ours).write_all(request.as_bytes()).unwrap();

        let control = ours.try_clone().unwrap();
        self.operations
            .lock()
            .unwrap()
            .insert(server.clone(), control);
        let child = run(&self.argv, &self.envs, theirs);
        self.children.lock().unwrap().push(child);

        let batch = self.clone();
        thread::spawn(move || batch.relay(ours, &server))
    }

    /// Passes on the answers of one script, with its server. A script that dies without an end takes
    /// the connection with it.
    fn relay(&self, answers: UnixStream, server: &str) {
        for line in BufReader::new(answers).lines() {
            let Ok(line) = line else { break };
            let mut answer: Value = serde_json::from_str(&line).unwrap();
            answer["server"] = server.into();
            let is_last = answer.get("exit").is_some();
            if is_last {
                self.operations.lock().unwrap().remove(server);
            }
            send(&mut &*self.client.lock().unwrap(), &answer);
            if is_last {
                return;
            }
        }

        let client = self.client.lock().unwrap();
        let _ = client.shutdown(Shutdown::Both);
    }
}
