//! Times as people read them: in the host's zone and in their own, named; and the page of an update
//! that was cancelled, at a desk, by keyboard and on a phone.

use crate::browser::{Browser, Scripts};
use crate::lab::{Lab, s, wait_until};

const PASSWORD: &str = "correct horse 7";
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

pub fn times_name_their_zone_and_a_cancelled_update_is_mended_from_its_page(lab: &Lab) {
    lab.in_its_network(
        "times_name_their_zone_and_a_cancelled_update_is_mended_from_its_page",
        |lab| {
            // Without summer time, so that this test is the same all year.
            lab.sh("ln -sf /usr/share/zoneinfo/Asia/Kolkata /etc/localtime");
            lab.describe(&["One", "Two"]);
            lab.job(&["install"]);
            lab.job(&["start", "--server", "1", "--server", "2"]);
            commands_and_sandboxed_programs_know_the_zone(lab);
            let anna = Browser::start(lab.suite().as_str(), Scripts::On);
            anna.in_zone("America/Phoenix");
            anna.go("/");
            anna.sign_in("admin", PASSWORD);
            anna.comes_to("/");
            let job = an_update_is_cancelled_while_its_page_is_open(lab, &anna);
            pages_have_the_hosts_zone_and_the_readers(&anna);
            what_it_left_down_is_started_from_its_page(lab, &anna, job);
        },
    );
}

fn commands_and_sandboxed_programs_know_the_zone(lab: &Lab) {
    let list = lab.ok(&["left4me-job", "list"]);
    assert!(
        list.lines()
            .next()
            .is_some_and(|heading| heading.contains("QUEUED (IST)")),
        "{list}"
    );

    let list = lab.sh("TZ=Asia/Tokyo left4me-job list");
    assert!(
        list.lines()
            .next()
            .is_some_and(|heading| heading.contains("QUEUED (JST)")),
        "{list}"
    );

    // The helper runs in a root of its own.
    let console = lab.ok(&["left4me-helper", "journal", "1", "--lines", "1"]);
    assert_eq!(console.split(' ').nth(2), Some("IST"), "{console}");
    assert!(
        lab.ok(&["left4me", "server", "show", "1"])
            .contains(" IST\n")
    );

    // Timers go by the same zone.
    lab.sh("systemctl start left4me-update.timer; \
         systemctl list-timers left4me-update.timer | grep ' IST '");

    lab.sh("systemctl stop left4me-update.timer");
}

/// The lines that come while the page is open are made by its script.
fn an_update_is_cancelled_while_its_page_is_open(lab: &Lab, anna: &Browser) -> i64 {
    lab.set("LEFT4ME_BUILDS=in-place");
    lab.steamcmd("hang=1");
    let job = lab.enqueue(&["update"]);
    anna.go(&format!("/jobs/{job}"));
    wait_until("steamcmd runs", s(30), || {
        lab.is(
            "pgrep -u left4me-steam steamcmd >/dev/null && ! systemctl is-active -q \
            left4me-server@1 left4me-server@2",
        )
    });

    lab.ok(&[
        "left4me-job",
        "cancel",
        &job.to_string(),
        "--reason",
        "players wait",
        "--force",
        "--leave-stopped",
    ]);

    anna.wait_for_state("cancelled", 30);
    job
}

fn pages_have_the_hosts_zone_and_the_readers(anna: &Browser) {
    let wrong = anna.js(
        r"return [...document.querySelectorAll('#log time')]
              .filter((time) => !/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d IST$/.test(time.title) || !time.title.includes(time.textContent))
              .map((time) => time.outerHTML).slice(0, 5)",
    );

    assert_eq!(wrong.as_array().map(Vec::len), Some(0), "{wrong:#}");
    assert!(
        anna.js("return document.querySelectorAll('#log time').length")
            .as_u64()
            > Some(5)
    );

    anna.sees("main", "Times in IST");
    let hint = anna.waits("the reader's time", || {
        match anna.attribute("#facts time", "title") {
            title if title.contains("; here ") => Ok(title),
            title => Err(title),
        }
    });

    // Mountain standard time; a browser that has no letters for it says how far it is from UTC.
    assert!(
        hint.contains(" IST; here ") && (hint.ends_with(" MST") || hint.ends_with(" GMT-7")),
        "{hint}"
    );

    let hours = anna.js(
        r"const [host, here] = document.querySelector('#facts time').title.match(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g)
              .map((time) => Date.parse(time.replace(' ', 'T') + 'Z'));
          return (host - here) / 3600000",
    );

    assert_eq!(hours.as_f64(), Some(12.5), "from UTC-7 to UTC+5:30");
    the_readers_clock_may_be_wrong(anna);
}

/// By an hour, on all pages from here on.
fn the_readers_clock_may_be_wrong(anna: &Browser) {
    let path = anna.path();
    let wrong = "const right = Date.now; Date.now = () => right() - 3600000;";
    anna.before_pages(wrong);
    anna.go(&path);
    assert_eq!(
        anna.js("return Math.round((Date.now() - new Date().getTime()) / 60000)"),
        -60
    );

    anna.js("document.dispatchEvent(new Event('visibilitychange'))");
    anna.waits("ages by the host's clock", || match anna.text("#facts") {
        facts
            if facts.contains("ago")
                && !facts.contains("in 1 h")
                && !facts.contains("in 59 min") =>
        {
            Ok(())
        }
        facts => Err(facts),
    });
}

fn what_it_left_down_is_started_from_its_page(lab: &Lab, anna: &Browser, job: i64) {
    let path = format!("/jobs/{job}");
    anna.sees("#outcomes", "One left stopped");
    anna.sees("#outcomes", "Two left stopped");
    anna.shoot_all("60-cancelled-update");

    // By keyboard, from the link before the button.
    anna.js("document.querySelector('#outcomes a[href=\"/servers/1\"]').focus()");
    anna.press(TAB);
    assert_eq!(anna.focused(), "Start One again");
    anna.press(ENTER);
    anna.waits("the job that starts it", || match anna.path() {
        now if now != path && now.starts_with("/jobs/") => Ok(()),
        now => Err(now),
    });

    anna.wait_for_state("succeeded", 30);
    assert_eq!(
        lab.unit("left4me-server@1.service", "ActiveState"),
        "active"
    );

    anna.go(&path);
    let offers = || {
        anna.js("return [...document.querySelectorAll('#outcomes \
             button')].map((one) => one.textContent).join()")
    };

    assert_eq!(offers(), "Start Two again", "One runs");
    // It is started from elsewhere: the open page stops offering it.
    lab.job(&["start", "--server", "2"]);
    anna.waits("no offer", || match offers().as_str() {
        Some("") => Ok(()),
        other => Err(format!("{other:?}")),
    });

    anna.sees("#outcomes", "Two left stopped");
    anna.is_quiet();
}
