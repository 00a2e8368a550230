//! Checking passwords costs 19 MiB and 30 ms each on purpose: two at a time, and no more than a few that wait.

use std::time::Duration;

use crate::base::password;
use crate::web::failure::Failure;
use crate::web::limiter::{Limiter, Permit};

/// Checks at once.
const AT_ONCE: usize = 2;
/// Checks that may wait, each for 50 ms or so.
const WAITING: usize = 30;
/// The whole queue takes two seconds; a host that needs this long is out of order.
const PATIENCE: Duration = Duration::from_secs(20);

/// A hash of nothing that anybody knows: an unknown user costs the same time as a wrong password.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bGVmdDRtZSBub2JvZHk$wTfRm6fOIEwUSRk0mM4j2Nx9vZjz0rJIkXl5MGQm3fY";

/// Checks and hashes passwords.
pub struct Passwords {
    checks: Limiter,
    queue: Limiter,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { checks: Limiter::shared(AT_ONCE), queue: Limiter::shared(AT_ONCE + WAITING) }
    }
}

impl Passwords {
    /// A place in the queue. Taken before an attempt is counted: a 503 then counts for nothing.
    ///
    /// # Errors
    /// 503 when too many wait already.
    pub fn place(&self) -> Result<Permit, Failure> {
        self.queue.try_acquire().ok_or_else(busy)
    }

    /// Whether the password belongs to the hash; without a hash never, after the same time.
    ///
    /// # Errors
    /// 500 when the check itself breaks off.
    pub async fn verify(&self, place: Permit, password: String, hash: Option<String>) -> Result<bool, Failure> {
        let check = move || {
            let good = password::verify(&password, hash.as_deref().unwrap_or(NOBODY));
            good && hash.is_some()
        };
        self.work(place, check).await
    }

    /// The hash of a password.
    ///
    /// # Errors
    /// 422 for one that breaks the rules; 503 when too many wait already.
    pub async fn hash(&self, password: String) -> Result<String, Failure> {
        password::check(&password)?;
        let place = self.place()?;
        Ok(self.work(place, move || password::hash(&password)).await??)
    }

    async fn work<T: Send + 'static>(
        &self,
        place: Permit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let check = self.checks.acquire(PATIENCE).await.ok_or_else(busy)?;
        let work = move || {
            let done = work();
            drop(place);
            done
        };
        check.blocking(work).await.map_err(Failure::internal)
    }
}

fn busy() -> Failure {
    Failure::busy("too many people sign in at once: try again in a moment", 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_hash_is_one_that_costs_as_much_as_any_other() {
        // Damaged, it would be refused at once, and the time would tell that there is no such user.
        assert!(argon2::password_hash::phc::PasswordHash::new(NOBODY).is_ok());
        let real = password::hash("a password of somebody").unwrap();
        let cost = |hash: &str| hash.split('$').nth(3).unwrap().to_owned();
        assert_eq!(cost(NOBODY), cost(&real));
        assert_eq!(NOBODY.split('$').nth(5).unwrap().len(), real.split('$').nth(5).unwrap().len());
    }
}
