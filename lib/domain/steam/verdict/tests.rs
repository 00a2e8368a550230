//! Lines as steamcmd printed them, from public reports, and what is made of them.

use super::super::Retry;
use super::*;
use proptest::prelude::*;

fn verdict(pass: Pass, code: i32, lines: &str) -> Verdict {
    let mut heard = Heard::default();
    lines.lines().for_each(|line| heard.line(line));
    after(pass, code, &heard)
}

fn cause(code: i32, lines: &str) -> Cause {
    match verdict(Pass::Linux, code, lines) {
        Verdict::Failed(failure) => failure.cause,
        Verdict::Good(_) => panic!("{lines} is no success"),
    }
}

const LOGIN: &str = "Connecting anonymously to Steam Public...OK\nWaiting for client config...OK\n";
const DONE: &str = "Success! App '222860' fully installed.";

/// Lines as steamcmd printed them, from public reports.
#[test]
fn each_failure_in_steamcmds_own_words_has_its_cause() {
    for (code, lines, expected) in [
        (
            0,
            "Waiting for user info...FAILED (Timed out)\nOK",
            Cause::TimedOut,
        ),
        (
            0,
            "Waiting for user info...FAILED. Timed out.\nOK",
            Cause::TimedOut,
        ),
        (
            1,
            "ERROR! Timed out waiting for AppInfo update.",
            Cause::TimedOut,
        ),
        (
            254,
            "[----] !!! Fatal Error: Steamcmd needs to be online to update. \
             Please confirm your network.",
            Cause::Network,
        ),
        (
            7,
            "[----] !!! Fatal Error: Steamcmd needs 250MB of free disk space to update.",
            Cause::DiskFull,
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
            5,
            "FAILED login with result code Rate Limit Exceeded",
            Cause::RateLimit,
        ),
        (5, "password: FAILED (Invalid Password)", Cause::Credentials),
        (
            5,
            "Cached credentials not found.\n\npassword: ",
            Cause::Credentials,
        ),
        (
            5,
            "Logging in user 'anna' to Steam Public...FAILED (Account Logon Denied)",
            Cause::SteamGuard,
        ),
        (
            5,
            "This computer has not been authenticated for your account using Steam Guard.",
            Cause::SteamGuard,
        ),
        (
            5,
            "Two-factor code: FAILED (Two-factor code mismatch)",
            Cause::SteamGuard,
        ),
        (
            8,
            "ERROR! Failed to install app '222860' (No subscription)",
            Cause::NoSubscription,
        ),
        (
            8,
            "\u{1b}[0mERROR! Failed to install app '222860' (Invalid platform)",
            Cause::InvalidPlatform,
        ),
        (
            0,
            "ERROR! Failed to install app '222860' (Missing configuration)",
            Cause::MissingConfiguration,
        ),
        (
            8,
            "ERROR! Failed to install app '222860' (Disk write failure)",
            Cause::NotWritten,
        ),
        (
            8,
            "Error! App '222860' state is 0x202 after update job.",
            Cause::DiskFull,
        ),
        (
            0,
            "Error! App '222860' state is 0x212 after update job.",
            Cause::DiskFull,
        ),
        (
            8,
            "Error! App '222860' state is 0x402 after update job.",
            Cause::Incomplete,
        ),
        (
            8,
            "Error! App '222860' state is 0x6A6 after update job.",
            Cause::Corrupt,
        ),
        (
            8,
            "Error! App '222860' state is 0x6 after update job.",
            Cause::Incomplete,
        ),
        (
            8,
            "Error! App '222860' state is 0x10E after update job.",
            Cause::Incomplete,
        ),
        (
            8,
            "Error! App '222860' state is 0x26 after update job.",
            Cause::FilesMissing,
        ),
        (
            8,
            "ERROR! Failed to install app '222860' (Manifest unavailable)",
            Cause::NoContent,
        ),
        (
            8,
            "ERROR! Failed downloading 1 manifests (No connection)",
            Cause::Network,
        ),
        (
            8,
            "ERROR! Failed downloading 1 manifests (Access Denied)",
            Cause::NoSubscription,
        ),
        (
            5,
            "Logging in user 'anna' to Steam Public...FAILED (Access Denied)",
            Cause::AccountRefused,
        ),
        (
            8,
            "ERROR! Failed to install app '222860' (Invalid content configuration)",
            Cause::NoContent,
        ),
        (
            8,
            "ERROR! Failed to install app '222860' (Content servers unreachable)",
            Cause::Network,
        ),
        (
            8,
            "ERROR! Failed to install app '222860' (Missing update files)",
            Cause::FilesMissing,
        ),
        (
            8,
            "ERROR! Failed to install app '222860' (Disk read failure)",
            Cause::NotWritten,
        ),
        (
            8,
            "ERROR! Password check for AppId 222860 returned error Failure.",
            Cause::NoBranch,
        ),
        (
            8,
            "Error! App '222860' state is 0x10502 after update job.",
            Cause::Incomplete,
        ),
        (
            127,
            "steamcmd.sh: line 37: /x/linux32/steamcmd: No such file or directory",
            Cause::Libraries,
        ),
        (
            127,
            "linux32/steamcmd: error while loading shared libraries: libstdc++.so.6",
            Cause::Libraries,
        ),
        (
            1,
            "[----] !!! Fatal Error: Failed to load steamui.so",
            Cause::Fatal,
        ),
        (0, "", Cause::NoSuccess),
        (139, "", Cause::Killed),
        (254, "", Cause::Network),
        (0, "Success! App '550' fully installed.", Cause::NoSuccess),
    ] {
        assert_eq!(
            cause(code, &format!("{LOGIN}{lines}")),
            expected,
            "{code} {lines}"
        );
    }
}

#[test]
fn a_pass_is_good_when_it_says_success_whatever_its_exit_code_and_bad_when_it_does_not() {
    for code in [0, 1, 42, 139] {
        assert_eq!(
            verdict(Pass::Linux, code, DONE),
            Verdict::Good(Some(Success::Installed))
        );
    }

    let current = verdict(Pass::Linux, 0, "Success! App '222860' already up to date.");
    assert_eq!(current, Verdict::Good(Some(Success::UpToDate)));

    let late = format!("Error! App '222860' state is 0x602 after update job.\n{DONE}");
    assert_eq!(
        verdict(Pass::Linux, 0, &late),
        Verdict::Good(Some(Success::Installed))
    );

    let taken_back = format!("{DONE}\nERROR! Failed to install app '222860' (No subscription)");
    assert_eq!(cause(0, &taken_back), Cause::NoSubscription);
}

#[test]
fn what_steamcmd_always_prints_is_no_failure() {
    for line in [
        "ILocalize::AddFile() failed to load file \"public/steambootstrapper_english.txt\".",
        "threadtools.cpp (3552) : Assertion Failed: \
         Illegal termination of worker thread 'Thread(0x1/0x2'",
        "WARNING: setlocale('en_US.UTF-8') failed, using locale: 'C'.",
        "Unloading Steam API...OK",
        " Update state (0x61) downloading, progress: 45.32 (1234 / 5678)",
    ] {
        let lines = format!("{DONE}\n{line}");
        assert_eq!(
            verdict(Pass::Linux, 139, &lines),
            Verdict::Good(Some(Success::Installed)),
            "{line}"
        );

        assert_eq!(verdict(Pass::Prime, 0, line), Verdict::Good(None), "{line}");
    }
}

#[test]
fn the_first_cause_stands_for_what_follows_from_it() {
    let lines = "Logging in user 'anna' to Steam Public...FAILED (Invalid Password)\n\
                 ERROR! Failed to request AppInfo update, not online or not logged in to \
                 Steam.";
    assert_eq!(cause(8, lines), Cause::Credentials);
    let lines = "Waiting for user info...FAILED (Timed out)\nError! \
                 App '222860' state is 0x202 after update job.";
    assert_eq!(cause(8, lines), Cause::DiskFull);
}

#[test]
fn only_what_can_change_by_itself_is_tried_again() {
    for (cause, retry) in [
        (Cause::DiskFull, Retry::Never),
        (Cause::NoSubscription, Retry::Never),
        (Cause::Credentials, Retry::Never),
        (Cause::SteamGuard, Retry::Never),
        (Cause::Libraries, Retry::Never),
        (Cause::RateLimit, Retry::AfterTheLimit),
        (Cause::Network, Retry::BackOff),
        (Cause::TimedOut, Retry::BackOff),
        (Cause::Incomplete, Retry::Soon),
    ] {
        assert_eq!(cause.retry(), retry, "{cause:?}");
    }
}

#[test]
fn silence_is_told_as_such_and_a_prompt_as_what_it_asks_for() {
    let mut heard = Heard::default();
    heard.line("Steam>");
    heard.hung(600);

    let Verdict::Failed(failure) = after(Pass::Linux, 137, &heard) else {
        panic!()
    };
    assert!(
        failure.cause == Cause::Silent && failure.detail.contains("for 600 s"),
        "{failure:?}"
    );

    let mut heard = Heard::default();
    heard.line("Please check your email for the message from Steam, and enter the Steam Guard");
    heard.hung(600);

    let Verdict::Failed(failure) = after(Pass::Linux, 137, &heard) else {
        panic!()
    };
    assert_eq!(failure.cause, Cause::SteamGuard);
}

proptest! {
    #[test]
    fn any_text_is_taken_without_panic(text in "\\PC{0,200}", code in any::<i32>()) {
        let mut heard = Heard::default();
        for line in [text.clone(), format!("Error! {text}"), format!("Success! App \
            '222860{text}")] {
            heard.line(&line);
            let _ = after(Pass::Windows, code, &heard);
        }
        let _ = state_word(&text);
    }

    #[test]
    fn no_success_no_good_verdict(text in "[^S]{0,200}", code in any::<i32>()) {
        let failed = matches!(verdict(Pass::Linux, code, &text), Verdict::Failed(_));
        prop_assert!(failed);
    }

    #[test]
    fn a_disk_that_is_full_is_never_tried_again(code in any::<i32>(), full in prop::bool::ANY) {
        let word = if full { "0x202" } else { "0x212" };
        let found = cause(code, &format!("Error! App '222860' state \
                                          is {word} after update job."));
        prop_assert_eq!(found.retry(), Retry::Never);
    }
}
