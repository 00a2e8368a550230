//! What to tell steamcmd and what its words mean. Pure: text in, decisions out; any text is taken without panic.
//!
//! Valve publishes neither exit codes nor state words; both are as operators' issue trackers report them.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

/// Left 4 Dead 2's dedicated server.
pub const APP: u32 = 222_860;

/// How often an installation is tried before it is given up.
pub const ATTEMPTS: u32 = 5;

/// How much of a manifest is looked at, in bytes; a real one has a few kilobytes.
pub const MANIFEST_LIMIT: usize = 1024 * 1024;

/// How deep a manifest's braces may nest; a real one has three levels.
const DEPTH_LIMIT: u32 = 32;

/// One run of steamcmd. A plain linux pass fails for many with "Invalid platform" unless a windows pass came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Lets steamcmd update itself and write its configuration.
    Prime,
    /// Lays down what both platforms share.
    Windows,
    /// The server itself.
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
    /// steamcmd's arguments to install into `directory`. `+force_install_dir` has to come before `+login`.
    #[must_use]
    pub fn arguments(self, directory: &Path) -> Vec<OsString> {
        let platform = match self {
            Pass::Prime => return ["+login", "anonymous", "+quit"].map(OsString::from).to_vec(),
            Pass::Windows => "windows",
            Pass::Linux => "linux",
        };
        let mut arguments =
            ["+@sSteamCmdForcePlatformType", platform, "+force_install_dir"].map(OsString::from).to_vec();
        arguments.push(directory.into());
        let app = APP.to_string();
        arguments.extend(["+login", "anonymous", "+app_update", &app, "validate", "+quit"].map(OsString::from));
        arguments
    }
}

/// A progress line: `Update state (0x61) downloading, progress: 45.32 (1234 / 5678)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// The state word.
    pub state: u32,
    /// What is being done: downloading, verifying update, …
    pub phase: &'a str,
    /// 0 to 100.
    pub percent: f64,
    /// Bytes so far.
    pub done: u64,
    /// Bytes in all; 0 while that is not known.
    pub total: u64,
}

/// Reads a progress line; `None` for any other line.
#[must_use]
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

/// The state word of `Error! App '222860' state is 0x202 after update job.`
#[must_use]
pub fn state_word(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("state is 0x")?;
    let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
    u32::from_str_radix(digits, 16).ok()
}

/// What one pass said that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    state: Option<u32>,
    error: Option<String>,
}

impl Heard {
    /// Takes note of one line. A success takes back what was said before it.
    pub fn line(&mut self, line: &str) {
        let line = line.trim();
        if line.starts_with("Success! App") {
            *self = Self::default();
        } else if line.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("error!")) || line.starts_with("FAILED")
        {
            self.state = state_word(line).or(self.state);
            self.error = Some(line.to_owned());
        }
    }
}

/// Whether an interrupted download may be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staging {
    /// It may.
    Keep,
    /// It is corrupt: steamapps/downloading and steamapps/temp have to go.
    Clear,
}

/// What a pass came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did what it should, as far as it says.
    Good,
    /// It may work the next time.
    Again {
        /// Why it failed.
        why: String,
        /// The pass to begin with.
        from: Pass,
        /// What to do before.
        staging: Staging,
    },
    /// There is no room; trying again makes it no better.
    DiskFull {
        /// What steamcmd said.
        why: String,
    },
}

/// Decides after one pass from steamcmd's exit code and its words. Exit code 0 alone is no success: it is also what
/// "Missing configuration" ends with.
#[must_use]
pub fn after(pass: Pass, code: i32, heard: &Heard) -> Verdict {
    let words = heard.error.as_deref();
    if code == 0 && words.is_none() {
        return Verdict::Good;
    }
    let meaning = match (heard.state, code) {
        (Some(0x202 | 0x212), _) => "the disk is full",
        (Some(0x402 | 0x602), _) => "the update is not complete",
        (Some(0x606), _) => "files could not be written",
        (Some(0x626), _) => "files are missing",
        (Some(0x6a6), _) => "the download is corrupt",
        (_, 1) => "no app information came in time",
        (_, 5) => "the login failed",
        (_, 8) => "the installation failed",
        (_, 129..=192) => "it was killed",
        _ => "it failed",
    };
    let why = match words {
        Some(words) => format!("{pass}: {meaning} (exit code {code}: {words})"),
        None => format!("{pass}: {meaning} (exit code {code})"),
    };
    match heard.state {
        Some(0x202 | 0x212) => Verdict::DiskFull { why },
        Some(0x6a6) => Verdict::Again { why, from: pass, staging: Staging::Clear },
        _ if words.is_some_and(|words| words.contains("Invalid platform")) => {
            Verdict::Again { why, from: Pass::Windows, staging: Staging::Keep }
        }
        _ => Verdict::Again { why, from: pass, staging: Staging::Keep },
    }
}

/// Reads the proof that the game is whole from `steamapps/appmanifest_222860.acf`: it belongs to the app, has a build,
/// is in state 4 (fully installed), and all that was to be downloaded and staged is. Keys of bytes that are not there
/// count as 0, as steamcmd leaves them out when nothing was to be done. Gives the build's id.
///
/// # Errors
/// One line that says what is missing.
pub fn prove(manifest: &str) -> Result<u64, String> {
    let entries = entries(manifest)?;
    let number = |key: &str| -> Result<Option<u64>, String> {
        let found = entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.parse().map_err(|_| format!("its {key} is not a number"))).transpose()
    };
    if number("appid")?.is_some_and(|app| app != u64::from(APP)) {
        return Err(format!("it is not that of app {APP}"));
    }
    let build = number("buildid")?.filter(|&build| build > 0).ok_or("it has no buildid")?;
    for (done, all) in [("BytesDownloaded", "BytesToDownload"), ("BytesStaged", "BytesToStage")] {
        let (have, want) = (number(done)?.unwrap_or(0), number(all)?.unwrap_or(0));
        if have != want {
            return Err(format!("{done} is {have} of {want}"));
        }
    }
    match number("StateFlags")? {
        Some(4) => Ok(build),
        Some(flags) => Err(format!("its StateFlags are {flags}, not 4 (fully installed)")),
        None => Err("it has no StateFlags".to_owned()),
    }
}

/// The keys and values directly inside the outermost braces of Valve's KeyValues format.
fn entries(text: &str) -> Result<Vec<(String, String)>, String> {
    if text.len() > MANIFEST_LIMIT {
        return Err(format!("it is longer than {MANIFEST_LIMIT} bytes"));
    }
    let (mut found, mut key, mut depth) = (Vec::new(), None, 0_u32);
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '"' => {
                let (word, after) = quoted(&rest[1..])?;
                rest = after;
                match key.take() {
                    None => key = Some(word),
                    Some(name) if depth == 1 => found.push((name, word)),
                    Some(_) => {}
                }
            }
            '{' if key.take().is_some() && depth < DEPTH_LIMIT => (depth, rest) = (depth + 1, &rest[1..]),
            '}' if key.is_none() && depth > 0 => (depth, rest) = (depth - 1, &rest[1..]),
            _ => return Err("it is not a manifest".to_owned()),
        }
        rest = rest.trim_start();
    }
    if depth > 0 || key.is_some() {
        return Err("it ends in the middle".to_owned());
    }
    Ok(found)
}

/// The text up to the closing quote, and what comes after that.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut word = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((word, &text[at + 1..])),
            '\\' => word.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => word.push(c),
        }
    }
    Err("it ends in the middle".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &str = r#""AppState"
{
	"appid"		"222860"
	"Universe"		"1"
	"name"		"Left 4 Dead 2 Dedicated Server"
	"StateFlags"		"4"
	"buildid"		"8490279"
	"BytesToDownload"		"4208"
	"BytesDownloaded"		"4208"
	"BytesToStage"		"8618418181"
	"BytesStaged"		"8618418181"
	"InstalledDepots"
	{
		"222861" { "manifest" "1" "BytesStaged" "7" }
	}
}
"#;

    #[test]
    fn the_install_directory_comes_before_the_login() {
        let words = Pass::Windows.arguments(Path::new("/srv/l4d2"));
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            words.join(" "),
            "+@sSteamCmdForcePlatformType windows +force_install_dir /srv/l4d2 +login anonymous +app_update 222860 validate +quit"
        );
        assert_eq!(Pass::Prime.arguments(Path::new("/x")), ["+login", "anonymous", "+quit"]);
    }

    #[test]
    fn a_progress_line_is_read_and_no_other() {
        let read = progress(" Update state (0x61) downloading, progress: 45.32 (1234 / 5678)").unwrap();
        assert_eq!(read, Progress { state: 0x61, phase: "downloading", percent: 45.32, done: 1234, total: 5678 });
        for other in [
            "",
            "Update state",
            "Update state (0x) x, progress: 1 (1 / 2)",
            "Update state (0x5) x, progress: NaN (1 / 2)",
        ] {
            assert_eq!(progress(other), None, "{other}");
        }
    }

    #[test]
    fn the_verdict_follows_the_state_word_before_the_exit_code() {
        let cases = [
            (0, "Success! App '222860' fully installed.", "good"),
            (0, "", "good"),
            (8, "Error! App '222860' state is 0x202 after update job.", "full"),
            (0, "Error! App '222860' state is 0x212 after update job.", "full"),
            (8, "Error! App '222860' state is 0x402 after update job.", "again"),
            (8, "Error! App '222860' state is 0x602 after update job.", "again"),
            (8, "Error! App '222860' state is 0x606 after update job.", "again"),
            (8, "Error! App '222860' state is 0x626 after update job.", "again"),
            (8, "Error! App '222860' state is 0x6A6 after update job.", "clear"),
            (0, "ERROR! Failed to install app '222860' (Missing configuration)", "again"),
            (8, "ERROR! Failed to install app '222860' (Invalid platform)", "windows"),
            (5, "FAILED (No Connection)", "again"),
            (1, "", "again"),
            (139, "", "again"),
        ];
        for (code, line, expected) in cases {
            let mut heard = Heard::default();
            heard.line(line);
            let told = match after(Pass::Linux, code, &heard) {
                Verdict::Good => "good",
                Verdict::DiskFull { .. } => "full",
                Verdict::Again { staging: Staging::Clear, .. } => "clear",
                Verdict::Again { from: Pass::Windows, .. } => "windows",
                Verdict::Again { from: Pass::Linux, .. } => "again",
                Verdict::Again { .. } => "prime",
            };
            assert_eq!(told, expected, "{code} {line}");
        }
    }

    #[test]
    fn a_success_after_an_error_is_a_success() {
        let mut heard = Heard::default();
        heard.line("Error! App '222860' state is 0x602 after update job.");
        heard.line("Success! App '222860' fully installed.");
        assert_eq!(after(Pass::Linux, 0, &heard), Verdict::Good);
    }

    #[test]
    fn only_a_whole_manifest_is_proof() {
        assert_eq!(prove(WHOLE), Ok(8_490_279));
        let without: String = WHOLE.lines().filter(|line| !line.contains("Bytes")).collect();
        assert_eq!(prove(&without), Ok(8_490_279));
        for (from, to, words) in [
            ("\"BytesDownloaded\"\t\t\"4208\"", "\"BytesDownloaded\"\t\t\"42\"", "BytesDownloaded is 42 of 4208"),
            ("\"BytesStaged\"\t\t\"8618418181\"", "", "BytesStaged is 0 of 8618418181"),
            ("\"StateFlags\"\t\t\"4\"", "\"StateFlags\" \"1026\"", "StateFlags are 1026"),
            ("\"StateFlags\"\t\t\"4\"", "", "no StateFlags"),
            ("8490279", "0", "no buildid"),
            ("8490279", "x", "buildid is not a number"),
            ("\"222860\"", "\"550\"", "not that of app"),
            ("\"AppState\"", "", "not a manifest"),
        ] {
            let error = prove(&WHOLE.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        for cut in 1..WHOLE.trim_end().len() {
            assert!(prove(&WHOLE[..cut]).is_err(), "{cut}");
        }
        let deep = "\"a\"{".repeat(100_000);
        assert!(prove(&deep).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_panic(text in "\\PC{0,200}", code in any::<i32>()) {
            let mut heard = Heard::default();
            heard.line(&text);
            heard.line(&format!("Error! {text}"));
            let _ = (after(Pass::Windows, code, &heard), prove(&text), progress(&text), state_word(&text));
            let _ = progress(&format!("Update state (0x{text}"));
            let _ = prove(&format!("\"AppState\" {{ {text}"));
        }

        #[test]
        fn a_disk_that_is_full_is_never_tried_again(code in any::<i32>(), full in prop::bool::ANY) {
            let mut heard = Heard::default();
            heard.line(&format!("Error! App '222860' state is {} after update job.", if full { "0x202" } else { "0x212" }));
            let stopped = matches!(after(Pass::Linux, code, &heard), Verdict::DiskFull { .. });
            prop_assert!(stopped);
        }
    }
}
