//! The database of the web front: a few connections that read, one that writes. SQLite's calls
//! block, so they run on blocking threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction};

use crate::base::{Error, Result};
use crate::db::Db;
use crate::web::limiter::{Limiter, Permit};

/// Reads at once; others wait.
const READERS: usize = 3;

/// The wait for a permit. With SQLite's own wait for other processes, 15 s, it stays below a
/// request's time limit, so that nothing is done after a timeout was reported.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<StoreInner>);

struct StoreInner {
    path: PathBuf,
    readers: Mutex<Vec<Db>>,
    reading: Limiter,
    writer: Mutex<Db>,
    /// One permit: waiting writers must not take threads from readers.
    writing: Limiter,
}

impl StoreInner {
    /// The writing connection, reopened if the database was replaced.
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
    pub fn open(path: &Path) -> Result<Self> {
        let writer = Db::open(path)?;

        writer.stay()?;
        Ok(Self(Arc::new(StoreInner {
            path: path.to_owned(),
            readers: Mutex::default(),
            reading: Limiter::shared(READERS),
            writer: Mutex::new(writer),
            writing: Limiter::shared(1),
        })))
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Runs `work` on one consistent snapshot.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);

        aside(permit(&self.0.reading).await?, move || {
            let free = inner
                .readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            let mut db = match free.filter(|db| !db.is_replaced()) {
                Some(db) => db,
                // Not Db::open: it opens the file itself first, and closing any descriptor of a
                // file drops all locks that the process has on it. Another program could then
                // remove the WAL in use.
                None => Db::open_existing(&inner.path)?,
            };

            let done = db.read(|tx| work(tx));
            inner
                .readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(db);

            done
        })
        .await
    }

    /// Runs `work` in one transaction.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    {
        self.with(|db| db.write(work)).await
    }

    /// Lends the writing connection to `work`, which makes its own transaction.
    pub async fn with<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Db) -> Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let permit = permit(&self.0.writing).await?;
        aside(permit, move || work(&mut *inner.writer()?)).await
    }

    /// Writes something that no one waits for and that the next request would write as well.
    /// Skipped if another write is running.
    pub fn write_in_passing<F>(&self, work: F)
    where
        F: FnOnce(&Transaction<'_>) -> Result<()> + Send + 'static,
    {
        let Some(permit) = self.0.writing.try_acquire() else {
            return;
        };
        let inner = Arc::clone(&self.0);

        tokio::spawn(async move {
            let write = move || inner.writer()?.write(work);
            if let Err(error) = aside(permit, write).await {
                tracing::warn!("{error}");
            }
        });
    }
}

/// The next free permit. A client that disconnects while it waits has no effect.
async fn permit(limiter: &Limiter) -> Result<Permit> {
    let busy = || Error::unavailable("the database is busy: try again in a moment");
    limiter.acquire(TIMEOUT).await.ok_or_else(busy)
}

async fn aside<T, F>(permit: Permit, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    permit.blocking(work).await.map_err(interrupted)?
}

/// The work panicked, or the program is exiting.
fn interrupted(error: impl std::fmt::Display) -> Error {
    Error::failed(format!("the request's work failed: {error}"))
}
