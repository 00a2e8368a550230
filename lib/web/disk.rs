//! Looking at files other than the database. A disk that does not answer holds whoever asks it for ever, and no signal
//! ends that: so only a few may ask at once, and none of those who read the database.

use std::sync::LazyLock;
use std::time::Duration;

use crate::web::failure::Failure;
use crate::web::limiter::Limiter;

/// As many threads are lost at most.
static DISK: LazyLock<Limiter> = LazyLock::new(|| Limiter::shared(2));

/// A request waits this long for its permit and the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `work` beside the threads that serve connections.
///
/// # Errors
/// 503 when the disk does not answer.
pub async fn look<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    look_within(PATIENCE, work).await
}

async fn look_within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let silent = || Failure::busy("the disk does not answer: try again", 5);
    let looking = async {
        let permit = DISK.acquire(patience).await.ok_or_else(silent)?;
        permit.blocking(work).await.map_err(Failure::internal)
    };
    tokio::time::timeout(patience, looking).await.map_err(|_| silent())?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn who_waits_for_a_disk_that_is_silent_is_told_and_the_next_one_is_served_when_it_is_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (free, held) = mpsc::channel::<()>();
            let silent = look_within(Duration::from_millis(20), move || held.recv().is_ok()).await;
            assert_eq!(silent.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(look(|| 7).await.unwrap(), 7, "there is another turn");
            free.send(()).unwrap();
        });
    }
}
