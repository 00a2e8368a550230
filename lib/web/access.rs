//! Who may use a route.

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone.
    Anyone,
    /// Signed-in users. A server, job or blueprint in the path is looked up among those that the
    /// viewer may see.
    User,
    /// Signed-in admins.
    Admin,
    /// A token, or a session with the CSRF header.
    Api,
    /// As `Api`, but only admins.
    ApiAdmin,
    /// Programs on this host, or an admin's token.
    Scraper,
}

impl Access {
    /// Whether errors are sent as JSON.
    pub fn is_api(self) -> bool {
        matches!(self, Access::Api | Access::ApiAdmin | Access::Scraper)
    }

    /// Whether a token is accepted.
    pub fn takes_token(self) -> bool {
        self.is_api()
    }
}
