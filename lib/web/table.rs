//! Collects the routes. Each is added with who may use it, so that none is without a check.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, on};

use crate::web::access::Access;
use crate::web::app::App;
use crate::web::auth::{self, RouteAuth};

/// A route, for tests and documentation.
#[derive(Clone, Debug)]
pub struct Route {
    /// GET, POST or DELETE.
    pub method: Method,
    /// The path, with parameters like `{id}`.
    pub path: &'static str,
    pub who: Access,
}

/// Collects the routes and builds their router.
pub struct Table {
    /// None if only the list is needed.
    app: Option<App>,
    router: Router<App>,
    list: Vec<Route>,
}

impl Table {
    /// Without an app it only collects the list.
    pub fn new(app: Option<App>) -> Self {
        Self {
            app,
            router: Router::new(),
            list: Vec::new(),
        }
    }

    /// Adds a route that shows something.
    pub fn get<H: Handler<T, App>, T: 'static>(
        self,
        who: Access,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.add(Method::GET, MethodFilter::GET, who, path, handler)
    }

    /// Adds a route that changes something.
    pub fn post<H: Handler<T, App>, T: 'static>(
        self,
        who: Access,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.add(Method::POST, MethodFilter::POST, who, path, handler)
    }

    /// Adds a route that removes something.
    pub fn delete<H: Handler<T, App>, T: 'static>(
        self,
        who: Access,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.add(Method::DELETE, MethodFilter::DELETE, who, path, handler)
    }

    fn add<H, T>(
        mut self,
        method: Method,
        filter: MethodFilter,
        who: Access,
        path: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        if let Some(app) = self.app.clone() {
            let route_auth = RouteAuth { app, who };
            let route = on(filter, handler).layer(from_fn_with_state(route_auth, auth::check));
            self.router = self.router.route(path, route);
        }
        self.list.push(Route { method, path, who });
        self
    }

    /// The router of all routes.
    pub fn into_router(self) -> Router<App> {
        self.router
    }

    pub fn into_list(self) -> Vec<Route> {
        self.list
    }
}
