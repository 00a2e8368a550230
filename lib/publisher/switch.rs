//! `use`: makes a published build the current one.

use super::context::{Context, Work};
use super::publish::is_whole;
use super::store::Store;
use crate::base::{Error, builds};

/// Fails with 3 if there is no such build; 4 if it is not complete.
pub(super) fn run(context: &mut Context<'_>, store: &Store, build: u64) -> Work<()> {
    let path = builds::path(context.root, build);
    if !path.is_dir() {
        let shown = store.builds.path.display();
        return Err(Error::not_found(format!("there is no build {build} in {shown}")).into());
    }
    if !is_whole(context.root, build) {
        return Err(Error::conflict(format!(
            "build {build} in {} is not complete",
            path.display()
        ))
        .into());
    }

    if store.current(context).ok().flatten() == Some(build) {
        context.say(&format!(
            "build {build} is the current build: nothing to do"
        ));
        return Ok(());
    }
    store.set_current(build)?;
    context.say(&format!("build {build} is the current build"));
    Ok(())
}
