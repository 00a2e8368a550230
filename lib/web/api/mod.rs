//! The REST API: what `left4me-job` and `left4me` tell with `--json`, in the same shapes, and the same wishes.
//!
//! | file | what |
//! |---|---|
//! | `ask` | what a program sends: ids, queries, JSON bodies |
//! | `jobs`, `cancel`, `servers` | the routes |
//! | `health` | whether we are well |
//! | `document` | the OpenAPI document, made from all of them |

mod ask;
mod cancel;
mod document;
mod health;
mod jobs;
mod servers;

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::lists::{Listed, Part};
use crate::web::routes::{Table, Who};

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub struct List<T> {
    /// What is in this part.
    items: Vec<T>,
    /// How many there are in all parts.
    total: i64,
    /// At most so many are in a part. It has fewer when it would be longer than about 1 MiB: the next one begins at
    /// `offset` and the number of `items`.
    limit: u32,
    /// So many come before this part.
    offset: u32,
}

impl<T> List<T> {
    fn new((items, total): Listed<T>, part: Part) -> Self {
        Self { items, total, limit: part.limit, offset: part.offset }
    }
}

pub(super) fn routes(table: Table) -> Table {
    table
        .get(Who::Anyone, "/health", health::show)
        .get(Who::Api, "/api/openapi.json", document::show)
        .get(Who::Api, "/api/jobs", jobs::list)
        .post(Who::Api, "/api/jobs", jobs::enqueue)
        .get(Who::Api, "/api/jobs/{id}", jobs::show)
        .post(Who::Api, "/api/jobs/{id}/cancel", cancel::job)
        .get(Who::Api, "/api/jobs/{id}/cancellation-status", cancel::status)
        .post(Who::Api, "/api/tasks/{id}/cancel", cancel::task)
        .get(Who::Api, "/api/cancellations", cancel::list)
        .get(Who::Api, "/api/servers", servers::list)
        .get(Who::Api, "/api/servers/{id}", servers::show)
}
