//! Alerts from an event to its destination: the real programs, against stand-ins of the services.

mod mail;

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use left4me::base::clock;
use left4me::base::names::ServerId;
use left4me::db::events::{self, NewEvent};
use left4me::db::{Db, deliveries};
use left4me::queue::wake;
use serde_json::{Value, json};

use crate::support::destinations::{Destination, NO_CONTENT, OK, Reaction, authority};
use crate::support::host::TestHost;
use crate::support::{
    Conversation, Finished, LEFT4ME, NOTIFY, PATIENCE, POLLER, SocketUnit, WORKER, accept, ended,
    start, until,
};

const SECRET: &str = "s3cr3t-t0k3n";

/// A host with left4me-notify behind its socket.
struct Alerting {
    // Dropped first: its socket is in the host's directory.
    _notify: SocketUnit,
    host: TestHost,
    envs: Vec<(String, String)>,
}

impl Alerting {
    /// Stand-ins are on this host, so private addresses are allowed.
    fn new() -> Self {
        Self::with(&[("LEFT4ME_ALERT_PRIVATE", "1")])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let host = TestHost::with_servers(3);
        let mut envs = host.root.envs();
        let socket = |name: &str| host.root.join(name).display().to_string();
        envs.extend([
            ("LEFT4ME_NOTIFY_SOCKET".to_owned(), socket("notify.sock")),
            ("LEFT4ME_ALERTS_SOCKET".to_owned(), socket("alerts.sock")),
        ]);
        for (name, value) in settings {
            envs.push(((*name).to_owned(), (*value).to_owned()));
        }
        let notify = accept(&host.root.join("notify.sock"), &[NOTIFY], &envs);
        Self {
            _notify: notify,
            host,
            envs,
        }
    }

    fn left4me(&self, args: &[&str]) -> Finished {
        let mut command = self.host.command(LEFT4ME, args);
        Finished::from(command.envs(self.envs.iter().cloned()).output().unwrap())
    }

    fn alert(&self, args: &[&str]) -> Finished {
        self.left4me(&[&["alert"], args].concat())
    }

    fn add(&self, name: &str, kind: &str, to: &str) {
        let added = self.alert(&["add", name, &format!("--{kind}"), to]);
        assert!(!format!("{added:?}").contains(SECRET), "{added:?}");
        added.done();
    }

    /// Delivers what is due now. Gives its log.
    fn deliver(&self) -> String {
        let done = self.alert(&["deliver"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(!done.err.contains(SECRET), "{}", done.err);
        done.err
    }

    /// A deliverer as systemd starts it.
    fn resident(&self) -> (Child, UnixDatagram) {
        let path = self.host.root.join("alerts.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let passed = socket.try_clone().unwrap();
        let argv = [LEFT4ME, "alert", "deliver"];
        (start(&argv, &self.envs, passed, Stdio::null()), socket)
    }

    fn db(&self) -> Db {
        self.host.db()
    }

    /// Adds `count` events of a server.
    fn happen(&self, kind: &str, server: Option<i64>, detail: &str, count: usize) {
        let event = NewEvent {
            server: server.map(ServerId),
            ..NewEvent::new(kind, "outside", detail)
        };
        let now = clock::now_ms();
        self.db()
            .write(|tx| (0..count).try_for_each(|_| events::add(tx, now, &event)))
            .unwrap();
    }

    fn crash(&self) {
        self.happen("server.crashed", Some(1), "ended by signal 11", 1);
    }

    fn sql(&self, sql: &str) {
        self.db().connection().execute_batch(sql).unwrap();
    }

    /// How many rows of the outbox have each state.
    fn states(&self) -> Value {
        let mut states = json!({});
        let db = self.db();
        let sql = "SELECT state, count(*) FROM alert_outbox GROUP BY state";
        let mut statement = db.connection().prepare(sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            states[row.get::<_, String>(0).unwrap()] = row.get::<_, i64>(1).unwrap().into();
        }
        states
    }

    /// The alert as `left4me alert list --json` shows it.
    fn listed(&self, name: &str) -> Value {
        let all = self.alert(&["list", "--json"]).json();
        assert!(!all.to_string().contains(SECRET), "{all}");
        let all = all.as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap().clone()
    }
}

#[test]
fn each_service_gets_an_event_in_its_own_form_and_once() {
    let alerting = Alerting::new();
    let discord = Destination::answering(NO_CONTENT);
    let ntfy = Destination::answering(OK);
    let webhook = Destination::answering(OK);
    alerting.add(
        "a",
        "discord",
        &discord.url(&format!("/api/webhooks/1/{SECRET}")),
    );
    alerting.add("b", "ntfy", &ntfy.url(&format!("/{SECRET}")));
    alerting.add("c", "webhook", &webhook.url(&format!("/hook?key={SECRET}")));
    alerting.sql("UPDATE servers SET name = '@everyone Größe' WHERE id = 1");

    alerting.crash();
    alerting.deliver();
    alerting.deliver();
    assert_eq!(alerting.states(), json!({"sent": 3}));

    let [sent] = &discord.requests()[..] else {
        panic!("{:?}", discord.requests())
    };
    assert_eq!(sent.path, format!("/api/webhooks/1/{SECRET}"));
    assert_eq!(sent.header("content-type"), "application/json");
    let body = sent.json();
    assert_eq!(body["allowed_mentions"], json!({"parse": []}));
    let content = body["content"].as_str().unwrap();
    assert!(
        content.contains("@everyone Größe crashed**\nended by signal 11"),
        "{content}"
    );

    let sent = &ntfy.requests()[0];
    assert_eq!(sent.path, format!("/{SECRET}"));
    assert_eq!(sent.header("priority"), "high");
    assert!(sent.header("title").starts_with("=?UTF-8?B?"));
    assert_eq!(sent.body, "ended by signal 11");

    let sent = webhook.requests()[0].json();
    let event = &sent["events"][0];
    assert_eq!((&sent["version"], &sent["alert"]), (&json!(1), &json!("c")));
    assert_eq!(event["kind"], "server.crashed");
    assert_eq!(event["server"], json!({"id": 1, "name": "@everyone Größe"}));
}

#[test]
fn an_event_is_sent_within_two_seconds_while_another_destination_hangs() {
    let alerting = Alerting::new();
    let hanging = Destination::reacting(|_| Reaction::Hang);
    let good = Destination::answering(OK);
    alerting.add("hangs", "webhook", &hanging.url("/"));
    alerting.add("good", "webhook", &good.url("/"));
    let (mut resident, _socket) = alerting.resident();

    // Only the datagram tells it: the database is not watched.
    let begin = Instant::now();
    alerting.crash();
    wake::alerts(
        alerting.db().connection(),
        &alerting.host.root.join("alerts.sock"),
    );
    until("the message", || good.requests().first().cloned());
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");

    let why = until("the end of the other attempt", || {
        alerting.listed("hangs")["last_error"]
            .as_str()
            .map(str::to_owned)
    });
    assert_eq!(why, "no answer within 10 s");
    assert_eq!(alerting.listed("hangs")["pending"], 1, "it is tried again");

    // With nothing left to do it exits.
    alerting.alert(&["remove", "hangs"]).done();
    assert_eq!(ended(&mut resident), 0);
}

#[test]
fn a_destination_that_asks_to_wait_is_left_alone_that_long() {
    let alerting = Alerting::new();
    let limited = r#"{"message": "You are being rate limited.", "retry_after": 64.57}"#;
    let limited = format!(
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 65\r\nContent-Length: {}\r\n\r\n{limited}",
        limited.len()
    );
    let discord = Destination::reacting(move |before| {
        Reaction::Answer(if before == 0 {
            limited.clone()
        } else {
            NO_CONTENT.to_owned()
        })
    });
    alerting.add(
        "a",
        "discord",
        &discord.url(&format!("/api/webhooks/1/{SECRET}")),
    );

    let begin = clock::now_ms();
    alerting.crash();
    alerting.deliver();
    alerting.crash();
    alerting.deliver();
    assert_eq!(discord.requests().len(), 1, "the second event waits too");
    let retry_at = alerting.listed("a")["retry_at"].as_i64().unwrap();
    assert!((begin + 65_000..begin + 95_000).contains(&retry_at));

    alerting.sql("UPDATE alerts SET retry_at = retry_at - 65000");
    alerting.deliver();
    assert_eq!(discord.requests().len(), 2);
    assert_eq!(alerting.listed("a")["last_error"], Value::Null);
}

#[test]
fn a_destination_that_fails_for_a_day_is_tried_ever_more_rarely_and_given_up() {
    let alerting = Alerting::new();
    let failing = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops";
    let broken = Destination::answering(failing);
    alerting.add("a", "webhook", &broken.url(&format!("/{SECRET}")));
    alerting.crash();

    let mut pauses = Vec::new();
    for _ in 0..4 {
        alerting.deliver();
        let retry_at = alerting.listed("a")["retry_at"].as_i64().unwrap();
        pauses.push((retry_at - clock::now_ms() + 5000) / 10_000);
        alerting.sql("UPDATE alerts SET retry_at = 1");
    }
    assert_eq!(pauses, [1, 2, 4, 8], "in 10 s");
    assert_eq!(broken.requests().len(), 4);
    let why = alerting.listed("a")["last_error"].clone();
    assert_eq!(why, "500 Internal Server Error: oops");

    alerting.sql("UPDATE alert_outbox SET created_at = created_at - 86400001");
    let log = alerting.deliver();
    assert!(
        log.contains("1 events were not delivered within a day: 500"),
        "{log}"
    );
    assert_eq!(alerting.states(), json!({"failed": 1}));
    assert_eq!(broken.requests().len(), 4);
}

#[test]
fn a_destination_that_is_gone_is_given_up_at_once_and_not_flooded() {
    let alerting = Alerting::new();
    let unknown = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let gone = Destination::answering(unknown);
    alerting.add("a", "webhook", &gone.url("/"));
    alerting.happen("server.crashed", Some(1), "", 1);
    alerting.happen("server.crashed", Some(2), "", 1);
    alerting.deliver();
    assert_eq!(alerting.states(), json!({"failed": 1, "pending": 1}));
    assert_eq!(gone.requests().len(), 1);
    assert_eq!(alerting.listed("a")["last_error"], "404 Not Found");
}

#[test]
fn no_redirect_is_followed() {
    let alerting = Alerting::new();
    let inside = Destination::answering(OK);
    let location = inside.url(&format!("/{SECRET}"));
    let moved = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\n\r\n");
    let outside = Destination::answering(&moved);
    alerting.add("a", "webhook", &outside.url("/"));

    alerting.alert(&["test", "a"]).refused(
        1,
        &["307 Temporary Redirect (to 127.0.0.1)", "not followed"],
    );
    assert_eq!(outside.requests().len(), 1);
    assert_eq!(inside.requests().len(), 0);
}

#[test]
fn addresses_of_this_host_are_refused_unless_a_setting_allows_them() {
    let alerting = Alerting::with(&[]);
    let inside = Destination::answering(OK);
    for (name, url) in [
        ("a", inside.url("/x")),
        ("b", format!("http://localhost:{}/x", inside.port)),
        ("c", format!("http://2130706433:{}/x", inside.port)),
        ("d", format!("http://[::ffff:127.0.0.1]:{}/x", inside.port)),
        ("e", format!("http://0:{}/x", inside.port)),
    ] {
        alerting.add(name, "webhook", &url);
        let words = ["a private network", "LEFT4ME_ALERT_PRIVATE=1"];
        alerting.alert(&["test", name]).refused(1, &words);
    }
    assert_eq!(inside.requests().len(), 0);
}

#[test]
fn an_endless_answer_costs_neither_time_nor_memory() {
    let alerting = Alerting::new();
    let endless = Destination::reacting(|_| Reaction::Endless);
    alerting.add("a", "webhook", &endless.url("/"));

    let begin = Instant::now();
    let sent = alerting.alert(&["test", "a"]).done();
    assert!(sent.contains("200 OK"), "{sent}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    let written = endless.written.load(Ordering::Relaxed);
    assert!(written < 64 << 20, "{written} bytes left the destination");
}

#[test]
fn a_crash_loop_is_one_message_and_a_summary() {
    let alerting = Alerting::new();
    let ntfy = Destination::answering(OK);
    alerting.add("a", "ntfy", &ntfy.url("/x"));
    for _ in 0..8 {
        alerting.happen("server.crashed", Some(1), "ended by signal 11", 5);
        alerting.deliver();
    }
    assert_eq!(ntfy.requests().len(), 1);
    assert_eq!(alerting.states(), json!({"sent": 1, "pending": 39}));

    alerting.sql("UPDATE alert_outbox SET ended_at = ended_at - 600000 WHERE state = 'sent'");
    alerting.deliver();
    alerting.crash();
    alerting.deliver();
    let requests = ntfy.requests();
    assert_eq!(requests.len(), 2);
    let title = requests[1].header("title");
    assert!(title.ends_with("S1 crashed 39 more times"), "{title}");
    assert!(
        requests[1].body.ends_with("… and 29 more"),
        "{}",
        requests[1].body
    );
    assert_eq!(
        alerting.states(),
        json!({"sent": 2, "merged": 38, "pending": 1})
    );
}

#[test]
fn two_thousand_events_at_once_are_a_few_messages() {
    let alerting = Alerting::new();
    let discord = Destination::answering(NO_CONTENT);
    alerting.add(
        "a",
        "discord",
        &discord.url(&format!("/api/webhooks/1/{SECRET}")),
    );
    for server in 1..=3 {
        alerting.happen("job.failed", Some(server), "no", 660);
    }
    alerting.happen("disk.low", None, "0.1 GiB of 40.0 GiB are free", 20);

    for _ in 0..3 {
        alerting.deliver();
    }
    let requests = discord.requests();
    assert_eq!(requests.len(), 5);
    let last = requests[4].json()["content"].as_str().unwrap().to_owned();
    assert!(
        last.contains("and 1996 more") && last.ends_with("… and 1986 more"),
        "{last}"
    );
    assert!(last.encode_utf16().count() <= 2000);
    assert_eq!(alerting.states(), json!({"sent": 5, "merged": 1995}));
}

#[test]
fn https_needs_a_certificate_that_this_host_trusts() {
    let trusting = authority().display().to_string();
    let server = Destination::with_tls(OK);
    let url = format!("https://localhost:{}/{SECRET}", server.port);
    let private = ("LEFT4ME_ALERT_PRIVATE", "1");

    let alerting = Alerting::with(&[private, ("SSL_CERT_FILE", &trusting)]);
    alerting.add("a", "webhook", &url);
    let sent = alerting.alert(&["test", "a"]).done();
    assert_eq!(
        sent,
        format!("sent to https://localhost:{}/…: 200 OK\n", server.port)
    );

    let alerting = Alerting::with(&[private]);
    alerting.add("a", "webhook", &url);
    let words = ["TLS with localhost failed", "certificate"];
    alerting.alert(&["test", "a"]).refused(69, &words);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn alerts_are_added_listed_muted_and_removed() {
    let alerting = Alerting::new();
    let url = format!("https://discord.com/api/webhooks/1/{SECRET}");
    let mut command = alerting
        .host
        .command(LEFT4ME, &["alert", "add", "ops", "--discord", "-"]);
    command.args(["--events", "disk,crash", "--server", "S2", "--server", "3"]);
    let file = alerting.host.root.write("url", format!("{url}\n"));
    command.stdin(std::fs::File::open(file).unwrap());
    let added = Finished::from(command.output().unwrap()).done();
    assert_eq!(
        added,
        "alert 'ops' added; try it with `left4me alert test ops`\n"
    );

    let listed = alerting.listed("ops");
    assert_eq!(listed["events"], json!(["crash", "disk"]));
    assert_eq!(listed["servers"], json!([2, 3]));
    assert_eq!(listed["destination"], "https://discord.com/…");
    let table = alerting.alert(&["list"]).done();
    assert!(
        table.contains("discord https://discord.com/…") && table.contains("S2, S3"),
        "{table}"
    );
    assert!(!table.contains(SECRET));

    alerting.alert(&["mute", "ops", "--for", "2h"]).done();
    let until = alerting.listed("ops")["muted_until"].as_i64().unwrap();
    assert!((7_100_000..=7_200_000).contains(&(until - clock::now_ms())));
    alerting.alert(&["unmute", "ops"]).done();
    assert_eq!(alerting.listed("ops")["muted_until"], Value::Null);

    alerting.alert(&["remove", "ops"]).done();
    assert_eq!(alerting.alert(&["list", "--json"]).json(), json!([]));
    let kinds = Finished::from(
        alerting
            .host
            .command(crate::support::JOB, &["events", "--json"])
            .output()
            .unwrap(),
    )
    .done();
    for kind in [
        "alert.added",
        "alert.muted",
        "alert.unmuted",
        "alert.removed",
    ] {
        assert!(kinds.contains(kind), "{kind}: {kinds}");
    }
    assert!(!kinds.contains(SECRET));
}

#[test]
fn bad_input_is_refused_in_one_line_that_does_not_repeat_a_secret() {
    let alerting = Alerting::new();
    let bad_url = format!("https://u:{SECRET}@example.org/");
    let webhook = format!("https://example.org/{SECRET}");
    let cases: &[(i32, &[&str], &str)] = &[
        (2, &["add", "a"], "--discord"),
        (
            2,
            &["add", "a", "--discord", &webhook, "--ntfy", &webhook],
            "cannot be used with",
        ),
        (
            2,
            &["add", "a", "--webhook", &webhook, "--events", "moon"],
            "a class of events",
        ),
        (2, &["add", "a\n", "--webhook", &webhook], "alert name"),
        (
            3,
            &["add", "a", "--webhook", &webhook, "--server", "S9"],
            "S9",
        ),
        (3, &["test", "a"], "no alert 'a'"),
        (3, &["mute", "a", "--for", "2h"], "no alert 'a'"),
        (3, &["remove", "a"], "no alert 'a'"),
        (2, &["mute", "a", "--for", "2 weeks"], "s, m, h or d"),
    ];
    for (code, args, words) in cases {
        let refused = alerting.alert(args);
        refused.refused(*code, &[words]);
        let is_quoted = refused.err.contains(SECRET);
        assert!(!is_quoted, "{refused:?}");
    }

    for (kind, url, words) in [
        ("webhook", bad_url.as_str(), "password"),
        ("webhook", "ftp://example.org/", "https://HOST"),
        ("discord", webhook.as_str(), "webhooks/NUMBER/TOKEN"),
        ("mail", "anna", "NAME@HOST"),
    ] {
        let refused = alerting.alert(&["add", "a", &format!("--{kind}"), url]);
        refused.failed(2, &[words]);
        assert_eq!(refused.err.lines().count(), 1, "{refused:?}");
        assert!(!refused.err.contains(SECRET), "{refused:?}");
    }

    alerting.add("a", "webhook", &webhook);
    let again = alerting.alert(&["add", "a", "--webhook", &webhook]);
    again.refused(4, &["exists already"]);
}

#[test]
fn the_worker_and_each_poll_notify_when_alerts_wait() {
    let alerting = Alerting::new();
    alerting.add("a", "webhook", "https://example.org/x");
    let socket = UnixDatagram::bind(alerting.host.root.join("alerts.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let run = |program: &str, args: &[&str]| {
        let mut command = alerting.host.command(program, args);
        command.envs(alerting.envs.iter().cloned());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
        command.output().unwrap();
    };

    // Nobody listens on the helper's socket, so the job fails.
    alerting.host.enqueue(&["start", "--server", "S1"]);
    run(WORKER, &["--idle-seconds", "0"]);
    socket.recv(&mut [0; 8]).expect("from the worker");
    assert_eq!(alerting.states(), json!({"pending": 1}));

    run(POLLER, &[]);
    socket
        .recv(&mut [0; 8])
        .expect("from the poller, which repeats it");
    alerting.alert(&["mute", "a", "--for", "1d"]).done();
    while socket.set_nonblocking(true).is_ok() && socket.recv(&mut [0; 8]).is_ok() {}
    run(POLLER, &[]);
    assert!(socket.recv(&mut [0; 8]).is_err(), "nothing waits any more");
}

#[test]
fn a_disk_that_has_space_again_is_told() {
    let alerting = Alerting::new();
    let ntfy = Destination::answering(OK);
    alerting.add("a", "ntfy", &ntfy.url("/x"));
    alerting.sql("UPDATE poll SET disk_low_since = 1");
    let mut poll = alerting.host.command(POLLER, &[]);
    poll.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    poll.output().unwrap();
    poll.output().unwrap();

    alerting.deliver();
    let [sent] = &ntfy.requests()[..] else {
        panic!("{:?}", ntfy.requests())
    };
    assert!(sent.header("title").ends_with("the disk has space again"));
    assert!(sent.body.contains("GiB are free"), "{}", sent.body);
    assert_eq!(sent.header("priority"), "default");
}

#[test]
fn without_left4me_notify_nothing_is_lost() {
    let mut alerting = Alerting::new();
    alerting.add("a", "webhook", "https://example.org/x");
    alerting.envs.push((
        "LEFT4ME_NOTIFY_SOCKET".to_owned(),
        alerting
            .host
            .root
            .join("missing.sock")
            .display()
            .to_string(),
    ));
    alerting
        .alert(&["test", "a"])
        .refused(69, &["left4me-notify.socket"]);
    alerting.crash();
    alerting.deliver();
    assert_eq!(alerting.states(), json!({"pending": 1}));
    assert!(deliveries::any_pending(alerting.db().connection()).unwrap());
}

#[test]
fn what_is_no_request_is_refused_by_left4me_notify() {
    let envs = TestHost::new().root.envs();
    let long = "x".repeat(300_000);
    let odd_target = json!({
        "to": {"channel": "webhook", "text": "file:///etc/passwd"},
        "message": {"title": "", "text": "", "is_bad": true, "document": {}},
    });
    for bad in ["", "[]", "{}", "\u{1}", &long, &odd_target.to_string()] {
        let mut conversation = Conversation::start(&[NOTIFY], &envs);
        conversation.send_line(bad);
        let answer = conversation.receive().unwrap();
        assert!(answer["refused"].is_string(), "{bad:.40}: {answer}");
        assert_eq!(ended(&mut conversation.child), 0);
    }
}
