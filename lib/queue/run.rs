//! Runs one task: one operation on the host, with every line logged.
//!
//! A task runs in its own thread. It never uses the database: its input is read before it starts,
//! and its result is an [`Ended`].

use crate::base::names::{InstanceName, ServerId, shown};
use crate::base::{Error, Exit, Result, failpoint};
use crate::domain::blueprint::Spec;
use crate::domain::notices;
use crate::domain::operation::Operation;
use crate::domain::server::ActualState;
use crate::domain::task::{TaskKind, TaskState};
use crate::host::content;
use crate::host::instance::{self, Initialized};
use crate::host::units::{self};
use crate::host::{installation, mounts};
use crate::queue::context::{TaskContext, WorkerContext};
use crate::queue::stay_up;
use crate::queue::work::{Ended, Work};
use crate::wire::Stream;

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
    let task_hands = context.of_task(work.job, work.task);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        carry_out(&task_hands, work, &mut ended)
    }))
    .unwrap_or_else(|_| {
        Err(Error::failed(
            "left4me itself failed here (a panic; see the worker's journal)",
        ))
    });

    if let Err(error) = result {
        task_hands.note(Stream::Stderr, &error);
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

    context.may_go_on()?;
    failpoint::panic_at("task.panics");

    let server = work
        .server
        .ok_or_else(|| Error::failed(format!("task {kind} needs a server")));
    match kind {
        TaskKind::InstallRuntime => install(context, work),
        TaskKind::Initialize => initialize(context, work, server?),
        TaskKind::StartIfRan if work.was_running == Some(false) => {
            context.note(
                Stream::Stdout,
                format!("server {} did not run before; it stays stopped", server?),
            );

            Ok(())
        }
        TaskKind::Start | TaskKind::StartIfRan => start(context, server?, ended),
        TaskKind::Stop => stop(context, work, server?, ended),
        TaskKind::PurgeUpper => context.purge(&server?.into()),
        TaskKind::PurgeInstance => purge_instance(context, server?),
    }
}

/// Installs the game. Nothing may be mounted, because the kernel leaves changes to a lower layer
/// under a mount undefined.
fn install(context: &TaskContext<'_>, work: &Work) -> Result<()> {
    let mounted = mounts::overlays_mounted(context.root())?;
    if !mounted.is_empty() {
        let told = |instance: &InstanceName| {
            let known = work
                .names
                .iter()
                .find(|(id, _)| InstanceName::from(*id) == *instance);
            known.map_or_else(
                || instance.to_string(),
                |(id, name)| format!("{id} ({name})"),
            )
        };

        let names = mounted.iter().map(told).collect::<Vec<_>>().join(", ");
        return Err(Error::failed(format!(
            "the overlay of server {names} is mounted: stop it first, or enqueue update, which \
            stops, installs and starts again"
        )));
    }

    context.install()
}

fn initialize(context: &TaskContext<'_>, work: &Work, server: ServerId) -> Result<()> {
    let spec = match &work.spec {
        Some(spec) => spec.clone()?,
        None => {
            return Err(Error::failed(format!(
                "server {server}: its blueprint was not read"
            )));
        }
    };

    match instance::initialize(context.root(), &server.into(), &spec, || {
        context.may_go_on()
    })? {
        Initialized::Written => context.note(
            Stream::Stdout,
            format!("server {server}: instance and config layer written"),
        ),
        Initialized::Unchanged => context.note(
            Stream::Stdout,
            format!("server {server}: instance is up to date"),
        ),
        Initialized::InUse if work.operation == Some(Operation::Start) => {
            context.note(
                Stream::Stdout,
                format!("server {server} runs: its changes apply at the next restart"),
            );
        }
        Initialized::InUse => {
            return Err(Error::failed(format!(
                "server {server} runs with its layer mounted: nothing was changed; enqueue restart \
                to apply the changes"
            )));
        }
    }

    tell_content(context, server, &spec);
    Ok(())
}

/// Logs which content the game will ignore. It is no reason not to start.
fn tell_content(context: &TaskContext<'_>, server: ServerId, spec: &Spec) {
    for notice in notices::of(&spec.arguments, &spec.config) {
        context.note(Stream::Stderr, format!("server {server}: {notice}"));
    }
    match content::inspect(context.root(), &spec.overlays, &[]) {
        Ok(found) => found
            .messages()
            .for_each(|line| context.note(Stream::Stderr, line)),
        Err(error) => context.note(
            Stream::Stderr,
            format!("the overlays cannot be looked through: {error}"),
        ),
    }
}

fn start(context: &TaskContext<'_>, server: ServerId, ended: &mut Ended) -> Result<()> {
    let instance = InstanceName::from(server);
    installation::refuse_unfinished(context.root())
        .map_err(|error| error.within(format!("server {server}")))?;

    let (enabled, observed) = context.enable(&instance);
    if let Ok(observed) = &observed {
        ended.observed = Some((server, observed.clone()));
    }

    let is_up = match (&enabled, &observed) {
        (Ok(()), Ok(observed)) if !observed.unit.is_up() => Err(Error::failed(format!(
            "server {server} is not up after its start ({}); its last lines stand above",
            observed.unit.why_not_up()
        ))),
        _ => Ok(()),
    };

    let mut said = None;
    if enabled.is_err() || is_up.is_err() {
        // The last line of the game says more than left4me's own message.
        said = context.journal(&instance, 20).ok().flatten();
    }

    // systemctl reports that the start failed; the unit has the reason.
    if let Err(error) = enabled {
        let why = units::why_failed(|| {
            let observed = context.show(&instance)?;
            ended.observed = Some((server, observed.clone()));
            Ok(observed.unit)
        });

        return Err(match why {
            Some(end) => error.because(end),
            None => error,
        });
    }

    is_up.map_err(|error| match said {
        Some(line) => Error::new(error.exit, format!("{error}: {line}")),
        None => error,
    })?;

    let observed = observed?;
    context.settle();

    let stays = stay_up::stays_up(&observed, || context.may_go_on());
    context.settled();
    if !stays? {
        return Err(ended_at_once(context, server, ended));
    }

    context.note(
        Stream::Stdout,
        format!(
            "server {server} is {} ({})",
            observed.unit.actual(),
            observed.unit.message()
        ),
    );

    Ok(())
}

/// The error for a server that ended right after its start: the reason and its last line.
fn ended_at_once(context: &TaskContext<'_>, server: ServerId, ended: &mut Ended) -> Error {
    let instance = InstanceName::from(server);
    let end = units::why_failed(|| {
        let observed = context.show(&instance)?;
        ended.observed = Some((server, observed.clone()));
        Ok(observed.unit)
    });

    let how = end.map_or_else(
        || "how it ended is not known".to_owned(),
        |end| end.to_string(),
    );

    let said = match context.journal(&instance, 20) {
        Ok(Some(line)) => format!("; its last line: {line}"),
        _ => String::new(),
    };

    Error::failed(format!(
        "server {server} started and ended within moments: {how}{said}"
    ))
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

    ended.was_running = Some(ran || work.wanted);

    let (disabled, observed) = context.disable(&instance);
    if let Ok(observed) = observed {
        ended.observed = Some((server, observed));
    }

    disabled?;
    context.note(Stream::Stdout, format!("server {server} is stopped"));
    Ok(())
}

/// A restart that could not start the server again must not stop it, so that its players can stay.
fn can_come_back(context: &TaskContext<'_>, work: &Work, server: ServerId) -> Result<()> {
    let checked = match &work.spec {
        Some(spec) => spec
            .clone()
            .and_then(|spec| instance::check(context.root(), &server.into(), &spec)),
        None => Ok(()),
    };

    checked.map_err(|error| {
        error.within(format!(
            "server {server} goes on as it ran, because it could not start again"
        ))
    })
}

/// Removes the instance first, then the runtime files: the purge unit removes the runtime directory
/// only if the instance is gone.
fn purge_instance(context: &TaskContext<'_>, server: ServerId) -> Result<()> {
    let instance = InstanceName::from(server);
    instance::remove(context.root(), &instance, || context.may_go_on())?;
    context.purge(&instance)?;
    context.note(
        Stream::Stdout,
        format!("server {server}: instance and runtime files are removed"),
    );

    Ok(())
}
