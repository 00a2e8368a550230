//! `remove`: removes a build that is not the current one.

use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

use super::context::{Context, Work, failed};
use super::erase::Until;
use super::store::Store;
use crate::base::{Error, failpoint};

/// Removes a build, and what an interrupted request left. A build that is not there is no error.
///
/// Fails with 4 for the current build.
pub(super) fn run(context: &mut Context<'_>, store: &Store, build: u64) -> Work<()> {
    if store.current(context)? == Some(build) {
        return Err(Error::conflict(format!(
            "build {build} is the current build, which servers take at their next start: \
             it is not removed"
        ))
        .into());
    }

    store.clear(context, Until::Cancelled)?;
    let (fd, name, old) = (&store.builds.fd, build.to_string(), format!(".old-{build}"));
    match renameat_with(fd, &name, fd, &old, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::NOENT) => {
            context.say(&format!("there is no build {build}: nothing to do"));
            return Ok(());
        }
        Err(errno) => return Err(failed(&store.builds.path.join(name), errno).into()),
    }
    store.sync()?;
    failpoint::hit("publisher-old");

    store.clear(context, Until::Cancelled)?;
    context.say(&format!("build {build} was removed"));
    Ok(())
}
