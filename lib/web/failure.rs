//! What goes wrong, with the status that belongs to it. A handler only says what; whether it becomes a page or JSON is
//! decided where the answer leaves.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::base::{Error, Exit};

/// A request that was not fulfilled.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The status of the answer.
    pub status: StatusCode,
    /// One line for people: what failed, on what, what to do.
    pub message: String,
    /// Seconds after which it may go better.
    pub retry_after: Option<u32>,
    /// Under what journalctl finds a fault of our own.
    pub request_id: Option<String>,
}

/// A failure as the API tells it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Failure)]
pub struct Told {
    /// A word for programs, from the status: `not_found`, `conflict`, …
    pub error: String,
    /// One line for people.
    pub message: String,
    /// Only for a fault of ours: `journalctl LEFT4ME_REQUEST_ID=…` finds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Failure {
    /// A failure with a status and a line.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, request_id: None }
    }

    /// 401: nobody is signed in.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "sign in, or show a token: Authorization: Bearer l4m_…")
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404 for what has no page.
    #[must_use]
    pub fn no_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such page")
    }

    /// 422: the request is well-formed, but a value is not.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// 500, for what cannot happen. People see a request id instead of the message, which goes into the journal.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    /// 503 for what has no free permit now, to be tried again after so many seconds.
    pub fn busy(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(seconds)
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The word for programs.
    #[must_use]
    pub fn word(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or("error");
        reason.to_ascii_lowercase().replace([' ', '-', '\''], "_")
    }

    /// As the API tells it.
    #[must_use]
    pub fn told(&self) -> Told {
        Told { error: self.word(), message: self.message.clone(), request_id: self.request_id.clone() }
    }
}

/// The exit code of a command line decides the status.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.exit {
            Exit::NotFound => StatusCode::NOT_FOUND,
            Exit::Usage => StatusCode::UNPROCESSABLE_ENTITY,
            Exit::Conflict => StatusCode::CONFLICT,
            Exit::NotPermitted => StatusCode::FORBIDDEN,
            Exit::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Exit::Failed | Exit::Foreign(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<crate::base::names::BadName> for Failure {
    fn from(error: crate::base::names::BadName) -> Self {
        Self::unprocessable(error.to_string())
    }
}

/// Leaves the failure in the answer's extensions; [`crate::web::middleware`] gives it its body.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
