//! The hosts of the fleet.

use askama::Template;
use axum::response::Response;

use super::super::frame::{Frame, page};
use super::Head;
use crate::base::clock;
use crate::db::fleet::overview::{self, Unsettled};
use crate::domain::fleet::view::HostState;
use crate::queue::fleet::seen::{SeenHost, all_hosts};
use crate::web::failure::Failure;
use crate::web::signed_in::SignedIn;

#[derive(Template)]
#[template(path = "fleet/hosts.html")]
struct HostsPage {
    frame: Frame,
    head: Head,
    hosts: Vec<SeenHost>,
    unsettled: Unsettled,
}

impl HostsPage {
    /// `2 up, 1 silent`
    fn counts(&self) -> String {
        let count = |state: HostState| {
            let hosts = self.hosts.iter().filter(|host| host.state == state).count();
            (hosts > 0).then(|| format!("{hosts} {state}"))
        };
        let counts: Vec<_> = HostState::ALL.into_iter().filter_map(count).collect();
        counts.join(", ")
    }

    fn players(&self) -> u32 {
        let known = self.hosts.iter().filter(|host| host.state.is_known());
        known.filter_map(|host| host.players).sum()
    }

    fn open_orders(&self) -> u32 {
        self.unsettled.kept + self.unsettled.sent + self.unsettled.accepted
    }
}

pub(super) async fn list(SignedIn { app, viewer }: SignedIn) -> Result<Response, Failure> {
    let now = clock::now_ms();
    let loaded = app.store.read(move |db| {
        Ok((
            Head::load(db, "hosts", now)?,
            all_hosts(db, now)?,
            overview::unsettled(db)?,
        ))
    });
    let (head, hosts, unsettled) = loaded.await?;
    page(&HostsPage {
        frame: Frame::of(viewer, "Fleet").within("fleet"),
        head,
        hosts,
        unsettled,
    })
}
