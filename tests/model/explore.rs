//! How a model with rules is explored: each world in full, and with each rule broken once.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker as _, HasDiscoveries, Model};

/// Explores a world, and panics unless every promise is kept.
pub fn holds<M>(name: &str, world: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let begin = Instant::now();
    let checker = world.checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} states, {} deep, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        begin.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

/// With a rule broken, as in this world, the promise is not kept: so the rule is what keeps it.
pub fn breaks<M>(world: M, promise: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let finish = HasDiscoveries::AllOf([promise].into());
    let checker = world.checker().finish_when(finish).spawn_bfs().join();
    let Some(path) = checker.discovery(promise) else {
        panic!(
            "it is kept without the rule; broken promises: {:?}",
            checker.discoveries().keys()
        );
    };
    for action in path.into_actions() {
        println!("    {action:?}");
    }
}

/// A test for each rule, without it.
macro_rules! rules_that_matter {
    ($($rule:ident in $world:ident keeps $promise:ident;)*) => {
        mod without {
            $(#[test]
            fn $rule() {
                let rules = super::Rules { $rule: false, ..super::Rules::TRUE };
                let world = super::World { rules, ..super::$world() };
                $crate::explore::breaks(world, super::$promise);
            })*
        }
    };
}

pub(crate) use rules_that_matter;
