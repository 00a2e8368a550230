//! Services, their sockets and the database as an administrator handles them: what the
//! documentation says to do with systemctl, a restored backup, a host that is set up in an unusual
//! way.

use crate::lab::{Lab, deb, s, wait_for, wait_until};

const SOCKETS: [&str; 12] = [
    "left4me-web.socket",
    "left4me-worker.socket",
    "left4me-helper.socket",
    "left4me-runner.socket",
    "left4me-publisher.socket",
    "left4me-console.socket",
    "left4me-alerts.socket",
    "left4me-notify.socket",
    "left4me-schedules.socket",
    "left4me-poller.timer",
    "left4me-prune.timer",
    "left4me.target",
];

/// `ask PLACE PATH [FORM]`: prints the status of one request; PLACE is ADDRESS:PORT or a path.
const ASK: &str = r#"#!/usr/bin/perl
use strict; use IO::Socket::IP; use IO::Socket::UNIX;
my ($place, $path, $form) = @ARGV;
alarm 20;
my $to = $place =~ m{^/} ? IO::Socket::UNIX->new(Peer => $place)
    : IO::Socket::IP->new(PeerHost => $place =~ s/:\d+$//r =~ tr/[]//dr, PeerPort => $place =~ s/.*://r);
$to or die "no connection: $!\n";
my $how = defined $form ? "POST" : "GET";
my $body = $form // "";
my $length = length $body;
print $to "$how $path HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nConnection: close\r\n";
print $to "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: $length\r\n\r\n$body";
my $head = <$to> // die "no answer\n";
print((split " ", $head)[1], "\n");
"#;

const DATABASE: &str = "/var/lib/left4me/db/left4me.db";

/// Everything is up, a page is served and a job is carried out.
#[track_caller]
pub fn all_is_well(lab: &Lab, after: &str) {
    for unit in SOCKETS {
        assert_eq!(
            lab.unit(unit, "ActiveState"),
            "active",
            "{unit} after {after}"
        );
    }

    let page = lab.run(&["ask", "127.0.0.1:8000", "/health"]);
    assert!(page.code == 0, "a page after {after}\n{page}");
    let job = lab.run(&[
        "timeout",
        "60",
        "left4me-job",
        "enqueue",
        "stop",
        "--server",
        "One",
        "--wait",
    ]);

    assert!(job.code == 0, "a job after {after}\n{job}");
}

/// Adds a server, and a program that makes requests.
pub fn prepare(lab: &Lab) {
    lab.write("/usr/local/bin/ask", ASK);
    lab.sh("chmod 755 /usr/local/bin/ask");
    lab.sh(
        "left4me user add anna --admin --password-stdin <<<'correct horse 7'; \
         left4me blueprint create plain --user anna; \
         left4me server create One --user anna --blueprint plain",
    );
}

pub fn a_service_and_its_socket_are_one_thing(lab: &Lab) {
    prepare(lab);
    all_is_well(lab, "the installation");
    // Both services are resident now: a socket is not started beside its service.
    for action in [
        "restart left4me.target",
        "restart left4me-web.socket",
        "restart left4me-worker.socket",
        "restart left4me-web.service",
        "restart left4me-worker.service",
        "restart left4me-web.socket left4me-worker.socket \
         left4me-helper.socket left4me-runner.socket",
        "try-restart left4me-web.service",
        "restart left4me-poller.timer",
    ] {
        lab.sh(&format!("systemctl {action}"));
        all_is_well(lab, action);
    }

    // While PID 1 has children that it forked with all that it had open.
    let all = "systemctl restart left4me-web.socket left4me-worker.socket \
               left4me-helper.socket left4me-runner.socket";
    lab.sh(&format!(
        "for i in $(seq 15); do {all}; ask 127.0.0.1:8000 /health; done"
    ));
    // More often than systemd's default of five times within ten seconds.
    lab.sh("for i in 1 2 3 4 5 6 7; do systemctl restart left4me.target; done");
    all_is_well(lab, "seven restarts");

    for state in [
        "systemctl stop left4me-web.socket left4me-worker.socket",
        "systemctl kill --signal=KILL left4me-web.service left4me-worker.service",
        "systemctl stop left4me-helper.socket left4me-runner.socket left4me-poller.timer",
        "systemctl stop left4me.target",
        "rm /run/left4me/worker.sock /run/left4me/helper.sock",
    ] {
        lab.sh(state);
        lab.sh("systemctl restart left4me.target");
        all_is_well(lab, state);
    }

    // A stop of the target is one of the services, too.
    lab.sh("systemctl stop left4me.target");
    for unit in [
        "left4me-web.service",
        "left4me-worker.service",
        "left4me-web.socket",
    ] {
        assert_eq!(lab.unit(unit, "ActiveState"), "inactive", "{unit}");
    }

    lab.sh("systemctl start left4me.target");
    all_is_well(lab, "a stop and a start");
    an_idle_service_does_not_hold_up_a_restart(lab);
    every_address_is_served(lab);
    an_edited_socket_is_told(lab);
    the_first_boot_of_a_clone_changes_nothing(lab);
}

/// systemd then enables each unit that no preset file disables.
fn the_first_boot_of_a_clone_changes_nothing(lab: &Lab) {
    for unit in SOCKETS {
        assert_eq!(
            lab.unit(unit, "UnitFileState"),
            "enabled",
            "{unit} after the installation"
        );
    }

    // An admin has another address, or none; one server should come back after a boot, one should
    // not.
    lab.sh("systemctl disable --now left4me-web.socket; systemctl stop left4me-web.service");
    lab.sh("systemctl enable left4me-server@2.service");
    let links = || lab.sh("find /etc/systemd/system -path '*left4me*' -printf '%p %l\n' | sort");
    let states = || {
        lab.sh("systemctl list-unit-files 'left4me*' --no-legend \
             --plain | awk '{print $1, $2}' | sort")
    };

    let before = (links(), states());
    for line in [
        "left4me-update.timer disabled",
        "left4me-backup.timer disabled",
        "left4me-web.socket disabled",
    ] {
        assert!(before.1.contains(line), "{line}: {}", before.1);
    }

    assert!(
        before.0.contains("wants/left4me-server@2.service"),
        "{}",
        before.0
    );

    lab.sh("systemctl disable remote-fs.target; echo uninitialized >/etc/machine-id");
    lab.reboot();
    assert_eq!(
        lab.unit("remote-fs.target", "UnitFileState"),
        "enabled",
        "a first boot, which applies presets"
    );

    assert_eq!((links(), states()), before);
    assert_eq!(lab.unit("left4me-web.socket", "ActiveState"), "inactive");
    assert_eq!(lab.unit("left4me-update.timer", "ActiveState"), "inactive");

    // The next upgrade does not enable it either; the admin does.
    let package = format!(
        "/root/{}",
        deb().file_name().expect("a file").to_string_lossy()
    );

    lab.sh(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet install --reinstall {package}"
    ));
    assert_eq!((links(), states()), before, "after an upgrade");
    assert_eq!(lab.unit("left4me-web.socket", "ActiveState"), "inactive");
    assert!(
        lab.is("! test -e /run/systemd/system-preset"),
        "only an installation may enable"
    );

    lab.sh("systemctl disable left4me-server@2.service; systemctl enable --now left4me-web.socket");
    all_is_well(lab, "the first boot of a clone");
}

/// A restart in the moment in which an idle service exits.
fn an_idle_service_does_not_hold_up_a_restart(lab: &Lab) {
    lab.sh(
        "echo LEFT4ME_WEB_IDLE_SECONDS=1 >>/etc/left4me/left4me.env; \
         systemctl restart left4me-web.service",
    );

    for tenth in 0..12 {
        lab.sh("ask 127.0.0.1:8000 /health");
        lab.sh(&format!(
            "sleep {}.{}; systemctl restart left4me-web.socket",
            9 / 10,
            (tenth + 6) % 10
        ));

        assert_eq!(
            lab.unit("left4me-web.socket", "ActiveState"),
            "active",
            "restart {tenth}"
        );
    }

    lab.sh("sed -i /IDLE_SECONDS=1/d /etc/left4me/left4me.env; systemctl restart left4me.target");
}

/// As deploy/left4me.env says it.
fn every_address_is_served(lab: &Lab) {
    lab.write(
        "/etc/systemd/system/left4me-web.socket.d/override.conf",
        "[Socket]\nListenStream=\nListenStream=127.0.0.1:8001\nListenStream=[::1]:8002\nListenStream=/run/left4me-web.sock\n",
    );

    lab.sh("systemctl daemon-reload; systemctl restart left4me-web.socket");
    for place in ["127.0.0.1:8001", "[::1]:8002", "/run/left4me-web.sock"] {
        for path in ["/health", "/login", "/metrics"] {
            assert_eq!(lab.ok(&["ask", place, path]), "200", "{place}{path}");
        }
    }

    assert!(!lab.is("ask 127.0.0.1:8000 /health"), "the former address");

    // Wrong passwords count for the user who sends them, not for all that use the socket.
    let sign_in = "ask /run/left4me-web.sock /login 'name=anna&password=wrong'";
    let codes = lab.sh(&format!(
        "for i in $(seq 9); do runuser -u nobody -- {sign_in}; done"
    ));
    assert!(codes.contains("429"), "{codes}");
    let other = lab.sh(sign_in);
    assert!(!other.contains("429"), "root is another sender: {other}");
}

/// The service alone cannot open what the socket was edited to; it says what can.
fn an_edited_socket_is_told(lab: &Lab) {
    lab.sh(
        "rm -r /etc/systemd/system/left4me-web.socket.d; systemctl daemon-reload; systemctl \
           restart left4me-web.service || true",
    );

    let words = "systemctl restart left4me-web.socket";
    wait_until("the web front says so", s(20), || {
        lab.is(&format!(
            "journalctl --no-pager -u left4me-web.service | grep -qF '{words}'"
        ))
    });

    lab.sh(words);
    all_is_well(lab, "the edit was taken back");
}

pub fn a_restored_database_is_noticed_by_all_who_read_it(lab: &Lab) {
    prepare(lab);
    lab.sh("left4me backup /root/good.db; left4me server create Two --user anna --blueprint plain");
    all_is_well(lab, "the installation");

    // A person follows; the web front and the worker are resident.
    lab.sh("systemd-run --unit=follower --collect left4me-job events --follow");
    wait_until("events are followed", s(20), || {
        lab.unit("follower.service", "ActiveState") == "active"
    });
    let before = lab.sh(&format!("stat -c %i {DATABASE}"));
    let out = lab.ok(&["left4me", "restore", "/root/good.db"]);
    assert!(out.contains("the former database is"), "{out}");
    assert_ne!(lab.sh(&format!("stat -c %i {DATABASE}")), before);
    assert_eq!(
        lab.sh(&format!("stat -c '%U:%G %a' {DATABASE}")),
        "left4me:left4me 660"
    );

    wait_until("who followed has ended", s(20), || {
        lab.unit("follower.service", "ActiveState") != "active"
    });
    assert!(!lab.sh("left4me server list").contains("Two"));
    all_is_well(lab, "a restore");

    // And back, with what was kept.
    let kept = lab.sh(&format!("ls {DATABASE}.before-restore-*"));
    lab.ok(&["left4me", "restore", &kept]);
    assert!(lab.sh("left4me server list").contains("Two"));
    all_is_well(lab, "a restore of what was kept");
    assert!(
        lab.run(&["left4me", "doctor"])
            .stdout
            .contains("database check")
    );

    what_is_no_backup_changes_nothing(lab);
    by_hand_it_is_noticed_too(lab);
    killed_at_any_moment_it_leaves_a_whole_database(lab);
}

fn what_is_no_backup_changes_nothing(lab: &Lab) {
    let before = lab.sh(&format!("stat -c %i {DATABASE}"));
    let worker = lab.unit("left4me-worker.socket", "InvocationID");
    lab.sh(
        "echo text >/root/text.db; head -c 60000 /root/good.db >/root/cut.db; mkfifo /root/fifo.db",
    );
    for file in [
        "/root/text.db",
        "/root/cut.db",
        "/root/fifo.db",
        "/root/missing.db",
        "/etc",
    ] {
        let refused = lab.run(&["timeout", "20", "left4me", "restore", file]);
        assert!(![0, 124].contains(&refused.code), "{refused}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
    }

    lab.run_as("left4me", &["left4me", "restore", "/root/good.db"])
        .ends_with(77);
    assert_eq!(lab.sh(&format!("stat -c %i {DATABASE}")), before);
    assert_eq!(
        lab.unit("left4me-worker.socket", "InvocationID"),
        worker,
        "nothing was stopped"
    );
}

/// Another file is moved there, with everything running.
fn by_hand_it_is_noticed_too(lab: &Lab) {
    lab.sh("systemd-run --unit=follower --collect -p \
         StandardError=file:/root/follower.txt left4me-job events --follow");

    wait_until("events are followed", s(20), || {
        lab.unit("follower.service", "ActiveState") == "active"
    });
    lab.sh("ask 127.0.0.1:8000 /health");
    let web = lab.unit("left4me-web.service", "InvocationID");
    lab.sh(&format!(
        "install -o left4me -g left4me -m 660 /root/good.db {DATABASE}.new; \
         rm -f {DATABASE}-wal {DATABASE}-shm; mv {DATABASE}.new {DATABASE}"
    ));

    wait_until("who followed has ended", s(20), || {
        lab.unit("follower.service", "ActiveState") != "active"
    });
    assert!(lab.sh("cat /root/follower.txt").contains("was replaced"));
    wait_until("the web front has left", s(20), || {
        lab.unit("left4me-web.service", "ActiveState") != "active"
    });
    // The worker notices with the next job, and carries it out.
    all_is_well(lab, "another file");
    assert_ne!(lab.unit("left4me-web.service", "InvocationID"), web);
}

fn killed_at_any_moment_it_leaves_a_whole_database(lab: &Lab) {
    for tenth in [0, 1, 2, 3, 5, 8, 12, 16] {
        let killed = format!(
            "timeout --signal=KILL {}.{} left4me restore /root/good.db",
            tenth / 10,
            tenth % 10 + 1
        );

        lab.run(&["bash", "-c", &killed]);
        // A part that was about to end ends by itself; then the next one has its turn.
        wait_for("a restore", s(60), || {
            let again = lab.run(&["left4me", "restore", "/root/good.db"]);
            if again.code == 0 {
                Ok(())
            } else {
                Err(again.to_string())
            }
        });

        lab.sh("systemctl start left4me.target");
        all_is_well(lab, &killed);
        let names = lab.sh(&format!("stat -c %h {DATABASE}"));
        assert_eq!(names, "1", "one name of the database after {killed}");
    }
}
