//! left4me-gate over its socket, as left4me-link uses it: what it obeys, what it refuses, and that it
//! may be killed between any two steps.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use left4me::base::keys::{OpeningKey, Purpose, SigningKey};
use left4me::base::ulid::Ulid;
use left4me::base::{Error, clock};
use left4me::domain::fleet::order::{Order, What};
use left4me::domain::fleet::question::{Answer, Asking, Question, Said, Sealed};
use left4me::wire::gate::{
    GateAnswer, GateRequest, Generations, LinkState, Message, SentOrder, SignedText, Source, Taken,
};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::fleet::{TestMember, enqueue, fleet, message};
use crate::support::host::stop;
use crate::support::{GATE, LEFT4ME, ended, until};

/// left4me-gate of a host, and a connection to it.
struct Gate {
    child: Child,
    stream: BufReader<UnixStream>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Gate {
    fn start(member: &TestMember, failpoint: &str) -> Self {
        let socket = member.host.root.join("gate.sock");
        let socket_arg = socket.to_str().unwrap();
        let mut command = member.host.command(GATE, &["--socket", socket_arg]);
        command
            .env("LEFT4ME_FAILPOINT", failpoint)
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let stream = until("a connection to gate", || UnixStream::connect(&socket).ok());
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Self {
            child,
            stream: BufReader::new(stream),
        }
    }

    /// None when gate died.
    fn try_ask(&mut self, request: &GateRequest) -> Option<GateAnswer> {
        self.try_line(&serde_json::to_string(request).unwrap())
    }

    fn try_line(&mut self, line: &str) -> Option<GateAnswer> {
        writeln!(self.stream.get_mut(), "{line}").ok()?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer).ok()?;
        (!answer.is_empty()).then(|| serde_json::from_str(&answer).unwrap())
    }

    fn ask(&mut self, request: &GateRequest) -> GateAnswer {
        self.try_ask(request).expect("an answer")
    }

    fn take(&mut self) -> Taken {
        match self.ask(&GateRequest::Take {
            link: link(),
            limit: 64,
        }) {
            GateAnswer::Taken(taken) => *taken,
            other => panic!("{other:?}"),
        }
    }

    /// Delivers orders; how many were noise.
    fn deliver(&mut self, messages: Vec<Message>) -> u32 {
        match self.ask(&orders(messages)) {
            GateAnswer::Delivered { noise, .. } => noise,
            other => panic!("{other:?}"),
        }
    }
}

fn generations() -> Generations {
    Generations {
        orders: "made 1".to_owned(),
        events: "made 1".to_owned(),
        last_order: 1000,
        last_event: 1000,
    }
}

fn link() -> LinkState {
    LinkState {
        connected: true,
        since: 5,
        generations: generations(),
        ..LinkState::default()
    }
}

fn orders(messages: Vec<Message>) -> GateRequest {
    GateRequest::Deliver {
        from: Source::Orders,
        generation: "made 1".to_owned(),
        messages,
    }
}

/// An order of the controller to the host `to`.
fn order(to: &TestMember, what: What) -> Order {
    let now = clock::now_ms();
    Order {
        id: Ulid::new(now),
        to: to.name.clone(),
        from: "anna@fra-1".to_owned(),
        not_after: now + 3_600_000,
        what,
    }
}

fn count(member: &TestMember, sql: &str) -> i64 {
    let db = member.host.db();
    db.connection()
        .query_row(sql, [], |row| row.get(0))
        .unwrap()
}

/// What the fleet is told about orders: kind and detail.
fn told(taken: &Taken) -> Vec<(String, String)> {
    let events = taken.events.iter().map(|event| {
        let event: Value = serde_json::from_str(&event.body).unwrap();
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        (text("kind"), text("detail"))
    });
    events
        .filter(|(kind, _)| kind.starts_with("order."))
        .collect()
}

#[test]
fn it_obeys_a_controllers_signature_on_what_is_for_this_host_and_counts_the_rest() {
    let members = fleet(&["fra-1", "ams-1"], &["fra-1"]);
    let (fra, ams) = (&members[0], &members[1]);
    let worker = UnixDatagram::bind(ams.host.root.join("worker.sock")).unwrap();
    worker
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let link = UnixDatagram::bind(ams.host.root.join("link.sock")).unwrap();
    link.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut gate = Gate::start(ams, "");

    let good = order(ams, enqueue("restart", &ams.servers()));
    let mut late = order(ams, enqueue("stop", &ams.servers()));
    late.not_after = 1;
    let unknown = order(ams, What::Uncordon {});
    let unknown = String::from_utf8(unknown.to_bytes().unwrap())
        .unwrap()
        .replace("uncordon", "format");
    let controller = fra.controller.as_ref().unwrap();
    let body = good.to_bytes().unwrap();
    let stranger = SigningKey::generate();

    let noise = gate.deliver(vec![
        message(&stranger, Purpose::Order, "ams-1", &body, 1),
        fra.signed(&order(fra, What::Uncordon {}), 2),
        message(
            controller,
            Purpose::Order,
            "ams-1",
            b"{\"stream\":\"ORDERS\",\"seq\":9}",
            3,
        ),
        Message {
            signature: "%".to_owned(),
            ..fra.signed(&good, 4)
        },
        fra.signed(&good, 5),
        fra.signed(&late, 6),
        message(controller, Purpose::Order, "ams-1", unknown.as_bytes(), 7),
        fra.signed(&good, 8),
    ]);
    assert_eq!(noise, 4);
    assert_eq!(count(ams, "SELECT count(*) FROM jobs"), 1);
    assert_eq!(count(ams, "SELECT noise FROM fleet_self"), 4);
    assert_eq!(
        count(
            ams,
            "SELECT sequence FROM fleet_cursors WHERE stream = 'orders'"
        ),
        8
    );
    // Both are woken.
    for socket in [&worker, &link] {
        assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
    }

    let taken = gate.take();
    assert_eq!(taken.orders_after, 8);
    let told = told(&taken);
    assert_eq!(
        told[0],
        ("order.accepted".to_owned(), "restart 2 servers".to_owned())
    );
    assert_eq!(
        told[1],
        (
            "order.refused".to_owned(),
            "it came after its time".to_owned()
        )
    );
    assert!(
        told[2].0 == "order.refused" && told[2].1.contains("unknown variant"),
        "{told:?}"
    );
    assert_eq!(told.len(), 3);
}

#[test]
fn a_controller_that_root_removes_is_not_obeyed_from_then_on() {
    let members = fleet(&["fra-1", "ams-1"], &["fra-1"]);
    let (fra, ams) = (&members[0], &members[1]);
    let mut gate = Gate::start(ams, "");
    let first = order(ams, enqueue("restart", &ams.servers()));
    assert_eq!(gate.deliver(vec![fra.signed(&first, 1)]), 0);

    std::fs::remove_file(ams.directory().join("controllers/fra-1")).unwrap();
    let second = order(ams, enqueue("stop", &ams.servers()));
    assert_eq!(gate.deliver(vec![fra.signed(&second, 2)]), 1);
    assert_eq!(count(ams, "SELECT count(*) FROM jobs"), 1);
}

#[test]
fn killed_between_any_two_steps_it_has_done_all_of_an_order_or_nothing() {
    let members = fleet(&["fra-1", "ams-1"], &["fra-1"]);
    let (fra, ams) = (&members[0], &members[1]);
    for (at, failpoint) in ["gate.performed", "gate.read", "gate.committed"]
        .iter()
        .enumerate()
    {
        let sequence = at as u64 + 1;
        let jobs = i64::try_from(sequence).unwrap();
        let message = fra.signed(&order(ams, enqueue("restart", &ams.servers())), sequence);
        let mut gate = Gate::start(ams, failpoint);
        assert_eq!(
            gate.try_ask(&orders(vec![message.clone()])),
            None,
            "{failpoint}"
        );
        assert_eq!(ended(&mut gate.child), 128 + 9, "{failpoint}");

        let counts = || {
            (
                count(ams, "SELECT count(*) FROM jobs"),
                count(ams, "SELECT count(*) FROM fleet_orders_in"),
                count(
                    ams,
                    "SELECT count(*) FROM events WHERE kind = 'order.accepted'",
                ),
                count(
                    ams,
                    "SELECT coalesce(max(sequence), 0) FROM fleet_cursors WHERE stream = 'orders'",
                ),
            )
        };
        let after = counts();
        let all = (jobs, jobs, jobs, jobs);
        let nothing = (jobs - 1, jobs - 1, jobs - 1, jobs - 1);
        assert_eq!(
            after,
            if *failpoint == "gate.committed" {
                all
            } else {
                nothing
            },
            "{failpoint}"
        );

        // The link delivers it again.
        let mut gate = Gate::start(ams, "");
        assert_eq!(gate.deliver(vec![message]), 0);
        assert_eq!(counts(), all, "{failpoint}");
    }
}

#[test]
fn an_attempt_is_given_out_until_the_engine_has_it_and_a_death_loses_no_acknowledgement() {
    let members = fleet(&["fra-1", "ams-1"], &["fra-1"]);
    let (fra, ams) = (&members[0], &members[1]);
    let id = fra.send(ams, enqueue("restart", &ams.servers()), clock::now_ms());
    let mut gate = Gate::start(fra, "gate.sent");
    let taken = gate.take();
    assert!(taken.controls && taken.views);
    let given = &taken.orders[0];
    assert_eq!((given.id, given.attempt), (id, 1));
    assert_eq!(gate.take().orders.len(), 1, "it was not acknowledged");

    let sent = GateRequest::Sent {
        orders: vec![SentOrder {
            id,
            attempt: 1,
            sequence: 7,
        }],
        events: taken.events.last().map(|event| event.seq),
        rollouts: Vec::new(),
        generations: generations(),
    };
    assert_eq!(gate.try_ask(&sent), None);
    drop(gate);
    assert_eq!(fra.state(id).0, "kept");

    let mut gate = Gate::start(fra, "");
    assert_eq!(gate.take().orders.len(), 1);
    assert_eq!(gate.ask(&sent), GateAnswer::Done {});
    let taken = gate.take();
    assert!(
        taken.orders.is_empty() && taken.events.is_empty(),
        "{taken:?}"
    );
    assert_eq!(fra.state(id).0, "sent");
}

#[test]
fn the_status_is_given_when_it_has_changed_and_nothing_is_given_without_a_connection() {
    let members = fleet(&["fra-1"], &["fra-1"]);
    let fra = &members[0];
    let id = fra.send(fra, enqueue("restart", &fra.servers()), clock::now_ms());
    let mut gate = Gate::start(fra, "");
    let away = GateRequest::Take {
        link: LinkState {
            error: Some("refused".to_owned()),
            ..LinkState::default()
        },
        limit: 0,
    };
    let GateAnswer::Taken(taken) = gate.ask(&away) else {
        panic!()
    };
    assert!(taken.orders.is_empty() && taken.events.is_empty() && taken.status.is_none());
    assert_eq!(
        count(
            fra,
            "SELECT count(*) FROM fleet_self WHERE link_error = 'refused'"
        ),
        1
    );
    let never_left = "SELECT count(*) FROM fleet_orders_out WHERE taken_at IS NULL";
    assert_eq!(count(fra, never_left), 1, "{id}");

    let status: Value = serde_json::from_str(&gate.take().status.unwrap()).unwrap();
    assert_eq!(
        (status["host"].as_str(), status["used"].as_i64()),
        (Some("fra-1"), Some(2))
    );
    assert_eq!(status["servers"][0]["id"], fra.servers()[0].to_string());
    // The connection itself is an event, which the status numbers.
    gate.take();
    assert_eq!(gate.take().status, None);
    fra.host.enqueue(&["stop", "--all"]);
    let status: Value = serde_json::from_str(&gate.take().status.unwrap()).unwrap();
    assert_eq!(status["queue"]["queued"], 1);
}

/// Its files are looked at once a minute; one that is new is not waited for that long.
#[test]
fn a_new_overlay_is_read_and_told_at_once() {
    let members = fleet(&["fra-1", "ams-1"], &["fra-1"]);
    let host = &members[1].host;
    let link = UnixDatagram::bind(host.root.join("link.sock")).unwrap();
    link.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut gate = Gate::start(&members[1], "");
    gate.take();

    for overlay in ["versus", "maps"] {
        // Both that it was added, and later that it was read, wake left4me-link.
        let added = host.command(LEFT4ME, &["overlay", "add", overlay]).output();
        assert!(added.unwrap().status.success());
        let status = until("the overlay is told", || {
            link.recv(&mut [0]).unwrap();
            let status: Value = serde_json::from_str(&gate.take().status?).unwrap();
            status["overlays"][overlay].is_string().then_some(status)
        });
        assert!(status["overlays"]["versus"].is_string(), "{status:#}");
    }
}

/// Answers to questions are opened by the gate of the host that has asked.
impl Gate {
    /// The answer to a question that came in the name of `from`, as gate has it for left4me-link.
    fn answer(&mut self, from: &TestMember, question: SignedText) -> Answer {
        let request = GateRequest::Ask {
            from: from.name.clone(),
            question,
        };
        match self.ask(&request) {
            GateAnswer::Answer { body } => serde_json::from_str(&body).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Why it refuses a question.
    fn refusal(&mut self, from: &TestMember, question: SignedText) -> (String, u8) {
        match self.answer(from, question).said {
            Said::Refused { why, exit } => (why, exit),
            other @ Said::Sealed { .. } => panic!("{other:?}"),
        }
    }

    /// What it makes of an answer of `host`.
    fn open(&mut self, host: &TestMember, asking: &Asking, answer: SignedText) -> Value {
        let request = GateRequest::Answered {
            host: host.name.clone(),
            id: asking.id,
            question: asking.question.clone(),
            answer,
        };
        match self.ask(&request) {
            GateAnswer::Asked(value) => value,
            other => panic!("{other:?}"),
        }
    }
}

fn question(of: &TestMember, asking: &Asking) -> SignedText {
    of.text(Purpose::Question, serde_json::to_string(asking).unwrap())
}

fn signed(by: &TestMember, answer: &Answer) -> SignedText {
    by.text(Purpose::Answer, serde_json::to_string(answer).unwrap())
}

#[test]
fn a_host_with_the_role_may_ask_for_jobs_logs_and_events_and_no_other() {
    let mut members = fleet(&["fra-1", "ams-1", "sgp-1"], &["fra-1"]);
    let nope = fleet(&["nope-1"], &["nope-1"]).remove(0);
    members.push(nope);
    let ams = &members[1];
    let job = ams.host.enqueue(&["restart", "--all"]);
    let mut gate = Gate::start(ams, "");
    let mut ask = |from: usize, asked| {
        let (from, mut own) = (&members[from], Gate::start(&members[from], ""));
        let asking = from.asking(ams, asked);
        let answer = gate.answer(from, question(from, &asking));
        let text = serde_json::to_string(&answer).unwrap();
        assert!(!text.contains("restart"), "it is sealed: {text}");
        own.open(ams, &asking, signed(ams, &answer))
    };

    assert_eq!(ask(0, Question::Job { job: job.0 })["operation"], "restart");
    let log = ask(
        0,
        Question::Log {
            job: job.0,
            after: 0,
        },
    );
    assert_eq!(
        (log["lines"].as_array().unwrap().len(), &log["is_end"]),
        (0, &Value::Bool(false))
    );
    let events = ask(0, Question::Events { after: 0 });
    assert!(
        events["events"].to_string().contains("job.queued"),
        "{events}"
    );
    let unknown = ask(0, Question::Job { job: 99 });
    assert_eq!(unknown["exit"], 3);
    assert!(
        unknown["error"].as_str().unwrap().starts_with("ams-1: "),
        "{unknown}"
    );
    let no_role = ask(2, Question::Job { job: job.0 });
    assert_eq!(no_role["exit"], 77, "{no_role}");

    // One that the roster does not name.
    let nope = &members[3];
    let asking = nope.asking(ams, Question::Job { job: job.0 });
    let (why, exit) = gate.refusal(nope, question(nope, &asking));
    assert_eq!(exit, 77);
    assert!(why.contains("no roster that names nope-1"), "{why}");
}

#[test]
fn a_question_that_its_host_has_not_signed_for_this_host_just_now_is_refused_and_says_why() {
    let members = fleet(&["fra-1", "ams-1", "sgp-1"], &["fra-1"]);
    let [fra, ams, sgp] = &members[..] else {
        panic!()
    };
    let job = ams.host.enqueue(&["restart", "--all"]);
    let mut gate = Gate::start(ams, "");
    let asking = fra.asking(ams, Question::Job { job: job.0 });
    let good = question(fra, &asking);
    let noise = |gate: &mut Gate| {
        gate.take();
        count(ams, "SELECT noise FROM fleet_self")
    };

    // Another host, or a node of the engine, in fra-1's name.
    let changed = SignedText {
        body: good.body.replace("\"job\":1", "\"job\":2"),
        ..good.clone()
    };
    assert_ne!(changed.body, good.body);
    let body = good.body.clone();
    let of_another_kind = fra.text(Purpose::Event, body.clone());
    let with_fras_key = SignedText {
        key: fra.key.public().to_string(),
        ..question(sgp, &asking)
    };
    for forged in [
        question(sgp, &asking),
        with_fras_key,
        changed,
        of_another_kind,
    ] {
        let (why, exit) = gate.refusal(fra, forged);
        assert_eq!(exit, 77, "{why}");
        assert!(why.contains("fra-1 has not signed the question"), "{why}");
    }
    assert_eq!(noise(&mut gate), 4);

    // For another host, and in the name of another one.
    let other = fra.asking(sgp, Question::Job { job: job.0 });
    let (why, exit) = gate.refusal(fra, question(fra, &other));
    assert_eq!(exit, 77);
    assert!(why.contains("one of fra-1 to sgp-1"), "{why}");
    let (why, _) = gate.refusal(sgp, question(sgp, &asking));
    assert!(why.contains("came to ams-1 as one of sgp-1"), "{why}");
    assert_eq!(noise(&mut gate), 6);

    // Clocks are no forgery.
    for away in [-600_000, 600_000] {
        let old = Asking {
            at: asking.at + away,
            ..asking.clone()
        };
        let (why, exit) = gate.refusal(fra, question(fra, &old));
        assert_eq!(exit, 4);
        assert!(why.contains("10 min") || why.contains("9 min"), "{why}");
        assert!(why.contains("clocks"), "{why}");
    }
    // Other versions.
    for (body, part) in [
        (body.replace("\"v\":1", "\"v\":2"), "version 2"),
        (
            body.replace("\"ask\":\"job\"", "\"ask\":\"memory\""),
            "memory",
        ),
    ] {
        let (why, exit) = gate.refusal(fra, fra.text(Purpose::Question, body));
        assert_eq!(exit, 2);
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(noise(&mut gate), 6);

    // One that is brought again is answered again, and sealed to the host that has asked again.
    for _ in 0..2 {
        let Said::Sealed { by, text } = gate.answer(fra, good.clone()).said else {
            panic!()
        };
        let sealed = STANDARD.decode(text).unwrap();
        assert!(fra.opening.open(&sealed, &by).is_ok());
        assert!(sgp.opening.open(&sealed, &by).is_err());
    }
    assert_eq!(count(ams, "SELECT count(*) FROM jobs"), 1);
}

#[test]
fn an_answer_is_believed_from_the_host_that_was_asked_to_the_question_that_it_was_asked() {
    let members = fleet(&["fra-1", "ams-1", "sgp-1"], &["fra-1"]);
    let [fra, ams, sgp] = &members[..] else {
        panic!()
    };
    let job = ams.host.enqueue(&["restart", "--all"]);
    let (mut gate, mut own) = (Gate::start(ams, ""), Gate::start(fra, ""));
    let asking = fra.asking(ams, Question::Job { job: job.0 });
    let good = gate.answer(fra, question(fra, &asking));
    let other = fra.asking(ams, Question::Job { job: 99 });
    let to_other = gate.answer(fra, question(fra, &other));
    let open = |own: &mut Gate, text| own.open(ams, &asking, text);
    let error = |value: &Value| value["error"].as_str().unwrap_or_default().to_owned();

    // A node of the engine, or another host, answers in its place.
    let changed = SignedText {
        body: signed(ams, &good).body.replace("ams-1", "ams-2"),
        ..signed(ams, &good)
    };
    for forged in [
        signed(sgp, &good),
        changed,
        ams.text(Purpose::Status, signed(ams, &good).body),
    ] {
        let answer = open(&mut own, forged);
        assert_eq!(answer["exit"], 77, "{answer}");
        assert!(error(&answer).contains("ams-1 has not signed"), "{answer}");
    }
    // What it has answered to another question, or another host.
    let for_sgp = Answer {
        to: sgp.name.clone(),
        ..good.clone()
    };
    for exchanged in [&to_other, &for_sgp] {
        let answer = open(&mut own, signed(ams, exchanged));
        assert_eq!(answer["exit"], 77, "{answer}");
        assert!(
            error(&answer).contains("answers another question"),
            "{answer}"
        );
    }
    own.take();
    assert_eq!(count(fra, "SELECT noise FROM fleet_self"), 5);
    // Its link says that the answer is one to this question; gate there has sealed it for another.
    let renamed = Answer {
        id: asking.id,
        ..to_other
    };
    let answer = open(&mut own, signed(ams, &renamed));
    assert!(
        error(&answer).contains("no answer to this question"),
        "{answer}"
    );
    // What its link has made itself is still bound to what was asked.
    let key = OpeningKey::generate();
    let sealed = Sealed {
        id: asking.id,
        question: Question::Events { after: i64::MIN },
        value: serde_json::json!({"events": [], "newest": 1}),
    };
    let sealed = serde_json::to_vec(&sealed).unwrap();
    let unasked = Answer {
        said: Said::Sealed {
            by: key.public(),
            text: STANDARD.encode(key.seal(&sealed, &fra.opening.public()).unwrap()),
        },
        ..good.clone()
    };
    let answer = open(&mut own, signed(ams, &unasked));
    assert!(
        error(&answer).contains("no answer to this question"),
        "{answer}"
    );
    let newer = Answer {
        v: 2,
        ..good.clone()
    };
    let answer = open(&mut own, signed(ams, &newer));
    assert!(error(&answer).contains("version 2"), "{answer}");

    let answer = open(&mut own, signed(ams, &good));
    assert_eq!(answer["operation"], "restart", "{answer}");
    // A refusal is the host's own word, too.
    let refusal = Answer::refusal(
        asking.id,
        &ams.name,
        &fra.name,
        &Error::conflict("too late"),
    );
    let answer = open(&mut own, signed(ams, &refusal));
    assert_eq!(
        (error(&answer).as_str(), &answer["exit"]),
        ("ams-1: too late", &Value::from(4))
    );
    let answer = open(&mut own, signed(sgp, &refusal));
    assert!(error(&answer).contains("has not signed"), "{answer}");
}

#[test]
fn what_is_no_request_is_answered_and_it_ends_when_idle_or_told() {
    let members = fleet(&["fra-1"], &[]);
    let fra = &members[0];
    let mut gate = Gate::start(fra, "");
    for line in ["{}", "nonsense", "{\"do\":\"shell\",\"command\":\"id\"}"] {
        let answer = gate.try_line(line).unwrap();
        assert!(matches!(answer, GateAnswer::Failed { .. }), "{answer:?}");
    }
    // The connection stays.
    assert!(!gate.take().controls);
    stop(&gate.child, Signal::SIGTERM);
    assert_eq!(ended(&mut gate.child), 0);
    drop(gate);

    let socket = fra.host.root.join("gate.sock");
    let args = ["--socket", socket.to_str().unwrap(), "--idle-seconds", "1"];
    let mut child = fra.host.command(GATE, &args).spawn().unwrap();
    let open = until("a connection", || UnixStream::connect(&socket).ok());
    assert_eq!(ended(&mut child), 0, "an open connection does not keep it");
    drop(open);

    // Without a fleet it serves nothing.
    std::fs::remove_file(fra.directory().join("fleet.json")).unwrap();
    let mut gate = Gate::start(fra, "");
    let request = GateRequest::Take {
        link: link(),
        limit: 1,
    };
    let GateAnswer::Failed { why } = gate.ask(&request) else {
        panic!()
    };
    assert!(why.contains("belongs to no fleet"), "{why}");
}
