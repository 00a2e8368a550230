//! A user for each server: what a plugin of one tries on another, on purge, on systemd's own files
//! and on this host. It runs in the game's own process context, by the stand-in's `standin.run`;
//! "GOT THROUGH" is what the attacks print that succeed.
//!
//! On the version in which every server ran as left4me-game these did: signals, prlimit, `kill -9
//! -1`, the other's 0600 file in /dev/shm and 300 MiB beside it, a purge killed from another
//! server, a purge that its own game held up by names, a closed directory of an overlay read by the
//! game, overlays read by a local user, a link and a FIFO at instance.env read by PID 1. The other
//! calls of the first list failed there too (seccomp, ProtectProc=, PrivateUsers=): they are tried
//! so that it stays so.

use std::time::Instant;

use crate::lab::{Lab, s, wait_for, wait_until};

const DATA: &str = "/var/lib/left4me";

/// The game's directory of an instance.
fn game(instance: &str) -> String {
    format!("{DATA}/runtime/{instance}/merged/left4dead2")
}

/// Puts a script before the game of a server; it does not wait for its end.
fn put(lab: &Lab, instance: &str, script: &str) {
    let run = format!("{}/standin.run", game(instance));
    lab.sh(&format!("rm -f {run}.out"));
    lab.run_with(
        "root",
        &[
            "bash",
            "-c",
            &format!("cat >{run}.part && mv {run}.part {run}"),
        ],
        script,
    )
    .ends_with(0);
}

/// What a script prints that a plugin of this server runs.
fn inside(lab: &Lab, instance: &str, script: &str) -> String {
    put(lab, instance, script);
    let out = format!("{}/standin.run.out", game(instance));
    wait_for("a script inside of the game's sandbox", s(60), || {
        let output = lab.run(&["cat", &out]);
        if output.code == 0 {
            Ok(output.stdout)
        } else {
            Err(output.stderr)
        }
    })
}

fn user_of(lab: &Lab, instance: &str) -> String {
    let pid = lab.unit(&format!("left4me-server@{instance}.service"), "MainPID");
    lab.sh(&format!("stat -c '%u %g' /proc/{pid}"))
}

fn owner(lab: &Lab, path: &str) -> String {
    lab.sh(&format!("stat -c '%a %U:%G' {DATA}/{path}"))
}

/// Server 1 is admin's, server 2 is bea's.
fn two_owners(lab: &Lab) {
    lab.describe(&["one"]);
    lab.run_with(
        "root",
        &["left4me", "user", "add", "bea", "--password-stdin"],
        "correct horse 8\n",
    )
    .ends_with(0);

    lab.write("/root/bea.cfg", "hostname \"two\"\nrcon_password hunter2\n");
    let blueprint = [
        "left4me",
        "blueprint",
        "create",
        "coop",
        "--user",
        "bea",
        "--overlay",
        "demo",
    ];

    lab.ok(&[&blueprint[..], &["--config-file", "/root/bea.cfg"]].concat());
    lab.ok(&[
        "left4me",
        "server",
        "create",
        "two",
        "--blueprint",
        "coop",
        "--user",
        "bea",
    ]);

    lab.job(&["install"]);
    for server in ["1", "2"] {
        lab.job(&["start", "--server", server]);
    }
    lab.answers("one");
    lab.answers("two");
}

pub fn servers_of_two_owners_cannot_touch_each_other(lab: &Lab) {
    two_owners(lab);
    each_server_has_its_own_user_and_files(lab);
    a_plugin_reaches_no_process_of_another_server(lab);
    shared_memory_is_each_servers_own_and_bounded(lab);
    a_plugin_that_kills_all_it_can_ends_its_own_server_only(lab);
    a_purge_of_another_server_goes_on_whatever_is_killed(lab);
    the_game_cannot_hold_up_its_own_purge(lab);
    local_users_and_closed_directories(lab);
    a_reboot_changes_no_user(lab);
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

fn each_server_has_its_own_user_and_files(lab: &Lab) {
    assert_eq!(user_of(lab, "1"), "2100000001 2100000001");
    assert_eq!(user_of(lab, "2"), "2100000002 2100000002");
    for id in ["1", "2"] {
        assert_eq!(owner(lab, &format!("runtime/{id}")), "700 root:root");
        assert_eq!(owner(lab, &format!("runtime/{id}/work")), "700 root:root");
        assert_eq!(
            owner(lab, &format!("runtime/{id}/upper")),
            format!("755 left4me_{id}:left4me_{id}")
        );

        let config = format!("instances/{id}/layer/left4dead2/cfg/server.cfg");
        assert_eq!(owner(lab, &config), format!("640 left4me:left4me_{id}"));

        let password = format!("instances/{id}/layer/left4dead2/cfg/left4me_rcon.cfg");
        assert_eq!(owner(lab, &password), format!("640 left4me:left4me_{id}"));
        assert_eq!(
            owner(lab, &format!("instances/{id}/rcon_password")),
            "640 left4me:left4me"
        );
        for user in ["left4me_1", "left4me_2", "left4me-steam", "nobody"] {
            let read = format!("cat {DATA}/instances/{id}/rcon_password");
            let refused = lab.run_as(user, &["bash", "-c", &read]);
            assert!(
                refused.code != 0 && refused.stdout.is_empty(),
                "{user}\n{refused}"
            );
        }
    }

    let files = format!(
        "cat left4dead2/cfg/server.cfg >/dev/null && echo fair
         for path in {DATA}/runtime/2 {DATA}/instances/2 {DATA}/db /run/left4me-servers/2.env \
         /run/left4me; do
           ls $path >/dev/null 2>&1 && echo $path GOT THROUGH; cat $path* >/dev/null 2>&1 && echo \
           $path GOT THROUGH
         done; echo done"
    );

    assert_eq!(inside(lab, "1", &files), "fair\ndone");

    // Each mount that a sandbox copies has a cost at its start: of the servers' it has its own.
    let mounts = "grep -o ' left4me-[0-9]*:' /proc/self/mountinfo; ls -d /srv /opt /var/log 2>/dev/null; echo done";
    assert_eq!(inside(lab, "1", mounts), " left4me-1:\ndone");
    assert_eq!(inside(lab, "2", mounts), " left4me-2:\ndone");
}

fn a_plugin_reaches_no_process_of_another_server(lab: &Lab) {
    let pid = lab.main_pid(2);
    let before = lab.sh(&format!(
        "prlimit --pid {pid} --noheadings; taskset -p {pid}; ps -o ni= -p {pid}"
    ));
    let script = format!(
        r#"P={pid}; through() {{ echo "$1 GOT THROUGH"; }}
        kill -0 $$ && head -c 1 /proc/$PPID/environ >/dev/null && echo fair
        for signal in 0 CONT USR1 INT TERM KILL; do kill -$signal $P 2>/dev/null && through kill-$signal; done
        prlimit --pid $P --nofile=10 2>/dev/null && through prlimit
        prlimit --pid $P --nofile >/dev/null 2>&1 && through prlimit-get
        taskset -p 1 $P >/dev/null 2>&1 && through affinity
        renice -n 19 -p $P >/dev/null 2>&1 && through renice
        ionice -c 3 -p $P 2>/dev/null && through ionice
        chrt --batch -p 0 $P >/dev/null 2>&1 && through scheduler
        [ -e /proc/$P ] && through visible; ls /proc/$P >/dev/null 2>&1 && through listed
        for f in cmdline environ maps mem status stat cgroup mountinfo io limits root/etc/passwd cwd/left4dead2/cfg/server.cfg exe; do
          head -c 1 /proc/$P/$f >/dev/null 2>&1 && through proc-$f
        done
        ls /proc/$P/fd >/dev/null 2>&1 && through fd; (echo 500 >/proc/$P/oom_score_adj) 2>/dev/null && through oom
        perl -e '
            my ($p, $b) = (0 + $ARGV[0], "\0" x 4096);
            my %calls = (ptrace => [101, 16, $p, 0, 0], process_vm_readv => [310, $p, pack("P16Q", $b, 16), 1, pack("QQ", 4096, 16), 1, 0], kcmp => [312, $p, $$, 0, 0, 0],
                pidfd => [434, $p, 0], migrate => [256, $p, 64, $b, $b], move => [279, $p, 0, 0, 0, 0, 0],
                perf => [298, $b, $p, -1, -1, 0], tgkill => [234, $p, $p, 18], sigqueue => [129, $p, 10, $b]);
            for my $name (sort keys %calls) {{ my @c = @{{$calls{{$name}}}}; my $r = syscall(shift @c, @c);
                next if $name eq "pidfd" && $r >= 0 && syscall(438, $r, 0, 0) < 0 && syscall(424, $r, 10, 0, 0) < 0;
                print "$name GOT THROUGH\n" if $r >= 0 || $! == 14; }}' $P
        echo done"#
    );

    assert_eq!(inside(lab, "1", &script), "fair\ndone");
    let after = lab.sh(&format!(
        "prlimit --pid {pid} --noheadings; taskset -p {pid}; ps -o ni= -p {pid}"
    ));
    assert_eq!(
        (lab.main_pid(2), after),
        (pid, before),
        "nothing of server 2 changed"
    );
}

fn shared_memory_is_each_servers_own_and_bounded(lab: &Lab) {
    assert_eq!(
        inside(
            lab,
            "2",
            "umask 0; echo secret >/dev/shm/open; mkdir /dev/shm/dir; echo done"
        ),
        "done"
    );

    let script = "ls -A /dev/shm; cat /dev/shm/open 2>&1; head -c 300M /dev/zero >/dev/shm/big; \
                 stat -c %s /dev/shm/big; rm /dev/shm/big; \
                  cp /bin/true /dev/shm/x; /dev/shm/x; echo $?";
    let said = inside(lab, "1", script);
    assert!(
        !said.contains("secret") && !said.lines().any(|line| line == "dir"),
        "{said}"
    );

    let size: u64 = said
        .lines()
        .find_map(|line| line.parse().ok())
        .expect("a size");
    assert!(size <= 128 << 20, "{said}");
    assert!(
        said.lines().any(|line| line == "126"),
        "a program there is not executed: {said}"
    );

    assert_eq!(lab.sh("ls -A /dev/shm"), "", "this host's own");
    lab.job(&["restart", "--server", "1"]);
    assert_eq!(
        inside(lab, "1", "ls -A /dev/shm; echo done"),
        "done",
        "gone with the server"
    );
}

fn a_plugin_that_kills_all_it_can_ends_its_own_server_only(lab: &Lab) {
    let (one, two) = (lab.main_pid(1), lab.main_pid(2));
    put(lab, "1", "kill -9 -1");
    wait_until("server 1 is started again by systemd", s(30), || {
        let now = lab.main_pid(1);
        now != "0" && now != one && lab.unit("left4me-server@1.service", "SubState") == "running"
    });

    assert_eq!(lab.main_pid(2), two, "server 2 goes on");
    lab.answers("two");
    lab.answers("one");
}

fn a_purge_of_another_server_goes_on_whatever_is_killed(lab: &Lab) {
    lab.sh(&format!(
        "cd {DATA}/runtime/2/merged; mkdir junk; cd junk; for d in $(seq 200); do mkdir $d; (cd \
        $d; touch $(seq 100)); done
         chown -R left4me_2:left4me_2 ."
    ));

    lab.job(&["stop", "--server", "2"]);
    put(
        lab,
        "1",
        ": >left4dead2/begun; while [ ! -e left4dead2/enough ]; do for p in $(seq 2 4000); do [ $p \
        = $$ ] || [ $p = $PPID ] || kill -9 $p; done; done 2>/dev/null",
    );

    wait_until("the attack has begun", s(20), || {
        lab.is(&format!("test -e {}/begun", game("1")))
    });
    let job = lab.job(&["reset", "--server", "2"]);
    assert!(
        lab.is(&format!("! test -e {}/standin.run.out", game("1"))),
        "the attack goes on until now"
    );

    lab.sh(&format!("touch {}/enough", game("1")));
    assert_eq!(job.state, "succeeded", "{}", job.error);
    assert_eq!(
        lab.sh(&format!("find {DATA}/runtime/2/upper -type f | wc -l")),
        "0"
    );

    lab.job(&["start", "--server", "2"]);
}

/// Names that the purge of the previous version moved deep directories to.
fn the_game_cannot_hold_up_its_own_purge(lab: &Lab) {
    let script = "cd left4dead2; for i in $(seq 300); \
                  do mkdir -p .left4me-purge-$i/full; done; \
                  mkdir -p $(printf 'd/%.0s' $(seq 900)) odd/x; \
                  touch \"$(printf 'odd/\\377\\n')\" $(seq 500); \
                  (umask 0777; mkdir shut); echo done";
    assert_eq!(inside(lab, "2", script), "done");
    let upper = format!("{DATA}/runtime/2/upper");
    lab.sh(&format!(
        "cp -a {upper}/left4dead2/.left4me-purge-* {upper}/"
    ));
    let begun = Instant::now();
    lab.job(&["reset", "--server", "2"]);
    assert!(begun.elapsed() < s(20), "{:?}", begun.elapsed());
    assert_eq!(
        lab.sh(&format!(
            "find {DATA}/runtime/2/upper -name '*purge*' -o -name '[0-9]*'"
        )),
        ""
    );

    lab.answers("two");
}

fn local_users_and_closed_directories(lab: &Lab) {
    lab.sh(&format!(
        "useradd --groups left4me member; useradd stranger; cd {DATA}/overlays; umask 022
         mkdir -p other demo/open demo/private; echo linked >other/file; echo secret \
         >demo/private/passwords; chmod 700 demo/private
         chown -R left4me:left4me other demo; ln -sfn {DATA}/overlays/other/file demo/open/link
         mkdir -p {DATA}/workshop_cache/7; echo cached >{DATA}/workshop_cache/7/x.vpk; ln -sfn \
         {DATA}/workshop_cache/7/x.vpk demo/open/x.vpk"
    ));

    lab.job(&["restart", "--server", "1"]);
    let script = format!(
        "cat open/link open/x.vpk; for f in private private/passwords \
        {DATA}/overlays/demo/private/passwords; do
         cat $f >/dev/null 2>&1 && echo GOT THROUGH; ls $f >/dev/null 2>&1 && echo GOT THROUGH; \
         done; ls {DATA}/overlays 2>/dev/null; echo done"
    );

    assert_eq!(inside(lab, "1", &script), "linked\ncached\ndone");
    for user in ["stranger", "left4me-steam", "left4me_2"] {
        for path in [
            "overlays",
            "overlays/demo",
            "overlays/other/file",
            "runtime/1/upper",
            "instances/1/layer",
        ] {
            let seen = lab.run_as(
                user,
                &[
                    "sh",
                    "-c",
                    &format!("ls {DATA}/{path} || cat {DATA}/{path}"),
                ],
            );

            assert_ne!(seen.code, 0, "{user}\n{seen}");
        }
    }

    lab.run_as(
        "member",
        &[
            "sh",
            "-c",
            &format!("touch {DATA}/overlays/mine && ls {DATA}/overlays/demo"),
        ],
    )
    .ends_with(0);

    lab.run_as(
        "left4me-steam",
        &["sh", "-c", &format!("cd {DATA}/steam && touch x && rm x")],
    )
    .ends_with(0);
}

fn a_reboot_changes_no_user(lab: &Lab) {
    lab.reboot();
    wait_until("both are active after the reboot", s(60), || {
        ["1", "2"]
            .iter()
            .all(|id| lab.unit(&format!("left4me-server@{id}.service"), "ActiveState") == "active")
    });

    assert_eq!(user_of(lab, "1"), "2100000001 2100000001");
    assert_eq!(user_of(lab, "2"), "2100000002 2100000002");
    lab.answers("two");
}

pub fn systemd_reads_nothing_that_a_service_could_exchange(lab: &Lab) {
    lab.describe(&["one"]);
    lab.job(&["install"]);
    lab.job(&["start", "--server", "1"]);
    lab.job(&["stop", "--server", "1"]);
    what_is_put_in_the_place_of_instance_env_is_refused(lab);
    starts_by_hand_have_the_same_user(lab);
    an_instance_of_l4d2ctl_has_a_user_too(lab);
    a_server_goes_through_an_upgrade(lab);
}

fn what_is_put_in_the_place_of_instance_env_is_refused(lab: &Lab) {
    let file = format!("{DATA}/instances/1/instance.env");
    lab.sh("echo 'SECRET=hunter2' >/root/secret.env; chmod 600 /root/secret.env");
    let kept = lab.ok(&["cat", &file]);
    for (put, words) in [
        (format!("mkfifo {file}"), "not a regular file"),
        (format!("ln -s /root/secret.env {file}"), "symbolic link"),
        (format!("ln -s /etc/shadow {file}"), "symbolic link"),
        (format!("mkdir {file}"), "not a regular file"),
        (format!("head -c 1M /dev/zero >{file}"), "longer than"),
        (
            format!("echo x >{file}.2; ln {file}.2 {file}; rm -f {file}.3; mv {file}.2 {file}.3"),
            "second name",
        ),
        (
            format!("install -o left4me-steam -m 644 /dev/null {file}"),
            "belongs to user id",
        ),
        (
            format!("printf 'LD_PRELOAD=/tmp/x.so\\n' >{file}"),
            "no L4D2_PORT",
        ),
    ] {
        // Root plants what left4me cannot.
        let user = if put.contains("install") {
            "root"
        } else {
            "left4me"
        };

        lab.run_as(user, &["sh", "-c", &format!("rm -rf {file}; {put}")])
            .ends_with(0);
        let begun = Instant::now();
        let start = lab.run(&[
            "timeout",
            "30",
            "systemctl",
            "start",
            "left4me-server@1.service",
        ]);

        assert!(start.code != 0 && begun.elapsed() < s(15), "{put}\n{start}");
        let console = lab.ok(&[
            "journalctl",
            "--no-pager",
            "-o",
            "cat",
            "-n",
            "20",
            "-u",
            "left4me-overlay@1.service",
        ]);

        assert!(console.contains(words), "{put}: {console}");
        // Not of all units: one of the helper's may be gone before systemctl comes to it.
        lab.sh("systemctl reset-failed 'left4me-server@*' 'left4me-overlay@*'");
    }

    let journal = lab.ok(&["journalctl", "--no-pager", "-o", "cat"]);
    assert!(
        !journal.contains("hunter2") && !journal.contains("root:*"),
        "nothing of the link's target is told"
    );

    // As left4me would write a harmless-looking text: only the port and checked words arrive.
    let more = format!("LD_PRELOAD=/tmp/x.so\nHOME=/root\n{kept}\n");
    lab.sh(&format!("rm -rf {file} {file}.3"));
    lab.run_with("left4me", &["tee", &file], &more).ends_with(0);
    lab.ok(&["systemctl", "start", "left4me-server@1.service"]);
    lab.answers("one");
    let environment = lab.sh(&format!(
        "tr '\\0' '\\n' </proc/{}/environ",
        lab.main_pid(1)
    ));

    assert!(
        !environment.contains("LD_PRELOAD") && !environment.contains("LEFT4ME_"),
        "{environment}"
    );

    lab.job(&["stop", "--server", "1"]);
    assert_eq!(lab.sh("ls -A /run/left4me-servers"), "");
}

fn starts_by_hand_have_the_same_user(lab: &Lab) {
    lab.ok(&["systemctl", "start", "left4me-server@1.service"]);
    assert_eq!(user_of(lab, "1"), "2100000001 2100000001");
    lab.ok(&["systemctl", "enable", "left4me-server@1.service"]);
    lab.ok(&["systemctl", "disable", "left4me-server@1.service"]);
    let before = lab.main_pid(1);
    lab.sh(&format!("touch {}/standin.crash", game("1")));
    wait_until("the crashed game runs again", s(30), || {
        let now = lab.main_pid(1);
        now != "0" && now != before && lab.unit("left4me-server@1.service", "SubState") == "running"
    });

    assert_eq!(user_of(lab, "1"), "2100000001 2100000001");
    lab.ok(&["systemctl", "restart", "left4me-server@1.service"]);
    assert_eq!(user_of(lab, "1"), "2100000001 2100000001");
    lab.job(&["stop", "--server", "1"]);
}

fn an_instance_of_l4d2ctl_has_a_user_too(lab: &Lab) {
    let long = "a-name-of-more-than-twenty-three";
    lab.write(
        "/root/spec.yaml",
        "port: 27900\noverlays: [demo]\narguments: [+map, c1m1_hotel]\nconfig: []\n",
    );

    for name in ["steam", long] {
        lab.ok(&["l4d2ctl", "initialize", name, "-f", "/root/spec.yaml"]);
    }
    lab.ok(&["l4d2ctl", "start", "steam"]);
    let steam = lab.ok(&["id", "--user", "left4me-steam"]);
    let user = user_of(lab, "steam");
    assert!(
        user.starts_with("212") || user.starts_with("213"),
        "{user}, and left4me-steam is {steam}"
    );

    lab.ok(&["l4d2ctl", "stop", "steam"]);
    lab.ok(&["l4d2ctl", "start", long]);
    let other = user_of(lab, long);
    assert!(
        other != user && (other.starts_with("212") || other.starts_with("213")),
        "{other}"
    );

    lab.ok(&[
        "systemctl",
        "restart",
        &format!("left4me-server@{long}.service"),
    ]);

    for name in ["steam", long] {
        lab.ok(&["l4d2ctl", "delete", name]);
        assert!(
            lab.is(&format!(
                "! test -e {DATA}/runtime/{name} && ! test -e {DATA}/instances/{name}"
            )),
            "{name}"
        );
    }

    lab.sh("systemctl reset-failed 'left4me-*' || true");
}

/// The previous version's state, made by hand: a tree and a running game of left4me-game's.
fn a_server_goes_through_an_upgrade(lab: &Lab) {
    let units = "/run/systemd/system";
    lab.job(&["start", "--server", "1"]);
    lab.sh(&format!(
        "cd {}; echo score >kept; chown left4me_1: kept",
        game("1")
    ));

    lab.job(&["stop", "--server", "1"]);
    lab.sh(&format!(
        "rm -rf {DATA}/runtime/1/parts
         chown -hR left4me-game:left4me-game {DATA}/runtime/1; chmod 750 {DATA}/runtime/1
         chgrp -hR left4me-game {DATA}/instances/1; chmod 2750 {DATA}/instances/1
         for u in server overlay; do mkdir -p {units}/left4me-$u@1.service.d; done
         printf '[Service]\\nUser=left4me-game\\nGroup=left4me-game\\n' \
         >{units}/left4me-server@1.service.d/old.conf
         printf '[Service]\\nEnvironment=LEFT4ME_SERVER_USER=left4me-game\\n' \
         >{units}/left4me-overlay@1.service.d/old.conf
         systemctl enable left4me-server@1.service; systemctl daemon-reload; systemctl start \
         left4me-server@1.service"
    ));

    lab.answers("one");
    let game_user = lab.sh("echo $(id -u left4me-game) $(id -g left4me-game)");
    assert_eq!(user_of(lab, "1"), game_user, "the trial is fair");

    // What the package does. The previous version had none of these.
    lab.sh(&format!(
        "rm -r {units}/left4me-*@1.service.d /run/left4me-servers/1.env"
    ));
    let before = lab.main_pid(1);
    lab.sh("/usr/libexec/left4me/left4me-helper upgrade; systemctl daemon-reload");
    assert_eq!(lab.main_pid(1), before, "it goes on");
    assert_eq!(owner(lab, "runtime/1"), "700 root:root");
    assert_eq!(owner(lab, "instances/1"), "711 left4me:left4me");
    lab.sh(&format!("touch {}/standin.crash", game("1")));
    wait_until("a crash of it is answered", s(30), || {
        let now = lab.main_pid(1);
        now != "0" && now != before && lab.unit("left4me-server@1.service", "SubState") == "running"
    });

    assert_eq!(user_of(lab, "1"), game_user);
    lab.answers("one");

    lab.job(&["restart", "--server", "1"]);
    lab.answers("one");
    assert_eq!(user_of(lab, "1"), "2100000001 2100000001");
    assert_eq!(
        lab.sh(&format!("cat {0}/kept; stat -c %U {0}/kept", game("1"))),
        "score\nleft4me_1"
    );

    assert_eq!(
        lab.sh(&format!(
            "find {DATA}/runtime/1/upper -user left4me-game; ls {units}"
        )),
        ""
    );

    lab.job(&["reset", "--server", "1"]);
    assert!(lab.is(&format!("! test -e {}/kept", game("1"))));
}
