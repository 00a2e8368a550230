//! The one table of routes: what may be asked, who may ask it. The router is built from it, and the tests read it.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse as _;
use axum::routing::{MethodFilter, on};

use crate::web::app::App;
use crate::web::failure::Failure;
use crate::web::guard::{self, Guarded};
use crate::web::{api, assets, pages, scrape, streams};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody.
    Anyone,
    /// Who is signed in. A server, job or blueprint in the path is looked for among those that the viewer may see.
    User,
    /// An admin who is signed in.
    Admin,
    /// A token, or a session with the header that stands for a form's token.
    Api,
    /// The same, of an admin.
    ApiAdmin,
    /// This host itself, or an admin's token.
    Scraper,
}

impl Who {
    /// Whether refusals are for programs.
    #[must_use]
    pub fn is_api(self) -> bool {
        matches!(self, Who::Api | Who::ApiAdmin | Who::Scraper)
    }

    /// Whether a token counts.
    #[must_use]
    pub fn takes_token(self) -> bool {
        self.is_api()
    }
}

/// A route, as the tests and the documentation see it.
#[derive(Clone, Debug)]
pub struct Route {
    /// GET or POST.
    pub method: Method,
    /// With `{id}` and the like.
    pub path: &'static str,
    /// Who may.
    pub who: Who,
}

/// Collects the routes and builds their router.
pub struct Table {
    /// None when only the list is wanted.
    app: Option<App>,
    router: Router<App>,
    list: Vec<Route>,
}

impl Table {
    fn new(app: Option<App>) -> Self {
        Self { app, router: Router::new(), list: Vec::new() }
    }

    /// Adds a route that shows something.
    #[must_use]
    pub fn get<H: Handler<T, App>, T: 'static>(self, who: Who, path: &'static str, handler: H) -> Self {
        self.add(Method::GET, MethodFilter::GET, who, path, handler)
    }

    /// Adds a route that changes something.
    #[must_use]
    pub fn post<H: Handler<T, App>, T: 'static>(self, who: Who, path: &'static str, handler: H) -> Self {
        self.add(Method::POST, MethodFilter::POST, who, path, handler)
    }

    fn add<H, T>(mut self, method: Method, filter: MethodFilter, who: Who, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        if let Some(app) = self.app.clone() {
            let guarded = Guarded { app, who };
            let route = on(filter, handler).layer(from_fn_with_state(guarded, guard::check));
            self.router = self.router.route(path, route);
        }
        self.list.push(Route { method, path, who });
        self
    }
}

fn table(app: Option<App>) -> Table {
    let table = Table::new(app);
    let table = assets::routes(table);
    let table = scrape::routes(table);
    let table = streams::routes(table);
    let table = pages::routes(table);
    api::routes(table)
}

/// The router of everything.
pub fn router(app: App) -> Router {
    let table = table(Some(app.clone()));
    let router = table.router.fallback(no_page).method_not_allowed_fallback(no_method);
    router.with_state(app)
}

/// All routes.
#[must_use]
pub fn list() -> Vec<Route> {
    table(None).list
}

async fn no_page() -> axum::response::Response {
    Failure::no_page().into_response()
}

async fn no_method(request: Request) -> axum::response::Response {
    let words = format!("{} is not possible here", request.method());
    Failure::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, words).into_response()
}
