//! The start of a server. It must stay up for a moment; on another build than the last one it must
//! also answer, if it used to. Otherwise it goes back to the last build by itself.

use std::time::{Duration, Instant};

use crate::base::builds::{self, GameFiles};
use crate::base::names::{InstanceName, ServerId};
use crate::base::{Error, Exit, Result, failpoint};
use crate::domain::operation::Operation;
use crate::host::instance::{self, Initialized};
use crate::host::operation::{self, OperationContext as _, Reply, Start};
use crate::host::units::Observed;
use crate::queue::context::TaskContext;
use crate::queue::stay_up;
use crate::queue::work::{Ended, Work};
use crate::wire::console::{ConsoleResult, ConsoleVerb, ask_all};
use crate::wire::{HelperRequest, Request};

/// How long one question may take.
pub(super) const QUESTION: Duration = Duration::from_millis(1500);

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) fn start(
    context: &TaskContext<'_>,
    work: &Work,
    server: ServerId,
    ended: &mut Ended,
) -> Result<()> {
    let instance = InstanceName::from(server);
    let game = instance::game_files(&context.paths().root, &instance);
    let build = game.and_then(GameFiles::build);
    let other = build.filter(|_| build != work.last_build);

    match bring_up(context, work, &instance, other.is_some(), ended) {
        Ok(observed) => {
            ended.came_up = game;
            context.note(format!(
                "server {server} is {} ({})",
                observed.unit.actual(),
                observed.unit.message()
            ));
            // In place, an update changes the files and not where they are.
            let is_other = game.is_some_and(|game| game.build() != work.last_build);
            if is_other || work.operation == Some(Operation::Update) {
                find_stale(context, &instance, server, ended);
            }
            Ok(())
        }
        Err(error) => match other {
            Some(build) => go_back(context, work, &instance, build, error, ended),
            None => Err(error),
        },
    }
}

/// Finds the files that the game wrote and that hide newer ones since the last start. The server is
/// up, so a failure is only told.
fn find_stale(
    context: &TaskContext<'_>,
    instance: &InstanceName,
    server: ServerId,
    ended: &mut Ended,
) {
    match operation::stale(context, instance) {
        Ok(found) => {
            if found.count > 0 {
                context.note(format!(
                    "server {server}: {} that its game wrote, older than those of the game files: \
                     `left4me server show {server}` lists them, `left4me-job enqueue reset --stale \
                     --server {server}` drops them",
                    found.amount()
                ));
            }
            ended.stale = Some(Box::new((server, found)));
        }
        Err(error) => context.warn(format!(
            "server {server}: it is not known whether its files hide newer game files: {error}"
        )),
    }
}

/// Starts the server and waits until it counts as up. `answers`: whether its game has to answer, if
/// it did before.
fn bring_up(
    context: &TaskContext<'_>,
    work: &Work,
    instance: &InstanceName,
    answers: bool,
    ended: &mut Ended,
) -> Result<Observed> {
    let mut progress = Start::default();
    let started = operation::start(context, instance, &mut progress)
        .and_then(|observed| stay_up(context, instance, observed, &mut progress.seen))
        .and_then(|observed| match (&work.spec, answers && work.answered) {
            (Some(Ok(spec)), true) => {
                let port = spec.port;
                answer(context, instance, port, observed, &mut progress.seen)
            }
            _ => Ok(observed),
        });
    if let Some(server) = work.server {
        ended.observed = progress.seen.map(|observed| (server, observed));
    }
    started.map_err(|error| with_last_line(context, instance, progress.enabled, error))
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
    Err(ended_within_moments(context, instance, seen))
}

/// Waits until the game answers a query. Fails if it ends, or does not answer in time.
fn answer(
    context: &TaskContext<'_>,
    instance: &InstanceName,
    port: u16,
    observed: Observed,
    seen: &mut Option<Observed>,
) -> Result<Observed> {
    context.free_slot();
    let since = Instant::now();
    let answered = loop {
        if let Err(error) = context.may_continue() {
            break Err(error);
        }
        match context.answers(instance, port, QUESTION) {
            Ok(true) => break Ok(true),
            Ok(false) => {}
            // That says nothing about the game.
            Err(error) => {
                context.warn(format!(
                    "the game of server {instance} cannot be asked: {error}"
                ));
                break Ok(stay_up::is_up(&observed));
            }
        }
        match stay_up::is_up(&observed) {
            true if since.elapsed() >= context.answer_limit() => {
                break Err(Error::failed(format!(
                    "server {instance} runs, but its game has not answered for {} s",
                    context.answer_limit().as_secs()
                )));
            }
            true => std::thread::sleep(PAUSE),
            false => break Ok(false),
        }
    };
    context.take_slot();

    match answered? {
        true => Ok(observed),
        false => Err(ended_within_moments(context, instance, seen)),
    }
}

fn ended_within_moments(
    context: &TaskContext<'_>,
    instance: &InstanceName,
    seen: &mut Option<Observed>,
) -> Error {
    let how = match context.why_failed(instance, seen) {
        Some(end) => end.to_string(),
        None => "its exit is not known".to_owned(),
    };
    Error::failed(format!(
        "server {instance} started and ended within moments: {how}"
    ))
}

/// Starts the server on the build of before. The task fails in any case: the server did not come up
/// on `build`.
fn go_back(
    context: &TaskContext<'_>,
    work: &Work,
    instance: &InstanceName,
    build: u64,
    error: Error,
    ended: &mut Ended,
) -> Result<()> {
    // A start that was cancelled, or not even tried, says nothing about the build.
    let was_tried = matches!(error.exit, Exit::Failed | Exit::Foreign(_));
    if context.may_continue().is_err() || !was_tried {
        return Err(error);
    }
    let root = &context.paths().root;
    let (Some(Ok(spec)), Some(old)) = (&work.spec, earlier(root, work.last_build, build)) else {
        // Whether it is the build's fault cannot be tried.
        return Err(error);
    };

    context.warn(format!(
        "server {instance} did not come up on build {build} ({error}): it goes back to {old}"
    ));
    failpoint::hit("start.goes_back");

    let back = stop_again(context, instance).and_then(|()| {
        let may = || context.may_continue();
        match instance::initialize(root, instance, spec, Some(old), may)? {
            Initialized::InUse => Err(Error::failed("its overlay is still mounted")),
            Initialized::Written | Initialized::Unchanged => {
                bring_up(context, work, instance, true, ended)
            }
        }
    });
    match back {
        Ok(_) => {
            ended.came_up = Some(old);
            ended.failed_build = Some(build);
            Err(error.within(format!(
                "server {instance} did not come up on build {build} and runs {old} again"
            )))
        }
        // Its own fault, or that of both builds.
        Err(other) => Err(error.within(format!(
            "server {instance} came up neither on build {build} nor, after that, on {old} \
             ({other})"
        ))),
    }
}

/// What the server can go back to: the build on which it came up last, or the newest other one.
fn earlier(root: &std::path::Path, last: Option<u64>, build: u64) -> Option<GameFiles> {
    let published = builds::list(root).ok()?;
    let others = published.iter().map(|found| found.build);
    let mut others = others.filter(|other| *other != build);
    let last = last.filter(|last| others.clone().any(|other| other == *last));
    last.or_else(|| others.find(|other| *other < build))
        .map(GameFiles::Build)
}

fn stop_again(context: &TaskContext<'_>, instance: &InstanceName) -> Result<()> {
    let request = HelperRequest::Disable {
        server: instance.clone(),
        observe: false,
        again: true,
    };
    context.send(&Request::Helper(request), &mut Reply::default())
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

impl TaskContext<'_> {
    /// Whether the game on `port` answers within `timeout`.
    ///
    /// Fails if the game cannot be asked.
    pub(super) fn answers(
        &self,
        instance: &InstanceName,
        port: u16,
        timeout: Duration,
    ) -> Result<bool> {
        let place = [(instance.clone(), port)];
        let (results, asked) = ask_all(
            self.console(),
            place,
            &ConsoleVerb::Info,
            timeout,
            &mut || false,
        );
        asked?;
        Ok(matches!(
            results.first(),
            Some(Some(ConsoleResult::Info(_)))
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_goes_back_to_its_last_build_or_the_newest_older_one() {
        let dir = tempfile::tempdir().unwrap();
        for build in ["5", "6", "7"] {
            std::fs::create_dir_all(dir.path().join("builds").join(build)).unwrap();
        }
        for (last, build, expected) in [
            (Some(5), 7, Some(5)),
            (Some(4), 7, Some(6)),
            (None, 6, Some(5)),
            (None, 5, None),
            (Some(7), 6, Some(7)),
        ] {
            let found = earlier(dir.path(), last, build);
            assert_eq!(found, expected.map(GameFiles::Build), "{last:?}, {build}");
        }
    }
}
