//! Which process is a host. Two with one identity, such as a copied machine, would take each other's
//! orders; so each holds a lease in the engine, and renews it by compare-and-set. Whether a lease is
//! still renewed is judged by its revision and one's own clock, never by a time that another one wrote.

use serde::{Deserialize, Serialize};

/// How often it is renewed, in ms.
pub const RENEWAL: i64 = 10_000;

/// After this time without a renewal it is free, in ms.
pub const GOOD_FOR: i64 = 30_000;

/// Of a link that does not stay connected, and looks every 30 s.
pub const GOOD_FOR_A_VISITOR: i64 = 90_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// A process, or the processes of one machine since it was booted.
    pub instance: String,
    /// The machine's own name, for people.
    pub machine: String,
    /// For how long it is good after each renewal, in ms.
    pub good_for: i64,
    /// Unix ms, by that machine's clock: for people.
    pub at: i64,
    /// Given back at the end.
    #[serde(default)]
    pub is_free: bool,
}

/// A lease that another instance holds, and since when, by one's own clock, its revision is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    pub revision: u64,
    pub since: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write one's own over this revision; 0: there is none.
    Write { over: u64 },
    /// Another one holds it: look again.
    Wait(Watched),
}

/// What to do, having read the lease with its revision.
pub fn step(
    found: Option<(&Lease, u64)>,
    instance: &str,
    watched: Option<Watched>,
    now: i64,
) -> Step {
    let Some((lease, revision)) = found else {
        return Step::Write { over: 0 };
    };
    if lease.instance == instance || lease.is_free {
        return Step::Write { over: revision };
    }

    let watched = watched
        .filter(|watched| watched.revision == revision)
        .unwrap_or(Watched {
            revision,
            since: now,
        });
    let good_for = lease.good_for.clamp(GOOD_FOR, GOOD_FOR_A_VISITOR);
    match now.saturating_sub(watched.since) >= good_for {
        true => Step::Write { over: revision },
        false => Step::Wait(watched),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(instance: &str) -> Lease {
        Lease {
            instance: instance.into(),
            machine: "m".into(),
            good_for: GOOD_FOR,
            at: 0,
            is_free: false,
        }
    }

    #[test]
    fn a_living_one_is_never_replaced_and_a_dead_one_after_its_time() {
        let other = lease("a");
        let mut watched = None;
        // Renewed every 10 s, for ten minutes.
        for renewal in 0..60_u64 {
            let now = i64::try_from(renewal).unwrap() * RENEWAL;
            match step(Some((&other, renewal + 1)), "b", watched, now) {
                Step::Wait(seen) => watched = Some(seen),
                Step::Write { .. } => panic!("a living one was replaced at {now}"),
            }
        }

        let now = 59 * RENEWAL;
        assert!(matches!(
            step(Some((&other, 60)), "b", watched, now + GOOD_FOR - 1),
            Step::Wait(_)
        ));
        assert_eq!(
            step(Some((&other, 60)), "b", watched, now + GOOD_FOR),
            Step::Write { over: 60 }
        );
    }

    #[test]
    fn none_a_free_one_and_ones_own_are_taken_at_once() {
        assert_eq!(step(None, "b", None, 0), Step::Write { over: 0 });
        let own = lease("b");
        assert_eq!(step(Some((&own, 4)), "b", None, 0), Step::Write { over: 4 });
        let free = Lease {
            is_free: true,
            ..lease("a")
        };
        assert_eq!(
            step(Some((&free, 5)), "b", None, 0),
            Step::Write { over: 5 }
        );
    }
}
