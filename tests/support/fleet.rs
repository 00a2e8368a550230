//! Hosts of a fleet, and an engine in memory that carries between them what left4me-link would. The
//! tables and what reads and writes them are the real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use left4me::base::config::PortRange;
use left4me::base::fleet::Fleet;
use left4me::base::keys::{OpeningKey, PublicKey, Purpose, SigningKey};
use left4me::base::names::{FleetHost, JobId};
use left4me::base::ulid::Ulid;
use left4me::db::fleet::orders_out::{self, OrderOut};
use left4me::db::fleet::ulids;
use left4me::domain::fleet::driving::{self, Mark, Replace};
use left4me::domain::fleet::order::{Enqueue, Order, What};
use left4me::domain::fleet::question::{Asking, Question};
use left4me::domain::fleet::roster::{Member, Roster};
use left4me::domain::update::UpdateOptions;
use left4me::gate;
use left4me::queue::fleet::accept::Host;
use left4me::queue::fleet::outbox::{self, Sent};
use left4me::queue::fleet::read::{self, Read};
use left4me::queue::fleet::send::{self, Draft};
use left4me::queue::fleet::{project, status};
use left4me::wire::gate::{
    Generations, LinkState, Message, SentOrder, SentRollout, SignedText, Source, Taken,
};

use super::host::{PORTS, TestHost};

/// A host of the fleet.
pub struct TestMember {
    pub host: TestHost,
    pub name: FleetHost,
    pub root: PathBuf,
    /// Signs what this host says.
    pub key: SigningKey,
    pub opening: OpeningKey,
    /// Signs its orders, on a controller.
    pub controller: Option<SigningKey>,
    /// Whose orders it obeys.
    pub controllers: BTreeMap<String, PublicKey>,
}

/// A fleet of these hosts, each with two servers. Those in `controls` are controllers, which all obey.
pub fn fleet(names: &[&str], controls: &[&str]) -> Vec<TestMember> {
    let mut members: Vec<TestMember> = names
        .iter()
        .map(|name| (name, TestHost::with_servers(2)))
        .map(|(name, host)| TestMember {
            root: host.root.path(),
            host,
            name: name.parse().unwrap(),
            key: SigningKey::generate(),
            opening: OpeningKey::generate(),
            controller: controls.contains(name).then(SigningKey::generate),
            controllers: BTreeMap::new(),
        })
        .collect();

    let public = |member: &TestMember| {
        Some((
            member.name.to_string(),
            member.controller.as_ref()?.public(),
        ))
    };
    let controllers: BTreeMap<_, _> = members.iter().filter_map(public).collect();
    let roster = roster(&members, 1);
    for member in &mut members {
        member.controllers.clone_from(&controllers);
        let mut db = member.host.db();
        db.write(|tx| project::roster(tx, &roster)).unwrap();
        member.write_files();
    }
    members
}

/// The roster of these hosts.
pub fn roster(members: &[TestMember], version: i64) -> Roster {
    let hosts = members.iter().map(|member| Member {
        name: member.name.clone(),
        key: member.key.public(),
        seal_key: member.opening.public(),
        labels: BTreeMap::new(),
        roles: member.roles(),
        admitted_at: 1,
        expelled_at: None,
    });
    Roster {
        v: 1,
        version,
        fleet: "test".to_owned(),
        hosts: hosts.collect(),
    }
}

/// An order for a job.
pub fn enqueue(operation: &str, servers: &[Ulid]) -> What {
    What::Enqueue(Enqueue {
        operation: operation.to_owned(),
        servers: servers.to_vec(),
        all: false,
        unique: false,
        rolling: None,
        update: UpdateOptions::default(),
        condition: None,
        reason: "because".to_owned(),
    })
}

impl TestMember {
    fn roles(&self) -> Vec<String> {
        let role = self.controller.as_ref().map(|_| "control".to_owned());
        role.into_iter().collect()
    }

    /// The directory of the fleet's files.
    pub fn directory(&self) -> PathBuf {
        self.host.root.join("fleet")
    }

    /// Writes the files as root does.
    pub fn write_files(&self) {
        let directory = self.directory();
        std::fs::create_dir_all(directory.join("controllers")).unwrap();
        let fleet = Fleet {
            v: 1,
            fleet: "test".to_owned(),
            host: self.name.clone(),
            key: self.key.public(),
            seal_key: self.opening.public(),
            engine: vec!["tls://127.0.0.1:4222".to_owned()],
            roles: self.roles(),
            capacity: None,
        };
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
        write("fleet.json", serde_json::to_string(&fleet).unwrap());
        write("host.seed", self.key.seed().unwrap());
        write("host.xseed", self.opening.seed().unwrap());
        if let Some(key) = &self.controller {
            write("controller.seed", key.seed().unwrap());
        }
        for (name, key) in &self.controllers {
            write(&format!("controllers/{name}"), format!("{key}\n"));
        }
    }

    /// This host, as it judges orders.
    pub fn accepting(&self) -> Host<'_> {
        Host {
            name: &self.name,
            controllers: &self.controllers,
            opening: Some(&self.opening),
            capacity: None,
            ports: PORTS,
            root: &self.root,
            cancel: gate::cancel,
        }
    }

    pub fn ports(&self) -> PortRange {
        PORTS
    }

    /// The names of its servers in the fleet.
    pub fn servers(&self) -> Vec<Ulid> {
        let all = ulids::all(self.host.db().connection()).unwrap();
        all.into_iter().map(|(_, ulid)| ulid).collect()
    }

    /// Sends an order from this host.
    pub fn send(&self, to: &TestMember, what: What, now: i64) -> Ulid {
        let draft = Draft {
            id: None,
            to: &to.name,
            what,
            by: "anna",
            here: &self.name,
            reason: "because",
            good_for: None,
            rollout: None,
        };
        send::send(&mut self.host.db(), &draft, now).unwrap()
    }

    /// An order from here, as its row has it.
    pub fn order(&self, id: Ulid) -> OrderOut {
        let found = orders_out::get(self.host.db().connection(), id).unwrap();
        found.unwrap()
    }

    /// The same, in short: its state, and its job there.
    pub fn state(&self, id: Ulid) -> (String, Option<i64>) {
        let order = self.order(id);
        (order.state.to_string(), order.remote_job)
    }

    /// The message of an order that this controller signed.
    pub fn signed(&self, order: &Order, sequence: u64) -> Message {
        let key = self.controller.as_ref().unwrap();
        message(
            key,
            Purpose::Order,
            order.to.as_str(),
            &order.to_bytes().unwrap(),
            sequence,
        )
    }

    /// A question of this host, of now.
    pub fn asking(&self, to: &TestMember, question: Question) -> Asking {
        let at = left4me::base::clock::now_ms();
        Asking {
            v: 1,
            id: Ulid::new(at),
            from: self.name.clone(),
            to: to.name.clone(),
            at,
            question,
        }
    }

    /// A text that this host's left4me-link has signed.
    pub fn text(&self, purpose: Purpose, body: String) -> SignedText {
        SignedText {
            key: self.key.public().to_string(),
            signature: STANDARD.encode(self.key.sign(purpose, body.as_bytes()).unwrap()),
            body,
        }
    }

    /// Ends a job of this host, as a worker does.
    pub fn end_job(&self, job: i64, state: &str) {
        let sql = format!(
            "UPDATE jobs SET state = '{state}', on_hold = 0, started_at = coalesce(started_at, 1), finished_at = 2,
               exit_code = iif('{state}' = 'succeeded', 0, 1), worker_id = 'w' WHERE id = {job};
             INSERT INTO events (at, kind, actor, job_id) VALUES ({now}, 'job.{state}', 'w', {job});",
            now = left4me::base::clock::now_ms(),
        );
        self.host.db().connection().execute_batch(&sql).unwrap();
    }

    pub fn start_job(&self, job: JobId) {
        let sql = format!(
            "UPDATE jobs SET state = 'running', started_at = 1, worker_id = 'w' WHERE id = {job}"
        );
        self.host.db().connection().execute_batch(&sql).unwrap();
    }
}

/// Brings the status of a host to another one.
pub fn tell_status(to: &TestMember, of: &TestMember) {
    let host = status::Host {
        name: &of.name,
        capacity: None,
        ports: of.ports(),
        root: &of.root,
    };
    let now = left4me::base::clock::now_ms();
    let status = status::status(&mut of.host.db(), &host, now).unwrap();
    let body = serde_json::to_vec(&status).unwrap();
    let told = message(&of.key, Purpose::Status, of.name.as_str(), &body, 1);
    let mut db = to.host.db();
    let read = read::deliver(&mut db, &to.accepting(), Source::Hosts, "", &[told], now).unwrap();
    assert_eq!(read.noise, 0);
}

/// A signed message of the engine.
pub fn message(
    key: &SigningKey,
    purpose: Purpose,
    subject: &str,
    body: &[u8],
    sequence: u64,
) -> Message {
    Message {
        sequence,
        subject: subject.to_owned(),
        key: key.public().to_string(),
        signature: STANDARD.encode(key.sign(purpose, body).unwrap()),
        body: STANDARD.encode(body),
    }
}

/// The engine: two streams and two buckets in memory.
pub struct Carrier {
    pub generation: u32,
    pub orders: Vec<Message>,
    pub events: Vec<Message>,
    /// What the engine has seen, by Nats-Msg-Id.
    seen: BTreeSet<String>,
    /// Hosts that cannot reach it.
    pub cut_off: BTreeSet<String>,
    /// The document of each rollout, and what it says of its driver.
    pub rollouts: BTreeMap<Ulid, (Mark, Message)>,
    pub places: BTreeMap<Ulid, (FleetHost, u64)>,
    /// Hosts that die when the engine has the documents of their rollouts, and nothing else.
    pub only_documents: BTreeSet<String>,
}

impl Default for Carrier {
    fn default() -> Self {
        Self {
            generation: 1,
            orders: Vec::new(),
            events: Vec::new(),
            seen: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            rollouts: BTreeMap::new(),
            places: BTreeMap::new(),
            only_documents: BTreeSet::new(),
        }
    }
}

impl Carrier {
    /// Loses all it has, and comes back empty.
    pub fn lose_all(&mut self) {
        self.generation += 1;
        self.orders.clear();
        self.events.clear();
        self.seen.clear();
        self.rollouts.clear();
        self.places.clear();
    }

    pub fn generations(&self) -> Generations {
        let generation = format!("made {}", self.generation);
        Generations {
            orders: generation.clone(),
            events: generation,
            last_order: self.orders.len() as u64,
            last_event: self.events.len() as u64,
        }
    }

    pub fn link(&self) -> LinkState {
        LinkState {
            connected: true,
            since: 1,
            error: None,
            is_clone: false,
            generations: self.generations(),
        }
    }

    /// What a host takes for the engine.
    pub fn take(&self, member: &TestMember, now: i64) -> Taken {
        let mut db = member.host.db();
        let key = member.controller.as_ref();
        outbox::take(&mut db, &member.name, key, &self.link(), 64, now).unwrap()
    }

    /// Publishes what was taken, without telling the host that it did.
    pub fn publish(&mut self, member: &TestMember, taken: &Taken) -> (Vec<SentOrder>, Option<i64>) {
        let mut sent = Vec::new();
        for order in &taken.orders {
            if self.seen.insert(format!("{}.{}", order.id, order.attempt)) {
                self.orders.push(Message {
                    sequence: self.orders.len() as u64 + 1,
                    subject: order.to.to_string(),
                    key: order.key.clone(),
                    signature: order.signature.clone(),
                    body: order.body.clone(),
                });
            }
            sent.push(SentOrder {
                id: order.id,
                attempt: order.attempt,
                sequence: self.orders.len() as u64,
            });
        }
        for event in &taken.events {
            if self.seen.insert(format!("{}:{}", member.name, event.seq)) {
                let sequence = self.events.len() as u64 + 1;
                let (body, subject) = (event.body.as_bytes(), member.name.as_str());
                self.events.push(message(
                    &member.key,
                    Purpose::Event,
                    subject,
                    body,
                    sequence,
                ));
            }
        }
        (sent, taken.events.last().map(|event| event.seq))
    }

    /// Brings a host what it has not read of a stream.
    pub fn deliver(&self, member: &TestMember, from: Source, after: u64, now: i64) -> Read {
        let stream = match from {
            Source::Orders => &self.orders,
            _ => &self.events,
        };
        let is_for = |message: &&Message| {
            message.sequence > after
                && (from == Source::Events || message.subject == member.name.as_str())
        };
        let messages: Vec<Message> = stream.iter().filter(is_for).take(64).cloned().collect();
        let generation = self.generations().orders;
        let mut db = member.host.db();
        read::deliver(
            &mut db,
            &member.accepting(),
            from,
            &generation,
            &messages,
            now,
        )
        .unwrap()
    }

    /// One turn of a host's left4me-link.
    pub fn turn(&mut self, member: &TestMember, now: i64) {
        if self.cut_off.contains(member.name.as_str()) {
            return;
        }
        let mut taken = self.take(member, now);
        loop {
            let rollouts = self.set_rollouts(member, &taken);
            let has_news = !rollouts.is_empty();
            let dies = has_news && self.only_documents.contains(member.name.as_str());
            let (orders, events) = match dies {
                true => (Vec::new(), None),
                false => self.publish(member, &taken),
            };
            self.set_places(&taken);
            let sent = Sent {
                orders: &orders,
                events,
                rollouts: &rollouts,
            };
            outbox::sent(&mut member.host.db(), &sent, &self.generations(), now).unwrap();
            if dies {
                self.cut_off.insert(member.name.to_string());
                return;
            }
            // What waited for the documents.
            if !has_news {
                break;
            }
            taken = self.take(member, now);
        }
        self.deliver(member, Source::Orders, taken.orders_after, now);
        if member.controller.is_some() {
            self.deliver(member, Source::Events, taken.events_after, now);
            self.deliver_buckets(member, now);
        }
    }

    /// Compares and sets, as left4me-link does. What the bucket has then.
    fn set_rollouts(&mut self, member: &TestMember, taken: &Taken) -> Vec<SentRollout> {
        let mut sent = Vec::new();
        for rollout in &taken.rollouts {
            let (id, epoch, version) = (rollout.id, rollout.epoch, rollout.version);
            let mark = Mark {
                driver: member.name.clone(),
                epoch,
                version,
            };
            let found = self.rollouts.get(&id).map(|(mark, _)| mark);
            match driving::may_replace(found, &mark, rollout.taken_from) {
                Replace::No => continue,
                Replace::Same => {}
                Replace::Yes => {
                    let document = &rollout.document;
                    let message = Message {
                        sequence: 1,
                        subject: id.to_string(),
                        key: document.key.clone(),
                        signature: document.signature.clone(),
                        body: STANDARD.encode(&document.body),
                    };
                    self.rollouts.insert(id, (mark, message));
                }
            }
            sent.push(SentRollout { id, epoch, version });
        }
        sent
    }

    fn set_places(&mut self, taken: &Taken) {
        for place in &taken.places {
            let found = self.places.get(&place.server);
            if found.is_none_or(|(_, epoch)| *epoch < place.epoch) {
                let value = (place.host.clone(), place.epoch);
                self.places.insert(place.server, value);
            }
        }
    }

    /// Brings a viewer what the buckets have.
    pub fn deliver_buckets(&self, member: &TestMember, now: i64) {
        let rollouts = self.rollouts.values().map(|(_, message)| message.clone());
        let places = self.places.iter().map(|(server, (host, epoch))| Message {
            sequence: 1,
            subject: server.to_string(),
            key: String::new(),
            signature: String::new(),
            body: STANDARD.encode(format!("{{\"host\":\"{host}\",\"epoch\":{epoch}}}")),
        });
        let (rollouts, places): (Vec<_>, Vec<_>) = (rollouts.collect(), places.collect());
        for (from, messages) in [(Source::Rollouts, rollouts), (Source::Places, places)] {
            let mut db = member.host.db();
            let host = member.accepting();
            let read = read::deliver(&mut db, &host, from, "", &messages, now).unwrap();
            assert_eq!(read.noise, 0, "{from:?}");
        }
    }

    /// Turns of all hosts, until all is told.
    pub fn carry(&mut self, members: &[TestMember], now: i64) {
        for _ in 0..4 {
            for member in members {
                self.turn(member, now);
            }
        }
    }
}
