//! What people met in their browsers in the field: many pages over HTTP/1.1, a proxy that answers
//! 502 for a moment, a session that ends while a user types, long logs, a window that is half as
//! wide as the screen.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::browser::{Browser, Scripts};
use crate::lab::{Lab, s, wait_for};

const PASSWORD: &str = "correct horse 7";
const GAME: &str = "/var/lib/left4me/runtime/1/merged/left4dead2";
const LINES: i64 = 9000;

pub fn what_people_met_in_their_browsers(lab: &Lab) {
    lab.in_its_network("what_people_met_in_their_browsers", |lab| {
        lab.describe(&["Пятница: ночь / №1", "Two", "Three"]);
        let anna = Browser::start(lab.suite().as_str(), Scripts::On);
        anna.go("/");
        anna.sign_in("admin", PASSWORD);
        anna.comes_to("/");
        the_beginning_of_a_long_log_is_shown(lab, &anna);
        what_would_fail_is_not_offered(lab, &anna);
        a_restart_that_cannot_work_leaves_the_server_up(lab);
        eight_pages_share_one_stream(lab, &anna);
        a_502_costs_no_line_and_doubles_none(lab, &anna);
        what_was_typed_outlives_the_session(lab, &anna);
        nothing_is_squeezed_in_a_narrow_window(&anna);
    });
}

fn the_beginning_of_a_long_log_is_shown(lab: &Lab, anna: &Browser) {
    lab.steamcmd(&format!("lines={LINES}"));
    let job = lab.job(&["install"]).id;
    anna.go(&format!("/jobs/{job}"));
    let log = lab.log(job);
    anna.click("Earlier lines");
    let shown = || {
        let lines = anna.js(
            "return [...document.querySelectorAll('#log .line')].map((line) => [line.dataset.seq \
            ?? '', line.querySelector('.what').textContent])",
        );

        let lines = lines.as_array().expect("a list").clone();
        lines
            .iter()
            .map(|line| {
                (
                    line[0].as_str().unwrap_or_default().to_owned(),
                    line[1].as_str().unwrap_or_default().to_owned(),
                )
            })
            .collect::<Vec<_>>()
    };

    let lines = anna.waits("line 1", || match shown() {
        lines if lines.first().is_some_and(|(seq, _)| seq == "1") => Ok(lines),
        lines => Err(format!("{:?}", lines.first())),
    });

    assert_eq!(lines[0].1, log[0].line);
    let gap = lines
        .iter()
        .position(|(seq, _)| seq.is_empty())
        .expect("a mark for what is not shown");
    assert_eq!(
        lines[gap - 1].0,
        gap.to_string(),
        "the beginning has no hole"
    );

    let next: usize = lines[gap + 1].0.parse().expect("a number");
    assert!(
        lines[gap]
            .1
            .contains(&format!("lines {} to {} are not shown", gap + 1, next - 1)),
        "{:?}",
        lines[gap]
    );

    assert_eq!(
        lines.last().expect("a line").0,
        log.len().to_string(),
        "the end is shown, too"
    );

    anna.shoot("30-log-from-line-1");
}

fn what_would_fail_is_not_offered(lab: &Lab, anna: &Browser) {
    let offers = || {
        anna.js(
            "return [...document.querySelectorAll('#game form')].map((form) => \
            form.getAttribute('action')).join(' ')",
        )
    };

    anna.go("/admin");
    assert_eq!(offers(), "/admin/install /admin/check /admin/update");
    lab.steamcmd("");
    lab.job(&["start", "--server", "1"]);
    anna.go("/admin");
    assert_eq!(
        offers(),
        "/admin/install /admin/check /admin/update",
        "an install beside a server that runs a build does not touch it"
    );

    lab.sh("mv /var/lib/left4me/steam/steamcmd.sh /var/lib/left4me/steam/elsewhere");
    anna.go("/admin");
    assert_eq!(offers(), "");
    anna.sees("#game", "steamcmd is missing");
    anna.shoot("31-no-steamcmd");
    lab.sh("mv /var/lib/left4me/steam/elsewhere /var/lib/left4me/steam/steamcmd.sh");
}

fn a_restart_that_cannot_work_leaves_the_server_up(lab: &Lab) {
    let pid = lab.main_pid(1);
    lab.sh("mv /var/lib/left4me/overlays/demo /var/lib/left4me/overlays/elsewhere");
    for operation in ["restart", "reset"] {
        lab.failing_job(
            &[operation, "--server", "1"],
            &["demo", "does not exist", "was left running"],
        );

        assert_eq!(lab.main_pid(1), pid, "its players stay");
    }

    lab.sh("mv /var/lib/left4me/overlays/elsewhere /var/lib/left4me/overlays/demo");
    lab.job(&["restart", "--server", "1"]);
    assert_ne!(lab.main_pid(1), pid);
}

/// How many streams the front has open, of which kind.
fn streams() -> String {
    let mut front = TcpStream::connect("127.0.0.1:8000").expect("the front listens");
    front
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut said = String::new();
    front.read_to_string(&mut said).expect("it answers");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let open = said
        .lines()
        .filter(|line| line.starts_with("left4me_web_streams{") && !line.ends_with(" 0"));
    open.collect::<Vec<_>>().join(", ")
}

fn eight_pages_share_one_stream(lab: &Lab, anna: &Browser) {
    anna.go("/");
    for path in [
        "/servers/1/log",
        "/servers/2/log",
        "/servers/3/log",
        "/",
        "/admin",
        "/admin/jobs",
        "/servers/1",
    ] {
        // Over HTTP/1.1 a browser opens six connections to a host: with a stream each, the seventh
        // page never comes.
        anna.open_window(path);
        anna.sees("h1", "");
    }

    wait_for("all pages have one stream", s(20), || match streams() {
        one if one == "left4me_web_streams{kind=\"changes\"} 1" => Ok(()),
        other => Err(other),
    });

    // It carries everything: the page that is seen moves by itself.
    anna.js("window.marked = true");
    lab.job(&["stop", "--server", "1"]);
    anna.sees("#state", "stopped");
    lab.job(&["start", "--server", "1"]);
    anna.sees("#state", "running");
    assert_eq!(
        anna.js("return window.marked"),
        true,
        "the page was not loaded again"
    );

    anna.close_others();
    anna.is_quiet();
}

/// A proxy that passes everything on, or answers 502.
struct Proxy {
    broken: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// How often it answered 502.
    refused: Arc<AtomicUsize>,
}

impl Proxy {
    /// At 127.0.0.1:8001, in front of left4me-web.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:8001").expect("the port is free");
        let proxy = Self {
            broken: Arc::default(),
            open: Arc::default(),
            refused: Arc::default(),
        };

        let (broken, open, refused) = (
            Arc::clone(&proxy.broken),
            Arc::clone(&proxy.open),
            Arc::clone(&proxy.refused),
        );

        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                if broken.load(Ordering::SeqCst) {
                    // What it asks does not matter.
                    if client.read(&mut [0; 16 * 1024]).is_err() {
                        continue;
                    }
                    refused.fetch_add(1, Ordering::SeqCst);
                    client
                        .write_all(
                            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: \
                              0\r\nConnection: close\r\n\r\n",
                        )
                        .ok();
                    continue;
                }

                let Ok(server) = TcpStream::connect("127.0.0.1:8000") else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (
                        from.try_clone().expect("a copy"),
                        to.try_clone().expect("a copy"),
                    );

                    std::thread::spawn(move || {
                        std::io::copy(&mut from, &mut to).ok();
                        to.shutdown(Shutdown::Both).ok();
                    });
                }

                open.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend([client, server]);
            }
        });

        proxy
    }

    /// Breaks off all connections, and answers 502 from now on, or goes on.
    fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
        for stream in self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

fn a_502_costs_no_line_and_doubles_none(lab: &Lab, anna: &Browser) {
    let say = |words: &str| {
        lab.write("/root/say", &format!("{words}\n"));
        lab.sh(&format!(
            "cp /root/say {GAME}/standin.say-now; mv {GAME}/standin.say-now {GAME}/standin.say"
        ));
    };

    let proxy = Proxy::start();
    anna.js("location.href = 'http://127.0.0.1:8001/servers/1/log'");
    anna.sees("[data-log-state]", "live");
    say("before the gap");
    anna.sees("#log", "before the gap");
    anna.js("window.marked = true");
    proxy.set_broken(true);
    anna.sees("[data-log-state]", "connection lost");
    say("in the gap");
    wait_for("the page is answered with 502", s(20), || {
        match proxy.refused.load(Ordering::SeqCst) {
            0 => Err("not yet".to_owned()),
            _ => Ok(()),
        }
    });

    proxy.set_broken(false);
    anna.sees("[data-log-state]", "live");
    anna.sees("#log", "in the gap");
    say("after the gap");
    anna.sees("#log", "after the gap");
    assert_eq!(
        anna.js("return window.marked"),
        true,
        "the page was not loaded again"
    );

    let lines = anna
        .js("return [...document.querySelectorAll('#log .what')].map((what) => what.textContent)");
    let lines: Vec<&str> = lines
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|line| line.as_str())
        .collect();
    for words in ["before the gap", "in the gap", "after the gap"] {
        assert_eq!(
            lines.iter().filter(|line| line.contains(words)).count(),
            1,
            "'{words}' once: {lines:#?}"
        );
    }

    // A page that is hidden follows nothing, and goes on where it was when it is shown again.
    anna.go("/servers/1/log");
    anna.sees("[data-log-state]", "live");
    say("before it was hidden");
    anna.sees("#log", "before it was hidden");
    // A browser without a screen shows all of its windows: so the page is told what it would see.
    let hide = |hidden: bool| {
        anna.js(&format!(
            "Object.defineProperty(document, 'hidden', \
             {{ get: () => {hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    };

    hide(true);
    wait_for("nothing is followed", s(20), || match streams() {
        none if none.is_empty() => Ok(()),
        other => Err(other),
    });

    say("while it was hidden");
    hide(false);
    anna.sees("#log", "while it was hidden");
    let shown = anna.text("#log");
    for words in ["before it was hidden", "while it was hidden"] {
        assert_eq!(shown.matches(words).count(), 1, "'{words}' once: {shown}");
    }
    anna.go("/");
    anna.complaints();
}

fn what_was_typed_outlives_the_session(lab: &Lab, anna: &Browser) {
    let signed_out = |password: &str| {
        lab.run_with(
            "root",
            &["left4me", "user", "passwd", "admin", "--password-stdin"],
            password,
        )
        .ends_with(0);
    };

    let value = |css: &str| anna.js(&format!("return document.querySelector('{css}').value"));
    anna.go("/blueprints/new");
    anna.fill("input[name=name]", "после работы");
    anna.fill("textarea[name=config]", "hostname \"typed for an hour\"");
    signed_out("battery staple 8\n");
    anna.click("Save");
    anna.sees("h1", "Sign in");
    anna.sign_in("admin", "battery staple 8");
    anna.comes_to("/blueprints/new");
    anna.sees("main", "Your input was restored");
    assert_eq!(value("input[name=name]"), "после работы");
    assert_eq!(
        value("textarea[name=config]"),
        "hostname \"typed for an hour\""
    );

    anna.shoot("32-typed-text-is-back");
    // The page of a preview is no page that one can come back to: the form's own is.
    anna.click("Preview");
    anna.sees("pre[aria-label='server.cfg']", "typed for an hour");
    signed_out("tall order of 9\n");
    anna.click("Save");
    anna.sees("h1", "Sign in");
    anna.sign_in("admin", "tall order of 9");
    anna.comes_to("/blueprints/new");
    assert_eq!(
        value("textarea[name=config]"),
        "hostname \"typed for an hour\""
    );

    anna.click("Save");
    anna.sees("h1", "после работы");
    // What was sent is not given back, and a password never is.
    anna.go("/blueprints/new");
    assert_eq!(value("textarea[name=config]"), "");
    anna.go("/admin/users");
    anna.fill("form[action='/admin/users'] input[name=name]", "Боб");
    anna.fill(
        "form[action='/admin/users'] input[name=password]",
        "not to be kept",
    );

    signed_out("correct horse 7\n");
    anna.click("Add");
    anna.sees("h1", "Sign in");
    let kept = anna.js("return JSON.stringify(sessionStorage)").to_string();
    assert!(
        kept.contains("Боб") && !kept.contains("not to be kept"),
        "{kept}"
    );

    anna.sign_in("admin", PASSWORD);
    anna.comes_to("/admin/users");
    assert_eq!(
        value("form[action=\"/admin/users\"] input[name=name]"),
        "Боб"
    );

    assert_eq!(
        value("form[action=\"/admin/users\"] input[name=password]"),
        ""
    );

    anna.complaints();
}

fn nothing_is_squeezed_in_a_narrow_window(anna: &Browser) {
    let squeezed = "
        const lines = (node) => {
            const range = document.createRange();
            range.selectNodeContents(node);
            return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size;
        };
        const text = (label) => label.querySelector('span') ?? label;
        const seen = [...document.querySelectorAll('.bar label')].filter((label) => \
        !label.closest('details:not([open])'));
        const labels = seen.filter((label) => lines(text(label)) > 1).map((label) => label.textContent);
        const cells = [...document.querySelectorAll('tbody th, [data-label=What]')]
            .filter((cell) => cell.getBoundingClientRect().width < 130).map((cell) => \
            cell.textContent.trim());
        const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
        return JSON.stringify([labels, cells, over > 0 ? over : 0])";
    for (number, path) in [
        "/",
        "/admin/jobs",
        "/admin",
        "/admin/users",
        "/admin/events",
        "/servers/1",
    ]
    .into_iter()
    .enumerate()
    {
        anna.go(path);
        for width in [769, 900, 1030, 1280] {
            anna.shoot_at(&format!("{}-narrow", 40 + number), width);
            assert_eq!(anna.js(squeezed), "[[],[],0]", "{path} at {width}");
        }

        anna.at_a_desk();
    }

    anna.go("/admin/jobs");
    anna.shoot_all("50-jobs");
    anna.go("/");
    anna.shoot_all("51-dashboard");
}
