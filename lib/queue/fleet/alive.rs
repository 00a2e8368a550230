//! Whether a host may live. While it may, nothing that it has is started on another host.

use rusqlite::Connection;

use crate::base::Result;
use crate::db::fleet::{hosts, overview, self_row};
use crate::domain::fleet::placement::SILENT;

/// Why a host may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayLive {
    /// It was heard of then, unix ms.
    HeardOf(i64),
    /// This host has not been connected for long enough to miss it.
    NotConnected,
}

/// Why a host may live. None if it has been silent for long, or is no member.
pub fn may_live(connection: &Connection, host: &str, now: i64) -> Result<Option<MayLive>> {
    let member = hosts::get(connection, host)?.filter(|host| host.expelled_at.is_none());
    let Some(member) = member else {
        return Ok(None);
    };
    if let Some(at) = member.status_received_at
        && now - at <= SILENT
    {
        return Ok(Some(MayLive::HeardOf(at)));
    }
    let own = self_row::get(connection)?.unwrap_or_default();
    let can_judge = overview::link(&own, now).can_judge(now);
    Ok((!can_judge).then_some(MayLive::NotConnected))
}
