//! Tasks whose command is done and that only wait for their server to stay up. They take no worker
//! slot, so that sixty servers can wait in parallel.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::names::TaskId;
use crate::queue::wake::Waker;

#[derive(Clone)]
pub struct Waiting {
    waiting: Arc<Mutex<WaitingTasks>>,
    waker: Waker,
}

#[derive(Default)]
struct WaitingTasks {
    tasks: HashSet<TaskId>,
    /// A slot became free since the last tick.
    freed_slot: bool,
}

impl Waiting {
    /// `waker` wakes the worker when a slot becomes free.
    pub fn new(waker: Waker) -> Self {
        Self {
            waiting: Arc::default(),
            waker,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingTasks> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task takes no slot from now on.
    pub fn begin(&self, task: TaskId) {
        {
            let mut waiting = self.waiting();
            waiting.tasks.insert(task);
            waiting.freed_slot = true;
        }

        self.waker.wake();
    }

    /// The task has ended or works again.
    pub fn end(&self, task: TaskId) {
        self.waiting().tasks.remove(&task);
    }

    /// Whether the task takes no slot.
    pub fn has(&self, task: TaskId) -> bool {
        self.waiting().tasks.contains(&task)
    }

    /// Whether a slot became free since the last call.
    pub fn take_freed_slot(&self) -> bool {
        std::mem::take(&mut self.waiting().freed_slot)
    }
}
