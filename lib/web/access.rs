//! Who may use a route.

/// Who may.
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
