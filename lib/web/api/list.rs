//! A page of a list in the API.

use serde::Serialize;
use utoipa::ToSchema;

use crate::db::lists::{Listed, Part};

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub struct List<T> {
    /// The items of this page.
    items: Vec<T>,
    /// The number of items on all pages. At most 1,000 items beyond this page are counted: a longer
    /// list has `offset` + `limit` + 1000.
    total: i64,
    /// The most items on a page. A page has fewer if it would exceed about 1 MiB; the next one
    /// starts at `offset` plus the number of `items`.
    limit: u32,
    /// The number of items before this page.
    offset: u32,
}

impl<T> List<T> {
    pub fn new((items, total): Listed<T>, part: Part) -> Self {
        Self {
            items,
            total,
            limit: part.limit,
            offset: part.offset,
        }
    }
}
