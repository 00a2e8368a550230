//! Attacks on the web front over HTTP by local programs and by accounts: guessing passwords past
//! the limits, reading other users' data, and staying signed in after a password change.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use left4me::base::names::TokenName;
use left4me::db::users::Role;
use left4me::db::{events, tokens, users};

use crate::support::host::TestHost;
use crate::support::http::{Client, Web};
use crate::support::{PASSWORD, is_real_root, until};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ORIGIN: &str = "https://left4me.example.org";

/// The user of game server 7.
const GAME: u32 = 2_100_000_007;

/// An installation with an account and a proxy's secret file.
fn host() -> (TestHost, String) {
    let host = TestHost::new();
    host.user("anna", Role::User);
    let file = host.root.join("proxy.secret");
    std::fs::write(&file, SECRET).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    (host, file.to_string_lossy().into_owned())
}

/// The status of a sign-in with these additional headers.
fn sign_in(client: &mut Client, name: &str, password: &str, headers: &[(&str, &str)]) -> u16 {
    let form = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Sec-Fetch-Site", "same-origin"),
    ];

    let body = serde_urlencoded::to_string([("name", name), ("password", password)]).unwrap();
    client
        .send("POST", "/login", &[&form[..], headers].concat(), &body)
        .status
}

/// Wrong passwords until there is a wait, each with other headers; at most `most`.
fn tries(
    client: &mut Client,
    most: usize,
    mut one: impl FnMut(&mut Client, usize) -> u16,
) -> usize {
    (0..most)
        .take_while(|number| one(client, *number) != 429)
        .count()
}

#[test]
fn a_local_program_that_invents_addresses_waits_like_any_other() {
    let (host, file) = host();
    let web = Web::start(&host, &["--origin", ORIGIN, "--proxy-secret-file", &file]);
    let mut client = web.client();
    let rotated = |client: &mut Client, number: usize, shown: &str| {
        let address = format!("198.51.100.{number}");
        sign_in(
            client,
            "anna",
            "wrong password",
            &[("X-Forwarded-For", &address), ("X-Left4me-Proxy", shown)],
        )
    };

    assert_eq!(
        tries(&mut client, 30, |client, number| rotated(
            client, number, ""
        )),
        5
    );

    assert_eq!(
        rotated(&mut client, 40, "0123456789abcdef0123456789abcdee"),
        429,
        "a wrong secret"
    );

    // The proxy is trusted: each of its visitors has attempts of their own, and the owner gets in.
    assert_eq!(rotated(&mut client, 41, SECRET), 422);

    let home = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Left4me-Proxy", SECRET),
    ];

    assert_eq!(sign_in(&mut web.client(), "anna", PASSWORD, &home), 303);

    // Only another address is trusted: the header does not count. Unknown names are limited alike.
    let web = Web::start(&host, &["--origin", ORIGIN, "--proxies", "192.0.2.1"]);
    assert_eq!(
        tries(&mut web.client(), 30, |client, number| rotated(
            client, number, ""
        )),
        5
    );

    let unknown = |client: &mut Client, number: usize| {
        sign_in(
            client,
            "unknown",
            "wrong password",
            &[("X-Forwarded-For", &format!("198.51.100.{number}"))],
        )
    };

    assert_eq!(tries(&mut web.client(), 30, unknown), 5);
}

#[test]
fn a_local_program_that_tries_many_names_waits_like_any_other() {
    let (host, file) = host();
    let web = Web::start(&host, &["--origin", ORIGIN, "--proxy-secret-file", &file]);
    let sprayed = |client: &mut Client, number: usize| {
        let address = format!("2001:db8:{number}::1");
        sign_in(
            client,
            &format!("user{number}"),
            "wrong password",
            &[("X-Forwarded-For", &address)],
        )
    };

    assert_eq!(tries(&mut web.client(), 40, sprayed), 20);
}

#[test]
fn behind_an_unconfigured_proxy_visitors_do_not_lock_out_others() {
    let (host, _) = host();
    let web = Web::start(&host, &["--origin", ORIGIN]);
    let mut client = web.client();
    let visitor = |client: &mut Client, name: &str, password: &str, number: usize| {
        sign_in(
            client,
            name,
            password,
            &[("X-Forwarded-For", &format!("198.51.100.{number}"))],
        )
    };

    for number in 0..30 {
        assert_eq!(
            visitor(
                &mut client,
                &format!("user{number}"),
                "wrong password",
                number
            ),
            422
        );
    }

    assert_eq!(visitor(&mut web.client(), "anna", PASSWORD, 99), 303);

    // The account itself is protected, whatever addresses are named.
    assert_eq!(
        tries(&mut client, 60, |client, number| visitor(
            client,
            "anna",
            "wrong password",
            number
        )),
        50
    );
}

#[test]
fn a_sign_in_that_found_no_room_counts_for_nothing() {
    let (host, file) = host();
    let web = Web::start(&host, &["--origin", ORIGIN, "--proxy-secret-file", &file]);
    let over = AtomicBool::new(false);
    let anna = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Left4me-Proxy", SECRET),
    ];

    let (mut refused, mut checked) = (0, 0);

    std::thread::scope(|scope| {
        // Far more than may wait, each attempt with its own name and address.
        for subscribers in 0..120 {
            let (web, over) = (&web, &over);

            scope.spawn(move || {
                for number in (0..0xffff).take_while(|_| !over.load(Ordering::SeqCst)) {
                    let address = format!("2001:db8:{subscribers:x}:{number:x}::1");
                    let headers = [("X-Forwarded-For", &*address), ("X-Left4me-Proxy", SECRET)];
                    let name = format!("user{subscribers}x{number}");
                    sign_in(&mut web.client(), &name, "wrong password", &headers);
                }
            });
        }

        let begun = Instant::now();
        while refused < 10 && checked < 4 && begun.elapsed() < Duration::from_secs(30) {
            match sign_in(&mut web.client(), "anna", "wrong password", &anna) {
                503 => refused += 1,
                _ => checked += 1,
            }
        }

        over.store(true, Ordering::SeqCst);
    });

    assert!(refused >= 5, "{refused} refused, {checked} checked");

    // Only attempts whose password was checked are used up.
    assert_eq!(sign_in(&mut web.client(), "anna", PASSWORD, &anna), 303);
}

#[test]
fn a_readable_or_short_proxy_secret_prevents_the_start() {
    let (host, file) = host();
    for (text, mode, words) in [(SECRET, 0o644, "chmod 0640"), ("short", 0o640, "32 to 512")] {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let args = ["--listen", "127.0.0.1:0", "--proxy-secret-file", &file];
        let output = host.command(crate::support::WEB, &args).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{printed}");
        assert!(
            printed.contains("LEFT4ME_WEB_PROXY_SECRET_FILE") && printed.contains(words),
            "{printed}"
        );

        assert!(text.len() > 10 || !printed.contains(text), "{printed}");
    }
}

/// Sends a request as another user of this host; returns the whole response.
fn asked_as(uid: u32, web: &Web, request: &str) -> String {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; printf '%s' \"$1\" >&3; exec cat <&3",
        web.addr.port()
    );

    let output = Command::new("/bin/bash")
        .args(["-c", &script, "bash", request])
        .uid(uid)
        .gid(uid)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn get(web: &Web, path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\n{more}Connection: close\r\n\r\n",
        web.addr
    )
}

#[test]
fn a_game_server_on_loopback_is_no_user_of_the_host() {
    if !is_real_root() {
        eprintln!(
            "skipped: it takes root to be a game server's user; \
             tests/lab/walls_web.rs does the same"
        );

        return;
    }

    let (host, file) = host();
    host.user("admin", Role::Admin);

    let token = token(&host, "admin");
    let args = [
        "--origin",
        ORIGIN,
        "--proxies",
        "127.0.0.1",
        "--proxy-secret-file",
        &file,
    ];

    let web = Web::start(&host, &args);
    let metrics = get(&web, "/metrics", "");
    assert!(
        asked_as(1000, &web, &metrics).starts_with("HTTP/1.1 200 "),
        "a user of the host"
    );

    let answer = asked_as(GAME, &web, &metrics);
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.contains("token"),
        "{answer}"
    );

    assert!(!answer.contains("left4me_"), "{answer}");

    let shown = get(
        &web,
        "/metrics",
        &format!("Authorization: Bearer {token}\r\n"),
    );

    assert!(
        asked_as(GAME, &web, &shown).starts_with("HTTP/1.1 200 "),
        "with a token"
    );

    assert!(asked_as(GAME, &web, &get(&web, "/health", "")).starts_with("HTTP/1.1 200 "));

    // It is no proxy, even if one is trusted at this address, or with the secret.
    let body = "name=anna&password=wrong+password";
    let sign_in = |number: usize| {
        format!(
            "POST /login HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: same-origin\r\nX-Forwarded-For: \
            198.51.100.{number}\r\n\
             X-Left4me-Proxy: {SECRET}\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            web.addr,
            body.len()
        )
    };

    let looked_at = (0..30)
        .take_while(|n| !asked_as(GAME, &web, &sign_in(*n)).starts_with("HTTP/1.1 429 "))
        .count();

    assert_eq!(looked_at, 5);
    assert!(
        asked_as(1000, &web, &sign_in(50)).starts_with("HTTP/1.1 422 "),
        "the proxy is another user"
    );
}

#[test]
fn a_game_server_that_opens_all_connections_it_can_takes_none_of_peoples() {
    if !is_real_root() {
        eprintln!("skipped: it takes root to be a game server's user");
        return;
    }

    let host = TestHost::new();
    let web = Web::start(&host, &["--connections", "32"]);
    let script = format!(
        "for i in $(seq 40); do exec {{fd}}<>/dev/tcp/127.0.0.1/{} || exit; \
         done; echo open; exec sleep 60",
        web.addr.port()
    );

    let mut command = Command::new("/bin/bash");
    let mut game = command
        .args(["-c", &script])
        .uid(GAME)
        .gid(GAME)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = [0; 4];
    std::io::Read::read_exact(&mut game.stdout.take().unwrap(), &mut printed).unwrap();

    let answer = web.get("/health");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        asked_as(GAME, &web, &get(&web, "/health", "")).starts_with("HTTP/1.1 503 "),
        "it has had its share"
    );

    game.kill().unwrap();
    game.wait().unwrap();

    until("its places are free", || {
        asked_as(GAME, &web, &get(&web, "/health", ""))
            .starts_with("HTTP/1.1 200 ")
            .then_some(())
    });
}

/// A new token of a user.
fn token(host: &TestHost, user: &str) -> String {
    let name: TokenName = format!("script {user} {}", crate::support::marker())
        .parse()
        .unwrap();
    let id = users::by_name(host.db().connection(), user)
        .unwrap()
        .unwrap()
        .id;
    host.db()
        .write(|tx| tokens::create(tx, 1, "test", id, &name))
        .unwrap()
        .1
}

fn status_of(web: &Web, token: &str) -> u16 {
    web.client()
        .send(
            "GET",
            "/api/servers",
            &[("Authorization", &format!("Bearer {token}"))],
            "",
        )
        .status
}

#[test]
fn another_password_and_disabling_end_every_token() {
    let (host, _) = host();
    host.user("admin", Role::Admin);

    let web = Web::start(&host, &[]);
    let others = token(&host, "admin");

    // A thief who signed in once has created a token; its owner changes the password in each
    // possible way.
    type Way<'a> = (&'a str, &'a dyn Fn());

    let ways: [Way<'_>; 4] = [
        ("the account's page", &|| {
            let mut client = web.signed_in("anna");
            assert!(
                client
                    .get("/account")
                    .body
                    .contains("revokes all your tokens")
            );

            let fields = [
                ("current", PASSWORD),
                ("new", PASSWORD),
                ("again", PASSWORD),
            ];

            let answer = client.post("/account/password", &fields);
            assert_eq!(answer.location(), "/account?done=password");
            assert!(
                client
                    .get("/account?done=password")
                    .body
                    .contains("your tokens are revoked")
            );
        }),
        ("the admin's page", &|| {
            let mut client = web.signed_in("admin");
            assert_eq!(
                client
                    .post("/admin/users/anna/password", &[("password", PASSWORD)])
                    .status,
                303
            );
        }),
        ("left4me user passwd", &|| {
            let printed = host
                .left4me_with_input(
                    &["user", "passwd", "anna", "--password-stdin"],
                    &format!("{PASSWORD}\n"),
                )
                .done();

            assert!(printed.contains("all tokens revoked"), "{printed}");
        }),
        ("left4me user disable", &|| {
            let printed = host
                .left4me_with_input(&["user", "disable", "anna"], "")
                .done();
            assert!(printed.contains("tokens revoked"), "{printed}");
            // When the user is enabled again, the tokens stay revoked.
            host.left4me_with_input(&["user", "enable", "anna"], "")
                .done();
        }),
    ];

    for (what, change) in ways {
        let stolen = token(&host, "anna");
        assert_eq!(status_of(&web, &stolen), 200, "{what}: the trial is fair");
        change();
        assert_eq!(status_of(&web, &stolen), 401, "{what}");
    }

    assert_eq!(status_of(&web, &others), 200, "another user's token stays");

    let kinds = events::last(host.db().connection(), None, 100).unwrap();
    assert_eq!(
        kinds
            .iter()
            .filter(|event| event.kind == "token.revoked")
            .count(),
        4,
        "{kinds:?}"
    );
}

#[test]
fn guessing_on_the_account_page_locks_no_one_else_out() {
    let (host, _) = host();
    let web = Web::start(&host, &[]);
    let (mut owner, mut thief) = (web.signed_in("anna"), web.signed_in("anna"));

    let guess = |client: &mut Client, _| {
        client
            .post(
                "/account/password",
                &[("current", "wrong password"), ("new", "x"), ("again", "x")],
            )
            .status
    };

    assert_eq!(tries(&mut thief, 30, guess), 5);

    let fields = [
        ("current", PASSWORD),
        ("new", PASSWORD),
        ("again", PASSWORD),
    ];

    assert_eq!(
        owner.post("/account/password", &fields).location(),
        "/account?done=password"
    );

    assert!(thief.get("/account").location().starts_with("/login"));
}

#[test]
fn a_request_that_was_answered_503_may_come_again_with_its_key() {
    let (host, _) = host();
    let web = Web::start(&host, &[]);
    host.user("admin", Role::Admin);

    let token = token(&host, "admin");
    let bearer = format!("Bearer {token}");
    let headers = [
        ("Authorization", &*bearer),
        ("Content-Type", "application/json"),
        ("Idempotency-Key", "k-1"),
    ];

    let ask = || {
        web.client()
            .send("POST", "/api/jobs", &headers, r#"{"operation":"install"}"#)
    };

    let db = host.db();
    db.connection().execute_batch("BEGIN IMMEDIATE").unwrap();

    let answer = ask();
    assert_eq!(answer.status, 503, "{}", answer.body);
    db.connection().execute_batch("ROLLBACK").unwrap();

    let (first, again) = (ask(), ask());
    assert_eq!((first.status, again.status), (201, 200), "{}", first.body);
    assert_eq!(first.json()["job_id"], again.json()["job_id"]);
}
