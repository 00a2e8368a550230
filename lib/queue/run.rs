//! Runs one task: one operation on the host, with every line logged.
//!
//! A task runs in its own thread. It never uses the database: its input is read before it starts,
//! and its result is an [`Ended`].

use crate::base::builds::GameFiles;
use crate::base::names::{InstanceName, ServerId, shown};
use crate::base::size::size;
use crate::base::{Error, Exit, Result, failpoint};
use crate::domain::blueprint::Spec;
use crate::domain::notices;
use crate::domain::operation::Operation;
use crate::domain::server::ActualState;
use crate::domain::stale::Stale;
use crate::domain::task::{TaskKind, TaskState};
use crate::host::content;
use crate::host::instance::{self, Initialized};
use crate::host::operation::{self, OperationContext as _, Reply};
use crate::queue::context::{TaskContext, WorkerContext};
use crate::queue::start::QUESTION;
use crate::queue::work::{Ended, Work};
use crate::queue::{build_tasks, start};
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

        ended.interrupted = task_context.may_continue().is_err();
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
        TaskKind::CheckBuild => build_tasks::check(context, work, ended),
        TaskKind::InstallRuntime => build_tasks::install(context, work, ended),
        TaskKind::PublishBuild => build_tasks::publish(context, work, ended),
        TaskKind::UseBuild => build_tasks::use_build(context, work, ended),
        TaskKind::RemoveBuilds => build_tasks::remove(context, work),
        TaskKind::Initialize => initialize(context, work, server?),
        TaskKind::StartIfRan if work.was_running == Some(false) => {
            context.note(format!(
                "server {} was not running before and stays stopped",
                server?
            ));

            Ok(())
        }
        TaskKind::Start | TaskKind::StartIfRan => start::start(context, work, server?, ended),
        TaskKind::Stop => stop(context, work, server?, ended),
        TaskKind::PurgeUpper => {
            let server = server?;
            context.purge(&server.into())?;
            ended.stale = Some(Box::new((server, Stale::default())));
            Ok(())
        }
        TaskKind::PurgeStale => purge_stale(context, server?, ended),
        TaskKind::PurgeInstance => {
            let server = server?;
            purge_instance(context, server)?;
            ended.stale = Some(Box::new((server, Stale::default())));
            Ok(())
        }
    }
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
        Initialized::InUse if work.operation.is_some_and(Operation::stops_first) => {
            return Err(Error::failed(format!(
                "server {server} still has its files mounted: it runs, or a program uses them \
                 (`sudo fuser -vm {}` names it); end that, and `left4me-job enqueue start --server {server}`",
                context
                    .paths()
                    .root
                    .join(format!("runtime/{server}/merged"))
                    .display()
            )));
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

fn stop(context: &TaskContext<'_>, work: &Work, server: ServerId, ended: &mut Ended) -> Result<()> {
    let instance = InstanceName::from(server);
    let before = context.show(&instance)?.unit.actual();
    let rolls = work.operation.is_some_and(Operation::rolls_out) && !work.options.in_place;
    let comes_back = rolls || matches!(work.operation, Some(Operation::Restart | Operation::Reset));
    if before == ActualState::Running && comes_back {
        can_come_back(context, work, server)?;
        ended.answered = answered(context, work, &instance);
    }

    let ran = matches!(
        before,
        ActualState::Running | ActualState::Starting | ActualState::Stopping
    );

    ended.was_running = Some(ran || work.should_run);
    ended.was_up = Some(before == ActualState::Running);

    let mut reply = Reply::default();
    let request = HelperRequest::Disable {
        server: instance.clone(),
        observe: true,
        again: rolls || work.operation == Some(Operation::Restart),
    };
    let disabled = context.send(&Request::Helper(request), &mut reply);

    // An older helper does not report the state.
    let observed = reply.observed.or_else(|| context.show(&instance).ok());
    ended.observed = observed.map(|observed| (server, observed));

    disabled?;
    context.note(format!("server {server} is stopped"));
    Ok(())
}

/// Whether the game answers, if it will start on another build: then it has to answer there too.
fn answered(context: &TaskContext<'_>, work: &Work, instance: &InstanceName) -> Option<bool> {
    let root = &context.paths().root;
    let next = GameFiles::current(root).ok();
    if next == instance::game_files(root, instance) {
        return None;
    }
    let port = work.spec.as_ref()?.as_ref().ok()?.port;
    context.answers(instance, port, QUESTION).ok()
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

fn purge_stale(context: &TaskContext<'_>, server: ServerId, ended: &mut Ended) -> Result<()> {
    let purged = operation::purge_stale(context, &server.into(), |dropped| {
        for file in &dropped.files {
            let size = size(file.size);
            context.note(format!("server {server}: dropped {} ({size})", file.path));
        }
        let more = match dropped.more() {
            0 => String::new(),
            more => format!(", {more} of them not named here"),
        };
        context.note(match dropped.count {
            0 => format!("server {server}: {}", dropped.none()),
            _ => format!("server {server}: dropped {}{more}", dropped.amount()),
        });
    });
    if purged?.is_whole {
        ended.stale = Some(Box::new((server, Stale::default())));
    }
    Ok(())
}

fn purge_instance(context: &TaskContext<'_>, server: ServerId) -> Result<()> {
    operation::remove(context, &server.into())?;
    context.note(format!(
        "server {server}: instance and runtime files are removed"
    ));

    Ok(())
}
