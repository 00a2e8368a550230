//! The routes of what a player sees: servers, jobs, the own account.

use super::{account, console, dashboard, job, job_acts, server, server_acts, server_new};
use crate::web::access::Who;
use crate::web::table::Table;

pub(super) fn routes(table: Table) -> Table {
    let table = table
        .get(Who::User, "/", dashboard::show)
        .get(Who::User, "/servers", dashboard::show)
        .post(Who::User, "/servers", server_new::create)
        .get(Who::User, "/servers/new", server_new::show)
        .get(Who::User, "/servers/{id}", server::show)
        .get(Who::User, "/servers/{id}/jobs", server::jobs)
        .get(Who::User, "/servers/{id}/log", console::show)
        .post(Who::User, "/servers/{id}/start", server_acts::start)
        .post(Who::User, "/servers/{id}/stop", server_acts::stop)
        .post(Who::User, "/servers/{id}/restart", server_acts::restart)
        .post(Who::User, "/servers/{id}/reset", server_acts::reset)
        .post(Who::User, "/servers/{id}/delete", server_acts::delete)
        .post(Who::User, "/servers/{id}/initialize", server_acts::initialize)
        .post(Who::User, "/servers/{id}/blueprint", server_acts::assign)
        .post(Who::User, "/servers/{id}/remove", server_acts::remove);
    table
        .get(Who::User, "/jobs/{id}", job::show)
        .get(Who::User, "/jobs/{id}/lines", job_acts::lines)
        .get(Who::User, "/jobs/{id}/log.txt", job_acts::download)
        .post(Who::User, "/jobs/{id}/cancel", job_acts::cancel)
        .post(Who::User, "/jobs/{id}/retry", job_acts::retry)
        .get(Who::User, "/account", account::show)
        .post(Who::User, "/account/password", account::set_password)
        .post(Who::User, "/account/tokens", account::create_token)
        .post(Who::User, "/account/tokens/{id}/revoke", account::revoke_token)
}
