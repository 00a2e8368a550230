//! left4me-console as the package installs it: it answers for a running game, lets nobody in who
//! should not be, reaches nothing but this host, and leaves when nobody asks.

use crate::lab::{Lab, Output, s, standin, wait_for, wait_until};

const CONSOLE: &str = "left4me-console.service";
const NETWORK: &str = "left4me-console-network.service";

/// `ask VERB PORT [COMMAND]`: prints the answer of left4me-console about server 1.
const ASK: &str = r#"#!/usr/bin/perl
use strict; use IO::Socket::UNIX;
alarm 20; $SIG{PIPE} = "IGNORE"; # whoever is refused may be refused before it has asked
my ($verb, $port, $command) = @ARGV;
my $to = IO::Socket::UNIX->new(Peer => "/run/left4me/console.sock") or die "no connection: $!\n";
my $more = defined $command ? qq(,"command":"$command") : "";
print $to qq({"id":1,"server":"1","port":$port,"verb":"$verb"$more}\n);
my $line = <$to> // die "no answer\n";
print $line;
"#;

/// `reach ADDRESS`: tries to send to another host, over UDP and TCP. Prints what got through.
const REACH: &str = r#"#!/usr/bin/perl
use strict; use Socket;
my $to = pack_sockaddr_in(9, inet_aton($ARGV[0]));
socket(my $udp, PF_INET, SOCK_DGRAM, 0) or die "no UDP: $!\n";
for (1..5) { print "UDP to $ARGV[0]\n" if send($udp, "x", 0, $to); }
socket(my $tcp, PF_INET, SOCK_STREAM, 0) or die "no TCP: $!\n";
$SIG{ALRM} = sub { print "nothing came back\n"; exit 0 };
alarm 3;
if (connect($tcp, $to)) { print "TCP to $ARGV[0]\n" } else { print "refused: $!\n" }
"#;

pub fn the_console_talks_to_games_and_to_nothing_else(lab: &Lab) {
    lab.describe(&["target"]);
    lab.job(&["install"]);
    lab.job(&["start", "--server", "1"]);
    lab.answers("target");
    lab.sh("useradd --create-home --groups left4me member; useradd --create-home stranger");
    lab.write("/usr/local/bin/ask", ASK);
    lab.write("/usr/local/bin/reach", REACH);
    lab.sh("chmod 755 /usr/local/bin/ask /usr/local/bin/reach");

    it_answers_for_a_running_game(lab);
    only_who_administers_left4me_may_ask(lab);
    it_sees_only_what_it_needs(lab);
    no_other_host_can_be_reached(lab);
    a_socket_that_was_handed_over_stays_on_this_host(lab);
    it_exits_when_nobody_asks_and_comes_back(lab);
}

fn port(lab: &Lab) -> String {
    lab.server("target")["port"].to_string()
}

fn ask(lab: &Lab, user: &str, verb: &str) -> Output {
    lab.run_as(user, &["/usr/local/bin/ask", verb, &port(lab)])
}

fn it_answers_for_a_running_game(lab: &Lab) {
    wait_for("the game answers over UDP", s(30), || {
        let answer = ask(lab, "root", "look").ends_with(0).stdout;
        if answer.contains(r#""look":{"info""#) && answer.contains(r#""players":["#) {
            Ok(())
        } else {
            Err(answer)
        }
    });

    // Nothing listens there: each question has its answer.
    let nobody = lab.ok(&["/usr/local/bin/ask", "info", "26999"]);
    assert!(nobody.contains("no-answer"), "{nobody}");
    let quit = lab.ok(&["/usr/local/bin/ask", "exec", &port(lab), "quit"]);
    assert!(quit.contains("refused"), "{quit}");
    lab.answers("target");
}

fn only_who_administers_left4me_may_ask(lab: &Lab) {
    for user in ["root", "left4me", "member"] {
        let answer = ask(lab, user, "info").ends_with(0).stdout;
        assert!(!answer.contains("not permitted"), "{user}: {answer}");
    }
    for user in ["stranger", "left4me-steam", "left4me-game", "left4me_1"] {
        let answer = ask(lab, user, "info");
        assert!(answer.code != 0, "{user}: {answer:?}");
    }

    // The mode of the socket is not the only wall.
    lab.sh("chmod 755 /run/left4me; chmod 666 /run/left4me/console.sock");
    let answer = ask(lab, "stranger", "info").stdout;
    assert!(answer.contains("not permitted"), "{answer}");
    lab.sh("chmod 750 /run/left4me; chmod 660 /run/left4me/console.sock");
}

fn it_sees_only_what_it_needs(lab: &Lab) {
    ask(lab, "root", "info").ends_with(0);
    let pid = lab.unit(CONSOLE, "MainPID");
    // What is not there is as good as empty.
    let list = |path: &str| lab.sh(&format!("ls -A /proc/{pid}/root/{path} 2>&- || true"));
    assert_eq!(list("var/lib/left4me"), "instances");
    assert_eq!(list("home"), "");
    assert_eq!(list("root"), "");
    // The host's os-release is systemd 257's gift to each root directory.
    let host = list("run/host");
    assert!(
        host.lines()
            .all(|name| name.ends_with("os-release") || name == ".os-release-stage"),
        "{host}"
    );
    let known = [
        "left4me-console",
        "systemd",
        "user",
        "lock",
        "credentials",
        "host",
    ];
    let run = list("run");
    assert!(run.lines().all(|name| known.contains(&name)), "{run}");

    for (unit, network) in [(CONSOLE, "own"), (NETWORK, "host's")] {
        let pid = lab.unit(unit, "MainPID");
        let namespace = lab.ok(&["readlink", &format!("/proc/{pid}/ns/net")]);
        let host = lab.ok(&["readlink", "/proc/1/ns/net"]);
        assert_eq!(namespace == host, network == "host's", "{unit}");
        let user = lab.sh(&format!("ps -o user:32= -p {pid}"));
        assert_eq!(user, "left4me-console", "{unit}");
    }
}

/// With another program in the unit that has a network: its root directory and what may be executed
/// are the host's for that, and all that concerns the network is as shipped.
fn no_other_host_can_be_reached(lab: &Lab) {
    let elsewhere = lab.sh("ip -4 route show default | awk '{ print $3; exit }'");
    let elsewhere = if elsewhere.is_empty() {
        "192.0.2.1".to_owned()
    } else {
        elsewhere
    };
    lab.sh(&format!("systemctl stop {NETWORK} {CONSOLE}"));
    let drop_in = format!("/run/systemd/system/{NETWORK}.d/reach.conf");
    lab.write(
        &drop_in,
        &format!(
            "[Service]\nType=oneshot\nRestart=no\nRootDirectory=\nBindReadOnlyPaths=\nNoExecPaths=\nExecPaths=\n\
             ReadOnlyPaths=\nExecStart=\nExecStart=/usr/local/bin/reach {elsewhere}\n\
             StandardOutput=truncate:/root/reached\n"
        ),
    );
    lab.sh(&format!(
        "systemctl daemon-reload; systemctl start {NETWORK}"
    ));
    let reached = lab.ok(&["cat", "/root/reached"]);
    assert!(!reached.contains(" to "), "{reached}");
    assert!(!reached.is_empty());
    lab.sh(&format!("rm {drop_in}; systemctl daemon-reload"));
    let answer = ask(lab, "root", "info").ends_with(0).stdout;
    assert!(answer.contains(r#""info":"#), "{answer}");
}

/// The rules are those of the unit that opened the socket, for as long as the socket is there: its
/// own binding to loopback does not hold for a packet that names another interface.
fn a_socket_that_was_handed_over_stays_on_this_host(lab: &Lab) {
    const INTRUDER: &str = "/usr/local/lib/left4me-standin/intruder";
    const ADDRESS: &str = "10.77.0.2";
    lab.push(&standin("standin-intruder"), INTRUDER);
    // Another host, of which only this test knows the address.
    lab.sh(
        "ip netns add other; ip link add other0 type veth peer name eth0 netns other
         ip addr add 10.77.0.1/24 dev other0; ip link set other0 up
         ip -n other addr add 10.77.0.2/24 dev eth0; ip -n other link set eth0 up",
    );
    // Nothing listens there, and each packet is counted.
    let arrived = || -> u32 {
        let counts = "ip netns exec other awk '/^Udp: [0-9]/ { print $3 }' /proc/net/snmp";
        lab.sh(counts).parse().expect("a number")
    };
    wait_until("another program reaches it", s(30), || {
        lab.sh(&format!("echo x >/dev/udp/{ADDRESS}/9"));
        arrived() > 0
    });

    let before = arrived();
    lab.sh(&format!("systemctl stop {NETWORK} {CONSOLE}"));
    let drop_in = format!("/run/systemd/system/{CONSOLE}.d/handed.conf");
    lab.write(
        &drop_in,
        &format!(
            "[Service]\nType=exec\nRestart=no\nWatchdogSec=0\nExecStart=\nExecStart={INTRUDER} handed {ADDRESS}\n\
             BindReadOnlyPaths={INTRUDER}\nExecPaths=+{INTRUDER}\nStandardOutput=truncate:/root/handed\n"
        ),
    );
    lab.sh(&format!(
        "systemctl daemon-reload; systemctl start {CONSOLE}"
    ));
    let said = |word: &str| lab.is(&format!("grep -qx {word} /root/handed"));
    wait_until("it has tried", s(30), || said("waiting"));
    lab.sh(&format!("systemctl stop {NETWORK}"));
    wait_until("it has tried without the giver", s(30), || said("done"));

    let tried = lab.ok(&["cat", "/root/handed"]);
    let through: Vec<&str> = tried
        .lines()
        .filter(|line| line.ends_with("THROUGH"))
        .collect();
    assert_eq!(through, ["this host: GOT THROUGH"], "{tried}");
    assert!(tried.matches(": denied").count() > 70, "{tried}");
    assert_eq!(arrived(), before, "{tried}");
    lab.sh(&format!(
        "rm {drop_in}; systemctl daemon-reload; ip link del other0; ip netns del other; rm {INTRUDER}"
    ));
    let answer = ask(lab, "root", "info").ends_with(0).stdout;
    assert!(answer.contains(r#""info":"#), "{answer}");
}

fn it_exits_when_nobody_asks_and_comes_back(lab: &Lab) {
    lab.sh("systemctl stop left4me-poller.timer left4me-web.socket left4me-web.service");
    for unit in [CONSOLE, NETWORK] {
        wait_until("it has exited", s(120), || {
            lab.unit(unit, "ActiveState") == "inactive"
        });
        assert_eq!(lab.unit(unit, "Result"), "success", "{unit}");
    }
    assert_eq!(lab.processes_of("left4me-console"), "");

    let answer = ask(lab, "left4me", "players").ends_with(0).stdout;
    assert!(answer.contains(r#""players":["#), "{answer}");
    lab.sh("systemctl start left4me.target");
}
