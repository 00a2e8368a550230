//! The live feeds on a real database, with a scripted helper: what followers get, whatever happens between.

mod support;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body::Body;
use http_body_util::BodyExt as _;
use left4me::base::names::{JobId, ServerId, UserId};
use left4me::db::{Db, jobs, logs, queue, users};
use left4me::domain::job::JobState;
use left4me::domain::operation::Operation;
use left4me::queue::enqueue;
use left4me::web::live::{Hub, Reader, Settings, Viewer};
use left4me::wire::Stream;
use serde_json::{Value, json};
use support::house::House;
use support::{PATIENCE, until};
use tokio::runtime::Runtime;

/// A house, its hub, and a runtime for the streams.
struct Site {
    house: House,
    hub: Hub,
    runtime: Runtime,
}

impl Site {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let house = House::with_servers(3);
        let mut settings = Settings::new(house.database(), house.root.join("helper.sock"), 1000);
        settings.retry = Duration::from_millis(20);
        settings.linger = Duration::from_millis(20);
        change(&mut settings);
        let hub = Hub::start(settings).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { house, hub, runtime }
    }

    fn enqueue(&self, operation: Operation, servers: &[i64]) -> JobId {
        let targets: Vec<ServerId> = servers.iter().copied().map(ServerId).collect();
        let wish = enqueue::Wish { operation, targets: &targets, ..wish() };
        enqueue::enqueue(&mut self.house.db(), &wish, 1).unwrap().job
    }

    /// A job that runs.
    fn running(&self) -> Job {
        let id = self.enqueue(Operation::Start, &[1]);
        let mut db = self.house.db();
        assert!(db.write(|tx| jobs::claim(tx, id, "test", 2)).unwrap());
        Job { id, db, seq: 0 }
    }

    fn follow(&self, job: JobId, after: Option<i64>) -> Heard {
        self.hear(self.hub.job(job, after, reader()))
    }

    fn hear(&self, body: impl Body<Data = bytes::Bytes, Error = std::convert::Infallible> + Send + 'static) -> Heard {
        Heard { body: Box::pin(body), text: String::new(), runtime: self.runtime.handle().clone() }
    }
}
