//! The pages, the API and the lists of a fleet, from rows as left4me-gate writes them.

use left4me::base::clock;
use left4me::base::keys::{OpeningKey, SigningKey};
use left4me::base::names::{FleetHost, JobId};
use left4me::base::ulid::Ulid;
use left4me::db::users::Role;
use left4me::domain::fleet::event::FleetEvent;
use left4me::domain::fleet::order::{Enqueue, What};
use left4me::domain::fleet::roster::{Member, Roster};
use left4me::domain::fleet::status::{HostStatus, Queue, ServerStatus};
use left4me::queue::fleet::project;
use left4me::queue::fleet::send::{Draft, send_in};

use crate::support::host::TestHost;
use crate::support::http::{Client, Web};

/// Text that must stay text wherever it is shown.
const HOSTILE: &str = "</td><script>alert(1)</script>\" onload='x' &lt;";

const MINUTE: i64 = 60_000;

fn name(text: &str) -> FleetHost {
    text.parse().unwrap()
}

fn member(host: &str, roles: &[&str], expelled_at: Option<i64>) -> Member {
    Member {
        name: name(host),
        key: SigningKey::generate().public(),
        seal_key: OpeningKey::generate().public(),
        labels: [("region".to_owned(), "eu".to_owned())].into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        admitted_at: 1_000,
        expelled_at,
    }
}

fn server(number: i64, name: &str, actual: &str, players: Option<u32>) -> ServerStatus {
    ServerStatus {
        id: ulid(number),
        number,
        name: name.to_owned(),
        owner: "anna".to_owned(),
        port: 27_000 + u16::try_from(number % 1000).unwrap(),
        desired: "running".to_owned(),
        actual: actual.to_owned(),
        players,
        max_players: players.map(|_| 8),
        map: players.map(|_| "c1m1_hotel".to_owned()),
        build: Some(101),
        overlays: Vec::new(),
        moved_to: None,
        epoch: 1,
        drift: actual == "failed",
    }
}

fn ulid(number: i64) -> Ulid {
    Ulid::from_parts(5_000, u128::try_from(number).unwrap())
}

fn status(host: &str, at: i64, cordoned: bool, servers: Vec<ServerStatus>) -> HostStatus {
    HostStatus {
        v: 1,
        host: name(host),
        at,
        version: "0.3.0".to_owned(),
        speaks: vec![1],
        operations: vec!["restart".to_owned()],
        capacity: 40,
        used: u32::try_from(servers.len()).unwrap(),
        cordoned,
        queue: Queue {
            queued: 2,
            running: 1,
            paused: false,
        },
        servers,
        build: Some(101),
        available: None,
        overlays: [("competitive".to_owned(), "d1".to_owned())].into(),
        last_event: 9,
    }
}

fn event(host: &str, seq: i64, at: i64, kind: &str, job: Option<i64>) -> FleetEvent {
    FleetEvent {
        v: 1,
        host: name(host),
        seq,
        at,
        kind: kind.to_owned(),
        actor: "anna@fra-1".to_owned(),
        order: None,
        job: job.map(JobId),
        operation: job.map(|_| "restart".to_owned()),
        server: None,
        detail: String::new(),
    }
}

/// A fleet as fra-1 sees it: ams-1 is up, par-1 is cordoned, waw-1 has been silent for an hour,
/// mad-1 has just been admitted, rom-1 is expelled.
pub fn seed(host: &TestHost, now: i64) {
    let roster = Roster {
        v: 1,
        version: 1,
        fleet: "home".to_owned(),
        hosts: vec![
            member("fra-1", &["control"], None),
            member("ams-1", &[], None),
            member("par-1", &["view"], None),
            member("waw-1", &[], None),
            member("mad-1", &[], None),
            member("rom-1", &[], Some(2_000)),
        ],
    };
    let hour_ago = now - 60 * MINUTE;
    let servers = |from: i64, names: &[(&str, &str, Option<u32>)]| {
        let named = names
            .iter()
            .enumerate()
            .map(|(at, (name, actual, players))| {
                server(from + i64::try_from(at).unwrap(), name, actual, *players)
            });
        named.collect::<Vec<_>>()
    };

    let mut db = host.db();
    db.write(|tx| {
        project::roster(tx, &roster)?;
        let amsterdam = servers(
            11,
            &[
                ("Friday", "running", Some(5)),
                (HOSTILE, "failed", None),
                ("Practice", "stopped", None),
            ],
        );
        project::status(tx, &status("ams-1", now, false, amsterdam), now)?;
        let paris = servers(21, &[("Versus", "running", Some(2))]);
        project::status(tx, &status("par-1", now, true, paris), now)?;
        let warsaw = servers(31, &[("Survival", "running", Some(7))]);
        project::status(tx, &status("waw-1", hour_ago, false, warsaw), hour_ago)?;
        project::status(tx, &status("fra-1", now, false, Vec::new()), now)?;
        project::place(tx, ulid(21), &name("ams-1"), 2, now)?;

        let what = What::Enqueue(Enqueue {
            operation: "restart".to_owned(),
            servers: vec![ulid(11)],
            all: false,
            unique: false,
            rolling: None,
            update: Default::default(),
            condition: None,
            reason: String::new(),
        });
        let draft = |to| Draft {
            id: None,
            to,
            what: what.clone(),
            by: "anna",
            here: &roster.hosts[0].name,
            reason: HOSTILE,
            good_for: None,
            rollout: None,
        };
        let (ams, waw) = (name("ams-1"), name("waw-1"));
        let order = send_in(tx, &draft(&ams), now)?;
        send_in(tx, &draft(&waw), now)?;

        let told = [
            FleetEvent {
                order: Some(order),
                ..event("ams-1", 1, now - 9_000, "order.accepted", Some(17))
            },
            event("ams-1", 2, now - 8_000, "job.started", Some(17)),
            FleetEvent {
                server: Some(ulid(12)),
                detail: HOSTILE.to_owned(),
                ..event("ams-1", 3, now - 7_000, "server.crashed", None)
            },
            event("waw-1", 1, hour_ago, "job.succeeded", Some(4)),
        ];
        for event in &told {
            project::event(tx, event, now)?;
        }
        Ok(())
    })
    .unwrap();

    let link = format!("UPDATE fleet_self SET link_at = {now}, connected_since = {hour_ago}");
    db.connection().execute_batch(&link).unwrap();
}

struct Site {
    host: TestHost,
    web: Web,
    now: i64,
}

impl Site {
    fn new() -> Self {
        let host = TestHost::new();
        host.user("root", Role::Admin);
        host.user("anna", Role::User);
        let now = clock::now_ms();
        seed(&host, now);
        let web = Web::start(&host, &[]);
        Self { host, web, now }
    }

    fn root(&self) -> Client {
        self.web.signed_in("root")
    }

    fn sql(&self, sql: &str) {
        self.host.db().connection().execute_batch(sql).unwrap();
    }
}

fn must_be_text(body: &str) {
    assert!(!body.contains("<script>alert"), "{body}");
    assert!(body.contains("&#60;script&#62;alert"), "{body}");
}

#[test]
fn the_hosts_are_shown_as_they_were_last_seen_and_what_is_old_is_unknown() {
    let site = Site::new();
    let mut root = site.root();
    let page = root.get("/").page();
    assert_eq!(page.link("Fleet").as_deref(), Some("/fleet"));

    let page = root.get("/fleet").page();
    let cell =
        |host: &str, label: &str| page.text(&format!("#host-{host} [data-label=\"{label}\"]"));
    assert_eq!(cell("ams-1", "State"), "up");
    assert_eq!(cell("ams-1", "Servers"), "3 of 40");
    assert_eq!(cell("ams-1", "Players"), "5");
    assert_eq!(cell("ams-1", "Queue"), "2 queued, 1 running");
    assert_eq!(cell("par-1", "State"), "cordoned");
    let since = clock::minute(site.now - 60 * MINUTE, site.now);
    assert_eq!(
        cell("waw-1", "State"),
        format!("silent unknown since {since}")
    );
    assert_eq!(cell("waw-1", "Last seen"), since);
    assert_eq!(cell("waw-1", "Players"), "", "nobody knows");
    assert_eq!(cell("mad-1", "State"), "never seen");
    assert_eq!(cell("rom-1", "State"), "expelled");
    assert!(
        page.text("#hosts").contains("7 players"),
        "not those of waw-1"
    );
    assert!(page.text("#hosts").contains("2 orders without an end"));
    assert_eq!(page.text("#away"), "");
}

#[test]
fn a_server_of_a_silent_host_is_unknown_and_never_stopped() {
    let site = Site::new();
    let mut root = site.root();
    let answer = root.get("/fleet/servers");
    must_be_text(&answer.body);
    let page = answer.page();
    let cell =
        |row: &str, label: &str| page.text(&format!("#server-{row} [data-label=\"{label}\"]"));
    assert_eq!(cell("ams-1-11", "State"), "running");
    assert_eq!(cell("ams-1-11", "Players"), "5/8 c1m1_hotel");
    assert_eq!(cell("ams-1-12", "State"), "faileddesired: running");
    assert_eq!(cell("par-1-21", "State"), "runningmoved to ams-1");
    let since = clock::minute(site.now - 60 * MINUTE, site.now);
    let survival = cell("waw-1-31", "State");
    assert_eq!(survival, format!("unknown since {since}; running then"));
    assert_eq!(cell("waw-1-31", "Players"), "");

    let page = root.get("/fleet/servers?host=waw-1").page();
    assert_eq!(page.count("#servers tbody tr"), 1);
    let page = root.get("/fleet/servers?q=unknown").page();
    assert_eq!(page.count("#servers tbody tr"), 1, "by state");
    let page = root.get("/fleet/servers?q=nothing").page();
    assert!(page.text("#servers").starts_with("Servers"));
    assert!(page.text("td.empty").contains("No matching servers"));

    let page = root.get("/fleet/hosts/waw-1").page();
    let wrong = page.text("#wrong");
    assert!(
        wrong.contains("how it is since then is not known here"),
        "{wrong}"
    );
    assert_eq!(root.get("/fleet/hosts/nowhere").status, 404);
    assert_eq!(root.get("/fleet/hosts/..").status, 404);
}

#[test]
fn a_hosts_page_has_its_servers_its_jobs_and_what_happened() {
    let site = Site::new();
    let mut root = site.root();
    let answer = root.get("/fleet/hosts/ams-1");
    must_be_text(&answer.body);
    let page = answer.page();
    assert_eq!(page.text("#state"), "up");
    let facts = page.text("#facts");
    assert!(
        facts.contains("3 of 40") && facts.contains("competitive"),
        "{facts}"
    );
    assert_eq!(page.count("#servers tbody tr"), 3);
    assert!(page.text("#jobs").contains("#17"), "{}", page.text("#jobs"));
    assert!(page.text("#jobs").contains("running"));
    assert_eq!(page.count("#events tbody tr"), 3);

    let jobs = root.get("/fleet/jobs?open=1").page();
    assert_eq!(jobs.count("#jobs tbody tr"), 1, "job 4 of waw-1 has ended");
    // Job 5 of a host that is silent since: it may have ended.
    site.sql(
        "INSERT INTO fleet_jobs (host, job, operation, state, updated_at)
         VALUES ('waw-1', 5, 'restart', 'running', 5)",
    );
    let jobs = root.get("/fleet/jobs?host=waw-1&open=1").page();
    let state = jobs.text("#jobs tbody [data-label=\"State\"]");
    assert!(state.starts_with("unknown since "), "{state}");
    let events = root.get("/fleet/events?kind=server.").page();
    assert_eq!(events.count("#events tbody tr"), 1);
    assert_eq!(root.get("/fleet/events?host=No+Host").status, 422);
}

#[test]
fn an_order_says_where_it_is_and_what_came_of_it() {
    let site = Site::new();
    let mut root = site.root();
    let answer = root.get("/fleet/orders");
    must_be_text(&answer.body);
    let place = |root: &mut Client| {
        root.get("/fleet/orders?host=ams-1")
            .page()
            .text("[data-label=\"Where it is\"]")
    };
    assert_eq!(
        place(&mut root),
        "kept here until the engine can be reached"
    );

    let becomes = |change: &str| {
        site.sql(&format!(
            "UPDATE fleet_orders_out SET {change} WHERE to_host = 'ams-1'"
        ))
    };
    becomes("state = 'sent', sent_at = 5, attempt = 2");
    assert_eq!(
        place(&mut root),
        "with the engine; ams-1 has not answered sent 2 times"
    );
    becomes("state = 'accepted', remote_job = 17, attempt = 1");
    assert_eq!(place(&mut root), "job 17 on ams-1");
    becomes("state = 'failed', settled_at = 9, detail = 'no such map'");
    assert_eq!(place(&mut root), "job 17 on ams-1: no such map");
    becomes("state = 'unknown', detail = ''");
    let unknown = place(&mut root);
    assert!(unknown.starts_with("not known: "), "{unknown}");

    let open = root.get("/fleet/orders?open=1").page();
    assert_eq!(open.count("#orders tbody tr"), 1);
}

#[test]
fn rollouts_of_all_controllers_are_shown_with_who_drives_them() {
    let site = Site::new();
    let mut root = site.root();
    let empty = root.get("/fleet/rollouts").page().text("#rollouts");
    assert!(empty.contains("No rollouts"), "{empty}");

    let detail = HOSTILE.replace('\'', "''");
    site.sql(&format!(
        "INSERT INTO fleet_rollouts (id, kind, request, requested_by, detail, created_at, updated_at, driver, lost_at)
         VALUES ('01KBA6T5R8Y3W9M2F4B7C1D001', 'drain', '{{}}', 'anna', '{detail}', 1, 1, 'ams-1', 2),
                ('01KBA6T5R8Y3W9M2F4B7C1D002', 'move', NULL, 'anna', '', 1, 1, 'waw-1', NULL)"
    ));
    // A row that cannot be read is left out.
    let request = "{\"what\":\"moves\",\"policy\":\"spread\"}";
    site.sql(&format!(
        "UPDATE fleet_rollouts SET request = '{request}' WHERE kind = 'drain';
         INSERT INTO fleet_rollouts (id, kind, request, requested_by, created_at, updated_at)
         VALUES ('01KBA6T5R8Y3W9M2F4B7C1D003', 'update', '{{}}', 'anna', 1, 1)"
    ));
    let answer = root.get("/fleet/rollouts");
    must_be_text(&answer.body);
    let page = answer.page();
    assert_eq!(page.count("#rollouts tbody tr"), 2);
    let of = |number: u8, label: &str| {
        page.text(&format!(
            "#rollout-01KBA6T5R8Y3W9M2F4B7C1D00{number} [data-label=\"{label}\"]"
        ))
    };
    assert_eq!(of(1, "State"), "taken over by ams-1");
    assert_eq!(of(1, "Driven by"), "ams-1");
    let driver = of(2, "Driven by");
    assert!(driver.starts_with("waw-1 silent since "), "{driver}");
    assert!(
        driver.contains("left4me fleet take-over 01KBA6T5R8Y3W9M2F4B7C1D002"),
        "{driver}"
    );
}

#[test]
fn a_host_without_a_connection_says_since_when() {
    let site = Site::new();
    let mut root = site.root();
    site.sql(&format!(
        "UPDATE fleet_self SET connected_since = NULL, disconnected_since = {}, link_error = 'refused'",
        site.now - 30 * MINUTE
    ));
    let since = clock::minute(site.now - 30 * MINUTE, site.now);
    for path in [
        "/fleet",
        "/fleet/servers",
        "/fleet/hosts/ams-1",
        "/fleet/orders",
        "/fleet/rollouts",
    ] {
        let away = root.get(path).page().text("#away");
        assert!(
            away.starts_with(&format!(
                "No connection to the engine since {since} (refused)"
            )),
            "{path}: {away}"
        );
        assert!(away.contains("they go on working"), "{away}");
    }
}

#[test]
fn where_there_is_no_fleet_nothing_leads_to_its_pages_and_they_say_what_it_is() {
    let host = TestHost::new();
    host.user("root", Role::Admin);
    let web = Web::start(&host, &[]);
    let mut root = web.signed_in("root");
    assert_eq!(root.get("/").page().link("Fleet"), None);
    let page = root.get("/fleet").page();
    assert!(page.text("main").contains("This host belongs to no fleet"));
    let list = root.get("/api/fleet/hosts").json();
    assert_eq!(list["items"], serde_json::json!([]));
}

#[test]
fn a_user_who_is_no_admin_sees_nothing_of_other_hosts() {
    let site = Site::new();
    let mut anna = site.web.signed_in("anna");
    assert_eq!(anna.get("/").page().link("Fleet"), None);
    for path in [
        "/fleet",
        "/fleet/servers",
        "/fleet/hosts/ams-1",
        "/api/fleet/servers",
    ] {
        assert_eq!(anna.get(path).status, 403, "{path}");
    }
}

#[test]
fn the_api_and_the_command_line_have_the_same_objects() {
    let site = Site::new();
    let mut root = site.root();
    for (path, args) in [
        ("/api/fleet/hosts", ["fleet", "hosts", "--json"].as_slice()),
        ("/api/fleet/servers", &["fleet", "servers", "--json"]),
        (
            "/api/fleet/servers?host=waw-1",
            &["fleet", "servers", "--host", "waw-1", "--json"],
        ),
    ] {
        let list = root.get(path).json();
        let done = site.host.left4me(args);
        let printed: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!(list["items"], printed, "{path}");
        assert_eq!(list["total"], printed.as_array().unwrap().len());
    }

    let servers = root.get("/api/fleet/servers?host=waw-1").json();
    let survival = &servers["items"][0];
    assert_eq!(
        (&survival["known"], &survival["actual_state"]),
        (&false.into(), &"running".into())
    );
    assert_eq!(survival["seen_at"], site.now - 60 * MINUTE);

    let orders = root.get("/api/fleet/orders?state=kept&limit=1").json();
    assert_eq!(
        (&orders["total"], &orders["items"][0]["state"]),
        (&2.into(), &"kept".into())
    );
    let none = root
        .get("/api/fleet/orders?state=failed&state=refused")
        .json();
    assert_eq!(none["total"], 0);
    assert_eq!(root.get("/api/fleet/orders?state=lost").status, 422);
}

#[test]
fn the_lists_of_the_command_line_say_unknown_since_when_too() {
    let site = Site::new();
    let run = |args: &[&str]| {
        let done = site.host.left4me(args);
        assert_eq!(done.code, 0, "{args:?}: {}", done.err);
        (done.out, done.err)
    };
    let since = clock::minute(site.now - 60 * MINUTE, site.now);
    let (servers, _) = run(&["fleet", "servers"]);
    assert!(
        servers.contains(&format!("unknown since {since}")),
        "{servers}"
    );
    let line = servers
        .lines()
        .find(|line| line.contains("Survival"))
        .unwrap();
    assert!(
        !line.contains("c1m1_hotel") && !line.contains("7/8"),
        "{line}"
    );

    let (hosts, _) = run(&["fleet", "hosts"]);
    let silent = hosts
        .lines()
        .find(|line| line.starts_with("waw-1"))
        .unwrap();
    assert!(silent.contains("silent"), "{silent}");
    let (shown, _) = run(&["fleet", "show", "waw-1"]);
    assert!(shown.contains("silent: nothing is known since"), "{shown}");
    let (jobs, _) = run(&["fleet", "jobs", "--host", "ams-1"]);
    assert!(jobs.contains("17") && jobs.contains("running"), "{jobs}");
    let (events, _) = run(&["fleet", "events", "--kind", "server."]);
    assert_eq!(events.lines().count(), 2, "{events}");

    site.sql("UPDATE fleet_self SET connected_since = NULL, disconnected_since = 1000");
    let (_, hint) = run(&["fleet", "hosts"]);
    assert!(
        hint.contains("no connection to the engine since 1970"),
        "{hint}"
    );
    let missing = site.host.left4me(&["fleet", "show", "nowhere"]);
    assert_eq!(missing.code, 3, "{}", missing.err);
    assert!(
        missing.err.contains("left4me fleet hosts"),
        "{}",
        missing.err
    );
}
