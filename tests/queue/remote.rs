//! `left4me-job --host`, `left4me-job withdraw` and `left4me fleet orders`: the real programs over the
//! real tables, with an engine in memory.

use std::io::Read as _;
use std::process::Stdio;

use left4me::base::clock;

use crate::support::JOB;
use crate::support::fleet::{Carrier, TestMember, fleet, tell_status};
use crate::support::until;

const DAY: i64 = 24 * 3_600_000;

fn two() -> (Vec<TestMember>, Carrier) {
    let members = fleet(&["fra-1", "ams-1"], &["fra-1"]);
    tell_status(&members[0], &members[1]);
    (members, Carrier::default())
}

/// Runs `left4me-job --host ams-1` and expects an order's id.
fn order(fra: &TestMember, args: &[&str]) -> (String, String) {
    let (code, out, err) = fra.host.job(&[&["--host", "ams-1"], args].concat());
    assert_eq!(code, 0, "{err}");
    (out.trim().to_owned(), err)
}

#[test]
fn an_order_says_where_it_is_until_its_job_has_ended() {
    let (members, mut carrier) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let name = &ams.host.job_json(&["list"]).1;
    assert_eq!(name.as_array().map(Vec::len), Some(0));

    let (id, err) = order(fra, &["enqueue", "restart", "--server", "1"]);
    assert!(
        err.contains("kept here until there is a connection"),
        "{err}"
    );
    let show = || fra.host.job(&["show", &id]).1;
    assert!(show().contains("kept"), "{}", show());

    carrier.turn(fra, clock::now_ms());
    assert!(show().contains("with the engine; ams-1 has not answered yet"));

    carrier.carry(&members, clock::now_ms());
    assert!(show().contains("accepted: job 1 on ams-1"), "{}", show());
    let (_, list) = fra.host.job_json(&["--host", "ams-1", "list"]);
    assert_eq!(list[0]["job"], 1, "{list}");
    assert_eq!(list[0]["order"], id, "{list}");
    let (_, job) = fra.host.job_json(&["--host", "ams-1", "show", "1"]);
    assert_eq!(job["operation"], "restart", "{job}");

    ams.end_job(1, "succeeded");
    carrier.carry(&members, clock::now_ms());
    let (_, shown) = fra.host.job_json(&["show", &id]);
    assert_eq!(shown["state"], "succeeded");
    assert_eq!(shown["whereabouts"], "job 1 on ams-1: succeeded");
    let orders = fra.host.left4me(&["fleet", "orders"]);
    assert!(
        orders.out.contains("job 1 on ams-1: succeeded"),
        "{}",
        orders.out
    );
    let open = fra.host.left4me(&["fleet", "orders", "--open", "--json"]);
    assert_eq!(open.out.trim(), "[]");
}

#[test]
fn a_job_of_a_silent_host_is_unknown_wherever_it_is_shown() {
    let (members, mut carrier) = two();
    let [fra, ams] = &members[..] else { panic!() };
    order(fra, &["enqueue", "restart", "--server", "1"]);
    carrier.carry(&members, clock::now_ms());
    let printed = |words: &str| {
        let words: Vec<_> = words.split(' ').collect();
        match words[0] {
            "fleet" => fra.host.left4me(&words).out,
            _ => fra.host.job(&words).1,
        }
    };
    let views = [
        "--host ams-1 list",
        "--host ams-1 show 1",
        "fleet jobs",
        "fleet show ams-1",
    ];
    for view in views {
        let json = printed(&format!("{view} --json"));
        assert!(json.contains("\"unknown_since\":null"), "{json}");
    }

    let an_hour = "UPDATE fleet_hosts SET status_received_at = status_received_at - 3600000";
    fra.host.db().connection().execute_batch(an_hour).unwrap();
    for view in views {
        let (plain, json) = (printed(view), printed(&format!("{view} --json")));
        assert!(plain.contains("unknown since "), "{plain}");
        assert!(json.contains("\"unknown_since\":1"), "{json}");
        assert!(json.contains("\"state\":\"queued\""), "{json}");
    }

    // What has ended stays so.
    ams.end_job(1, "succeeded");
    carrier.carry(&members, clock::now_ms());
    let list = printed(views[0]);
    assert!(list.contains("succeeded"), "{list}");
}

#[test]
fn wait_follows_the_order_to_its_end_and_its_exit_code_says_which() {
    for (state, expected) in [("succeeded", 0), ("failed", 1), ("cancelled", 1)] {
        let (members, mut carrier) = two();
        let [fra, ams] = &members[..] else { panic!() };
        let args = ["--host", "ams-1", "enqueue", "restart", "--all", "--wait"];
        let mut command = fra.host.command(JOB, &args);
        command.stderr(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();

        let jobs = || {
            ams.host
                .job_json(&["list"])
                .1
                .as_array()
                .map_or(0, Vec::len)
        };
        until("the job", || {
            carrier.carry(&members, clock::now_ms());
            (jobs() == 1).then_some(())
        });
        carrier.carry(&members, clock::now_ms());
        // The program sees that step before the next one.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        ams.end_job(1, state);
        carrier.carry(&members, clock::now_ms());

        let code = child.wait().unwrap().code();
        let mut err = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        assert_eq!(code, Some(expected), "{err}");
        assert!(err.contains("kept here"), "{err}");
        assert!(err.contains(": job 1 on ams-1\n"), "{err}");
        assert!(err.contains(&format!("job 1 on ams-1: {state}")), "{err}");
    }
}

#[test]
fn a_refusal_and_a_silence_have_exit_codes_of_their_own() {
    let (members, mut carrier) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let unknown = "01KAZ6T5R8Y3W9M2F4B7C1D0XN";
    let (refused, _) = order(fra, &["enqueue", "start", "--server", unknown]);
    carrier.carry(&members, clock::now_ms());
    let (code, _, err) = fra.host.job(&["show", &refused]);
    assert_eq!(code, 0, "{err}");
    let shown = fra.host.job_json(&["show", &refused]).1;
    assert_eq!(shown["state"], "refused", "{shown}");
    assert!(
        shown["detail"].as_str().unwrap().contains(unknown),
        "{shown}"
    );

    // Cut off, until its time is over.
    carrier.cut_off.insert(ams.name.to_string());
    let args = ["--host", "ams-1", "enqueue", "start", "--all", "--wait"];
    let mut command = fra
        .host
        .command(JOB, &[&args[..], &["--good-for", "2h"]].concat());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    until("the order", || {
        carrier.carry(&members, clock::now_ms());
        let open = fra.host.left4me(&["fleet", "orders", "--open", "--json"]);
        open.out.contains("\"sent\"").then_some(())
    });
    carrier.carry(&members, clock::now_ms() + DAY);
    let code = child.wait().unwrap().code();
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!(code, Some(69), "{err}");
    assert!(
        err.contains("not known") && err.contains("may have been carried out"),
        "{err}"
    );
    assert!(!err.contains("failed"), "{err}");
}

#[test]
fn an_order_is_withdrawn_here_or_by_its_host() {
    let (members, mut carrier) = two();
    let [fra, ams] = &members[..] else { panic!() };

    let (id, _) = order(fra, &["enqueue", "restart", "--all"]);
    let (code, out, err) = fra.host.job(&["withdraw", &id]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("had not left this host"), "{out}");
    assert_eq!(fra.host.job_json(&["show", &id]).1["state"], "withdrawn");
    let (code, _, err) = fra.host.job(&["withdraw", &id]);
    assert_eq!(code, 4, "{err}");

    // It waits there, because the worker does not run.
    let (id, _) = order(fra, &["enqueue", "restart", "--all"]);
    carrier.carry(&members, clock::now_ms());
    let withdrawn = fra
        .host
        .left4me(&["fleet", "withdraw", &id, "--reason", "not now"]);
    assert_eq!(withdrawn.code, 0, "{}", withdrawn.err);
    assert!(
        withdrawn.out.contains("its host is asked"),
        "{}",
        withdrawn.out
    );
    carrier.carry(&members, clock::now_ms());
    assert_eq!(fra.host.job_json(&["show", &id]).1["state"], "cancelled");
    let jobs = ams.host.job_json(&["list"]).1;
    assert_eq!(jobs[0]["state"], "cancelled", "{jobs}");
}

#[test]
fn a_job_of_another_host_is_cancelled_by_its_number_or_its_order() {
    for by_order in [false, true] {
        let (members, mut carrier) = two();
        let [fra, ams] = &members[..] else { panic!() };
        let (id, _) = order(fra, &["enqueue", "restart", "--all"]);
        carrier.carry(&members, clock::now_ms());

        let args: &[&str] = match by_order {
            true => &["cancel", &id, "--no-wait", "--reason", "wrong host"],
            false => &["--host", "ams-1", "cancel", "1", "--no-wait"],
        };
        let (code, _, err) = fra.host.job(args);
        assert_eq!(code, 0, "{err}");
        carrier.carry(&members, clock::now_ms());
        assert_eq!(fra.host.job_json(&["show", &id]).1["state"], "cancelled");
        assert_eq!(ams.host.job_json(&["list"]).1[0]["state"], "cancelled");
    }
}

#[test]
fn what_cannot_be_asked_of_another_host_is_refused_with_what_to_do() {
    let (members, _) = two();
    let [fra, ams] = &members[..] else { panic!() };
    let refused = |member: &TestMember, code: i32, args: &[&str], why: &str| {
        let (got, out, err) = member.host.job(args);
        assert_eq!(got, code, "{args:?}: {out}{err}");
        assert!(err.contains(why), "{args:?}: {err}");
        assert_eq!(err.trim().lines().count(), 1, "{err}");
    };
    let start = |host: &'static str| ["--host", host, "enqueue", "start", "--all"];
    refused(fra, 3, &start("ber-1"), "`left4me fleet hosts` lists them");
    refused(ams, 77, &start("fra-1"), "has not the role control");
    refused(
        fra,
        2,
        &["--host", "ams-1", "pause"],
        "run left4me-job on ams-1",
    );
    refused(
        fra,
        2,
        &[&start("ams-1")[..], &["--follow"]].concat(),
        "--wait says how the job ends",
    );
    refused(
        fra,
        3,
        &["--host", "ams-1", "enqueue", "start", "--server", "Nemo"],
        "has told of no server 'Nemo'",
    );
    refused(
        fra,
        2,
        &["enqueue", "start", "--all", "--good-for", "1h"],
        "need --host",
    );
    refused(
        fra,
        3,
        &["--host", "ams-1", "show", "9"],
        "has told of no job 9",
    );
    refused(
        fra,
        3,
        &["withdraw", "01KAZ6T5R8Y3W9M2F4B7C1D0XN"],
        "was not sent from here",
    );

    // Its own name is this host.
    let (code, out, _) = fra.host.job(&start("fra-1"));
    assert_eq!((code, out.trim()), (0, "1"));
    let alone = crate::support::host::TestHost::with_servers(1);
    let (code, _, err) = alone.job(&start("ams-1"));
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("belongs to no fleet"), "{err}");
}

#[test]
fn a_stream_of_orders_that_has_lost_its_end_is_read_from_its_beginning() {
    let (members, mut carrier) = two();
    let [fra, ams] = &members[..] else { panic!() };
    for _ in 0..3 {
        order(fra, &["enqueue", "restart", "--all"]);
        carrier.carry(&members, clock::now_ms());
    }
    let jobs = || {
        ams.host
            .job_json(&["list"])
            .1
            .as_array()
            .map_or(0, Vec::len)
    };
    let before = jobs();

    // The engine forgets two orders that have been carried out, and gives a new one an old number.
    carrier.orders.truncate(1);
    carrier.turn(ams, clock::now_ms());
    let (id, _) = order(fra, &["enqueue", "stop", "--all"]);
    carrier.carry(&members, clock::now_ms());
    assert_eq!(fra.host.job_json(&["show", &id]).1["state"], "accepted");
    assert_eq!(jobs(), before + 1);
}

/// left4me-link's socket for questions: answers each with the next of these.
fn answering(path: &std::path::Path, answers: Vec<String>) -> std::thread::JoinHandle<Vec<String>> {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let serve = |answer: String| {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            writeln!(stream.get_mut(), "{answer}").unwrap();
            line
        };
        answers.into_iter().map(serve).collect()
    })
}

#[test]
fn the_log_of_another_host_s_job_is_asked_for_until_it_ends() {
    let (members, _) = two();
    let [fra, _] = &members[..] else { panic!() };
    let socket = fra.host.root.join("ask.sock");
    let at = socket.to_str().unwrap();
    let logs = |args: &[&str]| {
        let all = ["--host", "ams-1", "logs", "17", "--ask-socket", at];
        fra.host.job(&[&all[..], args].concat())
    };
    let (code, _, err) = logs(&[]);
    assert_eq!(code, 69, "{err}");
    assert!(err.contains("left4me-link does not listen"), "{err}");

    let line = |seq: i64, text: &str| {
        format!(r#"{{"seq":{seq},"at":1,"stream":"stdout","task_id":null,"line":"{text}"}}"#)
    };
    let part = |lines: &[String], is_end: bool| {
        let lines = lines.join(",");
        format!(r#"{{"answer":"asked","lines":[{lines}],"is_end":{is_end}}}"#)
    };
    let served = answering(
        &socket,
        vec![
            part(&[line(1, "one"), line(2, "two")], false),
            part(&[line(3, "three")], true),
            r#"{"answer":"asked","state":"failed","error":"it broke"}"#.to_owned(),
        ],
    );
    let (code, out, err) = logs(&["--follow"]);
    assert_eq!(out, "one\ntwo\nthree\n", "{err}");
    assert_eq!(code, 1);
    assert!(err.contains("job 17 on ams-1 failed: it broke"), "{err}");
    let asked = served.join().unwrap();
    assert!(
        asked[0].contains(r#""after":0"#) && asked[1].contains(r#""after":2"#),
        "{asked:?}"
    );

    std::fs::remove_file(&socket).unwrap();
    let answer = r#"{"answer":"asked","error":"ams-1: no job 17","exit":3}"#;
    let served = answering(&socket, vec![answer.to_owned()]);
    let (code, _, err) = logs(&[]);
    assert_eq!(code, 3, "{err}");
    assert!(err.ends_with(": ams-1: no job 17\n"), "{err}");
    served.join().unwrap();

    std::fs::remove_file(&socket).unwrap();
    let answer = r#"{"answer":"failed","why":"host fra-1 may not ask ams-1"}"#;
    let served = answering(&socket, vec![answer.to_owned()]);
    let (code, _, err) = logs(&[]);
    assert_eq!(code, 69);
    assert!(err.contains("ams-1: host fra-1 may not ask"), "{err}");
    served.join().unwrap();
}
