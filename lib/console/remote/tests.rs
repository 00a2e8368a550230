//! Tests of `console::remote` against games that are threads here, and do not play by the rules.

use super::super::rcon::packet::{COMMAND, LOGIN, LOGIN_RESULT, Packet, Packets, RESPONSE, build};
use super::*;
use nix::poll::{PollFd, PollTimeout, poll};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{Receiver, channel};

/// What one connection of a game does.
type Play = fn(&mut Game);

/// The game's side of a connection.
struct Game {
    socket: TcpStream,
    packets: Packets,
}

impl Game {
    /// The next packet; none when the other side has closed the connection.
    fn next(&mut self) -> Option<Packet> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(packet) = self.packets.next().unwrap() {
                return Some(packet);
            }
            match self.socket.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.packets.add(&bytes[..count]),
            }
        }
    }

    fn send(&mut self, id: i32, kind: i32, body: &[u8]) {
        self.raw(&build(id, kind, body));
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).ok();
    }

    fn log_in(&mut self) {
        let login = self.next().unwrap();
        assert_eq!(login.kind, LOGIN);
        self.send(login.id, RESPONSE, b"");
        self.send(login.id, LOGIN_RESULT, b"");
    }

    /// The next command and the id of the empty packet after it.
    fn command(&mut self) -> Option<(Packet, i32)> {
        let command = self.next()?;
        assert_eq!(command.kind, COMMAND);
        let empty = self.next()?;
        assert_eq!((empty.kind, empty.body.len()), (RESPONSE, 0));
        Some((command, empty.id))
    }

    /// Plays by the rules: echoes each command.
    fn echo(&mut self) {
        while let Some((command, end)) = self.command() {
            self.send(command.id, RESPONSE, &command.body);
            self.send(end, RESPONSE, b"");
            self.send(end, RESPONSE, b"\0\0\0\x01\0\0\0\0");
        }
    }

    /// Waits until the other side closes the connection.
    fn wait(&mut self) {
        while self.next().is_some() {}
    }
}

struct Lab {
    dir: tempfile::TempDir,
    remote: Remote,
    /// One message for each connection that was accepted.
    accepted: Receiver<()>,
    /// What is to be added to the time.
    later: Duration,
}

impl Lab {
    /// A game whose connections play what `plays` says, the last of them for all further ones.
    fn new(plays: &'static [Play]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, accepted) = channel();
        std::thread::spawn(move || {
            for number in 0.. {
                let Ok((socket, _)) = listener.accept() else {
                    return;
                };
                if sender.send(()).is_err() {
                    return;
                }
                let mut game = Game {
                    socket,
                    packets: Packets::default(),
                };
                plays[number.min(plays.len() - 1)](&mut game);
            }
        });
        Self::at(port, accepted)
    }

    fn at(port: u16, accepted: Receiver<()>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("instances/7")).unwrap();
        let remote = Remote::new(dir.path(), &"7".parse().unwrap(), port);
        let lab = Self {
            dir,
            remote,
            accepted,
            later: Duration::ZERO,
        };
        lab.new_password();
        lab
    }

    fn new_password(&self) {
        let file = self.dir.path().join("instances/7").join(FILE);
        let password = RconPassword::generate().unwrap();
        std::fs::write(&file, format!("{}\n", password.expose())).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn now(&self) -> Instant {
        Instant::now() + self.later
    }

    fn push(&mut self, id: u32, text: &str) -> Option<ConsoleResult> {
        let now = self.now();
        self.remote
            .push(now, Ticket { client: 1, id }, text.to_owned())
    }

    /// Runs until all commands have ended. The time of the remote passes faster than ours: whenever
    /// nothing happens for a moment, its next deadline is there.
    fn run(&mut self) -> Vec<(u32, ConsoleResult)> {
        let mut all = Vec::new();
        loop {
            let (ended, _) = self.remote.advance(self.now(), &mut Sockets::Own);
            all.extend(
                ended
                    .into_iter()
                    .map(|(ticket, result)| (ticket.id, result)),
            );
            if !self.remote.is_busy() {
                return all;
            }

            let Some((fd, flags)) = self.remote.events() else {
                panic!("nothing to wait for: {all:?}");
            };
            let mut fds = [PollFd::new(fd, flags)];
            if poll(&mut fds, PollTimeout::from(200_u16)).unwrap() == 0 {
                let due = self.remote.due().unwrap();
                self.later += due.saturating_duration_since(self.now());
            }
        }
    }

    fn exec(&mut self, text: &str) -> ConsoleResult {
        assert_eq!(self.push(1, text), None);
        let mut ended = self.run();
        assert_eq!(ended.len(), 1, "{ended:?}");
        ended.remove(0).1
    }

    fn connections(&self) -> usize {
        self.accepted.try_iter().count()
    }
}

fn output(text: &str) -> ConsoleResult {
    ConsoleResult::Output {
        text: text.to_owned(),
        cut: false,
    }
}

#[track_caller]
fn failure(result: &ConsoleResult) -> (Failure, &str) {
    match result {
        ConsoleResult::Failed { kind, message } => (*kind, message),
        other => panic!("{other:?}"),
    }
}

const HONEST: Play = |game| {
    game.log_in();
    game.echo();
};

#[test]
fn commands_of_a_server_use_one_connection_in_their_order() {
    let mut lab = Lab::new(&[HONEST]);
    for id in 0..20 {
        assert_eq!(lab.push(id, &format!("say {id}")), None);
    }
    let expected: Vec<_> = (0..20)
        .map(|id| (id, output(&format!("say {id}\n"))))
        .collect();
    assert_eq!(lab.run(), expected);
    assert_eq!(lab.exec("status"), output("status\n"));
    assert_eq!(lab.connections(), 1);
}

#[test]
fn a_long_reply_comes_whole_and_has_no_password_in_it() {
    let mut lab = Lab::new(&[|game| {
        let login = game.next().unwrap();
        game.send(login.id, LOGIN_RESULT, b"");
        let (command, end) = game.command().unwrap();
        for _ in 0..10 {
            game.send(command.id, RESPONSE, &[b'x'; 4096]);
        }
        game.send(command.id, RESPONSE, &login.body);
        game.send(end, RESPONSE, b"");
        game.wait();
    }]);
    let expected = format!("{}***\n", "x".repeat(40_960));
    assert_eq!(lab.exec("cvarlist"), output(&expected));
}

#[test]
fn a_game_that_was_restarted_between_two_commands_gets_the_second_over_a_new_connection() {
    let mut lab = Lab::new(&[
        |game| {
            game.log_in();
            let (command, end) = game.command().unwrap();
            game.send(command.id, RESPONSE, b"first");
            game.send(end, RESPONSE, b"");
        },
        HONEST,
    ]);
    assert_eq!(lab.exec("one"), output("first\n"));
    assert_eq!(lab.exec("two"), output("two\n"));
    assert_eq!(lab.connections(), 2);
}

#[test]
fn a_command_that_may_have_arrived_is_not_sent_again() {
    let mut lab = Lab::new(&[
        |game| {
            game.log_in();
            let (command, end) = game.command().unwrap();
            game.send(command.id, RESPONSE, b"");
            game.send(end, RESPONSE, b"");
            // Takes the second one and goes.
            game.command().unwrap();
        },
        HONEST,
    ]);
    assert_eq!(lab.exec("one"), output(""));
    let result = lab.exec("changelevel c1m1_hotel");
    let (kind, message) = failure(&result);
    assert_eq!(kind, Failure::BadAnswer);
    assert!(message.contains("may have been carried out"), "{message}");
    assert_eq!(lab.exec("three"), output("three\n"));
    assert_eq!(lab.connections(), 2);
}

#[test]
fn a_refused_password_is_tried_again_only_when_it_changes() {
    let mut lab = Lab::new(&[
        |game| {
            let login = game.next().unwrap();
            game.send(login.id, RESPONSE, b"");
            game.send(-1, LOGIN_RESULT, b"");
            game.wait();
        },
        HONEST,
    ]);
    for id in 0..3 {
        assert_eq!(lab.push(id, "status"), None);
    }
    let ended = lab.run();
    assert_eq!(ended.len(), 3, "none of them can succeed");
    assert!(
        ended
            .iter()
            .all(|(_, result)| failure(result).0 == Failure::WrongPassword)
    );

    for _ in 0..20 {
        assert_eq!(failure(&lab.exec("status")).0, Failure::WrongPassword);
    }
    assert_eq!(lab.connections(), 1);
    assert!(lab.remote.remembers(lab.now()) && !lab.remote.is_over(lab.now()));

    lab.new_password();
    assert_eq!(lab.exec("status"), output("status\n"));
    assert!(!lab.remote.remembers(lab.now()));
}

#[test]
fn a_game_that_was_restarted_after_it_refused_the_password_is_tried_again() {
    const REFUSES: Play = |game| {
        let login = game.next().unwrap();
        game.send(login.id, RESPONSE, b"");
        game.send(-1, LOGIN_RESULT, b"");
    };
    let ended = |lab: &Lab| {
        let (socket, flags) = lab.remote.events().unwrap();
        poll(&mut [PollFd::new(socket, flags)], PollTimeout::NONE).unwrap();
    };

    // The connection ends at once: the game may do that on its own.
    let mut lab = Lab::new(&[REFUSES, HONEST]);
    assert_eq!(failure(&lab.exec("status")).0, Failure::WrongPassword);
    ended(&lab);
    assert_eq!(failure(&lab.exec("status")).0, Failure::WrongPassword);
    lab.later += HANG_UP_TIME * 2;
    assert_eq!(failure(&lab.exec("status")).0, Failure::WrongPassword);

    // It ends later: that is the game's end.
    let mut lab = Lab::new(&[REFUSES, HONEST]);
    assert_eq!(failure(&lab.exec("status")).0, Failure::WrongPassword);
    ended(&lab);
    lab.later += HANG_UP_TIME * 2;
    assert_eq!(lab.exec("status"), output("status\n"));
}

#[test]
fn what_keeps_a_command_from_the_game_is_told_by_its_kind() {
    // Nothing listens.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut lab = Lab::at(port, channel().1);
    assert_eq!(failure(&lab.exec("status")).0, Failure::NotListening);

    // The password is missing or unusable.
    let mut lab = Lab::new(&[HONEST]);
    let file = lab.dir.path().join("instances/7").join(FILE);
    std::fs::write(&file, "x\n").unwrap();
    let result = lab.exec("status");
    assert!(
        failure(&result).1.contains("holds no password"),
        "{result:?}"
    );
    std::fs::remove_file(&file).unwrap();
    assert_eq!(failure(&lab.exec("status")).0, Failure::NoPassword);
    assert_eq!(lab.connections(), 0);

    // Banned: the game hangs up on it.
    let mut lab = Lab::new(&[|_| {}]);
    assert_eq!(failure(&lab.exec("status")).0, Failure::Banned);
}

#[test]
fn a_hostile_game_costs_a_moment_and_each_command_gets_its_answer() {
    const HOSTILE: &[(Play, Failure, &str)] = &[
        // A login that is never answered.
        (|game| game.wait(), Failure::TimedOut, "was not sent"),
        (
            |game| {
                game.next();
                game.raw(&i32::MAX.to_le_bytes());
                game.wait();
            },
            Failure::BadAnswer,
            "2147483647 bytes",
        ),
        (
            |game| {
                game.next();
                game.raw(&3_i32.to_le_bytes());
                game.wait();
            },
            Failure::BadAnswer,
            "3 bytes",
        ),
        (
            |game| {
                game.next();
                game.send(42, LOGIN_RESULT, b"");
                game.wait();
            },
            Failure::BadAnswer,
            "login",
        ),
        (
            |game| {
                game.next();
                game.send(1, RESPONSE, b"");
            },
            Failure::BadAnswer,
            "during the login",
        ),
        // Hangs up after each login.
        (|game| game.log_in(), Failure::BadAnswer, "closed"),
        // A command that is never answered.
        (
            |game| {
                game.log_in();
                game.wait();
            },
            Failure::TimedOut,
            "may have been carried out",
        ),
        (
            |game| {
                game.log_in();
                let (command, _) = game.command().unwrap();
                let packet = build(command.id, RESPONSE, &[b'x'; 4096]);
                while game.socket.write_all(&packet).is_ok() {}
            },
            Failure::BadAnswer,
            "without an end",
        ),
        (
            |game| {
                game.log_in();
                let (command, _) = game.command().unwrap();
                let packet = build(command.id, RESPONSE, b"half");
                game.raw(&packet[..packet.len() - 3]);
            },
            Failure::BadAnswer,
            "before its reply was complete",
        ),
        (
            |game| {
                game.log_in();
                let (command, _) = game.command().unwrap();
                let packet = build(command.id + 7, RESPONSE, b"nobody asked");
                while game.socket.write_all(&packet).is_ok() {}
            },
            Failure::BadAnswer,
            "nobody asked for",
        ),
    ];

    for (play, kind, words) in HOSTILE {
        let mut lab = Lab::new(std::slice::from_ref(play));
        let started = Instant::now();
        let result = lab.exec("status");
        let (found, message) = failure(&result);
        assert_eq!(found, *kind, "{message}");
        assert!(message.contains(words), "{message}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn the_reply_of_a_game_that_never_sends_the_empty_packet_back_is_passed_on() {
    let mut lab = Lab::new(&[|game| {
        game.log_in();
        let (command, _) = game.command().unwrap();
        game.send(command.id, RESPONSE, b"text");
        game.wait();
    }]);
    assert_eq!(lab.push(1, "one"), None);
    assert_eq!(lab.push(2, "two"), None);
    assert_eq!(lab.run(), [(1, output("text\n")), (2, output("text\n"))]);
    assert_eq!(lab.connections(), 2, "what is late is not the next reply");
}

#[test]
fn only_so_many_commands_wait_and_none_for_long() {
    let mut lab = Lab::new(&[|game| {
        game.log_in();
        game.wait();
    }]);
    let most = u32::try_from(MOST_WAITING).unwrap();
    for id in 0..most {
        assert_eq!(lab.push(id, "status"), None);
    }
    let refused = lab.push(most, "status");
    assert_eq!(failure(&refused.unwrap()).0, Failure::Busy);

    lab.remote.forget(1);
    assert_eq!(lab.push(7, "status"), None);
    let ended = lab.run();
    assert_eq!(ended.len(), 1);
    assert!(
        ended
            .iter()
            .all(|(_, result)| failure(result).0 == Failure::TimedOut)
    );
}
