//! Where no overlay can be mounted: found by trying, before a download and before a server fails;
//! and told with its cause when a server comes up without a job.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::lab::{Lab, Output, command, s, wait_until};
use crate::rows::{drift, says, unit};

const ROOT: &str = "/var/lib/left4me";
const RUNTIME: &str = "/var/lib/left4me/runtime";
const CHECK: &str = "left4me-overlay-check.service";

pub fn a_mount_that_fails_is_found_before_it_matters_and_told_with_its_cause(lab: &Lab) {
    lab.describe(&["one"]);
    a_good_file_system_is_tried_and_nothing_stays(lab);
    what_servers_can_start_on_but_not_use_fully_is_named_and_installed_on(lab);
    a_trial_that_cannot_be_made_refuses_nothing(lab);
    who_is_not_root_sees_the_last_trial(lab);
    data_on_an_overlay_is_refused_until_it_has_moved(lab);

    lab.job(&["install"]);
    lab.job(&["start", "--server", "1"]);
    a_start_with_systemctl_tells_why_the_overlay_failed(lab);
    a_boot_tells_why_the_overlay_failed(lab);
}

/// What doctor says of the file system.
fn file_system(doctor: &Output) -> Value {
    let findings: Value =
        serde_json::from_str(&doctor.stdout).unwrap_or_else(|error| panic!("{error}: {doctor}"));
    let found = findings
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["check"] == "file system");
    found
        .unwrap_or_else(|| panic!("no file system in {doctor}"))
        .clone()
}

fn doctor(lab: &Lab) -> Value {
    file_system(&lab.run(&["left4me", "doctor", "--json"]))
}

fn a_good_file_system_is_tried_and_nothing_stays(lab: &Lab) {
    let before = lab.sh(&format!("ls -A {RUNTIME}; wc -l < /proc/self/mountinfo"));
    let found = doctor(lab);
    assert!(
        found["severity"] == "ok" && says(&found["found"], "an overlay was mounted and used"),
        "{found:#}"
    );

    assert_eq!(
        lab.sh(&format!("ls -A {RUNTIME}; wc -l < /proc/self/mountinfo")),
        before,
        "what is left"
    );

    assert_eq!(lab.unit(CHECK, "Result"), "success");
}

/// Runs while a file system is mounted on runtime/.
fn with_runtime_on(lab: &Lab, mount: &str, test: impl FnOnce()) {
    lab.sh(&format!("{mount} {RUNTIME} && chmod 711 {RUNTIME}"));
    test();
    lab.ok(&["umount", RUNTIME]);
}

/// ramfs has no trusted.* attributes, and this ext4 no file types in its directories (as XFS with
/// ftype=0): the kernel mounts an overlay on them, and says in its log that it should not.
fn what_servers_can_start_on_but_not_use_fully_is_named_and_installed_on(lab: &Lab) {
    let directory = tempfile::tempdir().expect("a directory");
    lab.push(&image(directory.path()), "/root/no-types.img");
    lab.sh(
        "[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237
            for i in $(seq 0 31); do [ -e /dev/loop$i ] || mknod /dev/loop$i b 7 $i; done",
    );

    for (mount, fault) in [
        (
            "mount -t ramfs ramfs",
            "a directory of an overlay that the game replaces cannot be replaced",
        ),
        (
            "mount -o loop /root/no-types.img",
            "a file of an overlay that the game deletes stays in its directory",
        ),
    ] {
        with_runtime_on(lab, mount, || {
            let found = doctor(lab);
            assert!(
                found["severity"] == "warn" && says(&found["found"], fault),
                "{mount}: {found:#}"
            );

            assert!(says(&found["advice"], "ext4, xfs, btrfs"), "{found:#}");
            let job = lab.job(&["install"]);
            assert!(
                lab.log(job.id).iter().any(|line| line.line.contains(fault)),
                "the job's log says so, too"
            );
        });
    }
}

/// Made here: the lab has no mke2fs. Too small for a journal.
fn image(directory: &Path) -> PathBuf {
    let image = directory.join("no-types.img");
    let made = command("/usr/sbin/mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^filetype"])
        .arg(&image)
        .arg("16M")
        .stdin(Stdio::null())
        .status()
        .expect("mke2fs runs");
    assert!(made.success(), "mke2fs: {made}");
    image
}

fn a_trial_that_cannot_be_made_refuses_nothing(lab: &Lab) {
    with_runtime_on(lab, "mount -t tmpfs -o size=4k tmpfs", || {
        let found = doctor(lab);
        assert!(
            found["severity"] == "warn" && says(&found["found"], "No space left on device"),
            "{found:#}"
        );

        lab.job(&["install"]);
    });

    lab.ok(&["systemctl", "mask", "--runtime", CHECK]);
    lab.sh("rm /run/left4me-overlay-check/result");
    let found = doctor(lab);
    assert!(
        found["severity"] == "warn" && says(&found["found"], "is masked"),
        "{found:#}"
    );

    lab.job(&["install"]);
    lab.ok(&["systemctl", "unmask", "--runtime", CHECK]);
}

fn who_is_not_root_sees_the_last_trial(lab: &Lab) {
    doctor(lab);
    let found = file_system(&lab.run_as("left4me", &["left4me", "doctor", "--json"]));
    assert!(
        found["severity"] == "ok" && says(&found["found"], "an overlay was mounted"),
        "{found:#}"
    );
}

/// As in a container whose root is an overlay.
fn data_on_an_overlay_is_refused_until_it_has_moved(lab: &Lab) {
    const OVERLAY: &str = "mkdir -p /var/tmp/u /var/tmp/w
        mount -t overlay overlay -o \
        lowerdir=/var/lib/left4me,upperdir=/var/tmp/u,workdir=/var/tmp/w /var/lib/left4me";
    const CAUSE: &str = "not supported as upperdir";
    lab.sh(&format!(
        "systemctl stop left4me.target; {OVERLAY}; systemctl start left4me.target"
    ));
    let found = doctor(lab);
    assert!(
        found["severity"] == "fail" && says(&found["found"], "runtime (overlay)"),
        "{found:#}"
    );

    assert!(says(&found["found"], "no server can start"), "{found:#}");
    let refused = lab.enqueue_and_wait(&["install"]).ends_with(1);
    refused.complains_of(&[
        "nothing was downloaded",
        "runtime (overlay)",
        "Invalid argument",
        "left4me doctor",
    ]);

    // Overlayfs answers who configures a mount since Linux 6.5; before, and besides, its words are
    // in the kernel's log, which a lab cannot read.
    let release = lab.ok(&["uname", "-r"]);
    let mut numbers = release
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) >= (Some(6), Some(5)) {
        assert!(says(&found["found"], CAUSE), "{found:#}");
    }

    // What the advice says.
    let advice = found["advice"].as_str().unwrap_or_default();
    for part in [
        "systemctl stop left4me.target 'left4me-server@*'",
        "cp -a /var/lib/left4me/. /mnt/",
        "mount it on",
    ] {
        assert!(advice.contains(part), "{part}: {advice}");
    }

    lab.sh(&format!(
        "mkdir /srv/good; mount --bind /srv/good /mnt
         systemctl stop left4me.target 'left4me-server@*'; cp -a {ROOT}/. /mnt/
         umount /mnt; mount --bind /srv/good {ROOT}; systemctl start left4me.target"
    ));

    let found = doctor(lab);
    assert!(
        found["severity"] == "ok" && says(&found["found"], "runtime (ext4)"),
        "{found:#}"
    );

    lab.sh(&format!("echo '/srv/good {ROOT} none bind' >> /etc/fstab"));
}

const BROKEN: &str = "mv /var/lib/left4me/overlays/demo /var/lib/left4me/overlays/.gone";
const MENDED: &str = "mv /var/lib/left4me/overlays/.gone /var/lib/left4me/overlays/demo";
const CAUSE: &str =
    "left4me-overlay@1.service: the lower layer /var/lib/left4me/overlays/demo does not exist";

fn a_start_with_systemctl_tells_why_the_overlay_failed(lab: &Lab) {
    lab.stop_the_polls_timer();
    lab.ok(&["systemctl", "stop", &unit(1)]);
    lab.soon(1, "that it was stopped", |row| drift(row) == "down");
    lab.sh(BROKEN);
    assert_ne!(lab.run(&["systemctl", "start", &unit(1)]).code, 0);
    tells_why(lab);
    mended(lab);
}

fn tells_why(lab: &Lab) {
    let row = lab.soon(1, "why its overlay failed", |row| {
        says(&row["last_error"], CAUSE)
    });
    assert!(
        drift(&row) == "down" && says(&row["drift"]["why"], CAUSE),
        "{row:#}"
    );

    let shown = lab.ok(&["left4me", "server", "show", "1"]);
    assert!(shown.contains(CAUSE), "{shown}");
    assert_eq!(
        lab.warnings("_TRANSPORT=journal", CAUSE).len(),
        1,
        "the journal tells it once"
    );

    let history = lab.history(1);
    let newest = history
        .iter()
        .find(|event| event.kind != "server.drifted")
        .expect("an event");
    assert_eq!(
        (newest.kind.as_str(), newest.cause.as_str()),
        ("server.failed", "outside"),
        "{history:#?}"
    );

    lab.sh("journalctl --rotate; journalctl --vacuum-time=1s >/dev/null 2>&1");
    lab.poll();
    let again = lab.row(1);
    assert_eq!(
        (&again["drift"], &again["last_error"]),
        (&row["drift"], &row["last_error"]),
        "nothing is forgotten"
    );
}

/// A success clears it, also one that needed no job.
fn mended(lab: &Lab) {
    lab.sh(MENDED);
    lab.ok(&["systemctl", "start", &unit(1)]);
    lab.soon(1, "that it runs", |row| {
        row["actual_state"] == "running" && row["drift"].is_null()
    });
    assert!(lab.row(1)["last_error"].is_null(), "{:#}", lab.row(1));
}

fn a_boot_tells_why_the_overlay_failed(lab: &Lab) {
    lab.sh(BROKEN);
    lab.reboot();
    wait_until("the overlay has failed", s(30), || {
        lab.unit("left4me-overlay@1.service", "ActiveState") == "failed"
    });
    lab.stop_the_polls_timer();
    lab.poll();
    tells_why(lab);
    let history = lab.history(1);
    assert!(
        !history
            .iter()
            .any(|event| event.detail.contains("the host booted, and it was not")),
        "{history:#?}"
    );

    mended(lab);
}
