//! `left4me fleet init`: makes a fleet, on the host that will control it; later, changes its engine as
//! this version wants it.

use std::path::Path;

use super::super::{Context, hint};
use super::certificates;
use super::files::{self, PUBLIC, SECRET};
use super::operator::{Book, Operator};
use super::own;
use crate::base::fleet::Fleet;
use crate::base::names::FleetHost;
use crate::base::{Error, Result, output};
use crate::domain::fleet::engine_conf::{self, Accounts, Node, PORTS, Places};
use crate::domain::fleet::jwt;
use crate::domain::fleet::permissions::Role;
use crate::domain::fleet::roster::{Member, Roster};
use crate::queue::wake;
use crate::wire::link::{Administered, Call};

const EXAMPLES: &str = "\
Examples:
  left4me fleet init home --host fra-1 --engine 10.0.0.11 --engine 10.0.0.12 --engine 10.0.0.13
  left4me fleet init                    afterwards, when the engine runs; and after each upgrade

The first one makes the keys of the fleet and, for each node of the engine, a directory in
/etc/left4me/fleet/engine with its configuration, its certificate and install.sh, which root runs on that
node. The second one makes the streams.";

/// Make a fleet on this host, or bring its engine up to date
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::admin) struct InitArgs {
    /// The fleet's name
    #[arg(requires = "host", requires = "engine")]
    name: Option<FleetHost>,
    /// This host's name in the fleet; it becomes the first controller
    #[arg(long, value_name = "HOST", requires = "name")]
    host: Option<FleetHost>,
    /// A node of the engine: ADDRESS, ADDRESS:PORT or ADDRESS:PORT:CLUSTER_PORT; once, or three times
    #[arg(long, value_name = "ADDRESS", requires = "name", value_parser = endpoint)]
    engine: Vec<Endpoint>,
    /// What is known of this host, as KEY=VALUE
    #[arg(long = "label", value_name = "KEY=VALUE", requires = "name", value_parser = super::admit::label)]
    labels: Vec<(String, String)>,
    /// Where each node keeps its certificate [default: /etc/left4me-engine]
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/etc/left4me-engine",
        hide = true
    )]
    node_tls: String,
    /// Where each node keeps its data [default: /var/lib/nats-server]
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/var/lib/nats-server",
        hide = true
    )]
    node_data: String,
}

/// Where a node listens.
#[derive(Clone, Debug)]
struct Endpoint {
    address: String,
    ports: (u16, u16),
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let mut parts = text.split(':');
    let address = parts.next().unwrap_or_default().to_owned();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if address.is_empty() || !address.chars().all(is_name) {
        return Err("an IPv4 address or a DNS name is needed".to_owned());
    }
    let mut port = |default| match parts.next() {
        None => Ok(default),
        Some(port) => port
            .parse()
            .map_err(|_| format!("'{port}' is not a port: 1 to 65535 is needed")),
    };
    let ports = (port(PORTS.0)?, port(PORTS.1)?);
    match parts.next() {
        None => Ok(Endpoint { address, ports }),
        Some(_) => Err("ADDRESS:PORT:CLUSTER_PORT is needed".to_owned()),
    }
}

pub(in crate::admin) fn run(context: &Context, args: &InitArgs) -> Result<()> {
    let directory = &context.fleet.fleet_dir;
    if let (Some(name), Some(host)) = (&args.name, &args.host) {
        make(context, args, name, host)?;
        own::start_units(directory)?;
    }
    let operator = Operator::read(directory)?;
    match prepare_engine(context, &operator) {
        Ok(text) => {
            // It may be waiting for the streams.
            wake::link(&context.fleet.link_socket);
            output::line(&text)
        }
        // The nodes have just got their configuration.
        Err(error) if args.name.is_some() => {
            hint(&format!(
                "next, run install.sh of each directory in {} on its node as root, then `left4me fleet \
                 init` here ({error})",
                directory.join("engine").display()
            ));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Makes everything that is a file.
fn make(context: &Context, args: &InitArgs, name: &FleetHost, host: &FleetHost) -> Result<()> {
    let directory = &context.fleet.fleet_dir;
    if Operator::exists(directory) {
        return Err(Error::conflict(format!(
            "this host has made a fleet already; {} is its directory",
            directory.join("operator").display()
        )));
    }
    if Fleet::read(directory)?.is_some() {
        return Err(Error::conflict(format!(
            "this host belongs to a fleet already: {}",
            directory.join("fleet.json").display()
        )));
    }
    if !matches!(args.engine.len(), 1 | 3) {
        return Err(Error::usage(
            "an engine has one node or three: pass --engine once or three times",
        ));
    }

    let nodes = nodes(&args.engine);
    let keys = own::keys(directory)?;
    let controller = own::controller_key(directory)?;
    let member = Member {
        name: host.clone(),
        key: keys.key.clone(),
        seal_key: keys.seal_key.clone(),
        labels: args.labels.iter().cloned().collect(),
        roles: vec![Role::Control.to_string()],
        admitted_at: context.now,
        expelled_at: None,
    };
    let book = Book {
        engine: nodes
            .iter()
            .map(|node| format!("tls://{}:{}", node.address, node.port))
            .collect(),
        roster: Roster {
            v: crate::domain::fleet::VERSION,
            // Newer than those of a fleet to which these hosts belonged before.
            version: context.now,
            fleet: name.to_string(),
            hosts: vec![member],
        },
        revoked: std::collections::BTreeMap::new(),
        account_at: context.now / 1000,
    };
    let operator = Operator::generate(directory, book)?;
    write_engine(context, args, &operator, name, &nodes)?;

    own::trust(directory, host.as_str(), &controller.public())?;
    let jwt = jwt::host(
        &operator.roles[&Role::Control],
        &operator.account.public(),
        host,
        &keys.key,
        context.now,
    )?;
    files::write(&directory.join("host.jwt"), PUBLIC, &format!("{jwt}\n"))?;
    let fleet = Fleet {
        v: 1,
        fleet: name.to_string(),
        host: host.clone(),
        key: keys.key,
        seal_key: keys.seal_key,
        engine: operator.book.engine.clone(),
        roles: vec![Role::Control.to_string()],
        capacity: None,
    };
    // From here on it is one: the operator's own list is written last but one.
    operator.save(&controller)?;
    own::write_fleet(directory, &fleet)?;
    output::line(&format!("made the fleet {name} with the controller {host}"))
}

fn nodes(engine: &[Endpoint]) -> Vec<Node> {
    let node = |(index, endpoint): (usize, &Endpoint)| Node {
        name: format!("engine-{}", index + 1),
        address: endpoint.address.clone(),
        port: endpoint.ports.0,
        cluster_port: endpoint.ports.1,
    };
    engine.iter().enumerate().map(node).collect()
}

/// Writes a directory for each node.
fn write_engine(
    context: &Context,
    args: &InitArgs,
    operator: &Operator,
    name: &FleetHost,
    nodes: &[Node],
) -> Result<()> {
    let directory = &context.fleet.fleet_dir;
    let authority = certificates::make_authority(name.as_str())?;
    files::write(&operator.directory().join("ca.key"), SECRET, &authority.key)?;
    files::write(&directory.join("ca.pem"), PUBLIC, &authority.certificate)?;

    let (system, account) = (operator.system.public(), operator.account.public());
    let system_jwt = jwt::system_account(&operator.operator, &system, context.now)?;
    let account_jwt = operator.account_jwt(context.now)?;
    let operator_jwt = jwt::operator(&operator.operator, name.as_str(), &system, context.now)?;
    let accounts = Accounts {
        operator: &operator_jwt,
        system: (&system, &system_jwt),
        fleet: (&account, &account_jwt),
    };

    let engine = directory.join("engine");
    files::directory(&engine, 0o700)?;
    for (index, node) in nodes.iter().enumerate() {
        let to = engine.join(&node.name);
        files::directory(&to, 0o700)?;
        let places = Places {
            tls: &args.node_tls.replace("NODE", &node.name),
            data: &args.node_data.replace("NODE", &node.name),
        };
        let certificate =
            certificates::make_node(name.as_str(), &authority.key, &node.name, &node.address)?;
        let conf = engine_conf::conf(name.as_str(), nodes, index, &places, &accounts);
        write_node(&to, &conf, &authority.certificate, &certificate)?;
    }
    Ok(())
}

fn write_node(
    to: &Path,
    conf: &str,
    authority: &str,
    certificate: &certificates::Certificate,
) -> Result<()> {
    for (name, mode, text) in [
        ("nats-server.conf", PUBLIC, conf),
        ("ca.pem", PUBLIC, authority),
        ("cert.pem", PUBLIC, &certificate.certificate),
        ("key.pem", SECRET, &certificate.key),
        ("left4me.conf", PUBLIC, engine_conf::DROP_IN),
        ("install.sh", 0o755, engine_conf::INSTALL),
    ] {
        files::write(&to.join(name), mode, text)?;
    }
    Ok(())
}

/// Tells the running engine who may do what, and makes its streams.
fn prepare_engine(context: &Context, operator: &Operator) -> Result<String> {
    operator.push_account(context.now)?;
    let replicas = operator.replicas();
    let Administered::Made { made, changed } =
        operator.call(Call::Make { replicas }, context.now)?
    else {
        return Err(Error::failed(
            "left4me-link gave another answer than asked for",
        ));
    };
    Ok(match (made.is_empty(), changed.is_empty()) {
        (true, true) => "the engine has everything".to_owned(),
        (false, true) => format!("the engine has new streams: {}", made.join(", ")),
        (true, false) => format!("the engine's streams changed: {}", changed.join(", ")),
        (false, false) => format!(
            "the engine has new streams: {}; others changed: {}",
            made.join(", "),
            changed.join(", ")
        ),
    })
}
