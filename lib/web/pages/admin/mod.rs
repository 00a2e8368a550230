//! What only admins see and do.

mod events;
mod health;
mod jobs;
mod overlays;
mod overview;
mod steam;
mod users;

use crate::web::access::Who;
use crate::web::table::Table;

pub(super) fn routes(table: Table) -> Table {
    table
        .get(Who::Admin, "/admin", overview::show)
        .post(Who::Admin, "/admin/install", steam::install)
        .post(Who::Admin, "/admin/update", steam::update)
        .post(Who::Admin, "/admin/pause", overview::pause)
        .get(Who::Admin, "/admin/jobs", jobs::list)
        .get(Who::Admin, "/admin/users", users::list)
        .post(Who::Admin, "/admin/users", users::create)
        .post(Who::Admin, "/admin/users/{name}/password", users::password)
        .post(Who::Admin, "/admin/users/{name}/disable", users::disable)
        .post(Who::Admin, "/admin/users/{name}/enable", users::enable)
        .post(Who::Admin, "/admin/tokens/{id}/revoke", users::revoke)
        .get(Who::Admin, "/admin/overlays", overlays::list)
        .post(Who::Admin, "/admin/overlays", overlays::add)
        .post(Who::Admin, "/admin/overlays/{name}/remove", overlays::remove)
        .get(Who::Admin, "/admin/events", events::list)
        .get(Who::Admin, "/admin/health", health::show)
}
