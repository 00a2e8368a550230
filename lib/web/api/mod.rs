//! The REST API. It has the same requests as `left4me-job` and `left4me`, and the output of their
//! `--json`.
//!
//! | file | what |
//! |---|---|
//! | `extract` | extractors: ids, queries, JSON bodies |
//! | `jobs`, `cancel`, `schedules`, `servers`, `builds`, `fleet`, `game` | the routes |
//! | `target` | a server in a request's body |
//! | `health` | the health check |
//! | `document` | the OpenAPI document, generated from them |
//! | `schemas` | what the document says of types in domain/ |

mod builds;
mod cancel;
mod document;
mod extract;
mod fleet;
mod game;
mod health;
mod jobs;
mod list;
mod schedules;
mod schemas;
mod servers;
mod target;

use crate::web::access::Access;
use crate::web::table::Table;

pub(super) fn routes(table: Table) -> Table {
    let table = table
        .get(Access::Api, "/api/schedules", schedules::list)
        .post(Access::Api, "/api/schedules", schedules::add)
        .get(Access::Api, "/api/schedules/{id}", schedules::show)
        .delete(Access::Api, "/api/schedules/{id}", schedules::remove)
        .post(Access::Api, "/api/schedules/{id}/pause", schedules::pause)
        .post(Access::Api, "/api/schedules/{id}/resume", schedules::resume);

    table
        .get(Access::Anyone, "/health", health::show)
        .get(Access::Api, "/api/openapi.json", document::show)
        .get(Access::Api, "/api/jobs", jobs::list)
        .post(Access::Api, "/api/jobs", jobs::enqueue)
        .get(Access::Api, "/api/jobs/{id}", jobs::show)
        .post(Access::Api, "/api/jobs/{id}/cancel", cancel::job)
        .get(
            Access::Api,
            "/api/jobs/{id}/cancellation-status",
            cancel::status,
        )
        .post(Access::Api, "/api/tasks/{id}/cancel", cancel::task)
        .get(Access::Api, "/api/cancellations", cancel::list)
        .get(Access::ApiAdmin, "/api/builds", builds::list)
        .get(Access::ApiAdmin, "/api/fleet/hosts", fleet::hosts)
        .get(Access::ApiAdmin, "/api/fleet/servers", fleet::servers)
        .get(Access::ApiAdmin, "/api/fleet/orders", fleet::orders)
        .get(Access::Api, "/api/servers", servers::list)
        .get(Access::Api, "/api/servers/{id}", servers::show)
        .get(Access::Api, "/api/servers/{id}/stale", servers::stale)
        .get(Access::Api, "/api/servers/{id}/players", game::players)
        .post(Access::Api, "/api/servers/{id}/command", game::command)
}
