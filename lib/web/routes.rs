//! The table of routes and who may use each. The router is built from it, and tests read it.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::{api, assets, pages, scrape, streams};

pub use crate::web::access::Access;
pub use crate::web::table::{Route, Table};

fn table(app: Option<App>) -> Table {
    let table = Table::new(app);
    let table = assets::routes(table);
    let table = scrape::routes(table);
    let table = streams::routes(table);
    let table = pages::routes(table);
    api::routes(table)
}

/// The router of all routes.
pub fn router(app: App) -> Router {
    let table = table(Some(app.clone()));
    let router = table
        .into_router()
        .fallback(no_page)
        .method_not_allowed_fallback(no_method);
    router.with_state(app)
}

pub fn list() -> Vec<Route> {
    table(None).into_list()
}

async fn no_page() -> Response {
    Failure::no_page().into_response()
}

async fn no_method(request: Request) -> Response {
    let message = format!("{} is not allowed here", request.method());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, message).into_response()
}
