//! Schedules in a browser: what is made there is a timer of systemd, runs at its time, and is gone
//! from systemd when it is removed there.

use crate::browser::{Browser, Scripts};
use crate::lab::{Lab, s, wait_for};

const PASSWORD: &str = "correct horse 7";
const TIMER: &str = "left4me-schedule@1.timer";

pub fn a_schedule_made_in_a_browser_is_a_timer_and_runs(lab: &Lab) {
    lab.in_its_network("a_schedule_made_in_a_browser_is_a_timer_and_runs", |lab| {
        // Without summer time, so that this test is the same all year.
        lab.sh("ln -sf /usr/share/zoneinfo/Asia/Kolkata /etc/localtime");
        lab.describe(&["Friday", "Saturday <night>"]);
        lab.job(&["install"]);
        lab.job(&["start", "--server", "1"]);
        let anna = Browser::start(lab.suite().as_str(), Scripts::On);
        anna.go("/");
        anna.sign_in("admin", PASSWORD);
        anna.comes_to("/");

        what_is_wrong_stands_at_its_field(&anna);
        it_is_added_and_runs_by_itself(lab, &anna);
        it_is_paused_resumed_and_removed(lab, &anna);
        without_scripts_the_form_works(lab);
    });
}

/// The timers that systemd lists, with or without one for a schedule.
fn timers(lab: &Lab) -> String {
    lab.ok(&["systemctl", "list-timers", "--no-legend", "left4me-*"])
}

#[track_caller]
fn is_listed(lab: &Lab, timer: &str, expected: bool) {
    let what = format!("{timer} is listed: {expected}");
    wait_for(&what, s(20), || match timers(lab) {
        all if all.contains(timer) == expected => Ok(()),
        all => Err(all),
    });
}

fn what_is_wrong_stands_at_its_field(anna: &Browser) {
    anna.click("Schedules");
    anna.comes_to("/schedules");
    anna.sees("#schedules", "There are none yet");
    anna.sees("#zone-hint", "Asia/Kolkata");
    anna.shoot_all("70-schedules-empty");

    anna.click("Saturday <night>");
    anna.click("Tuesday");
    anna.fill("#zone", "Mars/Olympus <b>");
    anna.fill("#until", "soon");
    anna.click("Add schedule");
    anna.sees("#time-trouble", "say at what time");
    anna.sees("#zone-trouble", "'Mars/Olympus <b>'");
    anna.sees("#until-trouble", "neither a time of day");
    anna.is_told(422);
    assert_eq!(anna.js("return document.activeElement.id"), "time");
    assert_eq!(
        anna.js(
            "return [...document.querySelectorAll('#add :checked')].map((one) => one.value).join()"
        ),
        "restart,2,Tue,give-up",
        "what was chosen is kept"
    );
    assert_eq!(anna.attribute("#zone", "value"), "Mars/Olympus <b>");
    anna.shoot_all("71-schedules-wrong");
}

/// Every day at a time that comes soon.
fn it_is_added_and_runs_by_itself(lab: &Lab, anna: &Browser) {
    anna.go("/schedules?server=1");
    let time = lab.ok(&["date", "-d", "+100 seconds", "+%H:%M"]);
    anna.js(&format!("document.querySelector('#time').value = '{time}'"));
    anna.click("If the host is off at that time, run once after it starts");
    anna.click("Add schedule");
    anna.comes_to("/schedules?added=1");
    let runs =
        anna.js("return [...document.querySelectorAll('#added li')].map((run) => run.textContent)");
    let runs = runs.as_array().expect("a list");
    assert_eq!(runs.len(), 3, "{runs:?}");
    for run in runs {
        let run = run.as_str().expect("text");
        assert!(run.ends_with(&format!(" {time} IST")), "{run}");
    }
    anna.sees("#schedule-1", &format!("every day at {time}"));
    is_listed(lab, TIMER, true);

    // The page tells of the run without being loaded again.
    anna.js("window.marked = true");
    wait_for("the run is told", s(150), || {
        match anna.text("#schedule-1 [data-label='Last run']") {
            last if last.contains("job #") && last.contains("succeeded") => Ok(()),
            last => Err(format!("{last}\n{}", timers(lab))),
        }
    });
    assert_eq!(anna.js("return window.marked"), true);
    anna.sees("#schedule-1 [data-label='State']", "waiting");
    anna.sees("#schedule-1 [data-label='Next run']", "in 23 h");
    anna.shoot_all("72-schedules");

    anna.click_at("//*[@id='schedule-1']//a[starts-with(@href, '/jobs/')]");
    anna.sees("h1", "restart");
    anna.sees("#facts", "Requested by");
    anna.sees("#facts", "schedule 1");
    anna.sees("#facts", "Friday");
}

fn it_is_paused_resumed_and_removed(lab: &Lab, anna: &Browser) {
    anna.go("/servers/1");
    anna.sees("#schedule-1", "restart Friday");
    anna.click("Add a schedule …");
    anna.shoot_all("73-server-schedules");

    anna.click("Pause schedule 1");
    anna.comes_to("/servers/1#schedules");
    anna.sees("#schedule-1", "paused");
    is_listed(lab, TIMER, false);
    anna.click("Resume schedule 1");
    anna.sees("#schedule-1", "waiting");
    is_listed(lab, TIMER, true);

    anna.go("/schedules");
    anna.click("Remove schedule 1");
    anna.click("Yes, remove schedule 1");
    anna.sees("#schedules", "There are none yet");
    is_listed(lab, TIMER, false);
    anna.is_quiet();
}

fn without_scripts_the_form_works(lab: &Lab) {
    let plain = Browser::start(lab.suite().as_str(), Scripts::Off);
    plain.go("/schedules");
    plain.sign_in("admin", PASSWORD);
    plain.comes_to("/schedules");
    plain.choose("#operation", "Make a backup");
    plain.click("Or a calendar expression");
    plain.fill("#on", "Sun *-*-* 04:30 Europe/Berlin");
    plain.click("Add schedule");
    plain.comes_to("/schedules?added=2");
    plain.sees("#schedule-2", "Sunday at 04:30");
    plain.sees("#schedule-2", "Europe/Berlin");
    plain.shoot("74-schedules-without-scripts");
    is_listed(lab, "left4me-schedule@2.timer", true);

    plain.click("Remove schedule 2");
    plain.click("Yes, remove schedule 2");
    plain.sees("#schedules", "There are none yet");
    is_listed(lab, "left4me-schedule@2.timer", false);
    plain.is_quiet();
}
