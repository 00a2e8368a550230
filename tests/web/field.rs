//! What people met in the field: names in every script, several pages of one browser, long logs,
//! sessions that end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use left4me::base::names::JobId;
use left4me::db::{jobs, logs, tokens, users};
use left4me::wire::Stream;
use serde_json::json;

use crate::support::host::TestHost;
use crate::support::http::Web;
use crate::support::page::Page;
use crate::support::{Finished, until};

/// `é` as a Mac writes it, and as the others do.
const CAFE: [&str; 2] = ["Cafe\u{301} ночь / «50/50»", "Caf\u{e9} ночь / «50/50»"];
const ANNA: [&str; 2] = ["Анна О'Не\u{438}\u{306}л", "Анна О'Не\u{439}л"];

/// With an admin `root` and a user [`ANNA`], who has a blueprint.
fn host() -> TestHost {
    let host = TestHost::new();
    host.user("root", users::Role::Admin);
    host.user_with_blueprint(ANNA[0], "ночь");
    host
}

#[test]
fn a_name_is_free_text_and_the_same_in_web_api_and_command_line() {
    let host = host();
    let web = Web::start(&host, &[]);
    // However it is written, it is the same user, and the same server.
    let mut anna = web.signed_in(ANNA[0]);
    assert!(
        web.signed_in(ANNA[1])
            .get("/")
            .page()
            .text("header")
            .contains(ANNA[1])
    );

    let made = anna.post(
        "/servers",
        &[("name", CAFE[0]), ("blueprint", "1"), ("port", "")],
    );

    assert_eq!(made.status, 303, "{}", made.body);
    assert!(anna.get("/servers/1").body.contains(CAFE[1]));
    let again = anna.post(
        "/servers",
        &[("name", CAFE[1]), ("blueprint", "1"), ("port", "")],
    );

    assert_eq!(again.status, 409, "{}", again.body);

    for name in CAFE {
        let Finished { code, out, err } = host.left4me(&["server", "show", name, "--json"]);
        assert_eq!(code, 0, "{err}");
        let server: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (&server["name"], &server["user"]),
            (&CAFE[1].into(), &ANNA[1].into())
        );

        let (code, _, err) = host.job(&["enqueue", "initialize", "--server", name]);
        assert_eq!(code, 0, "{err}");
    }

    let Finished { code, err, .. } = host.left4me(&[
        "server",
        "create",
        "Ещё один",
        "--blueprint",
        "ночь",
        "--user",
        ANNA[0],
    ]);

    assert_eq!(code, 0, "{err}");

    let token = host.db().write(|tx| {
        Ok(tokens::create(
            tx,
            1,
            "test",
            users::find(tx, &"root".parse()?)?.id,
            &"x".parse()?,
        )?
        .1)
    });

    let bearer = format!("Bearer {}", token.unwrap());
    let list = |user: &str| {
        let query = serde_urlencoded::to_string([("user", user)]).unwrap();
        web.client()
            .send(
                "GET",
                &format!("/api/servers?{query}"),
                &[("Authorization", &bearer)],
                "",
            )
            .json()
    };

    assert_eq!(
        list(ANNA[0])["items"].as_array().unwrap().len(),
        2,
        "{}",
        list(ANNA[0])
    );

    assert_eq!(
        list("x' OR '1'='1")["items"].as_array().unwrap().len(),
        0,
        "a name means nothing to SQL"
    );

    let mut root = web.signed_in("root");
    let query = serde_urlencoded::to_string([("user", ANNA[0])]).unwrap();
    assert_eq!(root.get(&format!("/admin/jobs?{query}")).status, 200);
    let page = root.get("/admin/users").page();
    let action = page.attribute("form[action$='/disable']", "action");
    assert_eq!(root.post(&action, &[]).location(), "/admin/users");
    assert!(
        anna.get("/").location().starts_with("/login"),
        "the account is disabled"
    );
}

#[test]
fn a_refused_name_is_shown_as_it_was_typed() {
    let host = host();
    let Finished { code, err, .. } = host.left4me(&["overlay", "add", "Сервер"]);
    assert_eq!(code, 2);
    assert!(err.contains("'Сервер'") && !err.contains("\\u{"), "{err}");
    let Finished { err, .. } = host.left4me(&["server", "show", "нет такого"]);
    assert!(err.contains("no server is named 'нет такого'"), "{err}");
    let Finished { code, err, .. } =
        host.left4me(&["server", "create", "ad\u{200b}min", "--blueprint", "ночь"]);

    assert!(code == 2 && err.contains("invisible"), "{err}");
    let web = Web::start(&host, &[]);
    let mut anna = web.signed_in(ANNA[1]);
    let bad = anna.post(
        "/servers",
        &[("name", "ночь\u{202e}"), ("blueprint", "1"), ("port", "")],
    );

    assert!(
        bad.status == 422 && bad.page().text("#name-trouble").contains("'ночь\\u{202e}'"),
        "{}",
        bad.body
    );
}

#[test]
fn text_that_turns_a_line_around_is_visible_on_pages_and_on_a_terminal() {
    const TURNED: &str = "ad\u{202e}nim\u{2066}";
    let host = host();
    let job = host.enqueue(&["install"]);
    // As an older version, or a hand, may have left it.
    let stored = "UPDATE jobs SET requested_by = ?1; ".to_owned();
    host.db().connection().execute(&stored, [TURNED]).unwrap();
    host.db()
        .connection()
        .execute("UPDATE users SET name = ?1 WHERE name = 'root'", [TURNED])
        .unwrap();
    for args in [
        &["list"][..],
        &["list", "--json"],
        &["show", "1"],
        &["show", "1", "--json"],
        &["events"],
        &["events", "--json"],
    ] {
        let (code, out, err) = host.job(args);
        assert_eq!(code, 0, "{err}");
        assert!(!out.contains(['\u{202e}', '\u{2066}']), "{args:?}: {out}");
    }

    let shown: serde_json::Value = host.show(job);
    assert_eq!(
        shown["requested_by"], TURNED,
        "for programs it is what it is"
    );

    let Finished { out, .. } = host.left4me(&["user", "list"]);
    assert!(out.contains("ad\\u{202e}nim\\u{2066}"), "{out}");

    let web = Web::start(&host, &[]);
    host.user("boss", users::Role::Admin);
    let mut boss = web.signed_in("boss");
    for path in [
        "/",
        "/admin",
        "/admin/jobs",
        "/admin/users",
        "/admin/events",
        "/jobs/1",
    ] {
        let page = boss.get(path);
        let read = page.page();
        // A filter's option sends the name as it is stored.
        let values = read.attribute_values(":not(option)");
        assert!(
            page.status == 200 && !read.text("html").contains('\u{202e}'),
            "{path}: {}",
            page.body
        );

        assert!(
            !values.iter().any(|value| value.contains('\u{202e}')),
            "{path}: {}",
            page.body
        );
    }

    assert!(boss.get("/jobs/1").body.contains("ad\\u{202e}nim"));
}

#[test]
fn one_stream_carries_what_all_pages_of_a_browser_follow() {
    let host = host();
    let job = host.enqueue(&["install"]);
    let other = host.enqueue(&["update"]);
    let print = |job: JobId, line: &str| {
        host.db()
            .write(|tx| logs::append(tx, job, 5, Stream::Stdout, line))
            .unwrap();
    };

    for line in ["one", "two", "three"] {
        print(job, line);
    }
    print(other, "other");
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    for bad in [
        "follow=job:x:",
        "follow=job:1",
        "follow=job:1:-3",
        "follow=server:1:",
        &"follow=job:1:&".repeat(17),
    ] {
        assert_eq!(root.get(&format!("/live?{bad}")).status, 422, "{bad}");
    }

    let cookie = root.cookie();
    let mut stream = web.connect();
    let path = format!("/live?after=page&follow=job:{job}:1&follow=job:999:&follow=job:{other}:");
    stream
        .write_all(
            format!(
                "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n\r\n",
                web.addr
            )
            .as_bytes(),
        )
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    // Each event with the feed that it belongs to.
    let (mut topic, mut name, mut id) = ("null".to_owned(), String::new(), String::new());
    let mut next = move || loop {
        let line = lines.next().expect("the stream goes on");
        if let Some(value) = line.strip_prefix("event: ") {
            value.clone_into(&mut name);
        } else if let Some(value) = line.strip_prefix("id: ") {
            value.clone_into(&mut id);
        } else if let Some(data) = line.strip_prefix("data: ") {
            if name == "topic" {
                assert_eq!(
                    id, "",
                    "an event without an id must not have another feed's"
                );

                data.clone_into(&mut topic);
            } else if name != "state" {
                return (topic.clone(), name.clone(), id.clone(), data.to_owned());
            }
        }
    };

    let mut received = Vec::new();
    while received.len() < 5 {
        received.push(next());
    }
    let has = |topic: &str, name: &str, words: &str| {
        let found = received
            .iter()
            .find(|(a, b, _, data)| a == topic && b == name && data.contains(words));
        found
            .unwrap_or_else(|| panic!("no {name} of {topic} with {words}: {received:#?}"))
            .2
            .clone()
    };

    has("null", "changed", "\"all\":true");
    assert_eq!(
        [
            has("0", "stdout", "\"two\""),
            has("0", "stdout", "\"three\"")
        ],
        ["2", "3"]
    );

    has("1", "over", "no longer exists");
    assert_eq!(has("2", "stdout", "\"other\""), "1");
    assert!(
        !received.iter().any(|(.., data)| data.contains("\"one\"")),
        "what the page has is not sent again"
    );

    assert!(
        web.get("/metrics")
            .contains("left4me_web_streams{kind=\"changes\"} 1"),
        "it is one stream"
    );

    // What is new comes with its own feed, too; another's job is not followed.
    print(job, "four");
    let four = loop {
        let event = next();
        if event.1 == "stdout" {
            break event;
        }
    };

    assert!(
        four.0 == "0" && four.2 == "4" && four.3.contains("four"),
        "{four:?}"
    );

    let mut anna = web.signed_in(ANNA[0]);
    let cookie = anna.cookie();
    assert_eq!(anna.get(&format!("/jobs/{job}")).status, 404);
    let mut stream = web.connect();
    let request = format!(
        "GET /live?follow=job:{job}: HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n\r\n",
        web.addr
    );

    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(
        lines.any(|line| line.contains("no longer exists")),
        "it is over at once"
    );
}

#[test]
fn the_beginning_of_a_long_log_is_line_1_on() {
    const LINES: i64 = 7000;
    let host = host();
    let job = host.enqueue(&["install"]);
    let fill = |tx: &rusqlite::Transaction<'_>| {
        (1..=LINES).try_for_each(|seq| {
            logs::insert(
                tx,
                job,
                seq,
                5,
                Stream::Stdout,
                None,
                &format!("line {seq}"),
            )
        })
    };

    host.db().write(fill).unwrap();
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    assert_eq!(
        root.get(&format!("/jobs/{job}"))
            .page()
            .attribute("#log", "data-lines"),
        format!("/jobs/{job}/lines")
    );

    let mut seen = Vec::new();
    while let Some(last) = Some(seen.last().copied().unwrap_or(0)).filter(|last| *last < LINES) {
        let page = root.get(&format!("/jobs/{job}/lines?after={last}")).json();
        let lines = page.as_array().unwrap();
        assert!(!lines.is_empty(), "after {last}");
        assert_eq!(lines[0]["line"], format!("line {}", last + 1));
        seen.extend(lines.iter().map(|line| line["seq"].as_i64().unwrap()));
    }

    assert_eq!(seen, (1..=LINES).collect::<Vec<_>>());
    assert_eq!(
        web.signed_in(ANNA[0])
            .get(&format!("/jobs/{job}/lines"))
            .status,
        404
    );
}

#[test]
fn a_job_that_waits_is_cancelled_from_a_table_and_one_that_began_is_not() {
    let host = host();
    let job = host.enqueue(&["install"]);
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    let action = format!("/jobs/{job}/cancel");
    let page = root.get("/admin/jobs?state=queued");
    assert!(page.page().has_form(&action), "{}", page.body);

    let from = format!("http://{}/admin/jobs?state=queued", web.addr);
    let body = format!("csrf={}&queued=1", root.csrf);
    let headers = [
        ("Sec-Fetch-Site", "same-origin"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Referer", from.as_str()),
    ];

    let answer = root.send("POST", &action, &headers, &body);
    assert_eq!(
        answer.location(),
        "/admin/jobs?state=queued",
        "the table is shown again"
    );

    assert_eq!(host.show(job)["state"], "cancelled");
    assert!(
        !root.get("/admin/jobs").page().has_form(&action),
        "there is nothing more to cancel"
    );

    let job = host.enqueue(&["install"]);
    host.db().write(|tx| jobs::claim(tx, job, "w", 9)).unwrap();
    let late = root.post(&format!("/jobs/{job}/cancel"), &[("queued", "1")]);
    assert!(
        late.status == 409 && late.body.contains("does not wait any more"),
        "{}",
        late.body
    );

    assert_eq!(host.show(job)["state"], "running");
}

#[test]
fn a_job_that_begins_while_it_is_cancelled_from_a_table_goes_on() {
    let host = host();
    let job = host.enqueue(&["install"]);
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    let (mut db, root) = (host.db(), &mut root);
    let answer = std::thread::scope(|scope| {
        let cancel = db.write(|tx| {
            jobs::claim(tx, job, "w", 9)?;
            // Nothing shows that it has begun until this is committed, and the request has to wait for that.
            let cancel =
                scope.spawn(move || root.post(&format!("/jobs/{job}/cancel"), &[("queued", "1")]));
            std::thread::sleep(std::time::Duration::from_millis(500));
            Ok(cancel)
        });
        cancel.unwrap().join().unwrap()
    });
    assert!(
        answer.status == 409 && answer.body.contains("does not wait any more"),
        "{} {}",
        answer.status,
        answer.body
    );
    assert_eq!(host.show(job)["state"], "running");
}

/// Servers 1 and 2 ran before the update, server 3 did not.
#[test]
fn a_cancelled_update_shows_each_outcome_and_offers_to_start_again() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut anna = web.signed_in(ANNA[0]);
    for name in ["один", "два", "три"] {
        anna.post(
            "/servers",
            &[("name", name), ("blueprint", "1"), ("port", "")],
        );
    }

    let job = host.enqueue(&["update"]);
    let sql = format!(
        "UPDATE servers SET actual_state = 'stopped';
         UPDATE jobs
         SET state = 'cancelled', started_at = 5, finished_at = 9, exit_code = 1, worker_id = 'w'
         WHERE id = {job};
         DELETE FROM tasks WHERE job_id = {job};
         INSERT INTO tasks (job_id, position, kind, server_id, state, started_at, finished_at,
             was_running)
         VALUES ({job}, 0, 'stop', 1, 'succeeded', 5, 6, 1),
             ({job}, 1, 'stop', 2, 'succeeded', 5, 6, 1),
             ({job}, 2, 'stop', 3, 'succeeded', 5, 6, 0),
             ({job}, 3, 'install-runtime', NULL, 'cancelled', 6, 9, NULL),
             ({job}, 4, 'start-if-ran', 1, 'cancelled', NULL, 9, NULL),
             ({job}, 5, 'start-if-ran', 2, 'cancelled', NULL, 9, NULL),
             ({job}, 6, 'start-if-ran', 3, 'cancelled', NULL, 9, NULL)"
    );

    host.db().write(|tx| Ok(tx.execute_batch(&sql)?)).unwrap();
    let mut root = web.signed_in("root");
    let outcomes = root.get(&format!("/api/jobs/{job}")).json()["server_outcomes"].clone();
    let of = |at: usize, field: &str| outcomes[at][field].as_str().map(str::to_owned);
    let words = [0, 1, 2].map(|at| of(at, "outcome").unwrap());
    assert_eq!(
        words,
        ["left-stopped", "left-stopped", "cancelled"],
        "{outcomes:#}"
    );

    assert!(
        of(0, "error").unwrap().contains("was not started again"),
        "{outcomes:#}"
    );

    let path = format!("/jobs/{job}");
    let page = root.get(&path).page();
    let each = page.texts("#outcomes li");
    for (name, end) in [
        ("один", "left stopped"),
        ("два", "left stopped"),
        ("три", "not done"),
    ] {
        assert!(
            each.iter()
                .any(|text| text.starts_with(&format!("{name} {end}"))),
            "{name}: {each:?}"
        );
    }

    let offers = |page: &Page| [1, 2, 3].map(|id| page.has_form(&format!("/servers/{id}/start")));
    assert_eq!(
        offers(&page),
        [true, true, false],
        "what did not run before is not started"
    );

    assert_eq!(page.text("#start-1 button"), "Start один again");

    // The button starts that server, once however often it is pressed.
    let key = page.form_field("/servers/1/start", "key");
    let to = [(); 2].map(|()| {
        root.post("/servers/1/start", &[("key", &key)])
            .location()
            .to_owned()
    });

    assert_eq!(to[0], to[1]);
    let started = host.show(JobId(to[0].rsplit('/').next().unwrap().parse().unwrap()));
    assert_eq!(
        (&started["operation"], &started["servers"]),
        (&json!("start"), &json!([1]))
    );

    host.db()
        .write(|tx| {
            Ok(tx.execute_batch("UPDATE servers SET actual_state = 'running' WHERE id = 1")?)
        })
        .unwrap();
    assert_eq!(
        offers(&root.get(&path).page()),
        [false, true, false],
        "it is up again"
    );
}

/// 2026-10-25: at 03:00 CEST it is 02:00 CET.
#[test]
fn times_on_pages_name_their_zone_also_in_the_hour_that_comes_twice() {
    let host = host();
    let twice = [1_792_888_200_000, 1_792_891_800_000];
    let job = host.enqueue(&["install"]);
    let append = |at| {
        host.db()
            .write(|tx| logs::append(tx, job, at, Stream::Stdout, "line"))
            .unwrap()
    };

    twice.into_iter().for_each(append);
    let sql = format!("UPDATE jobs SET created_at = {} WHERE id = {job}", twice[0]);
    host.db().write(|tx| Ok(tx.execute_batch(&sql)?)).unwrap();
    let web = Web::start_with(&host, &[], &[("TZ", "Europe/Berlin")]);
    let mut root = web.signed_in("root");
    let page = root.get(&format!("/jobs/{job}")).page();
    assert_eq!(
        page.attributes("#log time", "title"),
        ["2026-10-25 02:30:00 CEST", "2026-10-25 02:30:00 CET"]
    );
    assert_eq!(page.texts("#log time"), ["02:30:00", "02:30:00"]);

    let requested = "#facts time[datetime='2026-10-25T00:30:00Z']";
    assert_eq!(
        page.attribute(requested, "title"),
        "2026-10-25 02:30:00 CEST"
    );
    assert!(page.text("main").contains("Times in CE"));

    // What log.js goes by for lines that come later: before, between and after two changes of the
    // clocks.
    let zone = page.attribute("#log", "data-zone");
    let entries: Vec<Vec<&str>> = zone
        .split(',')
        .map(|entry| entry.split(' ').collect())
        .collect();
    assert_eq!(entries.len(), 3, "{zone}");
    assert_eq!(entries[0][0], "0", "{zone}");
    for entry in &entries {
        assert!(
            [["60", "CET"], ["120", "CEST"]].contains(&[entry[1], entry[2]]),
            "{zone}"
        );
    }

    assert!(
        entries[0][2] != entries[1][2] && entries[0][2] == entries[2][2],
        "{zone}"
    );

    let web = Web::start_with(&host, &[], &[("TZ", "Mars/Olympus")]);
    let page = web.signed_in("root").get(&format!("/jobs/{job}")).page();
    assert_eq!(
        page.attributes("#log time", "title")[0],
        "2026-10-25 00:30:00 UTC"
    );
    assert!(page.text("main").contains("Times in UTC"));
    assert!(page.attribute("#log", "data-zone").starts_with("0 0 UTC"));
}

#[test]
fn the_way_to_a_servers_history_is_always_there() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut anna = web.signed_in(ANNA[0]);
    let path = anna
        .post(
            "/servers",
            &[("name", "ночь"), ("blueprint", "1"), ("port", "")],
        )
        .location()
        .to_owned();
    assert!(anna.get(&path).page().has_link(&format!("{path}/jobs")));
}

#[test]
fn a_form_that_is_sent_after_the_session_ended_leads_back_to_its_page() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut stranger = web.client();
    let from = format!("http://{}/blueprints/1/edit", web.addr);
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Referer", from.as_str()),
    ];

    let answer = stranger.send("POST", "/blueprints/1", &headers, "name=x&config=typed");
    assert_eq!(answer.location(), "/login?next=%2Fblueprints%2F1%2Fedit");
    let answer = stranger.send("POST", "/blueprints/1", &headers[..1], "name=x");
    assert_eq!(answer.location(), "/login");
}

#[test]
fn a_way_of_writing_a_name_has_no_tries_of_its_own() {
    let host = host();
    let web = Web::start(&host, &[]);
    let refused = (0..40).any(|number| {
        web.client()
            .post(
                "/login",
                &[("name", ANNA[number % 2]), ("password", "wrong")],
            )
            .status
            == 429
    });

    assert!(refused);
    let mut spaced = web.client();
    let answer = spaced.post(
        "/login",
        &[("name", &format!(" {}", ANNA[0])), ("password", "wrong")],
    );

    assert_eq!(answer.status, 429, "{}", answer.body);
}

/// A proxy keeps a connection for its next request: when the front left meanwhile, that request
/// would be lost (502).
#[test]
fn the_front_does_not_exit_while_a_client_keeps_a_connection() {
    let host = host();
    let mut command = host.command(
        crate::support::WEB,
        &["--listen", "127.0.0.1:0", "--idle-seconds", "1"],
    );

    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let address = printed
        .find_map(|line| Some(line.split_once("listening at http://")?.1.trim().to_owned()))
        .unwrap();
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let begun = Instant::now();
    let request = format!("GET /login HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let open = begun.elapsed();
    assert!(
        rest.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&rest)
    );

    assert!(
        open > Duration::from_secs(8),
        "the connection was closed after {open:?}; a proxy lets go of it after 5 s"
    );

    let code = until("the front leaves when none is open any more", || {
        child.try_wait().unwrap()
    });
    assert!(code.success(), "{code}");
}
