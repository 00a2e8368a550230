//! Pages for admins.

mod builds;
mod events;
mod health;
mod jobs;
mod overlays;
mod overview;
mod steam;
mod users;

use crate::web::access::Access;
use crate::web::table::Table;

pub(super) fn routes(table: Table) -> Table {
    table
        .get(Access::Admin, "/admin", overview::show)
        .post(Access::Admin, "/admin/install", steam::install)
        .post(Access::Admin, "/admin/update", steam::update)
        .post(Access::Admin, "/admin/check", steam::check)
        .get(Access::Admin, "/admin/builds", builds::show)
        .post(Access::Admin, "/admin/rollback", builds::rollback)
        .post(
            Access::Admin,
            "/admin/builds/{build}/remove",
            builds::remove,
        )
        .post(Access::Admin, "/admin/pause", overview::pause)
        .get(Access::Admin, "/admin/jobs", jobs::list)
        .get(Access::Admin, "/admin/users", users::list)
        .post(Access::Admin, "/admin/users", users::create)
        .post(
            Access::Admin,
            "/admin/users/{name}/password",
            users::password,
        )
        .post(Access::Admin, "/admin/users/{name}/disable", users::disable)
        .post(Access::Admin, "/admin/users/{name}/enable", users::enable)
        .post(Access::Admin, "/admin/tokens/{id}/revoke", users::revoke)
        .get(Access::Admin, "/admin/overlays", overlays::list)
        .post(Access::Admin, "/admin/overlays", overlays::add)
        .post(
            Access::Admin,
            "/admin/overlays/{name}/remove",
            overlays::remove,
        )
        .get(Access::Admin, "/admin/events", events::list)
        .get(Access::Admin, "/admin/health", health::show)
}
