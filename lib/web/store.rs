//! The database for the web front: a few connections that read, one that writes. SQLite's calls block, so they run
//! beside the threads that serve connections.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::{Error, Result};
use crate::db::Db;

/// So many requests read at once; the others wait their turn.
const READERS: usize = 3;

/// So long a request waits for its turn. With SQLite's own wait for another process, 15 s, that stays below the time that
/// a request has: what was answered with "too late" is not done afterwards.
const PATIENCE: Duration = Duration::from_secs(10);

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    path: PathBuf,
    readers: Mutex<Vec<Db>>,
    reading: Arc<Semaphore>,
    writer: Mutex<Db>,
    /// One: who waits for the writer takes no thread from those who read.
    writing: Arc<Semaphore>,
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
            reading: Arc::new(Semaphore::new(READERS)),
            writer: Mutex::new(writer),
            writing: Arc::new(Semaphore::new(1)),
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
        aside(turn(&self.0.reading).await?, move || {
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
        let turn = turn(&self.0.writing).await?;
        aside(turn, move || work(&mut *inner.writer()?)).await
    }

    /// Writes something that nobody waits for, and that is as well written the next time: not now, when somebody else
    /// writes.
    pub fn write_in_passing<F>(&self, work: F)
    where
        F: FnOnce(&Transaction<'_>) -> Result<()> + Send + 'static,
    {
        let Ok(turn) = Arc::clone(&self.0.writing).try_acquire_owned() else { return };
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let write = move || inner.writer()?.write(work);
            if let Err(error) = aside(turn, write).await {
                tracing::warn!("{error}");
            }
        });
    }
}

/// A turn, as soon as there is one. Whoever hangs up while waiting has not begun.
async fn turn(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    match tokio::time::timeout(PATIENCE, Arc::clone(turns).acquire_owned()).await {
        Ok(turn) => turn.map_err(gone),
        Err(_) => Err(Error::unavailable("the database is busy: try again in a moment")),
    }
}

/// Runs what blocks beside the threads that serve connections. The turn is held until it is done, also when nobody waits
/// for it any more: else those who hang up would have any number of threads at work.
async fn aside<T, F>(turn: OwnedSemaphorePermit, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    done.await.map_err(gone)?
}

/// The work panicked, or the program is leaving.
fn gone(error: impl std::fmt::Display) -> Error {
    Error::failed(format!("this request's work broke off: {error}"))
}
