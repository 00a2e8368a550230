//! A disk that is full: told before the download where that can be known, and whenever it is, no
//! server notices.

use crate::builds::SERVERS;
use crate::lab::Lab;
use crate::site::STEAM;

/// MiB of the file system of left4me's data.
const DISK: u32 = 320;
/// MiB of the game.
const SIZE: u32 = 64;

pub fn a_full_disk_changes_nothing(lab: &Lab) {
    data_have_a_small_disk(lab);
    lab.twenty_on_build_100(SIZE);
    it_is_told_before_the_download(lab);
    a_disk_without_room_for_the_copy_changes_nothing(lab);
}

/// Before anything runs on it.
fn data_have_a_small_disk(lab: &Lab) {
    lab.sh(&format!(
        "systemctl stop left4me.target 'left4me-*.socket' 'left4me-*.timer' 'left4me-*.service'
         cp -a /var/lib/left4me /root/data
         mount -t tmpfs -o size={DISK}M left4me-data /var/lib/left4me
         cp -a /root/data/. /var/lib/left4me/
         chown --reference=/root/data /var/lib/left4me && chmod --reference=/root/data /var/lib/left4me
         systemctl start left4me.target left4me-{{worker,helper,runner,publisher,web,console,alerts,notify,schedules}}.socket \
             left4me-poller.timer"
    ));
}

/// Leaves so many MiB.
fn leave(lab: &Lab, free: u32) {
    lab.sh(&format!(
        "free=$(df --output=avail --block-size=1M /var/lib/left4me | tail -n 1)
         fallocate --length $((free - {free}))M /var/lib/left4me/tmp/full"
    ));
}

fn it_is_told_before_the_download(lab: &Lab) {
    leave(lab, 4);
    let (before, probe) = (lab.game_pids(), lab.probe(SERVERS));
    // Steam says that the build is larger.
    let size = u64::from(SIZE + 20) << 20;
    lab.steamcmd(&format!("buildid=101 files={SIZE} size={size} record=1"));
    lab.failing_job(&["update"], &["nothing was downloaded", "free"]);
    let printed = lab.sh(&format!("cat {STEAM}/standin-printed.log"));
    assert!(
        !printed.contains("downloading"),
        "told after the download: {printed}"
    );
    nothing_has_changed(lab, &before);

    // What it does not say shows only while steamcmd writes.
    let more = SIZE + 64;
    lab.steamcmd(&format!("buildid=101 files={more} size=1000"));
    lab.failing_job(&["update"], &["free space"]);
    nothing_has_changed(lab, &before);
    probe.stop().no_query_was_missed("on a full disk");
    lab.sh("rm /var/lib/left4me/tmp/full");
}

/// The download fits, and the copy does not.
fn a_disk_without_room_for_the_copy_changes_nothing(lab: &Lab) {
    let (before, probe) = (lab.game_pids(), lab.probe(SERVERS));
    let more = SIZE * 2;
    leave(lab, more + SIZE / 4);
    lab.steamcmd(&format!("buildid=101 files={more} size=1000"));
    lab.failing_job(&["update"], &["build 101", "nothing was copied"]);
    nothing_has_changed(lab, &before);
    probe
        .stop()
        .no_query_was_missed("without room for the copy");

    lab.sh("rm /var/lib/left4me/tmp/full");
    lab.steamcmd(&format!("buildid=101 files={SIZE}"));
    lab.job(&["update", "--rolling", "10"]);
    lab.all_answer_with(SERVERS, 101);
}

fn nothing_has_changed(lab: &Lab, pids: &[String]) {
    assert_eq!(lab.current_build(), 100);
    assert_eq!(lab.builds(), ["100"]);
    assert_eq!(lab.game_pids(), pids);
    for id in 1..=SERVERS {
        lab.runs(id, &format!("s{id}"));
    }
}
