//! The routes of players' pages: servers, jobs, the own account.

use super::{account, console, dashboard, game, job, job_acts, server, server_acts, server_new};
use crate::web::access::Access;
use crate::web::table::Table;

pub(super) fn routes(table: Table) -> Table {
    let table = table
        .get(Access::User, "/", dashboard::show)
        .get(Access::User, "/servers", dashboard::show)
        .post(Access::User, "/servers", server_new::create)
        .get(Access::User, "/servers/new", server_new::show)
        .get(Access::User, "/servers/{id}", server::show)
        .get(Access::User, "/servers/{id}/jobs", server::jobs)
        .get(Access::User, "/servers/{id}/log", console::show)
        .post(Access::User, "/servers/{id}/start", server_acts::start)
        .post(Access::User, "/servers/{id}/stop", server_acts::stop)
        .post(Access::User, "/servers/{id}/restart", server_acts::restart)
        .post(Access::User, "/servers/{id}/reset", server_acts::reset)
        .post(Access::User, "/servers/{id}/delete", server_acts::delete)
        .post(
            Access::User,
            "/servers/{id}/initialize",
            server_acts::initialize,
        )
        .post(Access::User, "/servers/{id}/blueprint", server_acts::assign)
        .post(
            Access::User,
            "/servers/{id}/unresponsive",
            server_acts::set_restart,
        )
        .post(Access::User, "/servers/{id}/remove", server_acts::remove);

    let table = table
        .post(Access::User, "/servers/{id}/command", game::command)
        .post(Access::User, "/servers/{id}/say", game::say)
        .post(Access::User, "/servers/{id}/map", game::map)
        .get(
            Access::User,
            "/servers/{id}/remove-player",
            game::ask_remove,
        )
        .post(Access::User, "/servers/{id}/kick", game::kick)
        .post(Access::User, "/servers/{id}/ban", game::ban);

    table
        .get(Access::User, "/jobs/{id}", job::show)
        .get(Access::User, "/jobs/{id}/lines", job_acts::lines)
        .get(Access::User, "/jobs/{id}/log.txt", job_acts::download)
        .post(Access::User, "/jobs/{id}/cancel", job_acts::cancel)
        .post(Access::User, "/jobs/{id}/retry", job_acts::retry)
        .get(Access::User, "/account", account::show)
        .post(Access::User, "/account/password", account::set_password)
        .post(Access::User, "/account/tokens", account::create_token)
        .post(
            Access::User,
            "/account/tokens/{id}/revoke",
            account::revoke_token,
        )
}
