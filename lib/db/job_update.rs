//! What was asked of an update or rollback, as jobs show it.

use std::num::NonZeroU16;

use serde::Serialize;

use crate::base::names::JobId;
use crate::domain::operation::Operation;
use crate::domain::update::UpdateOptions;

/// What was asked of an update or rollback.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct JobUpdate {
    /// Whether everything is downloaded and verified, also when nothing is new.
    pub validate: bool,
    /// Whether all servers are stopped first, and the build is installed into the files that they
    /// use.
    pub in_place: bool,
    /// How many servers are restarted at a time; `null` for all at once.
    #[schema(value_type = Option<u16>, minimum = 1)]
    pub rolling: Option<NonZeroU16>,
    /// Whether no server is restarted.
    pub no_restart: bool,
    /// How many servers may fail to start on the build before the rest is left alone.
    #[schema(value_type = u16, minimum = 1)]
    pub max_failures: NonZeroU16,
    /// Of a rollback: the build; `null` for the one before the current one.
    pub build: Option<u64>,
}

impl JobUpdate {
    /// None for other operations.
    pub(super) fn of(operation: &str, options: &UpdateOptions) -> Option<Self> {
        let rolls_out = Operation::parse(operation).is_some_and(Operation::rolls_out);
        rolls_out.then(|| Self {
            validate: options.validate,
            in_place: options.in_place,
            rolling: options.rolling,
            no_restart: options.no_restart,
            max_failures: options.max_failures(),
            build: options.build,
        })
    }
}

/// What lists say of a job besides its operation: `rolling 4`, or `for job 12`.
pub(super) fn detail(options: &UpdateOptions, roll_of: Option<JobId>) -> Option<String> {
    let why = roll_of.map(|id| format!("for job {id}"));
    options.message().or(why)
}

/// `update (rolling 4)`, or just the operation.
pub(super) fn what(operation: &str, detail: Option<&str>) -> String {
    match detail {
        Some(detail) => format!("{operation} ({detail})"),
        None => operation.to_owned(),
    }
}
