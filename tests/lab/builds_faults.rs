//! A build that does not come up: the servers go back, and nobody has to be awake for it.

use crate::builds::SERVERS;
use crate::lab::{Lab, Suite, s, wait_for, wait_until};
use crate::probe::version;
use crate::site::STEAM;

pub fn a_build_that_does_not_come_up_is_left_again(lab: &Lab) {
    // The default is for large campaigns on slow disks.
    lab.set("LEFT4ME_ANSWER_SECONDS=30");
    lab.twenty_on_build_100(16);
    lab.ok(&[
        "left4me",
        "alert",
        "add",
        "ops",
        "--mail",
        "ops@example.org",
    ]);

    // Each Debian has its share of the ways to fail.
    let faults = match lab.suite() {
        Suite::Bookworm => ["crash-on-start", "hang"],
        Suite::Trixie => ["crash-after:1500", "crash-on-start@27000"],
    };
    for (build, fault) in (101..).zip(faults) {
        the_first_server_goes_back_and_the_roll_stops(lab, build, fault);
    }
    one_server_that_fails_is_no_reason_to_stop(lab);
    an_earlier_build_comes_back_without_a_download(lab);
}

fn told(lab: &Lab, words: &str) -> bool {
    let alerts = lab.sql(
        "SELECT e.kind || ' ' || e.detail FROM alert_outbox o JOIN events e ON e.id = o.event_id",
    );
    alerts.lines().any(|line| line.contains(words))
}

fn the_first_server_goes_back_and_the_roll_stops(lab: &Lab, build: u64, fault: &str) {
    let (before, probe) = (lab.game_pids(), lab.probe(SERVERS));
    lab.steamcmd(&format!("buildid={build} files=16 game={fault}"));
    let job = lab.enqueue(&["update", "--rolling", "1"]);
    let ended = lab.ended(job, 180);
    assert_eq!(ended.state, "failed", "{fault}");
    assert!(
        ended.error.contains(&build.to_string()),
        "{fault}: {}",
        ended.error
    );

    wait_for("server 1 is back on the build before", s(60), || {
        let seen = probe.read();
        if seen.last(1) == version(100) {
            Ok(())
        } else {
            Err(seen.last(1))
        }
    });
    wait_until("the build before is the current one", s(30), || {
        lab.current_build() == 100
    });
    let after = lab.game_pids();
    assert_ne!(after[0], before[0], "{fault}");
    assert_eq!(
        after[1..],
        before[1..],
        "{fault}: the others were not touched"
    );
    let seen = probe.stop();
    for server in 2..=SERVERS {
        assert_eq!(
            seen.versions[&server],
            [version(100)],
            "{fault}: server {server}"
        );
        let gaps = seen.gaps_of(server);
        assert!(
            gaps.iter().all(|gap| gap.length() < s(1)),
            "{fault}: {gaps:?}"
        );
    }
    for id in 1..=SERVERS {
        lab.runs(id, &format!("s{id}"));
    }

    let rejected = format!("build {build}");
    let doctor = lab.run(&["left4me", "doctor"]).stdout;
    assert!(
        doctor
            .lines()
            .any(|line| line.contains(&rejected) && line.contains("rejected")),
        "{fault}: {doctor}"
    );
    let list = lab.ok(&["left4me", "build", "list"]);
    assert!(
        list.lines()
            .any(|line| line.contains(&build.to_string()) && line.contains("rejected")),
        "{fault}: {list}"
    );
    wait_until("an alert tells of the server", s(20), || {
        told(lab, "server.went_back")
    });
    wait_until("an alert tells of the build", s(20), || {
        told(lab, &rejected)
    });
    let page = lab.page_of_builds();
    assert!(
        page.contains("rejected") && page.contains(&build.to_string()),
        "{page}"
    );

    let job = lab.job(&["update"]);
    let result = lab.result_of(job.id);
    assert!(result.contains("rejected"), "{fault}: {result}");
    assert_eq!(
        lab.game_pids(),
        after,
        "{fault}: the next update leaves it alone"
    );
}

/// With --max-failures 2 the others go on.
fn one_server_that_fails_is_no_reason_to_stop(lab: &Lab) {
    let probe = lab.probe(SERVERS);
    lab.steamcmd("buildid=110 files=16 game=crash-on-start@27002");
    let job = lab.enqueue(&["update", "--rolling", "4", "--max-failures", "2"]);
    let ended = lab.ended(job, 240);
    assert_eq!(ended.state, "failed", "one server did not come up");
    wait_for("all but one are on the new build", s(60), || {
        let seen = probe.read();
        let expected = |id: u32| version(if id == 3 { 100 } else { 110 });
        let wrong: Vec<_> = (1..=SERVERS)
            .filter(|id| seen.last(*id) != expected(*id))
            .map(|id| (id, seen.last(id)))
            .collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("{wrong:?}"))
        }
    });
    probe.stop().no_build_was_mixed();
    assert_eq!(
        lab.current_build(),
        110,
        "it is not rejected for one server"
    );
}

fn an_earlier_build_comes_back_without_a_download(lab: &Lab) {
    for build in [111, 112] {
        lab.steamcmd(&format!("buildid={build} files=16"));
        lab.job(&["update"]);
        lab.all_answer_with(SERVERS, build);
    }

    lab.steamcmd("buildid=112 files=16 record=1");
    let probe = lab.probe(SERVERS);
    lab.job(&["rollback", "--rolling", "4"]);
    lab.all_answer_with(SERVERS, 111);
    assert_eq!(lab.current_build(), 111);
    assert!(
        !lab.is(&format!("test -e {STEAM}/standin-printed.log")),
        "steamcmd ran"
    );
    let seen = probe.stop();
    assert!(seen.most_at_once() <= 4, "{:?}", seen.gaps);

    lab.run(&["left4me-job", "enqueue", "rollback", "--build", "77"])
        .ends_with(3)
        .complains_of(&["build 77 is not kept"]);
    lab.job(&["rollback", "--build", "112"]);
    lab.all_answer_with(SERVERS, 112);
}

impl Lab {
    /// `/admin/builds`, as an admin sees it.
    #[track_caller]
    fn page_of_builds(&self) -> String {
        self.sh(
            r#"ask() {
    exec 3<>/dev/tcp/127.0.0.1/8000
    printf '%s %s HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nSec-Fetch-Site: same-origin\r\nOrigin: http://127.0.0.1:8000\r\n%sContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
        "$1" "$2" "$4" ${#3} "$3" >&3
    cat <&3
}
cookie=$(ask POST /login 'name=admin&password=correct%20horse%207' '' | sed -n 's/^set-cookie: \([^;]*\).*/\1/ip' | head -n 1)
ask GET /admin/builds '' "Cookie: $cookie"$'\r\n'"#,
        )
    }
}
