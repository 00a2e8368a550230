//! `left4me alert`: adds, tests, lists, mutes and removes alerts.

mod client;
mod deliver;

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::path::Path;

use clap::{Args, Subcommand};

use super::{Context, ListArgs, hint, print_list, when};
use crate::base::names::{AlertName, ServerId, ServerRef};
use crate::base::{Error, Result, clock, output, text};
use crate::db::alerts::{self, Alert, NewAlert};
use crate::db::servers;
use crate::domain::alert::{AlertClass, Answer, Channel, Delivery, Target, message};
use crate::domain::duration;

const EXAMPLES: &str = "\
Examples:
  left4me alert add ops --discord - --events crash,unresponsive    asks for the URL, which is a secret
  left4me alert add phone --ntfy https://ntfy.sh/my-secret-topic --server Friday
  left4me alert add admins --mail admins@example.org --events update,disk
  left4me alert test ops
  left4me alert mute ops --for 2h
  left4me alert list";

/// The longest destination that standard input may have, in bytes.
const LONGEST: u64 = 4096;

#[derive(Subcommand)]
pub(super) enum AlertVerb {
    /// Add an alert
    #[command(after_help = EXAMPLES)]
    Add(AddArgs),
    /// Send a message now, and show what came of it
    Test(NameArgs),
    /// List alerts, without their secrets
    List(ListArgs),
    /// Send nothing for a while; what happens meanwhile is not sent later either
    Mute(MuteArgs),
    /// End a mute before its time
    Unmute(NameArgs),
    /// Remove an alert
    Remove(NameArgs),
    /// Deliver what waits. left4me-alerts.service runs it
    #[command(hide = true)]
    Deliver,
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// A name, unique among the alerts
    name: AlertName,
    #[command(flatten)]
    to: To,
    /// Classes of events [default: all]: crash, drift, unresponsive, job-failed, update, disk, fleet
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    events: Vec<AlertClass>,
    /// Only this server, by name or id; may be repeated [default: all servers]
    #[arg(long, value_name = "S")]
    server: Vec<ServerRef>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

// Any text is taken here: a refusal by clap would repeat it, and it is a secret.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct To {
    /// URL of a Discord channel's webhook; `-` asks for it, or reads standard input
    #[arg(long, value_name = "URL")]
    discord: Option<String>,
    /// URL that takes a JSON document; `-` asks for it, or reads standard input
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// URL of a topic of an ntfy server; `-` asks for it, or reads standard input
    #[arg(long, value_name = "URL")]
    ntfy: Option<String>,
    /// Mail address
    #[arg(long, value_name = "ADDRESS")]
    mail: Option<String>,
}

#[derive(Args)]
pub(super) struct NameArgs {
    /// The alert's name
    name: AlertName,
}

#[derive(Args)]
pub(super) struct MuteArgs {
    /// The alert's name
    name: AlertName,
    /// How long: a duration such as 30m, 2h or 1d12h
    #[arg(long = "for", value_name = "DURATION", value_parser = mute_time)]
    duration: i64,
}

pub(super) fn run(context: &Context, verb: AlertVerb) -> Result<()> {
    match verb {
        AlertVerb::Add(args) => add(context, &args),
        AlertVerb::Test(args) => test(context, &args.name),
        AlertVerb::List(args) => list(context, &args),
        AlertVerb::Mute(args) => mute(context, &args),
        AlertVerb::Unmute(args) => unmute(context, &args.name),
        AlertVerb::Remove(args) => remove(context, &args.name),
        AlertVerb::Deliver => deliver::run(context),
    }
}

fn add(context: &Context, args: &AddArgs) -> Result<()> {
    let target = args.to.target()?;
    let classes = match args.events.as_slice() {
        [] => AlertClass::ALL.to_vec(),
        some => in_order(some),
    };

    let alert = context.db()?.write(|tx| {
        let mut servers = Vec::new();
        for server in &args.server {
            servers.push(servers::find(tx, server)?.id);
        }
        servers.sort_unstable();
        servers.dedup();
        let new = NewAlert {
            name: &args.name,
            target: &target,
            classes: &classes,
            servers: &servers,
        };
        alerts::create(tx, context.now, &context.actor, &new)
    })?;

    if let Some(private) = target.private_address() {
        hint(&format!(
            "{private} is an address of this host or of a private network; \
             {}",
            crate::domain::alert::target::ALLOW_PRIVATE
        ));
    }
    if args.json {
        return output::json(&alert);
    }
    output::line(&format!(
        "alert '{}' added; try it with `left4me alert test {}`",
        alert.name,
        quoted(&alert.name)
    ))
}

/// The classes as they are declared, each once.
fn in_order(classes: &[AlertClass]) -> Vec<AlertClass> {
    let all = AlertClass::ALL.into_iter();
    all.filter(|class| classes.contains(class)).collect()
}

/// A name as an argument of a shell.
fn quoted(name: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.bytes().all(is_plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

impl To {
    fn target(&self) -> Result<Target> {
        let given = [
            (Channel::Discord, &self.discord),
            (Channel::Webhook, &self.webhook),
            (Channel::Ntfy, &self.ntfy),
            (Channel::Mail, &self.mail),
        ];
        let given = given
            .into_iter()
            .find_map(|(channel, value)| Some((channel, value.as_deref()?)));
        let (channel, value) =
            given.ok_or_else(|| Error::usage("a destination is needed, such as --discord URL"))?;

        let read;
        let value = match value {
            "-" => {
                read = ask()?;
                read.as_str()
            }
            given => given,
        };
        Ok(Target::new(channel, value)?)
    }
}

/// Reads a destination: standard input, or a prompt that does not show it.
fn ask() -> Result<String> {
    if std::io::stdin().is_terminal() {
        Ok(rpassword::prompt_password("URL (not shown): ")?)
    } else {
        text::read(Path::new("-"), LONGEST)
    }
}

/// Sends directly, without the outbox: the answer is the output.
fn test(context: &Context, name: &AlertName) -> Result<()> {
    let mut db = context.db()?;
    let to = alerts::target(db.connection(), name)?;
    let masked = to.masked();
    let delivery = Delivery {
        to,
        message: message::test(name.as_str(), &deliver::this_host()),
    };

    let failed = |why: &str| format!("alert '{name}': {masked}: {why}");
    match client::deliver(&context.notify_socket, &delivery)? {
        Answer::Sent(said) => {
            db.write(|tx| alerts::works(tx, name))?;
            output::line(&format!("sent to {masked}: {said}"))
        }
        Answer::Refused(why) => Err(Error::failed(failed(&why))),
        Answer::Retry { why, after: None } => Err(Error::unavailable(failed(&why))),
        Answer::Retry {
            why,
            after: Some(after),
        } => Err(Error::unavailable(failed(&format!(
            "{why}; it asks to wait for {}",
            clock::span(after)
        )))),
    }
}

fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let db = context.db()?;
    let alerts = alerts::all(db.connection())?;
    let names: HashMap<ServerId, String> = servers::all(db.connection())?
        .into_iter()
        .map(|server| (server.id, server.name.to_string()))
        .collect();

    let server = |id: &ServerId| names.get(id).cloned().unwrap_or_else(|| id.to_string());
    print_list(
        &alerts,
        args.json,
        "no alerts yet: `left4me alert add NAME --discord URL` adds one",
        [
            "NAME",
            "DESTINATION",
            "EVENTS",
            "SERVERS",
            "MUTED UNTIL",
            "WAITING",
            "LAST ERROR",
        ],
        &["MUTED UNTIL"],
        |alert| {
            [
                alert.name.clone(),
                format!("{} {}", alert.kind, alert.destination),
                events(alert),
                match alert.servers.as_slice() {
                    [] => "all".to_owned(),
                    some => some.iter().map(server).collect::<Vec<_>>().join(", "),
                },
                when(alert.muted_until.filter(|until| *until > context.now)),
                alert.pending.to_string(),
                alert.last_error.clone().unwrap_or_default(),
            ]
        },
    )
}

fn events(alert: &Alert) -> String {
    if alert.events.len() == AlertClass::ALL.len() {
        return "all".to_owned();
    }
    let words: Vec<&str> = alert.events.iter().map(|class| class.as_str()).collect();
    words.join(",")
}

fn mute(context: &Context, args: &MuteArgs) -> Result<()> {
    let until = context.now.saturating_add(args.duration);
    context
        .db()?
        .write(|tx| alerts::mute(tx, context.now, &context.actor, &args.name, Some(until)))?;
    output::line(&format!(
        "alert '{}' is muted until {}",
        args.name,
        clock::local(until)
    ))
}

fn unmute(context: &Context, name: &AlertName) -> Result<()> {
    context
        .db()?
        .write(|tx| alerts::mute(tx, context.now, &context.actor, name, None))?;
    output::line(&format!("alert '{name}' is not muted"))
}

fn remove(context: &Context, name: &AlertName) -> Result<()> {
    context
        .db()?
        .write(|tx| alerts::remove(tx, context.now, &context.actor, name))?;
    output::line(&format!("alert '{name}' removed"))
}

/// A duration of up to a year, in ms.
fn mute_time(text: &str) -> Result<i64, String> {
    let ms = duration::parse(text).filter(|ms| (1..=366 * 86_400_000).contains(ms));
    ms.ok_or_else(|| {
        "a duration in s, m, h or d is needed, up to 366d, as in 2h or 1d12h".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mute_lasts_up_to_a_year() {
        assert_eq!(mute_time("90s"), Ok(90_000));
        assert_eq!(mute_time("1d12h"), Ok(36 * 3_600_000));
        assert_eq!(mute_time("366d"), Ok(366 * 86_400_000));
        for bad in ["", "2", "0s", "367d", "2 weeks"] {
            assert!(mute_time(bad).is_err(), "{bad}");
        }
    }
}
