//! The database for the web front: a few connections that read, one that writes. SQLite's calls block, so they run
//! beside the threads that serve connections.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction};

use crate::base::{Error, Result};
use crate::db::Db;
use crate::web::limiter::{Limiter, Permit};

/// Requests that read at once; the others wait.
const READERS: usize = 3;

/// A request waits this long for its permit. With SQLite's own wait for another process, 15 s, that stays below the time that
/// a request has: what was answered with "too late" is not done afterwards.
const PATIENCE: Duration = Duration::from_secs(10);

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    path: PathBuf,
    readers: Mutex<Vec<Db>>,
    reading: Limiter,
    writer: Mutex<Db>,
    /// One: who waits for the writer takes no thread from those who read.
    writing: Limiter,
}

impl Inner {
    /// The writing connection, to the file that has the database's name now.
    fn writer(&self) -> Result<MutexGuard<'_, Db>> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_replaced() {
            *writer = Db::open_existing(&self.path)?;
            writer.stay()?;
        }
        Ok(writer)
    }
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
            reading: Limiter::shared(READERS),
            writer: Mutex::new(writer),
            writing: Limiter::shared(1),
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
        aside(permit(&self.0.reading).await?, move || {
            let free = inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut db = match free.filter(|db| !db.is_replaced()) {
                Some(db) => db,
                // Not Db::open: that opens the file by itself first, and whoever closes any descriptor of a file drops all
                // locks that the process has on it. Another program would then take the log away from under the others.
                None => Db::open_existing(&inner.path)?,
            };
            let done = db.read(|tx| work(tx));
            inner.readers.lock().unwrap_or_else(PoisonError::into_inner).push(db);
            done
        })
        .await
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
    /// What `work` says; 69 when others write for long.
    pub async fn with<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Db) -> Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let permit = permit(&self.0.writing).await?;
        aside(permit, move || work(&mut *inner.writer()?)).await
    }

    /// Writes something that nobody waits for, and that is as well written the next time: not now, when somebody else
    /// writes.
    pub fn write_in_passing<F>(&self, work: F)
    where
        F: FnOnce(&Transaction<'_>) -> Result<()> + Send + 'static,
    {
        let Some(permit) = self.0.writing.try_acquire() else { return };
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let write = move || inner.writer()?.write(work);
            if let Err(error) = aside(permit, write).await {
                tracing::warn!("{error}");
            }
        });
    }
}

/// The next free permit. A client that hangs up while it waits has not begun.
async fn permit(limiter: &Limiter) -> Result<Permit> {
    let busy = || Error::unavailable("the database is busy: try again in a moment");
    limiter.acquire(PATIENCE).await.ok_or_else(busy)
}

async fn aside<T, F>(permit: Permit, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    permit.blocking(work).await.map_err(gone)?
}

/// The work panicked, or the program is leaving.
fn gone(error: impl std::fmt::Display) -> Error {
    Error::failed(format!("this request's work broke off: {error}"))
}
