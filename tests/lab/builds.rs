//! An update beside twenty servers that people play on: what they notice of it.

use std::time::Duration;

use crate::lab::{Lab, Suite, s, wait_for, wait_until};
use crate::probe::version;
use crate::rows::game;
use crate::site::STEAM;

pub const SERVERS: u32 = 20;

/// So long their games load a map at each start, in ms.
const MAP_LOAD: u32 = 1500;

const BUILDS: &str = "/var/lib/left4me/builds";

pub fn an_update_is_not_noticed_until_a_server_restarts(lab: &Lab) {
    lab.twenty_on_build_100(32);
    nothing_new_is_over_at_once(lab);
    a_download_is_not_noticed_and_a_roll_goes_in_order(lab);
    whoever_plays_stays_on_the_build_until_the_end(lab);
    without_restarts_each_takes_it_at_its_next_start(lab);
    old_builds_are_removed(lab);
}

/// The setting up.
impl Lab {
    /// Twenty servers that run on build 100, with so many MiB of game files.
    #[track_caller]
    pub fn twenty_on_build_100(&self, size: u32) {
        self.set("LEFT4ME_STEAM_RETRY_SECONDS=0");
        self.steamcmd(&format!("buildid=100 files={size}"));
        let names: Vec<String> = (1..=SERVERS).map(|id| format!("s{id}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // The probe asks more often than a game answers by default.
        let config =
            "hostname \"first name\"\nsv_max_queries_sec 1000\nsv_max_queries_sec_global 1000\n";
        self.describe_with(config, &names);
        self.job(&["install"]);
        self.job(&["start", "--all"]);
        self.all_answer_with(SERVERS, 100);
    }

    /// The current build.
    #[track_caller]
    pub fn current_build(&self) -> u64 {
        let target = self.sh(&format!("readlink {BUILDS}/current"));
        target.parse().expect("a build")
    }

    /// What else is in builds/.
    #[track_caller]
    pub fn builds(&self) -> Vec<String> {
        let found = self.sh(&format!("ls -A {BUILDS}"));
        let found = found.lines().filter(|name| *name != "current");
        found.map(str::to_owned).collect()
    }

    /// The process of each server's game.
    #[track_caller]
    pub fn game_pids(&self) -> Vec<String> {
        let pids = self.sh(&format!(
            "for i in {{1..{SERVERS}}}; do systemctl show -P MainPID left4me-server@$i.service; done"
        ));
        pids.lines().map(str::to_owned).collect()
    }

    /// How the job ended, as `left4me-job show` has it.
    #[track_caller]
    pub fn result_of(&self, job: i64) -> String {
        let shown = self.json(&["left4me-job", "show", &job.to_string(), "--json"]);
        shown["result"].as_str().unwrap_or_default().to_owned()
    }

    /// Writes a file that the game of a server obeys.
    #[track_caller]
    pub fn control(&self, id: u32, file: &str, text: &str) {
        let dir = game(id);
        let script = format!("cat >{dir}/.new; mv {dir}/.new {dir}/standin.{file}");
        self.run_with("root", &["bash", "-euc", &script], text)
            .ends_with(0);
    }

    /// Each game loads a map for so many ms at its next starts.
    #[track_caller]
    pub fn maps_load_for(&self, ms: u32) {
        self.sh(&format!(
            "for i in {{1..{SERVERS}}}; do
                 echo {ms} >/var/lib/left4me/runtime/$i/merged/left4dead2/standin.map-load-ms
             done"
        ));
    }
}

/// When a file was written last, or a link was made; Unix ms.
fn written(lab: &Lab, path: &str) -> i64 {
    let seconds: f64 = lab
        .sh(&format!("stat --format %.3Y {path}"))
        .parse()
        .expect("a time");
    (seconds * 1000.0) as i64
}

fn nothing_new_is_over_at_once(lab: &Lab) {
    let (before, probe) = (lab.game_pids(), lab.probe(SERVERS));
    for request in [&["check"][..], &["update"], &["update", "--rolling", "4"]] {
        lab.steamcmd("buildid=100 files=32 record=1");
        let job = lab.job(request);
        let result = lab.result_of(job.id);
        assert!(
            result.starts_with("build 100 is current"),
            "{request:?}: {result}"
        );

        // The last that steamcmd said, to the end of the job.
        let answered = written(lab, &format!("{STEAM}/standin-printed.log"));
        let shown = lab.json(&["left4me-job", "show", &job.id.to_string(), "--json"]);
        let finished = shown["finished_at"].as_i64().expect("a time");
        assert!(
            finished - answered < 2000,
            "{request:?}: {} ms",
            finished - answered
        );
    }

    assert_eq!(lab.game_pids(), before, "no server was restarted");
    probe.stop().no_query_was_missed("while nothing was new");
}

fn a_download_is_not_noticed_and_a_roll_goes_in_order(lab: &Lab) {
    lab.maps_load_for(MAP_LOAD);
    let longest = a_plain_restart_takes(lab);

    // The whole minute on one Debian.
    let seconds = if lab.suite() == Suite::Bookworm {
        60
    } else {
        15
    };
    lab.steamcmd(&format!("buildid=101 files=32 seconds={seconds}"));
    let probe = lab.probe(SERVERS);
    let job = lab.enqueue(&["update", "--rolling", "4"]);
    let ended = lab.ended(job, 240);
    assert_eq!(ended.state, "succeeded", "{}", ended.error);
    let published = written(lab, &format!("{BUILDS}/current"));
    let seen = probe.stop();

    assert!(published - seen.begun > seconds * 1000, "{seen:?}");
    // A gap begins with the last answer before it: for the first servers, a question before the build was published.
    let published = published - 500;
    let early: Vec<_> = seen
        .gaps
        .iter()
        .filter(|gap| gap.from < published)
        .collect();
    let missed = early
        .iter()
        .filter(|gap| gap.length() > Duration::from_millis(500));
    assert_eq!(missed.count(), 0, "during the download: {early:?}");

    assert!(seen.most_at_once() <= 4, "{:?}", seen.gaps);
    let mut downs = Vec::new();
    for server in 1..=SERVERS {
        assert_eq!(
            seen.versions[&server],
            [version(100), version(101)],
            "{server}"
        );
        let gaps: Vec<_> = seen.gaps_of(server);
        let gaps: Vec<_> = gaps
            .into_iter()
            .filter(|gap| gap.from >= published)
            .collect();
        assert_eq!(
            gaps.len(),
            1,
            "server {server} was restarted once: {gaps:?}"
        );
        // Beside three others, and beside whatever else this machine does.
        let most = longest + longest / 2 + Duration::from_millis(500);
        assert!(gaps[0].length() <= most, "{longest:?}: {:?}", gaps[0]);
        downs.push(gaps[0].clone());
    }

    for (first, next) in downs.iter().zip(&downs[4..]) {
        // Its answer may have been seen a little later than left4me saw it.
        assert!(
            next.from >= first.to - 300,
            "{next:?} before {first:?} was over"
        );
    }
    seen.no_build_was_mixed();
    eprintln!(
        "{:?}: the longest restart took {longest:?}, in the roll {:?}",
        lab.suite(),
        downs.iter().map(crate::probe::Gap::length).max()
    );
}

/// The longest time without an answer when servers are restarted, four at a time.
fn a_plain_restart_takes(lab: &Lab) -> Duration {
    let probe = lab.probe(SERVERS);
    lab.job(&["restart", "--all", "--rolling", "4"]);
    // A job ends when its servers have stayed up.
    let seen = probe.stop();
    assert_eq!(seen.silent(), [0; 0]);
    seen.longest()
}

/// Servers 3 and 7 are played on, also after a reboot: on 3 the same people come again at once.
fn whoever_plays_stays_on_the_build_until_the_end(lab: &Lab) {
    let played = [3, 7];
    for id in played {
        lab.control(id, "join", "Anna\tSTEAM_1:0:11\nBob\tSTEAM_1:0:22\n");
    }
    lab.control(3, "players", "Anna\tSTEAM_1:0:11\n");
    for id in played {
        let name = format!("s{id}");
        wait_for("the players are known", s(30), || {
            lab.poll();
            let row = lab.server(&name);
            if row["players"] == 2 {
                Ok(())
            } else {
                Err(format!("{row:#}"))
            }
        });
    }

    lab.steamcmd("buildid=102 files=32");
    let probe = lab.probe(SERVERS);
    let job = lab.enqueue(&["update", "--when-empty"]);
    let ended = lab.ended(job, 120);
    assert_eq!(
        ended.state, "succeeded",
        "it does not wait: {}",
        ended.error
    );
    assert_eq!(lab.current_build(), 102);
    let others: Vec<u32> = (1..=SERVERS).filter(|id| !played.contains(id)).collect();
    wait_for("the others are on the new build", s(150), || {
        let seen = probe.read();
        let left: Vec<_> = others
            .iter()
            .filter(|id| seen.last(**id) != version(102))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
    let seen = probe.stop();
    for id in played {
        assert_eq!(seen.versions[&id], [version(101)], "server {id}");
        let gaps = seen.gaps_of(id);
        assert!(gaps.iter().all(|gap| gap.length() < s(1)), "{gaps:?}");
    }

    lab.reboot();
    let probe = lab.probe(SERVERS);
    wait_for("who has left is on the new build", s(150), || {
        let seen = probe.read();
        if seen.last(7) == version(102) {
            Ok(())
        } else {
            Err(seen.last(7))
        }
    });
    let seen = probe.read();
    assert_eq!(seen.last(3), version(101), "they play again");
    for id in others {
        assert_eq!(seen.last(id), version(102), "server {id}");
    }

    lab.sh("rm /var/lib/left4me/runtime/3/merged/left4dead2/standin.players");
    lab.control(3, "leave", "Anna\n");
    wait_for("the last is on the new build", s(150), || {
        let seen = probe.read();
        if seen.last(3) == version(102) {
            Ok(())
        } else {
            Err(seen.last(3))
        }
    });
    probe.stop().no_build_was_mixed();
}

fn without_restarts_each_takes_it_at_its_next_start(lab: &Lab) {
    lab.steamcmd("buildid=103 files=32");
    let (before, probe) = (lab.game_pids(), lab.probe(SERVERS));
    lab.job(&["update", "--no-restart"]);
    assert_eq!(lab.current_build(), 103);
    assert_eq!(lab.game_pids(), before);
    probe.stop().no_query_was_missed("without restarts");

    lab.job(&["restart", "--server", "5"]);
    let seen = lab.probe(SERVERS).stop();
    for server in 1..=SERVERS {
        let build = if server == 5 { 103 } else { 102 };
        assert_eq!(seen.last(server), version(build), "server {server}");
    }

    // The next update has nothing to download, and restarts the rest.
    lab.job(&["update"]);
    lab.all_answer_with(SERVERS, 103);
}

/// The newest two stay.
fn old_builds_are_removed(lab: &Lab) {
    wait_until("older builds are gone", s(30), || {
        lab.builds() == ["102", "103"]
    });
}
