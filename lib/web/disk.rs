//! Looking at files other than the database. A disk that does not answer holds whoever asks it for ever, and no signal
//! ends that: so only a few may ask at once, and none of those who read the database.

use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::Semaphore;

use crate::web::app::fault;
use crate::web::failure::Failure;

/// So many look at once; as many threads are lost at most.
static TURNS: Semaphore = Semaphore::const_new(2);

/// So long somebody waits for a turn, and for an answer.
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
    let looking = async {
        let turn = TURNS.acquire().await.map_err(fault)?;
        let done = tokio::task::spawn_blocking(move || {
            let found = work();
            // Not before: who asked may have gone, but the thread is still held.
            drop(turn);
            found
        });
        done.await.map_err(fault)
    };
    let silent =
        |_| Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the disk does not answer: try again").retry_after(5);
    tokio::time::timeout(patience, looking).await.map_err(silent)?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

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
