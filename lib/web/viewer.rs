//! The user that a request is made for.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, RequestKey, ServerId, SessionId, TokenId, UserId};
use crate::db::access;
use crate::db::servers::{self, Server};
use crate::queue::enqueue::Requester;
use crate::web::failure::Failure;

/// The user of a session or token.
#[derive(Clone, Debug)]
pub struct Viewer {
    pub id: UserId,
    pub name: String,
    pub is_admin: bool,
    /// The token in forms, which proves that our own page sent them. Empty for an API token.
    pub csrf: String,
    pub by: Credential,
    /// Whether this host belongs to a fleet, whose pages an admin sees.
    pub in_fleet: bool,
}

/// How the viewer was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    Session(SessionId),
    /// A token of the REST API.
    Token(TokenId),
}

impl Viewer {
    /// The name in jobs and events. The prefix tells accounts of the web front from login names of
    /// the host.
    pub fn actor(&self) -> String {
        match self.by {
            Credential::Session(_) => format!("web:{}", self.name),
            Credential::Token(_) => format!("api:{}", self.name),
        }
    }

    /// The user for filters of lists; none for an admin, who sees everything.
    pub fn all_or_own(&self) -> Option<UserId> {
        (!self.is_admin).then_some(self.id)
    }

    /// Whether the viewer may see and use what belongs to `owner`.
    pub fn may_use(&self, owner: UserId) -> bool {
        self.is_admin || owner == self.id
    }

    /// Who requests a job as `actor`, the viewer's.
    pub fn requester<'a>(&self, actor: &'a str, key: Option<&'a RequestKey>) -> Requester<'a> {
        Requester {
            name: actor,
            user: Some(self.id),
            key,
            reason: "",
        }
    }

    /// The server, if the viewer may see it.
    pub fn server(&self, connection: &Connection, id: ServerId) -> Result<Server> {
        let found = servers::get(connection, id)?.filter(|server| self.may_use(server.user_id));
        found.ok_or_else(|| crate::base::Error::not_found(format!("there is no server {id}")))
    }

    /// Succeeds if the viewer may see the job: an admin, who requested it, or the owner of all its
    /// servers.
    pub fn may_see_job(&self, connection: &Connection, id: JobId) -> Result<()> {
        if access::job(connection, id, self.all_or_own())? {
            return Ok(());
        }
        Err(crate::base::Error::not_found(format!(
            "there is no job {id}"
        )))
    }
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(Failure::anonymous)
    }
}
