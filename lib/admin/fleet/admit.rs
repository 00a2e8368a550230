//! `left4me fleet admit`: takes a host in, and prints its ticket.

use super::super::{Context, hint};
use super::files;
use super::operator::Operator;
use super::own;
use super::ticket::Ticket;
use crate::base::fleet::controllers;
use crate::base::keys::{PublicKey, SealKey};
use crate::base::names::FleetHost;
use crate::base::{Error, Result, output};
use crate::domain::fleet::jwt;
use crate::domain::fleet::permissions::Role;
use crate::domain::fleet::roster::Member;
use crate::queue::wake;

const EXAMPLES: &str = "\
Examples:
  left4me fleet admit ams-1 UDB3…Q XBK7…4 --label region=eu > ams-1.ticket
  left4me fleet admit ams-1 UDB3…Q XBK7…4 --role view

`left4me fleet join ams-1` on that host prints the keys; `left4me fleet join ams-1 --ticket FILE` there
takes the ticket. The ticket holds no secret, but it says whose orders the host obeys: root brings it there.";

/// Admit a host to the fleet and print its ticket
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::admin) struct AdmitArgs {
    /// The host's name
    host: FleetHost,
    /// Its public key, as `left4me fleet join` prints it there
    key: PublicKey,
    /// Its public key for sealing
    seal_key: SealKey,
    /// What is known of the host, for placing servers
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// view: it is told of all hosts; control: it may send orders, too
    #[arg(long, default_value = "host", value_parser = ["host", "view", "control"])]
    role: String,
    /// How many servers it takes [default: as many as it has ports for]
    #[arg(long, value_name = "N")]
    capacity: Option<u32>,
}

/// Reads KEY=VALUE.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let is_word = |text: &str| {
        (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match text.split_once('=') {
        Some((key, value)) if is_word(key) && is_word(value) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err("KEY=VALUE of letters, digits, '-', '_' and '.' is needed".to_owned()),
    }
}

pub(in crate::admin) fn run(context: &Context, args: &AdmitArgs) -> Result<()> {
    let directory = &context.fleet.fleet_dir;
    let mut operator = Operator::read(directory)?;
    let role = Role::parse(&args.role).unwrap_or(Role::Host);
    if operator.book.revoked.contains_key(&args.key) {
        return Err(Error::conflict(format!(
            "this key was expelled: remove host.seed on {} and make another one with `left4me fleet join`",
            args.host
        )));
    }
    let taken = operator.book.roster.hosts.iter().find(|member| {
        member.expelled_at.is_none()
            && (member.name == args.host) != (member.key == args.key)
            && (member.name == args.host || member.key == args.key)
    });
    if let Some(member) = taken {
        return Err(Error::conflict(format!(
            "{} is in the fleet with another name or key; `left4me fleet expel {}` first",
            member.name, member.name
        )));
    }
    let mut roster = operator.book.roster.hosts.iter();
    let before = roster.find(|member| member.key == args.key && member.expelled_at.is_none());
    let had = before.and_then(|member| {
        member
            .roles
            .iter()
            .filter_map(|role| Role::parse(role))
            .max()
    });
    if let Some(had) = had.filter(|had| *had > role) {
        return Err(Error::conflict(format!(
            "{} has the role {had}, and its ticket stays good: `left4me fleet expel {}` first, and admit \
             it with another key",
            args.host, args.host
        )));
    }

    let member = Member {
        name: args.host.clone(),
        key: args.key.clone(),
        seal_key: args.seal_key.clone(),
        labels: args.labels.iter().cloned().collect(),
        roles: match role {
            Role::Host => Vec::new(),
            role => vec![role.to_string()],
        },
        admitted_at: context.now,
        expelled_at: None,
    };
    let ticket = Ticket {
        v: 1,
        fleet: operator.book.roster.fleet.clone(),
        host: args.host.clone(),
        engine: operator.book.engine.clone(),
        ca: files::read(&directory.join("ca.pem"))?.unwrap_or_default(),
        jwt: jwt::host(
            &operator.roles[&role],
            &operator.account.public(),
            &args.host,
            &args.key,
            context.now,
        )?,
        roles: member.roles.clone(),
        controllers: controllers(directory)?
            .into_iter()
            .filter_map(|(name, key)| Some((name.parse().ok()?, key)))
            .collect(),
        capacity: args.capacity,
    };

    let roster = &mut operator.book.roster;
    roster.hosts.retain(|other| other.name != member.name);
    roster.hosts.push(member);
    roster.hosts.sort_by(|one, other| one.name.cmp(&other.name));
    operator.book.renew_roster(context.now);
    operator.save(&own::controller_key(directory)?)?;
    wake::link(&context.fleet.link_socket);

    let text = serde_json::to_string(&ticket)
        .map_err(|error| Error::failed(format!("the ticket: {error}")))?;
    output::line(&text)?;
    hint(&format!(
        "admitted {}; there, root runs `left4me fleet join {} --ticket FILE` with this line",
        args.host, args.host
    ));
    Ok(())
}
