//! Runs one task: one operation on the host, with every line logged.
//!
//! A task runs in its own thread. It never uses the database: its input is read before it starts,
//! and its result is an [`Ended`].

use crate::base::names::{InstanceName, ServerId, shown};
use crate::base::{Error, Exit, Result, clock, failpoint};
use crate::domain::blueprint::Spec;
use crate::domain::build::Builds;
use crate::domain::disk;
use crate::domain::notices;
use crate::domain::operation::Operation;
use crate::domain::server::ActualState;
use crate::domain::stale::Stale;
use crate::domain::task::{TaskKind, TaskState};
use crate::host::content;
use crate::host::instance::{self, Initialized};
use crate::host::operation::{self, OperationContext as _, Reply, Start};
use crate::host::units::Observed;
use crate::queue::context::{TaskContext, WorkerContext};
use crate::queue::stay_up;
use crate::queue::work::{Ended, Work};
use crate::wire::{HelperRequest, Request};

/// Runs one task to its end, and passes on the [`Ended`] after its last line. A panic fails only
/// this task.
pub fn run(context: &WorkerContext, work: &Work) {
    let span = tracing::info_span!(
        "task",
        job_id = work.job.0,
        task_id = work.task.0,
        server_id = work.server.map(|id| id.0)
    );

    let _inside = span.enter();
    let mut ended = Ended::succeeded(work.job, work.task);
    let task_context = context.of_task(work.job, work.task);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        carry_out(&task_context, work, &mut ended)
    }))
    .unwrap_or_else(|_| {
        Err(Error::failed(
            "internal error (a panic): see the worker's journal",
        ))
    });

    if let Err(error) = result {
        task_context.warn(&error);
        ended.state = TaskState::Failed;
        ended.exit_code = match error.exit {
            Exit::Foreign(code) => code.into(),
            // Only the exit code of a command is passed on; any other failure is 1.
            _ => 1,
        };

        ended.error = Some(error.to_string());
    }

    context.log.ended(ended);
}

fn carry_out(context: &TaskContext<'_>, work: &Work, ended: &mut Ended) -> Result<()> {
    let kind = match &work.kind {
        Ok(kind) => *kind,
        Err(word) => return Err(Error::failed(format!("unknown task '{}'", shown(word)))),
    };

    context.may_continue()?;
    failpoint::panic_at("task.panics");

    let server = work
        .server
        .ok_or_else(|| Error::failed(format!("task {kind} needs a server")));
    match kind {
        TaskKind::CheckBuild => check(context, ended),
        TaskKind::InstallRuntime => install(context, work),
        TaskKind::PublishBuild | TaskKind::UseBuild | TaskKind::RemoveBuilds => {
            Err(Error::failed(format!("{kind} is not built yet")))
        }
        TaskKind::Initialize => initialize(context, work, server?),
        TaskKind::StartIfRan if work.was_running == Some(false) => {
            context.note(format!(
                "server {} was not running before and stays stopped",
                server?
            ));

            Ok(())
        }
        TaskKind::Start | TaskKind::StartIfRan => {
            let server = server?;
            start(context, server, ended)?;
            find_stale_on_other_game_files(context, work, server, ended);
            Ok(())
        }
        TaskKind::Stop => stop(context, work, server?, ended),
        TaskKind::PurgeUpper => {
            let server = server?;
            context.purge(&server.into())?;
            ended.stale = Some((server, Stale::default()));
            Ok(())
        }
        TaskKind::PurgeStale => purge_stale(context, server?, ended),
        TaskKind::PurgeInstance => {
            let server = server?;
            purge_instance(context, server)?;
            ended.stale = Some((server, Stale::default()));
            Ok(())
        }
    }
}

fn check(context: &TaskContext<'_>, ended: &mut Ended) -> Result<()> {
    let found = operation::check(context)?;
    let found = Builds {
        available: found.published,
        published_at: found
            .published_at
            .map(|seconds| seconds.saturating_mul(1000)),
        installed: found.installed,
        flaw: found.flaw,
    };

    context.note(found.message(clock::local));
    ended.builds = Some(found);
    Ok(())
}

fn install(context: &TaskContext<'_>, work: &Work) -> Result<()> {
    operation::install(context, |instance| {
        let mut names = work.names.iter();
        match names.find(|(id, _)| InstanceName::from(*id) == *instance) {
            Some((id, name)) => format!("server {id} ({name})"),
            None => format!("server {instance}"),
        }
    })
}

fn initialize(context: &TaskContext<'_>, work: &Work, server: ServerId) -> Result<()> {
    let spec = match &work.spec {
        Some(spec) => spec.clone()?,
        None => return Err(Error::failed("the blueprint of the server was not read")),
    };

    match instance::initialize(&context.paths().root, &server.into(), &spec, None, || {
        context.may_continue()
    })? {
        Initialized::Written => context.note(format!(
            "server {server}: instance and config layer written"
        )),
        Initialized::Unchanged => context.note(format!("server {server}: instance is up to date")),
        Initialized::InUse if work.operation == Some(Operation::Start) => {
            context.note(format!(
                "server {server} runs: changes apply at its next restart"
            ));
        }
        Initialized::InUse => {
            return Err(Error::failed(format!(
                "server {server} runs with its layer mounted: \
                 nothing was changed; enqueue restart to apply the changes"
            )));
        }
    }

    note_content(context, server, &spec);
    Ok(())
}

/// Logs which content the game will ignore. It is no reason not to start.
fn note_content(context: &TaskContext<'_>, server: ServerId, spec: &Spec) {
    for notice in notices::of(&spec.arguments, &spec.config) {
        context.warn(format!("server {server}: {notice}"));
    }
    match content::inspect(&context.paths().root, &spec.overlays, &[]) {
        Ok(found) => found.messages().for_each(|line| context.warn(line)),
        Err(error) => context.warn(format!("the overlays cannot be checked: {error}")),
    }
}

fn start(context: &TaskContext<'_>, server: ServerId, ended: &mut Ended) -> Result<()> {
    let instance = InstanceName::from(server);
    let mut progress = Start::default();
    let started = operation::start(context, &instance, &mut progress)
        .and_then(|observed| stay_up(context, &instance, observed, &mut progress.seen));
    ended.observed = progress.seen.map(|observed| (server, observed));

    let observed =
        started.map_err(|error| with_last_line(context, &instance, progress.enabled, error))?;
    context.note(format!(
        "server {server} is {} ({})",
        observed.unit.actual(),
        observed.unit.message()
    ));

    Ok(())
}

/// Waits until the server has stayed up for a moment. `seen` becomes its newest state.
fn stay_up(
    context: &TaskContext<'_>,
    instance: &InstanceName,
    observed: Observed,
    seen: &mut Option<Observed>,
) -> Result<Observed> {
    context.free_slot();
    let stays_up = stay_up::stays_up(&observed, || context.may_continue());
    context.take_slot();

    if stays_up? {
        return Ok(observed);
    }

    let how = match context.why_failed(instance, seen) {
        Some(end) => end.to_string(),
        None => "its exit is not known".to_owned(),
    };
    Err(Error::failed(format!(
        "server {instance} started and ended within moments: {how}"
    )))
}

/// Copies the last lines of a server that failed to start to the job's log, and adds the game's
/// last one to the error.
fn with_last_line(
    context: &TaskContext<'_>,
    instance: &InstanceName,
    enabled: bool,
    error: Error,
) -> Error {
    // It was not tried.
    if error.exit == Exit::Conflict {
        return error;
    }

    match (context.journal(instance, 20), error.exit) {
        // The helper has put the cause into the message of systemctl's failure.
        (_, Exit::Foreign(_)) | (Ok(None) | Err(_), _) => error,
        // These lines are from an earlier run.
        (Ok(Some(_)), _) if !enabled => error,
        (Ok(Some(line)), exit) => Error::new(exit, format!("{error}; its last line: {line}")),
    }
}

fn stop(context: &TaskContext<'_>, work: &Work, server: ServerId, ended: &mut Ended) -> Result<()> {
    let instance = InstanceName::from(server);
    let before = context.show(&instance)?.unit.actual();
    if before == ActualState::Running
        && matches!(work.operation, Some(Operation::Restart | Operation::Reset))
    {
        can_come_back(context, work, server)?;
    }

    let ran = matches!(
        before,
        ActualState::Running | ActualState::Starting | ActualState::Stopping
    );

    ended.was_running = Some(ran || work.should_run);

    let mut reply = Reply::default();
    let request = HelperRequest::Disable {
        server: instance.clone(),
        observe: true,
        again: work.operation == Some(Operation::Restart),
    };
    let disabled = context.send(&Request::Helper(request), &mut reply);

    // An older helper does not report the state.
    let observed = reply.observed.or_else(|| context.show(&instance).ok());
    ended.observed = observed.map(|observed| (server, observed));

    disabled?;
    context.note(format!("server {server} is stopped"));
    Ok(())
}

/// A restart that could not start the server again must not stop it, so that its players can stay.
fn can_come_back(context: &TaskContext<'_>, work: &Work, server: ServerId) -> Result<()> {
    let checked = match &work.spec {
        Some(spec) => spec
            .clone()
            .and_then(|spec| instance::check(&context.paths().root, &server.into(), &spec)),
        None => Ok(()),
    };

    checked.map_err(|error| {
        error.within(format!(
            "server {server} was left running, because it could not start again"
        ))
    })
}

/// After a start on other game files than before: finds the files that the game wrote and that hide
/// newer ones. The server is up, so a failure is only told.
fn find_stale_on_other_game_files(
    context: &TaskContext<'_>,
    work: &Work,
    server: ServerId,
    ended: &mut Ended,
) {
    let instance = InstanceName::from(server);
    let game = instance::game_files(&context.paths().root, &instance);
    // In place, an update changes the files and not where they are.
    let is_other = game.is_some_and(|game| game.build() != work.last_build)
        || work.operation == Some(Operation::Update);
    if !is_other {
        return;
    }

    match operation::stale(context, &instance) {
        Ok(found) => {
            if found.count > 0 {
                context.note(format!(
                    "server {server}: {} that its game wrote hide newer game files; `left4me \
                     server show {server}` lists them, `left4me-job enqueue reset --stale --server \
                     {server}` drops them",
                    found.amount()
                ));
            }
            ended.stale = Some((server, found));
        }
        Err(error) => context.warn(format!(
            "server {server}: it was not found out whether its files hide newer game files: {error}"
        )),
    }
}

fn purge_stale(context: &TaskContext<'_>, server: ServerId, ended: &mut Ended) -> Result<()> {
    let purged = operation::purge_stale(context, &server.into(), |dropped| {
        for file in &dropped.files {
            let size = disk::bytes(file.size);
            context.note(format!("server {server}: dropped {} ({size})", file.path));
        }
        let more = match dropped.more() {
            0 => String::new(),
            more => format!(", {more} of them not named here"),
        };
        context.note(match dropped.count {
            0 => format!("server {server}: no file hides a newer one of the game"),
            _ => format!("server {server}: dropped {}{more}", dropped.amount()),
        });
    });
    purged?;
    ended.stale = Some((server, Stale::default()));
    Ok(())
}

fn purge_instance(context: &TaskContext<'_>, server: ServerId) -> Result<()> {
    operation::remove(context, &server.into())?;
    context.note(format!(
        "server {server}: instance and runtime files are removed"
    ));

    Ok(())
}
