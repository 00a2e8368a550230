//! Errors with their HTTP status. A handler returns one; the middleware renders it as a page or as
//! JSON.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::base::{Error, Exit};

/// An error that a client gets.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The status of the response.
    pub status: StatusCode,
    /// One line for people: what failed, on what, what to do.
    pub message: String,
    pub retry_after: Option<u32>,
    /// The id under which journalctl finds an internal error.
    pub request_id: Option<String>,
}

/// An error, as the API sends it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Failure)]
pub struct FailureBody {
    /// The status as a word for programs: `not_found`, `conflict`, …
    pub error: String,
    /// One line for people.
    pub message: String,
    /// Only for internal errors: `journalctl LEFT4ME_REQUEST_ID=…` finds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Failure {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
            request_id: None,
        }
    }

    /// 401: the request needs a sign-in or a token.
    pub fn anonymous() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "sign in, or send a token: Authorization: Bearer l4m_…",
        )
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404: there is no such page.
    pub fn no_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such page")
    }

    /// 422: the request is well-formed, but a value is not.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// 500, for what should not happen. The message goes into the journal; the client gets a
    /// request id.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }

    /// 503: no permit is free. The client may retry after `seconds`.
    pub fn busy(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(seconds)
    }

    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The status as a word for programs.
    pub fn code(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or("error");
        reason.to_ascii_lowercase().replace([' ', '-', '\''], "_")
    }

    /// The error, as the API sends it.
    pub fn body(&self) -> FailureBody {
        FailureBody {
            error: self.code(),
            message: self.message.clone(),
            request_id: self.request_id.clone(),
        }
    }
}

/// Each exit code of the command line has its status.
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

/// Puts the failure into the response's extensions; [`crate::web::middleware`] renders it.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
