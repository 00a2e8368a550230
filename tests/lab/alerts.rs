//! Alerts on a real host: from a crash to a destination, through the units as they are shipped.

use crate::lab::{Lab, s, wait_for, wait_until};
use crate::rows::game;

/// Takes POST requests as ntfy does, and writes a line for each: when, title, body.
const STANDIN: &str = r#"#!/usr/bin/perl
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1:8999', Listen => 9, ReuseAddr => 1) or die $!;
while (my $peer = $listener->accept) {
    my ($length, $title) = (0, '');
    while (<$peer>) {
        last if /^\r?$/;
        $length = $1 if /^content-length: (\d+)/i;
        $title = $1 if /^title: (.*?)\r?$/i;
    }
    next unless $length;
    read $peer, my $body, $length;
    $body =~ s/\n/ | /g;
    open my $log, '>>', '/root/alerts.log' or die $!;
    chomp(my $at = `date +%s%3N`);
    printf $log "%d %s: %s\n", $at, $title, $body;
    close $log;
    print $peer "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
}
"#;

const SECRET: &str = "s3cr3t-topic";

pub fn a_crash_loop_is_one_alert_and_a_summary(lab: &Lab) {
    lab.describe(&["Friday"]);
    lab.job(&["install"]);
    lab.write("/root/ntfy.pl", STANDIN);
    lab.sh("touch /root/alerts.log; systemd-run --quiet --unit=ntfy perl /root/ntfy.pl");
    wait_until("it listens", s(10), || {
        lab.is("exec 3<>/dev/tcp/127.0.0.1/8999")
    });

    a_private_destination_needs_a_setting(lab);
    a_crash_is_told_within_two_seconds_and_a_loop_once(lab);
    the_rest_is_a_summary(lab);
    nothing_stays_and_nothing_failed(lab);
    only_the_deliverer_reaches_left4me_notify(lab);
}

fn a_private_destination_needs_a_setting(lab: &Lab) {
    let url = format!("http://127.0.0.1:8999/{SECRET}");
    lab.ok(&[
        "left4me",
        "alert",
        "add",
        "ops",
        "--ntfy",
        &url,
        "--events",
        "crash,drift",
    ]);
    lab.run(&["left4me", "alert", "test", "ops"])
        .ends_with(1)
        .complains_of(&["LEFT4ME_ALERT_PRIVATE=1"]);

    lab.set("LEFT4ME_ALERT_PRIVATE=1");
    let sent = lab.ok(&["left4me", "alert", "test", "ops"]);
    assert!(sent.contains("200 OK") && !sent.contains(SECRET), "{sent}");
    assert_eq!(messages(lab).len(), 1);
    lab.sh("truncate -s 0 /root/alerts.log");
}

/// The messages that arrived: when, unix ms, and the text.
fn messages(lab: &Lab) -> Vec<(i64, String)> {
    let log = lab.sh("cat /root/alerts.log");
    let lines = log.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(at, text)| (at.parse().expect("a number"), text.to_owned()))
        .collect()
}

/// Kills the game, and waits until systemd has started it again.
fn crash(lab: &Lab) {
    let pid = lab.main_pid(1);
    lab.sh(&format!("touch {}/standin.crash", game(1)));
    wait_until("systemd starts it again", s(30), || {
        let now = lab.main_pid(1);
        now != pid && now != "0"
    });
}

fn a_crash_is_told_within_two_seconds_and_a_loop_once(lab: &Lab) {
    lab.job(&["start", "--server", "Friday"]);
    crash(lab);
    let (told, text) = wait_for("the alert", s(10), || {
        messages(lab)
            .first()
            .cloned()
            .ok_or_else(|| lab.sh(JOURNAL))
    });
    assert!(text.contains("Friday crashed"), "{text}");
    let event = lab.sql("SELECT at FROM events WHERE kind = 'server.crashed' ORDER BY id LIMIT 1");
    let late = told - event.trim().parse::<i64>().expect("a time");
    assert!((0..2000).contains(&late), "{late} ms after its event");

    for _ in 0..3 {
        crash(lab);
    }
    wait_until("all crashes are recorded", s(60), || {
        let count = "SELECT count(*) FROM events WHERE kind = 'server.crashed'";
        lab.sql(count).trim() == "4"
    });
    assert_eq!(messages(lab).len(), 1, "{:?}", messages(lab));
}

const JOURNAL: &str = "journalctl --no-pager -n 40 -u 'left4me-alerts*' -u 'left4me-notify*'";

/// Ten minutes later.
fn the_rest_is_a_summary(lab: &Lab) {
    lab.sql("UPDATE alert_outbox SET ended_at = ended_at - 600000 WHERE state = 'sent'");
    let text = wait_for("the summary", s(90), || {
        let all = messages(lab);
        all.get(1)
            .map(|(_, text)| text.clone())
            .ok_or_else(|| lab.sh(JOURNAL))
    });
    assert!(text.contains("Friday") && text.contains("more"), "{text}");
    assert_eq!(messages(lab).len(), 2);
}

fn nothing_stays_and_nothing_failed(lab: &Lab) {
    lab.job(&["stop", "--server", "Friday"]);
    lab.ok(&["left4me", "alert", "remove", "ops"]);
    wait_until("the deliverer exits", s(90), || {
        lab.unit("left4me-alerts.service", "ActiveState") == "inactive"
    });
    let failed = lab.sh("systemctl list-units --failed --plain --no-legend");
    assert_eq!(failed, "", "failed units");
    let journal = lab.sh("journalctl --no-pager -o cat");
    assert!(!journal.contains(SECRET), "the secret is in the journal");
}

/// To a service that was taken over, the socket would be a way to the network.
fn only_the_deliverer_reaches_left4me_notify(lab: &Lab) {
    for unit in ["left4me-worker", "left4me-web"] {
        lab.ok(&["systemctl", "start", &format!("{unit}.service")]);
        let pid = lab.unit(&format!("{unit}.service"), "MainPID");
        let socket = format!("/proc/{pid}/root/run/left4me-notify/notify.sock");
        assert!(
            !lab.is(&format!("test -e {socket}")),
            "{unit} sees {socket}"
        );
    }
}
