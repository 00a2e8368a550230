//! What all requests share.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::config::PortRange;
use crate::doctor::Looks;
use crate::queue::enqueue::{Poke, poke};
use crate::web::auth::asker::Proxies;
use crate::web::auth::origin::Origins;
use crate::web::auth::throttle::Throttle;
use crate::web::limiter::Limiter;
use crate::web::live::Hub;
use crate::web::metrics::Metrics;
use crate::web::passwords::Passwords;
use crate::web::store::Store;

/// The web front's state. Cheap to clone.
pub type App = Arc<Shared>;

/// What [`App`] points to.
pub struct Shared {
    /// The database.
    pub store: Store,
    /// Where we are reached.
    pub origins: Origins,
    /// Which proxies are believed.
    pub proxies: Proxies,
    /// Who tried too often to sign in.
    pub throttle: Throttle,
    /// Hashes and checks passwords, two at a time.
    pub passwords: Passwords,
    /// What streams are fed from.
    pub hub: Hub,
    /// Open streams and downloads.
    pub streams: Limiter,
    /// The API's answers, which can be long.
    pub answers: Limiter,
    /// What is counted of requests and streams.
    pub metrics: Metrics,
    /// What was asked at the command line and in the settings.
    pub settings: Settings,
}

/// The settings that requests need.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of all data.
    pub root: PathBuf,
    /// The socket that wakes the worker.
    pub worker_socket: PathBuf,
    /// The socket of the helper.
    pub helper_socket: PathBuf,
    /// The socket of the runner, which the doctor looks at.
    pub runner_socket: PathBuf,
    /// What else the doctor looks at.
    pub looks: Looks,
    /// Ports that servers may have.
    pub ports: PortRange,
    /// A session is over after so long, ms, whatever is done in it.
    pub session: i64,
    /// The most lines of a job's log that a stream begins with.
    pub replay_limit: u32,
}

impl Shared {
    /// Wakes the worker, now that something is committed for it. The row is the truth: a poke that is not heard is told
    /// in the journal, and the poller's repairs it.
    pub fn poke(&self) {
        if let Poke::Unheard(error) = poke(&self.settings.worker_socket) {
            tracing::warn!("{error}");
        }
    }
}
