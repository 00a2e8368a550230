//! Authorization: each route of the router's table is requested by each kind of client; and what
//! else a request needs in order to change something.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use left4me::base::clock;
use left4me::base::names::{JobId, TokenName};
use left4me::db::users::Role;
use left4me::db::{Db, tokens, users};
use left4me::web::routes::{self, Access, Route};

use crate::schedules::nightly;
use crate::support::host::{TestHost, password_hash};
use crate::support::http::{Client, Web, closes, status};
use crate::support::{PASSWORD, PATIENCE};

/// An installation where alice owns server 1, blueprint 1, a queued job and a schedule; with another
/// user and an admin.
struct Site {
    host: TestHost,
    web: Web,
    job: JobId,
}

impl Site {
    fn new() -> Self {
        let host = TestHost::with_servers(1);

        host.db()
            .write(|tx| users::set_password(tx, 1, "test", &"alice".parse()?, password_hash()))
            .unwrap();
        host.user("stranger", Role::User);
        host.user("visitor", Role::User);
        host.user("admin", Role::Admin);
        host.db()
            .write(|tx| {
                left4me::db::overlays::create(tx, 1, "test", &"maps".parse()?, &"maps".parse()?)
            })
            .unwrap();

        let job = host.enqueue(&["start", "--server", "1"]);
        nightly(&host, 1);
        crate::fleet::seed(&host, clock::now_ms());
        let web = Web::start(&host, &[]);
        Self { host, web, job }
    }

    /// A route's path with its parameters filled in.
    fn path(&self, route: &Route) -> String {
        let path = route.path;
        let (job, task) = (self.job.to_string(), "1");
        let filled = if path.contains("/jobs/{id}") {
            path.replace("{id}", &job)
        } else if path.contains("/tasks/{id}") {
            path.replace("{id}", task)
        } else if path.starts_with("/admin/users/") {
            path.replace("{name}", "visitor")
        } else if path.starts_with("/admin/builds/") {
            path.replace("{build}", "1")
        } else if path.starts_with("/fleet/hosts/") {
            path.replace("{name}", "ams-1")
        } else if path.starts_with("/admin/overlays/") {
            path.replace("{name}", "maps")
        } else {
            path.replace("{id}", "1")
        };

        assert!(
            !filled.contains('{') || route.who == Access::Anyone,
            "say here what stands for the parameters of {path}"
        );

        filled
    }

    /// Everything stored, except when a user was last seen.
    fn content(&self) -> Vec<String> {
        let db: Db = self.host.db();
        let connection = db.connection();
        let mut names = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .unwrap();
        let names: Vec<String> = names
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();

        let mut content = Vec::new();
        for name in names
            .iter()
            .filter(|name| !["sessions", "sqlite_sequence"].contains(&name.as_str()))
        {
            let mut rows = connection
                .prepare(&format!("SELECT * FROM \"{name}\""))
                .unwrap();
            let columns = rows.column_count();
            let text = rows.query_map([], |row| {
                (0..columns)
                    .map(|at| row.get_ref(at).map(|value| format!("{value:?}")))
                    .collect::<Result<Vec<_>, _>>()
            });

            content.extend(
                text.unwrap()
                    .map(|row| format!("{name}: {}", row.unwrap().join(", "))),
            );
        }

        content
    }
}

/// What is wrong, the headers, the body, and the expected status.
type Try<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str, u16);
/// A way to end a session.
type End<'a> = (&'a str, &'a dyn Fn(&mut Client));

/// Whether the path names an object with an owner.
fn is_owned(route: &Route) -> bool {
    route.path.contains("{id}")
        && route.path.trim_start_matches("/api").starts_with(['/'])
        && !route.path.starts_with("/admin")
}

/// Sends a client's request and reads the head of the response: a stream has no end.
fn ask(client: &Client, web: &Web, route: &Route, path: &str) -> (u16, String) {
    let mut stream = web.connect();
    let body = if route.method == "POST" && !route.who.is_api() {
        format!("csrf={}", client.csrf)
    } else {
        String::new()
    };

    let request = format!(
        "{} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nCookie: {}\r\nSec-Fetch-Site: \
        same-origin\r\nX-CSRF-Token: {}\r\n\
         Content-Type: {}\r\nContent-Length: {}\r\n\r\n{body}",
        route.method,
        web.addr,
        client.cookie(),
        client.csrf,
        if route.who.is_api() {
            "application/json"
        } else {
            "application/x-www-form-urlencoded"
        },
        body.len(),
    );

    stream.write_all(request.as_bytes()).unwrap();

    head(&mut stream)
}

fn head(stream: &mut TcpStream) -> (u16, String) {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("the head of an answer");
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    (status(&head), head)
}

#[test]
fn every_route_answers_each_role_as_the_contract_says() {
    let site = Site::new();
    let roles = ["anonymous", "stranger", "alice", "admin"];
    let clients = roles.map(|role| {
        if role == "anonymous" {
            site.web.client()
        } else {
            site.web.signed_in(role)
        }
    });

    let all = routes::list();
    assert!(all.len() > 40, "{} routes", all.len());

    let mut wrong = Vec::new();

    // Routes that only show something first, then those that change something; those that end a
    // session or remove something last.
    let rank = |route: &Route| {
        (
            route.method != "GET",
            route.path == "/logout",
            route.path.contains("delete") || removes_schedule(route),
        )
    };

    let mut ordered = all.clone();
    ordered.sort_by_key(rank);

    for route in ordered
        .iter()
        .filter(|route| route.path != "/logout" && !route.path.starts_with("/account/password"))
    {
        let path = site.path(route);
        for (role, client) in roles.iter().zip(&clients) {
            let (status, head) = ask(client, &site.web, route, &path);
            let signed_in = *role != "anonymous";
            let may = match route.who {
                Access::Anyone => true,
                // A request on this host.
                Access::Scraper => !signed_in || *role == "admin",
                Access::User | Access::Api => signed_in,
                Access::Admin | Access::ApiAdmin => *role == "admin",
            };

            let right = match (may, route.who.is_api()) {
                (false, false) if !signed_in => status == 303 && head.contains("location: /login"),
                (false, true) if !signed_in => {
                    status == 401 && head.contains("www-authenticate: Bearer")
                }
                (false, _) => status == 403,
                (true, _) if is_owned(route) && *role == "stranger" => status == 404,
                (true, _) if route.path.contains("{stamp}") => status == 404,
                (true, _) if route.path == "/login" && route.method == "GET" && signed_in => {
                    status == 303
                }
                (true, _) if route.method == "GET" => {
                    status == 200 || (status == 404 && may_be_missing(route, role))
                }
                // An empty form: it is refused with the missing field, or it succeeds.
                (true, _) => {
                    ![401, 403, 405].contains(&status)
                        && status < 500
                        && (status != 404 || may_be_missing(route, role))
                }
            };

            if !right {
                wrong.push(format!(
                    "{} {path} ({:?}) by {role}: {status}",
                    route.method, route.who
                ));
            }
        }
    }

    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Only for its owner, or missing in this test.
fn may_be_missing(route: &Route, role: &str) -> bool {
    route.path.contains("tokens/{id}")
        || route.path.ends_with("/cancellation-status")
        || route.path.starts_with("/admin/builds/")
        || (role == "stranger" && is_owned(route))
        || removes_schedule(route)
}

/// After which others find nothing.
fn removes_schedule(route: &Route) -> bool {
    route.path.contains("schedules/{id}")
        && (route.method == "DELETE" || route.path.ends_with("/remove"))
}

#[test]
fn without_its_token_from_elsewhere_or_to_another_host_nothing_changes() {
    let site = Site::new();
    let (mut owner, mut admin) = (site.web.signed_in("alice"), site.web.signed_in("admin"));
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let json = ("Content-Type", "application/json");
    let before = site.content();
    let changes: Vec<Route> = routes::list()
        .into_iter()
        .filter(|route| route.method != "GET")
        .collect();

    assert!(
        changes.len() > 15,
        "{} routes that change something",
        changes.len()
    );

    for route in changes.iter().filter(|route| route.path != "/login") {
        let path = site.path(route);
        let client = if matches!(route.who, Access::Admin | Access::ApiAdmin) {
            &mut admin
        } else {
            &mut owner
        };

        let token = client.csrf.clone();
        let kind = if route.who.is_api() { json } else { form };
        let (good, other) = (
            format!("csrf={token}&action=pause&name=new&reason=x"),
            "csrf=00000000000000000000000000000000",
        );

        let address = format!("http://{}", site.web.addr);
        let body = if route.who.is_api() {
            r#"{"operation":"start","servers":[1]}"#
        } else {
            good.as_str()
        };

        let header = ("X-CSRF-Token", token.as_str());
        let same = ("Sec-Fetch-Site", "same-origin");
        let tries: [Try<'_>; 7] = [
            ("no token", vec![kind, same], "action=pause", 403),
            (
                "a wrong token",
                vec![kind, same, ("X-CSRF-Token", "0")],
                other,
                403,
            ),
            (
                "another page",
                vec![kind, header, ("Sec-Fetch-Site", "cross-site")],
                body,
                403,
            ),
            (
                "a neighbour's page",
                vec![kind, header, ("Sec-Fetch-Site", "same-site")],
                body,
                403,
            ),
            (
                "another origin",
                vec![kind, header, ("Origin", "http://evil.example")],
                body,
                403,
            ),
            ("no origin", vec![kind, header], body, 403),
            (
                "another host",
                vec![kind, header, ("Host", "evil.example"), ("Origin", &address)],
                body,
                421,
            ),
        ];

        for (what, headers, body, expected) in tries {
            let method = route.method.as_str();
            let answer = client.send(method, &path, &headers, body);
            assert_eq!(answer.status, expected, "{path}, {what}: {}", answer.body);
        }
    }

    assert_eq!(site.content(), before, "something was changed");

    for route in routes::list() {
        let (status, _) = ask_host(&site, &route);
        assert_eq!(status, 421, "{} {}", route.method, route.path);
    }

    // The test is fair: the complete request works.
    assert_eq!(
        admin
            .post(
                "/admin/pause",
                &[("action", "pause"), ("reason", "a trial")]
            )
            .status,
        303
    );

    assert_ne!(site.content(), before);
}

fn ask_host(site: &Site, route: &Route) -> (u16, String) {
    let mut stream = site.web.connect();
    let request = format!(
        "{} {} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n",
        route.method,
        site.path(route)
    );

    stream.write_all(request.as_bytes()).unwrap();
    head(&mut stream)
}

/// An open stream.
fn follow(site: &Site, client: &Client, path: &str, token: Option<&str>) -> TcpStream {
    let mut stream = site.web.connect();
    let bearer = token
        .map(|token| format!("Authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n{bearer}\r\n",
        site.web.addr,
        client.cookie()
    );

    stream.write_all(request.as_bytes()).unwrap();

    let (status, head) = head(&mut stream);
    assert!(
        status == 200 && head.contains("content-type: text/event-stream"),
        "{head}"
    );

    stream
}

#[test]
fn a_session_ends_with_its_streams_however_it_ends() {
    let site = Site::new();
    let paths = [
        "/live".to_owned(),
        format!("/jobs/{}/logs", site.job),
        "/servers/1/log/stream".to_owned(),
    ];

    let left4me = |args: &[&str], input: &str| {
        site.host.left4me_with_input(args, input).done();
    };

    let other = site.web.signed_in("admin");
    let untouched = follow(&site, &other, "/live", None);

    let ends: [End<'_>; 4] = [
        ("signed out", &|client| {
            assert_eq!(client.post("/logout", &[]).status, 303)
        }),
        ("another password", &|_| {
            left4me(
                &["user", "passwd", "alice", "--password-stdin"],
                &format!("{PASSWORD}\n"),
            )
        }),
        ("expired", &|_| {
            let db = site.host.db();
            db.connection()
                .execute("UPDATE sessions SET expires_at = 1 WHERE user_id = 1", [])
                .unwrap();
        }),
        ("disabled", &|_| left4me(&["user", "disable", "alice"], "")),
    ];

    for (what, end) in ends {
        let mut client = site.web.signed_in("alice");
        let kept = client.cookies.clone();
        let mut streams: Vec<TcpStream> = paths
            .iter()
            .map(|path| follow(&site, &client, path, None))
            .collect();

        end(&mut client);
        for (stream, path) in streams.iter_mut().zip(&paths) {
            assert!(closes(stream, PATIENCE), "{what}: {path} goes on");
        }

        client.cookies = kept;

        let answer = client.get("/account");
        assert!(
            answer.status == 303 && answer.location().starts_with("/login"),
            "{what}: {} {}",
            answer.status,
            answer.body
        );
    }

    assert_eq!(
        site.web
            .client()
            .post("/login", &[("name", "alice"), ("password", PASSWORD)])
            .status,
        422,
        "disabled"
    );

    // Heartbeats and changes may have come meanwhile. After them the stream continues.
    untouched.set_nonblocking(true).unwrap();

    let end = loop {
        match (&untouched).read(&mut [0; 64 * 1024]) {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.kind()),
        }
    };

    assert_eq!(
        end,
        Some(std::io::ErrorKind::WouldBlock),
        "another's stream goes on"
    );
}

#[test]
fn a_token_is_good_until_it_is_revoked() {
    let site = Site::new();
    let name: TokenName = "script".parse().unwrap();
    let user = users::by_name(site.host.db().connection(), "alice")
        .unwrap()
        .unwrap()
        .id;
    let (token, text) = site
        .host
        .db()
        .write(|tx| tokens::create(tx, 1, "test", user, &name))
        .unwrap();
    let mut client = site.web.client();
    let bearer = format!("Bearer {text}");
    let mut ask = |path: &str| {
        client
            .send("GET", path, &[("Authorization", &bearer)], "")
            .status
    };

    assert_eq!(ask("/api/servers"), 200);
    assert_eq!(ask("/"), 303, "a token opens no page");
    assert_eq!(ask("/metrics"), 403, "nor what is an admin's");
    site.host
        .db()
        .write(|tx| tokens::revoke(tx, 2, "test", token.id))
        .unwrap();
    assert_eq!(ask("/api/servers"), 401);
}

#[test]
fn the_number_of_streams_is_limited_and_refusals_say_so() {
    let site = Site::new();
    let client = site.web.signed_in("alice");
    let mut open: Vec<TcpStream> = (0..16)
        .map(|_| follow(&site, &client, "/live", None))
        .collect();
    let route = Route {
        method: "GET".parse().unwrap(),
        path: "/live",
        who: Access::User,
    };

    let (status, head) = ask(&client, &site.web, &route, "/live");

    assert!(status == 503 && head.contains("retry-after: "), "{head}");
    assert_eq!(
        ask(&site.web.signed_in("stranger"), &site.web, &route, "/live").0,
        200,
        "another user has places"
    );

    assert_eq!(
        site.web.signed_in("alice").get("/").status,
        200,
        "pages are answered"
    );

    drop(open.pop());

    crate::support::until("the place is free again", || {
        (ask(&client, &site.web, &route, "/live").0 == 200).then_some(())
    });
}
