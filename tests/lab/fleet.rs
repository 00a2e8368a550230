//! A fleet of two Debians: the controller on Debian 13, which is also the engine's one node, and a host
//! on Debian 12. What people see when it is rebooted, cut off, copied and expelled.

use std::time::Instant;

use crate::lab::{Lab, Suite, s, wait_for, wait_until};

/// The controller's address in its network.
pub const CONTROLLER: &str = "10.77.0.101";

pub fn a_host_is_rebooted_cut_off_copied_and_expelled() {
    let network = format!("story-{}", std::process::id());
    let controller = Lab::in_network(Suite::Trixie, &network, CONTROLLER, "nats-server");
    let host = Lab::in_network(Suite::Bookworm, &network, "10.77.0.102", "");
    they_become_a_fleet(&controller, &[("ams-1", &host)]);

    // An order reaches its host, and its end is known where it was asked for.
    controller.ok(&[
        "left4me-job",
        "--host",
        "ams-1",
        "enqueue",
        "install",
        "--wait",
    ]);
    host.reboot();
    controller.ok(&[
        "left4me-job",
        "--host",
        "ams-1",
        "enqueue",
        "install",
        "--wait",
    ]);

    what_is_asked_of_a_host_that_is_cut_off_waits(&controller, &host);
    a_copy_is_refused_and_told(&controller, &host);
    an_expelled_host_is_out_within_a_second(&controller, &host);
}

/// Makes the controller, which is also the engine's one node, and takes in the hosts, each under its name in the
/// fleet.
#[track_caller]
pub fn they_become_a_fleet(controller: &Lab, hosts: &[(&str, &Lab)]) {
    // Debian's package has started it with a configuration of its own.
    controller.sh("systemctl stop nats-server");
    controller.ok(&[
        "left4me", "fleet", "init", "lab", "--host", "fra-1", "--engine", CONTROLLER,
    ]);
    controller.ok(&["/etc/left4me/fleet/engine/engine-1/install.sh"]);
    wait_for("the engine has its streams", s(30), || {
        let made = controller.run(&["left4me", "fleet", "init"]);
        (made.code == 0).then_some(()).ok_or(made.stderr)
    });

    for (name, host) in hosts {
        let admit = host.ok(&["left4me", "fleet", "join", name]);
        let ticket = controller.sh(&admit);
        host.run_with(
            "root",
            &["left4me", "fleet", "join", name, "--ticket", "-"],
            &ticket,
        )
        .ends_with(0);
    }
    sees(controller, "all hosts are there", |seen| {
        hosts.iter().all(|(name, _)| seen.contains(name))
    });
    controller.ok(&["left4me", "fleet", "check"]);
    for (_, host) in hosts {
        host.ok(&["left4me", "fleet", "check"]);
    }
}

#[track_caller]
fn sees(controller: &Lab, what: &str, is_so: impl Fn(&str) -> bool) {
    wait_for(what, s(60), || {
        let hosts = controller.run(&["left4me", "fleet", "hosts"]);
        let text = format!("{}\n{}", hosts.stdout, hosts.stderr);
        if hosts.code == 0 && is_so(&text) {
            Ok(())
        } else {
            Err(text)
        }
    });
}

fn what_is_asked_of_a_host_that_is_cut_off_waits(controller: &Lab, host: &Lab) {
    host.cable(false);
    let order = controller.ok(&["left4me-job", "--host", "ams-1", "enqueue", "install"]);
    // Nothing local changes, a reboot included.
    host.ok(&["left4me-job", "enqueue", "install", "--wait"]);
    host.reboot();
    assert_eq!(
        host.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
    host.ok(&["left4me-job", "enqueue", "install", "--wait"]);
    let jobs = host.job_count();

    host.cable(true);
    wait_for("the order has its end", s(90), || {
        let orders = controller.run(&["left4me", "fleet", "orders"]).stdout;
        let line = orders
            .lines()
            .find(|line| line.contains(order.split_whitespace().next().unwrap_or("?")))
            .unwrap_or_default()
            .to_owned();
        if line.contains("succeeded") {
            Ok(())
        } else {
            Err(orders)
        }
    });
    assert_eq!(host.job_count(), jobs + 1, "the order became one job");
}

/// A second process with the host's identity, as on a copied machine.
fn a_copy_is_refused_and_told(controller: &Lab, host: &Lab) {
    let files = host.sh("tar --create --directory=/etc/left4me/fleet . | base64 --wrap=0");
    controller
        .run_with(
            "root",
            &[
                "sh",
                "-c",
                "mkdir -p /root/copy && base64 --decode | tar --extract --directory=/root/copy",
            ],
            &files,
        )
        .ends_with(0);
    let copy = controller.run(&[
        "env",
        "LEFT4ME_FLEET_DIR=/root/copy",
        "LEFT4ME_GATE_SOCKET=/root/copy/no-gate.sock",
        "LEFT4ME_LINK_SOCKET=/root/copy/link.sock",
        "LEFT4ME_ASK_SOCKET=/root/copy/ask.sock",
        "timeout",
        "20",
        "/usr/libexec/left4me/left4me-link",
    ]);
    assert!(
        copy.stderr
            .contains("another process has this host's identity"),
        "{copy}"
    );
    wait_until("the living host tells of it", s(30), || {
        host.is("journalctl -u left4me-link | grep -q 'a copy of this host'")
    });
    // And still obeys.
    controller.ok(&[
        "left4me-job",
        "--host",
        "ams-1",
        "enqueue",
        "install",
        "--wait",
    ]);
    controller.sh("rm -r /root/copy");
}

fn an_expelled_host_is_out_within_a_second(controller: &Lab, host: &Lab) {
    let connections = "ss --no-header --tcp state established dport = :4222 | wc -l";
    assert_ne!(host.sh(connections).trim(), "0", "it is connected");
    controller.ok(&["left4me", "fleet", "expel", "ams-1"]);
    let begun = Instant::now();
    wait_until("its connection is gone", s(5), || {
        host.sh(connections).trim() == "0"
    });
    assert!(begun.elapsed() < s(2), "{:?}", begun.elapsed());
    wait_until("the doctor there tells of it", s(30), || {
        host.is("left4me doctor | grep -q 'no connection since'")
    });
    // All else goes on there.
    host.ok(&["left4me-job", "enqueue", "install", "--wait"]);
}
