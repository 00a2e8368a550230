//! What a plugin, steamcmd and a local user try against the journal and the web front, from inside
//! the real sandboxes.

use crate::lab::{Lab, Output, s, wait_for, wait_until};

const GAME_DIR: &str = "/var/lib/left4me/runtime/1/merged/left4dead2";
const JOURNAL: &[(&str, &str)] = &[
    ("DGRAM", "/run/systemd/journal/socket"),
    ("DGRAM", "/run/systemd/journal/dev-log"),
    ("STREAM", "/run/systemd/journal/stdout"),
];
const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub fn a_plugin_neither_speaks_for_others_nor_passes_for_somebody_else(lab: &Lab) {
    lab.describe(&["One"]);
    lab.job(&["install"]);
    lab.job(&["start", "--server", "One"]);
    lab.runs(1, "One");
    let game = Intruder::in_the_game(lab);

    no_line_is_an_emergency(lab);
    the_game_cannot_reach_the_journal(&game);
    nobody_speaks_as_systemd(lab, &game);
    a_line_is_not_turned_around(lab);
    names_are_looked_up(lab, &game);
    metrics_are_for_users_of_the_host(lab, &game);
    invented_addresses_do_not_pass_the_limit(lab, &game);
    steamcmd_cannot_reach_the_journal(lab);
    a_flood_is_cut_off_and_a_start_is_whole(lab);
}

/// Runs commands as a process of a unit does: in its control group, its namespaces, as its user.
struct Intruder<'a> {
    lab: &'a Lab,
    pid: String,
    uid: String,
    procs: String,
}

impl<'a> Intruder<'a> {
    fn in_the_game(lab: &'a Lab) -> Self {
        Self::at(
            lab,
            lab.main_pid(1),
            &lab.unit("left4me-server@1.service", "ControlGroup"),
        )
    }

    fn at(lab: &'a Lab, pid: String, cgroup: &str) -> Self {
        let uid = lab.ok(&["stat", "--format=%u", &format!("/proc/{pid}")]);
        Self {
            lab,
            pid,
            uid,
            procs: format!("/sys/fs/cgroup{cgroup}/cgroup.procs"),
        }
    }

    fn run(&self, argv: &[&str]) -> Output {
        let (pid, uid) = (self.pid.as_str(), self.uid.as_str());
        let enter = [
            "nsenter", "--target", pid, "--all", "--setuid", uid, "--setgid", uid, "--",
        ];
        self.lab
            .run(&[&self.in_cgroup(), &enter[..], argv].concat())
    }

    /// With the unit's user and control group, but the host's files: what a hole in the sandbox
    /// would give.
    fn run_outside(&self, argv: &[&str]) -> Output {
        let uid = self.uid.as_str();
        let become_user = [
            "setpriv",
            "--reuid",
            uid,
            "--regid",
            uid,
            "--clear-groups",
            "--",
        ];

        self.lab
            .run(&[&self.in_cgroup(), &become_user[..], argv].concat())
    }

    fn in_cgroup(&self) -> [&str; 5] {
        [
            "sh",
            "-c",
            "echo $$ >\"$0\" && exec \"$@\"",
            &self.procs,
            "env",
        ]
    }
}

/// Makes the game print these bytes, and waits until the journal has them.
#[track_caller]
fn says(lab: &Lab, printf: &str) {
    lab.sh(&format!(
        "printf '{printf}' >/tmp/say && mv /tmp/say {GAME_DIR}/standin.say"
    ));
    wait_until("the game has said it", s(10), || {
        !lab.is(&format!("test -e {GAME_DIR}/standin.say"))
    });
    lab.ok(&["journalctl", "--sync"]);
}

fn console(lab: &Lab, lines: u32) -> String {
    lab.ok(&[
        "left4me-helper",
        "journal",
        "1",
        "--lines",
        &lines.to_string(),
    ])
}

/// Seen on the package before: the entry had PRIORITY=0, which journald writes to every terminal.
fn no_line_is_an_emergency(lab: &Lab) {
    says(lab, "<0>the host is on fire\\n");
    let shown = console(lab, 3);
    assert!(shown.contains("srcds: <0>the host is on fire"), "{shown}");
    let loud =
        lab.sh("journalctl -u left4me-server@1.service -p 0..3 -o cat --grep 'on fire' || true");
    assert_eq!(loud, "", "louder than any line of the game's");
}

/// Seen on the package before: each of these sockets could be connected to.
fn the_game_cannot_reach_the_journal(game: &Intruder<'_>) {
    cannot_reach(
        game,
        &[JOURNAL, &[("DGRAM", "/run/systemd/notify")]].concat(),
    );
}

#[track_caller]
fn cannot_reach(intruder: &Intruder<'_>, sockets: &[(&str, &str)]) {
    let lab = intruder.lab;
    for (kind, socket) in sockets {
        let connect = format!(
            "use Socket; socket(S, AF_UNIX, SOCK_{kind}, 0) or die; \
             connect(S, sockaddr_un('{socket}')) or die qq(refused: $!\\n)"
        );

        // The trial is fair: another user of the host can.
        lab.run_as("nobody", &["perl", "-e", &connect]).ends_with(0);
        let refused = intruder.run(&["perl", "-e", &connect]);
        assert!(
            refused.code != 0 && refused.stderr.contains("refused: "),
            "{socket}\n{refused}"
        );
    }

    assert_ne!(
        intruder
            .run(&["logger", "--socket-errors=on", "-p", "user.emerg", "x"])
            .code,
        0,
        "/dev/log"
    );
}

/// Seen on the package before: the page and the live console showed the forged entry in systemd's
/// colours.
fn nobody_speaks_as_systemd(lab: &Lab, game: &Intruder<'_>) {
    says(lab, "systemd[1]: Stopped by root.\\n");
    let shown = console(lab, 3);
    assert!(
        shown.contains(" srcds: systemd[1]: Stopped by root."),
        "{shown}"
    );

    // Through a hole in the sandbox, or in entries from before it was closed. The sender lives
    // until journald has looked.
    let forge = "use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0) or die; \
                 send(S, \"MESSAGE=Forged by a \
                 plugin\\nSYSLOG_IDENTIFIER=systemd\\nSYSLOG_PID=1\\nUNIT=left4me-server@1.service\\n\
                 PRIORITY=0\\n\", 0, sockaddr_un('/run/systemd/journal/socket')) or die; sleep 2";
    game.run_outside(&["perl", "-e", forge]).ends_with(0);
    lab.ok(&["journalctl", "--sync"]);
    let forged = lab.ok(&[
        "journalctl",
        "-u",
        "left4me-server@1.service",
        "-n",
        "5",
        "-o",
        "short",
    ]);

    assert!(
        forged.contains(" systemd[") && forged.contains("]: Forged by a plugin"),
        "the trial is fair: {forged}"
    );

    let shown = console(lab, 5);
    assert!(shown.contains(" srcds: Forged by a plugin"), "{shown}");

    // systemd itself is still systemd.
    let all = console(lab, 1000);
    assert!(
        all.lines()
            .any(|line| line.contains(" systemd: Start") && line.contains("left4me-server@1")),
        "{all}"
    );
}

/// Seen on the package before: the bytes came out as they went in.
fn a_line_is_not_turned_around(lab: &Lab) {
    says(
        lab,
        "\\342\\200\\256nimda\\342\\200\\250<\\342\\200\\213b>\\n",
    );

    let shown = console(lab, 3);
    assert!(
        shown.contains("srcds: \\u{202e}nimda\\u{2028}<\\u{200b}b>"),
        "{shown}"
    );
}

/// What systemd-resolved and its like put there stays in sight.
fn names_are_looked_up(lab: &Lab, game: &Intruder<'_>) {
    lab.sh(
        "mkdir -p /run/systemd/resolve && echo nameserver 192.0.2.53 \
           >/run/systemd/resolve/stub-resolv.conf",
    );

    game.run(&[
        "grep",
        "-q",
        "192.0.2.53",
        "/run/systemd/resolve/stub-resolv.conf",
    ])
    .ends_with(0);

    game.run(&["getent", "hosts", "localhost"]).ends_with(0);
    lab.sh("rm -r /run/systemd/resolve");
}

/// Bash that sends a request, and prints the answer's first line.
fn asking(request: &str) -> Vec<String> {
    let script = "exec 3<>/dev/tcp/127.0.0.1/8000; printf '%b' \"$1\" >&3; head -n 1 <&3";
    ["bash", "-c", script, "bash", request]
        .map(str::to_owned)
        .into()
}

fn status(output: &Output) -> &str {
    output
        .stdout
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no answer\n{output}"))
}

/// Seen on the package before: 200, with all servers' names in it.
fn metrics_are_for_users_of_the_host(lab: &Lab, game: &Intruder<'_>) {
    let ask = |more: &str| {
        asking(&format!(
            "GET /metrics HTTP/1.1\\r\\nHost: \
             127.0.0.1:8000\\r\\n{more}Connection: close\\r\\n\\r\\n"
        ))
    };

    let plain = ask("");
    let plain: Vec<&str> = plain.iter().map(String::as_str).collect();
    assert_eq!(
        status(&lab.run_as("nobody", &plain)),
        "200",
        "a user of the host, as before"
    );

    assert_eq!(status(&game.run(&plain)), "403");
    for user in ["left4me-steam", "left4me-game"] {
        assert_eq!(status(&lab.run_as(user, &plain)), "403", "{user}");
    }
    let forwarded = ask("X-Forwarded-For: 127.0.0.1\\r\\n");
    let forwarded: Vec<&str> = forwarded.iter().map(String::as_str).collect();
    assert_eq!(status(&lab.run_as("nobody", &forwarded)), "401");
    // Also after a restart of the web front: systemd keeps the socket that tells.
    lab.ok(&["systemctl", "restart", "left4me-web.service"]);
    assert_eq!(status(&game.run(&plain)), "403");
    assert_eq!(status(&lab.run_as("nobody", &plain)), "200");
}

/// Seen on the package before: fifty guesses at one account and any number over many, with an
/// address invented for each.
fn invented_addresses_do_not_pass_the_limit(lab: &Lab, game: &Intruder<'_>) {
    lab.run_with(
        "root",
        &[
            "install",
            "-m",
            "640",
            "-g",
            "left4me",
            "/dev/stdin",
            "/etc/left4me/proxy.secret",
        ],
        SECRET,
    )
    .ends_with(0);

    lab.set("LEFT4ME_WEB_ORIGIN=https://left4me.example.org");
    lab.set("LEFT4ME_WEB_PROXIES=127.0.0.1");
    let tells = |what: &str| {
        let found = lab.run(&["left4me", "doctor"]).stdout;
        assert!(found.contains(what), "{found}");
    };

    tells("every user of this host can pass for the proxy");
    lab.ok(&["systemctl", "restart", "left4me-web.service"]);
    let guess = |name: &str, number: usize, more: &str| {
        let body = format!("name={name}&password=wrong+password");
        asking(&format!(
            "POST /login HTTP/1.1\\r\\nHost: 127.0.0.1:8000\\r\\nSec-Fetch-Site: \
            same-origin\\r\\nConnection: close\\r\\n\
             X-Forwarded-For: 198.51.100.{number}\\r\\n{more}Content-Type: \
             application/x-www-form-urlencoded\\r\\n\
             Content-Length: {}\\r\\n\\r\\n{body}",
            body.len()
        ))
    };

    let looked_at = |one: &dyn Fn(&[&str]) -> Output, name: &dyn Fn(usize) -> String| {
        (0..40)
            .take_while(|number| {
                let argv = guess(&name(*number), *number, "");
                status(&one(&argv.iter().map(String::as_str).collect::<Vec<_>>())) != "429"
            })
            .count()
    };

    // A plugin is no proxy, even where every user of the host is one.
    assert_eq!(
        looked_at(&|argv| game.run(argv), &|_| "admin".to_owned()),
        5,
        "a plugin"
    );

    lab.sh("sed -i /^LEFT4ME_WEB_PROXIES=/d /etc/left4me/left4me.env");
    lab.set("LEFT4ME_WEB_PROXY_SECRET_FILE=/etc/left4me/proxy.secret");
    tells("trusted by a secret");
    lab.ok(&["systemctl", "restart", "left4me-web.service"]);
    assert_eq!(
        looked_at(&|argv| lab.run_as("nobody", argv), &|_| "admin".to_owned()),
        5,
        "a local user"
    );

    assert_eq!(
        looked_at(&|argv| lab.run_as("daemon", argv), &|number| format!(
            "user{number}"
        )),
        20,
        "many names"
    );

    // The secret is not for them, and the proxy is believed.
    for user in ["nobody", "left4me-game", "left4me-steam"] {
        assert_ne!(
            lab.run_as(user, &["cat", "/etc/left4me/proxy.secret"]).code,
            0,
            "{user}"
        );
    }

    assert_ne!(game.run(&["cat", "/etc/left4me/proxy.secret"]).code, 0);
    let argv = guess("admin", 99, &format!("X-Left4me-Proxy: {SECRET}\\r\\n"));
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    assert_eq!(
        status(&lab.run_as("www-data", &argv)),
        "422",
        "another address"
    );
}

/// Seen on the package before: what the game could reach, steamcmd could as well.
fn steamcmd_cannot_reach_the_journal(lab: &Lab) {
    lab.job(&["stop", "--server", "One"]);
    lab.steamcmd("hang=1");
    let job = lab.enqueue(&["install"]);
    let pid = wait_for("steamcmd runs", s(20), || {
        let found = lab
            .run(&["pgrep", "--newest", "--uid", "left4me-steam"])
            .stdout;
        if found.is_empty() {
            Err("no process".to_owned())
        } else {
            Ok(found)
        }
    });

    let cgroup = lab.sh(&format!("sed -n 's/^0:://p' /proc/{pid}/cgroup"));
    // The runner's own notify socket is there: PID 1 listens to its main process only.
    cannot_reach(&Intruder::at(lab, pid, &cgroup), JOURNAL);
    lab.run(&["left4me-job", "cancel", &job.to_string(), "--force"]);
    lab.ended(job, 30);
    lab.steamcmd("");

    // The runner's own words keep their level and say who asked.
    let ask = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => \
              '/run/left4me/runner.sock') or die; \
               print $s qq(nonsense\\n); print <$s>";
    lab.ok(&["perl", "-e", ask]);
    wait_until("the refusal is in the journal", s(10), || {
        lab.ok(&["journalctl", "--sync"]);
        let said = lab.ok(&[
            "journalctl",
            "-u",
            "left4me-runner@*",
            "-p",
            "4..4",
            "-o",
            "cat",
            "--no-pager",
        ]);

        said.contains("refused") && said.contains("LEFT4ME_PEER_UID=0")
    });
}

/// Seen on the package before: all 100,000 lines were kept, and 30 MB of the journal's share of the
/// disk gone.
fn a_flood_is_cut_off_and_a_start_is_whole(lab: &Lab) {
    lab.sh("logger -t audit 'someone became root'");
    lab.job(&["start", "--server", "One"]);
    // A start, a change of map, and what people say for a while.
    lab.sh("seq --format='normal %.0f' 2500 >/tmp/say");
    lab.sh(&format!("mv /tmp/say {GAME_DIR}/standin.say"));
    let kept = |word: &str| {
        lab.ok(&["journalctl", "--sync"]);
        let count = format!(
            "journalctl -u left4me-server@1.service -o cat \
             --grep '^{word} ' | grep -c '^{word} ' || true"
        );

        lab.sh(&count).parse::<u32>().expect("a number")
    };

    wait_for("a normal console is whole", s(20), || {
        match kept("normal") {
            2500 => Ok(()),
            other => Err(format!("{other} lines of 2500")),
        }
    });

    lab.sh("seq --format='flood %.0f' 100000 >/tmp/say");
    lab.sh(&format!("mv /tmp/say {GAME_DIR}/standin.say"));
    says(lab, "behind the flood\\n");
    // The burst, times at most six for the free space.
    let flood = kept("flood");
    assert!(flood <= 6 * 3000, "{flood} lines of 100000");
    assert_eq!(lab.sh("journalctl -t audit -o cat"), "someone became root");

    // That lines are missing is told, by journald, once its window has passed: a shorter one here.
    lab.write(
        "/run/systemd/system/left4me-server@.service.d/50-test.conf",
        "[Service]\nLogRateLimitIntervalSec=2\nLogRateLimitBurst=500\n",
    );

    lab.ok(&["systemctl", "daemon-reload"]);
    lab.job(&["restart", "--server", "One"]);
    lab.sh("seq --format='more %.0f' 20000 >/tmp/say");
    says_file(lab);
    let told = wait_for("the console says what is missing", s(20), || {
        says(lab, "after it\\n");
        let shown = console(lab, 50);
        let line = shown
            .lines()
            .find(|line| line.contains("Suppressed"))
            .map(str::to_owned);
        line.ok_or(shown)
    });

    assert!(
        told.contains(" systemd-journald: Suppressed ") && told.contains(" messages"),
        "{told}"
    );
}

fn says_file(lab: &Lab) {
    lab.sh(&format!("mv /tmp/say {GAME_DIR}/standin.say"));
    wait_until("the game has said it", s(20), || {
        !lab.is(&format!("test -e {GAME_DIR}/standin.say"))
    });
}
