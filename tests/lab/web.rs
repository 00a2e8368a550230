//! The web front as people meet it, in real browsers: anna runs the host, bob has a server, carol
//! has none.
//!
//! What a page shows "by itself" it shows without having been loaded again: each such page is given
//! a mark that a reload would take from it.

use crate::browser::{Browser, Scripts};
use crate::lab::{Lab, s, wait_until};
use crate::site::STEAM;

const PASSWORDS: [(&str, &str); 3] = [
    ("anna", "correct horse 7"),
    ("bob", "battery staple 8"),
    ("carol", "tall order of 9"),
];

const GAME: &str = "/var/lib/left4me/runtime/1/merged/left4dead2";

/// What a program may print to break a page, and what people should see of it. The words at its end
/// show that all of it came.
const HOSTILE: &[(&str, &str)] = &[
    (
        "<img src=x onerror=\"document.title='owned'\">",
        "<img src=x onerror=\"document.title='owned'\">",
    ),
    (
        "<script>document.title='owned'</script></pre></main>",
        "<script>document.title='owned'</script></pre></main>",
    ),
    ("&lt;b&gt; &amp;amp;", "&lt;b&gt; &amp;amp;"),
    (
        "\u{1b}[31mred\u{1b}[0m\u{1b}]0;owned\u{7}, all of it",
        "red, all of it",
    ),
    (
        "data: {\"seq\":1000000,\"line\":\"owned\"}",
        "data: {\"seq\":1000000,\"line\":\"owned\"}",
    ),
    ("event: end", "event: end"),
    ("id: 1000000", "id: 1000000"),
    ("retry: 1", "retry: 1"),
    (": a comment", ": a comment"),
    ("after CR LF\r", "after CR LF"),
    ("that was all", "that was all"),
];

/// A line as wide as it may be, of characters that are twice as wide as others.
fn wide() -> String {
    "漢".repeat(4096)
}

fn hostile() -> String {
    let lines: Vec<&str> = HOSTILE.iter().map(|(printed, _)| *printed).collect();
    format!("{}\n{}\n", wide(), lines.join("\n"))
}

/// Everybody, each with a browser.
struct Evening<'a> {
    lab: &'a Lab,
    anna: Browser,
    bob: Browser,
}

pub fn an_evening_in_a_browser(lab: &Lab) {
    lab.in_its_network("an_evening_in_a_browser", |lab| {
        lab.run_with(
            "root",
            &[
                "left4me",
                "user",
                "add",
                "anna",
                "--admin",
                "--password-stdin",
            ],
            PASSWORDS[0].1,
        )
        .ends_with(0);

        let start = || Browser::start(lab.suite().as_str(), Scripts::On);
        let evening = Evening {
            lab,
            anna: start(),
            bob: start(),
        };

        evening.anna_signs_in();
        evening.anna_adds_people_and_an_overlay();
        evening.bob_makes_a_blueprint_and_a_server();
        evening.anna_watches_the_installation();
        evening.a_job_is_cancelled_with_a_reason();
        evening.bob_starts_his_server();
        evening.the_console_is_live_and_takes_whatever_is_printed();
        evening.a_killed_game_appears_by_itself();
        evening.two_clicks_are_one_job();
        evening.keys_do_what_a_mouse_does();
        evening.carol_sees_none_of_it();
        evening.anna_sees_all_of_it();
        evening.without_scripts_pages_show_and_forms_work();
        evening.who_signs_out_sees_no_more();
    });
}

/// The trial is fair: what would be wrong with a page is seen.
fn the_browser_notices(browser: &Browser) {
    browser.js(
        "document.querySelector('main').insertAdjacentHTML('beforeend', \
         '<img src=\"/x\" style=\"color: red\">')",
    );

    browser.waits("a flaw is found", || match browser.flaws() {
        found if found.iter().any(|one| one["rule"] == "image-alt") => Ok(()),
        found => Err(format!("{found:?}")),
    });

    let mut complaints = String::new();
    browser.waits(
        "an inline style and a missing picture are complained of",
        || {
            complaints.push_str(&browser.complaints().join("\n"));
            let both = complaints.contains("Content Security Policy")
                && complaints.contains("status of 404");
            if both {
                Ok(())
            } else {
                Err(complaints.clone())
            }
        },
    );

    browser.go("/login?next=%2Fadmin%2Fusers");
    browser.is_quiet();
}

/// Marks the page as it is now.
fn mark(browser: &Browser) {
    browser.js("window.marked = true");
}

/// Panics when the page was loaded again since [`mark`].
#[track_caller]
fn is_still_the_same(browser: &Browser) {
    assert_eq!(
        browser.js("return window.marked === true"),
        true,
        "{} moved by itself",
        browser.path()
    );
}

impl Evening<'_> {
    fn anna_signs_in(&self) {
        let (anna, (name, password)) = (&self.anna, PASSWORDS[0]);
        anna.go("/admin/users");
        anna.comes_to("/login?next=%2Fadmin%2Fusers");
        anna.shoot_all("01-login");
        the_browser_notices(anna);
        anna.sign_in(name, "correct horse 8");
        anna.sees(".trouble", "wrong");
        anna.is_told(422);
        anna.shoot("02-login-wrong");
        anna.fill("input[name=password]", password);
        anna.click("Sign in");
        anna.comes_to("/admin/users");
        anna.sees(".who", name);
        anna.go("/");
        anna.sees("main", "No servers yet");
        anna.shoot_all("03-dashboard-empty");
    }

    fn anna_adds_people_and_an_overlay(&self) {
        let anna = &self.anna;
        anna.go("/admin/users");
        for (name, password) in &PASSWORDS[1..] {
            anna.fill("form[action='/admin/users'] input[name=name]", name);
            anna.fill("form[action='/admin/users'] input[name=password]", password);
            anna.click("Add");
            anna.sees("main table", name);
        }

        anna.shoot_all("04-admin-users");
        // The web front may not write where the game's files are: it offers the folders that are
        // there.
        anna.go("/admin/overlays");
        anna.sees("main", "left4me overlay add");
        assert_eq!(
            anna.js("return document.querySelectorAll('select[name=path]').length"),
            0,
            "no folder is there"
        );

        self.lab
            .run_as(
                "left4me",
                &["mkdir", "-p", "/var/lib/left4me/overlays/demo/left4dead2"],
            )
            .ends_with(0);
        anna.go("/admin/overlays");
        anna.choose("select[name=path]", "demo");
        anna.click("Add");
        anna.sees("main table", "demo");
        anna.shoot_all("05-admin-overlays");
    }

    fn bob_makes_a_blueprint_and_a_server(&self) {
        let (bob, (name, password)) = (&self.bob, PASSWORDS[1]);
        bob.go("/");
        bob.sign_in(name, password);
        bob.comes_to("/");
        assert!(
            !bob.text("header").contains("Admin"),
            "nothing of an admin's is offered"
        );

        bob.click("Blueprints");
        bob.sees("main", "No blueprints yet");
        bob.click("New blueprint");
        bob.comes_to("/blueprints/new");
        bob.fill("input[name=name]", "versus");
        bob.fill("input[name=position]", "1");
        bob.fill("textarea[name=arguments]", "+map\nc1m1_hotel");
        bob.fill(
            "textarea[name=config]",
            "hostname \"Friday <night>\"\nsv_steamgroup_exclusive 0",
        );

        bob.click("Preview");
        bob.sees(
            "pre[aria-label='server.cfg']",
            "hostname \"Friday <night>\"",
        );

        bob.shoot_all("06-blueprint-preview");
        bob.click("Save");
        bob.comes_to("/blueprints/1");
        bob.sees("main", "c1m1_hotel");
        bob.shoot_all("07-blueprint");
        bob.go("/blueprints");
        bob.sees("table", "versus");
        bob.shoot_all("08-blueprints");
        bob.go("/servers/new");
        bob.fill("input[name=name]", "Friday night");
        bob.choose("select[name=blueprint]", "versus");
        bob.shoot_all("09-server-new");
        bob.click("Create server");
        bob.comes_to("/servers/1");
        bob.sees("h1", "Friday night");
        bob.is_quiet();
    }

    fn anna_watches_the_installation(&self) {
        let anna = &self.anna;
        self.lab.write("/var/lib/left4me/steam/hostile", &hostile());
        self.lab
            .steamcmd(&format!("seconds=10 say={STEAM}/hostile"));
        anna.go("/admin");
        anna.shoot_all("10-admin");
        anna.click("Install");
        anna.comes_to("/jobs/1");
        mark(anna);
        let percent = || {
            let percent: f64 = anna.text("[data-percent]").parse().unwrap_or(0.0);
            if percent > 0.0 && percent < 100.0 {
                Ok(percent)
            } else {
                Err(percent.to_string())
            }
        };

        let before = anna.waits("a percentage", percent);
        anna.waits("the percentage moves", || match percent() {
            Ok(now) if now > before => Ok(()),
            other => Err(format!("{before}, then {other:?}")),
        });

        anna.shoot_all("11-job-installing");
        anna.wait_for_state("succeeded", 60);
        anna.sees("[data-log-state]", "complete");
        is_still_the_same(anna);
        shows_the_hostile_as_text(anna);
        anna.shoot_all("12-job-installed");
        // The same as the server renders it.
        anna.go("/jobs/1");
        shows_the_hostile_as_text(anna);
        anna.is_quiet();
    }

    fn a_job_is_cancelled_with_a_reason(&self) {
        let (anna, reason) = (&self.anna, "wrong <evening>");
        self.lab.steamcmd("hang=1 lines=3 ignore_term=1");
        anna.go("/admin");
        anna.click("Install");
        anna.comes_to("/jobs/2");
        anna.sees("#log", "line 3");
        anna.click("Cancel …");
        anna.fill("#reason", reason);
        anna.click("Yes, cancel");
        anna.comes_to("/jobs/2#cancellations");
        anna.sees("#state", "cancelling");
        mark(anna);
        anna.shoot_all("13-job-cancelling");
        anna.wait_for_state("cancelled", 60);
        anna.sees("#cancellations", reason);
        anna.sees("#cancellations", "completed");
        anna.sees("#cancellations", "kill");
        anna.sees("[data-log-state]", "complete");
        is_still_the_same(anna);
        anna.shoot_all("14-job-cancelled");
        assert_eq!(
            self.lab.processes_of("left4me-steam"),
            "",
            "processes after it"
        );

        self.lab.steamcmd("");
    }

    fn bob_starts_his_server(&self) {
        let (anna, bob) = (&self.anna, &self.bob);
        anna.go("/");
        anna.sees("#server-1", "stopped");
        mark(anna);
        bob.go("/servers/1");
        bob.click("Start Friday night");
        bob.comes_to("/jobs/3");
        mark(bob);
        bob.sees("#log", "left4me");
        bob.wait_for_state("succeeded", 60);
        bob.sees("[data-log-state]", "complete");
        is_still_the_same(bob);
        bob.shoot("15-job-start");
        anna.sees("#server-1 .badge", "running");
        anna.sees("#jobs", "start Friday night");
        is_still_the_same(anna);
        anna.shoot_all("16-dashboard");
        bob.go("/servers/1");
        bob.sees("#state", "running");
        // For players elsewhere it would be a link; this browser looks from the host itself.
        let port = self.lab.server("Friday night")["port"].to_string();
        bob.sees("#facts", &format!("127.0.0.1:{port}"));
        assert_eq!(
            bob.js("return document.querySelectorAll('a[href^=\"steam:\"]').length"),
            0,
            "links to oneself"
        );
    }

    fn the_console_is_live_and_takes_whatever_is_printed(&self) {
        let bob = &self.bob;
        bob.go("/servers/1/log");
        bob.sees("[data-log-state]", "live");
        bob.sees("#log", "c1m1_hotel");
        mark(bob);
        self.game_says(&hostile());
        bob.sees("#log", "that was all");
        is_still_the_same(bob);
        shows_the_hostile_as_text(bob);
        // Where it broke off, it goes on.
        self.lab
            .ok(&["systemctl", "restart", "left4me-web.service"]);
        self.game_says("after the restart\n");
        bob.sees("#log", "after the restart");
        is_still_the_same(bob);
        let shown = bob.text("#log");
        for line in ["that was all", "after the restart"] {
            assert_eq!(shown.matches(line).count(), 1, "'{line}' once: {shown}");
        }
        assert_eq!(bob.text("[data-log-state]"), "live", "after 'event: end'");
        bob.shoot_all("17-console");
        bob.go("/servers/1");
        bob.sees("pre.log", "that was all");
        bob.shoot_all("18-server");
    }

    /// On its console.
    fn game_says(&self, lines: &str) {
        self.lab.write("/root/say", lines);
        self.lab.sh(&format!(
            "cp /root/say {GAME}/standin.say-now; mv {GAME}/standin.say-now {GAME}/standin.say"
        ));
    }

    fn a_killed_game_appears_by_itself(&self) {
        let (anna, bob) = (&self.anna, &self.bob);
        anna.go("/");
        mark(anna);
        mark(bob);
        let pid = self.lab.main_pid(1);
        self.lab.ok(&["kill", "-9", &pid]);
        bob.sees("#events", "signal 9 (KILL)");
        bob.sees("#facts", "1 automatic restart");
        bob.sees("#state", "running");
        is_still_the_same(bob);
        anna.sees("#server-1 .badge", "running");
        is_still_the_same(anna);
        bob.shoot("19-server-after-a-kill");
        assert_ne!(self.lab.main_pid(1), pid, "it is another process");
    }

    fn two_clicks_are_one_job(&self) {
        let bob = &self.bob;
        bob.go("/servers/1");
        let before = self.lab.job_count();
        bob.click_twice("Restart Friday night");
        bob.waits("a job's page", || {
            let path = bob.path();
            if path.starts_with("/jobs/") {
                Ok(())
            } else {
                Err(path)
            }
        });

        bob.wait_for_state("succeeded", 60);
        assert_eq!(self.lab.job_count(), before + 1, "jobs of two clicks");
        // A form that is sent once more, whatever the page does about it.
        bob.go("/servers/1");
        let sent = bob.js_async(
            "const form = document.querySelector('form[action$=\"/restart\"]'); const send = () => \
            fetch(form.action, {method: \
             'POST', body: new URLSearchParams(new FormData(form))}).then((answer) => answer.url);
             Promise.all([send(), send()]).then(done, (error) => done(String(error)))",
        );

        assert_eq!(sent[0], sent[1], "one form leads to one job: {sent}");
        assert_eq!(
            self.lab.job_count(),
            before + 2,
            "jobs of one form sent twice"
        );

        bob.is_quiet();
    }

    fn keys_do_what_a_mouse_does(&self) {
        const TAB: &str = "\u{e004}";
        const ENTER: &str = "\u{e007}";
        const ESCAPE: &str = "\u{e00c}";
        let bob = &self.bob;
        bob.go("/jobs/3");
        bob.press(TAB);
        assert_eq!(bob.focused(), "Skip to content");
        bob.press(ENTER);
        assert_eq!(bob.js("return document.activeElement.id"), "main");
        bob.press("/");
        assert_eq!(
            bob.js("return document.activeElement.hasAttribute('data-log-search')"),
            true,
            "/ searches"
        );

        bob.press("left4me");
        bob.waits("what is found is counted", || {
            let count = bob.text("[data-log-count]");
            if count.contains("found") {
                Ok(())
            } else {
                Err(count)
            }
        });

        bob.press(ENTER);
        bob.sees("[data-log-count]", "1 of ");
        bob.press(ESCAPE);
        let follows = || bob.attribute("[data-log-follow]", "aria-pressed");
        let before = follows();
        bob.press("f");
        assert_ne!(follows(), before, "f follows, or does no more");
        bob.is_quiet();
    }

    fn carol_sees_none_of_it(&self) {
        let carol = Browser::start(self.lab.suite().as_str(), Scripts::On);
        let (name, password) = PASSWORDS[2];
        carol.go("/");
        carol.sign_in(name, password);
        carol.comes_to("/");
        carol.sees("main", "No servers yet");
        carol.sees("#jobs", "No jobs yet");
        carol.go("/blueprints");
        carol.sees("main", "No blueprints yet");
        carol.is_quiet();
        for path in [
            "/servers/1",
            "/servers/1/log",
            "/servers/1/jobs",
            "/jobs/1",
            "/jobs/3",
            "/jobs/3/log.txt",
            "/blueprints/1",
        ] {
            carol.go(path);
            assert!(
                !carol.text("body").contains("Friday") && !carol.text("body").contains("versus"),
                "{path}"
            );

            carol.is_told(404);
        }

        carol.shoot("20-not-found");
        for path in ["/admin", "/admin/users", "/admin/jobs", "/admin/events"] {
            carol.go(path);
            carol.is_told(403);
        }

        carol.shoot_all("21-forbidden");
    }

    fn anna_sees_all_of_it(&self) {
        let anna = &self.anna;
        anna.go("/servers/1");
        anna.sees("h1", "Friday night");
        anna.sees(".crumbs", "bob");
        anna.go("/servers/1/jobs");
        anna.sees("#jobs", "start Friday night");
        anna.shoot_all("22-server-jobs");
        anna.go("/admin/jobs");
        anna.sees("#jobs", "start Friday night");
        anna.sees("#jobs", "cancelled");
        anna.shoot_all("23-admin-jobs");
        anna.go("/admin/events");
        for words in [
            "anna requested job 1: install.",
            "bob requested job 3: start on Friday night.",
            "anna added the user carol.",
            "bob created the blueprint 1 'versus'.",
            "wrong <evening>",
        ] {
            anna.sees("main table", words);
        }

        anna.shoot_all("24-admin-events");
        anna.go("/admin/health");
        anna.sees("h1", "Health");
        anna.shoot_all("25-admin-health");
        anna.go("/account");
        anna.fill("#token-name", "monitoring");
        anna.click("Create token");
        anna.sees("#token", "l4m_");
        anna.shoot_all("26-account");
    }

    fn without_scripts_pages_show_and_forms_work(&self) {
        let plain = Browser::start(self.lab.suite().as_str(), Scripts::Off);
        let (name, password) = PASSWORDS[1];
        plain.go("/");
        plain.sign_in(name, password);
        plain.comes_to("/");
        plain.sees("#server-1", "running");
        plain.go("/jobs/3");
        plain.sees("#state", "succeeded");
        plain.sees("#log", "left4me");
        plain.sees("main", "without JavaScript");
        plain.shoot("27-job-without-scripts");
        plain.go("/servers/1/log");
        plain.sees("#log", "that was all");
        plain.go("/servers/1");
        plain.click("Stop Friday night");
        plain.waits("a job's page", || {
            let path = plain.path();
            if path.starts_with("/jobs/") {
                Ok(())
            } else {
                Err(path)
            }
        });

        let page = plain.path();
        plain.waits("it has succeeded when the page is loaded again", || {
            plain.go(&page);
            let state = plain.text("#state");
            if state == "succeeded" {
                Ok(())
            } else {
                Err(state)
            }
        });

        plain.go("/");
        plain.sees("#server-1", "stopped");
        plain.shoot("28-dashboard-without-scripts");
        plain.click("Sign out");
        plain.comes_to("/login");
    }

    /// Two pages of one session: signing out in the one ends what flows into the other.
    fn who_signs_out_sees_no_more(&self) {
        let bob = &self.bob;
        bob.go("/servers/1/log");
        bob.sees("[data-log-state]", "live");
        let first = bob.open_another("/");
        bob.click("Sign out");
        bob.comes_to("/login");
        bob.turn_to(first);
        bob.comes_to("/login?next=%2Fservers%2F1%2Flog");
        wait_until("the journal is no longer followed", s(20), || {
            !self
                .lab
                .is("systemctl list-units --plain --no-legend --state=running \
                         'left4me-helper@*' | grep -q .")
        });
    }
}

/// Each line as text, and nothing of it as anything else.
#[track_caller]
fn shows_the_hostile_as_text(browser: &Browser) {
    browser.sees("#log", "that was all");
    let lines = browser
        .js("return [...document.querySelectorAll('#log .what')].map((what) => what.textContent)");
    let lines: Vec<&str> = lines
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|line| line.as_str())
        .collect();
    for (printed, shown) in HOSTILE {
        assert!(
            lines.contains(shown),
            "{printed:?} is shown as {shown:?}: {lines:#?}"
        );
    }

    assert!(
        lines.contains(&wide().as_str()),
        "a line of 4096 wide characters is whole"
    );

    assert!(
        !lines
            .iter()
            .any(|line| line.contains('\u{1b}') || line.contains("[31m")),
        "{lines:#?}"
    );

    let strange = browser.js("return document.querySelectorAll('#log img, \
         #log script, #log b, main ~ *, main img').length");

    assert_eq!(strange, 0, "elements that no template has");
    assert!(
        !browser
            .js("return document.title")
            .as_str()
            .unwrap_or_default()
            .contains("owned")
    );
}
