//! `left4me build`: lists the builds of the game that are kept, and removes one.

use clap::{Args, Subcommand};
use rusqlite::Connection;

use super::{Context, ListArgs, hint, print_list, when};
use crate::base::builds::GameFiles;
use crate::base::size::size;
use crate::base::{Result, output};
use crate::db::events::{self, NewEvent};
use crate::host::build_list::{self, Build, BuildUser, OnDisk};

const EXAMPLES: &str = "\
Examples:
  left4me build list
  left4me-job enqueue rollback --build 11906514    makes a kept build the current one
  left4me build remove 11906514                    frees its room on the disk

An update keeps the newest LEFT4ME_KEEP_BUILDS builds and those that servers use.";

#[derive(Subcommand)]
pub(super) enum BuildVerb {
    /// List the builds of the game: those that are kept, with the servers that use them, the one
    /// that Steam publishes, and those that updates leave alone
    #[command(after_help = EXAMPLES)]
    List(ListArgs),
    /// Remove a build that is not the current one and that no server uses
    #[command(after_help = EXAMPLES)]
    Remove(RemoveArgs),
}

#[derive(Args)]
pub(super) struct RemoveArgs {
    /// The build's number
    #[arg(value_parser = clap::value_parser!(u64).range(1..=i64::MAX.unsigned_abs()))]
    build: u64,
}

pub(super) fn run(context: &Context, verb: BuildVerb) -> Result<()> {
    match verb {
        BuildVerb::List(args) => list(context, &args),
        BuildVerb::Remove(args) => remove(context, args.build),
    }
}

fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let db = context.db()?;
    let disk = OnDisk::read(&context.paths.root)?;
    print_list(
        &build_list::all(db.connection(), &disk)?,
        args.json,
        "no build is published yet: `left4me-job enqueue install` installs the game",
        ["BUILD", "CURRENT", "PUBLISHED", "SIZE", "SERVERS", "NOTE"],
        &["PUBLISHED"],
        |build| {
            [
                build.build.to_string(),
                if build.current { "yes" } else { "" }.to_owned(),
                when(build.published_at),
                build.size.map_or_else(String::new, size),
                names(&build.servers),
                note(build),
            ]
        },
    )?;

    if !args.json {
        explain_installation(db.connection(), &disk)?;
    }
    Ok(())
}

fn names(users: &[BuildUser]) -> String {
    let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    match names.len() {
        0..=3 => names.join(", "),
        all => format!("{}, {} and {} more", names[0], names[1], all - 2),
    }
}

/// `available`, `rejected: Friday did not come up`, or nothing.
fn note(build: &Build) -> String {
    let available = (build.available && !build.kept).then(|| "available".to_owned());
    let rejected = build.rejected.as_ref().map(|rejected| {
        let (actor, why) = (&rejected.actor, &rejected.why);
        format!("rejected by {actor}: {why}")
    });
    let parts: Vec<String> = [available, rejected].into_iter().flatten().collect();
    parts.join(", ")
}

/// Servers that still use the installation itself, as before there were builds.
fn explain_installation(connection: &Connection, disk: &OnDisk) -> Result<()> {
    let users = build_list::users(connection, disk)?;
    if let Some(users) = users.get(&GameFiles::Installation)
        && disk.current().is_some()
    {
        hint(&output::printable(&format!(
            "{}: from before there were builds; the next restart brings the current one",
            names(users)
        )));
    }
    Ok(())
}

fn remove(context: &Context, build: u64) -> Result<()> {
    let mut db = context.db()?;
    let disk = OnDisk::read(&context.paths.root)?;
    build_list::check_removal(db.connection(), &disk, build)?;
    build_list::remove(&context.sockets.publisher_socket, build)?;

    let detail = build.to_string();
    let event = NewEvent::new("build.removed", &context.actor, &detail);
    db.write(|tx| events::add(tx, context.now, &event))?;
    output::line(&format!("build {build} is removed"))
}
