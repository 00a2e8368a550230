//! `publish`: copies the proved installation to builds/ID and makes it the current build.

use std::ffi::CString;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with, statat, syncfs,
};

use super::bytes::write_all;
use super::context::{Context, Stop, Work, failed, size};
use super::copy::{Copier, Made, Rules, Sides};
use super::erase::Until;
use super::place::{DIRECTORY, Place};
use super::plan::{self, Trust};
use super::store::Store;
use super::tree::{self, Directory, Sums};
use crate::base::builds::{self, ABOUT, About};
use crate::base::clock::now_ms;
use crate::base::{Error, failpoint};
use crate::process::game_files;

/// A name that nothing uses: whether the file system clones is tried with it.
const PROBE: &str = ".new-probe";

/// Publishes what is installed. Copies nothing if that build is published already, unless `fresh`
/// finds files of it that differ.
///
/// Fails with what the installation lacks; with what the disk lacks, before anything is copied.
pub(super) fn run(
    context: &mut Context<'_>,
    store: &Store,
    job: Option<i64>,
    fresh: bool,
) -> Work<()> {
    let build = game_files::verify_finished(&store.installation.path)
        .map_err(|why| Error::failed(format!("nothing was published: {why}")))?;
    if i64::try_from(build).is_err() {
        return Err(Error::failed(format!("nothing was published: {build} is no build")).into());
    }
    store.clear(context, Until::Cancelled)?;
    failpoint::hit("publisher-cleared");

    let there = is_whole(context.root, build);
    if there && !fresh {
        return use_it(context, store, build);
    }

    let result = copy(context, store, build, job, (there, fresh));
    if result.is_err() {
        // Nothing uses what was begun. Where it cannot be removed now, the next request does it.
        let _ = store.clear(context, Until::Killed);
    }
    result
}

/// Whether this build is published and complete.
pub(super) fn is_whole(root: &Path, build: u64) -> bool {
    game_files::verify_finished(&builds::path(root, build)).is_ok_and(|found| found == build)
}

fn use_it(context: &mut Context<'_>, store: &Store, build: u64) -> Work<()> {
    if store.current(context).ok().flatten() == Some(build) {
        context.say(&format!(
            "build {build} is published already: nothing to do"
        ));
        return Ok(());
    }
    store.set_current(build)?;
    context.say(&format!(
        "build {build} is published already: it is the current build again"
    ));
    Ok(())
}

fn copy(
    context: &mut Context<'_>,
    store: &Store,
    build: u64,
    job: Option<i64>,
    (there, fresh): (bool, bool),
) -> Work<()> {
    let mut tree = tree::read(context, &store.installation)?;
    let base = base(context.root, store, build)?;
    if let Some((_, base)) = &base {
        let trust = if fresh { Trust::Content } else { Trust::Times };
        plan::compare(context, &store.installation, base, &mut tree, trust)?;
    }
    let sums = Sums::of(&tree);

    if let (true, Some((_, base))) = (there, &base)
        && sums.changed == 0
        && Sums::of(&tree::read(context, base)?).names == sums.names
    {
        context.say(&format!(
            "every file of build {build} is as it was published"
        ));
        return use_it(context, store, build);
    }

    let clones = plan::can_clone(&store.installation, &tree, &store.builds, PROBE);
    plan::ask_room(&store.builds, &format!("build {build}"), sums, clones)?;

    let new = make(store, build)?;
    failpoint::hit("publisher-made");
    let made = fill(context, store, &new, &tree, base.as_ref(), (sums, clones))?;

    let about = About {
        build,
        published_at: now_ms(),
        job,
        size: sums.size,
        linked: made.linked,
        cloned: made.cloned,
        copied: made.copied,
        copied_size: made.copied_size,
    };
    write_about(&new, &about)?;
    prove(&new, build)?;
    syncfs(&new.fd).map_err(|errno| failed(&new.path, errno))?;
    failpoint::hit("publisher-copied");
    // The last moment: what follows takes no time.
    context.check()?;

    put_in_place(store, &about)?;
    failpoint::hit("publisher-renamed");
    store.set_current(build)?;
    context.say(&summary(&about, base.map(|(base, _)| base)));
    Ok(())
}

/// The published build whose files may get one more name: this one, or else the newest.
fn base(root: &Path, store: &Store, build: u64) -> Work<Option<(u64, Place)>> {
    let published = builds::list(root)?;
    let same = published.iter().find(|one| one.build == build);
    let Some(base) = same.or(published.first()) else {
        return Ok(None);
    };

    let path = builds::path(root, base.build);
    let fd = openat(
        &store.builds.fd,
        base.build.to_string(),
        DIRECTORY,
        Mode::empty(),
    );
    let fd = fd.map_err(|errno| failed(&path, errno))?;
    Ok(Some((base.build, Place { fd, path })))
}

fn make(store: &Store, build: u64) -> Result<Place, Error> {
    let (name, path) = (new_name(build), store.builds.path.join(new_name(build)));
    let refused = |errno| failed(&path, errno);
    mkdirat(&store.builds.fd, &name, Mode::from_raw_mode(0o755)).map_err(refused)?;
    let fd = openat(&store.builds.fd, &name, DIRECTORY, Mode::empty()).map_err(refused)?;
    Ok(Place { fd, path })
}

fn new_name(build: u64) -> String {
    format!(".new-{build}")
}

fn fill(
    context: &mut Context<'_>,
    store: &Store,
    new: &Place,
    tree: &Directory,
    base: Option<&(u64, Place)>,
    (sums, clones): (Sums, bool),
) -> Work<Made> {
    let rules = Rules {
        is_idle: true,
        resumes: false,
    };
    let mut copier = Copier::new(context, rules, clones, sums.changed_size);
    let sides = Sides {
        from: &store.installation.fd,
        base: base.map(|(_, base)| &base.fd),
        to: &new.fd,
        path: &new.path,
    };
    copier.fill(sides, tree)?;
    copier.finish(new)?;
    Ok(copier.made)
}

fn write_about(new: &Place, about: &About) -> Result<(), Error> {
    let path = new.path.join(ABOUT);
    let refused = |errno| failed(&path, errno);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(&new.fd, ABOUT, flags, Mode::from_raw_mode(0o644)).map_err(refused)?;
    let text = serde_json::to_string(about).map_err(|error| Error::failed(error.to_string()))?;
    write_all(&file, format!("{text}\n").as_bytes()).map_err(refused)
}

/// What is proved is what servers get.
fn prove(new: &Place, build: u64) -> Result<(), Error> {
    match game_files::verify_finished(&new.path) {
        Ok(found) if found == build => Ok(()),
        Ok(found) => Err(Error::failed(format!(
            "nothing was published: installation/ became build {found} while build {build} was copied"
        ))),
        Err(why) => Err(Error::failed(format!("nothing was published: {why}"))),
    }
}

/// Renames the new directory to the build's number. A build of that number that is there already,
/// and has other content, stays under another name until the host boots: it may be the lower layer
/// of running servers (tmpfiles.d/left4me.conf removes it then).
fn put_in_place(store: &Store, about: &About) -> Work<()> {
    let fd = &store.builds.fd;
    let (new, name) = (new_name(about.build), about.build.to_string());
    let refused = |errno| Stop::from(failed(&store.builds.path.join(&name), errno));

    if !is_there(store, &name) {
        renameat_with(fd, new, fd, &name, RenameFlags::NOREPLACE).map_err(refused)?;
        return Ok(store.sync()?);
    }

    let aside = format!(".replaced-{name}-{}", about.published_at);
    renameat_with(fd, new, fd, &aside, RenameFlags::NOREPLACE).map_err(refused)?;
    failpoint::hit("publisher-aside");
    renameat_with(fd, &aside, fd, &name, RenameFlags::EXCHANGE).map_err(refused)?;
    Ok(store.sync()?)
}

fn is_there(store: &Store, name: &str) -> bool {
    let name = CString::new(name).unwrap_or_default();
    statat(&store.builds.fd, &name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory)
}

fn summary(about: &About, base: Option<u64>) -> String {
    let mut parts = Vec::new();
    if let Some(base) = base.filter(|_| about.linked > 0) {
        parts.push(format!("{} as in build {base}", about.linked));
    }
    if about.cloned > 0 {
        parts.push(format!("{} share their blocks", about.cloned));
    }
    if about.copied > 0 {
        parts.push(format!("{} copied", about.copied));
    }
    let files = about.linked + about.cloned + about.copied;
    let of = if parts.is_empty() {
        String::new()
    } else {
        format!(": {}", parts.join(", "))
    };
    format!(
        "published: build {}, {} in {files} files{of}",
        about.build,
        size(about.size)
    )
}
