//! Row ids as SQL values.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::base::names::{
    AlertId, BadName, BlueprintId, CancellationId, JobId, OverlayId, ScheduleId, ServerId,
    SessionId, TaskId, TokenId, UserId,
};
use crate::base::ulid::Ulid;

impl ToSql for Ulid {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Ulid {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let parsed = value.as_str()?.parse();
        parsed.map_err(|bad: BadName| FromSqlError::Other(Box::new(bad)))
    }
}

macro_rules! sql_value {
    ($($id:ident),+) => {$(
        impl ToSql for $id {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                self.0.to_sql()
            }
        }

        impl FromSql for $id {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                i64::column_result(value).map(Self)
            }
        }
    )+};
}

sql_value!(
    AlertId,
    BlueprintId,
    CancellationId,
    JobId,
    OverlayId,
    ScheduleId,
    ServerId,
    SessionId,
    TaskId,
    TokenId,
    UserId
);
