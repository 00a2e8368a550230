//! Access to files other than the database. A disk that does not answer blocks its reader without
//! limit, and no signal ends that. So only a few threads may wait for a disk, and none of those
//! that read the database.

use std::sync::LazyLock;
use std::time::Duration;

use crate::web::failure::Failure;
use crate::web::limiter::Limiter;

/// The most threads that can be lost.
static DISK: LazyLock<Limiter> = LazyLock::new(|| Limiter::shared(2));

/// The limit for the permit and the answer together.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `work` on a blocking thread.
pub async fn look<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    look_within(TIMEOUT, work).await
}

async fn look_within<T: Send + 'static>(
    timeout: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let silent = || Failure::busy("the disk does not answer: try again", 5);
    let looking = async {
        let permit = DISK.acquire(timeout).await.ok_or_else(silent)?;
        permit.blocking(work).await.map_err(Failure::internal)
    };

    tokio::time::timeout(timeout, looking)
        .await
        .map_err(|_| silent())?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn a_silent_disk_is_reported_and_the_next_request_is_served() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();

        runtime.block_on(async {
            let (free, held) = mpsc::channel::<()>();
            let silent = look_within(Duration::from_millis(20), move || held.recv().is_ok()).await;
            assert_eq!(silent.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(look(|| 7).await.unwrap(), 7, "another permit is free");
            free.send(()).unwrap();
        });
    }
}
