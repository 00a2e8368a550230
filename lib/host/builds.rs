//! What the worker and `l4d2ctl` do with the game's builds: install, publish, switch, remove.

use std::fmt::Display;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::base::builds::{self, GameFiles};
use crate::base::names::{InstanceName, JobId};
use crate::base::{Error, Exit, Result};
use crate::host::instance;
use crate::host::operation::{self, OperationContext, Reply};
use crate::process::{game_files, overlay_mounts};
use crate::wire::{Builds, PublisherRequest, Request, RunnerRequest};

/// The game files of an instance that was initialized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceGame {
    pub instance: InstanceName,
    pub game: GameFiles,
    /// Whether they are mounted now.
    pub is_mounted: bool,
}

/// Which game files the instances use, and which there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildState {
    /// The build that servers take at their next start; none if none is published.
    pub current: Option<u64>,
    /// The published builds, the newest first.
    pub published: Vec<u64>,
    pub instances: Vec<InstanceGame>,
    /// Whether the current build has other files than before under the same number: a repair. Running
    /// servers still have those of before.
    pub is_replaced: bool,
}

impl BuildState {
    pub fn read(root: &Path) -> Result<Self> {
        let current = builds::current(root).map_err(unreadable)?;
        let published = builds::list(root).map_err(unreadable)?;
        let mounted = overlay_mounts::mounted(root)?;
        let instances = instance::all_game_files(root)?;
        Ok(Self {
            current,
            published: published.iter().map(|found| found.build).collect(),
            is_replaced: false,
            instances: instances
                .into_iter()
                .map(|(instance, game)| InstanceGame {
                    is_mounted: mounted.contains(&instance),
                    instance,
                    game,
                })
                .collect(),
        })
    }

    /// The instances that have the files mounted which steamcmd changes.
    pub fn on_installation(&self) -> impl Iterator<Item = &InstanceName> {
        self.instances
            .iter()
            .filter(|one| one.is_mounted && one.game == GameFiles::Installation)
            .map(|one| &one.instance)
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::failed(format!(
        "the builds cannot be read: {error}: `sudo left4me doctor` says what to do"
    ))
}

/// Installs or updates the game with steamcmd, in ROOT/installation. No server may have these files
/// mounted, because the kernel leaves changes to a lower layer under a mount undefined. `label`
/// names an instance for the message.
///
/// `in_place`: servers use these files, so no overlay at all may be mounted. Otherwise they use
/// published builds. Returns the build that is installed now, if the runner says so.
pub fn install<L: Display>(
    context: &impl OperationContext,
    in_place: bool,
    label: impl Fn(&InstanceName) -> L,
) -> Result<Option<Builds>> {
    let root = &context.paths().root;
    let names = |instances: &mut dyn Iterator<Item = &InstanceName>| -> Vec<String> {
        instances.map(|name| label(name).to_string()).collect()
    };

    if in_place {
        let mounted = overlay_mounts::mounted(root)?;
        if !mounted.is_empty() {
            return Err(Error::conflict(format!(
                "the overlay of {} is mounted: stop it first, or use `left4me-job enqueue \
                 update`, which stops, installs and starts again",
                names(&mut mounted.iter()).join(", ")
            )));
        }
    } else {
        let state = BuildState::read(root)?;
        let users = names(&mut state.on_installation());
        if !users.is_empty() {
            return Err(Error::conflict(format!(
                "{} still runs from installation/, which steamcmd changes: stop it first, or \
                 use `left4me-job enqueue update`, which restarts it on a build",
                users.join(", ")
            )));
        }
    }

    // In place, servers have to take what steamcmd changes; beside, it needs something to start from.
    let is_begun = game_files::is_begun(&root.join("installation"));
    let request = match builds::current(root).map_err(unreadable)? {
        Some(_) if in_place => Some(PublisherRequest::Unpublish {}),
        Some(_) if !is_begun => Some(PublisherRequest::Seed {}),
        _ => None,
    };
    if let Some(request) = request {
        context.send(&Request::Publisher(request), &mut Reply::default())?;
    }

    let mut reply = Reply::default();
    context.send(&Request::Runner(RunnerRequest::Install {}), &mut reply)?;
    if in_place {
        // Nothing is mounted, and the disk is too small for a second copy.
        for published in builds::list(root).map_err(unreadable)? {
            let build = published.build;
            let request = Request::Publisher(PublisherRequest::Remove { build });
            context.send(&request, &mut Reply::default())?;
        }
    }
    Ok(reply.builds.filter(operation::fits))
}

/// Makes what is installed the current build. `fresh`: only content tells whether a file is as
/// before, and a build that is damaged is replaced. Gives the build, and whether it was replaced.
pub fn publish(
    context: &impl OperationContext,
    job: Option<JobId>,
    fresh: bool,
    rejected: &[u64],
) -> Result<(u64, bool)> {
    let root = &context.paths().root;
    let installed = game_files::verify(&root.join("installation")).ok();
    let current = builds::current(root).map_err(unreadable)?;
    if let Some(build) = installed.filter(|build| rejected.contains(build))
        && current != Some(build)
    {
        return Err(Error::conflict(format!(
            "build {build} is installed, but was rejected: it is not published; \
             `left4me build list` says why"
        )));
    }

    let directory = |build| builds::path(root, build).metadata().ok();
    let before = builds::list(root).map_err(unreadable)?;
    let before: Vec<_> = before
        .iter()
        .filter_map(|one| Some((one.build, directory(one.build)?.ino())))
        .collect();

    let request = PublisherRequest::Publish {
        job: job.map(|job| job.0),
        fresh,
    };
    context.send(&Request::Publisher(request), &mut Reply::default())?;
    let current = builds::current(root).map_err(unreadable)?;
    let build = current.ok_or_else(|| Error::failed("publish: no build is current after it"))?;
    let now = directory(build).map(|found| found.ino());
    let is_replaced = before
        .iter()
        .any(|&(one, ino)| one == build && Some(ino) != now);
    Ok((build, is_replaced))
}

/// Makes a published build the current one: `wanted`, or the newest that is older than the current
/// one and not among `rejected`. Gives the build.
///
/// `from`: nothing is done unless this is still the current one.
///
/// Fails with 3 if there is no such build; 4 if it is current already, or no older one is kept.
pub fn use_build(
    context: &impl OperationContext,
    wanted: Option<u64>,
    from: Option<u64>,
    rejected: &[u64],
) -> Result<u64> {
    let current = builds::current(&context.paths().root).map_err(unreadable)?;
    if let (Some(from), Some(current)) = (from, current)
        && from != current
    {
        return Ok(current);
    }
    let build = target(&context.paths().root, wanted, from.is_some(), rejected)?;
    context.send(
        &Request::Publisher(PublisherRequest::Use { build }),
        &mut Reply::default(),
    )?;
    Ok(build)
}

/// The build to go back to. With `or_another`, left4me itself leaves a build: where the wanted one was
/// removed, the newest older one does as well.
fn target(root: &Path, wanted: Option<u64>, or_another: bool, rejected: &[u64]) -> Result<u64> {
    match builds::rollback_target(root, wanted, rejected) {
        Err(error) if or_another && error.exit == Exit::NotFound => {
            builds::rollback_target(root, None, rejected)
        }
        found => found,
    }
}

/// Removes the builds that are neither current, nor among the newest `keep`, nor used by an
/// instance. Instances that do not run do not keep a build: those of `stopped` take the current one.
/// Gives the removed builds.
pub fn remove_unused(
    context: &impl OperationContext,
    keep: usize,
    rejected: &[u64],
    stopped: &[InstanceName],
) -> Result<Vec<u64>> {
    let root = &context.paths().root;
    let state = BuildState::read(root)?;
    let Some(current) = state.current else {
        return Ok(Vec::new());
    };

    let candidates = beyond(&state.published, keep, rejected);
    let candidates = candidates.iter().filter(|build| **build != current);
    let mut removed = Vec::new();
    for &build in candidates {
        let users = state
            .instances
            .iter()
            .filter(|one| one.game == GameFiles::Build(build));
        let mut is_free = true;
        for user in users {
            // A server that is stopped needs no initialization for this: only its game changes.
            is_free &= !user.is_mounted
                && stopped.contains(&user.instance)
                && instance::switch_game(root, &user.instance, GameFiles::Build(current))?;
        }
        if is_free {
            let request = PublisherRequest::Remove { build };
            context.send(&Request::Publisher(request), &mut Reply::default())?;
            removed.push(build);
        }
    }
    // What an interrupted removal has left is removed with any other, and here with none.
    if let Some(build) = half_removed(root).filter(|_| removed.is_empty()) {
        let request = PublisherRequest::Remove { build };
        context.send(&Request::Publisher(request), &mut Reply::default())?;
    }
    Ok(removed)
}

/// The builds that are older than the newest `keep`, among which rejected ones do not count: one to
/// go back to has to be there.
fn beyond<'b>(published: &'b [u64], keep: usize, rejected: &[u64]) -> &'b [u64] {
    let mut left = keep;
    let last = published.iter().position(|build| {
        left -= usize::from(!rejected.contains(build));
        left == 0
    });
    last.map_or(&[], |last| &published[last + 1..])
}

/// A build whose removal was interrupted.
fn half_removed(root: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(root.join(builds::DIRECTORY)).ok()?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_prefix(".old-")?.parse().ok());
    let mut gone = numbers.filter(|build| !builds::path(root, *build).exists());
    gone.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_of_our_own_takes_another_build_where_the_wanted_one_was_removed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for build in ["7", "8", "9"] {
            fs_err::create_dir_all(root.join(builds::DIRECTORY).join(build)).unwrap();
        }
        let current = root.join(builds::DIRECTORY).join("current");
        std::os::unix::fs::symlink("9", current).unwrap();
        let find = |wanted, or_another| target(root, wanted, or_another, &[9, 8]);
        assert_eq!(find(Some(8), true).unwrap(), 8);
        assert_eq!(find(Some(5), true).unwrap(), 7, "8 was rejected");
        assert_eq!(find(Some(5), false).unwrap_err().exit, Exit::NotFound);
        assert_eq!(find(Some(9), true).unwrap_err().exit, Exit::Conflict);
    }

    #[test]
    fn rejected_builds_use_up_no_place() {
        for (published, keep, rejected, gone) in [
            (&[9, 8, 7][..], 2, &[][..], &[7][..]),
            (&[9, 8, 7], 2, &[8], &[]),
            (&[9, 8, 7, 6], 2, &[8], &[6]),
            (&[9, 8, 7, 6], 1, &[9], &[7, 6]),
            (&[9], 2, &[9], &[]),
            (&[], 2, &[], &[]),
        ] {
            assert_eq!(beyond(published, keep, rejected), gone, "{published:?}");
        }
    }
}
