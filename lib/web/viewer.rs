//! Who asks: what a session or a token says about it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use rusqlite::Connection;

use crate::base::Result;
use crate::base::names::{JobId, ServerId, SessionId, TokenId, UserId};
use crate::db::access;
use crate::db::servers::{self, Server};
use crate::web::failure::Failure;

/// A user who is signed in, or whose token was shown.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The account.
    pub id: UserId,
    /// Its name.
    pub name: String,
    /// Whether it may do everything.
    pub is_admin: bool,
    /// What forms carry so that only our own pages can send them; empty for a token.
    pub csrf: String,
    /// How we know.
    pub by: Credential,
}

/// How a viewer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A session's cookie.
    Session(SessionId),
    /// A token of the REST API.
    Token(TokenId),
}

impl Viewer {
    /// The name that jobs and events remember. An account of the web front is no login name of the host: the prefix
    /// keeps them apart.
    #[must_use]
    pub fn actor(&self) -> String {
        match self.by {
            Credential::Session(_) => format!("web:{}", self.name),
            Credential::Token(_) => format!("api:{}", self.name),
        }
    }

    /// For lists: none where everything is shown.
    #[must_use]
    pub fn all_or_own(&self) -> Option<UserId> {
        (!self.is_admin).then_some(self.id)
    }

    /// The server, when the viewer may see it. To anybody else it does not exist.
    ///
    /// # Errors
    /// 3 when there is none, or it is another's.
    pub fn server(&self, connection: &Connection, id: ServerId) -> Result<Server> {
        let found = servers::get(connection, id)?.filter(|server| self.is_admin || server.user_id == self.id);
        found.ok_or_else(|| crate::base::Error::not_found(format!("there is no server {id}")))
    }

    /// Nothing, when the viewer may see the job: an admin; who asked for it; the owner of all servers it is for.
    ///
    /// # Errors
    /// 3 when there is none, or it is not theirs.
    pub fn may_see_job(&self, connection: &Connection, id: JobId) -> Result<()> {
        if access::job(connection, id, self.all_or_own())? {
            return Ok(());
        }
        Err(crate::base::Error::not_found(format!("there is no job {id}")))
    }
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Failure::anonymous)
    }
}
