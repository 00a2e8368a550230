//! The pages of a fleet: its hosts, their servers and jobs, what happened there, the orders that were
//! sent from here, and the rollouts. For admins: other hosts' users are not this one's.

mod events;
mod host;
mod hosts;
mod jobs;
mod orders;
mod rollouts;
mod servers;

use rusqlite::Connection;

use super::extract::{self, Fields};
use crate::base::names::FleetHost;
use crate::base::{Result, clock};
use crate::db::fleet::hosts as host_rows;
use crate::db::fleet::overview;
use crate::db::fleet::self_row::{self, SelfRow};
use crate::db::lists::Part;
use crate::domain::fleet::view::{HostState, LinkView};
use crate::web::access::Access;
use crate::web::failure::Failure;
use crate::web::table::Table;

/// Rows on a page.
const ROWS: u32 = 50;

pub(super) fn routes(table: Table) -> Table {
    table
        .get(Access::Admin, "/fleet", hosts::list)
        .get(Access::Admin, "/fleet/hosts/{name}", host::show)
        .get(Access::Admin, "/fleet/servers", servers::list)
        .get(Access::Admin, "/fleet/jobs", jobs::list)
        .get(Access::Admin, "/fleet/events", events::list)
        .get(Access::Admin, "/fleet/orders", orders::list)
        .get(Access::Admin, "/fleet/rollouts", rollouts::list)
}

/// What all pages of the fleet begin with.
struct Head {
    tab: &'static str,
    /// None where this host belongs to no fleet.
    own: Option<SelfRow>,
    /// The hosts by name, for filters.
    hosts: Vec<String>,
    now: i64,
}

impl Head {
    fn load(db: &Connection, tab: &'static str, now: i64) -> Result<Self> {
        let hosts = host_rows::all(db)?.into_iter().map(|host| host.name);
        Ok(Self {
            tab,
            own: self_row::get(db)?,
            hosts: hosts.collect(),
            now,
        })
    }

    /// Why what the page shows may be old.
    fn away(&self) -> Option<String> {
        let own = self.own.as_ref()?;
        let says = |since| clock::minute(since, self.now);
        match overview::link(own, self.now) {
            LinkView::Connected { .. } => None,
            LinkView::Never => Some(
                "left4me-link has not connected to the engine yet: `left4me doctor` says why"
                    .to_owned(),
            ),
            LinkView::Away { since } => {
                let why = own.link_error.as_deref();
                let why = why.map_or_else(String::new, |why| format!(" ({why})"));
                Some(format!(
                    "No connection to the engine since {}{why}",
                    says(since)
                ))
            }
            LinkView::Silent { since } => Some(format!(
                "left4me-link has been silent since {}: `left4me doctor` says why",
                says(since)
            )),
        }
    }
}

/// Where a time is that is long enough ago that its hour matters: `14:02`.
pub fn minute(at: &i64, now: &i64) -> String {
    clock::minute(*at, *now)
}

/// The class of a host's state, by its meaning.
pub fn host_class(state: &HostState) -> &'static str {
    match state {
        HostState::Up => "good",
        HostState::Cordoned => "paused",
        HostState::Silent => "unknown",
        HostState::Never => "pending",
        HostState::Expelled => "cancelled",
    }
}

/// The host that a filter names.
fn host_filter(fields: &Fields) -> std::result::Result<Option<FleetHost>, Failure> {
    fields.optional::<FleetHost>("host")
}

/// The links to the pages before and after.
struct Turns {
    newer: Option<String>,
    older: Option<String>,
}

/// A page of a list without a total.
struct Turn {
    number: u32,
}

impl Turn {
    fn of(fields: &Fields) -> std::result::Result<Self, Failure> {
        let number = fields.get("page").map(extract::id).transpose()?;
        Ok(Self {
            number: number.unwrap_or(1).max(1),
        })
    }

    /// One more row than is shown, to know whether there are more.
    fn part(&self) -> Part {
        Part {
            limit: ROWS + 1,
            offset: (self.number - 1).saturating_mul(ROWS),
        }
    }

    /// Cuts the row that is not shown. `to` is the URL with its filters.
    fn cut<T>(&self, rows: &mut Vec<T>, to: &str) -> Turns {
        let most = usize::try_from(ROWS).unwrap_or(usize::MAX);
        let more = rows.len() > most;
        rows.truncate(most);
        let page = |number: u32| format!("{to}&page={number}");
        Turns {
            newer: (self.number > 1).then(|| page(self.number - 1)),
            older: more.then(|| page(self.number + 1)),
        }
    }
}
