//! The tasks about the game files that all servers share.

use crate::base::names::InstanceName;
use crate::base::{Result, clock};
use crate::host::builds::{self, BuildState};
use crate::host::operation::{self, OperationContext as _};
use crate::queue::context::TaskContext;
use crate::queue::work::{Ended, Work};

/// Asks Steam which build is published. Where servers use published builds, the current one is what
/// is installed: in ROOT/installation may be the rest of an update that did not end.
pub(super) fn check(context: &TaskContext<'_>, work: &Work, ended: &mut Ended) -> Result<()> {
    let mut found = operation::check(context)?;
    let state = BuildState::read(&context.paths().root)?;
    if let Some(current) = state.current {
        (found.installed, found.flaw) = match work.options.in_place {
            false => (Some(current), None),
            // They take what is installed only once that has changed places with the build.
            true => (None, Some(format!("servers use build {current} beside it"))),
        };
    }

    context.note(found.message(clock::local));
    ended.builds = Some(found);
    ended.state_of_builds = Some(Box::new(state));
    Ok(())
}

pub(super) fn install(context: &TaskContext<'_>, work: &Work, ended: &mut Ended) -> Result<()> {
    ended.builds = builds::install(context, work.options.in_place, |instance| {
        let mut names = work.names.iter();
        match names.find(|(id, _)| InstanceName::from(*id) == *instance) {
            Some((id, name)) => format!("server {id} ({name})"),
            None => format!("server {instance}"),
        }
    })?;
    Ok(())
}

pub(super) fn publish(context: &TaskContext<'_>, work: &Work, ended: &mut Ended) -> Result<()> {
    let (build, is_replaced) = builds::publish(
        context,
        Some(work.job),
        work.options.validate,
        &work.rejected,
    )?;
    context.note(format!("build {build} is the current build"));
    ended.state_of_builds = Some(Box::new(BuildState {
        is_replaced,
        ..BuildState::read(&context.paths().root)?
    }));
    Ok(())
}

pub(super) fn use_build(context: &TaskContext<'_>, work: &Work, ended: &mut Ended) -> Result<()> {
    let build = builds::use_build(
        context,
        work.options.build,
        work.options.from,
        &work.rejected,
    )?;
    context.note(format!("build {build} is the current build"));
    ended.state_of_builds = Some(Box::new(BuildState::read(&context.paths().root)?));
    Ok(())
}

pub(super) fn remove(context: &TaskContext<'_>, work: &Work) -> Result<()> {
    let keep = context.keep_builds();
    for build in builds::remove_unused(context, keep, &work.rejected, &work.stopped)? {
        context.note(format!(
            "build {build} is removed: no server uses it, and the newest {keep} are kept"
        ));
    }
    Ok(())
}
