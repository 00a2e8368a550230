//! The helper, over a connection, as a command, and as the purge unit's program.
//!
//! Each test runs it in a mount namespace of its own, in which /usr/bin/systemctl and journalctl
//! are scripts that write down how they were called, and /etc/passwd knows the package's users.
//! Root makes it directly; anybody else through a user namespace, in which it is root too. What a
//! real systemd does with the calls is tested with a real systemd.

use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Conversation, Received, Root, alive, is_real_root, marker, until};

const HELPER: &str = env!("CARGO_BIN_EXE_left4me-helper");

/// A namespace for the helper, and what it can see there.
pub struct Sandbox {
    pub root: Root,
}

impl Sandbox {
    pub fn new() -> Self {
        let root = Root::new();
        // In a user namespace only this one user exists.
        let game = if is_real_root() { 64_123 } else { 0 };
        let former = if is_real_root() { 64_124 } else { 0 };
        let left4me = if is_real_root() { 64_122 } else { 4242 };
        let steam = if is_real_root() { 64_125 } else { 0 };
        root.write("tmp/passwd", format!("root:x:0:0::/:/bin/sh\nleft4me:x:{left4me}:{left4me}::/:/bin/sh\nleft4me-steam:x:{steam}:{steam}::/:/bin/sh\nleft4me-game:x:{former}:{former}::/:/bin/sh\nleft4me_7:x:{game}:{game}:left4me server 7:/:/bin/sh\n"));
        for name in ["systemctl", "journalctl"] {
            root.script(&format!("tmp/{name}"), &format!(
                "#!/bin/sh\necho \"{name} $*\" >> {0}/calls\nenv | sort > {0}/environment\n[ ! -e \
                {0}/{name}.do ] || . {0}/{name}.do\n",
                root.join("tmp").display()
            ));
        }

        for name in ["runtime/7", "overlays/maps", "instances/7/layer"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        let _ = std::fs::remove_dir(root.join("runtime/7"));
        Self { root }
    }

    /// The words before a command that is to run inside.
    fn enter(&self) -> Vec<String> {
        let tmp = self.root.join("tmp");
        let tmp = tmp.display();
        let inside = format!(
            "mount -t tmpfs -o mode=755 run /run && mount --bind {tmp}/passwd \
             /etc/passwd && mount --bind {tmp}/systemctl /usr/bin/systemctl \
             && {{ [ -e /usr/bin/journalctl ] && mount --bind \
             {tmp}/journalctl /usr/bin/journalctl; }} && exec \"$@\""
        );

        let unshare: &[&str] = if is_real_root() {
            &["unshare", "--mount", "--propagation", "private"]
        } else {
            &["unshare", "--user", "--map-root-user", "--mount"]
        };

        unshare
            .iter()
            .copied()
            .chain(["sh", "-c", inside.as_str(), "sh"])
            .map(str::to_owned)
            .collect()
    }

    /// A shell script inside; `$HELPER` is the helper.
    pub fn shell(&self, script: &str) -> Output {
        let enter = self.enter();
        Command::new(&enter[0])
            .args(&enter[1..])
            .args(["sh", "-c", script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HELPER", HELPER)
            .env("ROOT", self.root.path())
            .envs(self.root.envs())
            .output()
            .unwrap()
    }

    pub fn helper(&self, arguments: &str) -> (i32, String, String) {
        outcome(&self.shell(&format!("exec $HELPER {arguments}")))
    }

    fn talk(&self) -> Conversation {
        let enter = self.enter();
        let mut argv: Vec<&str> = enter.iter().map(String::as_str).collect();
        // The id in LISTEN_PID stays the same through every exec.
        argv.push(HELPER);
        Conversation::start(&argv, &self.root.envs())
    }

    fn ask(&self, request: &str) -> Received {
        let mut talk = self.talk();
        talk.send_line(request);
        let received = talk.rest();
        assert_eq!(talk.end().0, 0, "{received:?}");
        received
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.root.join("tmp/calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What systemctl or journalctl do when called, as shell text.
    fn when(&self, name: &str, text: &str) {
        self.root.write(format!("tmp/{name}.do"), text);
    }

    pub fn layers(&self, layers: &[PathBuf]) {
        let layers: Vec<String> = layers
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        self.root.write(
            "instances/7/instance.env",
            format!(
                "L4D2_PORT=27015\nLEFT4ME_LOWERDIRS=\"{}\"\n",
                layers.join(":")
            ),
        );
    }

    /// instance.env with the usual three layers.
    fn initialized(&self) {
        self.root.write("instances/7/layer/config", "from layer");
        self.root.write("overlays/maps/config", "from maps");
        self.root.write("overlays/maps/map", "from maps");
        self.root.write("installation/config", "from installation");
        self.root.write("installation/map", "from installation");
        self.root.write("installation/game", "from installation");
        self.layers(
            &["instances/7/layer", "overlays/maps", "installation"]
                .map(|name| self.root.join(name)),
        );
    }
}

pub fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn enable_refuses_a_server_that_was_never_initialized() {
    let sandbox = Sandbox::new();
    let received = sandbox.ask(r#"{"verb":"enable","server":"7"}"#);
    assert_eq!((received.exit(), received.started), (3, 0), "{received:?}");
    assert!(received.complains("never initialized"), "{received:?}");
    let (code, _, words) = sandbox.helper("enable 7");
    assert_eq!(code, 3);
    assert!(
        words.starts_with("left4me-helper: server 7 was never initialized"),
        "{words}"
    );

    assert!(sandbox.calls().is_empty());
}

#[test]
fn a_batch_has_an_end_for_each_server_and_takes_more() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    let mut talk = sandbox.talk();
    let end_of = |server: &'static str| {
        move |answer: &Value| answer["server"] == server && answer["exit"].is_number()
    };

    // There is no systemd here.
    talk.send_line(r#"{"verb":"enable","servers":["8","9"],"more":true}"#);
    for server in ["8", "9"] {
        let why = talk.receive_until("the reason", |answer| answer["stderr"].is_string());
        assert_eq!(why["server"], server);
        assert!(
            why["stderr"]
                .as_str()
                .unwrap()
                .contains("systemd cannot be reached"),
            "{why}"
        );
        assert_eq!(talk.receive_until("its end", end_of(server))["exit"], 69);
    }

    talk.send_line(r#"{"verb":"enable","servers":["7"]}"#);
    assert_eq!(talk.receive_until("its end", end_of("7"))["exit"], 69);

    let last = talk.receive_until("the end", |answer| answer["exit"].is_number());
    assert_eq!((&last["server"], &last["exit"]), (&Value::Null, &0.into()));
    assert_eq!(talk.end().0, 0);
    assert!(
        sandbox
            .calls()
            .iter()
            .all(|call| !call.starts_with("systemctl"))
    );
}

#[test]
fn a_batch_ends_when_its_client_is_gone_or_breaks_the_rules() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    let begin = || {
        let mut talk = sandbox.talk();
        talk.send_line(r#"{"verb":"disable","servers":["7"],"more":true}"#);
        talk.receive_until("its end", |answer| answer["exit"].is_number());
        talk
    };

    let talk = begin();
    talk.stream.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(talk.end().0, 0);

    for line in [
        r#"{"verb":"purge","servers":["7"]}"#,
        r#"{"cancel":"stop","server":"7"}"#,
        r#"{"verb":"enable","servers":["../7"]}"#,
    ] {
        let mut talk = begin();
        talk.send_line(line);
        let received = talk.rest();
        assert_eq!(received.exit(), 64, "{line}: {received:?}");
        talk.end();
    }
}

#[test]
fn only_a_batch_has_servers_to_cancel() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    sandbox.when("systemctl", "exec sleep 60");
    let mut talk = sandbox.talk();
    talk.send_line(r#"{"verb":"enable","server":"7"}"#);
    talk.send_line(r#"{"cancel":"terminate","server":"7"}"#);
    let received = talk.rest();
    assert_eq!(received.exit(), 64, "{received:?}");
}

#[test]
fn enable_resets_a_failure_then_starts_in_a_fixed_environment() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    sandbox.when(
        "systemctl",
        "echo out; echo err >&2; case \"$*\" in *reset-failed*) exit 1;; esac",
    );

    let received = sandbox.ask(r#"{"verb":"enable","server":"7"}"#);
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    assert_eq!(
        (received.stdout, received.stderr),
        (vec!["out".to_owned()], vec!["err".to_owned()])
    );

    assert_eq!(
        sandbox.calls(),
        [
            "systemctl --no-ask-password reset-failed left4me-server@7.service",
            "systemctl --no-ask-password enable --now left4me-server@7.service",
        ]
    );

    let environment = std::fs::read_to_string(sandbox.root.join("tmp/environment")).unwrap();
    let ours: Vec<&str> = environment
        .lines()
        .filter(|line| !line.starts_with("PWD=") && !line.starts_with("_="))
        .collect();
    assert_eq!(
        ours,
        [
            "LANG=C.UTF-8",
            "PATH=/usr/bin:/bin",
            "SYSTEMD_COLORS=0",
            "SYSTEMD_IGNORE_CHROOT=1",
            "SYSTEMD_PAGER=",
            "SYSTEMD_URLIFY=0"
        ]
    );
}

#[test]
fn a_verb_that_was_asked_to_observe_reports_the_unit_after_it() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    sandbox.when(
        "systemctl",
        "case \"$*\" in *show*) echo ActiveState=active; echo LoadState=loaded;; esac",
    );

    for verb in ["enable", "disable"] {
        let received = sandbox.ask(&format!(
            r#"{{"verb":"{verb}","server":"7","observe":true}}"#
        ));
        assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
        assert_eq!(
            received.observed,
            ["ActiveState=active", "LoadState=loaded"],
            "{verb}"
        );

        assert!(
            received.stdout.is_empty(),
            "the job's log gets none of it: {received:?}"
        );

        assert!(
            sandbox.calls().last().unwrap().contains(" show "),
            "after the verb: {:?}",
            sandbox.calls()
        );
    }

    // A verb that failed is observed, too; who did not ask gets nothing; a failed look is no
    // observation.
    sandbox.when(
        "systemctl",
        "case \"$*\" in *show*) echo ActiveState=failed;; *) exit 5;; esac",
    );

    let received = sandbox.ask(r#"{"verb":"enable","server":"7","observe":true}"#);
    assert_eq!(
        (received.ending().0, received.observed),
        (5, vec!["ActiveState=failed".to_owned()])
    );

    assert!(
        sandbox
            .ask(r#"{"verb":"enable","server":"7"}"#)
            .observed
            .is_empty()
    );

    sandbox.when(
        "systemctl",
        "case \"$*\" in *show*) echo ActiveState=active; exit 1;; esac",
    );

    let received = sandbox.ask(r#"{"verb":"enable","server":"7","observe":true}"#);
    assert_eq!((received.ending().0, received.observed.len()), (0, 0));
}

#[test]
fn a_command_passes_lines_and_the_exit_code_on() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    sandbox.when("systemctl", "echo out; echo err >&2; exit 5");
    assert_eq!(
        sandbox.helper("enable 7"),
        (5, "out".to_owned(), "err".to_owned())
    );

    let received = sandbox.ask(r#"{"verb":"enable","server":"7"}"#);
    assert_eq!(received.ending(), (5, "exit", "empty"));
}

#[test]
fn disable_stops_the_overlay_after_the_server_and_forgets_failures() {
    let sandbox = Sandbox::new();
    sandbox.when(
        "systemctl",
        "case \"$*\" in *reset-failed*) echo 'not loaded' >&2; exit 1;; esac",
    );

    let received = sandbox.ask(r#"{"verb":"disable","server":"7"}"#);
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    assert!(received.stderr.is_empty(), "{received:?}");
    assert_eq!(
        sandbox.calls(),
        [
            "systemctl --no-ask-password disable --now left4me-server@7.service",
            "systemctl --no-ask-password stop left4me-overlay@7.service",
            "systemctl --no-ask-password reset-failed \
             left4me-server@7.service left4me-overlay@7.service",
        ]
    );

    sandbox.when("systemctl", "exit 4");
    assert_eq!(sandbox.helper("disable 7").0, 4);
}

#[test]
fn show_and_journal_ask_for_what_the_contract_says() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.ask(r#"{"verb":"show","server":"7"}"#).exit(), 0);
    assert_eq!(sandbox.ask(r#"{"verb":"journal","server":"7"}"#).exit(), 0);
    assert_eq!(
        sandbox
            .ask(r#"{"verb":"journal","server":"7","lines":5,"follow":true}"#)
            .exit(),
        0
    );

    assert_eq!(sandbox.helper("journal 7 --lines 9").0, 0);
    assert_eq!(
        sandbox.calls(),
        [
            "systemctl --no-ask-password show \
            --property=LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,\
             ExecMainCode,ActiveEnterTimestamp,ActiveEnterTimestampMonotonic,ActiveExitTimestampMonotonic,ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic,MainPID,ControlGroup,MemoryCurrent,CPUUsageNSec,UnitFileState left4me-server@7.service",
            "journalctl --no-pager --quiet --merge -u left4me-server@7.service -u \
            left4me-overlay@7.service -n 100 -o json --all \
            --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID,_UID",
            "journalctl --no-pager --quiet --merge -u left4me-server@7.service -u \
            left4me-overlay@7.service -n 5 -o json --all \
            --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID,_UID -f",
            "journalctl --no-pager --quiet --merge -u left4me-server@7.service -u \
            left4me-overlay@7.service -n 9 -o json --all \
            --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID,_UID",
        ]
    );

    let received = sandbox.ask(r#"{"verb":"journal","server":"7","lines":10001}"#);
    assert_eq!((received.exit(), received.started), (64, 0), "{received:?}");
    assert_eq!(sandbox.helper("journal 7 --lines 10001").0, 2);
}

const CURSOR: &str = "s=739ad463348b4ceca5a9e69c95a3c93f;i=4ece7;b=6c7c6013a26343b29e964691ff25d04c;m=4fc72436e;t=4c508a72423d9;x=d3e5610681098c10";

#[test]
fn a_journal_resumes_after_a_cursor_and_each_line_has_its_own() {
    let sandbox = Sandbox::new();
    // A line longer than what people are shown, one with control characters as journalctl gives it,
    // one that is none.
    sandbox.when(
        "journalctl",
        &format!(
            r#"entry() {{ printf '{{"__CURSOR":"{CURSOR}","__REALTIME_TIMESTAMP":"1700000000123456","SYSLOG_IDENTIFIER":"systemd","_UID":"997","MESSAGE":%s}}\n' "$1"; }}
entry '"say \"hi\""'; entry '[27,91,51,49,109,114,101,100,13,10,100,97,116,97,58]'
entry "\"$(printf '%05000d' 0)\""; entry "\"$(printf 'admin\342\200\256nimda')\""; echo nonsense"#
        ),
    );

    let ask = |more: &str| {
        sandbox.ask(&format!(
            r#"{{"verb":"journal","server":"7","entries":true{more}}}"#
        ))
    };

    let received = ask("");
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    let lines: Vec<serde_json::Value> = received
        .stdout
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        serde_json::json!({"cursor": CURSOR, "at": 1_700_000_000_123_i64, "from": "srcds", "line": "say \"hi\""})
    );

    assert_eq!(lines[1]["line"], "red\u{240d}\u{240a}data:");
    assert_eq!(lines[2]["line"].as_str().unwrap().chars().count(), 4096 + 4);
    assert_eq!(lines[3]["line"], "admin\\u{202e}nimda");
    assert!(
        lines.len() == 4 && received.complains("cannot be read"),
        "{received:?}"
    );

    assert_eq!(ask(r#","lines":200,"follow":true"#).exit(), 0);
    assert_eq!(
        ask(&format!(r#","follow":true,"after":"{CURSOR}""#)).exit(),
        0
    );

    assert_eq!(
        ask(&format!(r#","lines":500,"after":"{CURSOR}""#)).exit(),
        0
    );

    let json = "-o json --all --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_PID,_UID";
    let units = "journalctl --no-pager --quiet --merge -u \
                 left4me-server@7.service -u left4me-overlay@7.service";
    assert_eq!(
        sandbox.calls(),
        [
            format!("{units} -n 100 {json}"),
            format!("{units} -n 200 {json} -f"),
            format!("{units} --after-cursor={CURSOR} --no-tail {json} -f"),
            format!("{units} --after-cursor={CURSOR} -n 500 {json}"),
        ]
    );

    for bad in [
        r#","after":"""#,
        r#","after":"--vacuum-size=1""#,
        r#","after":7"#,
        r#","lines":10001"#,
    ] {
        let received = ask(bad);
        assert_eq!(
            (received.exit(), received.started),
            (64, 0),
            "{bad}: {received:?}"
        );
    }
}

/// Shell text that prints an entry of the game's, as journalctl does.
fn one_entry(message: &str) -> String {
    format!(
        r#"echo '{{"__CURSOR":"{CURSOR}","__REALTIME_TIMESTAMP":"1700000000123456","_UID":"997","SYSLOG_IDENTIFIER":"systemd","MESSAGE":"{message}"}}'"#
    )
}

#[test]
fn a_hangup_ends_a_journal_that_is_followed() {
    let (sandbox, mark) = (Sandbox::new(), marker());
    sandbox.when(
        "journalctl",
        &format!("{}; sleep {mark} & sleep {mark}", one_entry("line")),
    );

    let mut talk = sandbox.talk();
    talk.send_line(r#"{"verb":"journal","server":"7","follow":true}"#);
    talk.receive_until("a line", |answer| {
        answer["stdout"]
            .as_str()
            .is_some_and(|line| line.ends_with(" srcds: line"))
    });

    until("both sleeps", || (alive(&mark).len() == 2).then_some(()));
    assert_eq!(talk.end().0, 0);
    assert!(alive(&mark).is_empty());
}

#[test]
fn a_reader_that_closes_its_pipe_ends_a_followed_journal() {
    let (sandbox, mark) = (Sandbox::new(), marker());
    sandbox.when(
        "journalctl",
        &format!("{}; sleep {mark}", one_entry("line")),
    );

    let output = sandbox.shell("$HELPER journal 7 --follow | head -n 1");
    let (code, line, complaint) = outcome(&output);
    assert!(
        code == 0 && line.ends_with(" srcds: line") && complaint.is_empty(),
        "{line} {complaint}"
    );

    assert!(alive(&mark).is_empty());
}

#[test]
fn purge_refuses_while_the_server_or_its_overlay_is_active() {
    let sandbox = Sandbox::new();
    for states in [
        "active\\ninactive",
        "inactive\\nactive",
        "activating\\ninactive",
        "deactivating\\ninactive",
    ] {
        sandbox.when(
            "systemctl",
            &format!("case \"$*\" in *is-active*) printf '{states}\\n'; exit 3;; esac"),
        );

        let received = sandbox.ask(r#"{"verb":"purge","server":"7"}"#);
        assert_eq!(received.exit(), 4, "{received:?}");
        assert!(
            received.complains("stop it first") && received.stdout.is_empty(),
            "{received:?}"
        );
    }

    assert!(
        sandbox
            .calls()
            .iter()
            .all(|call| call.contains("is-active"))
    );
}

#[test]
fn purge_runs_the_purge_unit_and_shows_its_last_output_when_it_fails() {
    let sandbox = Sandbox::new();
    played(&sandbox);
    sandbox.when(
        "systemctl",
        "case \"$*\" in *is-active*) printf 'inactive\\nfailed\\n'; exit 3;; esac",
    );

    assert_eq!(sandbox.ask(r#"{"verb":"purge","server":"7"}"#).exit(), 0);
    assert_eq!(
        sandbox.calls()[1],
        "systemctl --no-ask-password start left4me-purge@7.service"
    );

    sandbox.when(
        "systemctl",
        "case \"$*\" in *is-active*) printf 'inactive\\ninactive\\n'; \
         exit 3;; esac; echo 'Job failed.' >&2; exit 1",
    );

    sandbox.when("journalctl", "echo 'upper: Permission denied'");
    let received = sandbox.ask(r#"{"verb":"purge","server":"7"}"#);
    assert_eq!(received.ending(), (1, "exit", "empty"), "{received:?}");
    assert_eq!(received.stderr, ["Job failed.", "upper: Permission denied"]);
    sandbox.when("systemctl", "exit 1");
    assert_eq!(
        sandbox.ask(r#"{"verb":"purge","server":"7"}"#).exit(),
        69,
        "no answer is no permission"
    );
}

#[test]
fn a_purge_that_is_cancelled_stops_the_purge_unit() {
    for how in ["terminate", "kill"] {
        let (sandbox, mark) = (Sandbox::new(), marker());
        played(&sandbox);
        let script = format!(
            "case \"$*\" in *is-active*) printf 'inactive\\ninactive\\n'; \
             exit 3;; *start*) exec sleep {mark};; esac"
        );

        sandbox.when("systemctl", &script);
        let mut talk = sandbox.talk();
        talk.send_line(r#"{"verb":"purge","server":"7"}"#);
        until("systemctl waits for the purge", || {
            (!alive(&mark).is_empty()).then_some(())
        });
        talk.send_line(&format!(r#"{{"cancel":"{how}"}}"#));
        let received = talk.rest();
        assert_eq!(
            (received.ending().1, received.ending().2),
            (how, "empty"),
            "{received:?}"
        );

        assert_eq!(
            sandbox.calls()[2],
            "systemctl --no-ask-password stop left4me-purge@7.service",
            "{how}"
        );
    }
}

#[test]
fn a_purge_that_will_not_die_is_reported_with_its_unit() {
    let (sandbox, mark) = (Sandbox::new(), marker());
    played(&sandbox);
    let script = format!(
        "case \"$*\" in *is-active*) printf 'inactive\\ninactive\\n'; \
         exit 3;; *start*) exec sleep {mark};; *stop*) exit 1;; \
         *show*) printf '4711\\n/system.slice/left4me-purge@7.service\\n';; esac"
    );

    sandbox.when("systemctl", &script);
    let mut talk = sandbox.talk();
    talk.send_line(r#"{"verb":"purge","server":"7"}"#);
    until("systemctl waits for the purge", || {
        (!alive(&mark).is_empty()).then_some(())
    });
    talk.send_line(r#"{"cancel":"kill"}"#);
    let unit = talk.receive_until("the purge unit", |answer| {
        answer["started"]["unit"] == "left4me-purge@7.service"
    });
    assert_eq!(
        unit["started"]["cgroup"],
        "/system.slice/left4me-purge@7.service"
    );

    assert_eq!(unit["started"]["pid"], 4711);
    assert_eq!(talk.rest().ending().2, "left");
}

#[test]
fn what_is_no_request_gets_an_error_and_exit_64() {
    let sandbox = Sandbox::new();
    for bad in [
        r#"{"verb":"start","server":"7"}"#,
        r#"{"verb":"mount","server":"7"}"#,
        r#"{"verb":"purge-files","server":"7"}"#,
        r#"{"verb":"stale-files","server":"7"}"#,
        r#"{"verb":"stale","server":"7","drop":true}"#,
        r#"{"verb":"enable","server":"../7"}"#,
        r#"{"verb":"enable","server":"7 8"}"#,
        r#"{"verb":"enable","server":"-7"}"#,
        r#"{"verb":"enable","server":"7","now":true}"#,
        r#"{"verb":"enable","server":7}"#,
        r#"["enable","7"]"#,
        r#"{"verb":"journal","server":"7","lines":-1}"#,
        "enable 7",
        "",
    ] {
        let received = sandbox.ask(bad);
        assert_eq!(
            (received.exit(), received.errors.len(), received.started),
            (64, 1, 0),
            "{bad}: {received:?}"
        );
    }

    assert!(sandbox.calls().is_empty());
}

#[test]
fn only_root_and_left4me_may_ask() {
    // Outside the user namespace this user has no name for the helper; with root, its own users
    // are.
    if is_real_root() {
        let sandbox = Sandbox::new();
        let other = sandbox.shell(
            "exec setpriv --reuid 4711 --regid 4711 \
             --clear-groups sh -c 'exec \"$HELPER\" enable 7'",
        );

        assert_eq!(outcome(&other).0, 77);
        return;
    }

    let mut talk = Conversation::start(&[HELPER], &Root::new().envs());
    talk.send_line(r#"{"verb":"show","server":"7"}"#);
    let received = talk.rest();
    assert_eq!(received.exit(), 64, "{received:?}");
    assert!(
        received.complains("not permitted for user id"),
        "{received:?}"
    );
    let output = Command::new(HELPER)
        .args(["enable", "7"])
        .env("LEFT4ME_ENV_FILE", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(outcome(&output).0, 77);
}

#[test]
fn bad_arguments_exit_2_with_a_line_that_says_what_is_needed() {
    let sandbox = Sandbox::new();
    for bad in [
        "enable ../7",
        "enable",
        "start 7",
        "enable 7 8",
        "enable ''",
        "mount 7/8",
        "journal 7 --lines x",
        "",
    ] {
        let (code, _, words) = sandbox.helper(bad);
        assert_eq!(code, 2, "{bad}: {words}");
    }
}

#[test]
fn through_sudo_the_caller_cannot_choose_the_paths() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    let (code, _, words) = outcome(&sandbox.shell("SUDO_UID=1000 exec $HELPER enable 7"));
    assert_eq!(code, 3, "the environment's root is not believed: {words}");
    assert!(words.contains("/var/lib/left4me/instances/7"), "{words}");
    let (code, _, _) = outcome(&sandbox.shell("SUDO_UID=1000 exec $HELPER --root $ROOT enable 7"));
    assert_eq!(code, 77);
    assert!(sandbox.calls().is_empty());
}

#[test]
fn check_overlay_mounts_one_reports_the_kernels_error_and_cleans_up() {
    let sandbox = Sandbox::new();
    let checked = |before: &str| {
        let script = format!(
            "mkdir -p $ROOT/runtime; cd $ROOT; {before}; $HELPER check-overlay; echo $?
             cat /run/left4me-overlay-check/result; echo; ls -A runtime; grep -c $ROOT/runtime/. \
             /proc/self/mountinfo"
        );

        let (_, stdout, stderr) = outcome(&sandbox.shell(&script));
        let lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
        assert_eq!(
            lines[2..],
            ["0"],
            "nothing is left, and nothing mounted\n{stdout}\n{stderr}"
        );

        (lines[0].clone(), lines[1].clone(), stderr)
    };

    // In a user namespace there are no trusted.* attributes, so files of overlays cannot be written
    // in sandbox.
    let fits = if is_real_root() {
        r#""verdict":"good""#
    } else {
        r#""verdict":{"limited""#
    };

    for before in [
        "true",
        "mount -t tmpfs -o mode=711 x runtime",
        "mkdir -p runtime/.overlay-check/merged/left",
    ] {
        let (code, result, stderr) = checked(before);
        assert!(
            code == "0" && result.contains(fits),
            "{before}: {result}\n{stderr}"
        );
    }

    let nested = "mkdir l u w; mount -t overlay x -o lowerdir=l,upperdir=u,workdir=w runtime";
    let (code, result, stderr) = checked(nested);
    assert_eq!(code, "1", "{result}");
    for part in [
        r#""file_system":"overlay""#,
        r#"{"unfit""#,
        "Invalid argument",
        "ext4, xfs, btrfs",
    ] {
        assert!(result.contains(part), "{part}: {result}");
    }

    assert!(
        stderr.contains("runtime (overlay): no server's overlay can be mounted there"),
        "{stderr}"
    );

    let (code, result, _) = checked("mount -t tmpfs -o ro,mode=711 x runtime");
    assert!(
        code == "1" && result.contains("untried") && result.contains("Read-only file system"),
        "{result}"
    );
}

#[test]
fn mount_stacks_layers_topmost_first_and_a_second_mount_adds_none() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    let output = sandbox.shell(
        "set -e; cd $ROOT/runtime; $HELPER mount 7; $HELPER mount 7
         grep -c $ROOT/runtime/7/merged /proc/self/mountinfo
         cat 7/merged/config 7/merged/map 7/merged/game; echo
         stat -c '%u' 7/merged 7/upper 7/work; stat -c '%a %u' 7 7/work .; cat \
         /run/left4me-servers/7.env
         stat -c '%a %u' /run/left4me-servers /run/left4me-servers/7.env
         echo new > 7/merged/config; cat 7/upper/config; cat $ROOT/instances/7/layer/config; echo
         grep $ROOT/runtime/7/merged /proc/self/mountinfo | grep -c nosuid,nodev
         ls -d 7/work/work; $HELPER umount 7; $HELPER umount 7
         grep -c $ROOT/runtime /proc/self/mountinfo || ls -A 7/work 7/merged; ls \
         /run/left4me-servers",
    );

    let (code, stdout, stderr) = outcome(&output);
    assert_eq!(code, 0, "{stdout} {stderr}");
    let game = if is_real_root() { "64123" } else { "0" };
    let expected = format!(
        "1\nfrom layerfrom mapsfrom installation\n{game}\n{game}\n0\n700 0\n700 0\n711 0\n\
         L4D2_PORT=27015\nL4D2_ARGS=\"\\\"+map\\\" \\\"c1m1_hotel\\\"\"\n700 0\n600 0\n\
         new\nfrom layer\n1\n7/work/work\n0\n7/merged:\n\n7/work:"
    );

    assert_eq!(stdout, expected);
}

#[test]
fn the_game_may_write_beside_what_the_lower_layers_have() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    sandbox
        .root
        .write("installation/left4dead2/cfg/stock.cfg", "stock");
    sandbox
        .root
        .write("overlays/maps/left4dead2/maps/a.bsp", "map");
    let output = as_game(
        &sandbox,
        "$HELPER mount 7; cd $ROOT/runtime/7/merged/left4dead2; $GAMEsh -c 'echo log > log.txt; \
        echo mine > cfg/server.log; echo x > maps/b.bsp'
         cat log.txt cfg/server.log cfg/stock.cfg maps/a.bsp; cd /; $HELPER umount 7; $HELPER \
         mount 7; cat $ROOT/runtime/7/merged/left4dead2/log.txt",
    );

    let (code, stdout, stderr) = outcome(&output);
    assert_eq!(
        (code, stdout.as_str()),
        (0, "log\nmine\nstockmaplog"),
        "{stderr}"
    );
}

#[test]
fn five_hundred_layers_can_be_mounted_and_no_more() {
    let sandbox = Sandbox::new();
    let mut layers: Vec<PathBuf> = (0..499)
        .map(|i| {
            sandbox
                .root
                .join(format!("overlays/{}-{i}", "a".repeat(100)))
        })
        .collect();
    layers.push(sandbox.root.join("installation"));
    layers
        .iter()
        .for_each(|path| std::fs::create_dir_all(path).unwrap());
    std::fs::write(layers[0].join("top"), "top").unwrap();
    std::fs::write(layers[498].join("bottom"), "bottom").unwrap();
    sandbox.layers(&layers);
    let (code, stdout, stderr) = outcome(&sandbox.shell(
        "$HELPER mount 7 && cd $ROOT/runtime/7/merged && cat top bottom; cd /; $HELPER umount 7",
    ));
    assert_eq!((code, stdout.as_str()), (0, "topbottom"), "{stderr}");
    layers.push(sandbox.root.join("overlays/maps"));
    sandbox.layers(&layers);
    let (code, _, stderr) = sandbox.helper("mount 7");
    assert_eq!(code, 1);
    assert!(stderr.contains("501 lower layers, at most 500"), "{stderr}");
}

#[test]
fn changed_layers_are_remounted_and_a_foreign_mount_is_left_alone() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    sandbox.root.write(
        "instances/7/two.env",
        format!(
            "L4D2_PORT=1\nLEFT4ME_LOWERDIRS=\"{}\"\n",
            sandbox.root.join("installation").display()
        ),
    );

    let output = sandbox.shell(
        "set -e; cd $ROOT; $HELPER mount 7; mv instances/7/two.env instances/7/instance.env; \
        $HELPER mount 7
         cat runtime/7/merged/config; grep -c runtime/7/merged /proc/self/mountinfo; $HELPER \
         umount 7
         mount -t tmpfs none runtime/7/merged; $HELPER mount 7",
    );

    let (code, stdout, stderr) = outcome(&output);
    assert_eq!(
        (code, stdout.as_str()),
        (4, "from installation1"),
        "{stderr}"
    );

    assert!(stderr.contains("tmpfs"), "{stderr}");
}

#[test]
fn a_layer_outside_the_roots_of_layers_is_refused_and_nothing_mounted() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    symlink("/etc", sandbox.root.join("overlays/link")).unwrap();
    symlink("maps", sandbox.root.join("overlays/alias")).unwrap();
    std::fs::create_dir_all(sandbox.root.join("overlays/deep")).unwrap();
    symlink(
        sandbox.root.join("installation"),
        sandbox.root.join("overlays/deep/link"),
    )
    .unwrap();

    let cases = [
        ("/etc", 1, "not where lower layers are"),
        ("overlays/../steam", 1, "not where lower layers are"),
        ("steam", 1, "not where lower layers are"),
        ("instances/8/layer", 1, "not where lower layers are"),
        (
            "overlays/maps,upperdir=/etc",
            1,
            "not where lower layers are",
        ),
        ("overlays/link", 1, "symbolic link"),
        ("overlays/alias", 1, "symbolic link"),
        ("overlays/deep/link/x", 1, "symbolic link"),
        ("overlays/missing", 3, "does not exist"),
        ("overlays/maps/map", 1, "no directory"),
    ];

    for (layer, expected, words) in cases {
        sandbox.layers(&[sandbox.root.join(layer), sandbox.root.join("installation")]);
        let (code, _, stderr) = sandbox.helper("mount 7");
        assert_eq!(code, expected, "{layer}: {stderr}");
        assert!(
            stderr.contains(words) && stderr.lines().count() == 1,
            "{layer}: {stderr}"
        );
    }

    sandbox.layers(&[
        sandbox.root.join("installation"),
        sandbox.root.join("installation"),
    ]);

    assert!(sandbox.helper("mount 7").2.contains("twice"));
    assert!(!sandbox.root.join("runtime/7").exists());
}

#[test]
fn an_odd_instance_env_is_one_clear_line() {
    let sandbox = Sandbox::new();
    let file = sandbox.root.join("instances/7/instance.env");
    let check = |expected: i32, words: &str| {
        let (code, _, stderr) = sandbox.helper("mount 7");
        assert_eq!(code, expected, "{stderr}");
        assert!(
            stderr.contains(words) && stderr.lines().count() == 1,
            "{words}: {stderr}"
        );
    };

    check(3, "initialize server 7");
    std::fs::write(&file, "L4D2_PORT=1\n").unwrap();
    check(1, "no LEFT4ME_LOWERDIRS");
    std::fs::write(&file, b"LEFT4ME_LOWERDIRS=\xff\n").unwrap();
    check(1, "not text");
    std::fs::write(&file, vec![b'x'; 300 * 1024]).unwrap();
    check(1, "longer than");
    std::fs::remove_file(&file).unwrap();
    symlink("/etc/passwd", &file).unwrap();
    check(1, "symbolic link");
    std::fs::remove_file(&file).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );

    check(1, "not a regular file");
}

#[test]
fn mount_follows_no_link_that_the_game_put_into_its_directory() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    let outside = sandbox.root.join("tmp/outside");
    std::fs::create_dir(&outside).unwrap();
    for name in ["7", "7/upper", "7/work", "7/merged"] {
        let link = sandbox.root.join("runtime").join(name);
        let _ = std::fs::remove_dir_all(sandbox.root.join("runtime/7"));
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        if is_real_root() && name != "7" {
            chown(sandbox.root.join("runtime/7"), Some(64_124), Some(64_124)).unwrap();
        }
        symlink(&outside, &link).unwrap();
        let (code, _, stderr) = sandbox.helper("mount 7");
        assert_eq!(code, 1, "{name}: {stderr}");
        assert!(stderr.contains("symbolic link"), "{name}: {stderr}");
        std::fs::remove_file(&link).unwrap();
    }

    assert_eq!(
        std::fs::metadata(&outside).unwrap().uid(),
        nix::unistd::getuid().as_raw()
    );

    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn umount_names_who_uses_the_mount_and_never_forces() {
    let (sandbox, mark) = (Sandbox::new(), marker());
    sandbox.initialized();
    let output = sandbox.shell(&format!(
        "$HELPER mount 7; cd $ROOT/runtime/7/merged; sleep {mark} & user=$!; cd /
         $HELPER umount 7; echo $?; grep -c runtime/7/merged /proc/self/mountinfo; kill $user; \
         wait $user; $HELPER umount 7; echo $?"
    ));

    let (_, stdout, stderr) = outcome(&output);
    assert_eq!(stdout, "1\n1\n0", "{stderr}");
    assert!(
        stderr.contains("is in use by") && stderr.contains("(sleep)"),
        "{stderr}"
    );
}

#[test]
fn stacked_mounts_are_all_unmounted() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    let output = sandbox.shell(
        "$HELPER mount 7; mount -t tmpfs none $ROOT/runtime/7/merged; $HELPER umount 7; echo $?; \
        grep -c runtime/7 /proc/self/mountinfo",
    );

    assert_eq!(outcome(&output).1, "0\n0");
    // A data directory that does not exist has nothing mounted either.
    assert_eq!(
        outcome(&sandbox.shell("LEFT4ME_ROOT=/nonexistent/x exec $HELPER umount 7")).0,
        0
    );
}

/// The helper as the server's user.
fn as_game(sandbox: &Sandbox, script: &str) -> Output {
    let prefix = if is_real_root() {
        "setpriv --reuid 64123 --regid 64123 --clear-groups "
    } else {
        ""
    };
    sandbox.shell(&script.replace("$GAME", prefix))
}

/// runtime/7 as mounting leaves it, with an upper directory of the server's user.
fn played(sandbox: &Sandbox) {
    std::fs::create_dir_all(sandbox.root.join("runtime/7/upper")).unwrap();
    std::fs::create_dir_all(sandbox.root.join("runtime/7/work")).unwrap();
    if is_real_root() {
        chown(
            sandbox.root.join("runtime/7/upper"),
            Some(64_123),
            Some(64_123),
        )
        .unwrap();
    }
}

#[test]
fn purge_files_empties_upper_and_nothing_outside() {
    let sandbox = Sandbox::new();
    sandbox.root.write("tmp/outside/precious", "precious");
    played(&sandbox);
    let output = as_game(
        &sandbox,
        "$GAMEsh -c 'cd $ROOT/runtime/7/upper; mkdir -p a/b/c; touch f a/f a/b/c/f
         ln -s $ROOT/tmp/outside link; ln -s $ROOT/tmp/outside/precious a/file; mkfifo a/fifo; \
         touch \"a/
         b\" \"$(printf \"\\351\\001\")\"; mkdir ro shut; touch ro/f shut/f; chmod 555 ro; chmod \
         000 shut
         truncate -s 1T sparse; for i in $(seq 300); do ln f link-$i; done
         for i in $(seq 400); do mkdir d; cd d; done; touch bottom'
         $GAME$HELPER purge-files 7; echo $?; cd $ROOT/runtime/7; ls -A upper; ls -d *; cat \
         $ROOT/tmp/outside/precious",
    );

    let (_, stdout, stderr) = outcome(&output);
    assert_eq!(stdout, "0\nupper\nwork\nprecious", "{stderr}");
}

/// Names that an earlier version moved deep directories to, and directories that do not let
/// themselves be moved.
#[test]
fn purge_files_ends_whatever_names_and_modes_the_game_chose() {
    let sandbox = Sandbox::new();
    played(&sandbox);
    let output = as_game(
        &sandbox,
        "$GAMEsh -c 'cd $ROOT/runtime/7/upper; for i in $(seq 40); do mkdir -p \
        .left4me-purge-$i/full/x; done
         for i in $(seq 300); do mkdir d e; mkdir e/x; chmod 555 e; cd d; done; mkdir -p last/x; \
         chmod 000 last
         while :; do cd ..; chmod 555 d; [ -d .left4me-purge-1 ] && break; done'
         $GAME$HELPER purge-files 7; echo $?; ls -A $ROOT/runtime/7/upper",
    );

    let (_, stdout, stderr) = outcome(&output);
    assert_eq!(stdout, "0", "{stderr}");
}

#[test]
fn a_purge_that_is_killed_anywhere_is_repeated_to_its_end() {
    let sandbox = Sandbox::new();
    played(&sandbox);
    let output = as_game(
        &sandbox,
        "$GAMEsh -c 'cd $ROOT/runtime/7/upper; for i in $(seq 20); do mkdir -p w$i/a/b/c; touch \
        w$i/f w$i/a/b/c/f; done
         for i in $(seq 200); do mkdir -p d s/x; cd d; done'
         tries=0; for pause in 0.001 0.002 0.003 0.004 0.005 0.006 0.007 0.008 0.009 0.01; do
           timeout -s KILL $pause $GAME$HELPER purge-files 7; [ $? = 0 ] || tries=$((tries + 1))
         done; [ $tries -gt 0 ] || echo never killed; $GAME$HELPER purge-files 7; echo $?; ls -A \
         $ROOT/runtime/7/upper",
    );

    let (_, stdout, stderr) = outcome(&output);
    assert_eq!(stdout.lines().last(), Some("0"), "{stdout} {stderr}");
    assert_eq!(
        std::fs::read_dir(sandbox.root.join("runtime/7/upper"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn purge_removes_the_directory_of_an_instance_that_is_gone() {
    let sandbox = Sandbox::new();
    sandbox.when(
        "systemctl",
        "case \"$*\" in *is-active*) printf 'inactive\\ninactive\\n'; exit 3;; esac",
    );

    assert_eq!(sandbox.helper("purge 7").0, 0, "nothing there is success");
    assert!(
        !sandbox.calls().iter().any(|call| call.contains("start")),
        "and starts nothing: {:?}",
        sandbox.calls()
    );

    played(&sandbox);
    assert_eq!(sandbox.helper("purge 7").0, 0);
    assert!(
        sandbox.root.join("runtime/7").exists(),
        "the instance is still there"
    );

    std::fs::remove_dir_all(sandbox.root.join("instances/7")).unwrap();
    let (code, _, stderr) = sandbox.helper("purge 7");
    assert_eq!(code, 0, "{stderr}");
    assert!(!sandbox.root.join("runtime/7").exists());
}

#[test]
fn purge_files_refuses_a_mounted_overlay_and_every_other_user() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    let (code, _, stderr) = outcome(&as_game(
        &sandbox,
        "$HELPER mount 7; chmod 755 $ROOT/runtime $ROOT/runtime/7; echo kept > \
        $ROOT/runtime/7/merged/f; $GAME$HELPER purge-files 7; code=$?; [ -e \
        $ROOT/runtime/7/upper/f ] && exit $code",
    ));

    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("is mounted"), "{stderr}");
    if is_real_root() {
        let (code, _, stderr) = sandbox.helper("purge-files 7");
        assert_eq!(code, 77, "{stderr}");
        assert!(
            stderr.contains("user id 64123") && stderr.contains("left4me-helper purge 7"),
            "{stderr}"
        );
    } else {
        let output = Command::new(HELPER)
            .args(["purge-files", "7"])
            .env("LEFT4ME_ENV_FILE", "/nonexistent")
            .output()
            .unwrap();
        assert!(
            [69, 77].contains(&outcome(&output).0),
            "no such user, or another one: {output:?}"
        );
    }
}

// ---- stale files ------------------------------------------------------------------------------

/// A server that ran over an installation with these files, wrote the same ones, and whose
/// installation was updated since.
fn updated(sandbox: &Sandbox, names: &[&str], then: &str) -> Output {
    sandbox.initialized();
    let names: String = names.iter().map(|name| format!("'{name}' ")).collect();
    as_game(
        sandbox,
        &format!(
            "set -e; cd $ROOT/installation; for name in {names}; do mkdir -p \"$(dirname \"$name\")\"
             echo old > \"$name\"; touch -d @1000 \"$name\"; done
             $HELPER mount 7; chmod 755 $ROOT/runtime $ROOT/runtime/7 $ROOT/runtime/7/merged
             cd $ROOT/runtime/7/merged; for name in {names}; do
             $GAMEsh -c 'echo changed > \"$0\"; touch -d @2000 \"$0\"' \"$name\"; done
             cd /; $HELPER umount 7; cd $ROOT/installation
             for name in {names}; do echo new > \"$name\"; touch -d @3000 \"$name\"; done; cd /
             {then}"
        ),
    )
}

#[test]
fn files_that_hide_newer_game_files_are_found_and_only_these_are_dropped() {
    let sandbox = Sandbox::new();
    let names = ["a/b/old", "a/same", "kept", "cfg/x", "top"];
    let output = updated(
        &sandbox,
        &names,
        "cp $ROOT/runtime/7/upper/kept $ROOT/tmp/; cd $ROOT/installation
         $GAMEsh -c 'touch -d @4000 $ROOT/runtime/7/upper/kept; echo mine > $ROOT/runtime/7/upper/own'
         cp a/same $ROOT/runtime/7/upper/a/same; touch -d @2000 $ROOT/runtime/7/upper/a/same
         mkdir -p $ROOT/overlays/maps/cfg; echo overlay > $ROOT/overlays/maps/cfg/x
         $GAME$HELPER stale-files 7; ls $ROOT/runtime/7/upper/a/b; echo
         $GAME$HELPER drop-stale-files 7; cd $ROOT/runtime/7/upper; find . -type f | sort
         $GAME$HELPER stale-files 7; $HELPER mount 7; cat $ROOT/runtime/7/merged/a/b/old",
    );

    let (code, stdout, stderr) = outcome(&output);
    let both = "{\"file\":{\"path\":\"top\",\"size\":8}}\n\
                {\"file\":{\"path\":\"a/b/old\",\"size\":8}}\n\
                {\"end\":{\"count\":2,\"size\":16,\"is_whole\":true}}";
    let none = "{\"end\":{\"count\":0,\"size\":0,\"is_whole\":true}}";
    let left = "./a/same\n./cfg/x\n./kept\n./own";
    assert_eq!(
        (code, stdout),
        (0, format!("{both}\nold\n\n{both}\n{left}\n{none}\nnew")),
        "{stderr}"
    );
}

/// Names, kinds and modes that a game can choose.
#[test]
fn what_the_game_made_of_its_files_neither_misleads_nor_holds_up_the_search() {
    let sandbox = Sandbox::new();
    let odd = "odd \u{202e}\u{1b}[2J\\n";
    let names = [
        odd, "d/gone", "d/link", "d/fifo", "d/dir", "moved/f", "shut/f", "ro/f", "hard", "cfg/x",
    ];
    let output = updated(
        &sandbox,
        &names,
        "printf new > \"$ROOT/installation/$(printf 'new\\nline\\351')\"
         $HELPER mount 7; cd $ROOT/runtime/7/merged; $GAMEsh -c 'rm d/gone d/link d/fifo d/dir
         ln -s /etc/passwd d/link; mkfifo d/fifo; mkdir d/dir; ln hard hard2
         f=$(printf \"new\\nline\\351\"); echo x > \"$f\"; touch -d @2000 \"$f\"'
         cd /; $HELPER umount 7; chmod 755 $ROOT/runtime $ROOT/runtime/7
         cd $ROOT/runtime/7/upper; $GAMEsh -c 'mv moved elsewhere; ln -s $ROOT/installation/moved moved
         chmod 000 shut; chmod 555 ro; mkdir many; cd many; for i in $(seq 3000); do : > $i; done'
         echo; $GAME$HELPER stale-files 7 | sort; echo; $GAME$HELPER drop-stale-files 7 | wc -l
         stat -c %a ro shut; ls ro hard2; ls $ROOT/installation/moved; ls -d elsewhere/f",
    );

    let (code, stdout, stderr) = outcome(&output);
    let file = |path: &str, size: u64| {
        let path = serde_json::to_string(path).unwrap();
        format!("{{\"file\":{{\"path\":{path},\"size\":{size}}}}}")
    };
    let mut found = [
        "{\"end\":{\"count\":5,\"size\":34,\"is_whole\":true}}".to_owned(),
        file("cfg/x", 8),
        file("hard", 8),
        file("new\\x0aline\\xe9", 2),
        file("odd \\u{202e}\\x1b[2J\\\\n", 8),
        file("ro/f", 8),
    ];
    found.sort();
    assert_eq!(
        (code, stdout.trim().to_owned()),
        (
            0,
            format!(
                "{}\n\n6\n555\n0\nhard2\n\nro:\nf\nelsewhere/f",
                found.join("\n")
            )
        ),
        "{stderr}"
    );
}

#[test]
fn many_stale_files_are_counted_and_the_first_are_named() {
    let sandbox = Sandbox::new();
    let names: Vec<String> = (0..150).map(|number| format!("d/{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let output = updated(&sandbox, &names, "$GAME$HELPER stale-files 7");
    let (code, stdout, stderr) = outcome(&output);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!((code, lines.len()), (0, 101), "{stderr}");
    assert!(
        lines[0].contains("d/000") && lines[100].contains("\"count\":150"),
        "{stdout}"
    );
}

#[test]
fn the_search_is_for_the_owner_and_dropping_needs_the_overlay_unmounted() {
    let sandbox = Sandbox::new();
    let output = updated(
        &sandbox,
        &["f"],
        "$HELPER mount 7; chmod 755 $ROOT/runtime $ROOT/runtime/7; $GAME$HELPER stale-files 7
         $GAME$HELPER drop-stale-files 7 || echo $?; cat $ROOT/runtime/7/upper/f
         cat $ROOT/runtime/7/layers; stat -c '%a %u' $ROOT/runtime/7/layers",
    );
    let (code, stdout, stderr) = outcome(&output);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(
        stdout,
        "{\"file\":{\"path\":\"f\",\"size\":8}}\n{\"end\":{\"count\":1,\"size\":8,\"is_whole\":true}}\n\
         4\nchanged\noverlays/maps\ninstallation\n644 0"
    );
    assert!(stderr.contains("is mounted"), "{stderr}");

    if is_real_root() {
        for verb in ["stale-files", "drop-stale-files"] {
            let (code, _, stderr) = sandbox.helper(&format!("{verb} 7"));
            assert_eq!(code, 77, "{stderr}");
            assert!(stderr.contains("user id 64123"), "{stderr}");
        }
    }
}

#[test]
fn stale_runs_a_unit_and_passes_on_what_it_wrote_and_nothing_else() {
    let sandbox = Sandbox::new();
    let end = r#"{"end":{"count":0,"size":0,"is_whole":true}}"#;
    let ask = |verb: &str| sandbox.ask(&format!(r#"{{"verb":"{verb}","server":"7"}}"#));
    assert_eq!(ask("stale").stdout, [end], "it never ran");
    assert!(sandbox.calls().is_empty(), "{:?}", sandbox.calls());

    // Not started since the upgrade: that is no all-clear.
    played(&sandbox);
    let received = ask("stale");
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    assert_eq!(received.stdout, [end.replace("true", "false")]);
    assert!(received.complains("until its next start"), "{received:?}");
    assert!(sandbox.calls().is_empty(), "{:?}", sandbox.calls());

    sandbox.root.write("runtime/7/layers", "installation\n");
    sandbox.root.write("runtime/7/stale", end);
    let file = r#"{"file":{"path":"a\\x0ab","size":3}}"#;
    let more = r#"{"end":{"count":1,"size":3,"is_whole":true}}"#;
    let written = format!(
        "printf '%s\\n' '{}' 'nonsense' '{more}' > {}",
        file.replace('\\', "\\\\").replace("\\\\\\\\", "\\\\"),
        sandbox.root.join("runtime/7/stale").display()
    );
    sandbox.when("systemctl", &written);
    let received = ask("stale");
    assert_eq!(received.ending(), (0, "exit", "empty"), "{received:?}");
    assert_eq!(received.stdout, [file, more]);
    assert_eq!(
        sandbox.calls(),
        ["systemctl --no-ask-password start left4me-stale@7.service"]
    );

    // A unit that does not start leaves nothing of an earlier run.
    sandbox.when("systemctl", "echo 'Job failed.' >&2; exit 1");
    sandbox.when("journalctl", "echo 'upper: Permission denied'");
    let received = ask("stale");
    assert_eq!(received.ending(), (1, "exit", "empty"), "{received:?}");
    assert_eq!(received.stdout, [""; 0]);
    assert_eq!(received.stderr, ["Job failed.", "upper: Permission denied"]);

    sandbox.when(
        "systemctl",
        "case \"$*\" in *is-active*) printf 'active\\nactive\\n'; exit 3;; esac",
    );
    let received = ask("purge-stale");
    assert_eq!(received.exit(), 4, "{received:?}");
    assert!(received.complains("stop it first"), "{received:?}");

    sandbox.when(
        "systemctl",
        &format!(
            "case \"$*\" in *is-active*) printf 'inactive\\ninactive\\n'; exit 3;; esac; {written}"
        ),
    );
    assert_eq!(ask("purge-stale").stdout, [file, more]);
    assert_eq!(
        sandbox.calls().last().unwrap(),
        "systemctl --no-ask-password start left4me-purge-stale@7.service"
    );
}

// ---- a user for each server -------------------------------------------------------------------

/// A tree as the previous version left it: all of it left4me-game's, with what a game may put into
/// it.
fn as_before(sandbox: &Sandbox) {
    sandbox.root.write("tmp/outside/precious", "precious");
    let output = sandbox.shell(
        "cd $ROOT/runtime; mkdir -p 7/upper/a/b 7/work 7/merged; cd 7/upper; echo x > a/b/file; ln \
        a/b/file twin
         cp /bin/true suid; ln -s $ROOT/tmp/outside link; ln -s $ROOT/tmp/outside/precious file
         mkdir -p $(printf 'd/%.0s' $(seq 1500)); cd $ROOT/runtime; chmod 750 7 7/work
         game=$(id -u left4me-game); chown -hR $game:$game 7 && chmod 6755 7/upper/suid",
    );

    assert_eq!(outcome(&output), (0, String::new(), String::new()));
}

const FOREIGN: &str = "find $ROOT/runtime/7/upper ! -uid $(id -u left4me_7) | wc -l; find \
                      $ROOT/runtime/7/upper ! -gid $(id -g left4me_7) | wc -l";

#[test]
fn files_of_the_previous_version_become_the_servers_own_on_mount() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    as_before(&sandbox);
    let output = sandbox.shell(&format!(
        "$HELPER mount 7 || exit; {FOREIGN}; cd $ROOT/runtime/7; stat -c '%a %U' . work merged/a; \
        stat -c %a upper/suid
         cat merged/a/b/file; stat -c %U $ROOT/tmp/outside $ROOT/tmp/outside/precious; cat \
         merged/twin; $HELPER umount 7"
    ));

    let user = if is_real_root() { "left4me_7" } else { "root" };
    let expected = format!("0\n0\n700 root\n700 root\n755 {user}\n755\nx\nroot\nroot\nx");
    if is_real_root() {
        assert_eq!(outcome(&output), (0, expected, String::new()));
    } else {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

#[test]
fn a_hand_over_that_is_killed_anywhere_goes_on_with_the_next_mount() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    as_before(&sandbox);
    let (code, stdout, stderr) = outcome(&sandbox.shell(&format!(
        "for pause in 0.003 0.005 0.006 0.007 0.008 0.009 0.01 0.012; do timeout -s KILL $pause \
        $HELPER mount 7; $HELPER umount 7 & kill -9 $!; done
         wait; $HELPER umount 7; $HELPER mount 7 && $HELPER umount 7; echo $?; {FOREIGN}"
    )));

    assert_eq!((code, stdout.as_str()), (0, "0\n0\n0"), "{stderr}");
}

#[test]
fn a_server_that_runs_through_an_upgrade_keeps_its_user_until_it_stops() {
    if !is_real_root() {
        return; // A user namespace has one user only.
    }
    let sandbox = Sandbox::new();
    sandbox.initialized();
    as_before(&sandbox);
    let script = "set -e; mkdir -p /run/systemd/system; units=/run/systemd/system; owner() { stat \
                 -c %U $ROOT/runtime/7/upper; }
         LEFT4ME_SERVER_USER=left4me-game $HELPER mount 7; owner; rm /run/left4me-servers/7.env
         $HELPER upgrade; $HELPER upgrade; owner; cat /run/left4me-servers/7.env; stat -c '%a %U' \
         $ROOT/runtime/7
         grep -h = $units/left4me-*@7.service.d/*; LEFT4ME_SERVER_USER=left4me-game $HELPER umount \
         7; owner; ls -A $units /run/left4me-servers
         LEFT4ME_SERVER_USER=left4me-game $HELPER mount 7; owner; $HELPER mount 7; owner; $HELPER \
         umount 7
         LEFT4ME_SERVER_USER=root $HELPER mount 7 || echo refused";
    let (code, stdout, stderr) = outcome(&sandbox.shell(script));
    let expected = "left4me-game\nleft4me-game\nL4D2_PORT=27015\nL4D2_ARGS=\"\\\"+map\\\" \\\"c1m1_hotel\\\"\"\n700 root\n\
                    Environment=LEFT4ME_SERVER_USER=left4me-game\nUser=left4me-game\nGroup=left4me-game\n\
                    left4me_7\n/run/left4me-servers:\n\n/run/systemd/system:\nleft4me-game\nleft4me_7\nrefused";
    assert_eq!((code, stdout.as_str()), (0, expected), "{stderr}");
}

#[test]
fn an_upgrade_closes_what_was_open_and_goes_on_after_a_problem() {
    if !is_real_root() {
        return; // A user namespace has one user only.
    }
    let sandbox = Sandbox::new();
    sandbox.initialized();
    as_before(&sandbox);
    sandbox.root.write("runtime/5/upper/f", "x");
    let (code, stdout, stderr) = outcome(&sandbox.shell(
        "chown 4711 $ROOT/runtime/5; mkdir $ROOT/runtime/..x $ROOT/runtime/UPPER; chown 64122 \
        $ROOT/instances $ROOT/instances/7
         chmod 2750 $ROOT/instances/7; ln -s /etc $ROOT/instances/9; $HELPER upgrade; echo $?; \
         stat -c '%a %U' $ROOT/runtime/7 $ROOT/instances/7 /etc
         stat -c %U $ROOT/runtime/7/upper $ROOT/runtime/7/upper/a/b/file",
    ));

    assert_eq!(code, 0);
    assert_eq!(
        stdout, "4\n700 root\n711 left4me\n755 root\nleft4me_7\nleft4me_7",
        "{stderr}"
    );

    assert!(
        stderr.contains("server 5") && stderr.contains("4711"),
        "{stderr}"
    );
}

#[test]
fn the_instances_layer_gets_the_servers_group_and_no_other_file_does() {
    if !is_real_root() {
        return; // A user namespace has one group only.
    }
    let sandbox = Sandbox::new();
    sandbox.initialized();
    sandbox.root.write("tmp/database", "secret");
    let (code, stdout, stderr) = outcome(&as_game(
        &sandbox,
        "cd $ROOT/instances/7; mkdir layer/cfg; echo rcon > layer/cfg/server.cfg; chmod 750 layer \
        layer/cfg; chmod 640 layer/cfg/*
         ln $ROOT/tmp/database layer/cfg/database; echo other > layer/other; chown 4711 \
         layer/other; chgrp 0 layer/other
         $HELPER mount 7; stat -c %g layer layer/cfg layer/cfg/server.cfg layer/cfg/database \
         layer/other
         cd $ROOT/runtime/7/merged; $GAMEcat cfg/server.cfg",
    ));

    assert_eq!(
        (code, stdout.as_str()),
        (0, "64123\n64123\n64123\n0\n0\nrcon"),
        "{stderr}"
    );
}

#[test]
fn a_directory_the_games_user_cannot_read_stays_closed_when_merged() {
    if !is_real_root() {
        return; // Root reads all.
    }
    let sandbox = Sandbox::new();
    sandbox.initialized();
    sandbox
        .root
        .write("overlays/maps/private/passwords", "secret");
    sandbox
        .root
        .write("overlays/maps/open/closed/key", "secret");
    let (_, stdout, _) = outcome(&as_game(
        &sandbox,
        "cd $ROOT/overlays/maps; chmod 700 private; chmod 711 open/closed; $HELPER mount 7
         cd $ROOT/runtime/7/merged; $GAMEcat private/passwords; $GAMEls private; $GAMEls open; \
         $GAMEls open/closed; $GAMEchmod 755 private || echo closed",
    ));

    assert_eq!(stdout, "closed\nclosed");
}

/// As the version before left it, or the game itself: an open directory in the upper layer.
#[test]
fn a_directory_of_the_upper_layer_does_not_open_a_closed_one() {
    if !is_real_root() {
        return; // Root reads all.
    }
    let sandbox = Sandbox::new();
    sandbox.initialized();
    sandbox
        .root
        .write("overlays/maps/private/passwords", "secret");
    sandbox.root.write("overlays/maps/shared/more", "more");
    sandbox.root.write("installation/shared/own", "own");
    let (_, stdout, stderr) = outcome(&as_game(
        &sandbox,
        "cd $ROOT/overlays/maps; chmod 700 private shared; $HELPER mount 7; $HELPER umount 7
         cd $ROOT/runtime/7/upper; rm -rf private; mkdir -m 755 private; touch private/mine; chown \
         -R 64123:64123 private
         $HELPER mount 7
         cd $ROOT/runtime/7/merged; $GAMEcat private/passwords private/mine; $GAMEls private; \
         $GAMEcat shared/own
         cd $ROOT; $HELPER umount 7; chmod 755 overlays/maps/private; $HELPER mount 7
         cd $ROOT/runtime/7/merged; $GAMEcat private/passwords; $GAMEls private",
    ));

    // What the game itself has stays open; and a directory that an admin opens again is open again.
    assert_eq!(stdout, "ownsecretmine\npasswords", "{stderr}");
}

#[test]
fn an_instance_env_of_another_owner_or_with_a_second_name_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.initialized();
    let file = sandbox.root.join("instances/7/instance.env");
    std::fs::hard_link(&file, sandbox.root.join("tmp/twin")).unwrap();
    let (code, _, stderr) = sandbox.helper("mount 7");
    assert!(code == 1 && stderr.contains("second name"), "{stderr}");
    std::fs::remove_file(sandbox.root.join("tmp/twin")).unwrap();
    if is_real_root() {
        chown(&file, Some(4711), None).unwrap();
        let (code, _, stderr) = sandbox.helper("mount 7");
        assert!(
            code == 1 && stderr.contains("belongs to user id 4711"),
            "{stderr}"
        );
    }

    assert!(!sandbox.root.join("runtime/7").exists());
}

#[test]
fn what_systemd_reads_has_checked_values_only() {
    let sandbox = Sandbox::new();
    let written = |text: &str| {
        sandbox.initialized();
        let file = sandbox.root.join("instances/7/instance.env");
        let layers = std::fs::read_to_string(&file)
            .unwrap()
            .lines()
            .last()
            .unwrap()
            .to_owned();
        std::fs::write(&file, format!("{text}\n{layers}\n")).unwrap();
        outcome(&sandbox.shell("$HELPER mount 7 && cat /run/left4me-servers/7.env"))
    };

    // What the previous version wrote is converted as a blueprint is, and named.
    let (code, stdout, stderr) = written(
        "LD_PRELOAD=/tmp/x.so\nL4D2_PORT=27001\nL4D2_ARGS=\"+map c1 +hostname \\\"a b\\\" \
        -autoupdate '-tickrate 60' -x\"",
    );

    assert_eq!(
        (code, stdout.as_str()),
        (
            0,
            "L4D2_PORT=27001\nL4D2_ARGS=\"\\\"+map\\\" \\\"c1\\\" \\\"-tickrate\\\" \\\"60\\\" \\\"-x\\\"\""
        ),
        "{stderr}"
    );

    for word in ["+hostname", "-autoupdate", "-tickrate 60"] {
        assert!(
            stderr.contains(&format!(
                "server 7 starts as an older left4me described it: '{word}'"
            )),
            "{stderr}"
        );
    }

    // As many as a blueprint may have, and the map that initialize adds.
    let most = format!(
        "L4D2_PORT=1\nL4D2_ARGS=\"{} +map c1m1_hotel\"",
        "-x ".repeat(200)
    );

    let (code, stdout, stderr) = written(&most);
    assert!(
        code == 0 && stdout.ends_with("\\\"+map\\\" \\\"c1m1_hotel\\\"\""),
        "{stdout} {stderr}"
    );

    for (bad, words) in [
        ("L4D2_PORT=0", "no port"),
        ("L4D2_PORT=27001 27002", "no port"),
        ("L4D2_PORT=\"27001", "no L4D2_PORT"),
        ("X=1", "no L4D2_PORT"),
        (
            "L4D2_PORT=1\nL4D2_ARGS=\"+exec ../../../etc/passwd\"",
            "refused",
        ),
        (
            "L4D2_PORT=1\nL4D2_ARGS=\"'-game' hl2\"",
            "'-game' is refused",
        ),
        (
            "L4D2_PORT=1\nL4D2_ARGS=@/etc/shadow",
            "'@/etc/shadow' is refused",
        ),
        // A server that loses its password is open to all.
        (
            "L4D2_PORT=1\nL4D2_ARGS=\"+sv_password 'two words'\"",
            "'+sv_password' and its value would be lost",
        ),
    ] {
        let (code, _, stderr) = written(bad);
        assert!(
            code == 1 && stderr.contains(words) && stderr.lines().count() == 1,
            "{bad}: {stderr}"
        );
    }
}
