//! The ends of PID 1's jobs, which it reports to everyone on its private socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_core::Stream as _;
use zbus::MessageStream;
use zruntime::Event;

/// How many results of jobs are kept that were not asked for yet.
const UNCLAIMED: usize = 4096;

/// The jobs that have ended, by object path.
#[derive(Clone, Default)]
pub(super) struct Jobs(Arc<JobResults>);

#[derive(Default)]
struct JobResults {
    ended: Mutex<Ended>,
    changed: Event,
}

#[derive(Default)]
struct Ended {
    results: HashMap<String, String>,
    /// The connection is broken: no more ends are reported.
    broken: bool,
}

/// The job's number, its path, the unit, and the result.
type Removed<'m> = (u32, zbus::ObjectPath<'m>, &'m str, &'m str);

impl Jobs {
    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects results until the connection ends. A result can come before the reply that names
    /// the job.
    pub(super) async fn listen(&self, mut signals: MessageStream) {
        loop {
            let mut stream = std::pin::pin!(&mut signals);
            let next = std::future::poll_fn(|context| stream.as_mut().poll_next(context)).await;
            let Some(Ok(signal)) = next else { break };

            let header = signal.header();
            let is_end = header
                .member()
                .is_some_and(|name| name.as_str() == "JobRemoved");
            let body = signal.body();
            if is_end && let Ok((_, path, _, result)) = body.deserialize::<Removed<'_>>() {
                self.add(path.as_str(), result);
            }
        }

        self.ended().broken = true;
        self.0.changed.notify(usize::MAX);
    }

    fn add(&self, path: &str, result: &str) {
        let mut ended = self.ended();
        // Those of other programs are never asked for.
        if ended.results.len() >= UNCLAIMED {
            ended.results.clear();
        }
        ended.results.insert(path.to_owned(), result.to_owned());
        drop(ended);
        self.0.changed.notify(usize::MAX);
    }

    /// Waits for the end of a job; returns its result. None if the connection broke.
    pub(super) async fn wait(&self, path: &str) -> Option<String> {
        loop {
            let more = self.0.changed.listen();
            {
                let mut ended = self.ended();
                if let Some(result) = ended.results.remove(path) {
                    return Some(result);
                }
                if ended.broken {
                    return None;
                }
            }
            more.await;
        }
    }
}
