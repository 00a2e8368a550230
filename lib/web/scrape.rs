//! `/metrics`, for Prometheus.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::base::clock;
use crate::db;
use crate::web::access::Access;
use crate::web::app::App;
use crate::web::builds;
use crate::web::failure::Failure;
use crate::web::metrics::CONTENT_TYPE;
use crate::web::table::Table;

pub(super) fn routes(table: Table) -> Table {
    table.get(Access::Scraper, "/metrics", show)
}

async fn show(State(app): State<App>) -> Result<Response, Failure> {
    let mut snapshot = app.store.read(db::metrics::snapshot).await?;
    snapshot.builds.current = builds::current(&app).await;
    let text = app.metrics.render(&snapshot, clock::now_ms())?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
