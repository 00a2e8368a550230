//! Schedules on a real host: timers of systemd, through the units as they are shipped.

use serde_json::Value;

use crate::lab::{Lab, s, wait_for, wait_until};
use crate::players::{control, soon};

pub fn what_is_scheduled_happens_at_its_time(lab: &Lab) {
    lab.describe(&["Friday", "Saturday"]);
    lab.job(&["install"]);
    lab.job(&["start", "--all"]);
    lab.answers("Friday");

    it_is_a_timer_of_systemd(lab);
    it_runs_and_its_job_says_so(lab);
    it_waits_while_somebody_plays(lab);
    a_pause_takes_the_timer_away(lab);
    a_reload_keeps_it_and_the_doctor_misses_it(lab);
    what_was_missed_is_made_up_for_once_if_it_was_asked_for(lab);
    a_stop_of_left4me_stops_the_timers(lab);
    it_goes_with_its_server(lab);
    nothing_failed(lab);
}

/// Adds a schedule; gives its number.
#[track_caller]
fn add(lab: &Lab, args: &[&str]) -> i64 {
    let added = lab.json(&[&["left4me", "schedule", "add"], args, &["--json"]].concat());
    added["id"].as_i64().expect("a number")
}

fn show(lab: &Lab, id: i64) -> Value {
    lab.json(&["left4me", "schedule", "show", &id.to_string(), "--json"])
}

/// What list-timers shows of left4me.
fn timers(lab: &Lab) -> String {
    lab.ok(&[
        "systemctl",
        "list-timers",
        "--all",
        "--no-pager",
        "left4me-*",
    ])
}

fn unit(id: i64) -> String {
    format!("left4me-schedule@{id}.timer")
}

fn has_timer(lab: &Lab, id: i64) -> bool {
    timers(lab).contains(&unit(id))
}

/// A time of day in UTC, from now on.
fn at(lab: &Lab, what: &str) -> String {
    lab.sh(&format!("date -u -d '{what}' +%H:%M:%S"))
        .trim()
        .to_owned()
}

/// Lets the schedules have been added two days ago.
fn age(lab: &Lab) {
    lab.sql("UPDATE schedules SET since = since - 172800000");
}

fn it_is_a_timer_of_systemd(lab: &Lab) {
    let id = add(
        lab,
        &[
            "restart",
            "--server",
            "Friday",
            "--on",
            "*-*-* 05:00",
            "--zone",
            "Europe/Berlin",
        ],
    );
    wait_until("list-timers shows it", s(30), || has_timer(lab, id));
    let unit = unit(id);
    let calendar = lab.unit(&unit, "TimersCalendar");
    assert!(
        calendar.contains("OnCalendar=*-*-* 05:00:00 Europe/Berlin"),
        "{calendar}"
    );
    assert_eq!(lab.unit(&unit, "Persistent"), "no");
    let next = lab.sh(&format!(
        "date -d \"$(systemctl show -P NextElapseUSecRealtime {unit})\" +%s"
    ));
    wait_until("the row has it", s(30), || {
        let at = show(lab, id)["next_at"].as_i64().unwrap_or_default();
        (at / 1000).to_string() == next.trim()
    });
    lab.ok(&["left4me", "schedule", "remove", &id.to_string()]);
    wait_until("it is gone", s(30), || !has_timer(lab, id));
    assert!(!lab.is(&format!("test -e /run/systemd/transient/{unit}")));
}

fn it_runs_and_its_job_says_so(lab: &Lab) {
    let soon = at(lab, "now + 20 seconds");
    let pid = lab.main_pid(1);
    let id = add(
        lab,
        &[
            "restart", "--server", "Friday", "--on", &soon, "--zone", "UTC",
        ],
    );
    let job = wait_for("its job", s(90), || {
        let row = show(lab, id);
        row["last_job_id"].as_i64().ok_or_else(|| row.to_string())
    });
    assert_eq!(lab.ended(job, 60).state, "succeeded");
    assert_ne!(lab.main_pid(1), pid, "it was restarted");

    let job = lab.json(&["left4me-job", "show", &job.to_string(), "--json"]);
    assert_eq!(job["requested_by"], format!("schedule {id}"));
    let row = show(lab, id);
    let late = row["last_run_at"].as_i64().unwrap() / 1000
        - lab
            .sh(&format!("date -u -d '{soon}' +%s"))
            .trim()
            .parse::<i64>()
            .unwrap();
    assert!((0..10).contains(&late), "{late} s late");
    let next = row["next_at"].as_i64().unwrap() - row["last_run_at"].as_i64().unwrap();
    assert!(next > 23 * 3_600_000, "tomorrow");
    lab.ok(&["left4me", "schedule", "remove", &id.to_string()]);
}

fn it_waits_while_somebody_plays(lab: &Lab) {
    lab.answers("Friday");
    control(lab, "join", "Anna\tSTEAM_1:0:11\n");
    soon(lab, "Anna plays", |row| row["players"] == 1);

    let time = at(lab, "now + 10 seconds");
    let id = add(
        lab,
        &[
            "stop",
            "--server",
            "Friday",
            "--on",
            &time,
            "--zone",
            "UTC",
            "--when-empty",
        ],
    );
    let job = wait_for("its job", s(60), || {
        let row = show(lab, id);
        row["last_job_id"].as_i64().ok_or_else(|| row.to_string())
    });
    let shown = lab.json(&["left4me-job", "show", &job.to_string(), "--json"]);
    assert!(
        shown["waiting"]
            .as_str()
            .is_some_and(|why| why.contains("1 player on Friday")),
        "{shown:#}"
    );
    lab.ok(&[
        "left4me-job",
        "cancel",
        &job.to_string(),
        "--reason",
        "not tonight",
    ]);
    assert_eq!(lab.server("Friday")["actual_state"], "running");
    lab.ok(&["left4me", "schedule", "remove", &id.to_string()]);
}

fn a_pause_takes_the_timer_away(lab: &Lab) {
    let id = add(lab, &["backup", "--on", "*-*-* 03:30", "--persistent"]);
    wait_until("list-timers shows it", s(30), || has_timer(lab, id));
    lab.ok(&["left4me", "schedule", "pause", &id.to_string()]);
    wait_until("it is gone", s(30), || !has_timer(lab, id));

    // What was missed meanwhile is not made up for, although systemd would.
    lab.sh(&format!(
        "touch -d '-3 days' /var/lib/systemd/timers/stamp-{}",
        unit(id)
    ));
    lab.ok(&["left4me", "schedule", "resume", &id.to_string()]);
    wait_until("it is back", s(30), || has_timer(lab, id));
    wait_until("systemd has tried", s(30), || {
        lab.is(&format!(
            "journalctl -u left4me-schedule@{id} | grep -q 'has not come'"
        ))
    });
    assert_eq!(show(lab, id)["last_run_at"], Value::Null);

    // Its time.
    age(lab);
    lab.ok(&[
        "systemctl",
        "start",
        &format!("left4me-schedule@{id}.service"),
    ]);
    assert!(show(lab, id)["last_run_at"].is_i64());
    assert!(lab.is("ls /var/lib/left4me/backups/left4me-*.db"));
    lab.ok(&["left4me", "schedule", "remove", &id.to_string()]);
    wait_until("it is gone", s(30), || !has_timer(lab, id));
}

fn a_reload_keeps_it_and_the_doctor_misses_it(lab: &Lab) {
    let id = add(lab, &["initialize", "--all", "--on", "Mon 06:00"]);
    wait_until("list-timers shows it", s(30), || has_timer(lab, id));
    lab.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(lab.unit(&unit(id), "ActiveState"), "active");
    lab.ok(&["systemctl", "daemon-reexec"]);
    wait_until("systemd is back", s(30), || has_timer(lab, id));
    assert!(doctor(lab).contains("systemd has the timer of 1 schedule"));

    lab.ok(&["systemctl", "stop", &unit(id)]);
    let found = doctor(lab);
    assert!(
        found.contains("systemctl start left4me-schedules.service"),
        "{found}"
    );
    lab.ok(&["systemctl", "start", "left4me-schedules.service"]);
    assert!(has_timer(lab, id));
    assert!(doctor(lab).contains("systemd has the timer of 1 schedule"));
    lab.ok(&["left4me", "schedule", "remove", &id.to_string()]);
}

fn doctor(lab: &Lab) -> String {
    lab.run(&["left4me", "doctor"]).stdout
}

/// The host is off when their time comes: at noon, say.
fn what_was_missed_is_made_up_for_once_if_it_was_asked_for(lab: &Lab) {
    let missed = at(lab, "now - 1 hour");
    let args = ["--on", missed.as_str(), "--zone", "UTC"];
    let made_up = add(
        lab,
        &[&["initialize", "--server", "1", "--persistent"], &args[..]].concat(),
    );
    let not = add(lab, &[&["initialize", "--server", "2"], &args[..]].concat());
    wait_until("list-timers shows them", s(30), || {
        has_timer(lab, made_up) && has_timer(lab, not)
    });
    assert_eq!(show(lab, made_up)["last_run_at"], Value::Null);

    age(lab);
    lab.sh(&format!(
        "touch -d '-20 hours' /var/lib/systemd/timers/stamp-{}",
        unit(made_up)
    ));
    lab.reboot();
    wait_until("both are back", s(60), || {
        has_timer(lab, made_up) && has_timer(lab, not)
    });
    let job = wait_for("the run that was missed", s(60), || {
        let row = show(lab, made_up);
        row["last_job_id"].as_i64().ok_or_else(|| row.to_string())
    });
    assert_eq!(lab.ended(job, 60).state, "succeeded");
    assert_eq!(show(lab, not)["last_run_at"], Value::Null);

    let ran = show(lab, made_up)["last_run_at"].clone();
    lab.reboot();
    wait_until("both are back", s(60), || {
        has_timer(lab, made_up) && has_timer(lab, not)
    });
    lab.ok(&["systemctl", "start", "left4me-schedules.service"]);
    assert_eq!(show(lab, made_up)["last_run_at"], ran, "once");
    for id in [made_up, not] {
        lab.ok(&["left4me", "schedule", "remove", &id.to_string()]);
    }
}

fn a_stop_of_left4me_stops_the_timers(lab: &Lab) {
    let id = add(lab, &["update", "--on", "Tue 04:30"]);
    wait_until("list-timers shows it", s(30), || has_timer(lab, id));
    lab.ok(&["systemctl", "stop", "left4me.target"]);
    wait_until("it is gone", s(30), || !has_timer(lab, id));
    lab.ok(&["systemctl", "start", "left4me.target"]);
    wait_until("it is back", s(30), || has_timer(lab, id));
    lab.ok(&["systemctl", "restart", "left4me.target"]);
    wait_until("it is still there", s(30), || has_timer(lab, id));
    lab.ok(&["left4me", "schedule", "remove", &id.to_string()]);
}

fn it_goes_with_its_server(lab: &Lab) {
    let id = add(lab, &["restart", "--server", "Saturday", "--on", "05:00"]);
    wait_until("list-timers shows it", s(30), || has_timer(lab, id));
    lab.job(&["delete", "--server", "Saturday"]);
    lab.ok(&["left4me", "server", "remove", "Saturday"]);
    wait_until("it is gone", s(30), || !has_timer(lab, id));
    lab.run(&["left4me", "schedule", "show", &id.to_string()])
        .ends_with(3);
}

fn nothing_failed(lab: &Lab) {
    wait_until("nothing is under way", s(60), || {
        lab.unit("left4me-schedules.service", "ActiveState") == "inactive"
    });
    let failed = lab.sh("systemctl list-units --failed --plain --no-legend");
    assert_eq!(failed, "", "failed units");
    let left = lab.sh("ls /run/systemd/transient | grep left4me-schedule || true");
    assert_eq!(left, "", "units of removed schedules");
}
