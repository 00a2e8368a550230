//! The words of a server's states in their columns.

use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};

use crate::base::names::BadName;
use crate::domain::drift::Drift;
use crate::domain::server::{ActualState, DesiredState};

impl FromSql for DesiredState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        word(value.as_str()?)
    }
}

impl FromSql for Drift {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        word(value.as_str()?)
    }
}

/// An unknown word is read as [`ActualState::Unknown`].
impl FromSql for ActualState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(ActualState::parse(value.as_str()?).unwrap_or(ActualState::Unknown))
    }
}

fn word<T: FromStr<Err = BadName>>(word: &str) -> FromSqlResult<T> {
    word.parse()
        .map_err(|error: BadName| FromSqlError::Other(error.to_string().into()))
}
