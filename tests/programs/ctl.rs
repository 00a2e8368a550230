//! `l4d2ctl` with a scripted helper and runner: its requests, the files it writes, its exit codes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::unistd::{User, chown, geteuid};
use serde_json::{Value, json};

use crate::support::{Finished, Root};

const L4D2CTL: &str = env!("CARGO_BIN_EXE_l4d2ctl");

const SPEC: &str =
    "port: 27015\noverlays: [maps]\narguments: [+map, 'c1m1_hotel$x']\nconfig:\n  - sv_cheats 0\n";
const RUNNING: &str = r#"{"stdout":"ActiveState=active"}
{"stdout":"SubState=running"}
{"stdout":"Result=success"}
{"stdout":"UnitFileState=enabled"}
{"exit":0,"ended_by":"exit","tree":"empty"}
"#;
const DEAD: &str = r#"{"stdout":"ActiveState=inactive"}
{"stdout":"SubState=dead"}
{"stdout":"UnitFileState=disabled"}
{"exit":0,"ended_by":"exit","tree":"empty"}
"#;
const DONE: &str = "{\"exit\":0,\"ended_by\":\"exit\",\"tree\":\"empty\"}\n";

/// A data directory, and a socket that replies to each verb with a scripted answer.
struct Host {
    root: Root,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Host {
    fn new(answers: &'static [(&'static str, &'static str)]) -> Self {
        let host = Self {
            root: Root::new(),
            asked: Arc::default(),
        };

        host.root.write("overlays/maps/x", "");
        host.root.write("spec.yaml", SPEC);

        if !answers.is_empty() {
            let listener = UnixListener::bind(host.root.join("both.sock")).unwrap();
            let asked = Arc::clone(&host.asked);

            // Ends with the test program.
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    let mut connection = connection.unwrap();
                    let mut line = String::new();
                    BufReader::new(connection.try_clone().unwrap())
                        .read_line(&mut line)
                        .unwrap();

                    let request: Value = serde_json::from_str(&line).unwrap();
                    let verb = request["verb"].as_str().unwrap().to_owned();
                    asked.lock().unwrap().push(request);

                    let answer = answers
                        .iter()
                        .find(|(known, _)| *known == verb)
                        .map_or("", |(_, answer)| answer);
                    connection.write_all(answer.as_bytes()).ok();
                }
            });
        }

        host.give_to_left4me(&host.root.path());
        host
    }

    /// Run by root, l4d2ctl becomes left4me if that user exists, and must own the files.
    fn give_to_left4me(&self, path: &std::path::Path) {
        let Ok(Some(user)) = User::from_name("left4me") else {
            return;
        };
        if !geteuid().is_root() {
            return;
        }

        chown(path, Some(user.uid), Some(user.gid)).unwrap();
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                self.give_to_left4me(&entry.unwrap().path());
            }
        }
    }

    fn command(&self, program: &str, args: &[&str]) -> Finished {
        let socket = self.root.join("both.sock").display().to_string();
        let output = Command::new(program)
            .args(args)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .envs(self.root.envs())
            .envs([
                ("LEFT4ME_HELPER_SOCKET", &socket),
                ("LEFT4ME_RUNNER_SOCKET", &socket),
            ])
            .current_dir(self.root.path())
            .output()
            .unwrap();

        Finished::from(output)
    }

    fn run(&self, args: &[&str]) -> Finished {
        self.command(L4D2CTL, args)
    }

    fn verbs(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|request| request["verb"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// On a host with user left4me, other users than left4me and root can only test the refusal.
fn may_run() -> bool {
    match User::from_name("left4me") {
        Ok(Some(user)) if !geteuid().is_root() && geteuid() != user.uid => {
            Host::new(&[])
                .run(&["status", "7"])
                .failed(77, &["sudo -u left4me l4d2ctl status 7"]);
            false
        }
        _ => true,
    }
}

macro_rules! needs_rights {
    () => {
        if !may_run() {
            return;
        }
    };
}

#[test]
fn initialize_writes_settings_and_layer_only_if_they_differ() {
    needs_rights!();
    let host = Host::new(&[]);
    assert!(
        host.run(&["initialize", "test", "-f", "spec.yaml"])
            .done()
            .contains("written")
    );

    let env = std::fs::read_to_string(host.root.join("instances/test/instance.env")).unwrap();
    assert!(
        env.starts_with("L4D2_PORT=27015\nL4D2_ARGS=\"\\\"+map\\\" \\\"c1m1_hotel\\$x\\\"\"\n"),
        "{env}"
    );

    let lower = format!(
        "{0}/instances/test/layer:{0}/overlays/maps:{0}/installation\"",
        host.root.path().display()
    );

    assert!(env.contains(&lower), "{env}");
    assert!(
        host.run(&["initialize", "test", "-f", "spec.yaml"])
            .done()
            .contains("up to date")
    );

    host.root.write("spec.yaml", SPEC.replace("27015", "27016"));
    assert!(
        host.run(&["initialize", "test", "--file", "spec.yaml"])
            .done()
            .contains("written")
    );
}

#[test]
fn modes_do_not_depend_on_the_callers_umask() {
    needs_rights!();
    let host = Host::new(&[]);
    std::fs::set_permissions(
        host.root.join("instances"),
        PermissionsExt::from_mode(0o711),
    )
    .unwrap();

    let script = "umask 077; exec \"$0\" \"$@\"";
    host.command(
        "sh",
        &["-c", script, L4D2CTL, "initialize", "7", "-f", "spec.yaml"],
    )
    .done();
    let mode = |path: &str| {
        host.root
            .join("instances/7")
            .join(path)
            .metadata()
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };

    // The helper needs to traverse the directory; the layer is for left4me and its server's group.
    assert_eq!(
        [mode("."), mode("layer"), mode("layer/left4dead2/cfg")],
        [0o711, 0o750, 0o750]
    );

    assert_eq!(
        [
            mode("instance.env"),
            mode("layer/left4dead2/cfg/server.cfg")
        ],
        [0o640; 2]
    );
}

#[test]
fn a_bad_spec_file_is_a_usage_error_without_its_content() {
    needs_rights!();
    let host = Host::new(&[]);
    for (text, words) in [
        (
            "port: 27015\nsecrets: hunter2\n",
            &["line 2", "secrets"][..],
        ),
        ("port: hunter2\n", &["line 1", "port"]),
        (
            "port: 27015\noverlays: [../hunter2]\n",
            &["line 2", "overlays"],
        ),
        (
            "port: 27015\noverlays: ['hunter2:x']\n",
            &["line 2", "overlays"],
        ),
        (
            "port: 27015\noverlays: ['hunter2,x']\n",
            &["line 2", "overlays"],
        ),
        (
            "port: 27015\narguments: [\"hunter2\\n\"]\n",
            &["line 2", "arguments"],
        ),
        ("overlays: []\n", &["port"]),
        ("hunter2", &[]),
        ("\u{0}", &[]),
        ("", &["nothing"]),
    ] {
        host.root.write("bad.yaml", text);
        let printed = host.run(&["initialize", "7", "-f", "bad.yaml"]);
        printed.failed(2, words);
        assert!(
            printed.err.contains("bad.yaml") && !printed.err.contains("hunter2"),
            "{printed:?}"
        );

        assert_eq!(
            printed
                .err
                .trim_end()
                .lines()
                .filter(|line| !line.contains("continuing as root"))
                .count(),
            1,
            "{printed:?}"
        );
    }

    host.root.write("large.yaml", "#".repeat(1024 * 1024 + 1));
    host.run(&["initialize", "7", "-f", "large.yaml"])
        .failed(2, &["too large"]);

    host.root.write("binary.yaml", b"port: \xff\n");
    host.run(&["initialize", "7", "-f", "binary.yaml"])
        .failed(2, &["UTF-8"]);
    host.run(&["initialize", "7", "-f", "missing.yaml"])
        .failed(2, &["missing.yaml"]);
    host.run(&["initialize", "7", "-f", "overlays"])
        .failed(2, &["directory"]);
    host.run(&["initialize", "7"]).failed(2, &["--file"]);

    if !geteuid().is_root() {
        std::fs::set_permissions(
            host.root.join("spec.yaml"),
            PermissionsExt::from_mode(0o000),
        )
        .unwrap();

        host.run(&["initialize", "7", "-f", "spec.yaml"])
            .failed(77, &["spec.yaml"]);
    }

    assert!(!host.root.join("instances/7").exists());
}

#[test]
fn an_overlay_outside_its_root_is_refused_and_nothing_written() {
    needs_rights!();
    let host = Host::new(&[]);
    symlink("/etc", host.root.join("overlays/etc")).unwrap();
    symlink("../../../../../..", host.root.join("overlays/up")).unwrap();
    symlink("etc", host.root.join("overlays/chain")).unwrap();
    std::fs::create_dir(host.root.join("overlays/a:b")).unwrap();
    symlink("a:b", host.root.join("overlays/colon")).unwrap();

    for (overlay, word) in [
        ("etc", "/etc"),
        ("up", "outside"),
        ("chain", "/etc"),
        ("missing", "does not exist"),
        ("colon", "a:b"),
        ("maps/x", "not a directory"),
    ] {
        host.root.write(
            "spec.yaml",
            format!("port: 27015\noverlays: [maps, {overlay}]\n").replace("maps, maps/x", "maps/x"),
        );

        host.run(&["initialize", "7", "-f", "spec.yaml"])
            .failed(1, &[overlay, word]);
    }

    assert!(!host.root.join("instances/7").exists());
}

#[test]
fn a_bad_instance_name_is_a_usage_error() {
    let host = Host::new(&[]);
    for bad in [
        "",
        "..",
        "../x",
        "a/b",
        "A",
        "a b",
        "a\nb",
        "-rf",
        "a:b",
        "a,b",
        "%i",
        "@x",
        &"x".repeat(65),
    ] {
        for verb in ["start", "stop", "delete", "status", "logs"] {
            let printed = host.run(&[verb, "--", bad]);
            assert_eq!(
                (printed.code, printed.out.as_str()),
                (2, ""),
                "{verb} {bad:?}: {printed:?}"
            );
        }
    }
}

#[test]
fn start_enables_the_unit_and_prints_the_state() {
    needs_rights!();
    let host = Host::new(&[("enable", DONE), ("show", RUNNING)]);
    host.run(&["start", "7"]).failed(3, &["initialize 7"]);
    assert_eq!(host.verbs(), [""; 0], "there was no request");

    host.run(&["initialize", "7", "-f", "spec.yaml"]).done();
    assert!(host.run(&["start", "7"]).done().contains("running"));
    assert_eq!(host.verbs(), ["enable", "show"]);
    assert_eq!(
        host.asked.lock().unwrap()[0],
        json!({"verb": "enable", "server": "7"})
    );
}

#[test]
fn a_crash_right_after_the_start_is_a_failure() {
    needs_rights!();
    let crashed = "{\"stdout\":\"ActiveState=activating\"}\n{\"stdout\":\"SubState=auto-restart\"}\n{\"exit\":0}\n";
    let host = Host::new(Box::leak(Box::new([("enable", DONE), ("show", crashed)])));
    host.run(&["initialize", "7", "-f", "spec.yaml"]).done();
    host.run(&["start", "7"]).failed(1, &["logs 7"]);
}

#[test]
fn a_server_that_is_stopped_after_its_start_is_a_failure() {
    needs_rights!();
    let host = Host::new(&[("enable", DONE), ("show", DEAD)]);
    host.run(&["initialize", "7", "-f", "spec.yaml"]).done();
    host.run(&["start", "7"]).failed(
        1,
        &[
            "instance 7 is not up after its start",
            "inactive, dead",
            "logs 7",
        ],
    );
}

#[test]
fn a_failed_start_names_the_cause_from_the_unit() {
    needs_rights!();
    let failed =
        "{\"stderr\":\"Job failed.\"}\n{\"exit\":1,\"ended_by\":\"exit\",\"tree\":\"empty\"}\n";
    let shown = "{\"stdout\":\"ActiveState=failed\"}\n{\"stdout\":\"SubState=failed\"}\n{\"stdout\":\"Result=exit-code\"}\n\
        {\"stdout\":\"ExecMainCode=1\"}\n{\"stdout\":\"ExecMainStatus=203\"}\n{\"exit\":0}\n";
    let host = Host::new(Box::leak(Box::new([("enable", failed), ("show", shown)])));
    host.run(&["initialize", "7", "-f", "spec.yaml"]).done();
    host.run(&["start", "7"])
        .failed(1, &["203", "srcds_linux is missing", "logs 7"]);
}

#[test]
fn the_exit_code_and_output_of_a_command_are_passed_on() {
    needs_rights!();
    let host = Host::new(&[
        (
            "enable",
            "{\"stdout\":\"one\"}\n{\"stderr\":\"Job \
            failed. \\u001b[31m\"}\n{\"exit\":5,\"ended_by\":\"exit\",\"tree\":\"empty\"}\n",
        ),
        ("disable", "{\"error\":\"not for you\"}\n{\"exit\":64}\n"),
        ("show", "{\"stdout\":\"ActiveState=active\"}\n"),
        ("journal", "{\"exit\":300}\n"),
        (
            "install",
            "{\"stdout\":\"Update state \
             (0x61)\"}\n{\"exit\":8,\"ended_by\":\"exit\",\"tree\":\"empty\"}\n",
        ),
    ]);

    host.run(&["initialize", "7", "-f", "spec.yaml"]).done();
    let start = host.run(&["start", "7"]);
    assert_eq!((start.code, start.out.as_str()), (5, "one\n"), "{start:?}");
    assert!(
        start.err.contains("Job failed.") && !start.err.contains('\u{1b}'),
        "{start:?}"
    );

    host.run(&["stop", "7"])
        .failed(64, &["stop 7: not for you"]);
    host.run(&["status", "7"])
        .failed(1, &["status 7: ", "both.sock"]);
    host.run(&["logs", "7"])
        .failed(1, &["logs 7: ", "both.sock", "invalid answer"]);

    let install = host.run(&["install"]);
    assert_eq!(
        (install.code, install.out.as_str()),
        (8, "Update state (0x61)\n"),
        "{install:?}"
    );
}

#[test]
fn a_socket_without_a_server_is_exit_69() {
    needs_rights!();
    let host = Host::new(&[]);
    for args in [
        &["stop", "7"][..],
        &["delete", "7"],
        &["status", "7"],
        &["logs", "7"],
        &["install"],
    ] {
        host.run(args).failed(69, &["both.sock"]);
    }
}

#[test]
fn delete_disables_removes_and_purges_also_a_missing_instance() {
    needs_rights!();
    let host = Host::new(&[("disable", DONE), ("purge", DONE)]);
    host.run(&["initialize", "7", "-f", "spec.yaml"]).done();
    host.run(&["delete", "7"]).done();
    assert!(!host.root.join("instances/7").exists());

    host.run(&["delete", "7"]).done();
    assert_eq!(host.verbs(), ["disable", "purge", "disable", "purge"]);
    assert!(host.root.join("overlays/maps/x").exists());
}

#[test]
fn status_is_systemds_state_and_a_missing_instance_is_exit_3() {
    needs_rights!();
    let host = Host::new(&[("show", RUNNING)]);
    let status: Value = serde_json::from_str(&host.run(&["status", "7", "--json"]).done()).unwrap();
    assert_eq!(
        status,
        json!({
            "name": "7", "unit": "left4me-server@7.service", "actual_state": "running", "active_state": "active",
            "sub_state": "running", "result": "success", "enabled": true, "initialized": false, "mounted": false,
        })
    );

    let host = Host::new(&[("show", DEAD)]);
    host.run(&["status", "7"]).failed(3, &["7"]);

    host.run(&["initialize", "7", "-f", "spec.yaml"]).done();
    assert!(host.run(&["status", "7"]).done().contains("stopped"));
}

#[test]
fn logs_requests_the_lines_and_follows_only_on_request() {
    needs_rights!();
    let host = Host::new(&[("journal", "{\"stdout\":\"a line\"}\n{\"exit\":0}\n")]);
    assert_eq!(host.run(&["logs", "7"]).done(), "a line\n");

    for rest in [
        &["--lines", "5", "--follow"][..],
        &["--follow", "--no-follow"],
    ] {
        host.run(&[&["logs", "7"], rest].concat()).done();
    }

    assert_eq!(
        *host.asked.lock().unwrap(),
        [
            json!({"verb": "journal", "server": "7", "lines": 100, "follow": false}),
            json!({"verb": "journal", "server": "7", "lines": 5, "follow": true}),
            json!({"verb": "journal", "server": "7", "lines": 100, "follow": false}),
        ]
    );

    for bad in ["-1", "x", "1000000", ""] {
        host.run(&["logs", "7", &format!("--lines={bad}")])
            .failed(2, &["--lines"]);
    }
}

#[test]
fn an_instance_with_a_mounted_overlay_is_not_changed() {
    needs_rights!();
    let host = Host::new(&[("install", DONE)]);
    let in_mount_namespace = |script: &str| {
        let script = format!("mount --bind runtime runtime/7/merged && {script}");
        let who: &[&str] = if crate::support::is_real_root() {
            &[]
        } else {
            &["--user", "--map-root-user"]
        };

        host.command(
            "unshare",
            &[who, &["--mount", "sh", "-c", &script, L4D2CTL]].concat(),
        )
    };

    std::fs::create_dir_all(host.root.join("runtime/7/merged")).unwrap();
    if !crate::support::is_real_root() && matches!(User::from_name("left4me"), Ok(Some(_))) {
        eprintln!("skipped: a namespace's root cannot become left4me");
        return;
    }

    host.give_to_left4me(&host.root.path());
    if in_mount_namespace("true").code != 0 {
        eprintln!("skipped: no mount namespace can be had here");
        return;
    }

    host.run(&["initialize", "7", "-f", "spec.yaml"]).done();
    let same = in_mount_namespace("exec \"$0\" initialize 7 -f spec.yaml");
    assert!(same.done().contains("up to date"));

    let before = std::fs::read_to_string(host.root.join("instances/7/instance.env")).unwrap();
    host.root.write("spec.yaml", SPEC.replace("27015", "27016"));
    in_mount_namespace("exec \"$0\" initialize 7 -f spec.yaml").failed(4, &["stop 7"]);
    assert_eq!(
        before,
        std::fs::read_to_string(host.root.join("instances/7/instance.env")).unwrap()
    );

    in_mount_namespace("exec \"$0\" install").failed(4, &["7", "installation/", "stop it first"]);
    in_mount_namespace("exec env LEFT4ME_BUILDS=in-place \"$0\" install")
        .failed(4, &["7", "mounted"]);
    assert_eq!(host.verbs(), [""; 0], "there was no request");
    let install = host.command("env", &["LEFT4ME_BUILDS=in-place", L4D2CTL, "install"]);
    assert!(install.done().contains("installed"));
}
