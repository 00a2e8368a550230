//! The pages: each file loads what one page shows and takes what its forms send.

mod account;
mod admin;
mod blueprints;
mod console;
mod dashboard;
pub mod extract;
pub mod frame;
mod graph;
mod job;
mod job_acts;
pub mod login;
pub mod parts;
mod player;
pub mod power;
mod render;
pub mod sentence;
mod server;
mod server_acts;
mod server_new;

use crate::web::access::Who;
use crate::web::table::Table;

pub(super) fn routes(table: Table) -> Table {
    let table = table.get(Who::Anyone, "/login", login::show).post(Who::Anyone, "/login", login::sign_in).post(
        Who::User,
        "/logout",
        login::sign_out,
    );
    admin::routes(blueprints::routes(player::routes(table)))
}
