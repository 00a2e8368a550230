//! What `left4me fleet` has done at the engine.

use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::api;
use super::connect::{Access, connect};
use crate::base::keys::SigningKey;
use crate::base::{Error, Result};
use crate::domain::fleet::objects;
use crate::wire::link::{Administer, Administered, Call, EngineNode, EngineObject};

/// How long nodes may take to say that they are there.
const ROLL_CALL: Duration = Duration::from_secs(2);

/// How long the streams may take to find their leaders: a new engine first has to meet.
const MEET: Duration = Duration::from_secs(30);

pub async fn carry_out(request: Administer) -> Result<Administered> {
    let access = Access {
        engine: request.engine,
        ca: request.ca,
        jwt: request.jwt,
        key: SigningKey::from_seed(&request.seed)?,
        name: "left4me".to_owned(),
    };
    // What the engine says in the meantime is also in the answers.
    let (heard, _unheard) = tokio::sync::mpsc::unbounded_channel();
    let client = connect(access, false, heard).await?;
    match request.call {
        Call::PushAccount { jwt } => push(&client, jwt).await,
        Call::Nodes {} => nodes(&client).await,
        Call::Make { replicas } => make(&client, replicas).await,
        Call::Look { replicas } => look(&client, replicas).await,
    }
}

/// Every node that has an account's JWT hands it to the others; each applies it at once.
async fn push(client: &Client, jwt: String) -> Result<Administered> {
    let subject = "$SYS.REQ.CLAIMS.UPDATE";
    let answer = client.request(subject, jwt.into()).await;
    let answer = answer.map_err(|error| api::failed(subject, &error))?;
    api::answer(subject, &answer.payload).map(|_| Administered::Done {})
}

async fn nodes(client: &Client) -> Result<Administered> {
    let inbox = client.new_inbox();
    let subscribed = client.subscribe(inbox.clone()).await;
    let mut answers = subscribed.map_err(|error| Error::unavailable(error.to_string()))?;
    let asked = client
        .publish_with_reply("$SYS.REQ.SERVER.PING.VARZ", inbox, "{}".into())
        .await;
    asked.map_err(|error| Error::unavailable(error.to_string()))?;

    let mut nodes = Vec::new();
    while let Ok(Some(answer)) = timeout(ROLL_CALL, answers.next()).await {
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        nodes.push(node(&answer));
    }
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    match nodes.is_empty() {
        true => Err(Error::unavailable("no node of the engine tells of itself")),
        false => Ok(Administered::Nodes { nodes }),
    }
}

fn node(answer: &Value) -> EngineNode {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let data = &answer["data"];
    let jetstream = &data["jetstream"];
    EngineNode {
        name: text(&answer["server"]["name"]),
        version: text(&data["version"]),
        syncs: jetstream["config"]["sync_always"]
            .as_bool()
            .unwrap_or_default(),
        used: jetstream["stats"]["storage"].as_u64().unwrap_or_default(),
        room: jetstream["config"]["max_storage"]
            .as_u64()
            .unwrap_or_default(),
    }
}

async fn make(client: &Client, replicas: u8) -> Result<Administered> {
    let (mut made, mut changed) = (Vec::new(), Vec::new());
    for (name, wanted) in objects::all(replicas) {
        match patient_info(client, &name).await? {
            None => {
                let subject = format!("$JS.API.STREAM.CREATE.{name}");
                api::request(client, &subject, &wanted).await?;
                made.push(name);
            }
            Some(found) if !objects::differences(&wanted, &found.all["config"]).is_empty() => {
                let subject = format!("$JS.API.STREAM.UPDATE.{name}");
                api::request(client, &subject, &wanted).await?;
                changed.push(name);
            }
            Some(_) => {}
        }
    }
    Ok(Administered::Made { made, changed })
}

/// As [`api::info`], but waits for an engine whose nodes have just begun to meet.
async fn patient_info(client: &Client, name: &str) -> Result<Option<api::Info>> {
    let tries = async {
        loop {
            match api::info(client, name).await {
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                known => return known,
            }
        }
    };
    match timeout(MEET, tries).await {
        Ok(known) => known,
        Err(_) => api::info(client, name).await,
    }
}

async fn look(client: &Client, replicas: u8) -> Result<Administered> {
    let mut all = Vec::new();
    for (name, wanted) in objects::all(replicas) {
        let info = api::info(client, &name).await?;
        all.push(match info {
            None => EngineObject {
                name,
                exists: false,
                differences: Vec::new(),
                messages: 0,
                leader: None,
                behind: Vec::new(),
            },
            Some(info) => described(name, &wanted, &info.all),
        });
    }
    Ok(Administered::Objects { objects: all })
}

fn described(name: String, wanted: &Value, found: &Value) -> EngineObject {
    let followers = found["cluster"]["replicas"].as_array();
    let behind = followers.into_iter().flatten().filter(|follower| {
        let is = |field: &str| follower[field].as_bool().unwrap_or_default();
        is("offline") || !is("current")
    });
    EngineObject {
        name,
        exists: true,
        differences: objects::differences(wanted, &found["config"]),
        messages: found["state"]["messages"].as_u64().unwrap_or_default(),
        leader: found["cluster"]["leader"].as_str().map(str::to_owned),
        behind: behind
            .filter_map(|follower| follower["name"].as_str().map(str::to_owned))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_follower_that_is_away_or_late_is_named() {
        let found = json!({
            "config": {"num_replicas": 3},
            "state": {"messages": 5},
            "cluster": {"leader": "a", "replicas": [
                {"name": "b", "current": true},
                {"name": "c", "current": false},
                {"name": "d", "current": true, "offline": true},
            ]},
        });
        let object = described("ORDERS".into(), &json!({"num_replicas": 3}), &found);
        assert_eq!(object.behind, ["c", "d"]);
        assert_eq!(object.leader.as_deref(), Some("a"));
        assert!(object.differences.is_empty());
    }
}
