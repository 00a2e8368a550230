//! The address of the web front in people's browsers.

use axum::http::Uri;

/// `scheme://authority`, both in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: String,
    /// The host, with its port where that is not the scheme's own.
    pub authority: String,
}

impl std::str::FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "an origin is needed: https://HOST or http://HOST, with :PORT where it has one"
                .to_owned()
        };

        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let scheme = uri
            .scheme_str()
            .filter(|scheme| ["http", "https"].contains(scheme))
            .ok_or_else(wrong)?;
        let authority = uri
            .authority()
            .filter(|authority| !authority.as_str().contains('@'))
            .ok_or_else(wrong)?;
        if uri.path().len() > 1 || uri.query().is_some() || text.contains('#') {
            return Err(wrong());
        }
        // A browser leaves the scheme's own port out.
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.as_str().to_ascii_lowercase();
        let authority = authority
            .strip_suffix(usual)
            .unwrap_or(&authority)
            .to_owned();
        Ok(Self {
            scheme: scheme.to_owned(),
            authority,
        })
    }
}
