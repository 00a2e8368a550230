//! Row ids as SQL values.

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::base::names::{
    AlertId, BlueprintId, CancellationId, JobId, OverlayId, ScheduleId, ServerId, SessionId,
    TaskId, TokenId, UserId,
};

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
