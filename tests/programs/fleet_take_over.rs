//! A controller dies during an update in waves, and another one goes on with it: with the real programs,
//! a node of the engine, and nothing of the first one but what it has published.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::real_fleet::{Fleet, Member};

/// How long a step may take: programs start, connect, and read what others say.
const PATIENCE: Duration = Duration::from_secs(90);

fn waits_until<T>(fleet: &Fleet, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        if Instant::now() > deadline {
            fleet.tell_all();
            panic!("waited in vain: {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The rollout, as a controller shows it; None while it knows of none.
fn shown(member: &Member) -> Option<Value> {
    let listed = member.left4me(&["fleet", "rollouts", "--json"]).done();
    let all: Vec<Value> = serde_json::from_str(&listed).expect("JSON");
    all.into_iter().next()
}

fn updates(member: &Member) -> usize {
    let sql = "SELECT id || '' FROM jobs WHERE operation = 'update'";
    member.column(sql).len()
}

#[test]
fn another_controller_goes_on_with_the_waves_of_a_dead_one_which_stays_silent_when_it_returns() {
    let names = ["fra-1", "fra-2", "ams-1", "chi-1"];
    let fleet = Fleet::with_controllers(1, &names, &["fra-2"]);
    let [first, second, ams, chi] = names.map(|name| fleet.member(name));

    // The first wave does not end while its controller lives.
    ams.worker.hold();
    let mut update = vec!["fleet", "update", "--host", "ams-1", "--host", "chi-1"];
    update.extend(["--waves", "1,rest", "--soak", "0s", "--stop-after", "9"]);
    let id = first.left4me(&update).done().trim().to_owned();
    waits_until(&fleet, "the first wave", || {
        (updates(ams) == 1).then_some(())
    });
    waits_until(&fleet, "the rollout is seen", || {
        shown(second).filter(|seen| seen["driver"] == "fra-1")
    });
    let refused = second.left4me(&["fleet", "take-over", &id]);
    assert_eq!(refused.code, 4, "{refused:?}");

    for service in [&first.rollout, &first.link, &first.gate] {
        service.hold();
    }
    let taken = second.left4me(&["fleet", "take-over", &id, "--although-it-drives"]);
    assert_eq!(taken.code, 0, "{taken:?}");
    ams.worker.release();
    let ended = waits_until(&fleet, "the end", || {
        shown(second).filter(|seen| !seen["ended_at"].is_null())
    });
    assert_eq!(
        (&ended["driver"], &ended["epoch"]),
        (&Value::Null, &2.into())
    );
    assert_eq!((updates(ams), updates(chi)), (1, 1), "{ended}");

    for service in [&first.gate, &first.link, &first.rollout] {
        service.release();
    }
    let told = waits_until(&fleet, "the first one hears of it", || {
        shown(first).filter(|seen| seen["driver"] == "fra-2" && !seen["ended_at"].is_null())
    });
    assert_eq!(told["state"], ended["state"]);
    assert!(!told["lost_at"].is_null(), "{told}");
    assert_eq!((updates(ams), updates(chi)), (1, 1));
}
