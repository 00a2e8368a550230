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
    ByRequest,
    /// It exited by itself, with success.
    ByItself,
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
    pub fn from_properties<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        Self::from_pairs(lines.filter_map(|line| line.split_once('=')))
    }

    /// Parses properties by name, as text. An invalid value counts as missing.
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
                    let is_below =
                        value.starts_with('/') && !value.split('/').any(|part| part == "..");
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
    pub fn actual(&self) -> ActualState {
        let actual = ActualState::from_unit(&self.active, &self.sub);
        match self.job.as_deref() {
            // A start at boot, or a start that waits for its overlay to be mounted.
            Some("start" | "restart") if actual == ActualState::Stopped => ActualState::Starting,
            _ => actual,
        }
    }

    /// Whether systemd knows no earlier run: there was none, or it has unloaded the unit since.
    pub fn has_no_marks(&self) -> bool {
        self.active_enter_us == 0 && self.exit_us == 0
    }

    /// Whether the unit is up after it was started. A unit that systemd is restarting has already
    /// crashed once and is not up. A unit in its first start is up.
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
    pub fn why_not_up(&self) -> String {
        let why = self
            .end()
            .map_or_else(String::new, |end| format!(": {end}"));
        format!("{}{why}", self.message())
    }

    /// Why it is down; none while it is up, and when it was never up since systemd loaded it.
    pub fn end(&self) -> Option<End> {
        match self.result.as_str() {
            "" => None,
            "start-limit-hit" => Some(End::StartLimit(self.exit.and_then(End::by).map(Box::new))),
            // Its main process has not exited.
            SUCCESS if self.exit_us == 0 => None,
            SUCCESS if self.was_stopped_on_request() => Some(End::ByRequest),
            // systemd counts the signals that end a service as success, no matter who sent them
            // (is_clean_exit in its src/shared/exit-status.c), and for our unit also exit code 130.
            // Without a stop it is a crash.
            SUCCESS => Some(self.exit.and_then(End::by).unwrap_or(End::ByItself)),
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
    fn was_stopped_on_request(&self) -> bool {
        self.active_exit_us != 0
            && self.active_exit_us >= self.start_us
            && self.active_exit_us < self.exit_us
    }

    /// When the start limit prevents an automatic restart, the result stays that of the last run
    /// (systemd 252 and 257). A unit that has failed by itself after systemd restarted it means
    /// that systemd gave up.
    fn last_of_many(&self, end: End) -> End {
        // When memory runs out, the kernel may have killed a child process, and systemd the rest.
        let by_itself =
            end == End::OutOfMemory || self.exit_us != 0 && !self.was_stopped_on_request();
        let gave_up =
            self.active == "failed" && self.sub == "failed" && self.restarts > 0 && by_itself;
        if gave_up {
            End::StartLimit(Some(Box::new(end)))
        } else {
            end
        }
    }

    /// `active, running`, and the result when it is not success.
    pub fn message(&self) -> String {
        let result = if self.result.is_empty() || self.result == SUCCESS {
            String::new()
        } else {
            format!(", {}", self.result)
        };
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
    pub fn is_crash(&self) -> bool {
        !matches!(
            self,
            End::ByRequest | End::ByItself | End::Forgotten | End::Boot
        )
    }
}

/// What follows "ended: " or "is down: ".
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::ByRequest => f.write_str("it was stopped on request"),
            End::ByItself => f.write_str("the game ended by itself, without an error"),
            End::OutOfMemory => f.write_str("out of memory: the kernel killed it (OOM)"),
            End::Signal(signal) => MainExit::Signal(*signal).fmt(f),
            End::Code(code) => MainExit::Code(*code).fmt(f),
            End::Forgotten => f.write_str("it ended without an error, on request or by itself"),
            End::Boot => f.write_str("the host booted, and it was not started again"),
            End::NotStarted => f.write_str(
                "it did not start: its overlay could not be mounted, or the start was cancelled",
            ),
            End::NotMounted => f.write_str("its overlay could not be mounted"),
            End::Timeout => f.write_str("timeout: it did not start or stop in time"),
            End::StartLimit(None) => f.write_str("start limit: systemd gave up restarting it"),
            End::StartLimit(Some(last)) => {
                write!(
                    f,
                    "start limit: systemd gave up restarting it; last exit: {last}"
                )
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
mod tests;
