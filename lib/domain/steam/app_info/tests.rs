//! App info as steamcmd prints it, and as a hostile program could.

use proptest::prelude::*;

use super::*;

const BLOCK: &str = r#"AppID : 222860, change number : 26574431/0, last change : Thu Nov 19 10:12:14 2026
"222860"
{
	"common"
	{
		"name"		"Left 4 Dead 2 Dedicated Server"
		"type"		"Tool"
		"releasestate"		"released"
	}
	"extended"
	{
		"developer"		"\"Valve\""
	}
	"depots"
	{
		"222861"
		{
			"manifests"
			{
				"public"
				{
					"gid"		"2747866087263172284"
					"buildid"		"1"
				}
			}
		}
		"branches"
		{
			"public"
			{
				"buildid"		"BUILD"
				"timeupdated"		"1763543534"
			}
			"beta"
			{
				"buildid"		"7"
				"pwdrequired"		"1"
			}
		}
		"privatebranches"		"1"
	}
}
"#;

fn block(build: &str) -> String {
    BLOCK.replace("BUILD", build)
}

/// What the lines of one session say.
fn session(code: i32, text: &str) -> Result<Published, (Cause, String)> {
    let (mut info, mut heard) = (AppInfo::default(), Heard::default());
    for line in text.lines() {
        if !info.line(line) {
            heard.line(line);
        }
    }
    info.end();
    info.published(code, &heard)
}

fn cause(code: i32, text: &str) -> Cause {
    session(code, text).unwrap_err().0
}

const NEW: Published = Published {
    build: 20_000_002,
    at: Some(1_763_543_534),
    size: None,
};

#[test]
fn the_second_answer_counts_whatever_the_first_one_is() {
    let new = block("20000002");
    let broken = "\"222860\"\n{\n\t\"common\"\n\t{\n";
    for first in [
        &block("20000001"),
        "No app info for AppID 222860 found, requesting...\n",
        "\"222860\"\n{\n}\n",
        broken,
        &block("x"),
    ] {
        assert_eq!(session(0, &format!("{first}{new}")), Ok(NEW), "{first}");
    }
    assert_eq!(
        session(139, &format!("{new}{new}")),
        Ok(NEW),
        "a crash at its end"
    );

    for (last, expected) in [
        (
            "No app info for AppID 222860 found, requesting...\n",
            Cause::NoAppInfo,
        ),
        (broken, Cause::NoAppInfo),
        ("\"222860\"\n{\n}\n", Cause::NoAppInfo),
        (&*block("0"), Cause::NoBranch),
        (
            &*new.replace(
                "\"public\"\n\t\t\t{\n\t\t\t\t\"buildid\"",
                "\"old\"\n{\n\"buildid\"",
            ),
            Cause::NoBranch,
        ),
    ] {
        assert_eq!(cause(0, &format!("{new}{last}")), expected, "{last}");
    }
}

#[test]
fn a_lone_answer_counts_only_after_one_of_an_earlier_session() {
    let new = block("20000002");
    assert_eq!(cause(0, &new), Cause::NoAppInfo);

    let (mut info, heard) = (AppInfo::default(), Heard::default());
    for _ in 0..2 {
        assert!(info.published(0, &heard).is_err());
        new.lines().for_each(|line| {
            info.line(line);
        });
        info.end();
    }
    assert_eq!(info.published(0, &heard), Ok(NEW));
}

#[test]
fn other_lines_and_colours_between_its_lines_are_no_part_of_it() {
    let noisy: String = block("20000002")
        .lines()
        .flat_map(|line| {
            [
                format!("\u{1b}[1m{line}\u{1b}[0m\n"),
                "[  0%] Downloading update (0 of 48,436 KB)...\n".to_owned(),
                " Update state (0x61) downloading, progress: 45.32 (1234 / 5678)\n".to_owned(),
                "\"an open quote\n".to_owned(),
            ]
        })
        .collect();
    assert_eq!(session(0, &format!("{noisy}{noisy}")), Ok(NEW));
}

#[test]
fn a_failure_beside_the_answers_counts_more_than_they_do() {
    let old = format!("{0}{0}", block("20000001"));
    for (code, words, expected) in [
        (
            0,
            "Waiting for user info...FAILED (Timed out)",
            Cause::TimedOut,
        ),
        (
            1,
            "ERROR! Timed out waiting for AppInfo update.",
            Cause::TimedOut,
        ),
        (
            5,
            "Connecting anonymously to Steam Public...FAILED (No Connection)",
            Cause::Network,
        ),
        (
            5,
            "Logging in user 'anna' to Steam Public...FAILED (Rate Limit Exceeded)",
            Cause::RateLimit,
        ),
        (
            8,
            "ERROR! Failed to request AppInfo update, not online or not logged in to Steam.",
            Cause::Network,
        ),
    ] {
        assert_eq!(cause(code, &format!("{words}\n{old}")), expected, "{words}");
        assert_eq!(cause(code, words), expected, "{words}");
    }

    let offline = "[----] !!! Fatal Error: Steamcmd needs to be online to update.";
    assert_eq!(cause(254, offline), Cause::Network);
    assert_eq!(cause(254, ""), Cause::Network);
    assert_eq!(cause(0, ""), Cause::NoAppInfo);
    assert_eq!(
        cause(5, "Cached credentials not found.\n\npassword: "),
        Cause::Credentials
    );
}

#[test]
fn an_answer_without_an_end_takes_no_room_without_an_end() {
    let mut info = AppInfo::default();
    info.line("\"222860\"");
    info.line("{");
    for _ in 0..30_000 {
        assert!(info.line(&format!("\"{}\" \"\"", "x".repeat(100))));
    }
    assert!(info.block.as_ref().unwrap().text.len() < LIMIT);
    info.line("}");
    info.line("\"222860\"");
    assert_eq!(
        info.published(0, &Heard::default()).unwrap_err().0,
        Cause::NoAppInfo
    );
}

#[test]
fn it_is_asked_twice_and_an_account_is_a_name_alone() {
    let words = |account| {
        let words = question(account);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    };
    assert_eq!(
        words(None),
        "+login anonymous +app_info_update 1 +app_info_print 222860 +app_info_update 1 \
         +app_info_print 222860 +quit"
    );
    assert!(
        words(Some("anna")).starts_with("+@NoPromptForPassword 1 +login anna +app_info_update")
    );
}

/// As Steam prints it now; older app info has only the number of the manifest.
#[test]
fn the_depots_of_a_linux_server_say_what_the_build_takes() {
    let depot = |id: &str, branch: &str, inside: &str| {
        format!("\"{id}\"\n{{\n\"manifests\"\n{{\n\"{branch}\"\n{{\n{inside}\n}}\n}}\n}}\n")
    };
    let sizes = |files: u64, download: u64| {
        format!("\"gid\" \"1\"\n\"size\" \"{files}\"\n\"download\" \"{download}\"")
    };
    let said = |depots: &str| {
        let text = block("7").replacen("\"depots\"\n\t{", &format!("\"depots\"\n{{\n{depots}"), 1);
        session(0, &text.repeat(2)).unwrap().size
    };

    let shared = depot("222861", "public", &sizes(9_509_213_145, 4_000_000_000));
    let windows = depot("222862", "public", &sizes(1, 1));
    let linux = depot("222863", "public", &sizes(252_009_413, 90_000_000));
    let size = Size {
        files: 9_761_222_558,
        download: 4_090_000_000,
    };
    assert_eq!(said(&format!("{shared}{windows}{linux}")), Some(size));

    for unknown in [
        "",
        &shared,
        &format!("{shared}{}", depot("222863", "beta", &sizes(5, 5))),
        &format!("{shared}{}", depot("222863", "public", &sizes(0, 5))),
        &format!("{shared}{}", depot("222863", "public", &sizes(u64::MAX, 5))),
        &format!("{shared}{}", depot("222863", "public", "\"gid\" \"1\"")),
        &format!("{shared}\"222863\"\n{{\n\"manifests\"\n{{\n\"public\" \"1\"\n}}\n}}\n"),
    ] {
        assert_eq!(said(unknown), None, "{unknown}");
    }
}

proptest! {
    #[test]
    fn any_lines_are_taken_without_panic(
        lines in proptest::collection::vec("[\"{}\\\\\u{1b}\\[m0-9a b]{0,20}|\\PC{0,60}|\"222860\"", 0..60),
        code in any::<i32>(),
    ) {
        let (mut info, mut heard) = (AppInfo::default(), Heard::default());
        for line in &lines {
            if !info.line(line) {
                heard.line(line);
            }
            let _ = info.published(code, &heard);
        }
        info.end();
        let _ = info.published(code, &heard);
    }

    #[test]
    fn every_build_is_read_in_any_noise(
        build in 1..=i64::MAX.cast_unsigned(),
        noise in proptest::collection::vec("[a-z %.()0-9]{0,40}", 1..20),
    ) {
        let mut text = String::new();
        for (at, line) in block(&build.to_string()).repeat(2).lines().enumerate() {
            text += &format!("{line}\n{}\n", noise[at % noise.len()]);
        }
        let found = session(0, &text);
        // The noise may name a failure, such as a time-out; it is never another build.
        prop_assert!(found.is_err() || found.unwrap().build == build);
    }
}
