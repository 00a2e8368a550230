//! The OpenAPI document. It is made from the handlers and from the very shapes that they take and give; what all routes
//! have in common is added here.

use axum::Json;
use axum::extract::State;
use utoipa::OpenApi;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Ref, RefOr, Required};

use super::ask::Nothing;
use super::{cancel, health, jobs, servers};
use crate::web::app::App;
use crate::web::auth::session;
use crate::web::failure::Told;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "left4me",
        description = "Left 4 Dead 2 servers: what `left4me-job` and `left4me` tell with `--json`, in the same shapes. Times are unix milliseconds. \
                       docs/api.md has examples.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/", description = "Where this document came from.")),
    paths(
        health::show, show, jobs::list, jobs::enqueue, jobs::show, cancel::job, cancel::status, cancel::task,
        cancel::list, servers::list, servers::show,
    ),
    components(schemas(Told)),
    tags(
        (name = "jobs", description = "What shall be done, and what was."),
        (name = "cancel", description = "Ending what waits or runs."),
        (name = "servers", description = "What they shall be, and what they are."),
        (name = "health", description = "For whoever watches us."),
    ),
)]
struct Document;

/// The shapes that programs send. All others are ours, and always have all their fields.
const SENT: [&str; 3] = ["NewJob", "CancelJob", "CancelTask"];

/// Describe this API
#[utoipa::path(get, path = "/api/openapi.json", operation_id = "describe", tag = "health", responses(
    (status = 200, body = Object, description = "This document."),
))]
pub async fn show(State(app): State<App>, _: super::ask::Query<Nothing>) -> Json<utoipa::openapi::OpenApi> {
    Json(document(app.origins.is_https()))
}

/// The document. `https`: the session's cookie is named after it.
fn document(https: bool) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    for (path, item) in &mut document.paths.paths {
        for (changes, operation) in [(false, &mut item.get), (true, &mut item.post)] {
            if let Some(operation) = operation {
                complete(path, changes, operation);
            }
        }
    }
    let components = document.components.get_or_insert_default();
    for (name, schema) in &mut components.schemas {
        if let RefOr::T(Schema::Object(shape)) = schema
            && !SENT.contains(&name.as_str())
            && name != "Failure"
        {
            shape.required = shape.properties.keys().cloned().collect();
        }
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("l4m_…");
    let bearer = bearer.description(Some("A token: `left4me token create USER --name TEXT`.")).build();
    let session = ApiKeyValue::with_description(session::cookie_name(https), "Who is signed in with a browser.");
    let csrf = ApiKeyValue::with_description(
        "X-CSRF-Token",
        "With a session, for what changes something: the value of any form's field `csrf`. The request has to come from our own origin, too.",
    );
    let schemes = [
        ("token", SecurityScheme::Http(bearer)),
        ("session", SecurityScheme::ApiKey(ApiKey::Cookie(session))),
        ("csrf", SecurityScheme::ApiKey(ApiKey::Header(csrf))),
    ];
    components.security_schemes.extend(schemes.map(|(name, scheme)| (name.to_owned(), RefOr::T(scheme))));
    document
}

/// What a route has because of its path and method: who may, and how it may fail.
fn complete(path: &str, changes: bool, operation: &mut Operation) {
    let mut failures =
        vec![(503, "The database does not answer, or it took too long."), (421, "The Host is not ours.")];
    if path.starts_with("/api/") {
        failures.extend([
            (401, "Nobody is signed in, or the token is not good."),
            (422, "A parameter or a field of the body is not good: the message names it."),
            (500, "A fault of left4me's: the journal knows it by `request_id`."),
        ]);
        let names: &[&str] = if changes { &["session", "csrf"] } else { &["session"] };
        let none: [&str; 0] = [];
        let session = names.iter().fold(SecurityRequirement::default(), |all, name| all.add(*name, none));
        operation.security = Some(vec![SecurityRequirement::new("token", none), session]);
    }
    if path.contains('{') {
        failures.push((404, "There is nothing of this id, or it is another user's."));
    }
    if changes {
        if let Some(RefOr::T(body)) = &mut operation.request_body
            && path.ends_with("/cancel")
        {
            body.required = Some(Required::False);
        }
        failures.extend([
            (403, "Only an admin may do this; or with a session: the request was not sent by a page of ours."),
            (413, "The body is longer than 64 KiB."),
            (415, "The body is no JSON: Content-Type: application/json."),
        ]);
    }
    for (status, words) in failures {
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| RefOr::T(failure(words)));
    }
}

fn failure(words: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Failure"))).build();
    ResponseBuilder::new().description(words).content("application/json", content).build()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::http::Method;
    use serde_json::Value;

    use super::document;
    use crate::web::routes::{self, Who};

    /// Every operation of the document, with the statuses that it names.
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
        let api = routes.iter().filter(|route| route.path.starts_with("/api/") || route.path == "/health");
        let listed: BTreeSet<String> = api.clone().map(|route| format!("{} {}", route.method, route.path)).collect();
        assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), listed);
        assert!(listed.len() >= 11, "{listed:?}");
        for route in api {
            let statuses = &described[&format!("{} {}", route.method, route.path)];
            let mut wanted = vec![503, 421];
            if route.who == Who::Api {
                wanted.extend([401, 422, 500]);
            }
            if route.path.contains('{') {
                wanted.push(404);
            }
            if route.method == Method::POST {
                wanted.extend([403, 413, 415]);
            }
            if route.path.ends_with("/cancel") {
                wanted.extend([400, 409]);
            }
            for status in wanted {
                assert!(statuses.contains(&status), "{route:?} may answer {status}");
            }
            assert!(statuses.iter().any(|status| (200..300).contains(status)), "{route:?}");
        }
    }

    #[test]
    fn what_we_answer_always_has_all_its_fields() {
        let document = serde_json::to_value(document(false)).unwrap();
        let job = &document["components"]["schemas"]["Job"];
        let required: BTreeSet<&str> =
            job["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let fields: BTreeSet<&str> = job["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(required, fields);
        assert!(fields.contains("queue_position"), "{fields:?}");
        assert_eq!(document["components"]["schemas"]["NewJob"]["required"], serde_json::json!(["operation"]));
        assert_eq!(document["components"]["securitySchemes"]["session"]["name"], "left4me");
    }
}
