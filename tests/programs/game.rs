//! The commands about a running game: what is recorded before they are sent, what they print, and
//! their exit codes. A stand-in answers in place of left4me-console.

use std::sync::{Arc, Mutex};

use left4me::db::events;
use left4me::wire::console::{ConsoleRequest, ConsoleResult, Failure};
use rusqlite::Connection;
use serde_json::json;

use crate::support::Finished;
use crate::support::console::{self, command, failed, look, output};
use crate::support::host::TestHost;

const STATUS: &str = "hostname: Friday\n\
map     : c1m1_hotel\n\
players : 2 humans, 1 bots (8 max) (not hibernating) (unreserved)\n\n\
# userid name uniqueid connected ping loss state rate adr\n\
# 7 1 \"Bad Guy\" STEAM_1:0:70 05:40 99 0 active 30000 192.0.2.4:44563\n\
# 8 2 \"x\" STEAM_1:1:80 1:00:00 30 0 active 30000 192.0.2.5:44563\n\
#10 \"Coach\" BOT active\n#end\n";

/// A host with the running server S1, and the commands that its game got.
struct Game {
    host: TestHost,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Game {
    /// The game answers `status`, `look`, and everything else as `answer` says.
    fn new(answer: impl Fn(&str) -> Option<ConsoleResult> + Clone + Send + 'static) -> Self {
        let host = TestHost::with_servers(2);
        sql(
            &host,
            "UPDATE servers SET desired_state = 'running', actual_state = 'running' WHERE id = 1;
             UPDATE servers SET actual_state = 'stopped' WHERE id = 2",
        );

        let sent = Arc::new(Mutex::new(Vec::new()));
        let (commands, database) = (sent.clone(), host.database());
        console::serve(
            &host.root.join("console.sock"),
            move |request: &ConsoleRequest| {
                assert_eq!((request.server.as_str(), request.port), ("1", 27000));
                let Some(command) = command(request) else {
                    return Some(look(&["Bad Guy", "\u{1b}[31mred"]));
                };

                // Committed before it is sent.
                let last: String = Connection::open(&database)
                .unwrap()
                .query_row(
                    "SELECT detail FROM events WHERE kind = 'server.command' ORDER BY id DESC LIMIT 1",
                    [],
                    |row| row.get(0),
                )
                .unwrap();
                assert_eq!(last, command);

                commands.lock().unwrap().push(command.to_owned());
                if command == "status" {
                    Some(output(STATUS))
                } else {
                    answer(command)
                }
            },
        );

        Self { host, sent }
    }

    fn run(&self, args: &[&str]) -> Finished {
        self.host.left4me(&[&["server"], args].concat())
    }

    fn sent(&self) -> Vec<String> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    /// The kept reply of the newest command.
    fn kept(&self) -> Vec<String> {
        let db = self.host.db();
        let history = events::of_server(db.connection(), left4me::base::names::ServerId(1), 1);
        history.unwrap().remove(0).journal
    }
}

fn sql(host: &TestHost, sql: &str) {
    let connection = Connection::open(host.database()).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn silent(_: &str) -> Option<ConsoleResult> {
    Some(output(""))
}

#[test]
fn a_command_is_an_event_before_it_is_sent_and_the_event_keeps_the_reply() {
    let game = Game::new(|_| {
        Some(output(&format!(
            "\"sv_x\" = \"1\"\n{}",
            "long\n".repeat(2000)
        )))
    });
    let out = game.run(&["exec", "S1", "sv_x 1"]).done();
    assert!(out.starts_with("\"sv_x\" = \"1\"\nlong\n") && out.len() > 10_000);
    assert_eq!(game.sent(), ["sv_x 1"]);

    let kept = game.kept();
    assert_eq!(kept[0], "\"sv_x\" = \"1\"");
    let bytes: usize = kept.iter().map(|line| line.len() + 1).sum();
    assert!((4000..4200).contains(&bytes), "{bytes}");

    let history = game.run(&["history", "S1", "--json"]).json();
    assert_eq!(history[0]["kind"], "server.command");
    assert_eq!(history[0]["detail"], "sv_x 1");
    assert_ne!(history[0]["actor"], "outside");

    let text = game.run(&["history", "S1", "--journal"]).done();
    assert!(
        text.contains("command, ") && text.contains("    \"sv_x\" = \"1\""),
        "{text}"
    );
}

#[test]
fn what_must_not_be_sent_is_refused_and_leaves_no_event() {
    let game = Game::new(silent);
    let long = "x".repeat(10 * 1024);
    for (command, words) in [
        ("say a\nquit", "line break"),
        ("say a; quit", "';'"),
        (long.as_str(), "500 bytes"),
        ("quit", "use stop or restart"),
        ("sm_rcon \"killserver\"", "use stop or restart"),
        ("rcon_password", "rotate-rcon"),
        (" ", "empty"),
    ] {
        game.run(&["exec", "S1", command]).refused(2, &[words]);
    }

    game.run(&["exec", "S2", "status"])
        .refused(4, &["server 2", "not running", "enqueue start --server 2"]);
    game.run(&["players", "S2"]).refused(4, &["not running"]);
    game.run(&["exec", "S9", "status"]).refused(3, &["S9"]);
    game.run(&["say", "S1", "\";\n"])
        .refused(2, &["nothing to say"]);
    game.run(&["map", "S1", "a b"]).refused(2, &["a b"]);

    assert_eq!(game.sent(), [] as [&str; 0]);
    let history = game.run(&["history", "S1", "--json"]).json();
    assert!(!history.to_string().contains("server.command"), "{history}");
}

#[test]
fn a_text_from_people_stays_one_command() {
    let game = Game::new(silent);
    game.run(&["say", "S1", "restart at 5;", "\"quit\"\nexit\u{202e}"])
        .done();
    assert_eq!(game.sent(), ["say restart at 5 quit exit"]);

    game.run(&["kick", "S1", "#7", "--reason", "bye\"; quit"])
        .done();
    assert_eq!(game.sent(), ["status", "kickid 7 bye quit"]);
}

#[test]
fn players_are_listed_by_name_and_with_ids() {
    let game = Game::new(silent);
    let seen = game.run(&["players", "S1"]);
    assert!(
        seen.err.contains("2 of 8 players on c1m1_hotel"),
        "{seen:?}"
    );
    let out = seen.done();
    assert!(
        out.contains("Bad Guy") && out.contains("1m") && !out.contains('\u{1b}'),
        "{out}"
    );
    assert_eq!(game.sent(), [] as [&str; 0], "looking is no command");

    let document = game.run(&["players", "S1", "--json"]).json();
    assert_eq!(document["info"]["map"], "c1m1_hotel");
    assert_eq!(
        document["players"][0],
        json!({"name": "Bad Guy", "score": 5, "seconds": 61})
    );

    let out = game.run(&["players", "S1", "--ids"]).done();
    assert!(
        out.contains("#8") && out.contains("STEAM_1:1:80") && out.contains("bot"),
        "{out}"
    );
    assert_eq!(game.sent(), ["status"]);
}

#[test]
fn players_are_kicked_banned_and_forgiven() {
    let game = Game::new(silent);
    game.run(&["kick", "S1", "bad guy"]).done();
    assert_eq!(game.sent(), ["status", "kickid 7"]);

    let out = game
        .run(&["ban", "S1", "x", "--minutes", "60", "--reason", "r"])
        .done();
    assert!(
        out.contains("STEAM_1:1:80 (x)") && out.contains("60 min"),
        "{out}"
    );
    assert_eq!(
        game.sent(),
        ["status", "banid 60 STEAM_1:1:80", "kickid 8 r"]
    );

    game.run(&["ban", "S1", "STEAM_0:0:5"]).done();
    assert_eq!(game.sent(), ["status", "banid 0 STEAM_1:0:5", "writeid"]);

    game.run(&["unban", "S1", "STEAM_1:0:5"]).done();
    assert_eq!(game.sent(), ["removeid STEAM_1:0:5", "writeid"]);

    game.run(&["ban", "S1", "Coach"]).refused(4, &["bot"]);
    game.run(&["kick", "S1", "nobody"]).refused(3, &["nobody"]);
}

#[test]
fn a_player_who_left_a_map_that_is_missing_and_a_ban_that_is_not_there_are_not_found() {
    let game = Game::new(|command| {
        Some(output(match command.split(' ').next() {
            Some("kickid") => "userid \"7\" not found\n",
            Some("changelevel") => "changelevel failed: c9m9 not found\n",
            _ => "removeid: couldn't find STEAM_1:0:5\n",
        }))
    });

    game.run(&["kick", "S1", "#7"])
        .refused(3, &["#7", "has left"]);
    game.run(&["map", "S1", "c9m9"]).refused(3, &["c9m9"]);
    game.run(&["unban", "S1", "STEAM_1:0:5"])
        .refused(3, &["not banned"]);
}

#[test]
fn a_server_that_stops_during_a_command_and_other_failures_say_what_to_do() {
    for (kind, code, words) in [
        (Failure::NotListening, 1, "has stopped"),
        (Failure::TimedOut, 1, "may have been carried out"),
        (Failure::BadAnswer, 1, "may have been carried out"),
        (Failure::WrongPassword, 4, "enqueue restart --server 1"),
        (Failure::NoPassword, 4, "enqueue restart --server 1"),
        (Failure::Banned, 4, "enqueue restart --server 1"),
        (Failure::Refused, 2, "it failed"),
        (Failure::Busy, 69, "try again"),
    ] {
        let game = Game::new(move |_| Some(failed(kind)));
        let ended = game.run(&["exec", "S1", "stats"]);
        assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
        ended.failed(code, &["server 1 'S1'", words]);
        assert!(game.kept()[0].contains("no reply: "), "{:?}", game.kept());
    }

    // left4me-console itself ends, or is not there.
    let game = Game::new(|_| None);
    game.run(&["exec", "S1", "stats"])
        .refused(69, &["server 1"]);
    std::fs::remove_file(game.host.root.join("console.sock")).unwrap();
    game.run(&["exec", "S1", "stats"])
        .refused(69, &["server 1"]);
    assert!(game.kept()[0].contains("no reply: "));
}

#[test]
fn a_rotation_waits_for_the_next_start_and_shows_no_password() {
    let game = Game::new(silent);
    game.run(&["rotate-rcon", "S1"])
        .refused(4, &["gets one when it is started"]);

    let password = "p".repeat(32);
    let below = "instances/1/rcon_password";
    game.host.root.write(below, format!("{password}\n"));
    let seen = game.run(&["rotate-rcon", "S1"]);
    assert!(!seen.err.contains(&password));
    let out = seen.done();
    assert!(
        out.contains("enqueue restart --server 1") && !out.contains(&password),
        "{out}"
    );

    assert!(
        game.host
            .root
            .join("instances/1/rcon_password.rotate")
            .exists()
    );
    let kept = std::fs::read_to_string(game.host.root.join(below)).unwrap();
    assert_eq!(kept.trim_end(), password, "the running game has it");

    let history = game.run(&["history", "S1", "--json"]).json();
    assert_eq!(history[0]["kind"], "server.rcon-rotated");
    assert!(game.sent().is_empty());
}
