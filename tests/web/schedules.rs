//! Schedules on the pages: who may add which, what the table and the form say, and what is refused.

use std::os::unix::net::UnixDatagram;

use left4me::base::clock;
use left4me::base::config::BuildMode;
use left4me::base::names::{ScheduleId, ServerId, ServerRef};
use left4me::db::schedules;
use left4me::db::users::{self, Role};
use left4me::domain::condition::ConditionRequest;
use left4me::domain::scheduled::{ScheduleRequest, ScheduleTargets, ScheduledOperation};
use left4me::queue::schedules::{Maker, add};

use crate::support::PATIENCE;
use crate::support::host::{TestHost, password_hash};
use crate::support::http::{Answer, Client, Web};
use crate::support::page::Page;

/// Text that must stay text wherever it is shown.
const HOSTILE: &str = "</td><script>alert(1)</script>\" onload='x' &lt;";

/// alice owns S1 and S2, stranger nothing; root is an admin.
struct Site {
    host: TestHost,
    web: Web,
}

impl Site {
    fn new() -> Self {
        let host = TestHost::with_servers(2);
        host.db()
            .write(|tx| users::set_password(tx, 1, "test", &"alice".parse()?, password_hash()))
            .unwrap();
        host.user("stranger", Role::User);
        host.user("root", Role::Admin);
        let web = Web::start(&host, &[]);
        Self { host, web }
    }

    fn count(&self) -> usize {
        schedules::all(self.host.db().connection()).unwrap().len()
    }

    fn sql(&self, sql: &str) {
        self.host.db().connection().execute_batch(sql).unwrap();
    }
}

/// Restarts a server every morning, as the command line adds it.
pub fn nightly(host: &TestHost, server: i64) -> ScheduleId {
    let request = ScheduleRequest {
        operation: ScheduledOperation::Restart,
        targets: ScheduleTargets::Named(vec![ServerRef::Id(ServerId(server))]),
        on: "*-*-* 05:00".parse().unwrap(),
        zone: None,
        persistent: false,
        rolling: None,
        no_restart: false,
        condition: ConditionRequest::default(),
    };
    let maker = Maker {
        name: "test",
        user: None,
    };
    add(
        &mut host.db(),
        &request,
        &maker,
        BuildMode::Beside,
        clock::now_ms(),
    )
    .unwrap()
    .id
}

fn row(page: &Page, id: i64, column: &str) -> String {
    page.text(&format!("#schedule-{id} [data-label=\"{column}\"]"))
}

/// The fields as the form sends them when nothing but these is filled in.
fn adds(client: &mut Client, fields: &[(&str, &str)]) -> Answer {
    let usual = [
        ("operation", "restart"),
        ("time", "05:00"),
        ("then", "give-up"),
        ("on", ""),
        ("zone", ""),
        ("until", ""),
        ("warn", ""),
        ("rolling", ""),
    ];
    let given = |name: &str| fields.iter().any(|(other, _)| *other == name);
    let usual = usual.into_iter().filter(|(name, _)| !given(name));
    let all: Vec<(&str, &str)> = usual.chain(fields.iter().copied()).collect();
    client.post("/schedules", &all)
}

#[test]
fn an_owner_adds_a_schedule_and_pauses_resumes_and_removes_it() {
    let site = Site::new();
    let mut alice = site.web.signed_in("alice");
    let page = alice.get("/schedules").page();
    assert_eq!(page.link("Schedules").as_deref(), Some("/schedules"));
    assert!(page.text("#schedules").contains("There are none yet"));
    let offered = page.attributes("#operation option", "value");
    assert_eq!(offered, ["restart", "stop", "start", "initialize", "reset"]);
    assert!(!page.has("input[name=all]"), "only admins schedule for all");
    assert_eq!(page.count("input[name=server]"), 2);
    assert!(page.has("#zones option[value='Europe/Berlin']"));

    let added = adds(
        &mut alice,
        &[
            ("server", "1"),
            ("day", "Fri"),
            ("day", "Mon"),
            ("zone", "Europe/Berlin"),
            ("persistent", "1"),
            ("when_empty", "1"),
            ("until", "06:00"),
            ("then", "go"),
            ("warn", "10m,1m"),
        ],
    );
    assert_eq!(added.location(), "/schedules?added=1", "{}", added.body);

    let page = alice.get("/schedules?added=1").page();
    let runs = page.texts("#added li");
    assert_eq!(runs.len(), 3, "{runs:?}");
    for run in &runs {
        let is_right = (run.starts_with("Mon ") || run.starts_with("Fri "))
            && (run.ends_with(" 05:00 CET") || run.ends_with(" 05:00 CEST"));
        assert!(is_right, "{run}");
    }

    let what = row(&page, 1, "What");
    assert!(what.starts_with("restart S1"), "{what}");
    assert!(what.contains("when empty, until 06:00, then go"), "{what}");
    assert!(what.contains("made by web:alice"), "{what}");
    let when = row(&page, 1, "When");
    assert!(when.starts_with("Monday and Friday at 05:00"), "{when}");
    assert!(when.contains("Mon,Fri *-*-* 05:00:00"), "{when}");
    assert!(when.contains("Europe/Berlin, a missed run is"), "{when}");
    assert!(row(&page, 1, "Next run").starts_with("in "));
    assert_eq!(row(&page, 1, "Last run"), "not yet");
    assert_eq!(row(&page, 1, "State"), "waiting");

    // The same is on the server's page, with a form for another one.
    let server = alice.get("/servers/1").page();
    assert!(row(&server, 1, "What").starts_with("restart S1"));
    assert_eq!(server.form_field("/schedules", "server"), "1");
    let other = alice.get("/servers/2").page();
    assert!(other.text("#schedules").starts_with("None."));

    let paused = alice.post("/schedules/1/pause", &[]);
    assert_eq!(paused.location(), "/schedules");
    let page = alice.get("/schedules").page();
    assert_eq!(row(&page, 1, "State"), "paused");
    assert_eq!(row(&page, 1, "Next run"), "–");
    assert!(!page.has("#added") && !page.has_form("/schedules/1/pause"));

    let back = page.form_field("/schedules/1/resume", "csrf");
    assert!(!back.is_empty());
    let resumed = alice.post("/schedules/1/resume", &[("back", "1")]);
    assert_eq!(resumed.location(), "/servers/1#schedules");
    let page = alice.get("/schedules").page();
    assert_eq!(row(&page, 1, "State"), "waiting");

    assert!(page.has("details.confirm form[action='/schedules/1/remove']"));
    assert_eq!(alice.post("/schedules/1/remove", &[]).status, 303);
    assert_eq!(site.count(), 0);
    assert_eq!(alice.post("/schedules/1/remove", &[]).status, 404);

    let activity = site.web.signed_in("root").get("/admin/events").page();
    let activity = activity.text("main");
    for words in ["added", "paused", "resumed", "removed"] {
        let sentence = format!("alice {words} schedule 1");
        assert!(activity.contains(&sentence), "{sentence}: {activity}");
    }
}

#[test]
fn each_change_makes_systemds_timers_follow() {
    let site = Site::new();
    let socket = UnixDatagram::bind(site.host.root.join("schedules.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut alice = site.web.signed_in("alice");
    assert_eq!(adds(&mut alice, &[("server", "1")]).status, 303);
    socket.recv(&mut [0]).expect("added");
    for act in ["pause", "resume", "remove"] {
        let answer = alice.post(&format!("/schedules/1/{act}"), &[]);
        assert_eq!(answer.status, 303, "{act}");
        socket.recv(&mut [0]).expect(act);
    }
}

#[test]
fn a_form_that_is_sent_twice_adds_one_schedule() {
    let site = Site::new();
    let mut alice = site.web.signed_in("alice");
    let same = [("server", "2"), ("server", "1"), ("rolling", "1")];
    for _ in 0..2 {
        assert_eq!(adds(&mut alice, &same).location(), "/schedules?added=1");
    }
    assert_eq!(site.count(), 1);
    let other = adds(&mut alice, &[("server", "1")]);
    assert_eq!(other.location(), "/schedules?added=2");

    // A paused one is not what was asked for.
    assert_eq!(alice.post("/schedules/2/pause", &[]).status, 303);
    let again = adds(&mut alice, &[("server", "1")]);
    assert_eq!(again.location(), "/schedules?added=3");
    let page = alice.get("/schedules").page();
    let what = row(&page, 1, "What");
    assert!(what.starts_with("restart S1, S2"), "{what}");
    assert!(what.contains("one server at a time"), "{what}");
}

#[test]
fn each_sees_their_own_and_an_admin_sees_all() {
    let site = Site::new();
    let id = nightly(&site.host, 1);
    let (mut alice, mut stranger, mut root) = (
        site.web.signed_in("alice"),
        site.web.signed_in("stranger"),
        site.web.signed_in("root"),
    );

    // What an admin of the host made for her server is hers, too.
    assert!(alice.get("/schedules").page().has("#schedule-1"));
    let page = stranger.get(&format!("/schedules?added={id}"));
    let read = page.page();
    assert!(!read.has("#schedule-1") && !read.has("#added"));
    assert!(!page.body.contains("S1"), "{}", page.body);
    for act in ["pause", "resume", "remove"] {
        let answer = stranger.post(&format!("/schedules/1/{act}"), &[]);
        assert_eq!(answer.status, 404, "{act}");
        assert!(answer.body.contains("there is no schedule 1"));
    }
    assert_eq!(stranger.post("/schedules/x/pause", &[]).status, 404);

    // Servers of others do not exist.
    for (client, server) in [(&mut stranger, "1"), (&mut alice, "99"), (&mut root, "99")] {
        let answer = adds(client, &[("server", server)]);
        assert_eq!(answer.status, 404, "{}", answer.body);
        let told = answer.page().text("#server-trouble");
        assert!(told.contains("no server"), "{told}");
    }

    // What is for all, or for the host, is for admins.
    for (fields, words) in [
        (&[("all", "1")][..], "only admins"),
        (&[("operation", "update")], "only admins"),
        (&[("operation", "backup")], "only admins"),
    ] {
        let answer = adds(&mut alice, fields);
        assert_eq!(answer.status, 403, "{}", answer.body);
        let told = answer.page().text("#operation-trouble");
        assert!(told.contains(words), "{told}");
        let added = adds(&mut root, fields);
        assert_eq!(added.status, 303, "{}", added.body);
    }

    let page = root.get("/schedules").page();
    assert_eq!(page.count("tbody tr"), 4);
    assert!(row(&page, 2, "What").starts_with("restart all servers"));
    assert!(row(&page, 4, "What").starts_with("backup"));
    assert_eq!(alice.get("/schedules").page().count("tbody tr"), 1);
    assert!(root.get("/servers/2").page().has("#schedule-2"));
    assert!(!alice.get("/servers/2").page().has("#schedule-2"));
    assert_eq!(root.post("/schedules/1/pause", &[]).status, 303);
    let page = alice.get("/schedules").page();
    assert_eq!(row(&page, 1, "State"), "paused");
}

#[test]
fn what_is_wrong_stands_at_its_field_and_nothing_typed_is_lost() {
    let site = Site::new();
    let mut alice = site.web.signed_in("alice");
    for (name, value, told) in [
        ("zone", "Mars/Olympus", "zone"),
        ("zone", HOSTILE, "zone"),
        ("on", "*:*:*", "at least 5 min"),
        ("on", "3000-01-01 05:00", ""),
        ("on", "2020-01-01 05:00", "never comes"),
        ("on", "*-02-30 05:00", "never comes"),
        ("on", "every night", ""),
        ("on", HOSTILE, ""),
        ("time", "25:00", "no time of day"),
        ("time", HOSTILE, "no time of day"),
        ("until", HOSTILE, "neither a time of day"),
        ("warn", HOSTILE, ""),
        ("rolling", HOSTILE, "no number"),
    ] {
        let mut fields = vec![("server", "2"), (name, value)];
        if name == "on" {
            fields.push(("time", ""));
        }
        let answer = adds(&mut alice, &fields);
        assert_eq!(answer.status, 422, "{name} {value}: {}", answer.body);
        assert!(!answer.body.contains("<script>alert"), "{}", answer.body);

        let page = answer.page();
        let words = page.text(&format!("#{name}-trouble"));
        assert!(
            words.contains(told) && !words.is_empty(),
            "{value}: {words}"
        );
        assert_eq!(page.count(".trouble"), 1, "{name} {value}");
        let field = format!("#{name}[aria-invalid=true][autofocus]");
        assert_eq!(page.attribute(&field, "value"), value);
        assert!(page.has("input[name=server][value='2'][checked]"));
        assert!(!page.has("input[name=server][value='1'][checked]"));
        assert_eq!(page.count("details[open] #on"), usize::from(name == "on"));
    }

    // Everything that is wrong is told at once.
    let answer = adds(&mut alice, &[("time", ""), ("until", "x"), ("day", "Sun")]);
    let page = answer.page();
    assert_eq!(page.count(".trouble"), 3, "{}", answer.body);
    assert!(page.text("#server-trouble").contains("choose a server"));
    assert!(page.has("input[name=day][value=Sun][checked]"));

    // What does not go together.
    for (fields, field, words) in [
        (&[("warn", "1m")][..], "condition", "“At most until”"),
        (
            &[("operation", "start"), ("when_empty", "1")],
            "condition",
            "start takes no condition",
        ),
        (
            &[("when_empty", "1"), ("rolling", "1")],
            "rolling",
            "does not go with a condition",
        ),
        (&[("on", "*-*-01 5:00")], "on", "either"),
    ] {
        let fields = [&[("server", "1")], fields].concat();
        let answer = adds(&mut alice, &fields);
        assert_eq!(answer.status, 422, "{fields:?}: {}", answer.body);
        let told = answer.page().text(&format!("#{field}-trouble"));
        assert!(told.contains(words), "{told}");
    }
    assert_eq!(site.count(), 0);
}

#[test]
fn a_user_has_a_hundred_schedules_at_most() {
    let site = Site::new();
    site.sql(
        "INSERT INTO schedules (operation, calendar, owner_id, created_at, created_by)
         WITH RECURSIVE n(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 100)
         SELECT 'restart', '*-*-* 05:00:00', 1, 1, 'web:alice' FROM n",
    );
    let mut alice = site.web.signed_in("alice");
    let answer = adds(&mut alice, &[("server", "1")]);
    assert_eq!(answer.status, 409, "{}", answer.body);
    let told = answer.page().text("form .trouble");
    assert!(told.contains("you have 100 schedules already"), "{told}");
}

#[test]
fn the_last_run_is_told_with_its_job_or_its_error() {
    let site = Site::new();
    let id = nightly(&site.host, 1);
    let job = site.host.enqueue(&["start", "--server", "1"]);
    let install = site.host.enqueue(&["install"]);
    let mut alice = site.web.signed_in("alice");
    let ran = |job: i64, error: &str| {
        site.sql(&format!(
            "UPDATE schedules SET last_run_at = unixepoch() * 1000 - 60000,
             last_job_id = {job}, last_error = {error} WHERE id = {id}"
        ));
    };

    ran(job.0, "NULL");
    let page = alice.get("/schedules").page();
    let last = row(&page, 1, "Last run");
    assert!(last.starts_with("1 min ago"), "{last}");
    assert!(last.ends_with(&format!("job #{job} queued")), "{last}");
    assert!(page.has_link(&format!("/jobs/{job}")));

    // A job that she may not see has no link; one that was pruned has no state.
    ran(install.0, "NULL");
    assert!(
        !alice
            .get("/schedules")
            .page()
            .has_link(&format!("/jobs/{install}"))
    );
    ran(999, "NULL");
    let page = alice.get("/schedules").page();
    let last = row(&page, 1, "Last run");
    assert!(last.ends_with("job #999"), "{last}");

    let quoted = format!("'{}'", HOSTILE.replace('\'', "''"));
    ran(job.0, &quoted);
    let answer = alice.get("/schedules");
    assert!(!answer.body.contains("<script>alert"), "{}", answer.body);
    let state = row(&answer.page(), 1, "State");
    assert!(state.starts_with("failed"), "{state}");
    assert!(state.ends_with(HOSTILE), "{state}");

    site.sql(&format!(
        "UPDATE schedules SET last_error = NULL, timer_error = {quoted}"
    ));
    let state = row(&alice.get("/servers/1").page(), 1, "State");
    assert!(state.starts_with("failed"), "{state}");
    assert!(state.ends_with(HOSTILE), "{state}");

    site.sql("UPDATE schedules SET timer_error = NULL, next_at = NULL");
    let page = alice.get("/schedules").page();
    assert_eq!(row(&page, 1, "State"), "ended");
    assert_eq!(row(&page, 1, "Next run"), "never");
}
