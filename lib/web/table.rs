//! Routes are collected in a table: each with who may use it, so that none is without a check.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, on};

use crate::web::access::Who;
use crate::web::app::App;
use crate::web::auth::{self, Guarded};

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
    /// An empty one. Without an app it only collects the list.
    #[must_use]
    pub fn new(app: Option<App>) -> Self {
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
            let route = on(filter, handler).layer(from_fn_with_state(guarded, auth::check));
            self.router = self.router.route(path, route);
        }
        self.list.push(Route { method, path, who });
        self
    }

    /// The router of all routes.
    pub fn into_router(self) -> Router<App> {
        self.router
    }

    /// All routes.
    #[must_use]
    pub fn into_list(self) -> Vec<Route> {
        self.list
    }
}
