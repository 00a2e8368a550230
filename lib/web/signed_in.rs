//! The extractor of almost every handler: the web front's state and the user of the request.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::app::App;
use super::failure::Failure;
use super::viewer::Viewer;

pub struct SignedIn {
    pub app: App,
    pub viewer: Viewer,
}

impl FromRequestParts<App> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let viewer = Viewer::from_request_parts(parts, app).await?;
        let app = app.clone();
        Ok(Self { app, viewer })
    }
}
