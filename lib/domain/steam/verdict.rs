//! Judges one run of steamcmd: by its messages first, by its exit code last.

use super::cause::Cause;
use super::{APP, Pass};

/// The longest quote of steamcmd's output in an error, in characters.
const QUOTE_LIMIT: usize = 120;

/// Which success message a run printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// `Success! App '222860' fully installed.`: this run must have written the manifest.
    Installed,
    /// `Success! App '222860' already up to date.`: the manifest may be from an earlier run.
    UpToDate,
}

/// What one run has printed so far, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    success: Option<Success>,
    failure: Option<(Cause, String)>,
    /// A cause in a line that is not a failure by itself, such as a prompt or a warning of the
    /// loader.
    hint: Option<(Cause, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub cause: Cause,
    /// The pass, and steamcmd's own message and exit code.
    pub detail: String,
    /// The pass at which the next attempt begins.
    pub from: Pass,
}

/// The result of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It succeeded, as far as its output shows.
    Good(Option<Success>),
    Failed(Failure),
}

impl Heard {
    /// Records one line. A success message cancels what came before it, and a later failure cancels
    /// the success.
    pub fn line(&mut self, line: &str) {
        let line = line.trim();
        if let Some(success) = success(line) {
            *self = Self {
                success: Some(success),
                ..Self::default()
            };

            return;
        }

        let cause = state_word(line)
            .and_then(Cause::of_state)
            .or_else(|| Cause::of_line(line));
        if is_failure(line) {
            let fatal = line.contains("Fatal Error");
            let cause = cause.unwrap_or(if fatal { Cause::Fatal } else { Cause::Other });
            // The first named cause stays: what follows a failed login is a consequence of it.
            if !self
                .failure
                .as_ref()
                .is_some_and(|(first, _)| outranks(*first, cause))
            {
                self.failure = Some((cause, quote(line)));
            }
            self.success = None;
        } else if let Some(cause) = cause.filter(|cause| is_hint(*cause, line)) {
            self.hint = Some((cause, quote(line)));
        }
    }

    /// Why the run failed, as far as its messages say so: the cause and the line.
    pub(super) fn why(&self) -> Option<(Cause, &str)> {
        let why = self.failure.as_ref().or(self.hint.as_ref())?;
        Some((why.0, &why.1))
    }

    /// Whether a line reported a failure, and none reported a success after it.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Records that steamcmd hung and was killed.
    pub fn hung(&mut self, seconds: u64) {
        self.success = None;
        let words = format!("no output and nothing new on disk for {seconds} s");
        // A prompt that waits for an answer explains more than the silence after it.
        self.failure = Some(match self.hint.take() {
            Some((cause, line)) if cause == Cause::SteamGuard || cause == Cause::Credentials => {
                (cause, line)
            }
            _ => (Cause::Silent, words),
        });
    }
}

/// Whether an earlier failure explains more than a later one.
fn outranks(first: Cause, second: Cause) -> bool {
    match (first, second) {
        (Cause::Other | Cause::Fatal, _) => false,
        // `FAILED (Timed out)` at the login explains the update's failure after it. A full disk
        // still outranks it.
        (_, Cause::DiskFull) => false,
        (
            Cause::TimedOut | Cause::Network,
            Cause::Credentials | Cause::SteamGuard | Cause::RateLimit,
        ) => false,
        (Cause::TimedOut | Cause::Network, Cause::NoSubscription) => false,
        // State words of an update job: the last one is the state in which it ended.
        (
            Cause::Incomplete | Cause::NotWritten | Cause::FilesMissing | Cause::Corrupt,
            Cause::Incomplete | Cause::NotWritten | Cause::FilesMissing | Cause::Corrupt,
        ) => false,
        _ => true,
    }
}

fn success(line: &str) -> Option<Success> {
    let at = line.find("Success! App '")?;

    let rest = line[at..]
        .strip_prefix("Success! App '")?
        .strip_prefix(&APP.to_string())?
        .strip_prefix('\'')?;
    if rest.contains("already up to date") {
        Some(Success::UpToDate)
    } else if rest.contains("fully installed") {
        Some(Success::Installed)
    } else {
        None
    }
}

/// Whether a line reports a failure. `FAILED` stands in the middle of lines, as does `ERROR!` after
/// a colour code. steamcmd's assertions and the warnings of its bootstrap do not end a run.
fn is_failure(line: &str) -> bool {
    let upper = line
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word == "FAILED");
    let error =
        line.to_ascii_lowercase().contains("error! ") || line.eq_ignore_ascii_case("error!");
    upper || error || line.contains("Fatal Error:") || line.starts_with("Login Failure")
}

/// Which causes count in a line that is not a failure: only prompts and the loader's messages.
/// Progress lines and file names may contain any words.
fn is_hint(cause: Cause, line: &str) -> bool {
    match cause {
        Cause::SteamGuard => !line.contains("provided") && !line.contains("OK"),
        Cause::Credentials => {
            line.contains("not found") || line.to_ascii_lowercase().starts_with("password")
        }
        Cause::Libraries | Cause::DiskFull => true,
        _ => false,
    }
}

/// The state word of `Error! App '222860' state is 0x202 after update job.`
fn state_word(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("state is 0x")?;
    let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    u32::from_str_radix(digits, 16).ok()
}

/// steamcmd's message for an error: shortened, without the part of the line that reports success.
fn quote(line: &str) -> String {
    let short: String = line.chars().take(QUOTE_LIMIT).collect();
    if short.len() < line.len() {
        short + "…"
    } else {
        short
    }
}

/// Decides after one pass. Messages come before the exit code: a login that timed out also exits
/// with 0, and a run that reported success may crash while it quits.
pub fn after(pass: Pass, code: i32, heard: &Heard) -> Verdict {
    if pass == Pass::Prime {
        // This pass has nothing to install. A bare exit code is no reason to stop, because the next
        // pass shows the cause.
        let Some((cause, words)) = heard.why() else {
            return Verdict::Good(None);
        };
        return Verdict::Failed(failure(pass, code, cause, Some(words)));
    }

    if let Some(success) = heard.success {
        return Verdict::Good(Some(success));
    }

    let (cause, words) = match heard.why() {
        Some((cause, words)) => (cause, Some(words)),
        None => (Cause::of_code(code), None),
    };

    Verdict::Failed(failure(pass, code, cause, words))
}

fn failure(pass: Pass, code: i32, cause: Cause, words: Option<&str>) -> Failure {
    let words = words.map_or_else(String::new, |words| format!(": {words}"));
    let from = match cause {
        Cause::InvalidPlatform => Pass::Windows,
        Cause::MissingConfiguration => Pass::Prime,
        _ => pass,
    };

    Failure {
        cause,
        detail: format!("{pass}, exit code {code}{words}"),
        from,
    }
}

#[cfg(test)]
mod tests;
