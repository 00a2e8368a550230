//! Turns an operation into tasks and their dependencies, when the job is enqueued.
//!
//! A task depends only on tasks before it in the list, so every plan is acyclic.

use crate::base::names::ServerId;
use crate::domain::operation::Operation;
use crate::domain::task::{Needs, TaskKind};
use crate::domain::update::UpdateOptions;

/// One task of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTask {
    pub kind: TaskKind,
    /// Its server; none for the game files, which all servers share.
    pub server: Option<ServerId>,
    /// Positions in the plan, each smaller than this task's own, and what it needs of each.
    pub after: Vec<(usize, Needs)>,
}

/// The tasks of a job, in an order that respects their dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub tasks: Vec<PlannedTask>,
}

impl Plan {
    fn push(
        &mut self,
        kind: TaskKind,
        server: Option<ServerId>,
        after: Vec<(usize, Needs)>,
    ) -> usize {
        self.tasks.push(PlannedTask {
            kind,
            server,
            after,
        });
        self.tasks.len() - 1
    }

    /// Adds tasks of one server, each of which needs the success of those before, and the first one
    /// `after`. Gives the position of the last one.
    fn chain(
        &mut self,
        server: ServerId,
        kinds: &[TaskKind],
        after: Option<(usize, Needs)>,
    ) -> Option<usize> {
        let mut needed: Vec<_> = after.into_iter().collect();
        for &kind in kinds {
            let task = self.push(kind, Some(server), needed.clone());
            match kind {
                // A file that cannot be dropped does not keep its server down.
                TaskKind::PurgeStale => needed.push((task, Needs::End)),
                _ => needed = vec![(task, Needs::Success)],
            }
        }
        needed.last().map(|&(task, _)| task)
    }

    /// Adds the tasks of each server, at most `at_once` servers at a time: each waits for the one so
    /// many places before it.
    fn in_windows(
        &mut self,
        servers: &[ServerId],
        kinds: &[TaskKind],
        at_once: usize,
        needs: Needs,
    ) {
        let mut last_tasks: Vec<Option<usize>> = Vec::new();
        for (at, &server) in servers.iter().enumerate() {
            let before = at.checked_sub(at_once.max(1));
            let before = before.and_then(|before| last_tasks[before]);
            let after = before.map(|task| (task, needs));
            last_tasks.push(self.chain(server, kinds, after));
        }
    }

    /// Adds the start of a server that an update has stopped, whatever came of the update. It is
    /// initialized first, because its game files may be elsewhere now.
    fn start_again(&mut self, server: ServerId, mut after: Vec<(usize, Needs)>) {
        let initialize = self.push(TaskKind::Initialize, Some(server), after.clone());
        after.push((initialize, Needs::End));
        self.push(TaskKind::StartIfRan, Some(server), after);
    }

    /// Adds the publication of what `install` installed.
    fn publish(&mut self, install: usize) -> usize {
        let after = vec![(install, Needs::Success)];
        self.push(TaskKind::PublishBuild, None, after)
    }
}

/// The plan of `operation` on `targets`, as far as it is known when the job is accepted. An update
/// that first asks Steam, and each roll, get the rest later: see [`after_check`] and [`roll`].
///
/// `running` are the servers that an update in place stops and starts again; other operations
/// ignore them.
pub fn plan(
    operation: Operation,
    targets: &[ServerId],
    running: &[ServerId],
    options: &UpdateOptions,
) -> Plan {
    let mut plan = Plan::default();
    match operation {
        Operation::Install => {
            let install = plan.push(TaskKind::InstallRuntime, None, Vec::new());
            if !options.in_place {
                plan.publish(install);
            }
        }
        Operation::Check => {
            plan.push(TaskKind::CheckBuild, None, Vec::new());
        }
        Operation::Rollback => {
            plan.push(TaskKind::UseBuild, None, Vec::new());
        }
        Operation::Update if options.in_place => {
            let check =
                (!options.validate).then(|| plan.push(TaskKind::CheckBuild, None, Vec::new()));
            in_place(&mut plan, running, check);
        }
        Operation::Update if options.validate => return after_check(&[]),
        Operation::Update => {
            plan.push(TaskKind::CheckBuild, None, Vec::new());
        }
        _ => {
            for &server in targets {
                plan.chain(server, of_server(operation, options), None);
            }
        }
    }

    plan
}

/// The rest of an update beside running servers, once it is known that there is something to
/// download. `stopped` are servers that still run from the files that steamcmd changes, as before
/// builds: they are stopped first and started on the new build.
pub fn after_check(stopped: &[ServerId]) -> Plan {
    let mut plan = Plan::default();
    let stops: Vec<usize> = stopped
        .iter()
        .map(|&server| plan.push(TaskKind::Stop, Some(server), Vec::new()))
        .collect();
    let after_stops = stops.iter().map(|&stop| (stop, Needs::Success));
    let install = plan.push(TaskKind::InstallRuntime, None, after_stops.collect());
    let publish = plan.publish(install);

    for (&server, &stop) in stopped.iter().zip(&stops) {
        plan.start_again(server, vec![(stop, Needs::End), (publish, Needs::End)]);
    }
    plan
}

/// The restarts that bring a build to `servers`, at most `at_once` at a time, in this order; then
/// the removal of builds that are no longer needed. A server waits for the end of an earlier one,
/// not for its success: how many may fail is counted when they end.
pub fn roll(servers: &[ServerId], at_once: usize) -> Plan {
    let mut plan = Plan::default();
    let kinds = [TaskKind::Stop, TaskKind::Initialize, TaskKind::StartIfRan];
    plan.in_windows(servers, &kinds, at_once, Needs::End);

    let starts = plan.tasks.iter().enumerate();
    let after: Vec<_> = starts
        .filter(|(_, task)| task.kind == TaskKind::StartIfRan)
        .map(|(at, _)| (at, Needs::End))
        .collect();
    plan.push(TaskKind::RemoveBuilds, None, after);
    plan
}

/// The plan of `operation` on `targets`, at most `at_once` servers at a time: each server waits for
/// the one so many places before it. After a restart or reset that fails, the servers that wait for
/// it are left as they are; other operations go on.
pub fn rolling(
    operation: Operation,
    targets: &[ServerId],
    at_once: usize,
    options: &UpdateOptions,
) -> Plan {
    let needs = match operation {
        Operation::Restart | Operation::Reset => Needs::Success,
        _ => Needs::End,
    };

    let mut plan = Plan::default();
    plan.in_windows(targets, of_server(operation, options), at_once, needs);
    plan
}

/// The tasks of one server, in order; none for an operation on the game files.
fn of_server(operation: Operation, options: &UpdateOptions) -> &'static [TaskKind] {
    use TaskKind::{Initialize, PurgeInstance, PurgeStale, PurgeUpper, Start, StartIfRan, Stop};

    match operation {
        Operation::Install | Operation::Update | Operation::Rollback | Operation::Check => &[],
        Operation::Initialize => &[Initialize],
        // Each start initializes first, so that a blueprint's changes apply.
        Operation::Start => &[Initialize, Start],
        Operation::Stop => &[Stop],
        Operation::Restart => &[Stop, Initialize, Start],
        Operation::Reset if options.stale => &[Stop, PurgeStale, Initialize, StartIfRan],
        Operation::Reset => &[Stop, PurgeUpper, Initialize, StartIfRan],
        Operation::Delete => &[Stop, PurgeInstance],
    }
}

/// An update in place: stops in parallel, then installs, then starts again. The starts need the install's end, not its
/// success: if Steam is down at night, the servers must not stay down until the morning. Each start
/// also needs its own server's stop, which records whether the server ran.
///
/// No server is stopped unless the `check` has succeeded and found something to do; see
/// [`goes_on_after_check`].
fn in_place(plan: &mut Plan, running: &[ServerId], check: Option<usize>) {
    let after_check = |needs| check.map(|check| (check, needs));
    let stops: Vec<usize> = running
        .iter()
        .map(|&server| {
            let after = after_check(Needs::Success).into_iter().collect();
            plan.push(TaskKind::Stop, Some(server), after)
        })
        .collect();

    let after_stops = stops.iter().map(|&stop| (stop, Needs::Success));
    let before_install = after_check(Needs::Success).into_iter().chain(after_stops);
    let install = plan.push(TaskKind::InstallRuntime, None, before_install.collect());

    for (&server, &stop) in running.iter().zip(&stops) {
        let before_start = after_check(Needs::End)
            .into_iter()
            .chain([(stop, Needs::End), (install, Needs::End)]);
        plan.start_again(server, before_start.collect());
    }
}

/// Whether a task of an update in place goes on although the check failed or found nothing to do. That is the
/// start of a server that should be running and is down, as an update that was interrupted leaves
/// it.
pub fn goes_on_after_check(kind: TaskKind, is_down: bool) -> bool {
    matches!(kind, TaskKind::Initialize | TaskKind::StartIfRan) && is_down
}

#[cfg(test)]
mod tests;
