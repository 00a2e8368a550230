//! `left4me fleet check`: whether this host, and the engine, are as a fleet needs them.

use super::super::Context;
use super::files;
use super::operator::Operator;
use crate::base::fleet::{Fleet, controllers};
use crate::base::{Error, Result, output};
use crate::domain::fleet::engine_conf;
use crate::domain::fleet::jwt;
use crate::wire::link::{Administered, Call, EngineNode, EngineObject};

/// Check this host's files, and, on the host that made the fleet, the engine
///
/// Prints one line for each thing that is looked at; fails with 1 if one is not as it should be.
#[derive(clap::Args)]
pub(in crate::admin) struct CheckArgs {}

struct Report {
    bad: u32,
}

impl Report {
    fn line(&mut self, what: &str, problems: &[String]) -> Result<()> {
        self.bad += u32::from(!problems.is_empty());
        match problems.is_empty() {
            true => output::line(&format!("ok       {what}")),
            false => output::line(&format!("problem  {what}: {}", problems.join("; "))),
        }
    }
}

pub(in crate::admin) fn run(context: &Context, _args: &CheckArgs) -> Result<()> {
    let directory = &context.fleet.fleet_dir;
    let mut report = Report { bad: 0 };
    own(context, &mut report)?;
    if Operator::exists(directory) {
        engine(context, &Operator::look(directory)?, &mut report)?;
    }
    match report.bad {
        0 => Ok(()),
        bad => Err(Error::failed(format!(
            "{bad} things are not as they should be"
        ))),
    }
}

/// This host's own files.
fn own(context: &Context, report: &mut Report) -> Result<()> {
    let directory = &context.fleet.fleet_dir;
    let Some(fleet) = Fleet::read(directory)? else {
        return Err(Error::not_found(
            "this host belongs to no fleet: `left4me fleet join` makes it a part of one",
        ));
    };

    let mut problems = Vec::new();
    let jwt = files::read(&directory.join("host.jwt"))?.unwrap_or_default();
    if jwt::subject(&jwt).as_deref() != Some(fleet.key.as_str()) {
        problems.push("host.jwt is missing, or for another key: admit this host again".to_owned());
    }
    if !directory.join("ca.pem").exists() {
        problems.push("ca.pem is missing: join again".to_owned());
    }
    for name in ["host.seed", "host.xseed"] {
        if !directory.join(name).exists() {
            problems.push(format!("{name} is missing: join again"));
        }
    }
    report.line(
        &format!("{} in the fleet {}", fleet.host, fleet.fleet),
        &problems,
    )?;

    let known = controllers(directory)?;
    let names: Vec<_> = known.keys().map(String::as_str).collect();
    let problems = match names.is_empty() {
        true => vec![format!(
            "none: this host obeys no orders until root writes a key to {}/controllers/NAME",
            directory.display()
        )],
        false => Vec::new(),
    };
    report.line(&format!("controllers: {}", names.join(", ")), &problems)
}

fn engine(context: &Context, operator: &Operator, report: &mut Report) -> Result<()> {
    let nodes = operator.call(Call::Nodes {}, context.now);
    let Administered::Nodes { nodes } = nodes? else {
        return Err(Error::failed(
            "left4me-link gave another answer than asked for",
        ));
    };
    for node in &nodes {
        report.line(
            &format!("node {} with nats-server {}", node.name, node.version),
            &of_node(node),
        )?;
    }
    let expected = operator.book.engine.len();
    if nodes.len() < expected {
        let problem = format!("only {} of {expected} are up", nodes.len());
        report.line("nodes", &[problem])?;
    }

    let replicas = operator.replicas();
    let objects = operator.call(Call::Look { replicas }, context.now)?;
    let Administered::Objects { objects } = objects else {
        return Err(Error::failed(
            "left4me-link gave another answer than asked for",
        ));
    };
    for object in &objects {
        let leader = object.leader.as_deref().unwrap_or("none");
        report.line(
            &format!(
                "{}, {} messages, led by {leader}",
                object.name, object.messages
            ),
            &of_object(object),
        )?;
    }
    Ok(())
}

fn of_node(node: &EngineNode) -> Vec<String> {
    let mut problems = Vec::new();
    if !engine_conf::is_new_enough(&node.version) {
        problems.push("nats-server 2.10.27 or later is needed: Debian 13 has it".to_owned());
    }
    if !node.syncs {
        problems.push(
            "a power cut loses what it acknowledged: set `sync_interval: always` in nats-server.conf"
                .to_owned(),
        );
    }
    if node.used.saturating_mul(10) > node.room.saturating_mul(9) {
        problems.push(format!("{} of {} bytes are used", node.used, node.room));
    }
    problems
}

fn of_object(object: &EngineObject) -> Vec<String> {
    if !object.exists {
        return vec!["missing: `left4me fleet init` makes it".to_owned()];
    }
    let mut problems = object.differences.clone();
    if !problems.is_empty() {
        problems.push("`left4me fleet init` changes that".to_owned());
    }
    if !object.behind.is_empty() {
        problems.push(format!("{} is behind or away", object.behind.join(", ")));
    }
    problems
}
