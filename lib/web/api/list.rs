//! A list as the API answers it: a part, and where it is in the whole.

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::lists::{Listed, Part};

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub struct List<T> {
    /// What is in this part.
    items: Vec<T>,
    /// How many there are in all parts.
    total: i64,
    /// At most so many are in a part. It has fewer when it would be longer than about 1 MiB: the next one begins at
    /// `offset` and the number of `items`.
    limit: u32,
    /// So many come before this part.
    offset: u32,
}

impl<T> List<T> {
    /// A part, and how many there are in all.
    #[must_use]
    pub fn new((items, total): Listed<T>, part: Part) -> Self {
        Self { items, total, limit: part.limit, offset: part.offset }
    }
}
