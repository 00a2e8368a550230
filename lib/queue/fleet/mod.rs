//! Orders between hosts: [`send`] writes one down for another host. The table is the truth; the
//! engine only carries it. [`project`] keeps what other hosts told, for pages and lists.

pub mod project;
pub mod send;
