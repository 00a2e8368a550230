//! The stand-in for the game, tried by clients that nobody here wrote, and byte by byte against the
//! layouts in Valve's wiki (Server queries, Source RCON Protocol). Other tests trust it.

mod builds;
mod game;

use std::net::TcpStream;
use std::time::Instant;

use game::{Game, INFO, PASSWORD, SILENCE};
use serde_json::{Value, json};

use crate::support::until;

/// Quotes, a colour, a mark that turns the direction of text, what looks like a row of `status`,
/// and bytes that are no UTF-8.
const ODD_NAMES: [&[u8]; 5] = [
    b"Zoey \"the <3> one\"",
    b"\x1b[31mred",
    b"\xe2\x80\xaegnp.exe",
    b"x\" STEAM_1:0:1 00:01 1 0 active 1 1.2.3.4:5",
    b"caf\xe9 \xff",
];

fn odd_players(game: &Game) {
    game.control("join", ODD_NAMES.join(&b'\n'));
}

// ---- queries ----------------------------------------------------------------------------------

#[test]
fn a2s_reads_name_map_players_and_the_extra_data() {
    let game = Game::start("hostname \"Friday; caf\u{e9} // no comment\"\nsv_password secret\n");
    game.control("join", "Anna\tSTEAM_1:0:11\t42\nBill\nFrancis\tBOT");

    let info = game.ask("info", &[]);
    let port = u64::from(game.port);
    for (field, value) in [
        ("protocol", json!(17)),
        ("server_name", json!("Friday; caf\u{e9} // no comment")),
        ("map_name", json!("c1m1_hotel")),
        ("folder", json!("left4dead2")),
        ("game", json!("Left 4 Dead 2")),
        ("app_id", json!(550)),
        ("player_count", json!(3)),
        ("max_players", json!(18)),
        ("bot_count", json!(1)),
        ("server_type", json!("d")),
        ("platform", json!("l")),
        ("password_protected", json!(true)),
        ("vac_enabled", json!(true)),
        ("version", json!("2.2.4.3")),
        ("edf", json!(0xb1)),
        ("port", json!(port)),
        ("steam_id", json!(90_167_827_942_855_688 + port)),
        ("keywords", json!("coop,secure")),
        ("game_id", json!(550)),
    ] {
        assert_eq!(info[field], value, "{field} of {info}");
    }

    let players = game.ask("players", &[]);
    assert_eq!(players[0]["name"], "Anna", "{players}");
    assert_eq!(players[0]["score"], 42, "{players}");
    assert!(players[0]["duration"].as_f64().unwrap() < 60.0, "{players}");
    assert_eq!(players.as_array().unwrap().len(), 3);
}

#[test]
fn a2s_reads_any_name_and_the_rules_of_several_packets() {
    let game = Game::start("sv_gravity 801\nsv_password secret\n");
    odd_players(&game);

    let players = game.ask("players", &[]);
    let names: Vec<&str> = players
        .as_array()
        .unwrap()
        .iter()
        .map(|player| player["name"].as_str().unwrap())
        .collect();
    let sent: Vec<_> = ODD_NAMES
        .iter()
        .map(|name| String::from_utf8_lossy(name))
        .collect();
    assert_eq!(names, sent);

    let rules = game.ask("rules", &[]);
    assert_eq!(rules["sv_gravity"], "801");
    assert_eq!(rules["sv_password"], "1", "no password is told");
    assert!(rules.get("rcon_password").is_none());
    assert!(rules.as_object().unwrap().len() > 60, "{rules}");
}

#[test]
fn each_query_wants_a_challenge_and_long_answers_are_split() {
    let game = Game::start("");
    let udp = game.udp();

    // The challenge of one kind is good for the others, and stays the same for a while.
    let challenge = udp.challenge(INFO);
    let asks = b"\xff\xff\xff\xffU\xff\xff\xff\xff";
    assert_eq!(udp.challenge(asks), challenge);
    assert_eq!(udp.challenge(b"\xff\xff\xff\xffV\0\0\0\0"), challenge);
    let query = |kind: &[u8]| [b"\xff\xff\xff\xff", kind, &challenge].concat();
    udp.send(&query(b"TSource Engine Query\0"));
    assert!(
        udp.next()
            .starts_with(b"\xff\xff\xff\xffI\x11Left 4 Dead 2\0c1m1_hotel\0left4dead2\0")
    );
    udp.send(&query(b"U"));
    assert_eq!(udp.next(), b"\xff\xff\xff\xffD\0");

    // Header, id, total, number, size; the parts together begin as an answer does.
    udp.send(&query(b"V"));
    let mut parts = [udp.next(), udp.next()];
    assert_eq!(parts[0][4..8], parts[1][4..8], "one id");
    assert_eq!(
        parts.each_ref().map(|part| part[9]),
        [1, 0],
        "the last comes first"
    );
    parts.reverse();
    for part in &parts {
        assert!(part.starts_with(b"\xfe\xff\xff\xff"), "{part:?}");
        assert_eq!(part[8], 2, "parts");
        assert_eq!(part[10..12], 1248_u16.to_le_bytes());
    }
    assert_eq!(parts[0].len(), 12 + 1248);
    assert!(parts[0][12..].starts_with(b"\xff\xff\xff\xffE"));

    // The old request for a challenge, and what is no query.
    for nothing in [
        &b"\xff\xff\xff\xffW"[..],
        b"\xff\xff\xff\xff",
        b"",
        b"hello",
    ] {
        udp.send(nothing);
        assert_eq!(udp.receive(SILENCE), None, "{nothing:?}");
    }
}

#[test]
fn more_than_three_queries_a_second_are_not_answered() {
    let game = Game::start("sv_max_queries_window 2\n");
    let udp = game.udp();

    let answered = (0..10).filter(|_| {
        udp.send(INFO);
        udp.receive(SILENCE).is_some()
    });
    // Three a second for two seconds; then another window may begin.
    let answered = answered.count();
    assert!((6..10).contains(&answered), "{answered} of 10");

    until("the next window", || {
        udp.send(INFO);
        udp.receive(SILENCE)
    });
    assert_eq!(
        game.command("sv_max_queries_sec"),
        "\"sv_max_queries_sec\" = \"3.0\"\n - Maximum queries per second to respond to from a single IP address.\n"
    );
}

#[test]
fn a_server_can_be_silent_for_being_unlisted_and_for_loopback() {
    let game = Game::start_with("", &["-insecure"]);
    assert_eq!(game.ask("info", &[])["vac_enabled"], false);

    for silent in ["silent-insecure", "silent-loopback", "hang"] {
        game.control(silent, "");
        let udp = game.udp();
        udp.send(INFO);
        assert_eq!(udp.receive(SILENCE), None, "{silent}");

        std::fs::remove_file(game.file(&format!("standin.{silent}"))).unwrap();
        udp.challenge(INFO);
    }
}

// ---- RCON -------------------------------------------------------------------------------------

#[test]
fn rcon_answers_as_the_protocol_says() {
    let game = Game::start("");
    let mut rcon = game.rcon();

    // A command before the password, then a wrong one, then the right one.
    rcon.send(1, 2, "status");
    assert_eq!(rcon.receive(), Some((-1, 2, vec![])));
    assert_eq!(rcon.log_in("wrong"), -1);
    assert_eq!(rcon.log_in(PASSWORD), 7);

    // Commands in their order, each with its mirror and what follows that.
    rcon.send(8, 2, "echo one; echo \"two; three\" // four");
    rcon.send(9, 0, "");
    rcon.send(10, 2, "echo five\necho six");
    assert_eq!(rcon.receive(), Some((8, 0, b"one\ntwo; three\n".to_vec())));
    assert_eq!(rcon.receive(), Some((9, 0, vec![])));
    assert_eq!(rcon.receive(), Some((9, 0, vec![0, 1, 0, 0])));
    assert_eq!(rcon.receive(), Some((10, 0, b"five\nsix\n".to_vec())));

    // A long answer is cut, and the first packet does not say so.
    rcon.send(11, 2, "cvarlist");
    rcon.send(12, 0, "");
    let (id, _, body) = rcon.receive().unwrap();
    assert_eq!((id, body.len()), (11, 4086));
    let (id, _, body) = rcon.receive().unwrap();
    assert_eq!((id, body.len()), (11, 4086));
}

#[test]
fn two_clients_read_the_same_long_answer() {
    let game = Game::start("");
    let arguments = [PASSWORD, "echo before", "cvarlist", "echo after"];

    let valve = game.ask("valve", &arguments);
    assert_eq!(valve[0], "before\n");
    assert_eq!(valve[2], "after\n");
    let list = valve[1].as_str().unwrap();
    assert!(list.len() > 64 * 1024, "{} bytes", list.len());
    assert!(list.starts_with("cvar list\n") && list.ends_with(" total convars/concommands\n"));

    assert_eq!(game.ask("rconx", &arguments), valve);
}

#[test]
fn wrong_passwords_ban_the_address_even_from_loopback() {
    let game = Game::start("");
    for client in ["rconx", "valve", "rconx", "valve", "rconx"] {
        let refused = game.ask(client, &["wrong", "status"]);
        assert_eq!(refused, json!({"refused": "wrong password"}), "{client}");
    }
    game.prints("Banning 127.0.0.1 for rcon hacking attempts\n");

    let refused = game.ask("valve", &[PASSWORD, "status"]);
    assert_eq!(
        refused,
        json!({"refused": "banned"}),
        "the right one, too late"
    );
    let udp = game.udp();
    udp.send(INFO);
    assert_eq!(udp.receive(SILENCE), None, "queries of that address");
}

#[test]
fn without_a_password_each_connection_is_closed() {
    let game = Game::start_with("", &["+ip", "0.0.0.0"]);
    assert_eq!(game.rcon().receive(), None);
}

#[test]
fn writing_the_password_closes_connections_and_is_not_answered() {
    let game = Game::start("");
    let (mut one, mut other) = (game.rcon(), game.rcon());
    one.log_in(PASSWORD);
    other.log_in(PASSWORD);

    one.send(8, 2, "rcon_password changed");
    assert_eq!(one.receive(), None);
    assert_eq!(other.receive(), None);
    assert_eq!(game.rcon().log_in(PASSWORD), -1);
    assert_eq!(game.rcon().log_in("changed"), 7);
}

#[test]
fn without_an_address_rcon_does_not_listen_on_loopback() {
    let game = Game::start_with("rcon_password x\n", &[]);
    assert!(TcpStream::connect(("127.0.0.1", game.port)).is_err());
    assert_eq!(game.ask("info", &[])["map_name"], "c1m1_hotel");
}

// ---- what happens in the game -----------------------------------------------------------------

#[test]
fn status_shows_players_as_the_game_does() {
    let game = Game::start("hostname Friday\n");
    let status = game.command("status");
    assert!(
        status.starts_with(
            "hostname: Friday\nversion : 2.2.4.3 10097 secure  (unknown)\nudp/ip  : 0.0.0.0:"
        ),
        "{status}"
    );
    assert!(
        status.ends_with(
            "os      : Linux Dedicated\nmap     : c1m1_hotel\n\
             players : 0 humans, 0 bots (18 max) (hibernating) (unreserved)\n\n\
             # userid name uniqueid connected ping loss state rate adr\n#end\n"
        ),
        "{status}"
    );

    game.control("lobby", "186000047bb2ba4");
    game.control("join", "Bill \"the man\"\tSTEAM_ID_LAN\nTank\tBOT");
    let status = until("has entered", || {
        Some(game.command("status")).filter(|status| status.contains(" active 30000 "))
    });
    assert!(
        status.contains(
            "players : 1 humans, 0 bots (4 max) (not hibernating) (reserved 186000047bb2ba4)\n"
        ),
        "{status}"
    );
    assert!(
        status.contains("\n# 10 1 \"Bill \"the man\"\" STEAM_ID_LAN 00:"),
        "{status}"
    );
    assert!(
        status.contains("\n#11 \"Tank\" BOT active\n#end\n"),
        "{status}"
    );
    assert!(
        status.contains("\n# 2 \"Rochelle\" BOT active\n"),
        "{status}"
    );

    let other = game.commands(&["standin_status csgo", "status"]).remove(1);
    assert!(other.contains("1 humans, 3 bots (4/0 max)"), "{other}");
    assert!(other.contains("\n# 10 \"Bill"), "{other}");
}

#[test]
fn players_come_talk_and_leave_in_the_console_and_the_last_lets_it_hibernate() {
    let game = Game::start("log on\nsv_hibernate_postgame_delay 0\n");
    game.control("join", "Anna: x\tSTEAM_1:0:11");
    game.prints("Server waking up from hibernation\n");
    game.prints("Client \"Anna: x\" connected (203.0.113.11:27005).\n");
    game.prints(": \"Anna: x<10><STEAM_1:0:11><>\" connected, address \"203.0.113.11:27005\"\n");
    game.prints(": \"Anna: x<10><STEAM_1:0:11><>\" entered the game\n");

    game.control("talk", "Anna: x: hello: all");
    game.prints("Anna: x: hello: all\n");
    game.prints("<Survivor>\" say \"hello: all\"\n");
    let answer = game.command("say \"five minutes\"");
    assert!(answer.starts_with("Console: five minutes\nL "), "{answer}");
    assert!(
        answer.ends_with(": command \"say \"five minutes\"\"\n"),
        "{answer}"
    );
    game.prints("\"Console<0><Console><Console>\" say \"five minutes\"\n");

    game.control("leave", "Anna: x\tAnna timed out");
    game.prints(
        "\"Anna: x<10><STEAM_1:0:11><Survivor>\" disconnected (reason \"Anna timed out\")\n",
    );
    game.prints("Dropped Anna: x from server (Anna timed out)\n");
    until("it hibernates again", || {
        (game.console().matches("Server is hibernating\n").count() == 2).then_some(())
    });
}

#[test]
fn a_change_of_map_is_silent_and_what_was_asked_is_answered_late() {
    let game = Game::start("log on\n");
    game.control("map-load-ms", "1500");
    game.control("join", "Anna");
    game.prints("entered the game\n");
    let mut rcon = game.rcon();
    rcon.log_in(PASSWORD);

    rcon.send(8, 2, "changelevel nowhere");
    let (_, _, answer) = rcon.receive().unwrap();
    assert!(answer.starts_with(b"changelevel failed: nowhere not found\n"));
    rcon.send(9, 2, "changelevel c2m1_highway");
    assert_eq!(rcon.receive().unwrap().0, 9, "answered before it loads");
    let begun = Instant::now();
    game.prints("---- Host_Changelevel ----\n");

    let udp = game.udp();
    until("silence", || {
        udp.send(INFO);
        udp.receive(SILENCE).is_none().then_some(())
    });
    assert!(udp.next().starts_with(b"\xff\xff\xff\xffA"), "late");
    assert!(begun.elapsed().as_millis() > 1000);
    assert_eq!(rcon.receive(), None, "server.cfg has written the password");

    game.prints("Started map \"c2m1_highway\"");
    until("Anna enters again", || {
        (game.console().matches("entered the game\n").count() == 2).then_some(())
    });
    assert_eq!(game.ask("info", &[])["map_name"], "c2m1_highway");
    assert_eq!(game.ask("info", &[])["player_count"], 1);
}

#[test]
fn who_is_kicked_is_gone_and_who_is_banned_does_not_come_back() {
    let game = Game::start("log on\n");
    game.control(
        "join",
        "Anna\tSTEAM_1:0:11\nBill\tSTEAM_1:1:12\nCarl\tSTEAM_1:1:13",
    );

    let answers = game.commands(&[
        "kickid 10 no \"shouting\"",
        "kick Bill",
        "kick Nobody",
        "kickid 99",
    ]);
    assert!(
        answers[2].starts_with("Can't kick \"Nobody\""),
        "{answers:?}"
    );
    assert!(
        answers[3].starts_with("kickid: \"99\" not found"),
        "{answers:?}"
    );
    game.prints("Dropped Anna from server (Kicked by Console : no \"shouting\")\n");
    game.prints("Dropped Bill from server (Kicked by Console)\n");

    let answers = game.commands(&[
        "banid 0 12 kick; banid 0 STEAM_1:1:13 kick",
        "banid 30 STEAM_1:0:11",
        "listid",
        "writeid",
    ]);
    assert!(
        answers[1].contains("was banned \"for 30.00 minutes\" by \"Console\""),
        "{answers:?}"
    );
    assert!(
        answers[2].starts_with(
            "ID filter list: 2 entries\n1 STEAM_1:1:13 : permanent\n2 STEAM_1:0:11 : "
        ),
        "{answers:?}"
    );
    let written = std::fs::read_to_string(game.file("cfg/banned_user.cfg")).unwrap();
    assert_eq!(written, "banid 0 STEAM_1:1:13\r\n");

    game.control("join", "Carl\tSTEAM_1:1:13");
    game.prints("UserID STEAM_1:1:13 is banned");
    assert_eq!(game.ask("players", &[]), Value::Array(vec![]));
    game.command("removeid STEAM_1:1:13");
    game.control("join", "Carl\tSTEAM_1:1:13");
    assert_eq!(game.ask("players", &[])[0]["name"], "Carl");
}

#[test]
fn no_more_come_than_there_is_room_for() {
    let game = Game::start("");
    let all: String = (0..20).map(|number| format!("player {number}\n")).collect();
    game.control("join", all);
    game.prints("Server is full: player 18\n");
    assert_eq!(game.ask("info", &[])["player_count"], 18);
}
