//! People play: they are counted and named wherever left4me tells of a server, they can be spoken
//! to and removed, and a game that hangs is told apart from one that loads a map.

use serde_json::Value;

use crate::lab::{Lab, s, wait_for, wait_until};
use crate::rows::{drift, game};

/// Its quotes, and what would be a row of `status` if it began a line.
const ODD: &str = "# 9 1 \"evil\" STEAM_1:0:666";

pub fn who_plays_is_known_and_can_be_spoken_to(lab: &Lab) {
    lab.describe(&["Friday", "Saturday"]);
    lab.job(&["install"]);
    lab.job(&["start", "--all"]);
    lab.answers("Friday");
    lab.answers("Saturday");

    nobody_plays_yet(lab);
    three_join(lab);
    assert_eq!(lab.server("Saturday")["players"], 0);
    they_can_be_spoken_to(lab);
    one_is_kicked_and_one_banned(lab);
    the_last_one_leaves(lab);
    a_game_that_hangs_is_told(lab);
    a_silent_game_delays_nobody(lab);
    the_password_is_each_servers_own(lab);
    a_ban_lasts_over_restarts(lab);
}

pub fn a_restart_waits_until_nobody_plays(lab: &Lab) {
    lab.describe(&["Friday"]);
    lab.job(&["install"]);
    lab.job(&["start", "--server", "1"]);
    lab.answers("Friday");
    three_join(lab);

    what_waits_can_be_cancelled(lab);
    it_waits_says_why_and_goes_when_the_last_has_left(lab);
    at_the_deadline_players_were_told(lab);
    an_update_waits_with_the_restart_until_they_have_left(lab);
    it_survives_a_reboot(lab);
}

const WHEN_EMPTY: [&str; 4] = ["restart", "--server", "1", "--when-empty"];

/// Waits until the job says so, in `list` and `show`.
fn waits_for(lab: &Lab, job: i64, why: &str) {
    let show = lab.json(&["left4me-job", "show", &job.to_string(), "--json"]);
    assert_eq!(show["state"], "queued", "{show:#}");
    assert!(
        show["waiting"]
            .as_str()
            .is_some_and(|text| text.contains(why)),
        "{show:#}"
    );
    let list = lab.ok(&["left4me-job", "list"]);
    assert!(list.contains(why), "{list}");
    let page = metrics(lab);
    assert!(
        page.contains(r#"left4me_jobs_waiting{condition="when-empty"#),
        "{page}"
    );
}

fn what_waits_can_be_cancelled(lab: &Lab) {
    let pid = lab.main_pid(1);
    let job = lab.enqueue(&["stop", "--server", "1", "--when-empty"]);
    waits_for(lab, job, "3 players on Friday");
    lab.ok(&[
        "left4me-job",
        "cancel",
        &job.to_string(),
        "--reason",
        "not tonight",
    ]);
    assert_eq!(lab.show(job).state, "cancelled");
    assert_eq!(lab.main_pid(1), pid);
    assert_eq!(lab.server("Friday")["desired_state"], "running");
}

/// Also over the death of the worker, and without a worker that stays for it.
fn it_waits_says_why_and_goes_when_the_last_has_left(lab: &Lab) {
    let pid = lab.main_pid(1);
    let job = lab.enqueue(&WHEN_EMPTY);
    waits_for(lab, job, "3 players on Friday");
    lab.run(&[
        "systemctl",
        "kill",
        "--signal=KILL",
        "left4me-worker.service",
    ]);

    control(lab, "leave", "Anna\nBob\n");
    soon(lab, "one is left", |row| row["players"] == 1);
    waits_for(lab, job, "1 player on Friday");
    assert_eq!(lab.main_pid(1), pid, "it still runs");

    // Another job of the server need not wait for it.
    lab.job(&["initialize", "--server", "1"]);
    control(lab, "leave", &format!("{ODD}\n"));
    soon(lab, "nobody plays", |row| {
        row["players"] == 0 || row["players"].is_null()
    });
    assert_eq!(lab.ended(job, 60).state, "succeeded");
    assert_ne!(lab.main_pid(1), pid, "it was restarted");
}

fn at_the_deadline_players_were_told(lab: &Lab) {
    lab.answers("Friday");
    three_join(lab);
    let pid = lab.main_pid(1);
    let job = lab.enqueue(
        &[
            &WHEN_EMPTY[..],
            &["--until", "20s", "--then", "go", "--warn", "10s"],
        ]
        .concat(),
    );
    waits_for(lab, job, "3 players on Friday");
    assert_eq!(lab.ended(job, 60).state, "succeeded");
    lab.logged(job, "stdout", &["told the players on Friday"]);
    assert_ne!(lab.main_pid(1), pid, "it was restarted");
}

/// The download does not wait, the server's restart does.
fn an_update_waits_with_the_restart_until_they_have_left(lab: &Lab) {
    lab.answers("Friday");
    three_join(lab);
    let pid = lab.main_pid(1);
    lab.steamcmd("buildid=14245199");
    let update = lab.job(&["update", "--when-empty"]);
    let job = update.id + 1;
    waits_for(lab, job, "3 players on Friday");

    control(lab, "leave", "Anna\nBob\n");
    soon(lab, "one is left", |row| row["players"] == 1);
    waits_for(lab, job, "1 player on Friday");
    assert_eq!(lab.main_pid(1), pid, "it still runs");
    assert_eq!(lab.show(job).state, "queued");

    control(lab, "leave", &format!("{ODD}\n"));
    soon(lab, "nobody plays", |row| {
        row["players"] == 0 || row["players"].is_null()
    });
    assert_eq!(lab.ended(job, 120).state, "succeeded");
    assert_ne!(lab.main_pid(1), pid, "it was restarted on the new build");
    lab.runs(1, "Friday");
}

/// After it nobody plays, so it goes.
fn it_survives_a_reboot(lab: &Lab) {
    lab.answers("Friday");
    three_join(lab);
    let job = lab.enqueue(&WHEN_EMPTY);
    waits_for(lab, job, "3 players on Friday");
    lab.reboot();
    assert_eq!(lab.ended(job, 120).state, "succeeded");
    lab.runs(1, "Friday");
}

/// Writes a file that the stand-in obeys.
pub fn control(lab: &Lab, file: &str, text: &str) {
    let dir = game(1);
    lab.run_with(
        "root",
        &[
            "bash",
            "-euc",
            &format!("cat > {dir}/.new; mv {dir}/.new {dir}/standin.{file}"),
        ],
        text,
    )
    .ends_with(0);
    wait_until("the game has obeyed", s(10), || {
        !lab.is(&format!("test -e {dir}/standin.{file}"))
    });
}

/// Friday's row once it is so.
pub fn soon(lab: &Lab, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, s(30), || {
        lab.poll();
        let row = lab.server("Friday");
        if is_so(&row) {
            Ok(row)
        } else {
            Err(format!("{row:#}"))
        }
    })
}

fn names(lab: &Lab) -> Vec<String> {
    let found = lab.json(&["left4me", "server", "players", "Friday", "--json"]);
    let list = found["players"].as_array().expect("a list");
    let mut names: Vec<String> = list
        .iter()
        .map(|player| player["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    names
}

fn metrics(lab: &Lab) -> String {
    let request = r"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n";
    lab.sh(&format!(
        "exec 3<>/dev/tcp/127.0.0.1/8000; printf '{request}' >&3; cat <&3"
    ))
}

fn nobody_plays_yet(lab: &Lab) {
    let row = soon(lab, "the game has answered", |row| {
        row["responding"] == "yes"
    });
    assert_eq!(row["players"], 0, "{row:#}");
    assert!(
        row["map"].is_string() && row["response_ms"].is_number(),
        "{row:#}"
    );
    assert_eq!(names(lab), Vec::<String>::new());
}

fn three_join(lab: &Lab) {
    control(
        lab,
        "join",
        &format!("Anna\tSTEAM_1:0:11\nBob\tSTEAM_1:0:22\n{ODD}\tSTEAM_1:0:33\n"),
    );
    let row = soon(lab, "three play", |row| row["players"] == 3);
    assert!(row["map"].is_string(), "{row:#}");

    let mut expected = vec![ODD.to_owned(), "Anna".to_owned(), "Bob".to_owned()];
    expected.sort();
    assert_eq!(names(lab), expected);
    let list = lab.ok(&["left4me", "server", "list"]);
    assert!(
        list.lines()
            .any(|line| line.contains("Friday") && line.contains("3/")),
        "{list}"
    );
    let page = metrics(lab);
    assert!(
        page.contains(r#"left4me_server_players{server="1",name="Friday"} 3"#),
        "{page}"
    );
}

fn they_can_be_spoken_to(lab: &Lab) {
    lab.ok(&["left4me", "server", "exec", "Friday", "log on"]);
    lab.ok(&["left4me", "server", "say", "Friday", "good evening; quit"]);
    wait_for("they can read it", s(10), || {
        let console = lab.console("left4me-server@1.service");
        if console.contains("good evening") {
            Ok(())
        } else {
            Err(console)
        }
    });
    assert_eq!(lab.server("Friday")["players"], 3, "a text is no command");

    let status = lab.ok(&["left4me", "server", "exec", "Friday", "status"]);
    assert!(
        status.contains("Anna") && status.contains("hostname"),
        "{status}"
    );
    lab.run(&["left4me", "server", "exec", "Friday", "quit"])
        .ends_with(2)
        .complains_of(&["stop or restart"]);
    let events = lab.ok(&["left4me", "server", "history", "Friday", "--journal"]);
    assert!(
        events.contains("good evening") && events.contains("status"),
        "{events}"
    );
}

fn one_is_kicked_and_one_banned(lab: &Lab) {
    lab.ok(&[
        "left4me", "server", "kick", "Friday", "Anna", "--reason", "be nice",
    ]);
    lab.ok(&[
        "left4me",
        "server",
        "ban",
        "Friday",
        "Bob",
        "--minutes",
        "60",
    ]);
    soon(lab, "one is left", |row| row["players"] == 1);
    assert_eq!(names(lab), [ODD]);
    lab.run(&["left4me", "server", "kick", "Friday", "Anna"])
        .ends_with(3)
        .complains_of(&["Anna"]);

    lab.ok(&["left4me", "server", "map", "Friday", "c2m1_highway"]);
    soon(lab, "the map has changed", |row| {
        row["map"] == "c2m1_highway"
    });
}

fn the_last_one_leaves(lab: &Lab) {
    control(lab, "leave", &format!("{ODD}\n"));
    soon(lab, "nobody plays", |row| row["players"] == 0);
}

/// No answer alone is not a hang: only several polls without one, after an answer and without a
/// change of map.
fn a_game_that_hangs_is_told(lab: &Lab) {
    lab.sh(&format!("touch {}/standin.hang", game(1)));
    let row = soon(lab, "it does not answer", |row| row["responding"] == "no");
    assert!(
        row["players"].is_null(),
        "no answer is not an empty server: {row:#}"
    );
    assert_ne!(drift(&row), "unresponsive", "{row:#}");
    lab.run(&["left4me", "server", "players", "Friday"])
        .ends_with(1)
        .complains_of(&["Friday"]);

    lab.sh(&format!("rm {}/standin.hang", game(1)));
    soon(lab, "it answers again", |row| row["responding"] == "yes");
}

/// What happens to other servers is recorded while a game that does not answer is waited for.
fn a_silent_game_delays_nobody(lab: &Lab) {
    lab.sh(&format!("touch {}/standin.hang", game(1)));
    soon(lab, "it does not answer", |row| row["responding"] == "no");

    let mut slowest = 0;
    for _ in 0..3 {
        lab.sh("systemctl start --no-block left4me-poller.service; sleep 0.4");
        let took = lab.sh(
            "begun=$(date +%s%3N); systemctl stop left4me-server@2.service
             until left4me server show Saturday --json | grep -q '\"actual_state\":\"stopped\"'
             do :; done; echo $(($(date +%s%3N) - begun))",
        );
        slowest = slowest.max(took.trim().parse().expect("a number"));
        lab.sh("systemctl start left4me-server@2.service");
    }
    assert!(slowest < 1000, "{slowest} ms until the row says so");

    lab.sh(&format!("rm {}/standin.hang", game(1)));
    soon(lab, "it answers again", |row| row["responding"] == "yes");
    lab.answers("Saturday");
}

fn the_password_is_each_servers_own(lab: &Lab) {
    let file = |id: u32| format!("/var/lib/left4me/instances/{id}/rcon_password");
    let first = lab.ok(&["cat", &file(1)]);
    assert_ne!(first, lab.ok(&["cat", &file(2)]));

    lab.ok(&["left4me", "server", "rotate-rcon", "Friday"]);
    lab.job(&["restart", "--server", "1"]);
    lab.answers("Friday");
    assert_ne!(first, lab.ok(&["cat", &file(1)]));
    wait_until("the new password is in effect", s(30), || {
        lab.run(&["left4me", "server", "exec", "Friday", "status"])
            .code
            == 0
    });

    // It is nowhere where it could be read by chance.
    let journal = lab.sh("journalctl --no-pager --output cat");
    assert!(
        !journal.contains(&first),
        "the journal has an RCON password"
    );
    lab.sh(&format!("! grep -rqa {first} /var/lib/left4me/db"));
}

/// Until it is taken back; and the next ban does not make the game forget it.
fn a_ban_lasts_over_restarts(lab: &Lab) {
    let ban = |act: &str, who: &str| lab.ok(&["left4me", "server", act, "Friday", who]);
    let restart = || {
        lab.job(&["restart", "--server", "1"]);
        lab.answers("Friday");
    };
    ban("ban", "STEAM_1:0:33");
    restart();
    ban("ban", "STEAM_1:0:44");
    restart();

    control(
        lab,
        "join",
        "Anna\tSTEAM_1:0:11\nOdd\tSTEAM_1:0:33\nEve\tSTEAM_1:0:44\n",
    );
    soon(lab, "who is not banned plays", |row| row["players"] == 1);
    assert_eq!(names(lab), ["Anna"]);

    ban("unban", "STEAM_1:0:33");
    restart();
    control(lab, "join", "Odd\tSTEAM_1:0:33\nEve\tSTEAM_1:0:44\n");
    soon(lab, "one is banned no longer", |row| row["players"] == 1);
    assert_eq!(names(lab), ["Odd"]);
}
