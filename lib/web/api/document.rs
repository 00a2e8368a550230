//! The OpenAPI document. It is generated from the handlers and their types; what all routes have in
//! common is added here.

use axum::Json;
use axum::extract::State;
use axum::http::Method;
use utoipa::OpenApi;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Ref, RefOr, Required};

use super::extract::Nothing;
use super::{builds, cancel, fleet, game, health, jobs, schedules, servers};
use crate::web::app::App;
use crate::web::auth::session;
use crate::web::failure::FailureBody;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "left4me",
        description = "Manages Left 4 Dead 2 servers. Objects are the same as in the output of \
                      `left4me-job` and `left4me` with \
                       `--json`. Times are unix milliseconds. docs/api.md has examples.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "The host of this document.")),
    paths(
        health::show, show, jobs::list, jobs::enqueue, jobs::show, cancel::job, cancel::status, cancel::task,
        cancel::list, builds::list, fleet::hosts, fleet::servers, fleet::orders, servers::list, servers::show, servers::stale, game::players, game::command,
        schedules::list, schedules::add, schedules::show, schedules::remove, schedules::pause, schedules::resume,
    ),
    components(schemas(FailureBody)),
    tags(
        (name = "jobs", description = "Work that is queued, running or done."),
        (name = "cancel", description = "Cancelling jobs and tasks."),
        (name = "servers", description = "Servers with their desired and actual state."),
        (name = "builds", description = "The builds of the game."),
        (name = "fleet", description = "Several hosts: what each told last, and orders to them."),
        (name = "schedules", description = "What is done at set times."),
        (name = "health", description = "The health check, and this document."),
    ),
)]
struct Document;

/// The schemas of request bodies. All others are ours, and always have all their fields.
const SENT: [&str; 5] = [
    "NewJob",
    "NewSchedule",
    "CancelJob",
    "CancelTask",
    "GameCommand",
];

/// Get this API's description
#[utoipa::path(get, path = "/api/openapi.json", operation_id = "describe", tag = "health", responses(
    (status = 200, body = Object, description = "This document."),
))]
pub async fn show(
    State(app): State<App>,
    _: super::extract::Query<Nothing>,
) -> Json<utoipa::openapi::OpenApi> {
    Json(document(app.origins.is_https()))
}

/// The document. `https` decides the name of the session's cookie.
fn document(https: bool) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in [
            (Method::GET, &mut item.get),
            (Method::POST, &mut item.post),
            (Method::DELETE, &mut item.delete),
        ] {
            if let Some(operation) = operation {
                complete(path, &method, operation);
            }
        }
    }

    let components = document.components.get_or_insert_default();
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(Schema::Object(shape)) = schema
            && !SENT.contains(&name.as_str())
            && name != "Failure"
        {
            // An accepted job that waits for nothing has no `waiting`.
            let is_optional = |field: &str| name == "Accepted" && field == "waiting";
            let fields = shape.properties.keys().cloned();
            shape.required = fields.filter(|field| !is_optional(field)).collect();
        }
    }

    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("l4m_…");
    let bearer = bearer
        .description(Some("A token: `left4me token create USER --name TEXT`."))
        .build();
    let session = ApiKeyValue::with_description(
        session::cookie_name(https),
        "The session of a signed-in browser.",
    );

    let csrf = ApiKeyValue::with_description(
        "X-CSRF-Token",
        "With a session, for requests that change something: the value of the field `csrf` in any \
        form. The request must also come from our own origin.",
    );

    let schemes = [
        ("token", SecurityScheme::Http(bearer)),
        ("session", SecurityScheme::ApiKey(ApiKey::Cookie(session))),
        ("csrf", SecurityScheme::ApiKey(ApiKey::Header(csrf))),
    ];

    components
        .security_schemes
        .extend(schemes.map(|(name, scheme)| (name.to_owned(), RefOr::T(scheme))));

    document
}

/// Adds what follows from a route's path and method: its authentication and its errors.
fn complete(path: &str, method: &Method, operation: &mut Operation) {
    let changes = *method != Method::GET;
    let mut failures = vec![
        (503, "The database does not answer, or it took too long."),
        (421, "The Host is unknown."),
    ];

    if path.starts_with("/api/") {
        failures.extend([
            (401, "Not signed in, or the token is invalid."),
            (
                422,
                "A parameter or body field is invalid; the message names it.",
            ),
            (
                500,
                "Internal error; find it in the journal by `request_id`.",
            ),
        ]);

        let names: &[&str] = if changes {
            &["session", "csrf"]
        } else {
            &["session"]
        };

        let none: [&str; 0] = [];
        let session = names
            .iter()
            .fold(SecurityRequirement::default(), |all, name| {
                all.add(*name, none)
            });
        operation.security = Some(vec![SecurityRequirement::new("token", none), session]);
    }

    if path.contains('{') {
        failures.push((404, "Not found, or it belongs to another user."));
    }

    if changes {
        if let Some(RefOr::T(body)) = &mut operation.request_body
            && path.ends_with("/cancel")
        {
            body.required = Some(Required::False);
        }

        failures.extend([
            (
                403,
                "Admins only; or, with a session, the request was not sent by a page of left4me.",
            ),
            (413, "The body is longer than 64 KiB."),
        ]);
        if *method == Method::POST {
            let description = "The body is not JSON (Content-Type: application/json).";
            failures.push((415, description));
        }
    }

    for (status, description) in failures {
        operation
            .responses
            .responses
            .entry(status.to_string())
            .or_insert_with(|| RefOr::T(failure(description)));
    }
}

fn failure(description: &str) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Failure")))
        .build();
    ResponseBuilder::new()
        .description(description)
        .content("application/json", content)
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::http::Method;
    use serde_json::Value;

    use super::document;
    use crate::web::routes::{self, Access};

    /// Each operation of the document, with its statuses.
    fn described(document: &Value) -> BTreeMap<String, BTreeSet<u16>> {
        let mut all = BTreeMap::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let statuses = operation["responses"].as_object().unwrap().keys();
                all.insert(
                    format!("{} {path}", method.to_uppercase()),
                    statuses.map(|code| code.parse().unwrap()).collect(),
                );
            }
        }

        all
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let described = described(&serde_json::to_value(document(true)).unwrap());
        let routes = routes::list();
        let api = routes
            .iter()
            .filter(|route| route.path.starts_with("/api/") || route.path == "/health");
        let listed: BTreeSet<String> = api
            .clone()
            .map(|route| format!("{} {}", route.method, route.path))
            .collect();

        assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), listed);
        assert!(listed.len() >= 11, "{listed:?}");

        for route in api {
            let statuses = &described[&format!("{} {}", route.method, route.path)];
            let mut wanted = vec![503, 421];
            if route.who == Access::Api {
                wanted.extend([401, 422, 500]);
            }

            if route.path.contains('{') {
                wanted.push(404);
            }

            if route.method != Method::GET {
                wanted.extend([403, 413]);
            }

            if route.method == Method::POST {
                wanted.push(415);
            }

            if route.path.ends_with("/cancel") {
                wanted.extend([400, 409]);
            }

            for status in wanted {
                assert!(statuses.contains(&status), "{route:?} may answer {status}");
            }

            assert!(
                statuses.iter().any(|status| (200..300).contains(status)),
                "{route:?}"
            );
        }
    }

    #[test]
    fn our_schemas_require_all_their_fields() {
        let document = serde_json::to_value(document(false)).unwrap();
        let job = &document["components"]["schemas"]["Job"];
        let required: BTreeSet<&str> = job["required"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        let fields: BTreeSet<&str> = job["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();

        assert_eq!(required, fields);
        assert!(fields.contains("queue_position"), "{fields:?}");
        assert_eq!(
            document["components"]["schemas"]["NewJob"]["required"],
            serde_json::json!(["operation"])
        );

        assert_eq!(
            document["components"]["securitySchemes"]["session"]["name"],
            "left4me"
        );
    }
}
