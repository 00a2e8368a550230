//! Reads an installation's manifest and checks that the game is complete.

use super::APP;
use super::keyvalues::{self, Defect, Item};

/// How many bytes of a manifest are read; a real one has a few kilobytes.
pub const MANIFEST_LIMIT: usize = 1024 * 1024;

/// The depot that both platforms share: 9.5 GB.
pub const SHARED_DEPOT: &str = "222861";

/// The depot of the Linux server. Without it an installation contains Windows files.
pub const LINUX_DEPOT: &str = "222863";

/// The parsed entries of a manifest.
#[derive(Debug, Default)]
struct Entries {
    /// Keys and values directly inside the outermost braces.
    values: Vec<(String, String)>,
    /// The names of the blocks directly inside `InstalledDepots`.
    depots: Vec<String>,
}

/// Checks `steamapps/appmanifest_222860.acf` for proof that the game is complete, and returns the
/// build's id. The manifest must belong to the app, have a build, and be in state 4 (fully
/// installed). All bytes to download and to stage must be done, and the depots of a Linux server
/// installed. Missing byte counts are 0: steamcmd leaves them out when there was nothing to do.
pub fn prove(manifest: &str) -> Result<u64, String> {
    let entries = entries(manifest)?;
    let number = |key: &str| -> Result<Option<u64>, String> {
        let found = entries
            .values
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key));
        found
            .map(|(_, value)| {
                value
                    .parse()
                    .map_err(|_| format!("its {key} is not a number"))
            })
            .transpose()
    };

    if number("appid")?.is_some_and(|app| app != u64::from(APP)) {
        return Err(format!("it is not that of app {APP}"));
    }

    let build = number("buildid")?
        .filter(|&build| build > 0)
        .ok_or("it has no buildid")?;

    for (done, all) in [
        ("BytesDownloaded", "BytesToDownload"),
        ("BytesStaged", "BytesToStage"),
    ] {
        let (have, want) = (number(done)?.unwrap_or(0), number(all)?.unwrap_or(0));
        if have != want {
            return Err(format!("{done} is {have} of {want}"));
        }
    }

    match number("StateFlags")? {
        Some(4) => {}
        Some(flags) => {
            return Err(format!(
                "its StateFlags are {flags}, not 4 (fully installed)"
            ));
        }
        None => return Err("it has no StateFlags".to_owned()),
    }

    for depot in [SHARED_DEPOT, LINUX_DEPOT] {
        if !entries.depots.iter().any(|found| found == depot) {
            return Err(format!("depot {depot} is not among its InstalledDepots"));
        }
    }

    Ok(build)
}

/// Whether the manifest says something and lists no depot of the Linux server: the last successful
/// run of steamcmd was a windows pass.
pub fn is_of_windows(manifest: &str) -> bool {
    entries(manifest).is_ok_and(|entries| {
        !entries.values.is_empty() && !entries.depots.iter().any(|depot| depot == LINUX_DEPOT)
    })
}

fn entries(text: &str) -> Result<Entries, String> {
    let mut found = Entries::default();
    let read = keyvalues::read(text, MANIFEST_LIMIT, |blocks, item| match (blocks, item) {
        ([_], Item::Value(key, value)) => found.values.push((key.to_owned(), value.to_owned())),
        ([_, depots], Item::Block(name)) if depots.eq_ignore_ascii_case("InstalledDepots") => {
            found.depots.push(name.to_owned());
        }
        _ => {}
    });

    match read {
        Ok(()) => Ok(found),
        Err(Defect::TooLong) => Err(format!("it is longer than {MANIFEST_LIMIT} bytes")),
        Err(Defect::Malformed) => Err("it is not a manifest".to_owned()),
        Err(Defect::Truncated) => Err("it ends in the middle".to_owned()),
    }
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
		"222863" { "manifest" "2" "size" "252009413" }
	}
}
"#;

    #[test]
    fn only_a_whole_manifest_is_proof() {
        assert_eq!(prove(WHOLE), Ok(8_490_279));

        let without: String = WHOLE
            .lines()
            .filter(|line| !line.contains("Bytes") || line.contains('{'))
            .collect();
        assert_eq!(prove(&without), Ok(8_490_279));

        for (from, to, words) in [
            (
                "\"BytesDownloaded\"\t\t\"4208\"",
                "\"BytesDownloaded\"\t\t\"42\"",
                "BytesDownloaded is 42 of 4208",
            ),
            (
                "\"BytesStaged\"\t\t\"8618418181\"",
                "",
                "BytesStaged is 0 of 8618418181",
            ),
            (
                "\"StateFlags\"\t\t\"4\"",
                "\"StateFlags\" \"1026\"",
                "StateFlags are 1026",
            ),
            ("\"StateFlags\"\t\t\"4\"", "", "no StateFlags"),
            ("8490279", "0", "no buildid"),
            ("8490279", "x", "buildid is not a number"),
            ("\"222860\"", "\"550\"", "not that of app"),
            ("\"AppState\"", "", "not a manifest"),
            ("\"222863\" {", "\"222862\" {", "depot 222863 is not"),
            ("\"222861\" {", "\"1\" {", "depot 222861 is not"),
            ("InstalledDepots", "MountedDepots", "depot 222861 is not"),
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

    #[test]
    fn a_manifest_without_the_linux_depot_is_that_of_a_windows_pass() {
        assert!(!is_of_windows(WHOLE));
        assert!(is_of_windows(&WHOLE.replace("222863", "222862")));
        assert!(is_of_windows("\"AppState\" { \"StateFlags\" \"1026\" }"));
        for unknown in ["", "x", "\"AppState\" { }", &WHOLE[..WHOLE.len() / 2]] {
            assert!(!is_of_windows(unknown), "{unknown}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_panic(text in "\\PC{0,200}") {
            let _ = (prove(&text), prove(&format!("\"AppState\" {{ {text}")));
        }
    }
}
