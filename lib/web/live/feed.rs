//! A state with many subscribers, and the wakers of those that wait for a change. Each subscriber
//! keeps its own position and reads when its peer can take more, so a slow one costs no memory and
//! delays no other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::Inner;

/// Locks, also after a panic elsewhere: our state is consistent between statements.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Feed<T> {
    state: Mutex<T>,
    wakers: Mutex<HashMap<u64, Waker>>,
    next: AtomicU64,
    subscribers: AtomicUsize,
}

impl<T> Feed<T> {
    pub fn new(state: T) -> Self {
        Self {
            state: Mutex::new(state),
            wakers: Mutex::default(),
            next: AtomicU64::new(0),
            subscribers: AtomicUsize::new(0),
        }
    }

    /// The state. Do not hold it while waking.
    pub fn state(&self) -> MutexGuard<'_, T> {
        lock(&self.state)
    }

    /// Whether it has no subscriber.
    pub fn is_unused(&self) -> bool {
        self.subscribers.load(Ordering::Acquire) == 0
    }

    pub fn wake(&self) {
        let wakers = std::mem::take(&mut *lock(&self.wakers));
        wakers.into_values().for_each(Waker::wake);
    }
}

/// One subscription. Created only under the hub's lock, so that the hub can drop a feed without
/// subscribers.
pub struct Subscriber<T> {
    feed: Arc<Feed<T>>,
    inner: Arc<Inner>,
    key: u64,
}

impl<T> Subscriber<T> {
    pub fn new(inner: &Arc<Inner>, feed: &Arc<Feed<T>>) -> Self {
        feed.subscribers.fetch_add(1, Ordering::AcqRel);
        let key = feed.next.fetch_add(1, Ordering::Relaxed);
        Self {
            feed: Arc::clone(feed),
            inner: Arc::clone(inner),
            key,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, T> {
        self.feed.state()
    }

    /// Registers to be woken once. Call it before reading the state.
    pub fn watch(&self, waker: &Waker) {
        lock(&self.feed.wakers)
            .entry(self.key)
            .and_modify(|old| old.clone_from(waker))
            .or_insert_with(|| waker.clone());
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        lock(&self.feed.wakers).remove(&self.key);
        if self.feed.subscribers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inner.wake_pump();
        }
    }
}
