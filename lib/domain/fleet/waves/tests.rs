//! Updates in waves: who is asked, when, and what stops them.

use proptest::prelude::*;

use super::*;

fn hosts(many: u32) -> Vec<FleetHost> {
    (1..=many)
        .map(|number| format!("h-{number}").parse().unwrap())
        .collect()
}

#[test]
fn waves_are_read_as_they_are_written() {
    let waves: Waves = "1, 25%,rest".parse().unwrap();
    assert_eq!(waves, Waves::default());
    assert_eq!(waves.to_string(), "1,25%,rest");
    let sizes = |many| -> Vec<usize> {
        let split = waves.split(&hosts(many));
        split.iter().map(Vec::len).collect()
    };
    assert_eq!(sizes(9), [1, 3, 5]);
    assert_eq!(sizes(2), [1, 1]);
    assert_eq!(sizes(1), [1]);
    assert!(sizes(0).is_empty());

    let without: Waves = "2".parse().unwrap();
    assert_eq!(
        without.split(&hosts(5)).len(),
        2,
        "the others are a last wave"
    );
    for bad in [
        "",
        "0",
        "rest,1",
        "rest,rest",
        "101%",
        "-1",
        "+1",
        "1;2",
        "1,,2",
        "99999999",
    ] {
        assert!(bad.parse::<Waves>().is_err(), "{bad}");
    }
}

/// A fleet that answers at once. `bad` fail; `troubled` fail during the soak.
struct Fleet {
    rules: Rules,
    progress: UpdateProgress,
    bad: Vec<FleetHost>,
    troubled: Vec<FleetHost>,
    sent: Vec<Vec<FleetHost>>,
    now: i64,
}

impl Fleet {
    fn new(many: u32, waves: &str, stop_after: u32) -> Self {
        let waves: Waves = waves.parse().unwrap();
        Self {
            rules: Rules {
                waves: waves.split(&hosts(many)),
                soak: 600_000,
                stop_after,
            },
            progress: UpdateProgress::default(),
            bad: Vec::new(),
            troubled: Vec::new(),
            sent: Vec::new(),
            now: 1,
        }
    }

    fn facts(&self) -> BTreeMap<FleetHost, HostFacts> {
        let asked = self.sent.iter().flatten();
        asked
            .map(|host| {
                let is_bad = self.bad.contains(host);
                let is_troubled = self.troubled.contains(host);
                let facts = HostFacts {
                    fate: if is_bad {
                        Fate::Failed
                    } else {
                        Fate::Succeeded
                    },
                    why: if is_bad { "job 3 failed" } else { "" }.to_owned(),
                    trouble: is_troubled.then(|| "Friday is failed".to_owned()),
                    is_settled: true,
                };
                (host.clone(), facts)
            })
            .collect()
    }

    fn run(&mut self) -> (Outcome, String) {
        for _ in 0..1000 {
            let facts = self.facts();
            match next(
                &self.rules,
                &mut self.progress,
                &facts,
                &|_| false,
                false,
                self.now,
            ) {
                Step::Send(hosts) => self.sent.push(hosts),
                Step::Wait(until) => self.now = until.unwrap_or(self.now),
                Step::TakeBack(hosts) => panic!("nothing is taken back: {hosts:?}"),
                Step::End(outcome, why) => return (outcome, why),
            }
        }
        panic!("no end: {:?}", self.progress);
    }
}

#[test]
fn each_wave_soaks_before_the_next() {
    let mut fleet = Fleet::new(4, "1,50%,rest", 1);
    let (outcome, why) = fleet.run();
    assert_eq!(
        (outcome, &*why),
        (Outcome::Succeeded, "4 of 4 hosts updated")
    );
    let sizes: Vec<usize> = fleet.sent.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 2, 1]);
    assert_eq!(fleet.now, 1 + 3 * 600_000);
}

#[test]
fn a_bad_build_stops_at_the_first_wave() {
    let mut fleet = Fleet::new(3, "1,rest", 1);
    fleet.bad = hosts(3);
    let (outcome, why) = fleet.run();
    assert_eq!(outcome, Outcome::Failed);
    assert_eq!(
        why,
        "stopped in wave 1: 0 of 3 hosts updated; h-1: job 3 failed; not asked: h-2, h-3"
    );
    assert_eq!(fleet.sent.len(), 1);
}

#[test]
fn trouble_during_the_soak_counts_as_a_failure() {
    let mut fleet = Fleet::new(3, "1,rest", 1);
    fleet.troubled = hosts(1);
    let (outcome, why) = fleet.run();
    assert_eq!(outcome, Outcome::Failed);
    assert!(why.contains("h-1: Friday is failed"), "{why}");
    assert_eq!(fleet.sent, [hosts(1)]);
}

#[test]
fn an_abort_takes_back_what_is_under_way_and_waits_for_each_end() {
    let mut fleet = Fleet::new(3, "2,rest", 1);
    let mut progress = UpdateProgress::default();
    let none = BTreeMap::new();
    let step = next(&fleet.rules, &mut progress, &none, &|_| false, false, 1);
    assert_eq!(step, Step::Send(hosts(2)));
    fleet.sent.push(hosts(1));

    // The first has ended, the second not.
    let facts = fleet.facts();
    let step = next(&fleet.rules, &mut progress, &facts, &|_| false, true, 2);
    assert_eq!(step, Step::TakeBack(hosts(2)[1..].to_vec()));
    let step = next(&fleet.rules, &mut progress, &facts, &|_| true, true, 2);
    assert_eq!(step, Step::Wait(None));

    let mut facts = facts;
    let cancelled = HostFacts {
        fate: Fate::Cancelled,
        why: String::new(),
        trouble: None,
        is_settled: true,
    };
    facts.insert(hosts(2)[1].clone(), cancelled);
    let step = next(&fleet.rules, &mut progress, &facts, &|_| true, true, 3);
    let told = "1 of 3 hosts updated; h-2: cancelled; not asked: h-3";
    assert_eq!(step, Step::End(Outcome::Aborted, told.to_owned()));
}

proptest! {
    #[test]
    fn every_host_is_in_one_wave_and_no_wave_is_empty(
        many in 0..40_u32, sizes in prop::collection::vec((1..8_u32, any::<bool>()), 1..5),
    ) {
        let text: Vec<String> = sizes.iter().map(|(size, percent)| match percent {
            true => format!("{}%", size * 12),
            false => size.to_string(),
        }).collect();
        let waves: Waves = text.join(",").parse().unwrap();
        let split = waves.split(&hosts(many));
        prop_assert!(split.iter().all(|wave| !wave.is_empty()));
        prop_assert_eq!(split.concat(), hosts(many));
    }

    #[test]
    fn no_host_is_asked_after_too_many_failed(
        many in 1..12_u32, bad in prop::collection::btree_set(1..12_u32, 0..6), stop_after in 1..4_u32,
    ) {
        let mut fleet = Fleet::new(many, "1,25%,rest", stop_after);
        fleet.bad = hosts(12).into_iter().enumerate()
            .filter(|(index, _)| bad.contains(&(*index as u32 + 1))).map(|(_, host)| host).collect();
        let (outcome, _) = fleet.run();
        // Waves that began before the one in which the limit was reached had fewer failures.
        let failures = |waves: &[Vec<FleetHost>]| {
            waves.iter().flatten().filter(|host| fleet.bad.contains(host)).count() as u32
        };
        let last = fleet.sent.len() - 1;
        prop_assert!(failures(&fleet.sent[..last]) < stop_after);
        let all = failures(&fleet.sent);
        prop_assert_eq!(outcome == Outcome::Succeeded, all == 0);
        if all < stop_after {
            prop_assert_eq!(fleet.sent.concat(), hosts(many));
        }
    }
}
