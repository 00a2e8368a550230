//! left4me-console with games that are threads of the test: many at once, and some that do not play
//! by the rules. Packets and replies of all kinds are tested beside the code that reads them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use left4me::wire::console::{ConsoleRequest, ConsoleResult, ConsoleVerb, Failure, ask, ask_many};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{CONSOLE, PATIENCE, Root, until};

const INFO: &[u8] = b"\xff\xff\xff\xffI\x11Friday\0c1m1_hotel\0left4dead2\0Left 4 Dead 2\0\x26\x02\
    \x04\x08\x01dl\0\x01\x32.2.4.3\0";
const PLAYERS: &[u8] = b"\xff\xff\xff\xffD\x02\0Zoey\0\x05\0\0\0\0\0\x80\x3f\0a\xffb\0\0\0\0\0\
    \0\0\x80\x3f";
const CHALLENGE: &[u8] = b"\xff\xff\xff\xffA\x01\x02\x03\x04";

/// A running left4me-console, killed on drop.
struct Console {
    root: Root,
    child: Child,
}

impl Console {
    fn start(idle_seconds: u32) -> Self {
        let root = Root::new();
        let child = Command::new(CONSOLE)
            .args(["--idle-seconds", &idle_seconds.to_string()])
            .envs(root.envs())
            .env("LEFT4ME_CONSOLE_SOCKET", root.join("console.sock"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let console = Self { root, child };
        until("it listens", || {
            UnixStream::connect(console.socket()).ok().map(drop)
        });
        console
    }

    fn socket(&self) -> PathBuf {
        self.root.join("console.sock")
    }

    fn ask(&self, port: u16, verb: ConsoleVerb) -> ConsoleResult {
        ask(&self.socket(), &request(1, port, verb), PATIENCE).unwrap()
    }

    fn exec(&self, port: u16, command: &str) -> ConsoleResult {
        let command = command.to_owned();
        self.ask(port, ConsoleVerb::Exec { command })
    }

    /// Ends it; returns what it logged.
    fn stop(mut self) -> String {
        kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        )
        .unwrap();
        self.log()
    }

    /// Waits until it has ended; returns what it logged.
    fn log(&mut self) -> String {
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn request(id: u32, port: u16, verb: ConsoleVerb) -> ConsoleRequest {
    ConsoleRequest {
        id,
        server: "7".parse().unwrap(),
        port,
        verb,
    }
}

/// A game on its own port: `answers` is called with each question, and sends.
fn game(answers: impl Fn(&UdpSocket, &[u8], std::net::SocketAddr) + Send + 'static) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut bytes = [0; 1500];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            answers(&socket, &bytes[..count], from);
        }
    });
    port
}

/// A game that plays by the rules.
fn honest() -> u16 {
    game(|socket, question, from| {
        let answer = match (question[4], question.ends_with(b"\x01\x02\x03\x04")) {
            (_, false) => CHALLENGE,
            (b'T', true) => INFO,
            (b'U', true) => PLAYERS,
            (_, true) => b"\xff\xff\xff\xffE\x01\0coop\x001\0",
        };
        socket.send_to(answer, from).unwrap();
    })
}

#[track_caller]
fn failure(result: &ConsoleResult) -> Failure {
    match result {
        ConsoleResult::Failed { kind, .. } => *kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_running_game_tells_its_players_and_settings() {
    let console = Console::start(600);
    let port = honest();
    let ConsoleResult::Look { info, players } = console.ask(port, ConsoleVerb::Look) else {
        panic!();
    };
    assert_eq!((&*info.name, &*info.map), ("Friday", "c1m1_hotel"));
    assert_eq!((info.players, info.bots, info.max_players), (3, 1, 8));
    let names: Vec<_> = players.iter().map(|player| &*player.name).collect();
    assert_eq!(names, ["Zoey", "a\u{fffd}b"]);

    let rules = console.ask(port, ConsoleVerb::Rules);
    let expected = ("coop".to_owned(), "1".to_owned());
    assert_eq!(rules, ConsoleResult::Rules(vec![expected]));
    assert_eq!(console.stop(), "");
}

#[test]
fn a_look_at_many_games_takes_no_longer_because_some_are_silent_or_hostile() {
    let console = Console::start(600);
    let hostile: [fn(&UdpSocket, &[u8], std::net::SocketAddr); 6] = [
        |_, _, _| {},
        |socket, _, from| drop(socket.send_to(&INFO[..30], from)),
        |socket, _, from| drop(socket.send_to(CHALLENGE, from)),
        |socket, _, from| {
            for _ in 0..50 {
                drop(socket.send_to(PLAYERS, from));
            }
        },
        // The first of 64 pieces, again and again.
        |socket, _, from| {
            let piece = [b"\xfe\xff\xff\xff\x07\0\0\0\x40\0\xe0\x04", &[0; 1200][..]].concat();
            drop(socket.send_to(&piece, from));
        },
        |socket, _, from| {
            let bomb = b"\xfe\xff\xff\xff\x07\0\0\x80\x01\0\xe0\x04\xff\xff\xff\x7f\0\0\0\0BZh9";
            drop(socket.send_to(bomb, from));
        },
    ];

    let mut ports: Vec<u16> = hostile.into_iter().map(game).collect();
    ports.extend((0..194).map(|_| honest()));
    let requests: Vec<_> = (0..)
        .zip(&ports)
        .map(|(id, port)| request(id, *port, ConsoleVerb::Look))
        .collect();

    for _ in 0..3 {
        let (started, mut answers) = (Instant::now(), Vec::new());
        ask_many(&console.socket(), &requests, PATIENCE, |answer| {
            answers.push((answer.id, answer.result, started.elapsed()));
        })
        .unwrap();
        answers.sort_by_key(|(id, ..)| *id);
        assert_eq!(answers.len(), 200);

        let failures: Vec<Failure> = answers[..6]
            .iter()
            .map(|(_, one, _)| failure(one))
            .collect();
        let bad = Failure::BadAnswer;
        assert_eq!(failures[0], Failure::NoAnswer);
        assert_eq!([failures[1], failures[2], failures[5]], [bad; 3]);
        let good = answers[6..]
            .iter()
            .filter(|(_, one, _)| matches!(one, ConsoleResult::Look { .. }));
        assert_eq!(good.count(), 194);
        // The games are threads of this process, on a machine that may be busy.
        assert!(
            answers
                .iter()
                .all(|(_, _, took)| *took < Duration::from_secs(10))
        );
    }

    let log = console.stop();
    let lines = log.lines().count();
    assert!((1..=6).contains(&lines), "one line per game:\n{log}");
    assert!(log.contains("it is compressed"), "{log}");
}

#[test]
fn a_command_gets_its_reply_and_some_are_refused() {
    let console = Console::start(600);
    let game = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = game.local_addr().unwrap().port();
    assert_eq!(failure(&console.exec(port, "status")), Failure::NoPassword);

    let password = "0123456789abcdefghijABCDEFGHIJxy";
    let file = console
        .root
        .write("instances/7/rcon_password", format!("{password}\n"));
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    std::thread::spawn(move || serve_rcon(&game.accept().unwrap().0));

    for _ in 0..3 {
        let text = format!("password ***, then status {}\n", "x".repeat(9000));
        assert_eq!(
            console.exec(port, "status"),
            ConsoleResult::Output { text, cut: false }
        );
    }
    for refused in [
        "quit",
        "say a; quit",
        "say a\nquit",
        "exit now",
        &"x".repeat(501),
    ] {
        let result = console.exec(port, refused);
        assert_eq!(failure(&result), Failure::Refused, "{refused}");
    }
    assert_eq!(failure(&console.exec(1, "status")), Failure::NotListening);
    assert_eq!(console.stop(), "");
}

/// Echoes commands, with the password, in packets of at most 4,096 bytes.
fn serve_rcon(mut stream: &TcpStream) {
    let mut password = Vec::new();
    let mut head = [0; 12];
    while stream.read_exact(&mut head).is_ok() {
        let number = |at: usize| i32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let (size, id, kind) = (number(0), number(4), number(8));
        let mut body = vec![0; usize::try_from(size).unwrap() - 8];
        stream.read_exact(&mut body).unwrap();
        body.truncate(body.len() - 2);

        let mut send = |kind: i32, body: &[u8]| {
            let size = i32::try_from(body.len() + 10).unwrap();
            let head: Vec<u8> = [size, id, kind]
                .iter()
                .flat_map(|n| n.to_le_bytes())
                .collect();
            stream.write_all(&[&head, body, b"\0\0"].concat()).unwrap();
        };
        match kind {
            3 => {
                password = body;
                send(0, b"");
                send(2, b"");
            }
            2 => {
                let command = [b", then ", &body[..], b" ", &[b'x'; 9000]].concat();
                let text = [b"password ", &password[..], &command].concat();
                text.chunks(4096).for_each(|piece| send(0, piece));
            }
            _ => {
                send(0, b"");
                send(0, b"\0\0\0\x01\0\0\0\0");
            }
        }
    }
}

#[test]
fn it_exits_when_nobody_asks_and_a_silent_client_does_not_keep_it() {
    let mut console = Console::start(1);
    let port = honest();
    let silent = UnixStream::connect(console.socket()).unwrap();
    assert!(matches!(
        console.ask(port, ConsoleVerb::Info),
        ConsoleResult::Info(_)
    ));

    assert_eq!(console.log(), "");
    drop(silent);
    assert!(!console.socket().exists(), "it bound the socket itself");
}

#[test]
fn a_client_that_goes_or_sends_nonsense_concerns_nobody_else() {
    let console = Console::start(600);
    let silent = game(|_, _, _| {});
    let line = serde_json::to_string(&request(1, silent, ConsoleVerb::Look)).unwrap();
    for _ in 0..200 {
        let mut client = UnixStream::connect(console.socket()).unwrap();
        client
            .write_all(format!("{line}\n").repeat(50).as_bytes())
            .unwrap();
    }
    let mut client = UnixStream::connect(console.socket()).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("not a request"), "{answer}");

    let port = honest();
    assert!(matches!(
        console.ask(port, ConsoleVerb::Info),
        ConsoleResult::Info(_)
    ));
}
