//! Tasks whose command is done and that only wait for their server to stay up. They take no worker
//! slot, so that sixty servers can wait in parallel.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::base::names::TaskId;

#[derive(Clone, Default)]
pub struct Settling(Arc<Inner>);

#[derive(Default)]
struct Inner {
    book: Mutex<Book>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Book {
    tasks: HashSet<TaskId>,
    /// A slot became free since the last tick.
    changed: bool,
}

impl Settling {
    /// Sets what wakes the worker when a slot becomes free.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        // Set once, when the worker starts.
        let _ = self.0.wake.set(Box::new(wake));
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task takes no slot from now on.
    pub fn begin(&self, task: TaskId) {
        {
            let mut book = self.book();
            book.tasks.insert(task);
            book.changed = true;
        }

        if let Some(wake) = self.0.wake.get() {
            wake();
        }
    }

    /// The task has ended or works again.
    pub fn end(&self, task: TaskId) {
        self.book().tasks.remove(&task);
    }

    /// Whether the task takes no slot.
    #[must_use]
    pub fn has(&self, task: TaskId) -> bool {
        self.book().tasks.contains(&task)
    }

    /// Whether a slot became free since the last call.
    #[must_use]
    pub fn take_changed(&self) -> bool {
        std::mem::take(&mut self.book().changed)
    }
}
