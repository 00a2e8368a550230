//! From the group, or from a worker or web front that was taken over, to root: what root's own
//! commands open, an attacker has exchanged before. Each attack was tried on the package of before;
//! what it did there stands beside it.

use crate::lab::{Lab, Output, s, wait_until};
use crate::rows::DATABASE;

/// Who can write in db/: a person of the group, and the user of worker, poller and web.
const ATTACKERS: [&str; 2] = ["member", "left4me"];

/// A directory that belongs to an attacker.
const EVIL: &str = "/tmp/evil";

/// How often a race is run.
const TRIES: u32 = 25;

pub fn root_follows_nothing_that_a_member_or_a_service_can_exchange(lab: &Lab) {
    // In its sandbox the worker makes the database, when no one has before.
    wait_until("a fresh database", s(10), || {
        lab.is(&format!("test -s {DATABASE}"))
    });
    assert_eq!(
        lab.ok(&["stat", "--format", "%a %U:%G", DATABASE]),
        "660 left4me:left4me"
    );

    lab.describe(&["target"]);
    lab.sh("useradd --create-home --groups left4me member; useradd --create-home boss");
    lab.sh(
        "echo 'boss ALL = (ALL) NOPASSWD: ALL' >/etc/sudoers.d/boss; chmod 440 /etc/sudoers.d/boss",
    );
    lab.sh(&format!(
        "install -d -o member -m 755 {EVIL}; mkdir -p -m 700 /root/.ssh; \
         echo mine >/root/.ssh/authorized_keys"
    ));

    no_directory_of_the_data_can_be_exchanged(lab);
    root_works_as_left4me_and_is_still_called_root(lab);
    a_link_to_roots_own_database_is_refused_and_it_stays_as_it_is(lab);
    a_fifo_holds_no_program(lab);
    a_backup_overwrites_nothing_of_roots(lab);
    a_named_file_is_read_with_the_rights_of_left4me(lab);
    an_overlay_is_made_through_no_link(lab);
    the_doctor_changes_nothing_and_neither_does_its_advice_elsewhere(lab);
    surroundings_are_not_obeyed(lab);
    what_left4me_prunes_is_its_own(lab);
}

/// Before: 2771 left4me:left4me, and each of these moved. The owner of the directory that is
/// exchanged does not matter.
fn no_directory_of_the_data_can_be_exchanged(lab: &Lab) {
    for user in ATTACKERS {
        for name in [
            "db",
            "installation",
            "steam",
            "overlays",
            "instances",
            "runtime",
            "workshop_cache",
            "tmp",
            "backups",
        ] {
            let path = format!("/var/lib/left4me/{name}");
            denied(&lab.run_as(user, &["mv", "-T", &path, &format!("{path}.away")]));
            denied(&lab.run_as(user, &["rmdir", &path]));
        }

        for script in [
            "ln -s /etc /var/lib/left4me/new",
            "mkdir /var/lib/left4me/new",
            ": >/var/lib/left4me/left4me.db",
        ] {
            denied(&lab.run_as(user, &["bash", "-c", script]));
        }
    }
}

fn denied(output: &Output) {
    let why = ["Permission denied", "not permitted"];
    assert!(
        output.code != 0 && why.iter().any(|words| output.stderr.contains(words)),
        "{output}"
    );
}

/// Before: the process kept uid 0 and all its groups.
fn root_works_as_left4me_and_is_still_called_root(lab: &Lab) {
    let id = |what: &str| lab.ok(&["id", what, "left4me"]);
    let (uid, gid) = (id("-u"), id("-g"));
    let status = lab.sh("left4me-job events --follow >/dev/null & pid=$!; \
         for _ in {1..100}; do grep -q '^Uid:.0' /proc/$pid/status || break; sleep 0.05; done; \
         grep -E '^(Uid|Gid|Groups|CapPrm|CapEff):' /proc/$pid/status; kill $pid");
    let status: Vec<String> = status
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let all = |name: &str, id: &str| format!("{name}: {id} {id} {id} {id}");
    let none = "0000000000000000";
    let expected = [
        all("Uid", &uid),
        all("Gid", &gid),
        format!("Groups: {gid}"),
        format!("CapPrm: {none}"),
        format!("CapEff: {none}"),
    ];

    assert_eq!(status, expected, "of root's own left4me-job");

    lab.ok(&["left4me-job", "pause", "--reason", "by root"]);
    lab.run_as("boss", &["sudo", "left4me-job", "resume"])
        .ends_with(0);
    lab.run_as("boss", &["sudo", "left4me-job", "pause"])
        .ends_with(0);
    lab.run_as("member", &["left4me-job", "resume"])
        .ends_with(0);
    let events = lab.ok(&[
        "sqlite3",
        DATABASE,
        "SELECT actor FROM events WHERE kind LIKE 'queue.%' ORDER BY id",
    ]);

    assert_eq!(
        events.lines().collect::<Vec<_>>(),
        ["root", "boss", "boss", "member"],
        "who it was"
    );

    assert_eq!(
        lab.sh(&format!("find {DATABASE}* ! -user left4me")),
        "",
        "files of another user beside the database"
    );
}

/// Before: `doctor` migrated root's database; the others refused. As user left4me it may not even
/// read it.
fn a_link_to_roots_own_database_is_refused_and_it_stays_as_it_is(lab: &Lab) {
    const OTHERS: &str = "/root/other.db";
    lab.sh(&format!(
        "sqlite3 {OTHERS} 'CREATE TABLE mine (x); INSERT INTO mine
         VALUES (1)'; sha256sum {OTHERS} >/root/sum"
    ));

    for user in ATTACKERS {
        planted(lab, user, &format!("ln -s {OTHERS} {DATABASE}"), || {
            every_program_refuses(lab)
        });
    }

    for plant in [
        "ln -s /dev/zero",
        "mkdir",
        "install -m 660 /dev/null",
        "mkfifo",
    ] {
        planted(lab, "member", &format!("{plant} {DATABASE}"), || {
            every_program_refuses(lab)
        });
    }

    lab.ok(&["sha256sum", "--check", "/root/sum"]);
    assert!(lab.is(&format!(
        "! ls {OTHERS}-* /etc/shadow-wal /etc/shadow-journal 2>/dev/null | grep -q ."
    )));

    // The locks beside it, which worker and poller open. Before, a link was refused as well.
    for role in ["worker", "poller"] {
        let lock = format!("{DATABASE}-{role}.lock");
        lab.ok(&[
            "systemctl",
            "stop",
            "left4me-worker.service",
            "left4me-poller.timer",
        ]);

        lab.run_as(
            "member",
            &[
                "bash",
                "-c",
                &format!("rm -f {lock}; ln -s /root/.ssh/authorized_keys {lock}"),
            ],
        )
        .ends_with(0);

        let by_hand = lab.run(&[
            "timeout",
            "20",
            &format!("/usr/libexec/left4me/left4me-{role}"),
        ]);

        assert!(
            by_hand.code == 69 && by_hand.stderr.contains("a link"),
            "{by_hand}"
        );

        lab.ok(&["rm", &lock]);
    }

    lab.ok(&["systemctl", "start", "left4me-poller.timer"]);
    kept_keys(lab);
}

/// Before: a FIFO as the database's journal held all programs for good, and one in its own place
/// `doctor`.
fn a_fifo_holds_no_program(lab: &Lab) {
    for beside in ["-journal", "-wal", "-shm"] {
        let place = format!("{DATABASE}{beside}");
        lab.ok(&[
            "systemctl",
            "stop",
            "left4me-worker.service",
            "left4me-web.service",
            "left4me-poller.timer",
        ]);

        let plant = format!("test ! -e {place} || mv {place} {place}.kept; mkfifo {place}");
        lab.run_as("member", &["bash", "-euc", &plant]).ends_with(0);
        every_program_refuses(lab);
        lab.sh(&format!(
            "rm {place}; test ! -e {place}.kept || mv {place}.kept {place}"
        ));
    }

    lab.ok(&["systemctl", "start", "left4me-poller.timer"]);
    lab.ok(&["left4me", "server", "list"]);
}

/// Puts what `plant` makes in the database's place, and the database back afterwards.
fn planted(lab: &Lab, user: &str, plant: &str, attack: impl FnOnce()) {
    lab.ok(&[
        "systemctl",
        "stop",
        "left4me-worker.service",
        "left4me-web.service",
        "left4me-poller.timer",
    ]);

    lab.run_as(
        user,
        &[
            "bash",
            "-euc",
            &format!("mv -T {DATABASE} {DATABASE}.kept; {plant}"),
        ],
    )
    .ends_with(0);

    attack();
    lab.sh(&format!(
        "rm -df {DATABASE}; mv -T {DATABASE}.kept {DATABASE}"
    ));
}

/// One line and 69, at once, from whatever root or a service runs; the doctor says it as a finding.
fn every_program_refuses(lab: &Lab) {
    let said = lab.sh(
        "say() { code=0; out=$(LEFT4ME_LOG=error timeout 20 \"$@\" 2>&1 >/dev/null) || code=$?; \
        echo \"$code $out\"; }
         say left4me server list; say left4me migrate; say left4me backup; say left4me backup \
         /root/x.db
         say left4me-job list; say left4me-job enqueue install
         say /usr/libexec/left4me/left4me-worker; say /usr/libexec/left4me/left4me-poller
         say /usr/libexec/left4me/left4me-web --listen 127.0.0.1:8999",
    );

    assert_eq!(said.lines().count(), 9, "a line each\n{said}");
    for line in said.lines() {
        assert!(
            line.starts_with("69 ") && line.contains(DATABASE),
            "{line}\n{said}"
        );
    }

    let doctor = lab
        .run(&["timeout", "20", "left4me", "doctor"])
        .ends_with(1);
    assert!(
        doctor.stdout.contains("fail  database") && doctor.stdout.contains(DATABASE),
        "{doctor}"
    );

    assert_eq!(
        lab.sh("ls -A /root | grep -F x.db || true"),
        "",
        "a backup of nothing"
    );
}

/// Before: SQLite opened the part by its name, through the link that a racer had put there: at the
/// first try root's keys were a database that holds the attacker's line. A directory's link was
/// followed as well.
fn a_backup_overwrites_nothing_of_roots(lab: &Lab) {
    // What it is for still works: a place that only root can reach.
    lab.ok(&["left4me", "backup", "/root/saved.db"]);
    assert_eq!(
        lab.ok(&["stat", "--format", "%a %U:%G", "/root/saved.db"]),
        "640 root:root"
    );

    assert_eq!(
        lab.ok(&["sqlite3", "/root/saved.db", "PRAGMA integrity_check"]),
        "ok"
    );

    lab.run(&["left4me", "backup", "/root/saved.db"])
        .ends_with(4)
        .complains_of(&["/root/saved.db", "exists"]);
    lab.sh("test -z \"$(ls -A /root /var/lib/left4me/backups | grep part)\"");

    // A link in the file's place, and one on the way to it.
    lab.run_as(
        "member",
        &[
            "bash",
            "-euc",
            &format!("ln -s /root/.ssh/authorized_keys {EVIL}/x; ln -s /root/.ssh {EVIL}/dir"),
        ],
    );

    lab.run(&["left4me", "backup", &format!("{EVIL}/x")])
        .ends_with(4)
        .complains_of(&["exists"]);
    lab.run(&["left4me", "backup", &format!("{EVIL}/dir/y")])
        .ends_with(1)
        .complains_of(&["link", "real path"]);
    lab.run(&["left4me", "backup", &format!("{EVIL}/dir/../z")])
        .ends_with(1)
        .complains_of(&["link"]);
    kept_keys(lab);

    // A racer in a directory of its own puts a link, or its own file, in the place of whatever
    // comes.
    const RACER: &str = r#"
        chdir $ARGV[0] or die; open(my $f, ">", "own");
        while (1) { opendir(my $d, "."); for (grep { /\.part/ } readdir $d) {
            rand() < 0.5 ? symlink("/root/.ssh/authorized_keys", "trap") : link("own", "trap");
            rename("trap", $_); } }"#;
    lab.write("/usr/local/lib/racer.pl", RACER);
    lab.ok(&[
        "systemd-run",
        "--quiet",
        "--unit=racer",
        "--uid=member",
        "perl",
        "/usr/local/lib/racer.pl",
        EVIL,
    ]);

    for number in 0..TRIES {
        let file = format!("{EVIL}/race-{number}");
        let output = lab.run(&["left4me", "backup", &file]);
        assert!(output.code <= 1, "{output}");
        if output.code == 0 {
            assert_eq!(
                lab.ok(&["stat", "--format", "%U", &file]),
                "root",
                "what it named is its own"
            );
        }
    }

    assert_eq!(
        lab.unit("racer.service", "ActiveState"),
        "active",
        "the race was run"
    );

    lab.ok(&["systemctl", "stop", "racer.service"]);
    kept_keys(lab);
    assert_eq!(lab.ok(&["ls", "-A", "/root/.ssh"]), "authorized_keys");
}

#[track_caller]
fn kept_keys(lab: &Lab) {
    assert_eq!(lab.ok(&["cat", "/root/.ssh/authorized_keys"]), "mine");
}

/// Before: root read any file through a link, and the group read it in the database.
fn a_named_file_is_read_with_the_rights_of_left4me(lab: &Lab) {
    lab.sh("echo 'rcon_password secret' >/root/secret; chmod 600 /root/secret");
    let trap = format!("{EVIL}/server.cfg");
    lab.run_as("member", &["ln", "-s", "/root/secret", &trap])
        .ends_with(0);
    lab.run_as("member", &["ln", "-s", "/root", &format!("{EVIL}/home")])
        .ends_with(0);
    let edit = |file: &str| {
        lab.run(&[
            "left4me",
            "blueprint",
            "edit",
            "versus",
            "--config-file",
            file,
        ])
    };

    for file in [trap.as_str(), &format!("{EVIL}/home/secret")] {
        edit(file)
            .ends_with(77)
            .complains_of(&[file, "standard input"]);
    }

    let known = lab.ok(&["sqlite3", DATABASE, ".dump"]);
    assert!(
        !known.contains("secret"),
        "root's secret is in the database"
    );

    edit("/root/secret").ends_with(0);
}

/// Before: refused as well, by descriptor. As left4me, root could not follow one to any effect.
fn an_overlay_is_made_through_no_link(lab: &Lab) {
    lab.run_as(
        "member",
        &["ln", "-s", "/etc", "/var/lib/left4me/overlays/way"],
    )
    .ends_with(0);

    for reference in ["way/evil", "way"] {
        assert_ne!(
            lab.run(&["left4me", "overlay", "add", "trap", "--path", reference])
                .code,
            0,
            "{reference}"
        );
    }

    assert!(
        lab.is("! test -e /etc/evil"),
        "a directory of the attacker's choice"
    );

    lab.ok(&["rm", "/var/lib/left4me/overlays/way"]);
}

/// Before: it migrated what it looked at, and made files beside it; its `chown` of tmp/, for which
/// a member had put a link to /etc, gave /etc away; an orphan's name became a command.
fn the_doctor_changes_nothing_and_neither_does_its_advice_elsewhere(lab: &Lab) {
    // An older schema stays, and nothing is made beside a database that no program has open.
    lab.ok(&[
        "systemctl",
        "stop",
        "left4me-worker.service",
        "left4me-web.service",
        "left4me-poller.timer",
    ]);

    let schema = lab.ok(&["sqlite3", DATABASE, "PRAGMA user_version"]);
    lab.sh(&format!(
        "sqlite3 {DATABASE} 'PRAGMA wal_checkpoint(TRUNCATE); PRAGMA user_version = 3' >/dev/null"
    ));
    lab.sh(&format!("rm -f {DATABASE}-wal {DATABASE}-shm"));
    let content = || lab.sh("cd /var/lib/left4me/db; ls -l --time-style=full-iso; sha256sum *");
    let before = content();
    let doctor = lab.run(&["left4me", "doctor"]);
    assert!(doctor.stdout.contains("3, this program knows"), "{doctor}");
    assert_eq!(content(), before, "the doctor only reads");
    lab.ok(&[
        "sqlite3",
        DATABASE,
        &format!("PRAGMA user_version = {schema}"),
    ]);

    // What an attacker prepares for the root who pastes the advice.
    lab.ok(&["left4me", "migrate"]);
    let orphan = "INSERT INTO orphans (instance, enabled, state, since)
                  VALUES ('x; touch /root/pwned', 0, 'running', 1)";
    lab.run_as("member", &["sqlite3", DATABASE, orphan])
        .ends_with(0);
    for script in [
        &*format!("chmod 600 {DATABASE}"),
        "cd /var/lib/left4me/instances; ln -s /etc a; touch 'b; touch pwned'",
        "cd /var/lib/left4me/tmp; ln -s /etc/shadow x",
        "chmod 700 /var/lib/left4me/tmp",
    ] {
        lab.run_as("left4me", &["bash", "-euc", script])
            .ends_with(0);
    }

    lab.sh("cd /var/lib/left4me/instances; chown -h root 'b; touch pwned' a");
    let witness =
        || lab.sh("stat --format '%n %a %U:%G' /etc /etc/shadow /etc/passwd /root /usr /var/lib");
    let before = witness();
    let advice =
        lab.sh("left4me doctor | sed -n 's/^ *-> as root: //p' | grep -vE 'apt-get|^dpkg'");
    assert!(
        advice.contains("systemd-tmpfiles") && advice.contains("chown -hR"),
        "{advice}"
    );

    assert!(
        advice.contains("disable 'x; touch /root/pwned'"),
        "{advice}"
    );

    lab.write("/root/advice.sh", &advice);
    lab.run(&["bash", "-c", "cd /root; bash advice.sh"]);
    assert_eq!(
        witness(),
        before,
        "owners and modes outside of left4me's data"
    );

    assert!(lab.is("! test -e /root/pwned"), "a name became a command");
    assert_eq!(
        lab.ok(&["stat", "--format", "%a %U", DATABASE]),
        "660 left4me",
        "the advice mends what it is for"
    );

    lab.sh("rm -f /var/lib/left4me/instances/[ab]* /var/lib/left4me/tmp/x");
    lab.ok(&["sqlite3", DATABASE, "DELETE FROM orphans"]);
    lab.ok(&["systemctl", "start", "left4me-poller.timer"]);
}

/// Before: refused as well: programs are started by their whole path, and sudo takes the
/// environment away.
fn surroundings_are_not_obeyed(lab: &Lab) {
    let trap = format!("#!/bin/sh\ntouch {EVIL}/obeyed-$(id -u)\n");
    for name in ["systemctl", "journalctl", "sh", "less", "vi"] {
        lab.run_with(
            "member",
            &[
                "bash",
                "-euc",
                &format!("cat >{EVIL}/{name}; chmod 755 {EVIL}/{name}"),
            ],
            &trap,
        )
        .ends_with(0);
    }

    let set = [
        format!("PATH={EVIL}:/usr/bin:/bin"),
        format!("LD_PRELOAD={EVIL}/x.so"),
        format!("LD_LIBRARY_PATH={EVIL}"),
        format!("EDITOR={EVIL}/vi"),
        format!("PAGER={EVIL}/less"),
        format!("HOME={EVIL}"),
        format!("SQLITE_TMPDIR={EVIL}"),
        format!("TERMINFO={EVIL}"),
        format!("LEFT4ME_ROOT={EVIL}"),
        format!("LEFT4ME_DB={EVIL}/x.db"),
    ];

    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    for (as_whom, argv) in [
        (&["sudo", "-n"][..], &["left4me-helper", "show", "1"][..]),
        (
            &["sudo", "-n", "-u", "left4me"],
            &["l4d2ctl", "status", "1"],
        ),
    ] {
        // The environment around sudo, which drops it; and handed to it, which it refuses.
        let output = lab.run_as(
            "member",
            &[&["env"], &set[..1], &set[2..], as_whom, argv].concat(),
        );

        // 3: the program ran, and there is no such instance.
        assert!([0, 3].contains(&output.code), "{output}");
        for one in &set {
            let output = lab.run_as("member", &[as_whom, &[*one], argv].concat());
            assert!(
                output.code != 0 && output.stderr.contains("sudo:"),
                "{output}"
            );
        }

        lab.run_as("member", &[as_whom, &["-E"], argv].concat())
            .ends_with(1);
    }

    // Root's own, carelessly set; without what would lead elsewhere by root's own will.
    for argv in [
        &["left4me", "doctor"][..],
        &["left4me-job", "list"],
        &["left4me", "server", "list"],
    ] {
        let output = lab.run(&[&["env"], &set[..1], &set[3..8], argv].concat());
        assert!(
            [0, 1].contains(&output.code)
                && !(output.stdout.is_empty() && output.stderr.is_empty()),
            "{output}"
        );
    }

    assert_eq!(
        lab.sh(&format!("find {EVIL} -name 'obeyed*'")),
        "",
        "something of the attacker's ran"
    );
}

/// Who takes a service over owns backups/; pruning there removes files of its own only.
fn what_left4me_prunes_is_its_own(lab: &Lab) {
    const PLANT: &str = "cd /var/lib/left4me/backups; mkdir left4me-20010101-000000.db; \
                         ln -s /etc/passwd left4me-20010102-000000.db; \
                         ln -s /etc left4me-20010103-000000.db";
    lab.run_as("left4me", &["bash", "-euc", PLANT]).ends_with(0);
    for _ in 0..3 {
        lab.ok(&["left4me", "backup", "--keep", "1"]);
    }
    assert!(lab.is("test -f /etc/passwd && test -d /etc"));
    assert_eq!(
        lab.sh("find /var/lib/left4me/backups -type f | wc -l"),
        "1",
        "backups"
    );

    assert_eq!(
        lab.sh("find /var/lib/left4me/backups -type f ! -user left4me"),
        "",
        "root's backup is left4me's"
    );
}

/// The data of an older version, while its programs run: a worker with a job, and a person who
/// follows it.
pub fn an_older_versions_database_moves_while_it_is_in_use(lab: &Lab) {
    lab.describe(&["target"]);
    lab.sh("useradd --create-home --groups left4me member");
    lab.steamcmd("seconds=2");
    let install = lab.enqueue(&["install"]);
    lab.sh(&format!(
        "left4me-job logs {install} --follow >/root/followed 2>&1 & echo $! >/run/follower"
    ));
    let is_under_way =
        || lab.is("pgrep --full ^/var/lib/left4me/steam/steamcmd.sh && test -s /root/followed");
    wait_until("the job runs and is followed", s(20), is_under_way);
    let worker = lab.unit("left4me-worker.service", "MainPID");
    // However long the rest takes: it is under way.
    let steamcmd = |signal: &str| {
        lab.ok(&[
            "pkill",
            signal,
            "--full",
            "^/var/lib/left4me/steam/steamcmd.sh",
        ])
    };

    steamcmd("-STOP");
    assert_eq!(lab.show(install).state, "running");
    as_an_older_version_had_it(lab);

    // Nothing of this version takes the empty place for a new database.
    for argv in [
        &["left4me-job", "list"][..],
        &["left4me", "migrate"],
        &["/usr/libexec/left4me/left4me-poller"],
    ] {
        let output = lab.run(argv).ends_with(69);
        assert!(output.stderr.contains("left4me-helper upgrade"), "{output}");
    }

    assert!(
        lab.run(&["left4me", "doctor"])
            .stdout
            .contains("database of an older version")
    );

    reinstall(lab);
    assert_eq!(
        lab.unit("left4me-worker.service", "MainPID"),
        worker,
        "the worker goes on"
    );

    assert_eq!(
        lab.ok(&["stat", "--format", "%a %U:%G", "/var/lib/left4me"]),
        "751 root:left4me"
    );

    assert!(
        lab.is("! ls /var/lib/left4me/left4me.db* 2>/dev/null"),
        "all of it moved"
    );

    assert_eq!(lab.show(install).state, "running", "the job goes on");
    steamcmd("-CONT");
    assert_eq!(lab.ended(install, 60).state, "succeeded");
    assert_eq!(
        lab.run(&["/usr/libexec/left4me/left4me-worker"]).code,
        4,
        "there is one worker, and it has the lock"
    );

    wait_until("the person's command ends", s(10), || {
        lab.is("! kill -0 $(cat /run/follower)")
    });
    let (followed, log) = (lab.ok(&["cat", "/root/followed"]), lab.log(install));
    assert_eq!(
        followed.lines().count(),
        log.len(),
        "the person saw every line"
    );

    // Its last connection, by the old path, takes nothing away.
    lab.ok(&["systemctl", "stop", "left4me-worker.service"]);
    whole(lab);
    lab.job(&["initialize", "--server", "target"]);
    whole(lab);

    // Once more with nothing under way; and again, when all is done.
    lab.ok(&["systemctl", "stop", "left4me-worker.service"]);
    let jobs = lab.job_count();
    as_an_older_version_had_it(lab);
    reinstall(lab);
    lab.ok(&["/usr/libexec/left4me/left4me-helper", "upgrade"]);
    assert_eq!(lab.job_count(), jobs, "jobs after the second move");
    lab.job(&["initialize", "--server", "target"]);
    whole(lab);

    // Never over another one, never through a link; and a database that is elsewhere stays there.
    let upgrade = || lab.run(&["/usr/libexec/left4me/left4me-helper", "upgrade"]);
    lab.sh("cp -a /var/lib/left4me/db/left4me.db /var/lib/left4me/left4me.db");
    upgrade()
        .ends_with(4)
        .complains_of(&["both there", "nothing was moved"]);
    assert!(
        lab.run(&["left4me", "doctor"])
            .stdout
            .contains("database of an older version")
    );

    lab.sh("ln -sf /root/secret /var/lib/left4me/left4me.db");
    upgrade().ends_with(4).complains_of(&["not a regular file"]);
    lab.run(&[
        "env",
        "LEFT4ME_DB=/srv/own.db",
        "/usr/libexec/left4me/left4me-helper",
        "upgrade",
    ])
    .ends_with(0);

    lab.sh("rm /var/lib/left4me/left4me.db");
    whole(lab);
}

fn as_an_older_version_had_it(lab: &Lab) {
    lab.sh(
        "cd /var/lib/left4me; for name in -poller.lock -worker.lock -wal -shm ''; do \
         test ! -e db/left4me.db$name || mv db/left4me.db$name left4me.db$name; done; rmdir db; \
         chown left4me:left4me .; chmod 2771 .",
    );
}

fn reinstall(lab: &Lab) {
    lab.sh("DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet install --reinstall /root/*.deb");
}

fn whole(lab: &Lab) {
    assert_eq!(
        lab.ok(&["sqlite3", DATABASE, "PRAGMA integrity_check"]),
        "ok"
    );
}
