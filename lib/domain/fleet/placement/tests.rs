//! Which host is chosen.

use proptest::prelude::*;

use super::*;

const NOW: i64 = 10_000_000;

fn host(name: &str) -> FleetHost {
    name.parse().unwrap()
}

fn candidate(number: u32, used: u32, capacity: u32) -> Candidate {
    let name = host(&format!("h-{number}"));
    Candidate {
        labels: BTreeMap::new(),
        is_expelled: false,
        status: Some(HostStatus {
            v: VERSION,
            host: name.clone(),
            at: NOW,
            version: "0.3.0".to_owned(),
            speaks: vec![VERSION],
            operations: Vec::new(),
            capacity,
            used,
            cordoned: false,
            queue: Default::default(),
            servers: Vec::new(),
            build: None,
            available: None,
            overlays: BTreeMap::new(),
            last_event: 0,
        }),
        seen_at: Some(NOW),
        coming: 0,
        host: name,
    }
}

fn chosen(needs: &Needs, candidates: &[Candidate], policy: Policy) -> Option<FleetHost> {
    let (refused, not) = (BTreeMap::new(), BTreeSet::new());
    choose(needs, candidates, &refused, &not, policy, NOW).ok()
}

/// Places so many servers, and gives how many each host got.
fn placed(mut candidates: Vec<Candidate>, servers: u32, policy: Policy) -> Vec<u32> {
    for _ in 0..servers {
        let Some(host) = chosen(&Needs::default(), &candidates, policy) else {
            break;
        };
        let taker = candidates.iter_mut().find(|other| other.host == host);
        taker.unwrap().coming += 1;
    }
    candidates
        .iter()
        .map(|candidate| candidate.coming)
        .collect()
}

fn status(candidate: &mut Candidate) -> &mut HostStatus {
    candidate.status.as_mut().unwrap()
}

#[test]
fn a_host_that_does_not_fit_says_why() {
    let needs = Needs {
        host: None,
        labels: [("region".to_owned(), "eu".to_owned())].into(),
        overlays: [("maps".to_owned(), "d1".to_owned())].into(),
    };
    let good = |number| {
        let mut one = candidate(number, 1, 4);
        one.labels = needs.labels.clone();
        status(&mut one).overlays = needs.overlays.clone();
        one
    };
    type Change = fn(&mut Candidate);
    let cases: [(Change, &str); 9] = [
        (|one| one.is_expelled = true, "does not belong to the fleet"),
        (
            |one| one.seen_at = Some(NOW - SILENT - 1),
            "has said nothing for 5 minutes",
        ),
        (|one| one.status = None, "has said nothing"),
        (|one| status(one).cordoned = true, "is cordoned"),
        (
            |one| status(one).speaks = vec![9],
            "no orders of this version",
        ),
        (|one| one.labels.clear(), "has no label region=eu"),
        (|one| status(one).overlays.clear(), "has no overlay 'maps'"),
        (
            |one| {
                status(one)
                    .overlays
                    .insert("maps".to_owned(), "d2".to_owned());
            },
            "has other files in overlay 'maps'",
        ),
        (|one| one.coming = 3, "is full (4 of 4 servers)"),
    ];
    for (spoil, why) in cases {
        let mut one = good(1);
        spoil(&mut one);
        let (refused, not) = (BTreeMap::new(), BTreeSet::new());
        let unfit = choose(&needs, &[one.clone()], &refused, &not, Policy::Spread, NOW);
        let message = no_host(&unfit.unwrap_err());
        assert!(
            message.contains(&format!("h-1 {why}")) || message.contains(why),
            "{message}"
        );

        assert_eq!(
            chosen(&needs, &[one, good(2)], Policy::Pack),
            Some(host("h-2"))
        );
    }
}

#[test]
fn one_that_refused_is_not_asked_again_and_one_that_is_left_is_not_mentioned() {
    let all = [candidate(1, 0, 4), candidate(2, 3, 4)];
    let refused = BTreeMap::from([(host("h-1"), "full".to_owned())]);
    let left = BTreeSet::from([host("h-2")]);
    let choose = |not: &BTreeSet<FleetHost>| {
        choose(&Needs::default(), &all, &refused, not, Policy::Spread, NOW)
    };
    assert_eq!(choose(&BTreeSet::new()), Ok(host("h-2")));
    let unfit = choose(&left).unwrap_err();
    assert_eq!(no_host(&unfit), "no host takes it: h-1 refused: full");
}

#[test]
fn servers_are_spread_or_packed() {
    let hosts = || (1..=3).map(|number| candidate(number, 0, 4)).collect();
    assert_eq!(placed(hosts(), 6, Policy::Spread), [2, 2, 2]);
    assert_eq!(placed(hosts(), 6, Policy::Pack), [4, 2, 0]);
    // By share, not by number: a host that is twice as large takes twice as many.
    let uneven = vec![candidate(1, 0, 8), candidate(2, 0, 4)];
    assert_eq!(placed(uneven, 6, Policy::Spread), [4, 2]);
}

prop_compose! {
    fn some()(number in 0..6_u32, used in 0..6_u32, capacity in 0..6_u32, coming in 0..3_u32,
              cordoned: bool, is_expelled in prop::bool::weighted(0.2),
              silent in prop::bool::weighted(0.2)) -> Candidate {
        let mut one = candidate(number, used, capacity);
        status(&mut one).cordoned = cordoned;
        one.seen_at = Some(if silent { 0 } else { NOW });
        Candidate { coming, is_expelled, ..one }
    }
}

proptest! {
    #[test]
    fn who_is_chosen_has_room_and_takes_servers_whatever_the_order(
        all in prop::collection::vec(some(), 0..6), pack: bool,
    ) {
        let mut all = all;
        all.sort_by(|one, other| one.host.cmp(&other.host));
        all.dedup_by(|one, other| one.host == other.host);
        let policy = if pack { Policy::Pack } else { Policy::Spread };
        let found = chosen(&Needs::default(), &all, policy);
        let takes = |one: &&Candidate| {
            let status = one.status.as_ref().unwrap();
            !one.is_expelled && !one.is_silent(NOW) && !status.cordoned
                && status.used + one.coming < status.capacity
        };
        prop_assert_eq!(found.is_some(), all.iter().any(|one| takes(&one)));
        if let Some(host) = &found {
            prop_assert!(takes(&all.iter().find(|one| one.host == *host).unwrap()));
        }

        all.reverse();
        prop_assert_eq!(chosen(&Needs::default(), &all, policy), found);
    }

    #[test]
    fn spread_keeps_equal_hosts_level_and_pack_uses_as_few_as_it_can(
        hosts in 1..5_u32, capacity in 1..5_u32, servers in 0..20_u32,
    ) {
        let all = || (0..hosts).map(|number| candidate(number, 0, capacity)).collect();
        let spread = placed(all(), servers, Policy::Spread);
        prop_assert!(spread.iter().max().unwrap() - spread.iter().min().unwrap() <= 1);

        let packed = placed(all(), servers, Policy::Pack);
        let placed = servers.min(hosts * capacity);
        prop_assert_eq!(packed.iter().sum::<u32>(), placed);
        let used = packed.iter().filter(|count| **count > 0).count();
        prop_assert_eq!(used as u32, placed.div_ceil(capacity));
    }
}
