//! The REST API.

use crate::web::routes::Table;

pub(super) fn routes(table: Table) -> Table {
    table
}
