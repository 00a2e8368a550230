//! The frame of every page, and rendering of templates.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};

use crate::base::clock;
use crate::web::assets;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// The data of the frame.
pub struct Frame {
    pub viewer: Option<Viewer>,
    pub title: String,
    /// The section of the main navigation: `servers`, `blueprints`, `schedules`, `fleet`, `admin`,
    /// `account`, or empty.
    pub section: &'static str,
    /// When the page was made, unix ms. Relative times count from here.
    pub now: i64,
}

impl Frame {
    /// For a signed-in user.
    pub fn of(viewer: Viewer, title: impl Into<String>) -> Self {
        Self {
            viewer: Some(viewer),
            ..Self::anonymous(title)
        }
    }

    /// Sets the section of the main navigation.
    pub fn within(mut self, section: &'static str) -> Self {
        self.section = section;
        self
    }

    pub fn anonymous(title: impl Into<String>) -> Self {
        Self {
            viewer: None,
            title: title.into(),
            section: "",
            now: clock::now_ms(),
        }
    }

    pub fn asset(&self, name: &str) -> String {
        assets::url(name)
    }

    /// The CSRF token for forms; empty if no user is signed in.
    pub fn csrf(&self) -> &str {
        self.viewer.as_ref().map_or("", |viewer| &viewer.csrf)
    }

    pub fn is_admin(&self) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.is_admin)
    }
}

/// A page with another status than 200.
pub fn page_with(status: StatusCode, template: &impl Template) -> Result<Response, Failure> {
    Ok((status, page(template)?).into_response())
}

/// Renders a template as a response.
pub fn page(template: &impl Template) -> Result<Response, Failure> {
    Ok(Html(template.render().map_err(Failure::internal)?).into_response())
}
