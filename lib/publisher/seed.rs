//! `seed`: copies the current build to an installation/ without a game, so that steamcmd has
//! something to start from. Never by hard link: steamcmd changes files in place.

use rustix::fs::{Mode, openat, renameat};

use super::context::{Context, Work, failed, size};
use super::copy::{Copier, Rules, Sides};
use super::place::{DIRECTORY, Place};
use super::plan;
use super::store::Store;
use super::tree::{self, Directory, Entry, MOVING, Node, Sums};
use super::unpublish;
use crate::base::{Error, builds, failpoint};
use crate::domain::steam::MANIFEST;
use crate::process::game_files;

/// Seeds the installation. Nothing to do if there is a manifest, which comes last, or if no build is
/// current, or that one is damaged.
///
/// Fails with what the disk lacks, before anything is copied.
pub(super) fn run(context: &mut Context<'_>, store: &Store) -> Work<()> {
    if game_files::is_begun(&store.installation.path) {
        context.say("there is an installation: nothing to copy");
        return Ok(());
    }
    let Some(build) = store.current(context)? else {
        context.say("no build is published: nothing to copy");
        return Ok(());
    };

    if unpublish::is_interrupted(context.root, build) {
        return unpublish::run(context, store);
    }

    let path = builds::path(context.root, build);
    let fd = openat(
        &store.builds.fd,
        build.to_string(),
        DIRECTORY,
        Mode::empty(),
    )
    .map_err(|errno| failed(&path, errno))?;
    let from = Place { fd, path };
    if game_files::verify(&from.path) != Ok(build) {
        // Not an error: then no job could repair it.
        context.say(&format!(
            "build {build} is damaged: steamcmd starts from nothing"
        ));
        return Ok(());
    }

    let mut tree = tree::read(context, &from)?;
    let sums = Sums::of(&tree);
    let clones = plan::can_clone(&from, &tree, &store.installation, MOVING);
    plan::ask_room(
        &store.installation,
        &format!("the copy of build {build}"),
        sums,
        clones,
    )?;
    let manifest = tree::take(&mut tree, &MANIFEST)
        .ok_or_else(|| Error::failed(format!("build {build} has no manifest")))?;

    let made = fill(context, store, &from, (&tree, &manifest), (sums, clones))?;
    context.say(&format!(
        "installation/ has the files of build {build} to start from, {} in {made} files",
        size(sums.size)
    ));
    Ok(())
}

fn fill(
    context: &mut Context<'_>,
    store: &Store,
    from: &Place,
    (tree, manifest): (&Directory, &Entry),
    (sums, clones): (Sums, bool),
) -> Work<u64> {
    let rules = Rules {
        is_idle: false,
        resumes: true,
    };
    let to = &store.installation;
    let mut copier = Copier::new(context, rules, clones, sums.size);
    let sides = Sides {
        from: &from.fd,
        base: None,
        to: &to.fd,
        path: &to.path,
    };
    copier.fill(sides, tree)?;
    copier.finish(to)?;
    failpoint::hit("publisher-seeded");

    // With the manifest it is an installation: it comes last, and whole.
    let path = game_files::manifest(&to.path);
    let refused = |errno| failed(&path, errno);
    let open = |fd| openat(fd, MANIFEST[0], DIRECTORY, Mode::empty());
    let (inner_from, inner_to) = (
        open(&from.fd).map_err(refused)?,
        open(&to.fd).map_err(refused)?,
    );
    if let Node::File(file) = manifest.node {
        let sides = Sides {
            from: &inner_from,
            base: None,
            to: &inner_to,
            path: &path,
        };
        copier.file(sides, &manifest.name, c".left4me-moving", file)?;
    }
    copier.finish(to)?;
    renameat(&inner_to, MOVING, &inner_to, MANIFEST[1]).map_err(refused)?;
    copier.finish(to)?;
    Ok(copier.made.cloned + copier.made.copied)
}
