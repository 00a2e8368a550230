//! The pages. Each file loads one page's data and handles its forms.

mod account;
mod admin;
mod blueprints;
mod console;
mod dashboard;
pub mod extract;
pub mod fleet;
pub mod frame;
mod game;
mod graph;
mod job;
mod job_acts;
pub mod login;
pub mod parts;
mod player;
pub mod power;
mod render;
mod roll;
mod schedules;
pub mod sentence;
mod sentences;
mod server;
mod server_acts;
mod server_new;
mod waiting;

use crate::web::access::Access;
use crate::web::table::Table;

pub(super) fn routes(table: Table) -> Table {
    let table = table
        .get(Access::Anyone, "/login", login::show)
        .post(Access::Anyone, "/login", login::sign_in)
        .post(Access::User, "/logout", login::sign_out);
    let table = schedules::routes(player::routes(table));
    let table = admin::routes(blueprints::routes(table));
    fleet::routes(table)
}
