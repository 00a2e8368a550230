//! Content through the game's eyes: what overlays bring can be written in place, runs, and is told
//! when it cannot.
//!
//! Before, each of these ended as public reports of such servers have it: SourceMod's "attempt to
//! write a readonly database" on databases that an overlay brought, `writeid` that leaves
//! banned_user.cfg as it was, an overlay's server.cfg without any effect, a workshop link that
//! loads nothing and says nothing.

use std::time::Instant;

use crate::lab::{Lab, s, wait_for};

const DATA: &str = "/var/lib/left4me";

/// What a script prints that runs in the game's own sandbox.
pub fn inside(lab: &Lab, id: u32, script: &str) -> String {
    let run = format!("{DATA}/runtime/{id}/merged/left4dead2/standin.run");
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

    wait_for("a script inside of the game's sandbox", s(60), || {
        let output = lab.run(&["cat", &format!("{run}.out")]);
        if output.code == 0 {
            Ok(output.stdout)
        } else {
            Err(output.stderr)
        }
    })
}

/// Two servers of one blueprint over one overlay, whose files are left4me's, root's and a member's.
pub fn the_game_writes_what_it_writes_in_place(lab: &Lab) {
    // So that servers use the files that the story changes.
    lab.set("LEFT4ME_BUILDS=in-place");
    lab.describe(&["one", "two"]);
    lab.job(&["install"]);
    lab.sh(&format!(
        "useradd --groups left4me member; cd {DATA}/overlays/demo; umask 022
         mkdir -p left4dead2/addons/sourcemod/data/sqlite left4dead2/cfg left4dead2/secret; cd \
         left4dead2
         sqlite3 addons/sourcemod/data/sqlite/clientprefs.sq3 'create table t (x); insert into t \
         values (1)'
         echo 'banid 0 STEAM_1:1:1' >cfg/banned_user.cfg; echo member >cfg/member.cfg; echo \
         left4me >cfg/left4me.cfg
         echo ro >cfg/readonly.cfg; chmod 444 cfg/readonly.cfg; echo secret >cfg/private.cfg; \
         chmod 600 cfg/private.cfg
         echo secret >secret/file; chmod 700 secret; echo group >cfg/group.cfg; chmod 640 \
         cfg/group.cfg
         chown -R left4me:left4me . && chown member:left4me cfg/member.cfg cfg/private.cfg && \
         chown root: cfg/banned_user.cfg
         echo stock >{DATA}/installation/left4dead2/cfg/stock.cfg; chown left4me-steam: \
         {DATA}/installation/left4dead2/cfg/stock.cfg
         echo stock >{DATA}/installation/left4dead2/cfg/private.cfg; echo stock \
         >{DATA}/installation/left4dead2/cfg/group.cfg"
    ));

    let before = fingerprint(lab);
    for server in ["1", "2"] {
        lab.job(&["start", "--server", server]);
    }
    lab.answers("one");
    lab.answers("two");

    every_file_is_written_in_place(lab);
    what_is_private_stays_closed(lab);
    assert_eq!(
        fingerprint(lab),
        before,
        "the lower layers are as they were"
    );

    another_server_sees_nothing_of_it(lab);
    it_lasts_over_a_restart_and_ends_with_a_reset(lab);
    one_mount_stays_and_goes(lab);
    thirty_thousand_files_start_as_fast(lab);
    an_overlays_own_server_cfg_runs(lab);
    what_the_game_cannot_see_is_told(lab);
    assert_eq!(
        lab.sh("systemctl list-units --failed --plain --no-legend"),
        "",
        "failed units"
    );
}

/// Content, owners, modes and times of what all servers share.
fn fingerprint(lab: &Lab) -> String {
    lab.sh(&format!(
        "cd {DATA}; find overlays installation -printf '%p %u %g %m \
         %s %T@ %l\\n' | sort | sha256sum; find overlays installation \
         -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum"
    ))
}

fn every_file_is_written_in_place(lab: &Lab) {
    let script = "cd left4dead2
        sqlite3 addons/sourcemod/data/sqlite/clientprefs.sq3 'insert into t values (2); select \
        sum(x) from t'
        for f in banned_user member left4me readonly stock; do echo more >>cfg/$f.cfg && tail -n 1 \
        cfg/$f.cfg; done
        chmod 600 cfg/left4me.cfg && stat -c '%a %U' cfg/left4me.cfg
        touch -d 2020-01-01 cfg/member.cfg && date -r cfg/member.cfg +%Y
        mv cfg/stock.cfg cfg/stock.bak && cat cfg/stock.bak; ln cfg/member.cfg cfg/second && cat \
        cfg/second
        truncate -s 0 cfg/banned_user.cfg && stat -c %s cfg/banned_user.cfg; rm cfg/readonly.cfg; \
        ls cfg/readonly.cfg 2>/dev/null
        find .. -xdev -type f ! -writable 2>/dev/null | grep -v -e /private.cfg -e /group.cfg -e \
        cfg/server.cfg -e cfg/left4me_rcon.cfg; echo done";
    let wanted =
        "3\nmore\nmore\nmore\nmore\nmore\n600 left4me_1\n2020\nstock\nmore\nmember\nmore\n0\ndone";
    assert_eq!(inside(lab, 1, script), wanted);
}

fn what_is_private_stays_closed(lab: &Lab) {
    let script = format!(
        "cd left4dead2; for f in cfg/private.cfg cfg/group.cfg secret/file \
        {DATA}/overlays/demo/left4dead2/cfg/private.cfg; do
         cat $f 2>/dev/null && echo GOT THROUGH; (echo x >>$f) 2>/dev/null && echo GOT THROUGH; \
         done; ls secret 2>/dev/null
         find . -type f -perm /6000 2>/dev/null; echo done"
    );

    assert_eq!(inside(lab, 1, &script), "done");
}

fn another_server_sees_nothing_of_it(lab: &Lab) {
    let script = "cd left4dead2; sqlite3 addons/sourcemod/data/sqlite/clientprefs.sq3 'select \
                 sum(x) from t'
        cat cfg/banned_user.cfg cfg/readonly.cfg cfg/stock.cfg; echo mine >>cfg/member.cfg; stat \
        -c %U cfg/member.cfg";
    assert_eq!(
        inside(lab, 2, script),
        "1\nbanid 0 STEAM_1:1:1\nro\nstock\nleft4me_2"
    );
}

fn it_lasts_over_a_restart_and_ends_with_a_reset(lab: &Lab) {
    // An admin's change shows at the next start, in a file that the game has not written.
    lab.sh(&format!(
        "echo 'a much longer line than before' >{DATA}/overlays/demo/left4dead2/cfg/new.cfg"
    ));
    lab.job(&["restart", "--server", "1"]);
    let script = "cd left4dead2; sqlite3 addons/sourcemod/data/sqlite/clientprefs.sq3 'select \
                 sum(x) from t'
        cat cfg/stock.bak cfg/new.cfg; echo x >>cfg/new.cfg; cat cfg/readonly.cfg 2>/dev/null; \
        stat -c %s cfg/banned_user.cfg";
    assert_eq!(
        inside(lab, 1, script),
        "3\nstock\nmore\na much longer line than before\n0"
    );

    lab.job(&["reset", "--server", "1"]);
    let script = "cd left4dead2; sqlite3 addons/sourcemod/data/sqlite/clientprefs.sq3 'select \
                 sum(x) from t'; cat cfg/readonly.cfg";
    assert_eq!(inside(lab, 1, script), "1\nro");
}

/// Nothing but the merged tree stays mounted, also after a mount that was interrupted between two
/// steps.
fn one_mount_stays_and_goes(lab: &Lab) {
    let mounts = || {
        lab.sh(&format!(
            "grep -c ' {DATA}/runtime/1/' /proc/self/mountinfo || true"
        ))
    };

    assert_eq!(mounts(), "1");
    lab.job(&["stop", "--server", "1"]);
    assert_eq!(mounts(), "0");
    lab.sh(&format!(
        "mount -t tmpfs left4me-1 {DATA}/runtime/1/parts; \
         mount -t tmpfs left4me-1 {DATA}/runtime/1/parts"
    ));

    lab.job(&["start", "--server", "1"]);
    assert_eq!(mounts(), "1");
    lab.answers("one");
}

fn thirty_thousand_files_start_as_fast(lab: &Lab) {
    let restart = || {
        lab.job(&["stop", "--server", "1"]);
        let begun = Instant::now();
        lab.ok(&["/usr/libexec/left4me/left4me-helper", "mount", "1"]);
        let took = begun.elapsed();
        lab.ok(&["/usr/libexec/left4me/left4me-helper", "umount", "1"]);
        took
    };

    let few = restart();
    lab.sh(&format!(
        "cd {DATA}/overlays/demo/left4dead2; mkdir many; cd many; for d in $(seq 300); do mkdir \
        $d; (cd $d; touch $(seq 100)); done"
    ));

    let many = restart();
    println!("mounted in {few:?} with few files, in {many:?} with 30,000 more");
    assert!(many < few + s(6), "{few:?}, then {many:?}");
    lab.job(&["start", "--server", "1"]);
    assert_eq!(
        inside(
            lab,
            1,
            "echo x >>left4dead2/many/300/100; cat left4dead2/many/300/100"
        ),
        "x"
    );

    lab.sh(&format!("rm -r {DATA}/overlays/demo/left4dead2/many"));
}

/// Two overlays' own files and the blueprint's lines: the later one wins, and an empty blueprint
/// hides neither.
fn an_overlays_own_server_cfg_runs(lab: &Lab) {
    lab.sh(&format!(
        "cd {DATA}/overlays; install -d -o left4me -g left4me top/left4dead2/cfg
         printf 'hostname low\\r\\nsv_tags low\\r\\n' >demo/left4dead2/cfg/server.cfg; echo 'exec \
         more.cfg' >top/left4dead2/cfg/server.cfg
         echo 'hostname top // the later one' >top/left4dead2/cfg/more.cfg"
    ));

    lab.ok(&["left4me", "overlay", "add", "top"]);
    let edit = |more: &[&str]| {
        lab.ok(&[
            &["left4me", "blueprint", "edit", "versus", "--user", "admin"],
            more,
        ]
        .concat())
    };

    edit(&["--overlay", "top", "--overlay", "demo", "--no-config"]);
    lab.job(&["restart", "--server", "1"]);
    assert_eq!(lab.answers("one"), "top");
    edit(&["--config-file", "/root/server.cfg"]);
    lab.job(&["restart", "--server", "1"]);
    assert_eq!(lab.answers("one"), "first name");
    edit(&["--overlay", "demo", "--no-config"]);
    lab.job(&["restart", "--server", "1"]);
    assert_eq!(lab.answers("one"), "low");
}

/// In the log of the job that starts the server, with the path; it starts all the same.
fn what_the_game_cannot_see_is_told(lab: &Lab) {
    lab.sh(&format!(
        "cd {DATA}/overlays/demo; mkdir -p addons left4dead2/addons {DATA}/workshop_cache/9; echo \
        x >{DATA}/workshop_cache/9/x.vpk
         ln -s ../../../../workshop_cache/9/x.vpk left4dead2/addons/dead.vpk; test -e \
         left4dead2/addons/dead.vpk
         ln -s {DATA}/workshop_cache/9/x.vpk left4dead2/addons/sound.vpk"
    ));

    let job = lab.job(&["restart", "--server", "1"]);
    assert_eq!(
        inside(
            lab,
            1,
            "cat left4dead2/addons/dead.vpk 2>/dev/null || cat left4dead2/addons/sound.vpk"
        ),
        "x"
    );

    let doctor = lab.run(&["left4me", "doctor"]).stdout;
    for path in [
        "addons",
        "left4dead2/addons/dead.vpk",
        "left4dead2/cfg/private.cfg",
        "left4dead2/cfg/group.cfg",
        "left4dead2/secret",
    ] {
        let path = format!("{DATA}/overlays/demo/{path}: ");
        lab.logged(job.id, "stderr", &[&path]);
        assert!(doctor.contains(&path), "{path} is missing: {doctor}");
    }

    assert!(!doctor.contains("sound.vpk"), "{doctor}");
}
