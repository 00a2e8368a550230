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
mod list;
mod servers;

use crate::web::access::Who;
use crate::web::table::Table;

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
