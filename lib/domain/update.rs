//! What was asked of a job: how it brings another build of the game to the servers, or what a reset
//! drops.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::base::names::BadName;
use crate::domain::operation::Operation;

/// How often a build may fail to start before the rest is left alone, unless a job says so.
pub const MAX_FAILURES: NonZeroU16 = NonZeroU16::MIN;

/// The options of an update, a rollback or a reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateOptions {
    /// Download and verify everything, also when nothing is new.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub validate: bool,
    /// Stop all servers first, and install into the files that they use.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_place: bool,
    /// Restart at most so many servers at a time; all at once by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling: Option<NonZeroU16>,
    /// Restart no server: each takes the build at its next start.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_restart: bool,
    /// How many servers may fail to start on the build before the rest is left alone; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<NonZeroU16>,
    /// Only for left4me's own rollback: nothing is done unless this build is still the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Only for a rollback: the build. By default the newest one that is older than the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<u64>,
    /// Only for a reset: drop the files that hide newer game files, and keep the others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

impl UpdateOptions {
    /// What differs from what is done by default, for people: `rolling 4, max-failures 2`. None if
    /// nothing does.
    pub fn message(&self) -> Option<String> {
        let number = |name: &str, n: Option<NonZeroU16>| n.map(|n| format!("{name} {n}"));
        let parts: Vec<String> = [
            self.build.map(|build| format!("build {build}")),
            self.validate.then(|| "validate".to_owned()),
            self.in_place.then(|| "in-place".to_owned()),
            number("rolling", self.rolling),
            self.no_restart.then(|| "no-restart".to_owned()),
            number("max-failures", self.max_failures),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    pub fn max_failures(&self) -> NonZeroU16 {
        self.max_failures.unwrap_or(MAX_FAILURES)
    }

    /// Whether they fit to the operation and to each other. `has_condition`: whether the job has a
    /// condition.
    ///
    /// Fails with what to change.
    pub fn check(&self, operation: Operation, has_condition: bool) -> Result<(), BadName> {
        let rolling = self.rolling.is_some();
        let refuse = |message: String| Err(BadName::new(message));
        if self.validate && operation != Operation::Update {
            return refuse(format!(
                "{operation} cannot validate: only update does; install always downloads and \
                 verifies"
            ));
        }
        if self.stale && operation != Operation::Reset {
            return refuse(format!(
                "{operation} drops no stale files: only reset does (`reset --stale`)"
            ));
        }
        if self.build.is_some() && operation != Operation::Rollback {
            return refuse(format!(
                "{operation} takes no build: only rollback does; update takes what Steam publishes"
            ));
        }
        if self
            .build
            .is_some_and(|build| build == 0 || i64::try_from(build).is_err())
        {
            return refuse("a build is a number from 1 on".to_owned());
        }
        if (self.no_restart || self.max_failures.is_some()) && !operation.rolls_out() {
            return refuse(format!(
                "{operation} takes no policy for restarts: only update and rollback do"
            ));
        }
        if self.no_restart && (rolling || has_condition || self.max_failures.is_some()) {
            return refuse(
                "without restarts there is nothing to wait for and nothing that could fail: \
                 leave out either no-restart or the other options"
                    .to_owned(),
            );
        }
        if rolling && has_condition && operation.rolls_out() {
            return refuse(
                "with a condition each server restarts by itself, when it is met for this server: \
                 leave out either rolling or the condition"
                    .to_owned(),
            );
        }
        if self.in_place && (rolling || self.max_failures.is_some()) {
            return refuse(
                "with LEFT4ME_BUILDS=in-place an update stops all servers and starts them together: \
                 leave out rolling and max-failures"
                    .to_owned(),
            );
        }
        if self.in_place && self.no_restart {
            return refuse(
                "with LEFT4ME_BUILDS=in-place an update stops all servers: no-restart is not \
                 possible"
                    .to_owned(),
            );
        }
        if self.in_place && operation == Operation::Rollback {
            return refuse(
                "with LEFT4ME_BUILDS=in-place there is no earlier build to go back to".to_owned(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_fit_are_refused_and_their_json_is_short() {
        let none = UpdateOptions::default();
        assert_eq!(serde_json::to_string(&none).unwrap(), "{}");
        assert_eq!(none.check(Operation::Restart, false), Ok(()));

        let no_restart = UpdateOptions {
            no_restart: true,
            ..none.clone()
        };
        let build = UpdateOptions {
            build: Some(7),
            ..none.clone()
        };
        let rolling = UpdateOptions {
            rolling: NonZeroU16::new(4),
            ..no_restart.clone()
        };
        let refused = |options: &UpdateOptions, operation, condition| {
            options.check(operation, condition).is_err()
        };
        assert!(!refused(&no_restart, Operation::Update, false));
        assert!(refused(&rolling, Operation::Update, false));
        assert!(refused(&no_restart, Operation::Update, true));
        assert!(refused(&no_restart, Operation::Restart, false));
        assert!(refused(&build, Operation::Update, false));
        assert!(!refused(&build, Operation::Rollback, false));
        for build in [0, u64::MAX] {
            let build = UpdateOptions {
                build: Some(build),
                ..none.clone()
            };
            assert!(refused(&build, Operation::Rollback, false));
        }

        let rolling = UpdateOptions {
            rolling: NonZeroU16::new(4),
            max_failures: NonZeroU16::new(2),
            ..none.clone()
        };
        assert!(!refused(&rolling, Operation::Update, false));
        assert!(refused(&rolling, Operation::Update, true));
        assert_eq!(none.message(), None);
        assert_eq!(
            rolling.message().unwrap(),
            "rolling 4, max-failures 2",
            "as in a list of jobs"
        );

        let in_place = |options: &UpdateOptions| UpdateOptions {
            in_place: true,
            ..options.clone()
        };
        assert!(!refused(&in_place(&none), Operation::Update, true));
        assert!(refused(&in_place(&none), Operation::Rollback, false));
        for other in [&rolling, &no_restart] {
            assert!(refused(&in_place(other), Operation::Update, false));
        }

        let stale = UpdateOptions {
            stale: true,
            ..none.clone()
        };
        assert!(!refused(&stale, Operation::Reset, true));
        assert!(refused(&stale, Operation::Update, false));
        assert!(refused(&stale, Operation::Delete, false));

        let parsed: UpdateOptions = serde_json::from_str(r#"{"max_failures":3}"#).unwrap();
        assert_eq!(parsed.max_failures().get(), 3);
    }
}
