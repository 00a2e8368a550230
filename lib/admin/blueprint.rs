//! `left4me blueprint`: blueprints, the configuration that servers are made from.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::owner::owner;
use super::{Context, facts, hint, print_list, when};
use crate::base::names::{BlueprintName, BlueprintRef, OverlayName, UserId, UserName};
use crate::base::{Error, Result, output, text};
use crate::db::blueprint_change::{self, Change};
use crate::db::blueprints::{self, Blueprint, Content, Stored};
use crate::db::{Db, users};
use crate::domain::blueprint::{Argument, ConfigLine};

/// The largest file of config lines, in bytes.
const CONFIG_LIMIT: u64 = 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  left4me blueprint create versus --overlay competitive --overlay maps --arg=+map \
  --arg=c5m1_waterfront
  left4me blueprint edit versus --config-file server.cfg
  left4me blueprint edit versus --no-overlays --rename plain

The first --overlay is the topmost. Write --arg=VALUE, because arguments begin with '-' or '+'.
An argument is one word. Put text with spaces, such as a server's name, into the config file:
  hostname \"My server\"";

#[derive(Subcommand)]
pub(super) enum BlueprintVerb {
    /// Create a blueprint
    #[command(after_help = EXAMPLES)]
    Create(BlueprintCreateArgs),
    /// Show a blueprint: overlays, arguments, config
    Show(BlueprintShowArgs),
    /// List blueprints
    List(BlueprintListArgs),
    /// Replace parts of a blueprint; its servers use them from their next start
    #[command(after_help = EXAMPLES)]
    Edit(EditArgs),
    /// Delete a blueprint that no server uses
    Delete(OneArgs),
}

#[derive(Args)]
pub(super) struct ContentArgs {
    /// An overlay of the catalog; repeatable, topmost first
    #[arg(long = "overlay", value_name = "O")]
    overlays: Vec<OverlayName>,
    /// A launch argument, one word; repeatable, as in --arg=+map --arg=c1m1_hotel
    #[arg(long = "arg", value_name = "A", allow_hyphen_values = true)]
    arguments: Vec<Argument>,
    /// File with the lines of server.cfg; '-' is standard input
    #[arg(long, value_name = "F")]
    config_file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct BlueprintCreateArgs {
    /// Name, unique among the user's blueprints
    name: BlueprintName,
    /// Owner [default: the left4me user named like the caller, else the only user]
    #[arg(long, value_name = "U")]
    user: Option<UserName>,
    #[command(flatten)]
    content: ContentArgs,
    /// Print the blueprint as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct OneArgs {
    /// The blueprint's name or id
    blueprint: BlueprintRef,
    /// Owner; needed if several users have a blueprint with this name
    #[arg(long, value_name = "U")]
    user: Option<UserName>,
}

#[derive(Args)]
pub(super) struct BlueprintShowArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct BlueprintListArgs {
    /// Only blueprints of this user
    #[arg(long, value_name = "U")]
    user: Option<UserName>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct EditArgs {
    #[command(flatten)]
    one: OneArgs,
    #[command(flatten)]
    content: ContentArgs,
    /// New name
    #[arg(long, value_name = "NEW")]
    rename: Option<BlueprintName>,
    /// Remove all overlays
    #[arg(long, conflicts_with = "overlays")]
    no_overlays: bool,
    /// Remove all arguments
    #[arg(long, conflicts_with = "arguments")]
    no_args: bool,
    /// Remove all config lines
    #[arg(long, conflicts_with = "config_file")]
    no_config: bool,
}

/// A blueprint with its content.
#[derive(Serialize)]
struct FullBlueprint {
    #[serde(flatten)]
    blueprint: Blueprint,
    #[serde(flatten)]
    stored: Stored,
}

impl BlueprintVerb {
    /// The file of `--config-file`.
    pub(super) fn config_file(&self) -> Option<&Path> {
        match self {
            BlueprintVerb::Create(args) => args.content.config_file.as_deref(),
            BlueprintVerb::Edit(args) => args.content.config_file.as_deref(),
            _ => None,
        }
    }
}

pub(super) fn run(context: &Context, verb: BlueprintVerb) -> Result<()> {
    match verb {
        BlueprintVerb::Create(args) => create(context, args),
        BlueprintVerb::Show(args) => show(context, &args),
        BlueprintVerb::List(args) => list(context, &args),
        BlueprintVerb::Edit(args) => edit(context, args),
        BlueprintVerb::Delete(args) => delete(context, &args),
    }
}

fn create(context: &Context, args: BlueprintCreateArgs) -> Result<()> {
    let read = |path| config_lines(context, path);
    let config = args
        .content
        .config_file
        .as_deref()
        .map(read)
        .transpose()?
        .unwrap_or_default();
    let content = Content {
        overlays: args.content.overlays,
        arguments: args.content.arguments,
        config,
    };

    let blueprint = context.db()?.write(|tx| {
        let user = owner(tx, args.user.as_ref(), &context.actor)?;
        blueprint_change::create(
            tx,
            context.now,
            &context.actor,
            user.id,
            &args.name,
            &content,
        )
    })?;

    if args.json {
        return output::json(&FullBlueprint {
            blueprint,
            stored: content.into(),
        });
    }

    output::line(&format!(
        "blueprint {} '{}' of '{}' created",
        blueprint.id, blueprint.name, blueprint.user
    ))
}

fn show(context: &Context, args: &BlueprintShowArgs) -> Result<()> {
    let mut db = context.db()?;
    let user = user_id(&db, args.one.user.as_ref())?;
    let full = db.read(|tx| {
        let blueprint = blueprints::find(tx, &args.one.blueprint, user)?;
        let stored = blueprints::stored(tx, blueprint.id)?;
        Ok(FullBlueprint { blueprint, stored })
    })?;

    if args.json {
        return output::json(&full);
    }

    let FullBlueprint { blueprint, stored } = full;
    facts(&[
        ("id", blueprint.id.to_string()),
        ("name", blueprint.name.clone()),
        ("user", blueprint.user.clone()),
        ("overlays", stored.overlays.join(" ")),
        ("arguments", stored.arguments.join(" ")),
        ("servers", servers(&blueprint)),
        ("created", when(Some(blueprint.created_at))),
        ("edited", when(Some(blueprint.updated_at))),
    ])?;

    for line in &stored.config {
        output::line(&format!("config  {}", output::printable(line)))?;
    }

    for notice in blueprints::notices(db.connection(), blueprint.id)? {
        hint(&notice);
    }

    for notice in blueprints::rcon_notices(db.connection(), blueprint.id)? {
        hint(&notice);
    }

    for why in &stored.refused {
        hint(&format!("no server can start with this blueprint: {why}"));
    }

    Ok(())
}

fn list(context: &Context, args: &BlueprintListArgs) -> Result<()> {
    let db = context.db()?;
    let blueprints = match user_id(&db, args.user.as_ref())? {
        Some(user) => blueprints::of_user(db.connection(), user)?,
        None => blueprints::all(db.connection())?,
    };

    print_list(
        &blueprints,
        args.json,
        "no blueprints yet: create one with `left4me blueprint create NAME`",
        ["ID", "NAME", "USER", "OVERLAYS", "EDITED", "SERVERS"],
        &["EDITED"],
        |blueprint| {
            [
                blueprint.id.to_string(),
                blueprint.name.clone(),
                blueprint.user.clone(),
                blueprint.overlay_count.to_string(),
                when(Some(blueprint.updated_at)),
                servers(blueprint),
            ]
        },
    )
}

fn edit(context: &Context, args: EditArgs) -> Result<()> {
    let change = change(context, &args)?;
    if change == Change::default() {
        return Err(Error::usage(
            "nothing to change: pass --overlay, --arg, --config-file, \
             --rename, --no-overlays, --no-args or --no-config",
        ));
    }

    let mut db = context.db()?;
    let user = user_id(&db, args.one.user.as_ref())?;
    let blueprint = db.write(|tx| {
        let blueprint = blueprints::find(tx, &args.one.blueprint, user)?;
        blueprint_change::edit(tx, context.now, &context.actor, blueprint.id, &change)
    })?;

    let effect = if blueprint.servers.is_empty() {
        String::new()
    } else {
        format!(
            "; it takes effect at the next start of server {}",
            servers(&blueprint)
        )
    };

    output::line(&format!(
        "blueprint {} '{}' edited{effect}",
        blueprint.id, blueprint.name
    ))
}

fn change(context: &Context, args: &EditArgs) -> Result<Change> {
    let replaced = |clear: bool, given: bool| clear || given;
    let content = &args.content;
    let config = content
        .config_file
        .as_deref()
        .map(|path| config_lines(context, path))
        .transpose()?;
    Ok(Change {
        name: args.rename.clone(),
        overlays: replaced(args.no_overlays, !content.overlays.is_empty())
            .then(|| content.overlays.clone()),
        arguments: replaced(args.no_args, !content.arguments.is_empty())
            .then(|| content.arguments.clone()),
        config: if args.no_config {
            Some(Vec::new())
        } else {
            config
        },
    })
}

fn delete(context: &Context, args: &OneArgs) -> Result<()> {
    let mut db = context.db()?;
    let user = user_id(&db, args.user.as_ref())?;
    let blueprint = db.write(|tx| {
        let blueprint = blueprints::find(tx, &args.blueprint, user)?;
        blueprint_change::delete(tx, context.now, &context.actor, blueprint.id)
    })?;

    output::line(&format!(
        "blueprint {} '{}' deleted",
        blueprint.id, blueprint.name
    ))
}

fn user_id(db: &Db, name: Option<&UserName>) -> Result<Option<UserId>> {
    name.map(|name| users::find(db.connection(), name).map(|user| user.id))
        .transpose()
}

fn servers(blueprint: &Blueprint) -> String {
    blueprint
        .servers
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads the config lines of a file; an error names the line's number.
fn config_lines(context: &Context, path: &Path) -> Result<Vec<ConfigLine>> {
    let text = match &context.opened {
        Some(file) => text::read_opened(file, path, CONFIG_LIMIT)?,
        None => text::read(path, CONFIG_LIMIT)?,
    };

    let parsed = text.lines().enumerate().map(|(index, line)| {
        line.trim_end_matches('\r')
            .parse::<ConfigLine>()
            .map_err(|bad| {
                Error::from(bad).within(format!("{} line {}", path.display(), index + 1))
            })
    });

    parsed.collect()
}
