//! Commands to running games by the web front: pages, API, refusals, and what is recorded. A
//! stand-in answers in place of left4me-console.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use left4me::base::names::ServerId;
use left4me::db::events::{self, ServerEvent};
use left4me::db::users::Role;
use left4me::db::{tokens, users};
use left4me::wire::console::{ConsoleRequest, ConsoleResult, Failure};
use rusqlite::Connection;
use serde_json::json;

use crate::support::console::{self, command, failed, output};
use crate::support::host::{TestHost, password_hash};
use crate::support::http::{Answer, Client, Web};
use crate::support::until;

const STATUS: &str = "hostname: <script>alert(1)</script>\n\
# userid name uniqueid connected ping loss state rate adr\n\
# 7 1 \"Bad Guy\" STEAM_1:0:70 05:40 99 0 active 30000 192.0.2.4:44563\n\
# 8 2 \"#7\" STEAM_1:1:80 1:00:00 30 0 active 30000 192.0.2.5:44563\n\
# 9 3 \"Gone\" STEAM_1:1:90 1:00:00 30 0 active 30000 192.0.2.6:44563\n\
#10 \"Coach\" BOT active\n#end\n";

/// alice owns the running server 1 and the stopped server 2.
struct Site {
    host: TestHost,
    web: Web,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// left4me-console answers `status`, and everything else as `answer` says.
    fn new(answer: impl Fn(&str) -> Option<ConsoleResult> + Clone + Send + 'static) -> Self {
        let site = Self::without_console();
        let (sent, database) = (site.sent.clone(), site.host.database());
        console::serve(
            &site.host.root.join("console.sock"),
            move |request: &ConsoleRequest| {
                assert_eq!((request.server.as_str(), request.port), ("1", 27000));
                let command = command(request).expect("a command");

                // Committed before it is sent.
                let recorded: i64 = Connection::open(&database)
                    .unwrap()
                    .query_row(
                        "SELECT count(*) FROM events WHERE kind = 'server.command' AND detail = ?1",
                        [command],
                        |row| row.get(0),
                    )
                    .unwrap();
                assert!(recorded > 0, "{command}");

                sent.lock().unwrap().push(command.to_owned());
                if command == "status" {
                    Some(output(STATUS))
                } else {
                    answer(command)
                }
            },
        );
        site
    }

    fn without_console() -> Self {
        let host = TestHost::with_servers(2);
        host.db()
            .write(|tx| users::set_password(tx, 1, "test", &"alice".parse()?, password_hash()))
            .unwrap();
        host.user("stranger", Role::User);
        host.user("admin", Role::Admin);
        sql(
            &host,
            "UPDATE servers SET desired_state = 'running', actual_state = 'running' WHERE id = 1;
             UPDATE servers SET actual_state = 'stopped' WHERE id = 2",
        );
        Self {
            web: Web::start(&host, &[]),
            host,
            sent: Arc::default(),
        }
    }

    /// What the game got since the last call.
    fn sent(&self) -> Vec<String> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    /// The newest command of server 1.
    fn last(&self) -> ServerEvent {
        let history = events::of_server(self.host.db().connection(), ServerId(1), 1);
        history.unwrap().remove(0)
    }

    fn commands(&self) -> i64 {
        let sql = "SELECT count(*) FROM events WHERE kind = 'server.command'";
        let count = Connection::open(self.host.database())
            .unwrap()
            .query_row(sql, [], |row| row.get(0));
        count.unwrap()
    }
}

fn sql(host: &TestHost, sql: &str) {
    let connection = Connection::open(host.database()).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn silent(_: &str) -> Option<ConsoleResult> {
    Some(output(""))
}

/// Sends a command as log.js does: by the API, with the session.
fn api(client: &mut Client, server: i64, command: &str) -> Answer {
    let csrf = client.csrf.clone();
    let headers = [
        ("Sec-Fetch-Site", "same-origin"),
        ("Content-Type", "application/json"),
        ("X-CSRF-Token", csrf.as_str()),
    ];
    let path = format!("/api/servers/{server}/command");
    client.send(
        "POST",
        &path,
        &headers,
        &json!({"command": command}).to_string(),
    )
}

#[test]
fn without_scripts_a_command_is_a_form_and_its_reply_is_on_the_page() {
    let site = Site::new(silent);
    let mut alice = site.web.signed_in("alice");
    let page = alice.get("/servers/1/log").page();
    assert!(page.has_form("/servers/1/command") && !page.has("#reply"));

    let sent = alice.post("/servers/1/command", &[("command", "status")]);
    assert_eq!(sent.status, 303, "{}", sent.body);
    let event = site.last();
    let shown = format!("/servers/1/log?event={}", event.id);
    assert_eq!(sent.location(), format!("{shown}#reply"));
    assert_eq!((&*event.actor, &*event.detail), ("web:alice", "status"));
    assert_eq!(site.sent(), ["status"]);

    let answer = alice.get(&shown);
    let reply = answer.page().text("#reply");
    assert!(
        reply.contains("> status") && reply.contains("by web:alice"),
        "{reply}"
    );
    assert!(reply.contains("hostname: <script>"), "{reply}");
    assert!(!answer.body.contains("<script>alert"), "{}", answer.body);

    // Other pages have it in their history; nobody else sees it.
    assert!(
        alice
            .get("/servers/1")
            .page()
            .text("#events")
            .contains("web:alice")
    );
    assert!(!alice.get(&shown.replace("/1/", "/2/")).page().has("#reply"));
    assert!(!alice.get("/servers/1/log?event=x").page().has("#reply"));
    assert_eq!(site.web.signed_in("stranger").get(&shown).status, 404);

    let sent = alice.post("/servers/1/command", &[("command", "sv_cheats 1")]);
    let page = alice.get(sent.location().trim_end_matches("#reply")).page();
    assert!(page.text("#reply").contains("replied nothing"));
}

#[test]
fn the_api_answers_with_the_reply_and_its_event() {
    let site = Site::new(|command| {
        Some(ConsoleResult::Output {
            text: format!("ran {command}\n"),
            cut: true,
        })
    });

    let answer = api(&mut site.web.signed_in("alice"), 1, "z_difficulty");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let event = site.last();
    let told = json!({"reply": "ran z_difficulty\n", "cut": true, "event": event.id});
    assert_eq!(answer.json(), told);
    assert_eq!(event.actor, "web:alice");
    assert_eq!(event.journal[0], "ran z_difficulty");

    // An admin's token.
    let token = site.host.db().write(|tx| {
        let admin = users::find(tx, &"admin".parse()?)?;
        Ok(tokens::create(tx, 1, "test", admin.id, &"tests".parse()?)?.1)
    });
    let bearer = format!("Bearer {}", token.unwrap());
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = r#"{"command": "stats"}"#;
    let answer = site
        .web
        .client()
        .send("POST", "/api/servers/1/command", &headers, body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(site.last().actor, "api:admin");
}

#[test]
fn a_refused_command_is_neither_recorded_nor_sent() {
    let site = Site::new(silent);
    let mut alice = site.web.signed_in("alice");
    let long = "x".repeat(10 * 1024);
    for (bad, why) in [
        ("say a\nquit", "line break"),
        ("say a; quit", "';'"),
        (&*long, "500 bytes"),
        ("quit", "use stop or restart"),
        ("sm_rcon _restart", "use stop or restart"),
        ("rcon_password x", "rotate-rcon"),
        ("", "empty"),
    ] {
        let answer = api(&mut alice, 1, bad);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 422, "{message}");
        assert!(message.contains(why) && message.len() < 200, "{message}");

        let page = alice.post("/servers/1/command", &[("command", bad)]);
        assert_eq!(page.status, 422, "{}", page.body);
        assert!(page.page().text("main").contains(why), "{}", page.body);
    }

    for (path, field, bad) in [
        ("say", "text", " \"\n"),
        ("map", "map", "../a; quit"),
        ("kick", "who", " "),
        ("ban", "who", ""),
    ] {
        let answer = alice.post(&format!("/servers/1/{path}"), &[(field, bad)]);
        assert_eq!(answer.status, 422, "{path}: {}", answer.body);
    }
    let fields = [("who", "Bad Guy"), ("minutes", "1.5")];
    assert_eq!(alice.post("/servers/1/ban", &fields).status, 422);

    assert_eq!((site.sent(), site.commands()), (Vec::new(), 0));
}

#[test]
fn only_the_owner_and_admins_send_commands_and_only_with_their_pages() {
    let site = Site::new(silent);
    let mut stranger = site.web.signed_in("stranger");
    assert_eq!(api(&mut stranger, 1, "status").status, 404);
    for (path, field) in [
        ("command", "command"),
        ("say", "text"),
        ("map", "map"),
        ("kick", "who"),
        ("ban", "who"),
    ] {
        let path = format!("/servers/1/{path}");
        let fields = [(field, "status")];
        assert_eq!(stranger.post(&path, &fields).status, 404, "{path}");

        let anonymous = site.web.client().post(&path, &fields);
        assert!([303, 403].contains(&anonymous.status), "{path}");

        let mut alice = site.web.signed_in("alice");
        let forged = alice.post(&path, &[(field, "status"), ("csrf", "0")]);
        assert_eq!(forged.status, 403, "{path}");
    }

    assert_eq!(api(&mut site.web.client(), 1, "status").status, 401);
    let mut alice = site.web.signed_in("alice");
    alice.csrf = "0".to_owned();
    assert_eq!(api(&mut alice, 1, "status").status, 403);

    assert_eq!((site.sent(), site.commands()), (Vec::new(), 0));
    assert_eq!(
        api(&mut site.web.signed_in("admin"), 1, "status").status,
        200
    );
}

#[test]
fn a_server_that_does_not_run_or_does_not_answer_is_told_with_its_cause() {
    let site = Site::new(|command| match command {
        "hang" => Some(failed(Failure::TimedOut)),
        "away" => Some(failed(Failure::NotListening)),
        "busy" => Some(failed(Failure::Busy)),
        "other" => Some(failed(Failure::WrongPassword)),
        "gone" => None,
        _ => Some(output("")),
    });

    let mut alice = site.web.signed_in("alice");
    for (server, command, status, why) in [
        (2, "status", 409, "not running"),
        (1, "hang", 502, "may have been carried out"),
        (1, "away", 502, "has stopped"),
        (1, "busy", 503, "in a moment"),
        (1, "other", 409, "password"),
        // The connection breaks while the reply is waited for.
        (1, "gone", 503, "left4me-console"),
    ] {
        let answer = api(&mut alice, server, command);
        assert_eq!(answer.status, status, "{command}: {}", answer.body);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains(why) && message.contains(&format!("server {server}")),
            "{message}"
        );

        if server == 1 {
            let event = site.last();
            assert_eq!(event.detail, command);
            assert!(event.journal[0].contains("no reply"), "{:?}", event.journal);
        }
    }

    let page = alice.post("/servers/1/command", &[("command", "hang")]);
    assert_eq!(page.status, 502);
    assert!(
        page.page().text("main").contains("carried out"),
        "{}",
        page.body
    );
}

#[test]
fn without_left4me_console_a_command_is_refused_and_pages_work() {
    let site = Site::without_console();
    let mut alice = site.web.signed_in("alice");
    let answer = api(&mut alice, 1, "status");
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("left4me-console"), "{}", answer.body);
    assert_eq!(alice.post("/servers/1/say", &[("text", "hi")]).status, 503);
    assert_eq!(alice.get("/servers/1").status, 200);
}

#[test]
fn a_page_says_texts_changes_the_map_kicks_and_bans() {
    let site = Site::new(|command| match command {
        "kickid 9" => Some(output("userid \"9\" not found\n")),
        "changelevel nomap" => Some(output("changelevel failed: nomap not found\n")),
        _ => Some(output("")),
    });
    sql(
        &site.host,
        "INSERT INTO server_players (server_id, position, name, score, seconds)
         VALUES (1, 0, '#7', 3, 60), (1, 1, '<b>\" &', 2, 50), (1, 2, '', 0, 1)",
    );
    let mut alice = site.web.signed_in("alice");
    let page = alice.get("/servers/1").page();
    assert!(page.has_form("/servers/1/say") && page.has_form("/servers/1/map"));
    let links = page.attributes("#players a", "href");
    assert_eq!(
        links,
        [
            "/servers/1/remove-player?player=%237",
            "/servers/1/remove-player?player=%3Cb%3E%22%20%26",
        ]
    );
    assert!(
        !alice.get("/servers/2").page().has_form("/servers/2/say"),
        "it does not run"
    );

    let asked = alice.get(&links[1]).page();
    assert_eq!(asked.form_field("/servers/1/ban", "player"), "<b>\" &");

    for (path, fields, commands) in [
        (
            "say",
            &[("text", "hi; \"quit\"\nnow")][..],
            &["say hi quit now"][..],
        ),
        (
            "map",
            &[("map", " c2m1_highway ")],
            &["changelevel c2m1_highway"],
        ),
        (
            "kick",
            &[("who", "bad guy"), ("reason", "afk; quit")],
            &["status", "kickid 7 afk quit"],
        ),
        ("kick", &[("who", "#8")], &["status", "kickid 8"]),
        // The row of a player who is named like a number.
        ("kick", &[("player", "#7")], &["status", "kickid 8"]),
        (
            "ban",
            &[("player", "Bad Guy"), ("minutes", "60"), ("reason", "")],
            &["status", "banid 60 STEAM_1:0:70", "kickid 7"],
        ),
        (
            "ban",
            &[("who", "STEAM_1:0:5"), ("minutes", "")],
            &["status", "banid 0 STEAM_1:0:5", "writeid"],
        ),
    ] {
        let answer = alice.post(&format!("/servers/1/{path}"), fields);
        assert_eq!(answer.status, 303, "{path}: {}", answer.body);
        assert_eq!(answer.location(), "/servers/1#events");
        assert_eq!(site.sent(), commands);
    }

    for (path, fields, status, why) in [
        ("kick", [("who", "Gone")], 404, "has left"),
        ("kick", [("who", "Nobody")], 404, "no player"),
        ("ban", [("who", "Coach")], 409, "bot"),
        ("map", [("map", "nomap")], 404, "no map"),
    ] {
        let answer = alice.post(&format!("/servers/1/{path}"), &fields);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.page().text("main").contains(why), "{}", answer.body);
    }
}

#[test]
fn commands_that_wait_are_few_and_delay_nobody_else() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let wait = gate.clone();
    let site = Site::new(move |_| {
        let (open, changed) = &*wait;
        drop(
            changed
                .wait_while(open.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
        Some(output("late\n"))
    });

    let waiting: Vec<_> = ["one", "two"]
        .map(|command| {
            let mut alice = site.web.signed_in("alice");
            std::thread::spawn(move || api(&mut alice, 1, command))
        })
        .into();
    until("both wait", || {
        (site.sent.lock().unwrap().len() == 2).then_some(())
    });

    let mut alice = site.web.signed_in("alice");
    let third = api(&mut alice, 1, "three");
    assert_eq!(third.status, 503, "{}", third.body);
    assert!(third.body.contains("2 commands of yours"), "{}", third.body);
    assert_eq!(third.header("retry-after"), Some("2"));

    // No transaction is open, and others have their own permits.
    assert_eq!(alice.post("/servers/2/start", &[]).status, 303);
    assert_eq!(
        api(&mut site.web.signed_in("admin"), 1, "status").status,
        200
    );

    let (open, changed) = &*gate;
    *open.lock().unwrap() = true;
    changed.notify_all();
    for answer in waiting {
        assert_eq!(answer.join().unwrap().json()["reply"], "late\n");
    }
    assert_eq!(api(&mut alice, 1, "three").status, 200);
    assert_eq!(site.commands(), 4, "the refused one is not recorded");
}

/// Sending it again would ban twice.
#[test]
fn a_ban_that_takes_long_says_that_it_was_sent_and_goes_on() {
    let slow = Duration::from_secs(13);
    let site = Site::new(move |command| {
        std::thread::sleep(slow);
        Some(output(&format!("{command}\n")))
    });

    let mut alice = site.web.signed_in("alice");
    let fields = [("who", "Bad Guy"), ("minutes", "60")];
    let begun = Instant::now();
    let answer = alice.post("/servers/1/ban", &fields);
    assert_eq!(answer.status, 502, "{}", answer.body);
    let text = answer.page().text("main");
    assert!(text.contains("sent; no answer in 25 s"), "{text}");
    assert!(begun.elapsed() < 3 * slow, "before it ended");

    until("the player is removed all the same", || {
        let sent = site.sent.lock().unwrap();
        (*sent == ["status", "banid 60 STEAM_1:0:70", "kickid 7"]).then_some(())
    });
}

#[test]
fn the_api_lists_who_plays() {
    let site = Site::without_console();
    sql(
        &site.host,
        "INSERT INTO server_players (server_id, position, name, score, seconds)
         VALUES (1, 0, 'Ann', 3, 60)",
    );
    let mut alice = site.web.signed_in("alice");
    let listed = alice.get("/api/servers/1/players").json();
    assert_eq!(
        listed["players"],
        json!([{"name": "Ann", "score": 3, "seconds": 60}])
    );
    assert_eq!(
        alice.get("/api/servers/2/players").json()["players"],
        json!([])
    );
    assert_eq!(
        site.web
            .signed_in("stranger")
            .get("/api/servers/1/players")
            .status,
        404
    );
    assert_eq!(site.web.client().get("/api/servers/1/players").status, 401);
}

#[test]
fn the_live_console_has_an_input_line() {
    let site = Site::without_console();
    let answer = site.web.signed_in("alice").get("/servers/1/log");
    let page = answer.page();
    assert!(answer.body.contains("/command.js\""), "{}", answer.body);
    assert_eq!(page.attribute("#command", "data-who"), "web:alice");
    let commands = page.attribute("#command", "data-commands");
    assert!(commands.starts_with("status,say,"), "{commands}");
    assert!(
        page.attribute("#command", "data-maps")
            .contains("c5m5_bridge")
    );
    assert_eq!(
        page.attribute("#command input[name=command]", "autocapitalize"),
        "none"
    );
}
