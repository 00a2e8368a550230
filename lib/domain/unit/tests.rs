//! Tests of `domain::unit`.

use super::*;

fn unit(lines: &[&str]) -> Unit {
    Unit::from_properties(lines.iter().copied())
}

#[test]
fn what_show_prints_becomes_a_state() {
    let unit = unit(&[
        "LoadState=loaded",
        "ActiveState=active",
        "SubState=running",
        "Result=success",
        "UnitFileState=enabled",
        "MainPID=77",
        "MemoryCurrent=18446744073709551615",
        "CPUUsageNSec=[not set]",
    ]);

    assert_eq!(
        (unit.actual(), unit.enabled, unit.main_pid),
        (ActualState::Running, Some(true), Some(77))
    );

    assert_eq!(
        (unit.memory_bytes, unit.cpu_ns, unit.end()),
        (None, None, None)
    );

    assert_eq!(unit.message(), "active, running");
}

#[test]
fn nothing_said_is_unknown_and_a_crash_loop_is_a_failed_start() {
    assert_eq!(unit(&[]).actual(), ActualState::Unknown);
    assert_eq!(unit(&[]).end(), None);
    assert!(
        !unit(&[
            "ActiveState=activating",
            "SubState=auto-restart",
            "Result=exit-code"
        ])
        .is_up()
    );
}

#[test]
fn only_what_runs_or_starts_for_the_first_time_is_up() {
    let is_up = |active: &str, sub: &str, restarts: u32| {
        unit(&[
            &format!("ActiveState={active}"),
            &format!("SubState={sub}"),
            &format!("NRestarts={restarts}"),
        ])
        .is_up()
    };

    assert!(
        is_up("active", "running", 0)
            && is_up("active", "running", 3)
            && is_up("activating", "start", 0)
    );

    for (active, sub, restarts) in [
        ("inactive", "dead", 0),
        ("failed", "failed", 0),
        ("activating", "start", 1),
        ("activating", "auto-restart-queued", 0),
        ("failed", "failed-before-auto-restart", 0),
        ("deactivating", "stop-sigterm", 0),
        ("active", "exited", 0),
        ("", "", 0),
    ] {
        assert!(!is_up(active, sub, restarts), "{active}, {sub}, {restarts}");
    }
}

#[test]
fn why_a_unit_is_not_up_names_the_missing_program() {
    let words = unit(&[
        "ActiveState=activating",
        "SubState=auto-restart",
        "Result=exit-code",
        "ExecMainCode=1",
        "ExecMainStatus=203",
        "ActiveExitTimestampMonotonic=5",
        "ExecMainExitTimestampMonotonic=4",
    ])
    .why_not_up();

    assert!(
        words.contains("exit code 203") && words.contains("srcds_linux is missing"),
        "{words}"
    );
}

#[test]
fn a_stopped_unit_with_a_start_job_is_starting() {
    let mut unit = unit(&["ActiveState=inactive", "SubState=dead"]);
    assert_eq!(unit.actual(), ActualState::Stopped);
    unit.job = Some("start".to_owned());
    assert_eq!(unit.actual(), ActualState::Starting);
    unit.job = Some("stop".to_owned());
    assert_eq!(unit.actual(), ActualState::Stopped);
}

#[test]
fn why_a_unit_is_down_is_told_by_its_result_and_by_what_came_first() {
    let end = |result: &str, code: i32, status: i32, active_exit: u64, exit: u64| {
        unit(&[
            &format!("Result={result}"),
            &format!("ExecMainCode={code}"),
            &format!("ExecMainStatus={status}"),
            &format!("ActiveExitTimestampMonotonic={active_exit}"),
            &format!("ExecMainExitTimestampMonotonic={exit}"),
        ])
        .end()
    };

    assert_eq!(end("success", 0, 0, 0, 0), None);
    assert_eq!(end("success", 1, 0, 50, 60), Some(End::ByRequest));
    assert_eq!(end("success", 1, 0, 61, 60), Some(End::ByItself));

    // systemd counts this as success, but the unit was not stopped.
    assert_eq!(end("success", 2, 2, 61, 60), Some(End::Signal(2)));
    assert_eq!(end("success", 1, 130, 61, 60), Some(End::Code(130)));
    assert_eq!(end("success", 2, 2, 50, 60), Some(End::ByRequest));
    assert_eq!(end("success", 1, 130, 50, 60), Some(End::ByRequest));
    assert_eq!(end("signal", 2, 9, 61, 60), Some(End::Signal(9)));
    assert_eq!(end("core-dump", 3, 11, 61, 60), Some(End::Signal(11)));
    assert_eq!(end("exit-code", 1, 3, 61, 60), Some(End::Code(3)));
    assert_eq!(end("oom-kill", 2, 9, 61, 60), Some(End::OutOfMemory));
    assert_eq!(end("timeout", 2, 9, 50, 60), Some(End::Timeout));
    assert_eq!(
        end("start-limit-hit", 1, 3, 61, 60),
        Some(End::StartLimit(Some(Box::new(End::Code(3)))))
    );

    assert_eq!(
        end("start-limit-hit", 1, 0, 61, 60),
        Some(End::StartLimit(None))
    );

    assert_eq!(
        end("resources", 0, 0, 0, 0),
        Some(End::Other("resources".to_owned()))
    );

    assert!(end("signal", 2, 9, 61, 60).unwrap().is_crash() && !End::ByItself.is_crash());
}

/// As measured on systemd 252 and 257, at the end of a crash loop and after a stop that timed
/// out.
#[test]
fn the_last_of_many_crashes_is_the_start_limit_whatever_the_result_says() {
    let started = |result: &str, restarts: u32, start: u64, active_exit: u64, exit: u64| {
        unit(&[
            "ActiveState=failed",
            "SubState=failed",
            &format!("Result={result}"),
            &format!("NRestarts={restarts}"),
            "ExecMainCode=2",
            "ExecMainStatus=11",
            &format!("ExecMainStartTimestampMonotonic={start}"),
            &format!("ActiveExitTimestampMonotonic={active_exit}"),
            &format!("ExecMainExitTimestampMonotonic={exit}"),
        ])
        .end()
    };

    let failed =
        |result: &str, restarts, active_exit, exit| started(result, restarts, 1, active_exit, exit);
    let last = |end| Some(End::StartLimit(Some(Box::new(end))));

    assert_eq!(
        failed("signal", 6, 3_562_697_815, 3_562_697_602),
        last(End::Signal(11))
    );

    assert_eq!(
        failed("oom-kill", 4, 3_562_697_815, 3_562_697_602),
        last(End::OutOfMemory)
    );

    assert_eq!(
        failed("signal", 0, 61, 60),
        Some(End::Signal(11)),
        "systemd does not restart it at all"
    );

    assert_eq!(
        failed("signal", 2, 50, 60),
        Some(End::Signal(11)),
        "it was told to stop"
    );

    assert_eq!(
        failed("timeout", 2, 3_565_506_171, 3_566_580_398),
        Some(End::Timeout)
    );

    assert_eq!(
        started("signal", 2, 45, 50, 60),
        Some(End::Signal(11)),
        "it was told to stop"
    );

    assert_eq!(
        started("signal", 2, 55, 50, 60),
        last(End::Signal(11)),
        "the last run was never active"
    );

    let words = last(End::Signal(11)).unwrap().to_string();
    assert!(
        words.starts_with("start limit") && words.ends_with("signal 11 (SEGV)"),
        "{words}"
    );
}

#[test]
fn only_what_survives_a_reboot_counts_as_enabled() {
    assert_eq!(
        ["enabled", "disabled", "enabled-runtime", "static", ""].map(enabled),
        [Some(true), Some(false), Some(false), None, None]
    );
}
