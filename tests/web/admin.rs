//! Blueprints and the admin's pages, as a browser without JavaScript gets them: the real program on
//! a real database.

use std::os::unix::fs::PermissionsExt as _;

use left4me::base::names::{JobId, ServerId};
use left4me::db::events::NewEvent;
use left4me::db::users::Role;
use left4me::db::{
    activity, blueprint_change, blueprints, events, jobs, queue, servers, tokens, users,
};
use left4me::domain::job::JobState;
use left4me::host::instance::initialize;

use crate::support::PASSWORD;
use crate::support::host::TestHost;
use crate::support::http::{Answer, Web};
use crate::support::page::Page;

const HOSTILE: &str = "</pre><script>alert(1)</script>\"'";

/// anna is an admin; bert and cora are users; alice owns the installation's servers and cannot sign
/// in.
fn started(servers: u16) -> (TestHost, Web) {
    let host = TestHost::with_servers(servers);
    host.user("anna", Role::Admin);
    host.user("bert", Role::User);
    host.user("cora", Role::User);

    let web = Web::start(&host, &[]);
    (host, web)
}

/// Checks the status and that a reader of the page sees these words; returns the page.
#[track_caller]
fn says(answer: &Answer, status: u16, words: &[&str]) -> Page {
    assert_eq!(answer.status, status, "{}", answer.body);
    let page = answer.page();
    let text = page.text("body");
    for word in words {
        assert!(text.contains(word), "'{word}' is missing in {text}");
    }

    assert!(
        page.count("script:not([src])") == 0 && !page.has("[style]"),
        "{}",
        answer.body
    );
    page
}

/// The same for a page that also has elements of each of these selectors.
#[track_caller]
fn has(answer: &Answer, status: u16, words: &[&str], selectors: &[&str]) {
    let page = says(answer, status, words);
    for selector in selectors {
        assert!(page.has(selector), "no {selector} in {}", answer.body);
    }
}

#[track_caller]
fn leads(answer: &Answer, path: &str) {
    assert_eq!(answer.status, 303, "{}", answer.body);
    assert_eq!(answer.location(), path);
}

fn overlays(host: &TestHost, names: &[&str]) {
    for name in names {
        std::fs::create_dir_all(host.root.join("overlays").join(name)).unwrap();
        let (name, reference) = (name.parse().unwrap(), name.parse().unwrap());
        let made = host
            .db()
            .write(|tx| left4me::db::overlays::create(tx, 3, "test", &name, &reference));
        made.unwrap();
    }
}

#[test]
fn a_blueprint_is_made_shown_edited_and_deleted() {
    let (host, web) = started(0);
    overlays(&host, &["maps", "mods", "unused"]);

    let mut bert = web.signed_in("bert");
    says(&bert.get("/blueprints"), 200, &["No blueprints yet"]);
    has(
        &bert.get("/blueprints/new"),
        200,
        &["maps", "unused"],
        &[
            "[name=position]",
            "button[formaction='/blueprints/preview#preview']",
        ],
    );

    let fields = [
        ("name", "Friday <b>night"),
        ("overlay", "maps"),
        ("position", "2"),
        ("overlay", "mods"),
        ("position", "1"),
        ("overlay", "unused"),
        ("position", ""),
        ("arguments", "+map\r\nc1m1_hotel\r\n"),
        (
            "config",
            "hostname \"x\"\r\n\r\n// </textarea><script>alert(1)</script>",
        ),
    ];

    let shown = bert.post("/blueprints/preview", &fields);

    says(
        &shown,
        200,
        &[
            "overlays/mods",
            "+hostport 27000",
            "L4D2_PORT=27000",
            "What a server gets",
        ],
    );

    let folders = shown.page().texts("#preview td .mono");
    assert!(folders[1].ends_with("overlays/mods") && folders[2].ends_with("overlays/maps"));
    assert_eq!(
        blueprints::all(host.db().connection()).unwrap().len(),
        1,
        "a preview keeps nothing"
    );

    let made = bert.post("/blueprints", &fields);
    let at = made.location().to_owned();
    let page = bert.get(&at);
    says(
        &page,
        200,
        &[
            "Friday <b>night",
            "hostname \"x\"",
            "// </textarea><script>alert(1)</script>",
            "installation",
        ],
    );

    let id = at.rsplit('/').next().unwrap().parse().unwrap();
    let content = || blueprints::content(host.db().connection(), id).unwrap();
    assert_eq!(
        content()
            .overlays
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["mods", "maps"]
    );

    assert_eq!(content().config.len(), 3);

    let form = bert.get(&format!("{at}/edit"));
    let edit = says(&form, 200, &[]);
    assert!(edit.has_form(&at));
    assert_eq!(edit.form_field(&at, "name"), "Friday <b>night");
    assert!(
        edit.form_field(&at, "config")
            .ends_with("// </textarea><script>alert(1)</script>\n")
    );

    let seen = edit.form_field(&at, "updated_at");
    let changed = [
        ("updated_at", seen.as_str()),
        ("name", "Saturday"),
        ("overlay", "maps"),
        ("position", "7"),
    ];

    leads(&bert.post(&at, &changed), &at);
    assert_eq!(
        (content().overlays.len(), content().arguments.len()),
        (1, 0)
    );

    // The same form again, loaded before the change.
    let late = bert.post(
        &at,
        &[
            ("updated_at", &seen),
            ("name", "Sunday"),
            ("config", "typed"),
        ],
    );

    let refused = says(&late, 409, &["was changed since"]);
    assert_eq!(refused.form_field(&at, "name"), "Sunday");
    assert_eq!(refused.form_field(&at, "config"), "typed");

    assert_eq!(
        blueprints::get(host.db().connection(), id)
            .unwrap()
            .unwrap()
            .name,
        "Saturday"
    );

    let fresh = refused.form_field(&at, "updated_at");
    leads(
        &bert.post(
            &at,
            &[
                ("updated_at", &fresh),
                ("name", "Sunday"),
                ("config", "typed"),
            ],
        ),
        &at,
    );

    leads(&bert.post(&format!("{at}/delete"), &[]), "/blueprints");
    assert_eq!(bert.get(&at).status, 404);
}

#[test]
fn errors_are_shown_at_their_field_and_no_input_is_lost() {
    let (host, web) = started(0);
    overlays(&host, &["maps", "mods"]);

    let mut bert = web.signed_in("bert");
    let wrong = [
        ("name", "42"),
        ("overlay", "maps"),
        ("position", "1"),
        ("overlay", "mods"),
        ("position", "1"),
        ("arguments", "+map\n+hostport"),
        ("config", HOSTILE),
    ];

    for path in ["/blueprints", "/blueprints/preview"] {
        let answer = bert.post(path, &wrong);
        let page = says(
            &answer,
            422,
            &["have the same position 1", "line 2: argument"],
        );

        assert!(page.has("#name-trouble") && page.has("#name[aria-invalid=true]"));
        assert_eq!(page.form_field("/blueprints", "name"), "42");
        assert_eq!(
            page.form_field("/blueprints", "arguments"),
            "+map\n+hostport"
        );
        assert_eq!(page.form_field("/blueprints", "config"), HOSTILE);

        assert_eq!(
            page.count("[autofocus]"),
            1,
            "the first of them has the focus"
        );
    }

    leads(
        &bert.post("/blueprints", &[("name", "one")]),
        "/blueprints/2",
    );

    says(
        &bert.post("/blueprints", &[("name", "one"), ("config", "kept")]),
        409,
        &["already", "kept"],
    );

    let gone = bert.post(
        "/blueprints",
        &[
            ("name", "two"),
            ("overlay", "gone"),
            ("position", "1"),
            ("config", "kept"),
        ],
    );

    says(&gone, 422, &["no overlay is named", "kept"]);

    // The preview reports a missing folder, and shows the rest.
    std::fs::remove_dir(host.root.join("overlays/mods")).unwrap();

    let answer = bert.post(
        "/blueprints/preview",
        &[
            ("name", "x"),
            ("overlay", "mods"),
            ("position", "1"),
            ("config", "a b"),
        ],
    );

    let page = says(
        &answer,
        200,
        &["it does not exist", "cannot start with this"],
    );
    assert!(
        page.verbatim("#preview pre[aria-label='server.cfg']")
            .contains("\na b\n")
    );

    for bad in [
        "/blueprints/0",
        "/blueprints/x",
        "/blueprints/99",
        "/blueprints/99/edit",
    ] {
        assert_eq!(bert.get(bad).status, 404, "{bad}");
    }
}

#[test]
fn the_preview_is_what_initializing_writes() {
    let (host, web) = started(1);
    overlays(&host, &["maps"]);

    let id = blueprints::all(host.db().connection()).unwrap()[0].id;
    let change = blueprint_change::Change {
        overlays: Some(vec!["maps".parse().unwrap()]),
        arguments: Some(vec!["+map".parse().unwrap(), "c1m1".parse().unwrap()]),
        config: Some(vec!["sv_pure 1".parse().unwrap()]),
        ..blueprint_change::Change::default()
    };

    host.db()
        .write(|tx| blueprint_change::edit(tx, 5, "test", id, &change))
        .unwrap();

    let spec = servers::spec(host.db().connection(), ServerId(1)).unwrap();
    initialize(&host.root.path(), &ServerId(1).into(), &spec, None, || {
        Ok(())
    })
    .unwrap();

    let page = web.signed_in("anna").get(&format!("/blueprints/{id}"));
    let text = page.page().verbatim("#preview");
    for file in ["instance.env", "layer/left4dead2/cfg/server.cfg"] {
        let written = std::fs::read_to_string(host.root.join("instances/1").join(file)).unwrap();
        assert!(
            text.contains(&written),
            "{file}: {written}\nis not in {text}"
        );
    }

    assert!(says(&page, 200, &["What S1 gets"]).has_link("/servers/1"));
}

#[test]
fn another_users_blueprint_does_not_exist_and_an_admin_sees_all() {
    let (host, web) = started(1);
    let (mut bert, mut anna) = (web.signed_in("bert"), web.signed_in("anna"));
    for path in ["/blueprints/1", "/blueprints/1/edit"] {
        assert_eq!(bert.get(path).status, 404, "{path}");
        assert_eq!(anna.get(path).status, 200, "{path}");
    }

    let seen = anna
        .get("/blueprints/1/edit")
        .input("updated_at")
        .unwrap()
        .to_owned();
    let fields = [
        ("id", "1"),
        ("updated_at", seen.as_str()),
        ("name", "stolen"),
    ];

    for path in [
        "/blueprints/1",
        "/blueprints/1/delete",
        "/blueprints/preview",
    ] {
        assert_eq!(bert.post(path, &fields).status, 404, "{path}");
    }

    assert!(!bert.get("/blueprints").page().has_link("/blueprints/1"));
    says(&anna.get("/blueprints"), 200, &["plain", "alice", "S1"]);
    has(
        &anna.post("/blueprints/1/delete", &[]),
        409,
        &["S1", "was not deleted"],
        &["a[href='/servers/1']"],
    );

    assert_eq!(
        blueprints::all(host.db().connection()).unwrap()[0].name,
        "plain"
    );
}

#[test]
fn a_damaged_row_is_reported_and_can_be_fixed() {
    let (host, web) = started(1);
    let damage = "UPDATE blueprints SET arguments = '[\"+hostport\"]' WHERE id = 1";
    host.db().connection().execute_batch(damage).unwrap();

    let mut anna = web.signed_in("anna");
    says(
        &anna.get("/blueprints/1"),
        200,
        &["no server can be started", "+hostport", "S1"],
    );

    has(
        &anna.get("/servers/1"),
        200,
        &["cannot be started with its blueprint", "+hostport"],
        &["a[href='/blueprints/1/edit']"],
    );

    let form = anna.get("/blueprints/1/edit");
    let edit = says(
        &form,
        200,
        &["No server can be started", "line 1: argument"],
    );
    assert_eq!(edit.form_field("/blueprints/1", "arguments"), "+hostport\n");

    let seen = edit.form_field("/blueprints/1", "updated_at");
    leads(
        &anna.post("/blueprints/1", &[("updated_at", &seen), ("name", "plain")]),
        "/blueprints/1",
    );

    assert!(!anna.get("/blueprints/1").body.contains("can be started"));
}

#[test]
fn only_an_admin_sees_the_admins_pages() {
    let (host, web) = started(1);
    let (mut bert, mut anonymous) = (web.signed_in("bert"), web.client());

    let pages = ["", "/jobs", "/users", "/overlays", "/events", "/health"]
        .map(|page| format!("/admin{page}"));
    for page in &pages {
        assert_eq!(bert.get(page).status, 403, "{page}");
        assert!(
            anonymous.get(page).location().starts_with("/login"),
            "{page}"
        );

        has(
            &web.signed_in("anna").get(page),
            200,
            &[],
            &["[aria-current=page]"],
        );
    }

    for form in [
        "/admin/install",
        "/admin/update",
        "/admin/pause",
        "/admin/users",
        "/admin/users/cora/disable",
        "/admin/users/cora/enable",
        "/admin/users/cora/password",
        "/admin/tokens/1/revoke",
        "/admin/overlays",
        "/admin/overlays/maps/remove",
    ] {
        assert_eq!(
            bert.post(form, &[("action", "pause"), ("password", "long enough")])
                .status,
            403,
            "{form}"
        );
    }

    assert_eq!(queue::pause(host.db().connection()).unwrap(), None);
    assert!(
        jobs::list(
            host.db().connection(),
            &jobs::Filter {
                limit: 9,
                ..Default::default()
            }
        )
        .unwrap()
        .is_empty()
    );
}

#[test]
fn an_install_is_asked_for_once_however_often_one_clicks() {
    let (host, web) = started(1);
    let mut anna = web.signed_in("anna");
    let page = anna.get("/admin");

    has(
        &page,
        200,
        &["not installed", "No jobs yet", "steamcmd is missing"],
        &["[data-servers='*']"],
    );

    assert!(
        !page.page().has_form("/admin/install"),
        "without steamcmd it would fail"
    );

    host.root.write("steam/steamcmd.sh", "#!/bin/sh\n");

    let steamcmd = host.root.join("steam/steamcmd.sh");
    std::fs::set_permissions(&steamcmd, std::fs::Permissions::from_mode(0o755)).unwrap();

    let page = anna.get("/admin");
    assert!(
        !page.page().has_form("/admin/update"),
        "there is nothing to update"
    );

    // A running server has the game files mounted: an install is refused, an update stops it first.
    host.db()
        .connection()
        .execute_batch("UPDATE servers SET actual_state = 'running'")
        .unwrap();

    let up = anna.get("/admin");
    assert!(
        !up.page().has_form("/admin/install")
            && up.page().has_form("/admin/update")
            && up.page().has_form("/admin/check"),
        "{}",
        up.body
    );

    host.db()
        .connection()
        .execute_batch("UPDATE servers SET actual_state = 'stopped'")
        .unwrap();

    let key = page.page().form_field("/admin/install", "key");
    let first = anna
        .post("/admin/install", &[("key", &key)])
        .location()
        .to_owned();

    assert_eq!(first, "/jobs/1");
    leads(&anna.post("/admin/install", &[("key", &key)]), &first);
    leads(&anna.post("/admin/install", &[("key", "another")]), &first);
    leads(&anna.post("/admin/update", &[]), "/jobs/2");
    assert_eq!(anna.post("/admin/install", &[("key", "a b")]).status, 422);

    let job = jobs::get(host.db().connection(), JobId(1)).unwrap();
    assert_eq!(
        (job.operation.as_str(), job.requested_by.as_str()),
        ("install", "web:anna")
    );

    let page = says(&anna.get("/admin"), 200, &[]);
    assert_eq!(page.link("job 1").as_deref(), Some("/jobs/1"));
    assert_eq!(page.text("#game .badge.is-queued"), "queued");
    assert!(page.has_link("/jobs/2"));

    // Two buttons more: a check, and an update that repairs.
    leads(&anna.post("/admin/check", &[]), "/jobs/3");
    leads(&anna.post("/admin/check", &[]), "/jobs/3");
    leads(
        &anna.post("/admin/update", &[("validate", "yes")]),
        "/jobs/4",
    );
    let tasks = |id| {
        let job = jobs::get(host.db().connection(), JobId(id)).unwrap();
        job.tasks[0].kind.clone()
    };
    assert_eq!(
        [tasks(2), tasks(3), tasks(4)],
        ["check-build", "check-build", "install-runtime"]
    );
    for id in ["2", "3", "4"] {
        assert_eq!(host.job(&["cancel", id, "--no-wait"]).0, 0);
    }

    host.root.write(
        "installation/steamapps/appmanifest_222860.acf",
        "\"AppState\" { \"appid\" \"222860\" \"StateFlags\" \"4\" \"buildid\" \"8490279\" \
         \"InstalledDepots\" { \"222861\" { } \"222863\" { } } }",
    );

    host.db()
        .write(|tx| {
            jobs::claim(tx, JobId(1), "w", 9)?;
            let line = " Update state (0x61) downloading, progress: 45.32 (1 / 2)";
            left4me::db::logs::append(tx, JobId(1), 9, left4me::wire::Stream::Stdout, line)
        })
        .unwrap();

    let page = anna.get("/admin");
    has(
        &page,
        200,
        &["build 8490279", "downloading"],
        &["progress[value='45.3']", "a[href='/admin/jobs?state=live']"],
    );

    let page = page.page();
    assert!(
        !page.has_form("/admin/install") && !page.has_form("/admin/update"),
        "one is under way"
    );

    let found = left4me::domain::build::Builds {
        available: 8_490_280,
        published_at: Some(1),
        installed: Some(8_490_279),
        ..left4me::domain::build::Builds::default()
    };
    host.db()
        .write(|tx| left4me::db::builds::record(tx, &found, 9))
        .unwrap();
    let page = says(&anna.get("/admin"), 200, &["build 8490280, known"]);
    assert!(
        page.text("#game").contains("Published"),
        "{}",
        page.text("#game")
    );

    let listed = says(&anna.get("/admin/jobs?state=live"), 200, &["1–1 of 1"]);
    assert_eq!(listed.field("state").as_deref(), Some("live"));

    // The progress bar stays while other lines come, also when the page is reloaded.
    let more = |tx: &rusqlite::Transaction<'_>| {
        for _ in 0..600 {
            left4me::db::logs::append(
                tx,
                JobId(1),
                9,
                left4me::wire::Stream::Stdout,
                "something else",
            )?;
        }

        Ok(())
    };

    host.db().write(more).unwrap();

    for headers in [&[][..], &[("X-Live", "1")]] {
        has(
            &anna.send("GET", "/jobs/1", headers, ""),
            200,
            &["downloading, 1 B of 2 B"],
            &["[data-log-progress] > progress[max='100'][value='45.3']"],
        );
    }

    host.db()
        .connection()
        .execute("DELETE FROM job_logs", [])
        .unwrap();
    has(
        &anna.get("/jobs/1"),
        200,
        &[],
        &["[data-log-progress] > progress"],
    );
}

#[test]
fn the_queue_is_paused_with_a_reason_and_goes_on() {
    let (host, web) = started(0);
    let mut anna = web.signed_in("anna");
    leads(
        &anna.post(
            "/admin/pause",
            &[("action", "pause"), ("reason", "disk <full>")],
        ),
        "/admin",
    );

    let pause = queue::pause(host.db().connection()).unwrap().unwrap();
    assert_eq!(
        (pause.paused_by.as_str(), pause.reason.as_deref()),
        ("web:anna", Some("disk <full>"))
    );

    has(
        &anna.get("/admin"),
        200,
        &["Paused by", "disk <full>"],
        &["form[action='/admin/pause'] [name=action][value=resume]"],
    );

    says(&anna.get("/admin/health"), 200, &["paused by web:anna"]);
    leads(
        &anna.post("/admin/pause", &[("action", "resume")]),
        "/admin",
    );

    assert_eq!(queue::pause(host.db().connection()).unwrap(), None);
    assert_eq!(anna.post("/admin/pause", &[("action", "stop")]).status, 422);
    assert_eq!(anna.post("/admin/pause", &[]).status, 422);
}

#[test]
fn jobs_are_listed_by_state_operation_server_and_user_page_by_page() {
    let (host, web) = started(2);
    for number in 0..60 {
        let server = if number % 2 == 0 { "S1" } else { "S2" };
        host.enqueue(&["initialize", "--server", server]);
    }

    let mut anna = web.signed_in("anna");
    anna.post("/admin/install", &[]);

    let all = anna.get("/admin/jobs");
    has(
        &all,
        200,
        &["1–50 of 61"],
        &[
            "a[rel=next][href='/admin/jobs?state=&operation=&server=&user=&page=2']",
            "a[href='/jobs/61']",
        ],
    );

    has(
        &anna.get("/admin/jobs?page=2"),
        200,
        &["51–61 of 61"],
        &["a[href='/jobs/1']"],
    );

    let installs = anna.get("/admin/jobs?operation=install");
    let page = says(&installs, 200, &["1–1 of 1"]);
    assert_eq!(page.field("operation").as_deref(), Some("install"));

    let second = anna.get("/admin/jobs?server=2&state=queued");
    let page = says(&second, 200, &["1–30 of 30"]);
    assert_eq!(page.field("server").as_deref(), Some("2"));

    says(&anna.get("/admin/jobs?user=anna"), 200, &["1–1 of 1"]);
    says(
        &anna.get("/admin/jobs?user=cora"),
        200,
        &["none of 0", "No matching jobs"],
    );

    // A name is free text and has no meaning in SQL.
    for name in ["%27%20OR%201=1%20--", "%27%29%20OR%20%28%271%27=%271"] {
        says(
            &anna.get(&format!("/admin/jobs?user={name}")),
            200,
            &["none of 0"],
        );
    }

    for bad in ["state=x", "operation=%27", "server=-1", "user=%00"] {
        assert_eq!(anna.get(&format!("/admin/jobs?{bad}")).status, 422, "{bad}");
    }

    assert_eq!(anna.get("/admin/jobs?page=x").status, 404);
}

#[test]
fn accounts_are_made_shut_out_and_let_in_again() {
    let (host, web) = started(0);
    let mut anna = web.signed_in("anna");
    let new = [("name", "dora"), ("password", PASSWORD), ("admin", "yes")];

    leads(&anna.post("/admin/users", &new), "/admin/users");
    says(&anna.get("/admin/users"), 200, &["dora", "(you)"]);
    let page = says(&anna.post("/admin/users", &new), 409, &["exists already"]);
    assert_eq!(page.form_field("/admin/users", "name"), "dora");

    let bad = [("name", "Bad\u{202e}Name"), ("password", PASSWORD)];
    let page = says(&anna.post("/admin/users", &bad), 422, &[]);
    assert_eq!(page.form_field("/admin/users", "name"), "Bad\u{202e}Name");
    assert!(page.text("#name-trouble").contains("Bad\\u{202e}Name"));

    let short = anna.post("/admin/users", &[("name", "emil"), ("password", "hunter2")]);
    let page = says(&short, 422, &["too short"]);
    assert_eq!(page.form_field("/admin/users", "name"), "emil");
    assert!(!short.body.contains("hunter2"));

    let mut bert = web.signed_in("bert");
    leads(&anna.post("/admin/users/bert/disable", &[]), "/admin/users");
    assert!(
        bert.get("/blueprints").location().starts_with("/login"),
        "the session has ended"
    );

    let page = says(&anna.get("/admin/users"), 200, &[]);
    assert!(page.has_form("/admin/users/bert/enable"));

    leads(&anna.post("/admin/users/bert/enable", &[]), "/admin/users");
    leads(
        &anna.post(
            "/admin/users/bert/password",
            &[("password", "another secret")],
        ),
        "/admin/users",
    );

    assert_eq!(
        web.client()
            .post("/login", &[("name", "bert"), ("password", PASSWORD)])
            .status,
        422
    );

    says(
        &anna.post("/admin/users/bert/password", &[("password", "short")]),
        422,
        &["password of bert was not changed"],
    );

    says(
        &anna.post("/admin/users/anna/disable", &[]),
        409,
        &["you cannot disable your own account"],
    );

    for gone in [
        "/admin/users/missing/disable",
        "/admin/users/missing/password",
        "/admin/users/N%20o/enable",
    ] {
        assert_eq!(
            anna.post(gone, &[("password", PASSWORD)]).status,
            404,
            "{gone}"
        );
    }

    let db = host.db();
    let anna_row = users::by_name(db.connection(), "anna").unwrap().unwrap();
    assert!(!users::is_last_admin(db.connection(), anna_row.id).unwrap());
    leads(&anna.post("/admin/users/dora/disable", &[]), "/admin/users");
    assert!(users::is_last_admin(db.connection(), anna_row.id).unwrap());
}

#[test]
fn tokens_are_listed_with_their_last_use_and_revoked() {
    let (host, web) = started(0);
    let made = host.db().write(|tx| {
        let bert = users::find(tx, &"bert".parse()?)?;
        tokens::create(tx, 5, "test", bert.id, &"match <bot>".parse()?)
    });

    let (token, text) = made.unwrap();
    let mut anna = web.signed_in("anna");
    let page = anna.get("/admin/users");

    let listed = says(&page, 200, &["match <bot>", "never"]);
    assert!(listed.has_form("/admin/tokens/1/revoke"));

    assert!(!page.body.contains(&text));
    leads(
        &anna.post("/admin/tokens/1/revoke", &[]),
        "/admin/users#tokens",
    );

    assert!(
        tokens::all(host.db().connection()).unwrap()[0]
            .revoked_at
            .is_some(),
        "{token:?}"
    );

    says(&anna.get("/admin/users"), 200, &["revoked"]);
    assert_eq!(anna.post("/admin/tokens/9/revoke", &[]).status, 404);
    assert_eq!(anna.post("/admin/tokens/x/revoke", &[]).status, 404);
}

#[test]
fn overlays_come_and_go_unless_a_blueprint_needs_them() {
    let (host, web) = started(0);
    let mut anna = web.signed_in("anna");

    // The web front cannot create folders, so it offers the existing ones only.
    let none = anna.get("/admin/overlays");
    assert!(
        !none.page().has("[name=path]") && none.body.contains("left4me overlay add"),
        "{}",
        none.body
    );

    let missing = anna.post(
        "/admin/overlays",
        &[("name", "hotel"), ("path", "maps/dead-hotel")],
    );

    has(
        &missing,
        422,
        &["does not exist", "left4me overlay add"],
        &["#path-trouble"],
    );

    assert!(
        !host.root.join("overlays/maps").exists(),
        "no folder is made"
    );

    for folder in ["maps/dead-hotel/left4dead2", "mods/left4dead2"] {
        std::fs::create_dir_all(host.root.join("overlays").join(folder)).unwrap();
    }

    let page = says(&anna.get("/admin/overlays"), 200, &[]);
    assert_eq!(
        page.texts("#path option"),
        ["maps", "maps/dead-hotel", "mods"]
    );

    leads(
        &anna.post("/admin/overlays", &[("path", "mods")]),
        "/admin/overlays",
    );

    leads(
        &anna.post(
            "/admin/overlays",
            &[("name", "hotel"), ("path", "maps/dead-hotel")],
        ),
        "/admin/overlays",
    );

    let rest = anna.get("/admin/overlays").page().texts("#path option");
    assert!(
        rest.contains(&"maps".to_owned()) && !rest.contains(&"mods".to_owned()),
        "{rest:?}"
    );

    leads(
        &anna.post("/admin/overlays/mods/remove", &[]),
        "/admin/overlays",
    );

    let page = says(
        &anna.get("/admin/overlays"),
        200,
        &["overlays/maps/dead-hotel"],
    );
    assert!(page.has_form("/admin/overlays/hotel/remove"));

    let again = anna.post("/admin/overlays", &[("name", "hotel"), ("path", "x")]);
    let page = says(&again, 409, &["in the catalog already"]);
    assert_eq!(page.form_field("/admin/overlays", "path"), "x");

    assert!(
        !host.root.join("overlays/x").exists(),
        "no folder is made for nothing"
    );

    let bad = anna.post("/admin/overlays", &[("name", "a b"), ("path", "../x")]);
    let page = says(&bad, 422, &[]);
    assert!(page.has("#name-trouble") && page.has("#path-trouble"));
    assert_eq!(page.form_field("/admin/overlays", "path"), "../x");

    std::os::unix::fs::symlink("/etc", host.root.join("overlays/etc")).unwrap();
    says(
        &anna.post("/admin/overlays", &[("name", "etc")]),
        422,
        &["leads outside", "left4me overlay add"],
    );

    leads(
        &anna.post(
            "/blueprints",
            &[("name", "coop"), ("overlay", "hotel"), ("position", "1")],
        ),
        "/blueprints/2",
    );

    says(
        &anna.post("/admin/overlays/hotel/remove", &[]),
        409,
        &["2 ('coop' of anna)"],
    );

    leads(&anna.post("/blueprints/2/delete", &[]), "/blueprints");
    leads(
        &anna.post("/admin/overlays/hotel/remove", &[]),
        "/admin/overlays",
    );

    assert!(
        host.root.join("overlays/maps/dead-hotel").is_dir(),
        "its folder stays"
    );

    assert_eq!(anna.post("/admin/overlays/hotel/remove", &[]).status, 404);
    assert_eq!(anna.post("/admin/overlays/..%2Fx/remove", &[]).status, 404);
}

#[test]
fn events_are_shown_as_sentences() {
    let (host, web) = started(1);
    let id = host.enqueue(&["start", "--server", "S1"]);
    let reason = format!("why {HOSTILE}");

    host.db()
        .write(|tx| {
            let event = NewEvent {
                kind: "job.cancelled",
                actor: "web:bert",
                job: Some(id),
                server: Some(ServerId(1)),
                reason: &reason,
                ..NewEvent::default()
            };

            events::add(tx, 9, &event)?;
            events::add(
                tx,
                9,
                &NewEvent {
                    kind: "moon.landed",
                    actor: HOSTILE,
                    detail: "softly",
                    ..NewEvent::default()
                },
            )
        })
        .unwrap();

    let mut anna = web.signed_in("anna");
    let sentence = "Job 1 on S1 was cancelled by bert.";
    let all = anna.get("/admin/events");
    let page = says(
        &all,
        200,
        &[sentence, &reason, "moon.landed: softly", "anna signed in."],
    );
    assert_eq!(page.link("Job 1").as_deref(), Some("/jobs/1"));
    assert_eq!(page.link("S1").as_deref(), Some("/servers/1"));

    let only = anna.get("/admin/events?actor=bert&server=1&kind=job");
    let text = says(&only, 200, &[sentence]).text("tbody");
    assert!(
        !text.contains("signed in.") && !text.contains("requested"),
        "{text}"
    );

    says(
        &anna.get("/admin/events?kind=moon.landed"),
        200,
        &["softly"],
    );

    says(
        &anna.get("/admin/events?kind=x%27%20OR%201"),
        200,
        &["No matching events"],
    );

    assert_eq!(
        anna.get(&format!("/admin/events?actor={}", "x".repeat(300)))
            .status,
        422
    );

    assert_eq!(anna.get("/admin/events?server=x").status, 422);

    says(
        &anna.get("/admin/events?server=9"),
        200,
        &["server 9 (gone)", "No matching events"],
    );
}

#[test]
fn the_activity_is_turned_back_page_by_page_without_gap() {
    let (host, web) = started(0);
    host.db()
        .write(|tx| {
            (0..120).try_for_each(|number| {
                let name = format!("u{number}");
                events::add(
                    tx,
                    9,
                    &NewEvent {
                        kind: "user.added",
                        actor: "test",
                        detail: &name,
                        ..NewEvent::default()
                    },
                )
            })
        })
        .unwrap();

    let all = activity::page(
        host.db().connection(),
        &activity::ActivityFilter {
            kind: Some("user.added".to_owned()),
            limit: 999,
            ..Default::default()
        },
    );

    let wanted: Vec<String> = all
        .unwrap()
        .into_iter()
        .map(|entry| format!("added the user {}.", entry.event.detail))
        .collect();
    let mut anna = web.signed_in("anna");

    let (mut path, mut pages) = ("/admin/events?kind=user.added".to_owned(), String::new());
    for _ in 0..9 {
        let page = says(&anna.get(&path), 200, &[]);
        pages.push_str(&page.text("tbody"));
        let Some(older) = page.link("Older") else {
            break;
        };

        path = older;
    }

    let seen: Vec<usize> = wanted
        .iter()
        .map(|words| pages.matches(words.as_str()).count())
        .collect();
    assert!(
        wanted.len() > 120 && seen.iter().all(|&times| times == 1),
        "{seen:?}"
    );
}

#[test]
fn the_doctor_says_which_checks_it_can_make() {
    let (host, web) = started(1);
    let job = host.enqueue(&["start", "--server", "S1"]);
    assert_eq!(host.state(job), JobState::Queued);

    let page = web.signed_in("anna").get("/admin/health");
    says(
        &page,
        200,
        &[
            "it has not polled yet",
            "database check",
            "left4me doctor",
            "whether the units are active",
            "helper.sock is missing",
        ],
    );

    assert!(!page.body.contains("database owner"), "{}", page.body);
}
