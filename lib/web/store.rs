//! The database for the web front: a few connections that read, one that writes. SQLite's calls block, so they run
//! beside the threads that serve connections.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Transaction};
use tokio::sync::Semaphore;

use crate::base::{Error, Result};
use crate::db::Db;

/// So many requests read at once; the others wait their turn.
const READERS: usize = 3;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    path: PathBuf,
    readers: Mutex<Vec<Db>>,
    turns: Semaphore,
    writer: Mutex<Db>,
}

impl Store {
    /// Opens the file.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open(path: &Path) -> Result<Self> {
        let writer = Db::open(path)?;
        writer.stay()?;
        Ok(Self(Arc::new(Inner {
            path: path.to_owned(),
            readers: Mutex::default(),
            turns: Semaphore::new(READERS),
            writer: Mutex::new(writer),
        })))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Runs `work` on one consistent state.
    ///
    /// # Errors
    /// What `work` says, or 69 when the database cannot be read.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let turn = self.0.turns.acquire().await.map_err(gone)?;
        let done = tokio::task::spawn_blocking(move || {
            let free = inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut db = match free {
                Some(db) => db,
                // Not Db::open: that opens the file by itself first, and whoever closes any descriptor of a file drops all
                // locks that this process has on it (fcntl(2)). Another program could then take the log away under us.
                None => Db::open_existing(&inner.path)?,
            };
            let done = db.read(|tx| work(tx));
            inner.readers.lock().unwrap_or_else(PoisonError::into_inner).push(db);
            done
        });
        let done = done.await.map_err(gone)?;
        drop(turn);
        done
    }

    /// Runs `work` in one transaction: all of it is committed, or nothing.
    ///
    /// # Errors
    /// What `work` says, or 69 when the database cannot be written.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    {
        self.with(|db| db.write(work)).await
    }

    /// Lends the writing connection to what makes its own transaction.
    ///
    /// # Errors
    /// What `work` says.
    pub async fn with<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Db) -> Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let done =
            tokio::task::spawn_blocking(move || work(&mut inner.writer.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.map_err(gone)?
    }
}

/// The work panicked, or the program is leaving.
fn gone(error: impl std::fmt::Display) -> Error {
    Error::failed(format!("this request's work broke off: {error}"))
}
