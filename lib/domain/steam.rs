//! Which arguments steamcmd gets, and what its output means. Pure: any text is accepted without
//! panic.
//!
//! Valve publishes neither exit codes nor state words; both come from operators' issue trackers.

mod app_info;
mod cause;
mod keyvalues;
mod manifest;
mod room;
mod verdict;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

pub use app_info::{AppInfo, Published, question};
pub use cause::{Cause, Retry};
pub use manifest::{LINUX_DEPOT, MANIFEST_LIMIT, SHARED_DEPOT, is_of_windows, prove};
pub use room::{Known, Room, Storage, judge};
pub use verdict::{Failure, Heard, Success, Verdict, after};

/// The Steam app id of Left 4 Dead 2's dedicated server.
pub const APP: u32 = 222_860;

/// Where the app's manifest is, below the installation: a directory, and the file in it.
pub const MANIFEST: [&str; 2] = ["steamapps", "appmanifest_222860.acf"];

/// How many attempts an installation has.
pub const ATTEMPTS: u32 = 5;

/// How many attempts the question for the app info has. Other jobs may wait for it.
pub const QUESTION_ATTEMPTS: u32 = 3;

/// A marker file in the installation's directory while Windows files may be in it. No server starts
/// while it exists.
pub const UNFINISHED: &str = ".left4me-unfinished";

/// The files that a Linux installation needs. One of each group is enough: older builds name them
/// without `_srv`.
pub const PROGRAMS: [&[&str]; 3] = [
    &["srcds_linux"],
    &["bin/engine_srv.so", "bin/engine.so"],
    &["left4dead2/bin/server_srv.so", "left4dead2/bin/server.so"],
];

/// Where steamcmd keeps `linux32/steamclient.so`, relative to its user's home: beside itself
/// (Valve's archive), or in the home (Debian's package, whose /usr/games/steamcmd copies itself
/// there).
pub const HOMES: [&str; 3] = [".local/share/Steam/steamcmd", ".steam/steamcmd", "Steam"];

/// Steam's client library, which a server loads from its `$HOME/.steam/sdk32`.
pub const LIBRARY: &str = "steamclient.so";

/// Where servers' copy of it is, relative to the home of steamcmd's user.
pub const CLIENT: &str = "client";

/// One run of steamcmd. On many hosts a linux pass fails with "Invalid platform" unless a windows
/// pass came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Lets steamcmd update itself and write its configuration.
    Prime,
    /// Installs the files that both platforms share.
    Windows,
    /// Installs the Linux server.
    Linux,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pass::Prime => "first run",
            Pass::Windows => "windows pass",
            Pass::Linux => "linux pass",
        })
    }
}

impl Pass {
    /// The passes of an attempt that begins with this one.
    pub fn and_later(self) -> &'static [Pass] {
        match self {
            Pass::Prime => &[Pass::Prime, Pass::Windows, Pass::Linux],
            Pass::Windows => &[Pass::Windows, Pass::Linux],
            Pass::Linux => &[Pass::Linux],
        }
    }

    /// steamcmd's arguments to install into `directory`, as `account` or anonymously.
    /// `+force_install_dir` has to come before `+login`.
    pub fn arguments(self, directory: &Path, account: Option<&str>) -> Vec<OsString> {
        let app = APP.to_string();
        let mut arguments: Vec<OsString> = Vec::new();

        let platform = match self {
            Pass::Prime => None,
            Pass::Windows => Some("windows"),
            Pass::Linux => Some("linux"),
        };

        if let Some(platform) = platform {
            arguments.extend(
                [
                    "+@sSteamCmdForcePlatformType",
                    platform,
                    "+force_install_dir",
                ]
                .map(OsString::from),
            );

            arguments.push(directory.into());
        }

        arguments.extend(login(account));
        if platform.is_some() {
            arguments.extend(["+app_update", &app, "validate"].map(OsString::from));
        }

        arguments.push("+quit".into());
        arguments
    }
}

/// The arguments of a login. No password is passed: steamcmd uses the credentials cached by a manual
/// login, and does not prompt without them.
fn login(account: Option<&str>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if account.is_some() {
        arguments.extend(["+@NoPromptForPassword", "1"].map(OsString::from));
    }
    arguments.extend(["+login", account.unwrap_or("anonymous")].map(OsString::from));
    arguments
}

/// Parses a setting as the name of a Steam account.
///
/// Errors: One line that does not repeat the value, which may be a password.
pub fn account(setting: &str) -> Result<Option<&str>, String> {
    let name = setting.trim();
    if name.is_empty() || name == "anonymous" {
        return Ok(None);
    }

    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-@".contains(&byte);
    if name.len() <= 64 && name.bytes().all(fits) && !name.starts_with(['-', '.', '@']) {
        return Ok(Some(name));
    }

    Err("LEFT4ME_STEAM_ACCOUNT is not a login name (letters, \
         digits and _ . - @): put the name alone there, and no password, \
         which steamcmd asks for once in a login by hand"
        .to_owned())
}

/// A progress line: `Update state (0x61) downloading, progress: 45.32 (1234 / 5678)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    pub state: u32,
    /// The phase: downloading, verifying update, …
    pub phase: &'a str,
    /// Percent, 0 to 100.
    pub percent: f64,
    /// Bytes done so far.
    pub done: u64,
    /// Bytes in total; 0 while that is not known.
    pub total: u64,
}

/// Parses a progress line; none for any other line.
pub fn progress(line: &str) -> Option<Progress<'_>> {
    let rest = line.trim().strip_prefix("Update state (0x")?;
    let (word, rest) = rest.split_once(')')?;
    let (phase, rest) = rest.split_once(", progress: ")?;
    let (percent, rest) = rest.split_once(" (")?;
    let (done, total) = rest.strip_suffix(')')?.split_once(" / ")?;
    let percent: f64 = percent.parse().ok()?;

    Some(Progress {
        state: u32::from_str_radix(word, 16).ok()?,
        phase: phase.trim(),
        percent: percent.is_finite().then(|| percent.clamp(0.0, 100.0))?,
        done: done.parse().ok()?,
        total: total.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(pass: Pass, account: Option<&str>) -> String {
        let words = pass.arguments(Path::new("/srv/l4d2"), account);
        words
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_manifest_is_named_after_the_app() {
        assert_eq!(MANIFEST[1], format!("appmanifest_{APP}.acf"));
    }

    #[test]
    fn the_install_directory_comes_before_the_login() {
        assert_eq!(
            words(Pass::Windows, None),
            "+@sSteamCmdForcePlatformType windows +force_install_dir /srv/l4d2 +login anonymous \
            +app_update 222860 validate +quit"
        );
        assert_eq!(words(Pass::Prime, None), "+login anonymous +quit");
    }

    #[test]
    fn an_account_is_a_name_alone_and_steamcmd_may_not_ask_for_its_password() {
        assert_eq!(
            words(Pass::Prime, Some("anna")),
            "+@NoPromptForPassword 1 +login anna +quit"
        );

        assert!(
            words(Pass::Linux, Some("anna"))
                .contains("+@NoPromptForPassword 1 +login anna +app_update")
        );

        assert_eq!(
            (account(""), account(" anonymous "), account("anna_7")),
            (Ok(None), Ok(None), Ok(Some("anna_7")))
        );

        for bad in [
            "anna secret7",
            "anna\nx",
            "+quit",
            "-x",
            "anna;id",
            &"a".repeat(65),
        ] {
            let error = account(bad).unwrap_err();
            assert!(
                error.contains("LEFT4ME_STEAM_ACCOUNT") && !error.contains("secret7"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_progress_line_is_read_and_no_other() {
        let read =
            progress(" Update state (0x61) downloading, progress: 45.32 (1234 / 5678)").unwrap();
        assert_eq!(
            read,
            Progress {
                state: 0x61,
                phase: "downloading",
                percent: 45.32,
                done: 1234,
                total: 5678
            }
        );

        for other in [
            "",
            "Update state",
            "Update state (0x) x, progress: 1 (1 / 2)",
            "Update state (0x5) x, progress: NaN (1 / 2)",
        ] {
            assert_eq!(progress(other), None, "{other}");
        }
    }
}
