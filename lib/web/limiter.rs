//! The admission control of the web front. Whatever many requests could exhaust needs a permit.
//! There is a limit in all, and one per user where a single user could take them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use crate::base::names::UserId;

pub struct Limiter {
    all: Arc<Semaphore>,
    permits: usize,
    per_user: usize,
    users: Mutex<HashMap<UserId, Weak<Semaphore>>>,
}

/// A permit, held until it is dropped.
#[derive(Debug)]
pub struct Permit {
    // The user's own permit is returned first, so that a waiting request of another user finds both
    // free.
    _own: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

/// Why [`Limiter::try_acquire_for`] failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// The user has as many permits as a user may have.
    User(usize),
    /// All permits are in use.
    All,
}

impl Limiter {
    /// A limiter with `permits` in all, and `per_user` for each user.
    pub fn new(permits: usize, per_user: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(permits)),
            permits,
            per_user,
            users: Mutex::default(),
        }
    }

    /// A limiter without a limit per user.
    pub fn shared(permits: usize) -> Self {
        Self::new(permits, permits)
    }

    /// Whether a permit is in use.
    pub fn is_used(&self) -> bool {
        self.all.available_permits() < self.permits
    }

    /// A permit, if one is free now.
    pub fn try_acquire(&self) -> Option<Permit> {
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Permit {
            _own: None,
            _all: all,
        })
    }

    /// A user's permit, if one is free now.
    pub fn try_acquire_for(&self, user: UserId) -> Result<Permit, Exhausted> {
        let own = self
            .own(user)
            .try_acquire_owned()
            .map_err(|_| Exhausted::User(self.per_user))?;
        let all = Arc::clone(&self.all)
            .try_acquire_owned()
            .map_err(|_| Exhausted::All)?;
        Ok(Permit {
            _own: Some(own),
            _all: all,
        })
    }

    /// The next free permit; none if `wait` ends first.
    pub async fn acquire(&self, wait: Duration) -> Option<Permit> {
        let all = timeout(wait, Arc::clone(&self.all).acquire_owned())
            .await
            .ok()?
            .ok()?;
        Some(Permit {
            _own: None,
            _all: all,
        })
    }

    /// A user's next free permit. It waits for the user's own limit first, so that a user with many
    /// requests blocks no other.
    pub async fn acquire_for(&self, user: UserId) -> Option<Permit> {
        let own = self.own(user).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Permit {
            _own: Some(own),
            _all: all,
        })
    }

    /// The user's own permits. They are dropped with the last one in use.
    fn own(&self, user: UserId) -> Arc<Semaphore> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, own| own.strong_count() > 0);
        if let Some(own) = users.get(&user).and_then(Weak::upgrade) {
            return own;
        }

        let own = Arc::new(Semaphore::new(self.per_user));
        users.insert(user, Arc::downgrade(&own));
        own
    }
}

impl Permit {
    /// Runs blocking `work` on a blocking thread. The permit is held until the work is done, also
    /// if the client disconnects: otherwise clients that disconnect could start any number of
    /// threads.
    ///
    /// Fails if the work panics, or the program exits.
    pub async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let work = move || {
            let done = work();
            drop(self);
            done
        };
        spawn_blocking(work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn run(story: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async { timeout(LONG, story).await.expect("it ends") });
    }

    #[test]
    fn a_user_never_has_more_permits_than_one_user_may_have() {
        let limiter = Limiter::new(3, 2);
        let held = [1, 1, 2].map(|user| limiter.try_acquire_for(UserId(user)).expect("a permit"));

        assert!(matches!(
            limiter.try_acquire_for(UserId(1)),
            Err(Exhausted::User(2))
        ));

        assert!(matches!(
            limiter.try_acquire_for(UserId(2)),
            Err(Exhausted::All)
        ));

        assert!(limiter.is_used());
        drop(held);
        assert!(!limiter.is_used());
        assert!(limiter.try_acquire_for(UserId(1)).is_ok());
    }

    #[test]
    fn a_permit_is_held_until_the_work_is_done() {
        run(async {
            let limiter = Limiter::shared(1);
            let (finish, held) = std::sync::mpsc::channel::<()>();
            let permit = limiter.try_acquire().expect("a permit");
            let client = permit.blocking(move || held.recv().is_ok());
            assert!(
                timeout(Duration::from_millis(20), client).await.is_err(),
                "the client goes"
            );

            assert!(
                limiter.acquire(Duration::from_millis(20)).await.is_none(),
                "its work goes on"
            );

            finish.send(()).unwrap();
            assert!(limiter.acquire(LONG).await.is_some());
        });
    }
}
