//! A server's unit as systemd reports it, parsed from the lines of the helper's `show` or from bus
//! values.
//!
//! Names and meanings of the properties are those of org.freedesktop.systemd1(5).

use std::fmt;

use crate::domain::server::ActualState;

/// `Result` of a unit that ended without an error.
const SUCCESS: &str = "success";

/// A unit at one moment. The monotonic times are microseconds since boot, 0 for never. They
/// identify one start and one exit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// ActiveState.
    pub active: String,
    /// SubState.
    pub sub: String,
    /// Result: `success`, `exit-code`, `signal`, `oom-kill`, …
    pub result: String,
    /// Whether it starts at boot; none when systemd does not report it.
    pub enabled: Option<bool>,
    /// The type of its queued systemd job: `start`, `stop`, …
    pub job: Option<String>,
    /// NRestarts: automatic restarts since it was last started or reset by hand.
    pub restarts: u32,
    /// MainPID; none without a main process.
    pub main_pid: Option<u32>,
    /// ControlGroup; none when systemd does not report it.
    pub control_group: Option<String>,
    /// How its last main process exited; none while it runs, and when it never ran.
    pub exit: Option<MainExit>,
    /// ActiveEnterTimestampMonotonic.
    pub active_enter_us: u64,
    /// ActiveExitTimestampMonotonic.
    pub active_exit_us: u64,
    /// ExecMainStartTimestampMonotonic.
    pub start_us: u64,
    /// ExecMainExitTimestampMonotonic.
    pub exit_us: u64,
    /// MemoryCurrent, bytes; none without accounting.
    pub memory_bytes: Option<u64>,
    /// CPUUsageNSec; none without accounting.
    pub cpu_ns: Option<u64>,
    /// When the unit that mounts the server's layers failed, unix ms; none when it has not, or
    /// systemd was not asked.
    pub overlay_failed_at: Option<i64>,
}

/// How a main process exited: ExecMainCode and ExecMainStatus, which are waitid(2)'s si_code and
/// si_status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MainExit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// Why a unit is no longer up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// systemd stopped it on request.
    Told,
    /// It exited by itself, with success.
    Itself,
    /// The kernel killed it because memory ran out.
    OutOfMemory,
    /// A signal that systemd did not send killed it.
    Signal(i32),
    /// It exited with an error code.
    Code(i32),
    /// It did not start, stop or answer in time.
    Timeout,
    /// systemd gave up: too many starts in too short a time. Holds how the last run ended, if that
    /// is known.
    StartLimit(Option<Box<End>>),
    /// systemd has unloaded the unit, as it does with one that ended with success and that no other
    /// unit needs.
    Forgotten,
    /// The host went down.
    Boot,
    /// Its start failed before the game began, in most cases because its overlay could not be
    /// mounted.
    NotStarted,
    /// Its overlay's unit failed, so the game was not started.
    NotMounted,
    /// Another `Result` of systemd.
    Other(String),
}

impl Unit {
    /// A unit that systemd has not loaded: it does not run, and no earlier run is known.
    #[must_use]
    pub fn unloaded(enabled: bool) -> Self {
        Self {
            active: "inactive".to_owned(),
            sub: "dead".to_owned(),
            result: SUCCESS.to_owned(),
            enabled: Some(enabled),
            ..Self::default()
        }
    }

    /// Parses the `Name=value` lines that `systemctl show` prints. Without lines nothing is known
    /// of the unit.
    #[must_use]
    pub fn from_properties<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        Self::from_pairs(lines.filter_map(|line| line.split_once('=')))
    }

    /// Parses properties by name, as text. An invalid value counts as missing.
    #[must_use]
    pub fn from_pairs<'a>(properties: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut unit = Self::default();
        let (mut code, mut status) = (0, 0);
        for (name, value) in properties {
            let number = || value.parse::<u64>().unwrap_or(0);
            match name {
                "ActiveState" => value.clone_into(&mut unit.active),
                "SubState" => value.clone_into(&mut unit.sub),
                "Result" => value.clone_into(&mut unit.result),
                "UnitFileState" => unit.enabled = enabled(value),
                "NRestarts" => unit.restarts = value.parse().unwrap_or(0),
                "MainPID" => unit.main_pid = value.parse().ok().filter(|&pid| pid != 0),
                // The path must lie below the root of all control groups.
                "ControlGroup" => {
                    let is_below = value.starts_with('/') && !value.split('/').any(|part| part == "..");
                    unit.control_group = is_below.then(|| value.to_owned());
                }
                "ExecMainCode" => code = value.parse().unwrap_or(0),
                "ExecMainStatus" => status = value.parse().unwrap_or(0),
                "ActiveEnterTimestampMonotonic" => unit.active_enter_us = number(),
                "ActiveExitTimestampMonotonic" => unit.active_exit_us = number(),
                "ExecMainStartTimestampMonotonic" => unit.start_us = number(),
                "ExecMainExitTimestampMonotonic" => unit.exit_us = number(),
                "MemoryCurrent" => unit.memory_bytes = value.parse().ok().and_then(accounted),
                "CPUUsageNSec" => unit.cpu_ns = value.parse().ok().and_then(accounted),
                _ => {}
            }
        }

        unit.exit = MainExit::from_wait(code, status);
        unit
    }

    /// The unit's state as one of ours.
    #[must_use]
    pub fn actual(&self) -> ActualState {
        let actual = ActualState::from_unit(&self.active, &self.sub);
        match self.job.as_deref() {
            // A start at boot, or a start that waits for its overlay to be mounted.
            Some("start" | "restart") if actual == ActualState::Stopped => ActualState::Starting,
            _ => actual,
        }
    }

    /// Whether systemd knows no earlier run: there was none, or it has unloaded the unit since.
    #[must_use]
    pub fn has_no_marks(&self) -> bool {
        self.active_enter_us == 0 && self.exit_us == 0
    }

    /// Whether the unit is up after it was started. A unit that systemd is restarting has already
    /// crashed once and is not up. A unit in its first start is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let is_restarting = self.sub.contains("auto-restart") || self.restarts > 0;
        match self.actual() {
            ActualState::Running => true,
            ActualState::Starting => !is_restarting,
            _ => false,
        }
    }

    /// Its state and the reason, when it is not up after its start: `failed, failed, exit-code:
    /// exit code 3`.
    #[must_use]
    pub fn why_not_up(&self) -> String {
        let why = self.end().map_or_else(String::new, |end| format!(": {end}"));
        format!("{}{why}", self.words())
    }

    /// Why it is down; none while it is up, and when it was never up since systemd loaded it.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        match self.result.as_str() {
            "" => None,
            "start-limit-hit" => Some(End::StartLimit(self.exit.and_then(End::by).map(Box::new))),
            // Its main process has not exited.
            SUCCESS if self.exit_us == 0 => None,
            SUCCESS if self.was_told_to_stop() => Some(End::Told),
            // systemd counts the signals that end a service as success, no matter who sent them
            // (is_clean_exit in its src/shared/exit-status.c), and for our unit also exit code 130.
            // Without a stop it is a crash.
            SUCCESS => Some(self.exit.and_then(End::by).unwrap_or(End::Itself)),
            "oom-kill" => Some(self.last_of_many(End::OutOfMemory)),
            "timeout" | "watchdog" => Some(End::Timeout),
            word => match self.exit.and_then(End::by) {
                Some(end) => Some(self.last_of_many(end)),
                None => Some(End::Other(word.to_owned())),
            },
        }
    }

    /// Whether systemd was asked to stop it. A unit that is asked to stop leaves `active` before
    /// its process exits; if the process exits first, no stop was requested. A game that crashes at
    /// once may never have been `active`: then the time belongs to an earlier run, before this
    /// one's start.
    fn was_told_to_stop(&self) -> bool {
        self.active_exit_us != 0 && self.active_exit_us >= self.start_us && self.active_exit_us < self.exit_us
    }

    /// When the start limit prevents an automatic restart, the result stays that of the last run
    /// (systemd 252 and 257). A unit that has failed by itself after systemd restarted it means
    /// that systemd gave up.
    fn last_of_many(&self, end: End) -> End {
        // When memory runs out, the kernel may have killed a child process, and systemd the rest.
        let by_itself = end == End::OutOfMemory || self.exit_us != 0 && !self.was_told_to_stop();
        let gave_up = self.active == "failed" && self.sub == "failed" && self.restarts > 0 && by_itself;
        if gave_up { End::StartLimit(Some(Box::new(end))) } else { end }
    }

    /// `active, running`, and the result when it is not success.
    #[must_use]
    pub fn words(&self) -> String {
        let result =
            if self.result.is_empty() || self.result == SUCCESS { String::new() } else { format!(", {}", self.result) };
        format!("{}, {}{result}", self.active, self.sub)
    }
}

/// UnitFileState as yes or no. Only a symlink that survives a reboot counts as yes.
fn enabled(state: &str) -> Option<bool> {
    match state {
        "enabled" => Some(true),
        "disabled" | "enabled-runtime" | "masked" | "masked-runtime" => Some(false),
        _ => None,
    }
}

/// systemd reports the greatest number for "no accounting".
fn accounted(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

impl MainExit {
    /// From ExecMainCode (1 exited, 2 killed, 3 dumped core; 0 for none) and ExecMainStatus.
    #[must_use]
    pub fn from_wait(code: i32, status: i32) -> Option<Self> {
        match code {
            1 => Some(MainExit::Code(status)),
            2 | 3 => Some(MainExit::Signal(status)),
            _ => None,
        }
    }
}

impl fmt::Display for MainExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MainExit::Code(code) => write!(f, "exit code {code}{}", code_name(*code)),
            MainExit::Signal(signal) => write!(f, "signal {signal}{}", signal_name(*signal)),
        }
    }
}

impl End {
    /// How a main process exited, when that was an error.
    fn by(exit: MainExit) -> Option<Self> {
        match exit {
            MainExit::Signal(signal) => Some(End::Signal(signal)),
            MainExit::Code(0) => None,
            MainExit::Code(code) => Some(End::Code(code)),
        }
    }

    /// Whether it exited unexpectedly or with an error.
    #[must_use]
    pub fn is_crash(&self) -> bool {
        !matches!(self, End::Told | End::Itself | End::Forgotten | End::Boot)
    }
}

/// What follows "ended: " or "is down: ".
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Told => f.write_str("systemd was told to stop it"),
            End::Itself => f.write_str("the game ended by itself, without an error"),
            End::OutOfMemory => f.write_str("out of memory: the kernel killed it (OOM)"),
            End::Signal(signal) => MainExit::Signal(*signal).fmt(f),
            End::Code(code) => MainExit::Code(*code).fmt(f),
            End::Forgotten => f.write_str("it ended without an error, told to or by itself"),
            End::Boot => f.write_str("the host was booted, and it was not started again"),
            End::NotStarted => {
                f.write_str("it did not start: its overlay could not be mounted, or the start was cancelled")
            }
            End::NotMounted => f.write_str("its overlay could not be mounted"),
            End::Timeout => f.write_str("timeout: it did not start or stop in time"),
            End::StartLimit(None) => f.write_str("start limit: it was started too often in too short a time"),
            End::StartLimit(Some(last)) => {
                write!(f, "start limit: it ended too often in too short a time, last by {last}")
            }
            End::Other(word) => write!(f, "systemd says '{word}'"),
        }
    }
}

/// The signals that end a game in practice.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (HUP)",
        2 => " (INT)",
        3 => " (QUIT)",
        4 => " (ILL)",
        6 => " (ABRT)",
        7 => " (BUS)",
        8 => " (FPE)",
        9 => " (KILL)",
        11 => " (SEGV)",
        13 => " (PIPE)",
        15 => " (TERM)",
        24 => " (XCPU)",
        31 => " (SYS)",
        _ => "",
    }
}

/// systemd's own exit codes for failures before the game began, from systemd.exec(5).
fn code_name(code: i32) -> &'static str {
    match code {
        200 => " (CHDIR: its directory is missing)",
        203 => " (EXEC: srcds_linux is missing or cannot be executed)",
        217 => " (USER: the server's user is missing)",
        226 => " (NAMESPACE: its sandbox could not be set up)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
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

        assert_eq!((unit.actual(), unit.enabled, unit.main_pid), (ActualState::Running, Some(true), Some(77)));
        assert_eq!((unit.memory_bytes, unit.cpu_ns, unit.end()), (None, None, None));
        assert_eq!(unit.words(), "active, running");
    }

    #[test]
    fn nothing_said_is_unknown_and_a_crash_loop_is_a_failed_start() {
        assert_eq!(unit(&[]).actual(), ActualState::Unknown);
        assert_eq!(unit(&[]).end(), None);
        assert!(!unit(&["ActiveState=activating", "SubState=auto-restart", "Result=exit-code"]).is_up());
    }

    #[test]
    fn only_what_runs_or_starts_for_the_first_time_is_up() {
        let is_up = |active: &str, sub: &str, restarts: u32| {
            unit(&[&format!("ActiveState={active}"), &format!("SubState={sub}"), &format!("NRestarts={restarts}")])
                .is_up()
        };
        assert!(is_up("active", "running", 0) && is_up("active", "running", 3) && is_up("activating", "start", 0));

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

        assert!(words.contains("exit code 203") && words.contains("srcds_linux is missing"), "{words}");
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
        assert_eq!(end("success", 1, 0, 50, 60), Some(End::Told));
        assert_eq!(end("success", 1, 0, 61, 60), Some(End::Itself));

        // systemd counts this as success, but the unit was not stopped.
        assert_eq!(end("success", 2, 2, 61, 60), Some(End::Signal(2)));
        assert_eq!(end("success", 1, 130, 61, 60), Some(End::Code(130)));
        assert_eq!(end("success", 2, 2, 50, 60), Some(End::Told));
        assert_eq!(end("success", 1, 130, 50, 60), Some(End::Told));
        assert_eq!(end("signal", 2, 9, 61, 60), Some(End::Signal(9)));
        assert_eq!(end("core-dump", 3, 11, 61, 60), Some(End::Signal(11)));
        assert_eq!(end("exit-code", 1, 3, 61, 60), Some(End::Code(3)));
        assert_eq!(end("oom-kill", 2, 9, 61, 60), Some(End::OutOfMemory));
        assert_eq!(end("timeout", 2, 9, 50, 60), Some(End::Timeout));
        assert_eq!(end("start-limit-hit", 1, 3, 61, 60), Some(End::StartLimit(Some(Box::new(End::Code(3))))));
        assert_eq!(end("start-limit-hit", 1, 0, 61, 60), Some(End::StartLimit(None)));
        assert_eq!(end("resources", 0, 0, 0, 0), Some(End::Other("resources".to_owned())));
        assert!(end("signal", 2, 9, 61, 60).unwrap().is_crash() && !End::Itself.is_crash());
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
        let failed = |result: &str, restarts, active_exit, exit| started(result, restarts, 1, active_exit, exit);
        let last = |end| Some(End::StartLimit(Some(Box::new(end))));

        assert_eq!(failed("signal", 6, 3_562_697_815, 3_562_697_602), last(End::Signal(11)));
        assert_eq!(failed("oom-kill", 4, 3_562_697_815, 3_562_697_602), last(End::OutOfMemory));
        assert_eq!(failed("signal", 0, 61, 60), Some(End::Signal(11)), "systemd does not restart it at all");
        assert_eq!(failed("signal", 2, 50, 60), Some(End::Signal(11)), "it was told to stop");
        assert_eq!(failed("timeout", 2, 3_565_506_171, 3_566_580_398), Some(End::Timeout));
        assert_eq!(started("signal", 2, 45, 50, 60), Some(End::Signal(11)), "it was told to stop");
        assert_eq!(started("signal", 2, 55, 50, 60), last(End::Signal(11)), "the last run was never active");

        let words = last(End::Signal(11)).unwrap().to_string();
        assert!(words.starts_with("start limit") && words.ends_with("signal 11 (SEGV)"), "{words}");
    }

    #[test]
    fn only_what_survives_a_reboot_counts_as_enabled() {
        assert_eq!(
            ["enabled", "disabled", "enabled-runtime", "static", ""].map(enabled),
            [Some(true), Some(false), Some(false), None, None]
        );
    }
}
