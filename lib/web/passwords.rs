//! Password checks. Each costs 19 MiB and 30 ms on purpose, so two run at a time, and only a few
//! may wait.

use std::time::Duration;

use crate::base::password;
use crate::web::failure::Failure;
use crate::web::limiter::{Limiter, Permit};

/// Checks at once.
const AT_ONCE: usize = 2;
/// Checks that may wait, for about 50 ms each.
const WAITING: usize = 30;
/// The whole queue takes two seconds; a longer wait means that the host is broken.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A hash with no known password: an unknown user costs the same time as a wrong password.
const DUMMY_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$bGVmdDRtZSBub2JvZHk$wTfRm6fOIEwUSRk0mM4j2Nx9vZjz0rJIkXl5MGQm3fY";

pub struct Passwords {
    checks: Limiter,
    queue: Limiter,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            checks: Limiter::shared(AT_ONCE),
            queue: Limiter::shared(AT_ONCE + WAITING),
        }
    }
}

impl Passwords {
    /// Takes a slot in the queue. Do it before an attempt is counted, so that a 503 does not count.
    pub fn slot(&self) -> Result<Permit, Failure> {
        self.queue.try_acquire().ok_or_else(busy)
    }

    /// Whether the password matches the hash. Without a hash the result is false, after the same
    /// time.
    ///
    /// Fails if the check panics.
    pub async fn verify(
        &self,
        slot: Permit,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, Failure> {
        let check = move || {
            let good = password::verify(&password, hash.as_deref().unwrap_or(DUMMY_HASH));
            good && hash.is_some()
        };
        self.work(slot, check).await
    }

    pub async fn hash(&self, password: String) -> Result<String, Failure> {
        password::check(&password)?;
        let slot = self.slot()?;
        Ok(self.work(slot, move || password::hash(&password)).await??)
    }

    async fn work<T: Send + 'static>(
        &self,
        slot: Permit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let check = self.checks.acquire(TIMEOUT).await.ok_or_else(busy)?;
        let work = move || {
            let done = work();
            drop(slot);
            done
        };
        check.blocking(work).await.map_err(Failure::internal)
    }
}

fn busy() -> Failure {
    Failure::busy("too many sign-ins at once: try again in a moment", 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dummy_hash_costs_as_much_as_a_real_one() {
        // A malformed hash would be refused at once, and the time would reveal unknown users.
        assert!(argon2::password_hash::phc::PasswordHash::new(DUMMY_HASH).is_ok());
        let real = password::hash("a real password").unwrap();
        let cost = |hash: &str| hash.split('$').nth(3).unwrap().to_owned();
        assert_eq!(cost(DUMMY_HASH), cost(&real));
        assert_eq!(
            DUMMY_HASH.split('$').nth(5).unwrap().len(),
            real.split('$').nth(5).unwrap().len()
        );
    }
}
