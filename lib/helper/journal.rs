//! `journal N`: the server's console, and the messages of systemd about the server and its overlay.
//! As text for people, or as entries with a cursor each, so that a reader can continue there later.

use serde::Deserialize;
use serde_json::Value;

use super::commands::{journalctl_json, overlay_unit, server_unit};
use crate::base::names::{Cursor, InstanceName};
use crate::base::{Error, Exit, Result, clock};
use crate::process::lines::clean;
use crate::process::{Outcome, Relay, Supervisor};
use crate::wire::{JournalEntry, REFUSED, Stream};

/// The number of lines by default.
pub(super) const DEFAULT: u32 = 100;

/// The largest number of lines per request.
pub(super) const MOST: u32 = 10_000;

/// The longest entry that journalctl may print, in characters. journald's longest line is 48 KiB.
/// If a line has a control character, journalctl prints each of its bytes as a number.
pub(super) const LONGEST: usize = 512 * 1024;

/// The name shown for the game and everything that runs in it.
const GAME: &str = "srcds";

/// Which part of the journal to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub lines: Option<u32>,
    pub follow: bool,
    pub after: Option<&'a Cursor>,
}

/// Prints the last `lines` lines, or those after the cursor `after`; with `follow`, also new lines
/// until the peer closes the connection.
///
/// Fails with 64 if more than [`MOST`] lines are requested.
pub(super) fn run(
    supervisor: &mut Supervisor,
    server: &InstanceName,
    ask: Ask<'_>,
) -> Result<Outcome> {
    read(supervisor, server, ask, |entry| {
        Ok(format!(
            "{} {}: {}",
            clock::local(entry.at),
            entry.from,
            entry.line
        ))
    })
}

/// Prints the same as one [`JournalEntry`] per line.
pub(super) fn entries(
    supervisor: &mut Supervisor,
    server: &InstanceName,
    ask: Ask<'_>,
) -> Result<Outcome> {
    read(supervisor, server, ask, |entry| {
        serde_json::to_string(&entry)
    })
}

/// Both formats are built from the same fields. The text output of journalctl would show any sender
/// and pid that a program claims.
fn read(
    supervisor: &mut Supervisor,
    server: &InstanceName,
    ask: Ask<'_>,
    write: impl Fn(JournalEntry) -> serde_json::Result<String>,
) -> Result<Outcome> {
    let arguments = arguments(server, ask)?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();

    journalctl_json(
        supervisor,
        &arguments,
        LONGEST,
        None,
        &mut |stream, line| match stream {
            Stream::Stdout => match entry(line).and_then(&write) {
                Ok(line) => Relay::Replace(Stream::Stdout, line),
                Err(error) => Relay::Replace(
                    Stream::Stderr,
                    format!("an entry of the journal cannot be read: {error}"),
                ),
            },
            Stream::Stderr => Relay::AsIs,
        },
    )
}

fn arguments(server: &InstanceName, ask: Ask<'_>) -> Result<Vec<String>> {
    let lines = ask.lines.or(ask.after.is_none().then_some(DEFAULT));
    if let Some(lines) = lines.filter(|&lines| lines > MOST) {
        let exit = Exit::Foreign(u8::try_from(REFUSED).unwrap_or(2));
        return Err(Error::new(
            exit,
            format!("not a request: {lines} lines, at most {MOST} are possible"),
        ));
    }

    let (unit, overlay) = (server_unit(server), overlay_unit(server));

    // Without --merge journalctl needs the id of this boot, which a sandbox with its own /proc does
    // not have.
    let mut arguments: Vec<String> = ["--quiet", "--merge", "-u", &unit, "-u", &overlay]
        .map(str::to_owned)
        .into();
    arguments.extend(ask.after.map(|cursor| format!("--after-cursor={cursor}")));

    match lines {
        Some(lines) => arguments.extend(["-n".to_owned(), lines.to_string()]),
        None => arguments.push("--no-tail".to_owned()),
    }

    // Without --all a field of more than 4096 bytes is null.
    let output = [
        "-o",
        "json",
        "--all",
        "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID,_UID",
    ];

    arguments.extend(output.map(str::to_owned));
    arguments.extend(ask.follow.then(|| "-f".to_owned()));
    Ok(arguments)
}

/// The fields of an entry that journalctl prints.
#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "__CURSOR")]
    cursor: Cursor,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at_us: String,
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: Value,
    #[serde(rename = "_PID", default)]
    pid: Value,
    #[serde(rename = "_UID", default)]
    uid: Value,
}

/// Converts a line of journalctl. The text of a program stays text, whatever it contains.
pub(super) fn entry(line: &str) -> serde_json::Result<JournalEntry> {
    let raw = serde_json::from_str::<Raw>(line)?;
    Ok(JournalEntry {
        from: speaker(&raw),
        at: raw.at_us.parse::<i64>().unwrap_or(0) / 1000,
        line: text(&raw.message),
        cursor: raw.cursor,
    })
}

/// The sender of an entry. A program can choose any identifier, but journald itself sets uid and
/// pid, in fields that programs cannot change. Entries of another user than root come from the game
/// or from a plugin in it.
fn speaker(raw: &Raw) -> String {
    match (text(&raw.uid).as_str(), text(&raw.pid).as_str()) {
        ("0", "1") => "systemd".to_owned(),
        ("0", _) => text(&raw.identifier).chars().take(64).collect(),
        _ => GAME.to_owned(),
    }
}

fn text(field: &Value) -> String {
    clean(&bytes(field), false).into_owned()
}

/// The bytes of a field. journalctl prints text as a string, bytes with control characters as a
/// list of numbers, and a field that an entry has twice as a list of both values.
fn bytes(field: &Value) -> Vec<u8> {
    match field {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Array(list) if list.iter().all(Value::is_u64) => list
            .iter()
            .filter_map(|byte| u8::try_from(byte.as_u64()?).ok())
            .collect(),
        Value::Array(several) => several.first().map(bytes).unwrap_or_default(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURSOR: &str = "s=739ad463348b4ceca5a9e69c95a3c93f;i=4ece7;b=6c7c6013a26343b29e964691ff25d04c;m=4fc72436e;t=4c508a72423d9;x=d3e5610681098c10";

    fn told(message: &str) -> String {
        let line = format!(
            r#"{{"__CURSOR":"{CURSOR}","__REALTIME_TIMESTAMP":"1342540861416409","_BOOT_ID":"6c","_UID":"997","SYSLOG_IDENTIFIER":"srcds_run","MESSAGE":{message}}}"#
        );
        let entry = entry(&line).unwrap();
        assert_eq!(
            (entry.cursor.as_str(), entry.at, &*entry.from),
            (CURSOR, 1_342_540_861_416, "srcds")
        );

        entry.line
    }

    #[test]
    fn only_journalds_own_fields_say_who_speaks() {
        let from = |fields: &str| {
            let line = format!(
                r#"{{"__CURSOR":"{CURSOR}","__REALTIME_TIMESTAMP":"1","MESSAGE":"x"{fields}}}"#
            );
            entry(&line).unwrap().from
        };

        let claims =
            r#","SYSLOG_IDENTIFIER":"systemd","SYSLOG_PID":"1","UNIT":"left4me-server@7.service""#;
        assert_eq!(
            from(&format!(r#"{claims},"_UID":"997","_PID":"1""#)),
            "srcds"
        );

        assert_eq!(
            from(&format!(
                r#"{claims},"_UID":"2100000007","_PID":"4711","_COMM":"systemd""#
            )),
            "srcds"
        );

        assert_eq!(from(claims), "srcds", "journald does not know whose it is");
        assert_eq!(
            from(&format!(r#"{claims},"_UID":"0","_PID":"1""#)),
            "systemd"
        );

        assert_eq!(
            from(r#","SYSLOG_IDENTIFIER":"left4me-helper","_UID":"0","_PID":"12""#),
            "left4me-helper"
        );

        assert_eq!(
            from(r#","SYSLOG_IDENTIFIER":"systemd-journald","_UID":"0","_PID":"40""#),
            "systemd-journald"
        );
    }

    #[test]
    fn an_entry_is_one_line_of_text_whatever_journalctl_makes_of_it() {
        assert_eq!(told(r#""Map: c1m1 \"x\"""#), "Map: c1m1 \"x\"");
        assert_eq!(told("[27,91,51,49,109,114,101,100,255]"), "red\u{fffd}");
        assert_eq!(told(r#"["first","second"]"#), "first");
        assert_eq!(
            told(r#""a\nid: 7\r\ndata: {}""#),
            "a\u{240a}id: 7\u{240d}\u{240a}data: {}"
        );

        assert_eq!(told("null"), "");
        assert_eq!(
            told(&format!("\"{}\"", "ж".repeat(4097))).chars().count(),
            4096 + 4
        );
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"__CURSOR":"x","__REALTIME_TIMESTAMP":"1"}"#,
            "-- No entries --",
        ] {
            assert!(entry(bad).is_err(), "{bad}");
        }
    }
}
