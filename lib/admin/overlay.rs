//! `left4me overlay`: the catalog of overlays.

use clap::{Args, Subcommand};

use super::{Context, ListArgs, hint, print_list, when};
use crate::base::names::{OverlayName, OverlayRef};
use crate::base::{Error, Result, output};
use crate::db::{Db, overlays};
use crate::host::catalog::{self, Added};
use crate::host::content;
use crate::queue::wake;

const EXAMPLES: &str = "\
Examples:
  left4me overlay add competitive                  directory overlays/competitive
  left4me overlay add hotel --path maps/dead-hotel";

#[derive(Subcommand)]
pub(super) enum OverlayVerb {
    /// Add an overlay to the catalog; creates its directory if it is missing
    #[command(after_help = EXAMPLES)]
    Add(AddArgs),
    /// List overlays
    List(ListArgs),
    /// Remove an overlay from the catalog; its directory is kept
    Remove(RemoveArgs),
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// Name in the catalog
    name: OverlayName,
    /// Directory below LEFT4ME_ROOT/overlays [default: NAME]
    #[arg(long, value_name = "REF")]
    path: Option<OverlayRef>,
}

#[derive(Args)]
pub(super) struct RemoveArgs {
    /// The overlay
    name: OverlayName,
}

pub(super) fn run(context: &Context, verb: OverlayVerb) -> Result<()> {
    match verb {
        OverlayVerb::Add(args) => add(context, &args),
        OverlayVerb::List(args) => list(context, &args),
        OverlayVerb::Remove(args) => remove(context, &args.name),
    }
}

fn add(context: &Context, args: &AddArgs) -> Result<()> {
    let mut db = context.db()?;
    let reference = match &args.path {
        Some(reference) => reference.clone(),
        None => args.name.as_str().parse()?,
    };

    must_be_free(&db, &args.name)?;
    let Added { path, made } = catalog::add(&context.paths.root, &reference)?;
    db.write(|tx| overlays::create(tx, context.now, &context.actor, &args.name, &reference))?;
    wake::link_for_news(db.connection(), &context.fleet.link_socket);

    let state = if made {
        "created empty: put files into it"
    } else {
        "which was there already"
    };

    output::line(&format!(
        "overlay '{}' added; its directory is {}, {state}",
        args.name,
        path.display()
    ))?;

    hint_content(context, &db, reference)
}

/// Reports files that the game will not find. They are only hints: files can be corrected later.
fn hint_content(context: &Context, db: &Db, reference: OverlayRef) -> Result<()> {
    let others: Vec<OverlayRef> = overlays::all(db.connection())?
        .iter()
        .filter_map(|overlay| overlay.reference.parse().ok())
        .collect();
    for line in content::inspect(&context.paths.root, &[reference], &others)?.messages() {
        hint(&line);
    }
    Ok(())
}

/// Fails if the name is taken, before a directory is created in vain.
fn must_be_free(db: &Db, name: &OverlayName) -> Result<()> {
    match overlays::find(db.connection(), name) {
        Ok(overlay) => Err(Error::conflict(format!(
            "an overlay named '{name}' is in the catalog already, at overlays/{}",
            overlay.reference
        ))),
        Err(_) => Ok(()),
    }
}

fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let overlays = overlays::all(context.db()?.connection())?;
    print_list(
        &overlays,
        args.json,
        "no overlays yet: add one with `left4me overlay add NAME`",
        ["ID", "NAME", "DIRECTORY", "CREATED", "USED BY BLUEPRINT"],
        &["CREATED"],
        |overlay| {
            [
                overlay.id.to_string(),
                overlay.name.clone(),
                format!("overlays/{}", overlay.reference),
                when(Some(overlay.created_at)),
                overlay.blueprints.join(", "),
            ]
        },
    )
}

fn remove(context: &Context, name: &OverlayName) -> Result<()> {
    let overlay = context
        .db()?
        .write(|tx| overlays::remove(tx, context.now, &context.actor, name))?;
    output::line(&format!(
        "overlay '{name}' removed; its directory overlays/{} is kept",
        overlay.reference
    ))
}
