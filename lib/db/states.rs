//! The words of a server's states in their columns.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};

use crate::domain::drift::Drift;
use crate::domain::server::{ActualState, DesiredState};

impl FromSql for DesiredState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_str()? {
            "running" => Ok(DesiredState::Running),
            "stopped" => Ok(DesiredState::Stopped),
            other => Err(FromSqlError::Other(
                format!("'{other}' is not a desired state").into(),
            )),
        }
    }
}

impl FromSql for Drift {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        let known = Drift::ALL.into_iter().find(|drift| drift.as_str() == word);
        known.ok_or_else(|| FromSqlError::Other(format!("'{word}' is not a drift").into()))
    }
}

/// An unknown word is read as [`ActualState::Unknown`].
impl FromSql for ActualState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        Ok(ActualState::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .unwrap_or(ActualState::Unknown))
    }
}
