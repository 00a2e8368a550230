//! The operations on the host that the worker's tasks and l4d2ctl have in common. What differs is
//! the [`OperationContext`]: where the output goes, and whether the operation may continue.

use std::path::{Path, PathBuf};

use crate::base::builds::GameFiles;
use crate::base::clock::Moment;
use crate::base::names::InstanceName;
use crate::base::{Error, Exit, Result};
use crate::domain::stale::{MOST_DROPPED, MOST_NAMED, Stale};
use crate::domain::unit::{End, Unit};
use crate::host::units::{Kept, Observed, why_failed};
use crate::host::{installation, instance};
use crate::wire::client::CommandEnd;
use crate::wire::{Builds, EndedBy, HelperRequest, Request, RunnerRequest, Tree};

/// The paths that operations use.
#[derive(Clone, Debug)]
pub struct HostPaths {
    /// The data directory, LEFT4ME_ROOT.
    pub root: PathBuf,
    pub helper: PathBuf,
    pub runner: PathBuf,
    pub publisher: PathBuf,
}

impl HostPaths {
    /// The socket behind which this request is carried out.
    pub fn socket(&self, request: &Request) -> &Path {
        match request {
            Request::Helper(_) => &self.helper,
            Request::Runner(_) => &self.runner,
            Request::Publisher(_) => &self.publisher,
        }
    }
}

/// What goes to the caller of a request instead of to the context's output.
#[derive(Debug, Default)]
pub struct Reply {
    /// The lines, when the caller needs them.
    pub kept: Option<Kept>,
    /// What systemd reported of the unit after the command: only for a request with `observe`.
    pub observed: Option<Observed>,
    /// The builds of the game: only for `check` and `install`.
    pub builds: Option<Builds>,
}

/// Carries out requests for an operation: a task of the worker, or a command of l4d2ctl.
pub trait OperationContext {
    /// What messages call an instance.
    const INSTANCE: &'static str;

    /// Whether enabling a unit also reports its state. It saves a second request.
    const OBSERVE: bool;

    fn paths(&self) -> &HostPaths;

    /// Fails when the operation must not continue.
    fn may_continue(&self) -> Result<()>;

    /// Sends a request and shows its output, except for what `reply` takes.
    ///
    /// Errors: The command's own code if it failed; 69 if no service listens.
    fn send(&self, request: &Request, reply: &mut Reply) -> Result<()>;

    /// Sends a request to the helper and shows its output.
    fn ask_helper(&self, request: HelperRequest) -> Result<()> {
        self.send(&Request::Helper(request), &mut Reply::default())
    }

    /// The lines of an answer, which are not shown.
    fn lines(&self, request: HelperRequest) -> Result<Kept> {
        let mut reply = Reply {
            kept: Some(Kept::default()),
            ..Reply::default()
        };
        self.send(&Request::Helper(request), &mut reply)?;
        Ok(reply.kept.unwrap_or_default())
    }

    /// What systemd reports about the unit.
    fn show(&self, instance: &InstanceName) -> Result<Observed> {
        let at = Moment::now();
        let server = instance.clone();
        let properties = self.lines(HelperRequest::Show { server })?;
        let unit = Unit::from_properties(properties.lines.iter().map(|(_, line)| line.as_str()));
        Ok(Observed { unit, at })
    }

    /// Why the unit failed, as far as it shows. `seen` becomes its newest state.
    fn why_failed(&self, instance: &InstanceName, seen: &mut Option<Observed>) -> Option<End> {
        why_failed(|| Ok(seen.insert(self.show(instance)?).unit.clone()))
    }

    /// Empties the upper layer. Removes everything if the instance is gone.
    fn purge(&self, instance: &InstanceName) -> Result<()> {
        let server = instance.clone();
        self.ask_helper(HelperRequest::Purge { server })
    }
}

/// Finds the files that the server has written and that hide newer game files. The server may run.
///
/// Fails as [`OperationContext::send`] does, and with 1 if the search did not come to its end.
pub fn stale(context: &impl OperationContext, instance: &InstanceName) -> Result<Stale> {
    let server = instance.clone();
    let found = context.lines(HelperRequest::Stale { server })?;
    Stale::of_lines(found.stdout(), MOST_NAMED).ok_or_else(|| incomplete("stale"))
}

/// Removes these files. The server and its overlay must be stopped. `dropped` gets what was
/// removed, also when it failed.
pub fn purge_stale(
    context: &impl OperationContext,
    instance: &InstanceName,
    mut dropped: impl FnMut(&Stale),
) -> Result<Stale> {
    let server = instance.clone();
    let request = Request::Helper(HelperRequest::PurgeStale { server });
    let mut reply = Reply {
        kept: Some(Kept::default()),
        ..Reply::default()
    };
    let sent = context.send(&request, &mut reply);

    let kept = reply.kept.unwrap_or_default();
    let found = Stale::of_lines(kept.stdout(), MOST_DROPPED);
    if let Some(found) = &found {
        dropped(found);
    }
    sent?;
    found.ok_or_else(|| incomplete("purge-stale"))
}

fn incomplete(verb: &str) -> Error {
    Error::failed(format!(
        "{verb}: the helper did not say which files there are; see its journal"
    ))
}

/// Asks Steam which build of the game is published, and reads which one is installed.
pub fn check(context: &impl OperationContext) -> Result<Builds> {
    let mut reply = Reply::default();
    context.send(&Request::Runner(RunnerRequest::Check {}), &mut reply)?;
    reply
        .builds
        .filter(fits)
        .ok_or_else(|| Error::failed("check: the runner did not say which build is published"))
}

/// Whether the database can hold it. The runner runs foreign code, so it is asked here.
pub(super) fn fits(found: &Builds) -> bool {
    let fits = |number: u64| i64::try_from(number).is_ok_and(|number| number > 0);
    let size = found.size;
    fits(found.available)
        && found.installed.is_none_or(fits)
        && size.is_none_or(|size| fits(size.files) && fits(size.download))
}

/// How far a start came, also when it failed.
#[derive(Debug, Default)]
pub struct Start {
    /// systemctl succeeded. Before that, the unit's last output is that of an earlier run.
    pub enabled: bool,
    /// The newest state that was read.
    pub seen: Option<Observed>,
}

/// Enables and starts the unit.
///
/// Fails with 4 over an unfinished installation; 1 when the unit is not up; the command's own code
/// and the cause, as far as the unit shows it, when systemctl failed.
pub fn start<C: OperationContext>(
    context: &C,
    instance: &InstanceName,
    progress: &mut Start,
) -> Result<Observed> {
    let label = format!("{} {instance}", C::INSTANCE);
    let root = &context.paths().root;
    if !matches!(
        instance::game_files(root, instance),
        Some(GameFiles::Build(_))
    ) {
        installation::refuse_unfinished(root).map_err(|error| error.within(&label))?;
    }

    let request = Request::Helper(HelperRequest::Enable {
        server: instance.clone(),
        observe: C::OBSERVE,
    });
    let mut reply = Reply::default();
    let enabled = context.send(&request, &mut reply);
    progress.seen = reply.observed;

    // systemctl reports that the start failed; the unit has the reason.
    if let Err(error) = enabled {
        return Err(match context.why_failed(instance, &mut progress.seen) {
            Some(end) => error.because(end),
            None => error,
        });
    }
    progress.enabled = true;

    let observed = match &mut progress.seen {
        Some(observed) => observed,
        seen => seen.insert(context.show(instance)?),
    };

    if !observed.unit.is_up() {
        return Err(Error::failed(format!(
            "{label} is not up after its start ({})",
            observed.unit.why_not_up()
        )));
    }

    Ok(observed.clone())
}

/// Removes the instance first, then the runtime files: the purge unit removes the runtime directory
/// only if the instance is gone.
pub fn remove(context: &impl OperationContext, instance: &InstanceName) -> Result<()> {
    instance::remove(&context.paths().root, instance, || context.may_continue())?;
    context.purge(instance)
}

/// The result of a request that was not refused. `last_error`: the command's last line on standard
/// error. `ended_why`: why this program has ended it, if so.
pub fn verdict(
    verb: &str,
    end: &CommandEnd,
    last_error: Option<String>,
    ended_why: Option<&str>,
) -> Result<()> {
    if end.tree == Some(Tree::Left) {
        return Err(Error::failed(format!(
            "{verb}: a process of it could not be ended; see `systemctl status` of its unit"
        )));
    }

    let because = ended_why.map_or_else(String::new, |why| format!(" because {why}"));
    let how = match (end.ended_by, end.exit) {
        (Some(EndedBy::Terminate), _) => format!("was ended{because}"),
        (Some(EndedBy::Kill), _) => format!("was killed{because}"),
        (_, 0) => return Ok(()),
        (_, code) => format!("failed with exit code {code}"),
    };

    let line = last_error.map_or_else(String::new, |line| format!(": {line}"));
    let message = format!("{verb} {how}{line}");
    Err(Error::new(foreign(end.exit), message))
}

/// A failed command's own exit code; 1 where that is 0 or no exit code.
pub fn foreign(code: i32) -> Exit {
    Exit::Foreign(u8::try_from(code).unwrap_or(1).max(1))
}
