//! Questions and answers that were not believed, from one request of left4me-link to the next. They are
//! counted and told together: who makes them must fill neither the journal nor the database.

use std::fmt::Display;

use crate::base::Result;
use crate::db::Db;
use crate::db::fleet::self_row;

#[derive(Debug, Default)]
pub struct Noise {
    count: u32,
    is_told: bool,
}

impl Noise {
    /// One more that was not signed by whom it should be.
    pub(super) fn add(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    /// The first reason goes to the journal.
    pub(super) fn tell(&mut self, why: &dyn Display) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!("{why}");
        }
    }

    /// Adds them to the others of this host.
    pub fn write(&mut self, db: &mut Db) -> Result<()> {
        let Self { count, .. } = *self;
        if count > 0 {
            db.write(|tx| {
                self_row::ensure(tx)?;
                self_row::add_noise(tx, count)
            })?;
        }
        *self = Self::default();
        Ok(())
    }
}
