//! Launch arguments: what a player's account types into a blueprint reaches the game as it is, or
//! is refused. Nothing of it reaches a shell, another server's port or another file.

use crate::lab::{Lab, s, wait_for, wait_until};
use crate::rows::{game, says, unit};

/// What each attack gives as arguments, and a word of the refusal.
const ATTACKS: &[(&[&str], &str)] = &[
    (
        &[
            "-autoupdate",
            "-steam_dir",
            ".",
            "-steamcmd_script",
            "x;id;",
        ],
        "srcds_run",
    ),
    (
        &["-steamcmd_script", "x;kill${IFS}-9${IFS}-1;"],
        "srcds_run",
    ),
    (&["-binary", "/usr/bin/id"], "srcds_run"),
    (&["-debug", "-gdb", "/usr/bin/id"], "srcds_run"),
    (&["-fork", "9"], "srcds_run"),
    (&["-pidfile", "left4dead2/cfg/server.cfg"], "srcds_run"),
    (&["-ignoresigint"], "srcds_run"),
    (&["-NoRestart"], "srcds_run"),
    (&["x -port 27001 -ip 127.0.0.1"], "one word"),
    (
        &["-game left4dead2 +ip 0.0.0.0 +hostport 27001 +map c1m1_hotel"],
        "one word",
    ),
    (&["+sv_tags", "a\u{a0}-port"], "one word"),
    (&["+sv_tags", "x\t-port"], "control character"),
    (&["+sv_tags", "\"-port"], "quote"),
    (&["+sv_tags", "@left4dead2/cfg/evil.txt"], "'@'"),
    (&["+sv_tags", "x@left4dead2/cfg/evil.txt"], "'@'"),
    (&["+sv_tags", "a;hostport"], "';'"),
    (&["+a;hostport", "27001"], "';'"),
    (&["+HostPort", "27001"], "sets this argument itself"),
    (
        &["+map", "x", "-PORT", "27001"],
        "sets this argument itself",
    ),
    (&["-ip", "127.0.0.1"], "sets this argument itself"),
    (&["-game", "../../../.."], "sets this argument itself"),
    (&["-basedir", "/tmp"], "sets this argument itself"),
    (&["+exec", "../../../../etc/passwd"], "left4dead2/cfg"),
    (&["+EXEC", "/etc/passwd"], "left4dead2/cfg"),
    (&["+servercfgfile", "..\\x"], "'\\'"),
    (&["+rcon_password", "hunter2"], "process list"),
    (&["-condebug"], "never emptied"),
    (&["+con_logfile", "x"], "never emptied"),
];

/// What is odd to a shell, and is one word to the game.
const EXACT: [&str; 9] = [
    "***",
    "?",
    "[a-z]*",
    "$HOME",
    "${L4D2_PORT}",
    "%n%i",
    "`id`",
    "$(id)",
    "a'b|c&d>e",
];

/// A player's browser, in a shell: signs in, and sends the form with the lines of standard input.
const FORM: &str = r#"
ask() {
    exec 3<>/dev/tcp/127.0.0.1/8000
    printf '%s %s HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nOrigin: http://127.0.0.1:8000\r\nConnection: close\r\n' "$1" "$2" >&3
    printf 'Cookie: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n' "$cookie" >&3
    printf 'Content-Length: %s\r\n\r\n%s' "${#3}" "$3" >&3
    tr -d '\r' <&3
}
cookie=
sent=$(ask POST /login 'name=anna&password=correct%20horse%208')
cookie=$(sed -n 's/^set-cookie: \([^;]*\).*/\1/p' <<<"$sent" | head -n 1)
page=$(ask GET /blueprints/new '')
csrf=$(sed -n 's/.*name="csrf" value="\([^"]*\)".*/\1/p' <<<"$page" | head -n 1)
arguments=$(od -An -v -tx1 | tr -d '\n' | tr ' ' %)
ask POST /blueprints "csrf=$csrf&name=$1&config=&arguments=$arguments"
"#;

pub fn launch_arguments_reach_the_game_and_nothing_else(lab: &Lab) {
    // So that servers use the files that the story changes.
    lab.set("LEFT4ME_BUILDS=in-place");
    lab.describe(&["victim", "target"]);
    lab.run_with(
        "root",
        &["left4me", "user", "add", "anna", "--password-stdin"],
        "correct horse 8\n",
    )
    .ends_with(0);

    lab.job(&["install"]);
    lab.job(&["start", "--server", "victim"]);
    lab.answers("victim");
    let victim = lab.main_pid(1);

    every_way_in_refuses_every_attack(lab);
    a_row_written_by_hand_is_named_and_starts_nothing(lab);
    odd_words_reach_the_game_exactly_and_no_script_runs(lab);
    a_missing_program_fails_the_job_with_its_cause(lab);
    the_doctor_reads_the_script_that_nothing_runs(lab);
    a_sigint_is_a_good_end_only_of_a_stop(lab);

    assert_eq!(lab.main_pid(1), victim, "none of it reached another server");
    assert_eq!(lab.unit(&unit(1), "NRestarts"), "0");
    assert_eq!(lab.answers("victim"), "first name");
}

/// Sends the blueprint form as anna; gives the answer's head and body.
fn form(lab: &Lab, name: &str, arguments: &[&str]) -> String {
    lab.run_with(
        "anna-account",
        &["bash", "-c", FORM, "form", name],
        &arguments.join("\n"),
    )
    .ends_with(0)
    .stdout
}

fn every_way_in_refuses_every_attack(lab: &Lab) {
    // A player has no account on the host; the shell that plays the browser is a stranger's.
    lab.sh("useradd --create-home anna-account");
    let long: [String; 12] = std::array::from_fn(|_| "x".repeat(200));
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let attacks = ATTACKS
        .iter()
        .copied()
        .chain([(&long[..], "too long together")]);
    for (index, (arguments, word)) in attacks.enumerate() {
        let page = form(lab, "evil", arguments);
        assert!(page.starts_with("HTTP/1.1 422"), "{arguments:?}: {page}");
        let shown = page.replace("&#39;", "'").replace("&#34;", "\"");
        assert!(
            shown.contains(word),
            "the form says '{word}' of {arguments:?}: {page}"
        );

        // The other ways in have the same parser, which the unit tests try; here it is there at
        // all.
        if index % 4 != 0 {
            continue;
        }
        let given: Vec<String> = arguments
            .iter()
            .map(|argument| format!("--arg={argument}"))
            .collect();
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let output = lab.run(
            &[
                &["left4me", "blueprint", "create", "evil", "--user", "anna"],
                &given[..],
            ]
            .concat(),
        );

        assert!(output.code == 2 && output.stderr.contains(word), "{output}");

        let list = serde_json::to_string(arguments).expect("texts");
        lab.write(
            "/tmp/evil.yaml",
            &format!("port: 27100\narguments: {list}\n"),
        );

        let initialize = [
            "sudo",
            "-u",
            "left4me",
            "l4d2ctl",
            "initialize",
            "evil",
            "-f",
            "/tmp/evil.yaml",
        ];

        let output = lab.run(&initialize).ends_with(2);
        assert!(output.stderr.contains(word), "{output}");
        assert!(
            !output.stderr.contains("hunter2"),
            "a file's content is not shown\n{output}"
        );
    }

    let blueprints = lab.json(&["left4me", "blueprint", "list", "--json"]);
    assert_eq!(
        blueprints.as_array().map(Vec::len),
        Some(1),
        "none was made: {blueprints}"
    );

    assert!(!lab.is("test -e /var/lib/left4me/instances/evil"));
    // The trial is fair: what is good is taken.
    let page = form(lab, "good", &["+map", "c2m1_highway"]);
    assert!(page.starts_with("HTTP/1.1 303"), "{page}");
}

/// A member of the group, or a worker that was taken over, writes what no form takes.
fn a_row_written_by_hand_is_named_and_starts_nothing(lab: &Lab) {
    for (arguments, word) in ATTACKS.iter().step_by(3) {
        let list = serde_json::to_string(arguments)
            .expect("texts")
            .replace('\'', "''");
        lab.sql(&format!(
            "UPDATE blueprints SET arguments = '{list}' WHERE id = 1"
        ));
        lab.failing_job(&["start", "--server", "target"], &["blueprint 1", word]);
    }

    assert_eq!(
        lab.unit(&unit(2), "ActiveEnterTimestampMonotonic"),
        "0",
        "it was never started"
    );

    let shown = lab.run(&["left4me", "blueprint", "show", "1"]).ends_with(0);
    assert!(shown.stderr.contains("+con_logfile"), "{shown}");
    let shown = lab
        .run(&["left4me", "server", "show", "target"])
        .ends_with(0);
    assert!(shown.stderr.contains("cannot be started"), "{shown}");
    assert!(lab.ok(&["left4me", "server", "list"]).contains("target"));
    let doctor = lab.run(&["left4me", "doctor"]);
    assert!(
        doctor.stdout.contains("server 1, 2 cannot be started"),
        "{doctor}"
    );

    lab.answers("victim");
}

fn odd_words_reach_the_game_exactly_and_no_script_runs(lab: &Lab) {
    // A file that a shell's * would find, and a script that leaves a mark.
    lab.sh(
        "cd /var/lib/left4me/installation; touch found-by-a-star; cp -p srcds_run /root/srcds_run",
    );
    lab.sh(
        "printf '#!/bin/sh\ntouch left4dead2/the-script-ran\nexec ./srcds_linux $*\n' \
           >/var/lib/left4me/installation/srcds_run",
    );

    let list = serde_json::to_string(&EXACT)
        .expect("texts")
        .replace('\'', "''");
    lab.sql(&format!(
        "UPDATE blueprints SET arguments = '{list}' WHERE id = 1"
    ));
    lab.job(&["start", "--server", "target"]);
    assert_eq!(lab.answers("target"), "first name");

    let console = lab.console(&unit(2));
    let argv: Vec<&str> = console
        .lines()
        .filter_map(|line| line.strip_prefix("argv[")?.split_once("]="))
        .map(|(_, word)| word)
        .collect();
    let port = lab.row(2)["port"].to_string();
    let program = "/var/lib/left4me/runtime/2/merged/srcds_linux";
    let own = [
        program,
        "-game",
        "left4dead2",
        "-strictportbind",
        "+ip",
        "0.0.0.0",
        "+hostport",
        &port,
    ];

    assert_eq!(
        argv,
        [&own[..], &EXACT, &["+map", "c1m1_hotel"]].concat(),
        "exactly, and a map where none is named"
    );

    assert!(
        !console.contains("the copies of the engine differ"),
        "{console}"
    );

    assert!(
        console.contains("cwd=/var/lib/left4me/runtime/2/merged"),
        "{console}"
    );

    let pid = lab.main_pid(2);
    assert_eq!(
        lab.ok(&["readlink", &format!("/proc/{pid}/exe")]),
        program,
        "no shell between"
    );

    let environment = lab.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ"));
    assert!(
        environment
            .lines()
            .any(|line| line == "LD_LIBRARY_PATH=.:bin"),
        "{environment}"
    );

    assert!(
        !lab.is(&format!("test -e {}/the-script-ran", game(2))),
        "nothing runs srcds_run"
    );

    lab.sh("cp -p /root/srcds_run /var/lib/left4me/installation/srcds_run");
}

fn a_missing_program_fails_the_job_with_its_cause(lab: &Lab) {
    lab.job(&["stop", "--server", "target"]);
    lab.sh("mv /var/lib/left4me/installation/srcds_linux /root/");
    let why = ["203", "srcds_linux is missing"];
    let job = lab.failing_job(&["start", "--server", "target"], &why);
    assert!(job.error.contains("203"), "{}", job.error);
    let output = lab.run(&["l4d2ctl", "start", "2"]);
    assert!(
        output.code != 0 && why.iter().all(|word| output.stderr.contains(word)),
        "{output}"
    );

    let doctor = lab.run(&["left4me", "doctor"]);
    assert!(doctor.stdout.contains("srcds_linux is missing"), "{doctor}");
    lab.sh("mv /root/srcds_linux /var/lib/left4me/installation/");
    lab.job(&["stop", "--server", "target"]);
    lab.job(&["start", "--server", "target"]);
    lab.answers("target");
}

fn the_doctor_reads_the_script_that_nothing_runs(lab: &Lab) {
    let doctor = || lab.run(&["left4me", "doctor"]).stdout;
    let found = doctor();
    assert!(
        found
            .lines()
            .any(|line| line.starts_with("ok") && line.contains("srcds_run")),
        "{found}"
    );

    lab.sh("echo 'export MALLOC_ARENA_MAX=1' >>/var/lib/left4me/installation/srcds_run");
    let found = doctor();
    assert!(found.contains("MALLOC_ARENA_MAX"), "{found}");
    lab.sh("cp -p /root/srcds_run /var/lib/left4me/installation/srcds_run");
}

fn a_sigint_is_a_good_end_only_of_a_stop(lab: &Lab) {
    lab.stop_the_polls_timer();
    let control =
        |name: &str, text: &str| lab.sh(&format!("echo {text} >{}/standin.{name}", game(2)));
    let crashes = lab.events(2, "server.crashed").len();
    for (count, name, text, end) in [
        (1, "interrupt", "", "signal 2 (INT)"),
        (2, "exit", "130", "exit code 130"),
    ] {
        let before = lab.main_pid(2);
        control(name, text);
        let crashed = lab.soon_event(2, "server.crashed", crashes + count);
        assert!(crashed.detail.contains(end), "{crashed:?}");
        wait_until("systemd starts it again", s(20), || {
            let now = lab.main_pid(2);
            now != before && now != "0" && lab.unit(&unit(2), "ActiveState") == "active"
        });

        assert_eq!(lab.unit(&unit(2), "NRestarts"), count.to_string());
        lab.answers("target");
        lab.soon(2, "that it runs again", |row| {
            row["actual_state"] == "running" && row["restarts"] == count
        });
    }

    // Asked to stop, a game may die of the signal, or end with the shell's word for it.
    for how in ["die", "130"] {
        control("on-interrupt", how);
        lab.job(&["stop", "--server", "target"]);
        lab.is_stopped(2, "target");
        let row = lab.soon(2, "a stop", |row| {
            says(&row["last_end"], "stopped on request")
        });
        assert_eq!(row["drift"], serde_json::Value::Null, "{row:#}");
        lab.sh("rm -f /var/lib/left4me/runtime/2/upper/left4dead2/standin.on-interrupt");
        lab.job(&["start", "--server", "target"]);
        lab.answers("target");
    }

    wait_for("the row has the last start", s(5), || {
        let row = lab.row(2);
        if row["actual_state"] == "running" {
            Ok(())
        } else {
            Err(format!("{row:#}"))
        }
    });

    assert_eq!(
        lab.events(2, "server.crashed").len(),
        crashes + 2,
        "a stop is no crash: {:#?}",
        lab.history(2)
    );
}
