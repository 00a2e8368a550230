//! The OpenAPI schemas of types in domain/, which does not depend on OpenAPI, and of enums of words.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::base::names::ServerId;
use crate::db::fleet::orders_out::OrderState;
use crate::domain::cancellation::{Progress, Step, StepState};
use crate::domain::condition::AtDeadline;
use crate::domain::drift::Drift;
use crate::domain::fleet::view::HostState;
use crate::domain::game::Responding;
use crate::domain::job::JobState;
use crate::domain::operation::Operation;
use crate::domain::outcome::{Outcome, ServerOutcome};
use crate::domain::scheduled::ScheduledOperation;
use crate::domain::server::{ActualState, DesiredState};
use crate::domain::task::TaskState;

/// Describes enums by their words.
macro_rules! schemas {
    ($($name:ident: $description:literal,)+) => {
        $(
            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    ObjectBuilder::new()
                        .schema_type(Type::String)
                        .description(Some($description))
                        .enum_values(Some($name::ALL.map($name::as_str)))
                        .into()
                }
            }

            impl ToSchema for $name {}
        )+
    };
}

schemas! {
    AtDeadline: "What a job does when its time has come and its servers are not empty.",
    ScheduledOperation: "What a schedule does.",
    JobState: "The states of a job. Terminal states are final: no transition leaves them.",
    TaskState: "The states of a task.",
    Operation: "An operation on no, one or many servers.",
    Step: "The steps of a cancellation, in order.",
    StepState: "The state of a step.",
    Progress: "The state of a cancellation.",
    DesiredState: "The state that an admin requested.",
    ActualState: "The state that systemd reported last.",
    Drift: "How a server's actual state differs from its desired state.",
    Responding: "Whether a running game answers; `not-yet`: it has not since its start.",
    Outcome: "A job's outcome for one server.",
    HostState: "What this host knows of another. `silent`: nothing is known since its last status.",
    OrderState: "How far an order to another host is. `unknown`: its time is over without an answer.",
}

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
