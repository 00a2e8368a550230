//! Extractors for pages: a path's id, the query, a form's fields. They accept any text; the
//! handlers parse it.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;

use crate::base::names::BadName;
use crate::web::failure::Failure;

/// The id in a path. Text that is no id is a 404.
pub struct PathId<T>(pub T);

pub fn id<T: FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::no_page())
}

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathId<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|_| Failure::no_page())?;
        id(&text).map(PathId)
    }
}

/// The fields of a query or form. Of two with the same name the first one counts.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// All fields in order, for a form that repeats some.
    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// The text of a field; none if it is missing or blank.
    pub fn get(&self, name: &str) -> Option<&str> {
        Some(self.raw(name)).filter(|text| !text.trim().is_empty())
    }

    /// The text of a field as sent; empty if it is missing.
    pub fn raw(&self, name: &str) -> &str {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map_or("", |(_, text)| text)
    }

    /// The texts of a field that may be repeated, without blank ones.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = self.0.iter().filter(move |(other, _)| other == name);
        fields
            .map(|(_, text)| text.trim())
            .filter(|text| !text.is_empty())
    }

    /// Whether a box is ticked.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A field's value if it is valid. For filters, which ignore a bad value.
    pub fn maybe<T: FromStr>(&self, name: &str) -> Option<T> {
        self.get(name).and_then(|text| text.trim().parse().ok())
    }

    /// A field's value; none if it is missing or blank.
    pub fn optional<T: FromStr<Err = BadName>>(&self, name: &str) -> Result<Option<T>, Failure> {
        Ok(self.get(name).map(|text| text.trim().parse()).transpose()?)
    }

    pub fn required<T: FromStr<Err = BadName>>(&self, name: &str) -> Result<T, Failure> {
        Ok(self.raw(name).trim().parse()?)
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let owned = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
        Self(pairs.into_iter().map(owned).collect())
    }
}

pub struct QueryFields(pub Fields);

impl<S: Sync> FromRequestParts<S> for QueryFields {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(Fields(
            serde_urlencoded::from_str(query).unwrap_or_default(),
        )))
    }
}

pub struct FormFields(pub Fields);

impl<S: Send + Sync> FromRequest<S> for FormFields {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let not_a_form = |_| Failure::unprocessable("the request is not a form");
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|_| Failure::unprocessable("the request is not a form"))?;
        Ok(Self(Fields(
            serde_urlencoded::from_bytes(&bytes).map_err(not_a_form)?,
        )))
    }
}

/// Whether app.js reloads the page to update it. Expensive parts that do not change are left out.
pub struct IsRefresh(pub bool);

impl<S: Sync> FromRequestParts<S> for IsRefresh {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.headers.contains_key("x-live")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::ServerId;

    #[test]
    fn a_bad_filter_is_ignored_and_a_bad_form_value_refused() {
        let fields = Fields(vec![
            ("a".into(), " 7 ".into()),
            ("a".into(), "8".into()),
            ("b".into(), "x".into()),
        ]);

        assert_eq!(fields.maybe::<ServerId>("a"), Some(ServerId(7)));
        assert_eq!(fields.maybe::<ServerId>("b"), None);
        assert!(
            fields.required::<ServerId>("b").is_err() && fields.required::<ServerId>("c").is_err()
        );
        assert!(matches!(fields.optional::<ServerId>("c"), Ok(None)));
        assert_eq!(fields.all("a").collect::<Vec<_>>(), ["7", "8"]);
        assert!(id::<ServerId>("0x7").is_err());
    }
}
