//! The words of states in their columns.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};

use crate::base::names::BadName;
use crate::domain::cancellation::{Progress, Step};
use crate::domain::drift::Drift;
use crate::domain::game::Responding;
use crate::domain::job::JobState;
use crate::domain::scheduled::ScheduledOperation;
use crate::domain::server::{ActualState, DesiredState};
use crate::domain::task::TaskState;

/// A CHECK rejects other words, so an unknown one means a damaged row.
macro_rules! sql_word {
    ($($state:ident),+) => {$(
        impl FromSql for $state {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let bad = |error: BadName| FromSqlError::Other(Box::new(error));
                value.as_str()?.parse().map_err(bad)
            }
        }
    )+};
}

sql_word!(
    DesiredState,
    Drift,
    JobState,
    Progress,
    Responding,
    ScheduledOperation,
    Step,
    TaskState
);

/// An unknown word is read as [`ActualState::Unknown`].
impl FromSql for ActualState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(ActualState::parse(value.as_str()?).unwrap_or(ActualState::Unknown))
    }
}
