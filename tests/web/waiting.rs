//! Jobs that wait until nobody plays, as the pages ask for them and show them.

use left4me::base::clock;
use left4me::base::names::ServerId;
use left4me::db::stale;
use left4me::db::users::Role;
use left4me::domain::stale::{Stale, StaleFile};

use crate::support::host::TestHost;
use crate::support::http::Web;

/// Every server runs, with so many players by the last poll.
pub fn plays(host: &TestHost, players: i64) {
    let now = clock::now_ms();
    let sql = format!(
        "UPDATE servers SET actual_state = 'running', desired_state = 'running',
             actual_state_updated_at = {now};
         UPDATE poll SET polled_at = {now};
         INSERT INTO server_game (server_id, responding, players, answered_at, asked_at)
         SELECT id, 'yes', {players}, {now}, {now} FROM servers
         WHERE TRUE ON CONFLICT DO UPDATE SET players = {players}, answered_at = {now}"
    );
    host.db().connection().execute_batch(&sql).unwrap();
}

#[test]
fn a_stop_while_people_play_asks_first_and_can_wait_for_them() {
    let host = TestHost::with_servers(1);
    host.user("root", Role::Admin);
    plays(&host, 4);
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");

    let key = root
        .get("/servers/1")
        .page()
        .form_field("/servers/1/stop", "key");
    let asks = root.post("/servers/1/stop", &[("key", &key)]);
    assert_eq!(asks.status, 200, "{}", asks.body);
    let page = asks.page();
    assert_eq!(page.text("h1"), "4 players on S1");
    assert!(page.text("main").contains("To stop now ends their game"));
    assert!(page.has_link("/servers/1"));

    let waits = root.post(
        "/servers/1/stop",
        &[
            ("when_empty", "1"),
            ("until", "2h"),
            ("then", "go"),
            ("warn", "10m,1m"),
            ("key", "k-1"),
        ],
    );
    assert_eq!(waits.status, 303, "{}", waits.body);
    let job = root.get(waits.location()).page();
    assert!(
        job.text("#wrong")
            .starts_with("Waiting: 4 players on S1 (until "),
        "{}",
        job.text("#wrong")
    );
    assert!(
        job.text("#facts").contains("when empty, until "),
        "{}",
        job.text("#facts")
    );
    let server = root.get("/servers/1").page();
    assert!(
        server
            .text("#jobs")
            .contains("waiting: 4 players on S1 (until ")
    );
    assert!(
        server.has_form("/servers/1/restart"),
        "the server is not busy"
    );

    // Without a time there is nothing to do at it.
    let waits = root.post(
        "/servers/1/restart",
        &[("when_empty", "1"), ("then", "give-up")],
    );
    assert_eq!(waits.status, 303, "{}", waits.body);
    let bad = root.post(
        "/servers/1/stop",
        &[("when_empty", "1"), ("until", "soon"), ("then", "go")],
    );
    assert_eq!(bad.status, 422);
    assert!(bad.body.contains("neither a time of day"), "{}", bad.body);

    let now = root.post("/servers/1/stop", &[("anyway", "1"), ("key", "k-2")]);
    assert_eq!(now.status, 303, "{}", now.body);
    let job = root.get(now.location()).page();
    assert_eq!(job.text("#wrong"), "");
}

#[test]
fn nobody_is_asked_when_nobody_plays() {
    let host = TestHost::with_servers(1);
    host.user("root", Role::Admin);
    plays(&host, 0);
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    for action in ["/servers/1/restart", "/admin/update"] {
        assert_eq!(root.post(action, &[]).status, 303, "{action}");
    }

    plays(&host, 1);
    let asks = root.post("/admin/update", &[]);
    assert_eq!(asks.status, 200, "{}", asks.body);
    assert_eq!(asks.page().text("h1"), "1 player on S1");
    assert_eq!(root.post("/servers/1/start", &[]).status, 303);
}

#[test]
fn stale_files_are_listed_beside_reset_and_dropping_them_asks_while_people_play() {
    let host = TestHost::with_servers(2);
    host.user("root", Role::Admin);
    plays(&host, 0);
    let found = Stale {
        files: vec![StaleFile {
            path: "left4dead2/<b>\\x0a.nav".to_owned(),
            size: 2048,
        }],
        count: 3,
        size: 4096,
        is_whole: true,
    };
    host.db()
        .write(|tx| stale::record(tx, ServerId(1), &found, 5))
        .unwrap();
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");

    assert!(!root.get("/servers/2").page().has("#stale"));
    let page = root.get("/servers/1").page();
    let text = page.text("#stale");
    for part in [
        "3 files that hide newer game files",
        "left4dead2/<b>\\x0a.nav",
        "2.0 KiB",
        "and 2 more",
        "drop 3 stale files",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let drops = |root: &mut crate::support::http::Client, more: &[(&str, &str)]| {
        let fields = [&[("stale", "yes")], more].concat();
        root.post("/servers/1/reset", &fields)
    };
    let options = || -> Vec<Option<String>> {
        let db = host.db();
        let sql = "SELECT options FROM jobs ORDER BY id";
        let mut rows = db.connection().prepare(sql).unwrap();
        let options = rows.query_map([], |row| row.get(0)).unwrap();
        options.map(Result::unwrap).collect()
    };
    let dropped = drops(&mut root, &[("key", "a")]);
    assert_eq!(dropped.status, 303, "{}", dropped.body);
    let wanted = Some(r#"{"stale":true}"#.to_owned());
    assert_eq!(options(), vec![wanted.clone()]);
    let job = root.get(dropped.location()).page();
    assert!(
        job.text("main").contains("purge-stale"),
        "{}",
        job.text("main")
    );
    // While a job works on the server there is nothing to press.
    let page = root.get("/servers/1").page();
    assert!(page.has("#stale") && !page.has("#drop-stale"));

    plays(&host, 4);
    let asks = drops(&mut root, &[("key", "b")]);
    assert_eq!(asks.status, 200, "{}", asks.body);
    let page = asks.page();
    assert!(
        page.text("main")
            .contains("To drop stale files now restarts the server")
    );
    assert_eq!(page.form_field("/servers/1/reset", "stale"), "yes");
    let waits = drops(&mut root, &[("when_empty", "1"), ("key", "c")]);
    assert_eq!(waits.status, 303, "{}", waits.body);
    assert_eq!(options(), [wanted.clone(), wanted]);
}
