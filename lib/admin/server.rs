//! `left4me server`: creates, lists, shows, assigns and removes servers. What talks to a running
//! game has a file per verb in server/.

mod exec;
mod game;
mod map;
mod moderate;
mod players;
mod rotate;
mod say;

use clap::{Args, Subcommand};
use rusqlite::Connection;
use serde::Serialize;

use super::owner::owner;
use super::{Context, facts, hint, history, server_set, when};
use crate::base::names::{BlueprintId, BlueprintRef, ServerName, ServerRef, UserId, UserName};
use crate::base::size::size;
use crate::base::table::{Table, Tone};
use crate::base::{Error, Exit, Result, clock, output};
use crate::db::servers::{self, NewServer, Server};
use crate::db::stale::{self, FoundStale};
use crate::db::{Db, blueprints, poll, samples, schedules, users};
use crate::domain::game::Responding;
use crate::domain::history::peak;
use crate::domain::server::{ActualState, DesiredState};

/// How many stale files `show` names. `--json` has more of them.
const STALE_SHOWN: usize = 20;

const EXAMPLES: &str = "\
Examples:
  left4me server create Friday --blueprint versus              takes the lowest free port
  left4me server create Sunday --blueprint versus --user anna --port 27015
  left4me server assign Friday --blueprint coop
  left4me-job enqueue start --server Friday --follow
  left4me server history Friday
  left4me-job enqueue delete --server Friday --wait && left4me server remove Friday";

#[derive(Subcommand)]
pub(super) enum ServerVerb {
    /// Create a server, without starting it
    #[command(after_help = EXAMPLES)]
    Create(ServerCreateArgs),
    /// List servers
    List(ServerListArgs),
    /// Show a server: desired state, actual state and drift
    Show(ServerShowArgs),
    /// Show what happened to a server, newest first
    #[command(after_help = history::EXAMPLES)]
    History(history::HistoryArgs),
    /// List who plays on a running server
    #[command(after_help = players::EXAMPLES)]
    Players(players::PlayersArgs),
    /// Send a command to a running game's console
    #[command(after_help = exec::EXAMPLES)]
    Exec(exec::ExecArgs),
    /// Say a text to all players
    Say(say::SayArgs),
    /// Change the map
    Map(map::MapArgs),
    /// Remove a player from a running game
    #[command(after_help = moderate::EXAMPLES)]
    Kick(moderate::KickArgs),
    /// Ban a player's Steam account from a server, and remove the player from the game
    #[command(after_help = moderate::EXAMPLES)]
    Ban(moderate::BanArgs),
    /// Lift a ban
    #[command(after_help = moderate::EXAMPLES)]
    Unban(moderate::UnbanArgs),
    /// Request a new RCON password, for the server's next start
    #[command(after_help = rotate::EXAMPLES)]
    RotateRcon(rotate::RotateArgs),
    /// Change a setting of a server
    #[command(after_help = server_set::EXAMPLES)]
    Set(server_set::SetArgs),
    /// Assign another blueprint of its owner to a server
    Assign(AssignArgs),
    /// Remove a server whose files are deleted
    #[command(after_help = EXAMPLES)]
    Remove(RemoveArgs),
}

#[derive(Args)]
pub(super) struct ServerCreateArgs {
    /// Display name, unique among the user's servers
    name: ServerName,
    /// Name or id of its blueprint
    #[arg(long, value_name = "B")]
    blueprint: BlueprintRef,
    /// Owner [default: the left4me user named like the caller, else the only user]
    #[arg(long, value_name = "U")]
    user: Option<UserName>,
    /// Port [default: the lowest free port of LEFT4ME_PORT_RANGE]
    #[arg(long, value_name = "P")]
    port: Option<u16>,
    /// Print the server as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ServerListArgs {
    /// Only servers of this user
    #[arg(long, value_name = "U")]
    user: Option<UserName>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ServerShowArgs {
    /// The server's name or id
    server: ServerRef,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct AssignArgs {
    /// The server's name or id
    server: ServerRef,
    /// Name or id of the blueprint
    #[arg(long, value_name = "B")]
    blueprint: BlueprintRef,
}

#[derive(Args)]
pub(super) struct RemoveArgs {
    /// The server's name or id
    server: ServerRef,
}

pub(super) fn run(context: &Context, verb: ServerVerb) -> Result<()> {
    match verb {
        ServerVerb::Create(args) => create(context, &args),
        ServerVerb::List(args) => list(context, &args),
        ServerVerb::Show(args) => show(context, &args),
        ServerVerb::History(args) => history::run(context, &args),
        ServerVerb::Players(args) => players::run(context, &args),
        ServerVerb::Exec(args) => exec::run(context, &args),
        ServerVerb::Say(args) => say::run(context, &args),
        ServerVerb::Map(args) => map::run(context, &args),
        ServerVerb::Kick(args) => moderate::kick(context, &args),
        ServerVerb::Ban(args) => moderate::ban(context, &args),
        ServerVerb::Unban(args) => moderate::unban(context, &args),
        ServerVerb::RotateRcon(args) => rotate::run(context, &args),
        ServerVerb::Set(args) => server_set::run(context, &args),
        ServerVerb::Assign(args) => assign(context, &args),
        ServerVerb::Remove(args) => remove(context, &args.server),
    }
}

fn create(context: &Context, args: &ServerCreateArgs) -> Result<()> {
    let server = context.db()?.write(|tx| {
        let user = owner(tx, args.user.as_ref(), &context.actor)?.id;
        let blueprint = blueprint_of(tx, &args.blueprint, user)?;
        let new = NewServer {
            user,
            name: &args.name,
            blueprint,
            port: args.port,
        };

        servers::create(tx, context.now, &context.actor, &new, context.port_range)
    })?;

    if args.json {
        return output::json(&server);
    }

    let Server {
        id,
        name,
        port,
        user,
        ..
    } = &server;

    output::line(&format!(
        "server {id} '{name}' of '{user}' created on port {port}; \
         start it with `left4me-job enqueue start --server {id}`"
    ))
}

/// A name is looked up among the user's own blueprints; for an id, the store checks the owner.
fn blueprint_of(
    connection: &Connection,
    blueprint: &BlueprintRef,
    user: UserId,
) -> Result<BlueprintId> {
    let among = match blueprint {
        BlueprintRef::Id(_) => None,
        BlueprintRef::Name(_) => Some(user),
    };
    Ok(blueprints::find(connection, blueprint, among)?.id)
}

fn list(context: &Context, args: &ServerListArgs) -> Result<()> {
    let db = context.db()?;
    let servers = match &args.user {
        Some(name) => servers::of_user(db.connection(), users::find(db.connection(), name)?.id)?,
        None => servers::all(db.connection())?,
    };

    if args.json {
        return output::json(&servers);
    }

    if servers.is_empty() {
        hint("no servers yet: create one with `left4me server create NAME --blueprint B`");
    } else {
        table(servers, context.now).print()?;
    }

    if let Some(error) = poll::last(db.connection())?.error {
        hint(&format!("the actual states are unknown: {error}"));
    }

    for orphan in poll::orphans(db.connection())? {
        hint(&orphan.message());
    }

    Ok(())
}

fn table(servers: Vec<Server>, now: i64) -> Table {
    let mut table = Table::new([
        "ID",
        "NAME",
        "USER",
        "PORT",
        "BLUEPRINT",
        "DESIRED",
        "ACTUAL",
        "PLAYERS",
        "MAP",
        "DRIFT",
        "LAST ERROR",
    ]);

    for server in servers {
        let tone = tone(&server);
        let players = match (server.occupancy(), server.responding) {
            (Some(occupancy), _) => occupancy,
            (None, Some(Responding::No)) => "no answer".to_owned(),
            (None, _) => String::new(),
        };
        let plain = |text: String| (text, Tone::Plain);
        let drift = server.drift.as_ref().map_or_else(String::new, |drift| {
            format!(
                "{} for {}: {}",
                drift.kind,
                clock::span(now - drift.since),
                drift.why
            )
        });

        table.toned([
            plain(server.id.to_string()),
            plain(server.name),
            plain(server.user),
            plain(server.port.to_string()),
            plain(server.blueprint),
            plain(server.desired_state.to_string()),
            (server.actual_state.to_string(), tone),
            plain(players),
            plain(server.map.unwrap_or_default()),
            (drift, Tone::Warning),
            plain(server.last_error.unwrap_or_default()),
        ]);
    }

    table
}

/// Good: running as desired. Bad: failed. Warning: not in the desired state.
fn tone(server: &Server) -> Tone {
    match (server.desired_state, server.actual_state) {
        (_, ActualState::Failed) => Tone::Bad,
        _ if server.drift.is_some() => Tone::Warning,
        (DesiredState::Running, ActualState::Running) => Tone::Good,
        (DesiredState::Stopped, ActualState::Stopped | ActualState::Unknown) => Tone::Plain,
        _ => Tone::Warning,
    }
}

fn show(context: &Context, args: &ServerShowArgs) -> Result<()> {
    let db = context.db()?;
    let server = match servers::find(db.connection(), &args.server) {
        Err(error) if error.exit == Exit::NotFound => {
            return Err(or_orphan(&db, &args.server, error));
        }
        found => found?,
    };

    let stale = stale::of_server(db.connection(), server.id)?;
    if args.json {
        return output::json(&Shown { server, stale });
    }

    let refused = blueprints::refusals(db.connection(), server.blueprint_id)?;
    let notices = blueprints::notices(db.connection(), server.blueprint_id)?;
    let peak = samples::peak_yesterday(db.connection(), server.id, context.now)?;
    let game = game_facts(&server, peak);
    let at_boot = match server.enabled {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };

    let sub = server
        .actual_sub_state
        .map_or_else(String::new, |sub| format!(" ({sub})"));

    let since = server
        .actual_since
        .map_or_else(String::new, |at| format!(", since {}", when(Some(at))));
    let drift = server.drift.map_or_else(String::new, |drift| {
        let words = drift.kind.message(server.actual_state);
        let (mend, accept) = drift.kind.remedies();
        format!(
            "{words}, since {}: {}; `{mend}` it, or `{accept}` it",
            when(Some(drift.since)),
            drift.why
        )
    });

    let build = server.build.map_or_else(String::new, |build| {
        let since = server.build_since.map(|at| when(Some(at)));
        since.map_or_else(
            || build.to_string(),
            |since| format!("{build}, since {since}"),
        )
    });

    let mut shown = vec![
        ("id", server.id.to_string()),
        ("name", server.name),
        ("user", server.user),
        (
            "ulid",
            server.ulid.map_or_else(String::new, |id| id.to_string()),
        ),
        ("port", server.port.to_string()),
        ("blueprint", server.blueprint),
        ("unit", server.unit),
        ("desired", server.desired_state.to_string()),
        ("actual", format!("{}{sub}{since}", server.actual_state)),
        ("build", build),
        ("last checked", when(server.actual_state_updated_at)),
    ];
    shown.extend(game);
    shown.extend([
        ("drift", drift),
        ("starts at boot", at_boot.to_owned()),
        ("restarts", server.restarts.to_string()),
        ("last exit", server.last_end.unwrap_or_default()),
        ("last error", server.last_error.unwrap_or_default()),
    ]);
    shown.extend(stale_facts(&stale));
    let id = server.id;
    facts(&shown)?;

    if stale.count > 0 {
        hint(&format!(
            "these files hide newer ones of the game since an update: `left4me-job enqueue reset \
             --stale --server {id}` drops them"
        ));
    }
    for notice in notices {
        hint(&notice);
    }

    for why in refused {
        hint(&format!(
            "the server cannot be started with this blueprint: {why}"
        ));
    }

    Ok(())
}

/// A server as `show --json` prints it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    server: Server,
    stale: FoundStale,
}

/// The first files that hide newer ones of the game.
fn stale_facts(stale: &FoundStale) -> Vec<(&'static str, String)> {
    if stale.count == 0 {
        return Vec::new();
    }
    let amount = format!(
        "{}, {}, found {}",
        stale.amount(),
        size(stale.size),
        when(stale.found_at)
    );
    let named = stale.files.iter().take(STALE_SHOWN);
    let more = stale.count - named.len() as u64;
    let mut facts = vec![("stale files", amount)];
    facts.extend(named.map(|file| ("", format!("{} ({})", file.path, size(file.size)))));
    if more > 0 {
        facts.push(("", format!("and {more} more")));
    }
    facts
}

/// What the game answered: who plays, on which map, and how fast it answers.
fn game_facts(server: &Server, players_yesterday: Option<u32>) -> Vec<(&'static str, String)> {
    let mut players: Vec<String> = server
        .occupancy()
        .into_iter()
        .chain(server.bots())
        .collect();
    players.extend(peak(players_yesterday));
    let answers = match server.responding {
        None => String::new(),
        Some(Responding::Yes) => match server.response_ms {
            Some(ms) => format!("yes, within {ms} ms"),
            None => "yes".to_owned(),
        },
        Some(Responding::No) => format!("no, last {}", when(server.answered_at)),
        Some(Responding::NotYet) => "not yet".to_owned(),
    };
    let then = match server.restart_unresponsive {
        true => "restart",
        false => "report it",
    };

    vec![
        ("players", players.join(", ")),
        ("map", server.map.clone().unwrap_or_default()),
        ("game answers", answers),
        ("if it does not", then.to_owned()),
    ]
}

/// Extends the error if there is a unit of that name without a server.
fn or_orphan(db: &Db, server: &ServerRef, error: Error) -> Error {
    let orphans = poll::orphans(db.connection()).unwrap_or_default();
    match orphans
        .iter()
        .find(|orphan| orphan.instance == server.to_string())
    {
        Some(orphan) => Error::new(error.exit, format!("{error}; but {}", orphan.message())),
        None => error,
    }
}

fn assign(context: &Context, args: &AssignArgs) -> Result<()> {
    let server = context.db()?.write(|tx| {
        let server = servers::find(tx, &args.server)?;
        let blueprint = blueprint_of(tx, &args.blueprint, server.user_id)?;
        servers::assign(tx, context.now, &context.actor, server.id, blueprint)
    })?;

    output::line(&format!(
        "server {} '{}' uses blueprint '{}' from its next start",
        server.id, server.name, server.blueprint
    ))
}

fn remove(context: &Context, server: &ServerRef) -> Result<()> {
    let mut db = context.db()?;
    let (server, is_scheduled) = db.write(|tx| {
        let server = servers::find(tx, server)?;
        // The store does not know files that were written without the queue. A caller without
        // access to the directories relies on the queue.
        for part in ["instances", "runtime"] {
            let path = context.paths.root.join(part).join(server.id.to_string());
            if path.symlink_metadata().is_ok() {
                return Err(Error::conflict(format!(
                    "server {0} ('{1}') still has files in {2}: \
                     first run `left4me-job enqueue delete --server {0} --wait`",
                    server.id,
                    server.name,
                    path.display()
                )));
            }
        }

        let is_scheduled = !schedules::of_server(tx, server.id)?.is_empty();
        let server = servers::remove(tx, context.now, &context.actor, server.id)?;
        Ok((server, is_scheduled))
    })?;
    if is_scheduled {
        super::schedule::wake(context);
    }

    output::line(&format!(
        "server {} '{}' removed; port {} is free",
        server.id, server.name, server.port
    ))
}
