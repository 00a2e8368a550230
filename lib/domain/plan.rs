//! Turns an operation into tasks and their dependencies, when the job is enqueued.
//!
//! A task depends only on tasks before it in the list, so every plan is acyclic.

use crate::base::names::ServerId;
use crate::domain::operation::Operation;
use crate::domain::task::{Needs, TaskKind};

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

    /// Adds tasks of one server, each of which needs the success of the one before, and the first
    /// one `after`. Gives the position of the last one.
    fn chain(
        &mut self,
        server: ServerId,
        kinds: &[TaskKind],
        after: Option<(usize, Needs)>,
    ) -> Option<usize> {
        let mut needed = after;
        for &kind in kinds {
            let task = self.push(kind, Some(server), needed.into_iter().collect());
            needed = Some((task, Needs::Success));
        }
        needed.map(|(task, _)| task)
    }
}

/// The plan of `operation` on `targets`. An update has no targets: `running` are the servers to
/// stop and to start again. Other operations ignore `running`.
pub fn plan(operation: Operation, targets: &[ServerId], running: &[ServerId]) -> Plan {
    let mut plan = Plan::default();
    match operation {
        Operation::Install => {
            plan.push(TaskKind::InstallRuntime, None, Vec::new());
        }
        Operation::Check => {
            plan.push(TaskKind::CheckBuild, None, Vec::new());
        }
        Operation::Rollback => {
            plan.push(TaskKind::UseBuild, None, Vec::new());
        }
        Operation::Update => {
            let check = plan.push(TaskKind::CheckBuild, None, Vec::new());
            update(&mut plan, running, Some(check));
        }
        _ => {
            for &server in targets {
                plan.chain(server, of_server(operation), None);
            }
        }
    }

    plan
}

/// The plan of `operation` on `targets`, at most `at_once` servers at a time: each server waits for
/// the one so many places before it. After a restart or reset that fails, the servers that wait for
/// it are left as they are; other operations go on.
pub fn rolling(operation: Operation, targets: &[ServerId], at_once: usize) -> Plan {
    let needs = match operation {
        Operation::Restart | Operation::Reset => Needs::Success,
        _ => Needs::End,
    };

    in_turn(targets, at_once, needs, |plan, server, after| {
        plan.chain(server, of_server(operation), after)
    })
}

/// The plan of a reset that drops only stale files, at most `at_once` servers at a time; all at
/// once without it. A file that cannot be dropped does not keep its server down.
pub fn reset_stale(targets: &[ServerId], at_once: Option<usize>) -> Plan {
    let at_once = at_once.unwrap_or(targets.len());
    in_turn(targets, at_once, Needs::Success, |plan, server, after| {
        let stop = plan.push(TaskKind::Stop, Some(server), after.into_iter().collect());
        let stopped = (stop, Needs::Success);
        let purge = plan.push(TaskKind::PurgeStale, Some(server), vec![stopped]);
        let purged = vec![stopped, (purge, Needs::End)];
        let initialize = plan.push(TaskKind::Initialize, Some(server), purged);
        let start = vec![(initialize, Needs::Success)];
        Some(plan.push(TaskKind::StartIfRan, Some(server), start))
    })
}

/// A plan in which each server waits for the one `at_once` places before it. `add` adds the tasks
/// of one server after a task, and gives the last one.
fn in_turn(
    targets: &[ServerId],
    at_once: usize,
    needs: Needs,
    add: impl Fn(&mut Plan, ServerId, Option<(usize, Needs)>) -> Option<usize>,
) -> Plan {
    let mut plan = Plan::default();
    let mut last_tasks: Vec<Option<usize>> = Vec::new();
    for (at, &server) in targets.iter().enumerate() {
        let before = at.checked_sub(at_once.max(1));
        let before = before.and_then(|before| last_tasks[before]);
        let after = before.map(|task| (task, needs));
        last_tasks.push(add(&mut plan, server, after));
    }

    plan
}

/// The tasks of one server, in order; none for an operation on the game files.
fn of_server(operation: Operation) -> &'static [TaskKind] {
    use TaskKind::{Initialize, PurgeInstance, PurgeUpper, Start, StartIfRan, Stop};

    match operation {
        Operation::Install | Operation::Update | Operation::Rollback | Operation::Check => &[],
        Operation::Initialize => &[Initialize],
        // Each start initializes first, so that a blueprint's changes apply.
        Operation::Start => &[Initialize, Start],
        Operation::Stop => &[Stop],
        Operation::Restart => &[Stop, Initialize, Start],
        Operation::Reset => &[Stop, PurgeUpper, Initialize, StartIfRan],
        Operation::Delete => &[Stop, PurgeInstance],
    }
}

/// The plan of an update that downloads and verifies everything, whatever Steam publishes: a repair.
pub fn validate(running: &[ServerId]) -> Plan {
    let mut plan = Plan::default();
    update(&mut plan, running, None);
    plan
}

/// Stops in parallel, then installs, then starts again. The starts need the install's end, not its
/// success: if Steam is down at night, the servers must not stay down until the morning. Each start
/// also needs its own server's stop, which records whether the server ran.
///
/// No server is stopped unless the `check` has succeeded and found something to do; see
/// [`goes_on_after_check`].
fn update(plan: &mut Plan, running: &[ServerId], check: Option<usize>) {
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
        plan.push(TaskKind::StartIfRan, Some(server), before_start.collect());
    }
}

/// Whether a task of an update goes on although the check failed or found nothing to do. That is the
/// start of a server that should be running and is down, as an update that was interrupted leaves
/// it.
pub fn goes_on_after_check(kind: TaskKind, is_down: bool) -> bool {
    kind == TaskKind::StartIfRan && is_down
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(operation: Operation, targets: &[i64], running: &[i64]) -> Vec<String> {
        let ids = |ids: &[i64]| ids.iter().map(|&id| ServerId(id)).collect::<Vec<_>>();
        words(&plan(operation, &ids(targets), &ids(running)))
    }

    fn words(plan: &Plan) -> Vec<String> {
        plan.tasks
            .iter()
            .map(|task| {
                let after: Vec<_> = task
                    .after
                    .iter()
                    .map(|(index, _)| index.to_string())
                    .collect();
                let server = task
                    .server
                    .map_or_else(String::new, |server| format!("({server})"));
                format!("{}{server}<{}", task.kind, after.join(","))
            })
            .collect()
    }

    #[test]
    fn each_operation_has_the_tasks_of_the_rules() {
        assert_eq!(shape(Operation::Install, &[], &[7]), ["install-runtime<"]);
        assert_eq!(shape(Operation::Check, &[], &[7]), ["check-build<"]);
        assert_eq!(
            shape(Operation::Start, &[1], &[]),
            ["initialize(1)<", "start(1)<0"]
        );

        assert_eq!(
            shape(Operation::Restart, &[1], &[]),
            ["stop(1)<", "initialize(1)<0", "start(1)<1"]
        );

        assert_eq!(
            shape(Operation::Reset, &[1], &[]),
            [
                "stop(1)<",
                "purge-upper(1)<0",
                "initialize(1)<1",
                "start-if-ran(1)<2"
            ]
        );

        assert_eq!(
            shape(Operation::Delete, &[4], &[]),
            ["stop(4)<", "purge-instance(4)<0"]
        );

        assert_eq!(
            shape(Operation::Stop, &[1, 2], &[]),
            ["stop(1)<", "stop(2)<"]
        );
    }

    #[test]
    fn an_update_stops_side_by_side_installs_and_starts_what_ran_even_when_the_install_fails() {
        assert_eq!(
            shape(Operation::Update, &[], &[1, 2]),
            [
                "check-build<",
                "stop(1)<0",
                "stop(2)<0",
                "install-runtime<0,1,2",
                "start-if-ran(1)<0,1,3",
                "start-if-ran(2)<0,2,3"
            ]
        );

        let plan = plan(Operation::Update, &[], &[ServerId(1)]);
        let needs = |task: usize, wanted: Needs| {
            let after = &plan.tasks[task].after;
            after.iter().all(|&(_, needs)| needs == wanted)
        };
        assert!(
            needs(1, Needs::Success),
            "no stop unless the check succeeds"
        );
        assert!(needs(2, Needs::Success));
        assert!(needs(3, Needs::End));

        assert_eq!(
            shape(Operation::Update, &[], &[]),
            ["check-build<", "install-runtime<0"]
        );
    }

    #[test]
    fn a_repair_asks_nothing_first() {
        assert_eq!(
            words(&validate(&[ServerId(1), ServerId(2)])),
            [
                "stop(1)<",
                "stop(2)<",
                "install-runtime<0,1",
                "start-if-ran(1)<0,2",
                "start-if-ran(2)<1,2"
            ]
        );
        assert_eq!(words(&validate(&[])), ["install-runtime<"]);
    }

    #[test]
    fn after_a_check_that_ends_an_update_only_what_is_down_is_started() {
        for kind in TaskKind::ALL {
            assert!(!goes_on_after_check(kind, false), "{kind}");
            assert_eq!(
                goes_on_after_check(kind, true),
                kind == TaskKind::StartIfRan
            );
        }
    }

    #[test]
    fn a_rolling_restart_works_on_so_many_servers_at_a_time() {
        let ids: Vec<_> = (1..=4).map(ServerId).collect();
        let waits = |operation, at_once| -> Vec<_> {
            let tasks = rolling(operation, &ids, at_once).tasks;
            let first = tasks
                .chunks(tasks.len() / 4)
                .map(|chunk| chunk[0].after.clone());
            first.collect()
        };

        use Needs::{End, Success};
        let none = Vec::new();
        assert_eq!(
            waits(Operation::Restart, 2),
            [
                none.clone(),
                none.clone(),
                vec![(2, Success)],
                vec![(5, Success)]
            ]
        );
        assert_eq!(
            waits(Operation::Stop, 1),
            [none.clone(), vec![(0, End)], vec![(1, End)], vec![(2, End)]]
        );
        assert_eq!(
            rolling(Operation::Start, &ids, 9),
            plan(Operation::Start, &ids, &[]),
            "nothing waits"
        );
    }

    proptest! {
        #[test]
        fn every_plan_is_acyclic_and_keeps_servers_apart(
            operation in proptest::sample::select(Operation::ALL.to_vec()),
            servers in proptest::collection::btree_set(1_i64..1000, 0..40),
        ) {
            let ids: Vec<_> = servers.into_iter().map(ServerId).collect();

            let plan = plan(operation, &ids, &ids);
            for (index, task) in plan.tasks.iter().enumerate() {
                for &(dependency, _) in &task.after {
                    prop_assert!(dependency < index);
                    let other = plan.tasks[dependency].server;
                    prop_assert!(other == task.server || other.is_none() || task.server.is_none());
                }
            }
        }
    }
}
