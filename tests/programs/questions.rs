//! Questions between hosts with all real programs: what a node of the engine that was taken over can do
//! with them, and how a viewer gets events that the engine has lost.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use left4me::base::clock::now_ms;
use left4me::base::issuer::{Issuer, IssuerKey};
use left4me::base::keys::{Purpose, SigningKey};
use left4me::domain::fleet::jwt;
use left4me::queue::wake;
use serde_json::{Value, json};

use crate::support::real_fleet::{Fleet, Member};
use crate::support::until;

const ASK: &str = "l4m.ask.ams-1.fra-1";

/// Speaks to the engine with all rights in the account of the fleet, as one of its nodes can.
struct Node {
    client: async_nats::Client,
    key: SigningKey,
    /// The questions and answers that went by: subject, reply subject, text.
    heard: Arc<Mutex<Vec<(String, String, String)>>>,
}

impl Node {
    async fn of(fleet: &Fleet) -> Self {
        let files = fleet.member("fra-1").host.root.join("fleet");
        let seed = std::fs::read_to_string(files.join("operator/account.seed")).unwrap();
        let account = IssuerKey::from_seed(Issuer::Account, &seed).unwrap();
        let user = Arc::new(SigningKey::generate());
        let jwt = jwt::administrator(&account, &user.public(), now_ms()).unwrap();
        let sign = move |nonce: Vec<u8>| {
            let user = Arc::clone(&user);
            async move { user.sign_raw(&nonce).map_err(async_nats::AuthError::new) }
        };
        let client = async_nats::ConnectOptions::with_jwt(jwt, sign)
            .add_root_certificates(files.join("ca.pem"))
            .connect(format!("tls://127.0.0.1:{}", fleet.engine.nodes[0].port))
            .await
            .unwrap();

        let heard = Arc::<Mutex<Vec<_>>>::default();
        for subject in ["l4m.ask.>", "l4m.answer.>"] {
            let mut messages = client.subscribe(subject).await.unwrap();
            let to = Arc::clone(&heard);
            tokio::spawn(async move {
                while let Some(message) = messages.next().await {
                    let reply = message.reply.map(|reply| reply.to_string());
                    to.lock().unwrap().push((
                        message.subject.to_string(),
                        reply.unwrap_or_default(),
                        String::from_utf8_lossy(&message.payload).into_owned(),
                    ));
                }
            });
        }
        client.flush().await.unwrap();
        Self {
            client,
            key: SigningKey::generate(),
            heard,
        }
    }

    /// The first text on a subject that begins so, among those after the first `from`.
    async fn hears(&self, subject: &str, from: usize) -> (String, String) {
        for _ in 0..3000 {
            let heard = self.heard.lock().unwrap().clone();
            let mut new = heard.into_iter().skip(from);
            if let Some((_, reply, text)) = new.find(|row| row.0.starts_with(subject)) {
                return (reply, text);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing on {subject}");
    }

    fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// Asks ams-1 in the name of fra-1; the answer's body.
    async fn asks(&self, text: String) -> Value {
        let (from, reply) = (self.count(), "l4m.answer.fra-1.ams-1.x7");
        self.client
            .publish_with_reply(ASK, reply, text.into())
            .await
            .unwrap();
        let (_, text) = self.hears(reply, from).await;
        body(&text)
    }

    fn signed(&self, purpose: Purpose, body: &str) -> String {
        let signature = STANDARD.encode(self.key.sign(purpose, body.as_bytes()).unwrap());
        let key = self.key.public();
        json!({"body": body, "key": key, "signature": signature}).to_string()
    }
}

fn body(text: &str) -> Value {
    let text: Value = serde_json::from_str(text).unwrap();
    serde_json::from_str(text["body"].as_str().unwrap()).unwrap()
}

/// `left4me-job --host ams-1 logs 1` on a host, beside what else happens here.
async fn logs(fleet: &Fleet) -> (i32, String, String) {
    let host = &fleet.member("fra-1").host;
    let socket = host.root.join("ask.sock").display().to_string();
    let args = ["--host", "ams-1", "logs", "1", "--ask-socket", &socket];
    let mut command = host.command(crate::support::JOB, &args);
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = ran.await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn noise(of: &Member) -> i64 {
    let noise = of.column("SELECT CAST(noise AS TEXT) FROM fleet_self");
    noise[0].parse().unwrap()
}

/// It is written at the next exchange.
fn noise_is(of: &Member, expected: i64) {
    wake::link(&of.host.root.join("link.sock"));
    until("noise", || (noise(of) == expected).then_some(()));
}

#[tokio::test]
async fn a_node_of_the_engine_can_ask_for_no_host_and_neither_read_nor_make_an_answer() {
    let fleet = Fleet::up(1, &["fra-1", "ams-1"]);
    let (fra, ams) = (fleet.member("fra-1"), fleet.member("ams-1"));
    ams.worker.hold();
    let job = ams.host.enqueue(&["stop", "--all"]);
    ams.host
        .db()
        .connection()
        .execute(
            "INSERT INTO job_logs (job_id, seq, at, stream, line)
             VALUES (?1, 1, 1, 'stdout', 'the quick brown fox')",
            [job.0],
        )
        .unwrap();
    let node = Node::of(&fleet).await;

    let (code, out, err) = logs(&fleet).await;
    assert_eq!((code, out.as_str()), (0, "the quick brown fox\n"), "{err}");
    let (_, question) = node.hears(ASK, 0).await;
    let (_, answer) = node.hears("l4m.answer.fra-1.ams-1.", 0).await;
    assert!(answer.contains("sealed"), "{answer}");

    // In the name of a host, with a key of its own or with what it has heard.
    let before = noise(ams);
    let asked = body(&question);
    let refused = node
        .asks(node.signed(Purpose::Question, &asked.to_string()))
        .await;
    let why = refused["said"]["refused"]["why"].as_str().unwrap();
    assert!(why.contains("fra-1 has not signed"), "{refused}");
    let changed = node
        .asks(question.replace("after\\\":0", "after\\\":1"))
        .await;
    let why = changed["said"]["refused"]["why"].as_str().unwrap();
    assert!(why.contains("fra-1 has not signed"), "{changed}");
    noise_is(ams, before + 2);
    let again = node.asks(question).await;
    assert!(again["said"]["sealed"].is_object(), "{again}");
    for (_, _, text) in node.heard.lock().unwrap().iter() {
        assert!(!text.contains("quick brown"), "{text}");
    }

    // In the place of ams-1: with a key of its own, and with an answer of before.
    ams.link.hold();
    for (is_own, part) in [
        (true, "ams-1 has not signed"),
        (false, "answers another question"),
    ] {
        let (before, from) = (noise(fra), node.count());
        let answers = async {
            let (reply, question) = node.hears(ASK, from).await;
            let mut forged = body(&answer);
            forged["id"] = body(&question)["id"].clone();
            let text = match is_own {
                true => node.signed(Purpose::Answer, &forged.to_string()),
                false => answer.clone(),
            };
            node.client.publish(reply, text.into()).await.unwrap();
        };
        let ((code, out, err), ()) = tokio::join!(logs(&fleet), answers);
        assert_eq!((code, out.as_str()), (77, ""), "{err}");
        assert!(err.contains(part), "{err}");
        noise_is(fra, before + 1);
    }
}

#[test]
fn events_that_the_engine_has_lost_are_told_by_their_host_and_not_asked_for_when_it_has_none() {
    let fleet = Fleet::up(1, &["fra-1", "ams-1"]);
    let (fra, ams) = (fleet.member("fra-1"), fleet.member("ams-1"));
    ams.worker.hold();
    for _ in 0..3 {
        ams.host.enqueue(&["restart", "--all"]);
        ams.host.enqueue(&["stop", "--all"]);
    }
    wake::link(&ams.host.root.join("link.sock"));
    let there = || ams.column("SELECT CAST(id AS TEXT) FROM events ORDER BY id");
    let here = || {
        fra.column("SELECT CAST(seq AS TEXT) FROM fleet_events WHERE host = 'ams-1' ORDER BY seq")
    };
    // It does not tell its whole history when it joins.
    until("all events", || {
        (here().last() == there().last()).then_some(())
    });
    let all = here();
    assert!(all.len() >= 4, "{all:?}");

    // The second and the third did not come, long ago; the host has pruned the second.
    let (second, third) = (&all[1], &all[2]);
    let run = |member: &Member, sql: &str| member.host.db().connection().execute_batch(sql);
    run(ams, &format!("DELETE FROM events WHERE id = {second}")).unwrap();
    let sql = format!(
        "BEGIN IMMEDIATE;
         DELETE FROM fleet_events WHERE host = 'ams-1' AND seq IN ({second}, {third});
         UPDATE fleet_events SET received_at = received_at - 3600000;
         DELETE FROM fleet_gaps;
         COMMIT"
    );
    run(fra, &sql).unwrap();
    wake::link(&fra.host.root.join("link.sock"));
    let mut left = all.clone();
    left.remove(1);
    until("the missing event", || (here() == left).then_some(()));

    // It is whole as far as it can be, and so nothing is asked for.
    let last: i64 = all.last().unwrap().parse().unwrap();
    until("nothing is missing", || {
        wake::link(&fra.host.root.join("link.sock"));
        let whole = fra.column("SELECT CAST(whole AS TEXT) FROM fleet_gaps WHERE host = 'ams-1'");
        (whole.first()?.parse::<i64>().unwrap() >= last).then_some(())
    });
    let asked = fra.column("SELECT host FROM fleet_gaps WHERE asked_at <> 0");
    assert!(asked.is_empty(), "{asked:?}");
}
