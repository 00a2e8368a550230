//! The pages of a player over HTTP: the real left4me-web on a real database.

use left4me::base::clock;
use left4me::base::names::{JobId, ServerId};
use left4me::db::{blueprints, jobs, logs, request_keys, servers, tokens, users};
use left4me::domain::job::JobState;
use left4me::wire::Stream;

use crate::support::PASSWORD;
use crate::support::host::{PORTS, TestHost};
use crate::support::http::{Client, Web};

/// Text that must stay text wherever it is shown.
const HOSTILE: &str = "</pre><script>alert(1)</script>\u{1b}[31m \" onload='x'\r\nevent: end";

/// An admin `root`, and users anna and berta with a blueprint `plain` each.
fn host() -> TestHost {
    let host = TestHost::new();
    host.user("root", users::Role::Admin);
    for name in ["anna", "berta"] {
        host.user_with_blueprint(name, "plain");
    }

    host
}

/// Creates a server with the form and returns its page.
fn server(client: &mut Client, name: &str) -> String {
    let form = client.get("/servers/new");
    assert_eq!(form.status, 200);
    let blueprint = form.page().form_field("/servers", "blueprint");
    let answer = client.post(
        "/servers",
        &[("name", name), ("blueprint", &blueprint), ("port", "")],
    );

    assert_eq!(answer.status, 303, "{}", answer.body);
    answer.location().to_owned()
}

/// Presses the button that starts this server; returns the address of the job.
fn start(client: &mut Client, server: &str) -> String {
    let action = format!("{server}/start");
    let key = client.get(server).page().form_field(&action, "key");
    client.post(&action, &[("key", &key)]).location().to_owned()
}

fn id(path: &str) -> i64 {
    path.rsplit('/')
        .next()
        .and_then(|id| id.split('#').next())
        .and_then(|id| id.parse().ok())
        .expect("an id")
}

#[test]
fn a_player_makes_a_server_starts_it_once_and_cancels_that() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut anna = web.signed_in("anna");
    let page = anna.get("/");
    assert!(page.body.contains("No servers yet"), "{}", page.body);

    let path = server(&mut anna, "Friday");
    let page = anna.get(&path);
    assert_eq!(page.status, 200);
    assert!(page.body.contains("127.0.0.1:27000"), "{}", page.body);

    let page = page.page();
    assert_eq!(page.text("h1"), "Friday");
    assert!(
        !page.has_form(&format!("{path}/restart")),
        "what does not run cannot be restarted"
    );

    // Two clicks on one button.
    let start = page.form_field(&format!("{path}/start"), "key");
    let first = anna.post(&format!("{path}/start"), &[("key", &start)]);
    let second = anna.post(&format!("{path}/start"), &[("key", &start)]);
    assert_eq!((first.status, first.location()), (303, second.location()));

    let job = first.location().to_owned();
    assert_eq!(host.state(JobId(id(&job))), JobState::Queued);

    let page = anna.get(&job);
    assert!(
        page.body.contains("queued")
            && page.body.contains("initialize")
            && page.body.contains("web:anna")
    );

    let dashboard = anna.get("/").page();
    assert!(dashboard.text("#servers").contains("desired: running") && dashboard.has_link(&job));

    assert!(
        !dashboard.has_form(&format!("{path}/start")),
        "with a job under way there is nothing to press"
    );

    let cancelled = anna.post(
        &format!("{job}/cancel"),
        &[("reason", "wrong <b>server</b>"), ("cascade", "1")],
    );

    assert_eq!(cancelled.status, 303, "{}", cancelled.body);

    let cancellation = anna.get(&job).page().text("#cancellations");
    assert!(
        cancellation.contains("wrong <b>server</b>") && cancellation.contains("before execution"),
        "{cancellation}"
    );

    let again = anna.post(&format!("{job}/cancel"), &[]);
    assert_eq!(again.status, 400);
    assert!(again.body.contains("already finished"), "{}", again.body);

    let bad = anna.post(&format!("{job}/cancel"), &[("task", "x")]);
    assert_eq!(bad.status, 422, "{}", bad.body);

    let retried = anna.post(&format!("{job}/retry"), &[("key", "r-1")]);
    assert_eq!(
        anna.post(&format!("{job}/retry"), &[("key", "r-1")])
            .location(),
        retried.location()
    );

    assert!(
        anna.get(retried.location())
            .body
            .contains(&format!("job #{}", id(&job)))
    );

    let all = anna.get(&format!("{path}/jobs?page=1"));
    assert!(all.body.contains("1–2 of 2"), "{}", all.body);

    let far = anna.get(&format!("{path}/jobs?page=99999999999&page=x"));
    assert_eq!(far.status, 200, "a bad page is the first one");

    let kept = host.db().read(|tx| {
        request_keys::find(
            tx,
            users::by_name(tx, "anna")?.unwrap().id,
            &start.parse()?,
            0,
        )
    });

    assert_eq!(kept.unwrap(), Some(JobId(id(&job))));
}

/// What the poller records: who plays on server 1.
const PLAYERS: &str = "UPDATE servers SET actual_state = 'running', version = version + 1;
    INSERT OR REPLACE INTO server_game (server_id, responding, players, bots, max_players, map,
        response_ms, answered_at, asked_at)
    SELECT 1, 'yes', 2, 1, 8, '<i>c1m1_hotel', 12, unixepoch() * 1000, unixepoch() * 1000;
    INSERT INTO server_players VALUES (1, 0, '', 0, 1), (1, 1, 'شريف <b> | &amp;', 3, 90),
        (1, 2, '\\u{202e}# 1 \"Anna\"', 40, 4000);
    INSERT INTO samples (server_id, at, restarts, players) SELECT 1, unixepoch() * 1000, 0, 2;";

#[test]
fn pages_say_who_plays_and_a_name_stays_text() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut anna = web.signed_in("anna");
    let path = server(&mut anna, "Friday");
    let page = anna.get(&path).page();
    assert!(
        !page.has("#players table") && page.text("#players dd").contains('–'),
        "it does not run"
    );

    let db = host.db();
    db.connection().execute_batch(PLAYERS).unwrap();
    let (begin, _) = clock::day_before(clock::now_ms()).unwrap();
    let sql = "INSERT INTO samples_10min (server_id, at, restarts, players) VALUES (1, ?1, 0, 7)";
    db.connection().execute(sql, [begin]).unwrap();
    let dashboard = anna.get("/").page();
    let cell = dashboard.text("[data-label=\"Players\"]");
    assert_eq!(cell, "2/8 1 bot<i>c1m1_hotel");
    assert!(!dashboard.has("[data-label=\"Players\"] i"));

    // The highest score first; each name is isolated from the text around it.
    let page = anna.get(&path).page();
    assert_eq!(
        page.texts("#players tbody th"),
        ["\\u{202e}# 1 \"Anna\"", "شريف <b> | &amp;", "connecting"]
    );
    assert_eq!(page.texts("#players tbody th bdi").len(), 2);
    assert_eq!(page.texts("#players tbody td.number")[0], "40");
    let facts = page.text("#players");
    assert!(
        facts.contains("2/8 1 bot")
            && facts.contains("<i>c1m1_hotel")
            && facts.contains("within 12 ms")
            && facts.contains("peak 7 players yesterday"),
        "{facts}"
    );
    let graphs = page.texts("#graphs figcaption");
    assert!(graphs[0] == "Players, last 24 hours2", "{graphs:?}");

    // No answer is not an empty server.
    db.connection()
        .execute_batch(
            "UPDATE server_game SET responding = 'no', players = NULL, bots = NULL,
             max_players = NULL, map = NULL, response_ms = NULL, unanswered = 1;
             DELETE FROM server_players",
        )
        .unwrap();
    let cell = anna.get("/").page().text("[data-label=\"Players\"]");
    assert_eq!(cell, "no answer");
    let page = anna.get(&path).page();
    assert!(page.text("#players dl").contains("no answer") && !page.has("#players table"));
}

#[test]
fn a_restart_for_silence_is_the_owners_choice() {
    let host = host();
    let web = Web::start(&host, &[]);
    let (mut anna, mut berta) = (web.signed_in("anna"), web.signed_in("berta"));
    let path = server(&mut anna, "Friday");
    let action = format!("{path}/unresponsive");
    let is_set = || {
        let server = servers::get(host.db().connection(), ServerId(1)).unwrap();
        server.unwrap().restart_unresponsive
    };

    let value = anna.get(&path).page().form_field(&action, "restart");
    assert_eq!(value, "yes");
    assert_eq!(berta.post(&action, &[("restart", &value)]).status, 404);
    assert!(!is_set());
    assert_eq!(anna.post(&action, &[("restart", &value)]).status, 303);
    assert!(is_set());

    let value = anna.get(&path).page().form_field(&action, "restart");
    assert_eq!(value, "no");
    assert_ne!(anna.post(&action, &[("restart", "perhaps")]).status, 303);
    assert!(is_set());
    assert_eq!(anna.post(&action, &[("restart", &value)]).status, 303);
    assert!(!is_set());
}

#[test]
fn nothing_of_a_player_is_there_for_another_and_an_admin_sees_all() {
    let host = host();
    let web = Web::start(&host, &[]);
    let (mut anna, mut berta, mut root) = (
        web.signed_in("anna"),
        web.signed_in("berta"),
        web.signed_in("root"),
    );

    let path = server(&mut anna, "Friday");
    let job = start(&mut anna, &path);

    for path in [
        path.clone(),
        format!("{path}/jobs"),
        format!("{path}/log"),
        job.clone(),
        format!("{job}/log.txt"),
    ] {
        assert_eq!(berta.get(&path).status, 404, "{path}");
        assert_eq!(root.get(&path).status, 200, "{path}");
    }

    for action in [
        "start",
        "stop",
        "restart",
        "reset",
        "delete",
        "initialize",
        "remove",
        "blueprint",
    ] {
        let answer = berta.post(&format!("{path}/{action}"), &[("blueprint", "1")]);
        assert_eq!(answer.status, 404, "{action}: {}", answer.body);
    }

    for action in ["cancel", "retry"] {
        assert_eq!(
            berta.post(&format!("{job}/{action}"), &[]).status,
            404,
            "{action}"
        );
    }

    assert!(!berta.get("/").body.contains("Friday"));

    let all = root.get("/");
    assert!(
        all.body.contains("Friday") && all.body.contains("anna"),
        "{}",
        all.body
    );

    assert!(!root.get("/?q=saturday").page().has("#server-1"));
    assert!(root.get("/?q=FRI&state=unknown").page().has("#server-1"));

    assert_eq!(host.state(JobId(id(&job))), JobState::Queued);

    // A server of another user's blueprint.
    let answer = berta.post("/servers", &[("name", "X"), ("blueprint", "1")]);
    assert_eq!(answer.status, 422, "{}", answer.body);

    // An admin's job for all servers reveals nothing about the others.
    server(&mut berta, "Saturday");

    let (code, _, words) = host.job(&["enqueue", "stop", "--all"]);
    assert_eq!(code, 0, "{words}");

    let list = anna.get(&format!("{path}/jobs"));
    assert!(
        list.body.contains("#2")
            && !list.body.contains("Saturday")
            && !list.page().has_link("/jobs/2"),
        "{}",
        list.body
    );
}

#[test]
fn a_forms_errors_are_shown_and_input_is_kept() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut anna = web.signed_in("anna");
    server(&mut anna, "Friday");

    for (name, port, status, words) in [
        ("Friday", "", 409, "a server named"),
        ("Sunday", "27000", 409, "port 27000 is taken"),
        ("Sunday", "80", 422, "outside of 27000-27999"),
        ("Sunday", "x", 422, "a port is a number"),
        ("<b>\u{202e}</b>", "", 422, "not a valid server name"),
    ] {
        let answer = anna.post(
            "/servers",
            &[("name", name), ("blueprint", "1"), ("port", port)],
        );

        assert_eq!(answer.status, status, "{name} {port}: {}", answer.body);
        assert!(
            answer.body.contains(words),
            "{name} {port}: {}",
            answer.body
        );

        let page = answer.page();
        assert_eq!(page.form_field("/servers", "name"), name);
        assert_eq!(page.form_field("/servers", "port"), port);
        assert!(
            page.has("[aria-invalid=true]") && !page.has("main b"),
            "{}",
            answer.body
        );

        assert!(
            !answer.body.contains("--port"),
            "an option of the command line"
        );
    }

    assert_eq!(servers::all(host.db().connection()).unwrap().len(), 1);
}

#[test]
fn a_log_is_shown_as_text_to_its_last_lines_and_downloaded_whole() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut anna = web.signed_in("anna");
    let path = server(&mut anna, "Friday");
    let job = start(&mut anna, &path);
    let wide = "漢".repeat(4096);

    host.db()
        .write(|tx| {
            for number in 0..998 {
                logs::append(
                    tx,
                    JobId(id(&job)),
                    1_000,
                    Stream::Stdout,
                    &format!("line {number}."),
                )?;
            }

            logs::append(tx, JobId(id(&job)), 2_000, Stream::Stderr, HOSTILE)?;
            logs::append(tx, JobId(id(&job)), 3_000, Stream::Stdout, &wide)
        })
        .unwrap();

    let page = anna.get(&job);
    assert!(!page.body.contains('\u{1b}') && page.body.contains(&wide));

    let page = page.page();
    let shown = page.text("#log .line.stderr[data-seq='999']");
    assert!(
        shown.contains("</pre><script>alert(1)</script>") && !page.has("#log script"),
        "{shown}"
    );

    let numbers = page.attributes("#log .line", "data-seq");
    assert_eq!(
        (numbers[0].as_str(), numbers.len()),
        ("501", 500),
        "only the last 500 lines"
    );

    let whole = anna.get(&format!("{job}/log.txt"));
    assert_eq!(
        whole.header("content-type"),
        Some("text/plain; charset=utf-8")
    );

    assert!(
        whole
            .header("content-disposition")
            .is_some_and(|value| value.contains("attachment"))
    );

    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    assert!(
        whole.body.starts_with("line 0.\nline 1.\n") && whole.body.ends_with(&format!("{wide}\n"))
    );
    assert_eq!(whole.body.matches("line ").count(), 998);
}

#[test]
fn a_token_is_shown_once_and_revoked_by_its_owner_only() {
    let host = host();
    let web = Web::start(&host, &[]);
    let (mut anna, mut berta) = (web.signed_in("anna"), web.signed_in("berta"));
    let made = anna.post("/account/tokens", &[("name", "backup script")]);
    let text = made.page().text("#token");
    assert!(text.starts_with("l4m_"), "{text}");

    assert!(
        tokens::authenticate(host.db().connection(), &text)
            .unwrap()
            .is_some()
    );

    // The page with the text, reloaded.
    let again = anna.post("/account/tokens", &[("name", "backup script")]);

    assert!(
        again.status == 409 && again.body.contains("exists already") && !again.body.contains(&text),
        "{}",
        again.body
    );

    let page = anna.get("/account");
    assert!(
        page.body.contains("backup script") && !page.body.contains(&text),
        "never again"
    );

    assert!(!berta.get("/account").body.contains("backup script"));
    assert_eq!(berta.post("/account/tokens/1/revoke", &[]).status, 404);
    assert!(
        tokens::authenticate(host.db().connection(), &text)
            .unwrap()
            .is_some()
    );

    assert_eq!(anna.post("/account/tokens/1/revoke", &[]).status, 303);
    assert!(
        tokens::authenticate(host.db().connection(), &text)
            .unwrap()
            .is_none()
    );

    assert_eq!(
        anna.post("/account/tokens", &[("name", "backup script")])
            .status,
        200,
        "the old one is good no more"
    );

    assert_eq!(anna.post("/account/tokens", &[("name", "")]).status, 422);
}

#[test]
fn a_new_password_takes_the_old_one_and_ends_all_other_sessions() {
    let host = host();
    let web = Web::start(&host, &[]);
    let (mut here, mut there) = (web.signed_in("anna"), web.signed_in("anna"));
    let new = "another horse battery";
    let change = |client: &mut Client, current, new, again| {
        client.get("/account");
        client.post(
            "/account/password",
            &[("current", current), ("new", new), ("again", again)],
        )
    };

    for (current, new, again, words) in [
        ("wrong password", new, new, "current password is wrong"),
        (PASSWORD, new, "something else", "do not match"),
        (PASSWORD, "short", "short", "too short"),
    ] {
        let answer = change(&mut here, current, new, again);
        assert!(
            answer.status == 422 && answer.body.contains(words),
            "{words}: {}",
            answer.body
        );
    }

    assert_eq!(there.get("/").status, 200);

    let before = here.cookies.clone();
    assert_eq!(
        change(&mut here, PASSWORD, new, new).location(),
        "/account?done=password"
    );

    assert_ne!(here.cookies, before, "a session of its own");
    assert!(
        here.get("/account?done=password")
            .body
            .contains("signed out")
    );

    assert_eq!(there.get("/").location(), "/login");

    let mut old = web.client();
    old.cookies = before;
    assert_eq!(
        old.get("/").location(),
        "/login",
        "the old cookie is worth nothing"
    );

    web.client().sign_in("anna", new);
}

#[test]
fn a_hundred_servers_are_one_page_without_trouble() {
    let host = host();
    host.db()
        .write(|tx| {
            let user = users::by_name(tx, "anna")?.unwrap();
            let blueprint = blueprints::of_user(tx, user.id)?.remove(0);
            for number in 0..100 {
                let name = format!("Server {number}.").parse()?;
                let new = servers::NewServer {
                    user: user.id,
                    name: &name,
                    blueprint: blueprint.id,
                    port: None,
                };

                servers::create(tx, 1, "test", &new, PORTS)?;
            }

            Ok(())
        })
        .unwrap();

    let web = Web::start(&host, &[]);
    let mut anna = web.signed_in("anna");
    let page = anna.get("/").page();
    assert_eq!(page.count("form[action$='/start']"), 100);
    assert!(page.text("#servers").contains("Server 99."));

    let sql = "UPDATE servers SET actual_state = 'failed' WHERE id = 70;
               UPDATE servers SET drift = 'down', drift_since = 1 WHERE id IN (70, 80)";
    host.db().connection().execute_batch(sql).unwrap();
    host.db()
        .connection()
        .execute(
            "UPDATE servers SET actual_state = 'running' WHERE id = 1",
            [],
        )
        .unwrap();

    let here = anna.get("/?q=27000").body;
    assert!(
        here.contains("127.0.0.1:27000") && !here.contains("steam://"),
        "it would be the player's own machine"
    );

    let page = anna.get("/").page();
    let counts = page.texts("#counts a");
    for count in ["1 failed", "2 drifted", "1 running"] {
        assert!(counts.iter().any(|text| text == count), "{counts:?}");
    }

    let rows = page.attributes("#servers tbody tr", "id");
    assert_eq!(
        rows[..4],
        ["server-70", "server-80", "server-1", "server-2"],
        "what is wrong comes first"
    );

    assert_eq!(
        anna.get("/?state=drift").page().count("#servers tbody tr"),
        2
    );

    // A server that can be removed: nothing was ever started.
    assert_eq!(anna.post("/servers/100/remove", &[]).status, 303);
    assert!(
        servers::get(host.db().connection(), ServerId(100))
            .unwrap()
            .is_none()
    );

    assert_eq!(anna.get("/servers/100").status, 404);
    for bad in [
        "/servers/0",
        "/servers/x",
        "/servers/-1",
        "/servers/99999999999999999999",
        "/jobs/%00",
        "/jobs/1e3",
    ] {
        assert_eq!(anna.get(bad).status, 404, "{bad}");
    }

    assert!(
        jobs::list(
            host.db().connection(),
            &jobs::Filter {
                limit: 9,
                ..jobs::Filter::default()
            }
        )
        .unwrap()
        .is_empty()
    );
}

/// app.js relies on this: an update never turns one button into another under the pointer.
#[test]
fn what_acts_in_a_region_that_moves_has_an_id_of_its_own() {
    let host = host();
    let web = Web::start(&host, &[]);

    let (mut anna, mut root) = (web.signed_in("anna"), web.signed_in("root"));
    for name in ["Friday", "Saturday"] {
        server(&mut anna, name);
    }

    let sql = |text: &str| host.db().connection().execute_batch(text).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut check = |client: &mut Client, path: &str| {
        let page = client.get(path);
        assert_eq!(page.status, 200, "{path}");

        let page = page.page();
        let all = page.attributes("[id]", "id");
        let acting = "[data-live] form, [data-live] details";
        let ids = page.attributes(acting, "id");
        assert_eq!(ids.len(), page.count(acting), "{path}: one has no id");

        for id in ids {
            assert_eq!(
                all.iter().filter(|other| **other == id).count(),
                1,
                "{path}: {id}"
            );

            seen.insert(id);
        }
    };

    for state in ["stopped", "running", "failed"] {
        sql(&format!(
            "UPDATE servers SET actual_state = '{state}', actual_since = 1"
        ));
        for path in ["/", "/servers/1", "/admin"] {
            check(&mut root, path);
        }
    }

    let job = anna
        .post("/servers/1/start", &[("key", "a")])
        .location()
        .to_owned();
    for path in ["/", "/servers/1", &job] {
        check(&mut anna, path);
    }

    sql("UPDATE jobs SET state = 'running', started_at = 1, worker_id = 'w'");
    check(&mut anna, &job);
    sql("UPDATE jobs SET state = 'cancelling'");
    check(&mut anna, &job);
    sql(
        "UPDATE jobs SET state = 'failed', finished_at = 2, exit_code = 1;
         UPDATE tasks SET state = 'skipped', finished_at = 2",
    );

    check(&mut anna, &job);
    root.post("/admin/pause", &[("action", "pause")]);
    check(&mut root, "/admin");

    for id in [
        "power-2-start",
        "power-1-restart",
        "ask-1-reset",
        "ask-1-remove",
        "cancel-form",
        "force",
        "retry-form",
        "resume-form",
        "pause",
    ] {
        assert!(seen.contains(id), "{id} was not on any page: {seen:?}");
    }
}

/// If a connection of ours lost its locks, another program could remove the write-ahead log, and
/// the front would from then on read and write a file that no one else sees.
#[test]
fn commits_of_other_programs_are_seen_after_many_opens() {
    let host = host();
    let web = Web::start(&host, &[]);
    let mut anna = web.signed_in("anna");
    server(&mut anna, "Friday");

    for name in ["Saturday", "Sunday", "Monday"] {
        assert_eq!(anna.get("/").status, 200);
        let other = rusqlite::Connection::open(host.database()).unwrap();
        other
            .execute("UPDATE servers SET name = ?1", [name])
            .unwrap();
        drop(other);
        assert!(host.root.join("db/left4me.db-wal").exists(), "it is in use");

        assert!(anna.get("/").body.contains(name), "{name}");
    }
}
