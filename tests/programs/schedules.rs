//! Schedules at the command line, and what systemd's units run, with a stand-in for the helper.

use std::os::unix::net::UnixDatagram;

use serde_json::{Value, json};

use crate::support::host::TestHost;
use crate::support::{Finished, JOB, LEFT4ME, SocketUnit, accept, ended, start};

/// A host with servers S1 to S3 and a helper in whose place a script keeps the timers in a file.
struct Scheduling {
    // Dropped first: its socket is in the host's directory.
    _helper: SocketUnit,
    host: TestHost,
    socket: UnixDatagram,
}

/// Writes each request to `requests`, and answers from `timers`: a line for each timer.
const HELPER: &str = r#"
read -r request <&3
echo "$request" >>"$LEFT4ME_ROOT/requests"
case $request in
*'"set-timers"'*) exit=$(cat "$LEFT4ME_ROOT/set-exit" 2>/dev/null || echo 0)
    [ "$exit" = 0 ] || cat "$LEFT4ME_ROOT/set-answer" >&3
    cp "$LEFT4ME_ROOT/timers.next" "$LEFT4ME_ROOT/timers" 2>/dev/null ;;
*'"timers"'*) exit=0; cat "$LEFT4ME_ROOT/timers" >&3 2>/dev/null ;;
*) exit=0; : >"$LEFT4ME_ROOT/timers" ;;
esac
echo "{\"exit\":$exit}" >&3
"#;

impl Scheduling {
    fn new() -> Self {
        let host = TestHost::with_servers(3);
        let script = host.root.script("helper.sh", HELPER);
        let argv = ["/bin/bash", &script.to_string_lossy()];
        let helper = accept(&host.root.join("helper.sock"), &argv, &host.root.envs());
        let socket = UnixDatagram::bind(host.root.join("schedules.sock")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            _helper: helper,
            host,
            socket,
        }
    }

    fn schedule(&self, args: &[&str]) -> Finished {
        self.host.left4me(&[&["schedule"], args].concat())
    }

    fn add(&self, args: &[&str]) -> Value {
        self.schedule(&[&["add"], args, &["--json"]].concat())
            .json()
    }

    fn show(&self, id: &str) -> Value {
        self.schedule(&["show", id, "--json"]).json()
    }

    /// Whether left4me-schedules.service was notified since the last call.
    fn is_notified(&self) -> bool {
        let mut any = false;
        while self.socket.recv(&mut [0; 8]).is_ok() {
            any = true;
        }
        any
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.host.root.join(name), text).unwrap();
    }

    /// The requests to the helper so far.
    fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.host.root.join("requests")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn sql(&self, sql: &str) {
        self.host.db().connection().execute_batch(sql).unwrap();
    }
}

/// A timer as the helper reports it.
fn timer(id: i64, calendar: &str, next_at: i64) -> String {
    let state = json!({
        "schedule": id, "active": true, "calendar": calendar, "persistent": false, "next_at": next_at,
    });
    format!("{}\n", json!({"stdout": state.to_string()}))
}

#[test]
fn a_schedule_is_added_shown_paused_resumed_and_removed() {
    let scheduling = Scheduling::new();
    let added = scheduling.schedule(&[
        "add",
        "restart",
        "--server",
        "S1",
        "--server",
        "3",
        "--on",
        "mon..fri 05:00",
        "--zone",
        "Europe/Berlin",
        "--when-empty",
        "--until",
        "06:00",
        "--then",
        "go",
        "--warn",
        "10m,1m",
    ]);
    let said = added.done();
    assert!(
        said.starts_with("schedule 1 added; it runs next at 20"),
        "{said}"
    );
    assert!(scheduling.is_notified());

    let row = scheduling.show("1");
    assert_eq!(row["operation"], "restart");
    assert_eq!(row["servers"], json!([1, 3]));
    assert_eq!(row["on"], "Mon..Fri *-*-* 05:00:00");
    assert_eq!(row["zone"], "Europe/Berlin");
    assert_eq!(row["owner"], Value::Null);
    assert_eq!(row["condition"]["until"], "06:00");
    assert_eq!(row["condition"]["warn"], json!([600, 60]));
    assert!(row["next_at"].is_i64());

    let text = scheduling.schedule(&["show", "1"]).done();
    for words in [
        "S1, S3",
        "Europe/Berlin",
        "until 06:00",
        "left4me-schedule@1.timer",
    ] {
        assert!(text.contains(words), "'{words}' is missing: {text}");
    }
    let list = scheduling.schedule(&["list"]).done();
    assert!(
        list.contains("Mon..Fri *-*-* 05:00:00 Europe/Berlin"),
        "{list}"
    );

    scheduling.schedule(&["pause", "1"]).done();
    assert!(scheduling.is_notified());
    assert!(scheduling.schedule(&["list"]).done().contains("paused"));
    assert_eq!(scheduling.show("1")["next_at"], Value::Null);
    let said = scheduling.schedule(&["resume", "1"]).done();
    assert!(said.contains("is resumed; it runs next at 20"), "{said}");

    scheduling.schedule(&["remove", "1"]).done();
    assert!(scheduling.is_notified());
    assert_eq!(scheduling.schedule(&["list", "--json"]).json(), json!([]));

    let events = Finished::from(
        scheduling
            .host
            .command(JOB, &["events", "--json"])
            .output()
            .unwrap(),
    );
    let events = events.done();
    for kind in ["added", "paused", "resumed", "removed"] {
        assert!(
            events.contains(&format!("schedule.{kind}")),
            "{kind}: {events}"
        );
    }
}

#[test]
fn a_zone_may_stand_in_the_calendar() {
    let scheduling = Scheduling::new();
    let row = scheduling.add(&["update", "--on", "Tue 04:30 Asia/Tokyo", "--persistent"]);
    assert_eq!(
        (&row["zone"], &row["persistent"], &row["on"]),
        (
            &json!("Asia/Tokyo"),
            &json!(true),
            &json!("Tue *-*-* 04:30:00")
        )
    );
    scheduling
        .schedule(&[
            "add",
            "update",
            "--on",
            "04:30 Asia/Tokyo",
            "--zone",
            "Europe/Berlin",
        ])
        .refused(2, &["two time zones are given"]);
}

#[test]
fn bad_input_is_refused_with_what_to_do() {
    let scheduling = Scheduling::new();
    let restart = ["add", "restart", "--server", "S1"];
    let cases: &[(i32, &[&str], &str)] = &[
        (
            2,
            &["--on", "05:00", "--zone", "Atlantis/Poseidonis"],
            "Atlantis/Poseidonis",
        ),
        (
            2,
            &["--on", "05:00 Atlantis/Poseidonis"],
            "Atlantis/Poseidonis",
        ),
        (
            2,
            &["--on", "*:*:*"],
            "at least 5 min 0 s must lie between two runs",
        ),
        (2, &["--on", "*:*"], "at least 5 min 0 s"),
        (2, &["--on", "3000-01-01 05:00"], "3000"),
        (2, &["--on", "2020-01-01 05:00"], "never comes"),
        (2, &["--on", "*-02-30 05:00"], "02-30"),
        (2, &["--on", "every night"], "is not a calendar expression"),
        (2, &["--on", ""], "it is empty"),
        (2, &["--on", "05:00\nUnit=x.service"], "Unit=x.service"),
        (2, &["--on", "25:00"], "25:00"),
        (
            2,
            &["--on", "05:00", "--when-empty", "--until", "06:00"],
            "--until with --when-empty needs --then go or --then give-up",
        ),
        (
            2,
            &["--on", "05:00", "--then", "go"],
            "--then needs --until",
        ),
        (2, &["--on", "05:00", "--all"], "cannot be used with"),
        (2, &["--on", "05:00", "--rolling", "0"], "--rolling"),
        (
            2,
            &["--on", "05:00", "--rolling", "1", "--when-empty"],
            "--rolling does not go",
        ),
        (2, &[], "--on"),
    ];
    for (code, args, words) in cases {
        scheduling
            .schedule(&[&restart[..], args].concat())
            .refused(*code, &[words]);
    }

    let on = ["--on", "05:00"];
    let cases: &[(i32, &[&str], &str)] = &[
        (
            3,
            &["add", "restart", "--server", "Monday"],
            "no server is named 'Monday'",
        ),
        (
            3,
            &["add", "restart", "--server", "99"],
            "no server has the id 99",
        ),
        (2, &["add", "restart"], "--server or --all"),
        (
            2,
            &["add", "update", "--server", "S1"],
            "it takes no --server and no --all",
        ),
        (
            2,
            &["add", "backup", "--all"],
            "it takes no --server and no --all",
        ),
        (2, &["add", "backup", "--when-empty"], "takes no condition"),
        (
            2,
            &["add", "start", "--server", "S1", "--when-empty"],
            "takes no condition",
        ),
        (2, &["add", "install"], "install"),
        (2, &["add", "delete", "--server", "S1"], "delete"),
    ];
    for (code, args, words) in cases {
        scheduling
            .schedule(&[args, &on[..]].concat())
            .refused(*code, &[words]);
    }
    for verb in ["show", "pause", "resume", "remove"] {
        scheduling
            .schedule(&[verb, "7"])
            .refused(3, &["no schedule 7"]);
        scheduling
            .schedule(&[verb, "Friday"])
            .refused(2, &["a positive number is needed"]);
    }
    assert_eq!(scheduling.schedule(&["list", "--json"]).json(), json!([]));
    assert!(!scheduling.is_notified());
}

#[test]
fn a_change_counts_even_if_nothing_listens() {
    let scheduling = Scheduling::new();
    std::fs::remove_file(scheduling.host.root.join("schedules.sock")).unwrap();
    let added = scheduling.schedule(&["add", "update", "--on", "05:00"]);
    assert_eq!(added.code, 0, "{added:?}");
    assert!(added.err.contains("left4me-schedules.socket"), "{added:?}");
    assert_eq!(scheduling.show("1")["operation"], "update");
}

#[test]
fn the_timers_follow_the_rows() {
    let scheduling = Scheduling::new();
    scheduling.add(&["update", "--on", "05:00", "--zone", "Asia/Tokyo"]);
    scheduling.add(&["restart", "--all", "--on", "06:00"]);
    scheduling.add(&["stop", "--server", "S1", "--on", "07:00"]);
    scheduling.schedule(&["pause", "3"]).done();

    // The first is right, the second missing, the third paused, and the last one's row is gone.
    let before = [
        timer(1, "*-*-* 05:00:00 Asia/Tokyo", 11),
        timer(3, "*-*-* 07:00:00", 13),
        timer(9, "*-*-* 07:00:00", 19),
    ];
    let after = [
        timer(1, "*-*-* 05:00:00 Asia/Tokyo", 11),
        timer(2, "*-*-* 06:00:00", 12),
    ];
    scheduling.write("timers", &before.concat());
    scheduling.write("timers.next", &after.concat());
    scheduling.schedule(&["apply"]).done();

    let requests = scheduling.requests();
    assert_eq!(
        requests,
        [
            json!({"verb": "timers"}),
            json!({"verb": "remove-timers", "schedules": [3, 9]}),
            json!({"verb": "set-timers", "timers":
                [{"schedule": 2, "calendar": "*-*-* 06:00:00", "persistent": false}]}),
            json!({"verb": "timers"}),
        ]
    );
    assert_eq!(scheduling.show("1")["next_at"], 11);
    assert_eq!(scheduling.show("2")["next_at"], 12);

    scheduling.schedule(&["apply"]).done();
    assert_eq!(scheduling.requests().len(), 5, "nothing was left to do");
}

#[test]
fn why_a_timer_cannot_be_made_is_kept_and_the_others_are_made() {
    let scheduling = Scheduling::new();
    scheduling.add(&["update", "--on", "05:00"]);
    scheduling.add(&["backup", "--on", "06:00"]);
    scheduling.sql("UPDATE schedules SET zone = 'Atlantis/Poseidonis' WHERE id = 1");
    scheduling.write("timers", "");
    scheduling.write("set-exit", "1");
    let failure = json!({"schedule": 2, "why": "Unit is masked."});
    scheduling.write(
        "set-answer",
        &format!("{}\n", json!({"stdout": failure.to_string()})),
    );

    scheduling.schedule(&["apply"]).done();
    let why = |id| scheduling.show(id)["timer_error"].to_string();
    assert!(why("1").contains("Atlantis/Poseidonis"), "{}", why("1"));
    assert!(why("2").contains("Unit is masked."), "{}", why("2"));
    assert!(
        scheduling
            .schedule(&["list"])
            .done()
            .contains("Unit is masked.")
    );

    scheduling.write("set-exit", "0");
    scheduling.write("timers.next", &timer(2, "*-*-* 06:00:00", 12));
    scheduling.schedule(&["apply"]).done();
    assert_eq!(scheduling.show("2")["timer_error"], Value::Null);
}

#[test]
fn without_the_helper_apply_fails_and_is_started_again() {
    let scheduling = Scheduling::new();
    scheduling.add(&["update", "--on", "05:00"]);
    let mut apply = scheduling.host.command(LEFT4ME, &["schedule", "apply"]);
    apply.env("LEFT4ME_HELPER_SOCKET", "/nonexistent/helper.sock");
    let failed = Finished::from(apply.output().unwrap());
    assert_eq!(failed.code, 69, "{failed:?}");
}

/// systemd would start it again and again for a datagram that it leaves in the socket.
#[test]
fn apply_reads_what_waits_in_its_socket() {
    let scheduling = Scheduling::new();
    scheduling.add(&["update", "--on", "05:00"]);
    scheduling.write("timers", &timer(1, "*-*-* 05:00:00", 11));
    let mut envs = scheduling.host.root.envs();
    let helper = scheduling
        .host
        .root
        .join("helper.sock")
        .display()
        .to_string();
    envs.push(("LEFT4ME_HELPER_SOCKET".to_owned(), helper));
    let passed = scheduling.socket.try_clone().unwrap();
    let argv = [LEFT4ME, "schedule", "apply"];
    let mut child = start(&argv, &envs, passed, std::process::Stdio::inherit());
    assert_eq!(ended(&mut child), 0);
    assert!(!scheduling.is_notified());
    assert_eq!(scheduling.show("1")["next_at"], 11);
}

#[test]
fn a_run_enqueues_a_job_that_names_the_schedule() {
    let scheduling = Scheduling::new();
    let worker = UnixDatagram::bind(scheduling.host.root.join("worker.sock")).unwrap();
    worker.set_nonblocking(true).unwrap();
    scheduling.add(&["restart", "--server", "S1", "--on", "05:00"]);
    let is_notified = || worker.recv(&mut [0; 8]).is_ok();

    scheduling.schedule(&["run", "1"]).done();
    assert!(!is_notified(), "its time has not come since it was added");
    scheduling.sql(
        "UPDATE schedules SET since = since - 200000000;
         UPDATE servers SET desired_state = 'running'",
    );
    scheduling.schedule(&["run", "1"]).done();
    assert!(is_notified());

    let row = scheduling.show("1");
    assert_eq!(
        (&row["last_job_id"], &row["last_job_state"]),
        (&json!(1), &json!("queued"))
    );
    let (_, job) = scheduling.host.job_json(&["show", "1"]);
    assert_eq!(job["requested_by"], "schedule 1");
    assert!(
        scheduling
            .schedule(&["list"])
            .done()
            .contains("job 1 queued")
    );

    // It has not ended: no second one.
    scheduling.schedule(&["run", "1"]).done();
    assert_eq!(scheduling.show("1")["last_job_id"], 1);
    scheduling.schedule(&["remove", "1"]).done();
    scheduling.schedule(&["run", "1"]).done();
    let (_, jobs) = scheduling.host.job_json(&["list"]);
    assert_eq!(jobs.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_run_that_fails_says_why_and_keeps_it() {
    let scheduling = Scheduling::new();
    scheduling.add(&["restart", "--server", "S1", "--on", "05:00"]);
    scheduling
        .sql("UPDATE schedules SET since = 1, owner_id = 1; UPDATE users SET disabled_at = 1");
    scheduling
        .schedule(&["run", "1"])
        .refused(77, &["its owner 'alice' is disabled"]);
    let row = scheduling.show("1");
    let why = row["last_error"].as_str().unwrap_or_default();
    assert!(why.contains("is disabled"), "{row:#}");
}

#[test]
fn a_scheduled_backup_is_made_and_recorded() {
    let scheduling = Scheduling::new();
    scheduling.add(&["backup", "--on", "05:00"]);
    scheduling.sql("UPDATE schedules SET since = 1");
    std::fs::create_dir_all(scheduling.host.root.join("backups")).unwrap();
    let said = scheduling.schedule(&["run", "1"]).done();
    assert!(said.contains("checked"), "{said}");
    let row = scheduling.show("1");
    assert!(
        row["last_run_at"].is_i64() && row["last_error"].is_null(),
        "{row:#}"
    );

    let backups = scheduling.host.root.join("backups");
    std::fs::remove_dir_all(&backups).unwrap();
    std::fs::write(&backups, "no directory").unwrap();
    let failed = scheduling.schedule(&["run", "1"]);
    assert_ne!(failed.code, 0, "{failed:?}");
    assert!(scheduling.show("1")["last_error"].is_string());
}

#[test]
fn a_removed_server_takes_its_schedules_along() {
    let scheduling = Scheduling::new();
    scheduling.add(&["restart", "--server", "S1", "--on", "05:00"]);
    scheduling.add(&[
        "restart", "--server", "S1", "--server", "S2", "--on", "05:00",
    ]);
    assert!(scheduling.is_notified());
    scheduling.host.left4me(&["server", "remove", "S3"]).done();
    assert!(!scheduling.is_notified(), "nothing is scheduled for it");

    scheduling.host.left4me(&["server", "remove", "S1"]).done();
    assert!(scheduling.is_notified());
    let left = scheduling.schedule(&["list", "--json"]).json();
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&left[0]["id"], &left[0]["servers"]),
        (&json!(2), &json!([2]))
    );
}
