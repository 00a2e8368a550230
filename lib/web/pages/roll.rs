//! What the forms of jobs ask: what a job waits for, and how an update or rollback brings a build to
//! the servers.

use std::num::NonZeroU16;

use super::extract::Fields;
use crate::base::clock;
use crate::base::config::BuildMode;
use crate::base::names::{BadName, shown};
use crate::base::words::words;
use crate::domain::condition::{Condition, ConditionRequest};
use crate::domain::operation::Operation;
use crate::domain::update::UpdateOptions;
use crate::web::failure::Failure;

words! {
    /// When servers that run another build are restarted.
    pub enum Policy ("a way to restart servers") {
        /// At once, all of them.
        Now = "now",
        /// So many at a time.
        Rolling = "rolling",
        /// Each when nobody plays on it.
        WhenEmpty = "when-empty",
        /// Not for this: each takes the build at its next start.
        NoRestart = "no-restart",
    }
}

/// What a form asks of an update or rollback.
#[derive(Clone, Debug, Default)]
pub struct RollRequest {
    pub options: UpdateOptions,
    pub rolling: Option<NonZeroU16>,
    pub condition: Option<Condition>,
}

/// Reads a form. Fields of other policies than the chosen one mean nothing. Without a policy, the
/// form is that of the question before a job that ends people's game.
///
/// Fails with 422 if a field cannot be read, or the fields do not fit together.
pub fn read(
    form: &Fields,
    operation: Operation,
    mode: BuildMode,
    now: i64,
) -> Result<RollRequest, Failure> {
    let policy: Option<Policy> = form.optional("policy")?;
    let waits = policy.is_none_or(|policy| policy == Policy::WhenEmpty);
    let condition = match waits {
        true => condition(form, policy == Some(Policy::WhenEmpty), operation, now)?,
        false => None,
    };
    let in_place = operation.is_exclusive() && mode == BuildMode::InPlace;
    if !operation.rolls_out() {
        return Ok(RollRequest {
            options: UpdateOptions {
                in_place,
                stale: operation == Operation::Reset && form.raw("stale") == "yes",
                ..UpdateOptions::default()
            },
            condition,
            ..RollRequest::default()
        });
    }

    let rolling = match policy {
        Some(Policy::Rolling) => Some(number(form, "rolling")?.ok_or_else(|| {
            Failure::unprocessable("rolling: say how many servers may restart at a time")
        })?),
        _ => None,
    };
    let no_restart = policy == Some(Policy::NoRestart);
    Ok(RollRequest {
        options: UpdateOptions {
            validate: form.raw("validate") == "yes",
            in_place,
            stale: false,
            from: None,
            rolling: None,
            no_restart,
            max_failures: match no_restart {
                true => None,
                false => number(form, "max_failures")?,
            },
            build: build(form)?,
        },
        rolling,
        condition,
    })
}

/// What the job is to wait for; `when_empty`: at least for that. Without a time, what to do then and
/// the warnings have no meaning.
///
/// Fails with 422 if the fields do not fit together.
fn condition(
    form: &Fields,
    when_empty: bool,
    operation: Operation,
    now: i64,
) -> Result<Option<Condition>, Failure> {
    let has_time = form.is_set("until");
    let request = ConditionRequest {
        when_empty: when_empty || form.is_set("when_empty"),
        until: form.optional("until")?,
        then: if has_time {
            form.optional("then")?
        } else {
            None
        },
        warn: if has_time {
            form.optional("warn")?
        } else {
            None
        },
    };
    Ok(request.resolve(operation, now, &clock::zone(), str::to_owned)?)
}

fn number(form: &Fields, name: &str) -> Result<Option<NonZeroU16>, Failure> {
    let text = form.get(name).map(str::trim);
    let number = text.map(|text| {
        text.parse().map_err(|_| {
            Failure::unprocessable(format!("{name}: '{}' is no number from 1 on", shown(text)))
        })
    });
    number.transpose()
}

fn build(form: &Fields) -> Result<Option<u64>, Failure> {
    let text = form.get("build").map(str::trim);
    let build = text.map(|text| {
        let bad = || BadName::new(format!("'{}' is no build", shown(text)));
        text.parse().map_err(|_| bad())
    });
    Ok(build.transpose()?)
}

/// A field of a form, with its value.
pub type Field = (&'static str, String);

impl RollRequest {
    /// The fields that a question before the job carries on: for the job that waits, and for the
    /// one that does not.
    pub fn carried(&self) -> (Vec<Field>, Vec<Field>) {
        let options = &self.options;
        let text = |name, value: Option<String>| value.map(|value| (name, value));
        let both = [
            options.validate.then(|| ("validate", "yes".to_owned())),
            options.stale.then(|| ("stale", "yes".to_owned())),
            text("build", options.build.map(|build| build.to_string())),
            text("max_failures", options.max_failures.map(|n| n.to_string())),
        ];
        let waits: Vec<_> = both.into_iter().flatten().collect();

        let mut now = waits.clone();
        if let Some(rolling) = self.rolling {
            now.push(("policy", Policy::Rolling.to_string()));
            now.push(("rolling", rolling.to_string()));
        }
        (waits, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(fields: &[(&str, &str)], operation: Operation) -> Result<RollRequest, String> {
        let form = fields.iter().copied().collect();
        let read = read(&form, operation, BuildMode::Beside, 0);
        read.map_err(|failure| failure.message)
    }

    #[test]
    fn only_the_fields_of_the_chosen_policy_count() {
        let all = |policy| {
            let fields = [
                ("policy", policy),
                ("rolling", "4"),
                ("max_failures", "2"),
                ("until", "2h"),
                ("then", "go"),
                ("build", "7"),
            ];
            let found = reads(&fields, Operation::Rollback).unwrap();
            assert_eq!(found.options.build, Some(7));
            (
                found.options.no_restart,
                found.options.max_failures.map(NonZeroU16::get),
                found.rolling.map(NonZeroU16::get),
                found.condition.map(|condition| condition.when_empty),
            )
        };

        assert_eq!(all("now"), (false, Some(2), None, None));
        assert_eq!(all("rolling"), (false, Some(2), Some(4), None));
        assert_eq!(all("when-empty"), (false, Some(2), None, Some(true)));
        assert_eq!(all("no-restart"), (true, None, None, None));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (fields, words) in [
            (&[("policy", "soon")][..], "soon"),
            (&[("policy", "rolling")], "how many servers"),
            (
                &[("policy", "rolling"), ("rolling", "0")],
                "'0' is no number",
            ),
            (&[("max_failures", "x")], "'x' is no number"),
            (&[("build", "-1")], "'-1' is no build"),
        ] {
            let refused = reads(fields, Operation::Update).unwrap_err();
            assert!(refused.contains(words), "{fields:?}: {refused}");
        }
    }

    #[test]
    fn a_question_carries_on_what_was_asked() {
        let fields = [("policy", "rolling"), ("rolling", "4"), ("build", "7")];
        let (waits, now) = reads(&fields, Operation::Rollback).unwrap().carried();
        let names = |fields: &[(&'static str, String)]| {
            let names = fields.iter().map(|(name, _)| *name);
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&waits), "build");
        assert_eq!(names(&now), "build policy rolling");
    }
}
