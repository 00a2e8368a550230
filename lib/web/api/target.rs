//! A server in a request's body, by id or name.

use std::fmt;

use rusqlite::Connection;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Visitor};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::base::names::{BadName, ServerId, ServerRef};
use crate::base::{Error, Result};
use crate::db::{access, servers};
use crate::web::viewer::Viewer;

/// More servers than any host has: each needs a port of its own.
pub const MOST_SERVERS: usize = 1000;

/// A server by id or name.
pub struct Target(ServerRef);

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Target;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a server's id or name")
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> std::result::Result<Target, E> {
                self.visit_str(&id.to_string())
            }

            fn visit_i64<E: serde::de::Error>(self, id: i64) -> std::result::Result<Target, E> {
                Err(E::custom(format!(
                    "{id} is not a server id: a positive number is needed"
                )))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Target, E> {
                text.parse()
                    .map(Target)
                    .map_err(|bad: BadName| E::custom(bad))
            }
        }

        from.deserialize_any(Either).map_err(D::Error::custom)
    }
}

impl PartialSchema for Target {
    fn schema() -> RefOr<Schema> {
        let id = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .description(Some("Its id."));
        let name = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(64));
        let name = name.description(Some("Its name, or its id as text."));
        OneOfBuilder::new()
            .item(id)
            .item(name)
            .description(Some("A server."))
            .into()
    }
}

impl ToSchema for Target {}

impl Target {
    pub fn reference(&self) -> ServerRef {
        self.0.clone()
    }

    /// The server. Those of other users do not exist for a user.
    pub fn find(&self, connection: &Connection, viewer: &Viewer) -> Result<ServerId> {
        let Self(server) = self;
        match server {
            ServerRef::Id(id) => viewer.server(connection, *id).map(|server| server.id),
            ServerRef::Name(_) if viewer.is_admin => servers::find_id(connection, server),
            ServerRef::Name(name) => access::own_server(connection, viewer.id, name)?
                .ok_or_else(|| Error::not_found(format!("there is no server '{name}'"))),
        }
    }
}
