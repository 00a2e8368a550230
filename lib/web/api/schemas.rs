//! The OpenAPI schemas of types in domain/, which does not depend on OpenAPI.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::base::names::ServerId;
use crate::domain::cancellation::{Progress, Step, StepState};
use crate::domain::drift::Drift;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::outcome::{Outcome, ServerOutcome};
use crate::domain::server::{ActualState, DesiredState};
use crate::domain::task::TaskState;

/// Describes an enum by its words.
macro_rules! words {
    ($name:ident, $words:expr, $description:literal) => {
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words = $words.map(|word| serde_json::json!(word));
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($description))
                    .enum_values(Some(words))
                    .into()
            }
        }

        impl ToSchema for $name {}
    };
}

words!(
    JobState,
    JobState::ALL,
    "The states of a job. Terminal states are final: no transition leaves them."
);
words!(TaskState, TaskState::ALL, "The states of a task.");
words!(
    Operation,
    Operation::ALL.map(Operation::as_str),
    "An operation on no, one or many servers."
);
words!(Step, Step::ALL, "The steps of a cancellation, in order.");
words!(
    StepState,
    [
        StepState::Pending,
        StepState::Running,
        StepState::Succeeded,
        StepState::Failed
    ],
    "The state of a step."
);
words!(Progress, Progress::ALL, "The state of a cancellation.");
words!(
    DesiredState,
    [DesiredState::Running, DesiredState::Stopped],
    "The state that an admin requested."
);
words!(
    ActualState,
    ActualState::ALL,
    "The state that systemd reported last."
);
words!(
    Drift,
    [
        Drift::Down,
        Drift::Up,
        Drift::Enabled,
        Drift::Disabled,
        Drift::Crashing
    ],
    "How a server's actual state differs from its desired state."
);
words!(
    Outcome,
    [
        Outcome::Pending,
        Outcome::Running,
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::LeftStopped,
        Outcome::Cancelled
    ],
    "A job's outcome for one server."
);

/// A server and a job's outcome for it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct OutcomeFields {
    /// The server.
    server: ServerId,
    /// The outcome.
    outcome: Outcome,
    /// The reason, if it did not succeed.
    error: Option<String>,
}

impl PartialSchema for ServerOutcome {
    fn schema() -> RefOr<Schema> {
        OutcomeFields::schema()
    }
}

impl ToSchema for ServerOutcome {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        OutcomeFields::schemas(schemas);
    }
}
