//! Tests of `domain::plan`.

use super::*;
use proptest::prelude::*;

fn shape(operation: Operation, targets: &[i64], running: &[i64]) -> Vec<String> {
    let ids = |ids: &[i64]| ids.iter().map(|&id| ServerId(id)).collect::<Vec<_>>();
    words(&plan(
        operation,
        &ids(targets),
        &ids(running),
        &UpdateOptions::default(),
    ))
}

fn in_place(validate: bool, running: &[i64]) -> Plan {
    let options = UpdateOptions {
        validate,
        in_place: true,
        ..UpdateOptions::default()
    };
    let running: Vec<_> = running.iter().map(|&id| ServerId(id)).collect();
    plan(Operation::Update, &[], &running, &options)
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
    assert_eq!(
        shape(Operation::Install, &[], &[7]),
        ["install-runtime<", "publish-build<0"]
    );
    assert_eq!(shape(Operation::Rollback, &[], &[7]), ["use-build<"]);
    assert_eq!(shape(Operation::Update, &[], &[7]), ["check-build<"]);
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
fn a_reset_of_stale_files_starts_the_server_also_if_one_cannot_be_dropped() {
    use Needs::{End, Success};
    let options = UpdateOptions {
        stale: true,
        ..UpdateOptions::default()
    };
    let tasks = plan(Operation::Reset, &[ServerId(1)], &[], &options).tasks;
    let found = tasks.into_iter().map(|task| (task.kind, task.after));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            (TaskKind::Stop, vec![]),
            (TaskKind::PurgeStale, vec![(0, Success)]),
            (TaskKind::Initialize, vec![(0, Success), (1, End)]),
            (TaskKind::StartIfRan, vec![(2, Success)]),
        ]
    );
}

#[test]
fn an_update_in_place_stops_side_by_side_installs_and_starts_what_ran_even_when_the_install_fails()
{
    assert_eq!(
        words(&in_place(false, &[1, 2])),
        [
            "check-build<",
            "stop(1)<0",
            "stop(2)<0",
            "install-runtime<0,1,2",
            "initialize(1)<0,1,3",
            "start-if-ran(1)<0,1,3,4",
            "initialize(2)<0,2,3",
            "start-if-ran(2)<0,2,3,6"
        ]
    );

    let plan = in_place(false, &[1]);
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
        words(&in_place(false, &[])),
        ["check-build<", "install-runtime<0"]
    );
}

#[test]
fn a_repair_asks_nothing_first() {
    assert_eq!(
        words(&in_place(true, &[1, 2])),
        [
            "stop(1)<",
            "stop(2)<",
            "install-runtime<0,1",
            "initialize(1)<0,2",
            "start-if-ran(1)<0,2,3",
            "initialize(2)<1,2",
            "start-if-ran(2)<1,2,5"
        ]
    );
    assert_eq!(words(&in_place(true, &[])), ["install-runtime<"]);

    let options = UpdateOptions {
        validate: true,
        ..UpdateOptions::default()
    };
    assert_eq!(
        words(&plan(Operation::Update, &[], &[ServerId(1)], &options)),
        ["install-runtime<", "publish-build<0"],
        "beside running servers, none is stopped for it"
    );
}

#[test]
fn a_roll_keeps_its_order_and_servers_on_the_old_files_are_stopped_first() {
    let ids: Vec<_> = (1..=3).map(ServerId).collect();
    assert_eq!(
        words(&roll(&ids, 2)),
        [
            "stop(1)<",
            "initialize(1)<0",
            "start-if-ran(1)<1",
            "stop(2)<",
            "initialize(2)<3",
            "start-if-ran(2)<4",
            "stop(3)<2",
            "initialize(3)<6",
            "start-if-ran(3)<7",
            "remove-builds<2,5,8"
        ]
    );
    assert_eq!(words(&roll(&[], 1)), ["remove-builds<"]);
    assert_eq!(
        words(&after_check(&[ServerId(7)])),
        [
            "stop(7)<",
            "install-runtime<0",
            "publish-build<1",
            "initialize(7)<0,2",
            "start-if-ran(7)<0,2,3"
        ]
    );
}

#[test]
fn after_a_check_that_ends_an_update_only_what_is_down_is_started() {
    for kind in TaskKind::ALL {
        assert!(!goes_on_after_check(kind, false), "{kind}");
        let starts = [TaskKind::Initialize, TaskKind::StartIfRan].contains(&kind);
        assert_eq!(goes_on_after_check(kind, true), starts, "{kind}");
    }
}

#[test]
fn a_rolling_restart_works_on_so_many_servers_at_a_time() {
    let ids: Vec<_> = (1..=4).map(ServerId).collect();
    let waits = |operation, at_once| -> Vec<_> {
        let tasks = rolling(operation, &ids, at_once, &UpdateOptions::default()).tasks;
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
        rolling(Operation::Start, &ids, 9, &UpdateOptions::default()),
        plan(Operation::Start, &ids, &[], &UpdateOptions::default()),
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

        let in_place = operation == Operation::Update;
        let options = UpdateOptions { in_place, ..UpdateOptions::default() };
        let plan = plan(operation, &ids, &ids, &options);
        for (index, task) in plan.tasks.iter().enumerate() {
            for &(dependency, _) in &task.after {
                prop_assert!(dependency < index);
                let other = plan.tasks[dependency].server;
                prop_assert!(other == task.server || other.is_none() || task.server.is_none());
            }
        }
    }
}
