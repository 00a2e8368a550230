//! `left4me overlay`: the catalog of overlays.

use std::fs::File;
use std::path::Path;

use clap::{Args, Subcommand};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};

use super::{Context, hint, when};
use crate::base::names::{OverlayName, OverlayRef};
use crate::base::table::Table;
use crate::base::{Error, Result, output};
use crate::db::{Db, overlays};
use crate::host::overlay::locate;

const EXAMPLES: &str = "\
Examples:
  left4me overlay add competitive                  the directory overlays/competitive
  left4me overlay add hotel --path maps/dead-hotel";

/// The verbs of overlays.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// Add an overlay; its directory is made when it is missing
    #[command(after_help = EXAMPLES)]
    Add(AddArgs),
    /// List overlays
    List(ListArgs),
    /// Take an overlay out of the catalog; its directory stays
    Remove(RemoveArgs),
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// Its name in the catalog
    name: OverlayName,
    /// Its directory below LEFT4ME_ROOT/overlays [default: NAME]
    #[arg(long, value_name = "REF")]
    path: Option<OverlayRef>,
}

#[derive(Args)]
pub(super) struct ListArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct RemoveArgs {
    /// The overlay
    name: OverlayName,
}

pub(super) fn run(context: &Context, verb: Verb) -> Result<()> {
    match verb {
        Verb::Add(args) => add(context, &args),
        Verb::List(args) => list(context, &args),
        Verb::Remove(args) => remove(context, &args.name),
    }
}

fn add(context: &Context, args: &AddArgs) -> Result<()> {
    let mut db = context.db()?;
    let reference = match &args.path {
        Some(reference) => reference.clone(),
        None => args.name.as_str().parse()?,
    };
    free(&db, &args.name)?;
    let root = fs_err::canonicalize(&context.paths.root)?;
    let path = root.join("overlays").join(reference.as_str());
    let made = path.symlink_metadata().is_err();
    if made {
        make(&root, &reference)?;
    }
    locate(&root, &reference)?;
    db.write(|tx| overlays::create(tx, context.now, &context.actor, &args.name, &reference))?;
    let made = if made { "made, and empty: put files into it" } else { "which was there" };
    output::line(&format!("overlay '{}' added; its directory is {}, {made}", args.name, path.display()))
}

/// Said before a directory is made for nothing.
fn free(db: &Db, name: &OverlayName) -> Result<()> {
    match overlays::find(db.connection(), name) {
        Ok(overlay) => Err(Error::conflict(format!(
            "an overlay named '{name}' is in the catalog already, at overlays/{}",
            overlay.reference
        ))),
        Err(_) => Ok(()),
    }
}

/// Makes the directory and those above it, 02775, owned as overlays/ is. Links on the way are not followed: root may
/// run this, and the group's people may write here.
fn make(root: &Path, reference: &OverlayRef) -> Result<()> {
    let top = root.join("overlays");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut dir: File = nix::fcntl::open(&top, flags, Mode::empty()).map(File::from).map_err(|errno| match errno {
        Errno::ENOENT => Error::failed(format!("{} is missing: run `systemd-tmpfiles --create`", top.display())),
        other => Error::from(std::io::Error::from(other)).within(top.display()),
    })?;
    let owner = dir.metadata()?;
    for part in reference.as_str().split('/') {
        let failed =
            |errno: Errno| Error::from(std::io::Error::from(errno)).within(format!("overlays/{reference}: '{part}'"));
        let made = match mkdirat(&dir, part, Mode::from_bits_truncate(0o775)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(failed(errno)),
        };
        dir = openat(&dir, part, flags, Mode::empty()).map(File::from).map_err(failed)?;
        if made {
            if geteuid().is_root() {
                use std::os::unix::fs::MetadataExt as _;
                fchown(&dir, Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid()))).map_err(failed)?;
            }
            fchmod(&dir, Mode::from_bits_truncate(0o2775)).map_err(failed)?;
        }
    }
    Ok(())
}

fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let overlays = overlays::all(context.db()?.connection())?;
    if args.json {
        return output::json(&overlays);
    }
    if overlays.is_empty() {
        hint("no overlays yet: add one with `left4me overlay add NAME`");
        return Ok(());
    }
    let mut table = Table::new(["ID", "NAME", "DIRECTORY", "CREATED", "USED BY BLUEPRINT"]);
    for overlay in overlays {
        let directory = format!("overlays/{}", overlay.reference);
        table.row([
            overlay.id.to_string(),
            overlay.name,
            directory,
            when(Some(overlay.created_at)),
            overlay.blueprints.join(", "),
        ]);
    }
    table.print()
}

fn remove(context: &Context, name: &OverlayName) -> Result<()> {
    let overlay = context.db()?.write(|tx| overlays::remove(tx, context.now, &context.actor, name))?;
    output::line(&format!("overlay '{name}' removed; its directory overlays/{} stays", overlay.reference))
}
