//! What `deploy/install` refuses before it does anything. What it does:
//! `tests/lab/field_install.rs`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Exit code and standard error, with an ssh and a sudo that leave a trace when they are run.
fn install(options: &[&str]) -> (i32, String) {
    let programs = tempfile::tempdir().unwrap();
    let trace = programs.path().join("trace");
    for name in ["ssh", "sudo", "cargo"] {
        let program = programs.path().join(name);
        std::fs::write(
            &program,
            format!("#!/bin/sh\necho {name} >>'{}'\nexit 255\n", trace.display()),
        )
        .unwrap();

        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    }

    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/install"))
        .args(options)
        .env(
            "PATH",
            format!(
                "{}:{}",
                programs.path().display(),
                std::env::var("PATH").unwrap()
            ),
        )
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        !trace.exists(),
        "{options:?} runs {}",
        std::fs::read_to_string(trace).unwrap()
    );

    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[track_caller]
fn is_refused(options: &[&str], part: &str) {
    let (code, message) = install(options);
    assert_eq!(
        (code, message.lines().count()),
        (2, 1),
        "{options:?}: {message}"
    );

    assert!(
        message.starts_with("install: ") && message.contains(part),
        "{options:?}: {message}"
    );
}

#[test]
fn a_host_that_ssh_could_take_for_something_else_is_refused() {
    for host in [
        "",
        "-oProxyCommand=id",
        "root@-oProxyCommand=id",
        "-root@host",
        "@host",
        "root@",
        " host",
        "host ",
        "root@ho st",
        "host\n",
        "host\tname",
        "host;id",
        "$(id)",
        "`id`",
        "host'",
        "root@host/etc",
        "ssh://",
        "ssh://-host",
        "ssh://host:22:22",
        "http://host",
        "höst",
    ] {
        is_refused(&["--host", host], "is not [USER@]HOST");
        is_refused(&[&format!("--host={host}")], "is not [USER@]HOST");
    }
}

#[test]
fn a_port_needs_the_form_that_ssh_takes() {
    for host in ["host:22", "root@host:22", "root@[::1]:22"] {
        is_refused(&["--host", host], &format!("ssh://{host}"));
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (options, part) in [
        (&["--host"][..], "--host needs a value"),
        (&["--deb"], "--deb needs a value"),
        (&["--deb", ""], "--deb needs a value"),
        (&["--host", "a", "--host", "b"], "given twice"),
        (
            &["--host", "a", "--lock-timeout", "-1"],
            "not a number of seconds",
        ),
        (
            &["--host", "a", "--lock-timeout", "1;id"],
            "not a number of seconds",
        ),
        (&["a"], "unknown argument 'a'"),
        (&["--hosts", "a"], "unknown argument '--hosts'"),
    ] {
        is_refused(options, part);
    }

    let (code, message) = install(&["--host", "root@host", "--deb", "/nowhere/left4me.deb"]);
    assert_eq!(
        (code, message.as_str()),
        (3, "install: no such file: /nowhere/left4me.deb\n")
    );
}
