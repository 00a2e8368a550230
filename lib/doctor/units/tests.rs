//! Tests of `doctor::units`.

use super::*;
use crate::doctor::Severity;

fn judged(text: &str) -> Vec<Finding> {
    judge(&parse(text))
}

fn loaded(name: &str, more: &str) -> String {
    format!("Id={name}\nLoadState=loaded\n{more}\n\n")
}

#[test]
fn a_unit_has_to_be_active_and_enabled() {
    let text = [
        loaded(
            "left4me-worker.socket",
            "Result=success\nActiveState=active\nUnitFileState=enabled",
        ),
        loaded(
            "left4me-helper.socket",
            "ActiveState=failed\nResult=trigger-limit-hit",
        ),
        loaded(
            "left4me.target",
            "ActiveState=active\nUnitFileState=disabled",
        ),
        "Id=left4me-runner.socket\nLoadState=not-found\nActiveState=inactive\n\n".to_owned(),
        loaded(
            "left4me-worker.service",
            "ActiveState=inactive\nResult=success",
        ),
    ];

    let found = judged(&text.concat());
    let severities: Vec<Severity> = found.iter().map(|finding| finding.severity).collect();

    assert_eq!(
        severities,
        [Severity::Ok, Severity::Fail, Severity::Fail, Severity::Fail],
        "{found:?}"
    );

    assert_eq!(
        found[1].unit.as_deref(),
        Some("left4me-helper.socket"),
        "its journal has the cause"
    );

    assert_eq!(
        found[2].command.as_deref(),
        Some("systemctl enable left4me.target")
    );

    assert!(found[3].command.as_ref().unwrap().contains("dpkg"));
}

#[test]
fn a_masked_unit_is_unmasked_and_not_installed_again() {
    let text = "Id=left4me-web.socket\nLoadState=masked\nActiveState=inactive\nUnitFileState=masked\n\n\
                Id=left4me-worker.service\nLoadState=masked\nActiveState=inactive\nUnitFileState=masked-runtime\n";
    let found = judged(text);
    let command = |at: usize| found[at].command.clone().unwrap();

    assert!(
        command(0).starts_with("systemctl unmask left4me-web.socket && "),
        "{found:?}"
    );

    assert_eq!(
        command(1),
        "systemctl unmask --runtime left4me-worker.service \
         && systemctl start left4me-worker.socket"
    );
}

#[test]
fn a_service_may_be_idle_but_must_neither_have_failed_nor_fail_again_and_again() {
    let failed = judged(&loaded(
        "left4me-poller.service",
        "ActiveState=failed\nResult=exit-code",
    ));

    assert!(
        failed.len() == 1 && failed[0].found == "failed (exit-code)",
        "{failed:?}"
    );

    let looping = judged(&loaded(
        "left4me-worker.service",
        "ActiveState=activating\nSubState=auto-restart\nResult=exit-code\n\
         DropInPaths=/etc/systemd/system/left4me-worker.service.d/x.conf \
         /run/systemd/generator/y.conf",
    ));

    assert!(
        looping[0]
            .found
            .ends_with("changed by /etc/systemd/system/left4me-worker.service.d/x.conf"),
        "{looping:?}"
    );

    assert_eq!(
        judged(&loaded(
            "left4me-web.service",
            "ActiveState=inactive\nResult=success"
        )),
        []
    );

    let stale = judged(&loaded(
        "left4me-web.service",
        "ActiveState=active\nNeedDaemonReload=yes",
    ));

    assert_eq!(stale[0].command.as_deref(), Some("systemctl daemon-reload"));

    // systemd is about to reload by itself.
    let stale = loaded(
        "left4me-web.service",
        "ActiveState=active\nNeedDaemonReload=yes",
    );
    let timer = loaded("left4me-reload.timer", "ActiveState=active");
    assert_eq!(judged(&format!("{stale}\n\n{timer}")), []);
}

#[test]
fn each_address_of_a_socket_is_read() {
    let text = "Id=left4me-web.socket\nListen=127.0.0.1:8000 (Stream)\nListen=[::1]:8002 \
               (Stream)\nListen=/a (b) (Stream)\n";
    let listen = parse(text).swap_remove(0).listen;
    let stream = |address: &str| (address.to_owned(), "Stream".to_owned());
    assert_eq!(
        listen,
        [
            stream("127.0.0.1:8000"),
            stream("[::1]:8002"),
            stream("/a (b)")
        ]
    );
}

#[test]
fn a_file_that_stands_before_the_packages_unit_is_named_and_every_unit_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let shipped = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd"));

    std::fs::write(dir.path().join("left4me-web.service"), "[Service]\n").unwrap();
    std::fs::copy(
        shipped.join("left4me.target"),
        dir.path().join("left4me.target"),
    )
    .unwrap();

    for masked in ["left4me-server@.service", "left4me-worker.socket"] {
        std::os::unix::fs::symlink("/dev/null", dir.path().join(masked)).unwrap();
    }

    std::fs::create_dir(dir.path().join("left4me-web.service.d")).unwrap();

    let found = hidden(&[dir.path()], shipped);
    let of = |name: &str| {
        found
            .iter()
            .find(|finding| finding.check == format!("unit {name}"))
            .map(|one| &one.found)
    };

    assert!(
        of("left4me-web.service")
            .unwrap()
            .contains("different content"),
        "{found:?}"
    );

    assert!(
        of("left4me.target").unwrap().contains("still identical"),
        "{found:?}"
    );

    assert!(
        of("left4me-server@.service").unwrap().contains("masked") && found.len() == 3,
        "{found:?}"
    );

    let ours = ACTIVE
        .into_iter()
        .chain(SERVICES.map(|(name, _)| name))
        .chain(OTHERS);
    let missing: Vec<&str> = ours.filter(|name| !shipped.join(name).is_file()).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
