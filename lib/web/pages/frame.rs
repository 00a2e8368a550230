//! What every page has around it, and a template as an answer.

use askama::Template;
use axum::response::{Html, IntoResponse as _, Response};

use crate::base::clock;
use crate::web::assets;
use crate::web::failure::Failure;
use crate::web::viewer::Viewer;

/// What every page has around it.
pub struct Frame {
    /// Who is signed in.
    pub viewer: Option<Viewer>,
    /// The title, and the heading.
    pub title: String,
    /// Which part of the main navigation it belongs to: `servers`, `blueprints`, `admin`, `account`; or none.
    pub section: &'static str,
    /// When it was made, unix ms: relative times count from here.
    pub now: i64,
}

impl Frame {
    /// For somebody who is signed in.
    #[must_use]
    pub fn of(viewer: Viewer, title: impl Into<String>) -> Self {
        Self { viewer: Some(viewer), title: title.into(), section: "", now: clock::now_ms() }
    }

    /// The same, within a part of the main navigation.
    #[must_use]
    pub fn within(mut self, section: &'static str) -> Self {
        self.section = section;
        self
    }

    /// For anybody.
    #[must_use]
    pub fn anonymous(title: impl Into<String>) -> Self {
        Self { viewer: None, title: title.into(), section: "", now: clock::now_ms() }
    }

    /// The URL of an asset.
    #[must_use]
    pub fn asset(&self, name: &str) -> String {
        assets::url(name)
    }

    /// What forms carry; empty for nobody.
    #[must_use]
    pub fn csrf(&self) -> &str {
        self.viewer.as_ref().map_or("", |viewer| &viewer.csrf)
    }

    /// Whether an admin looks.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.viewer.as_ref().is_some_and(|viewer| viewer.is_admin)
    }
}

/// A template as an answer.
///
/// # Errors
/// 500 when it cannot be rendered.
pub fn page(template: &impl Template) -> Result<Response, Failure> {
    Ok(Html(template.render().map_err(Failure::internal)?).into_response())
}
