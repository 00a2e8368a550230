//! Orders between hosts: [`send`] writes one down for another host. The table is the truth; the
//! engine only carries it.

pub mod send;
