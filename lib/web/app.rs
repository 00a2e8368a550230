//! The state that all requests share.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::config::{BuildMode, PortRange};
use crate::doctor::DoctorSettings;
use crate::queue::wake;
use crate::web::auth::client::Proxies;
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
    pub store: Store,
    /// The addresses of the web front.
    pub origins: Origins,
    pub proxies: Proxies,
    /// Limits failed sign-ins.
    pub throttle: Throttle,
    /// Hashes and checks passwords, two at a time.
    pub passwords: Passwords,
    pub hub: Hub,
    /// Limits open streams and downloads.
    pub streams: Limiter,
    /// Limits the API's answers, which can be long.
    pub answers: Limiter,
    /// Limits the commands to games that wait for their replies.
    pub commands: Limiter,
    /// Counters of requests and streams.
    pub metrics: Metrics,
    /// AppSettings and command line options.
    pub settings: AppSettings,
}

/// The settings that requests need.
#[derive(Clone, Debug)]
pub struct AppSettings {
    pub root: PathBuf,
    /// The socket that wakes the worker.
    pub worker_socket: PathBuf,
    pub helper_socket: PathBuf,
    /// The runner's socket, for the doctor.
    pub runner_socket: PathBuf,
    /// The publisher's socket, for removing a build.
    pub publisher_socket: PathBuf,
    /// The socket that makes systemd's timers follow the schedules.
    pub schedules_socket: PathBuf,
    /// The socket of left4me-console, which talks to running games.
    pub console_socket: PathBuf,
    /// Other paths that the doctor checks.
    pub doctor: DoctorSettings,
    /// How updates are made.
    pub build_mode: BuildMode,
    /// The range of servers' ports.
    pub ports: PortRange,
    /// How long a session lasts at most, ms.
    pub session: i64,
    /// The most lines of a job's log that a stream starts with.
    pub replay_limit: u32,
}

impl Shared {
    /// Wakes the worker after a commit. A lost wake-up is logged; the poller's next one makes up
    /// for it.
    pub fn wake_worker(&self) {
        if let Err(error) = wake::worker(&self.settings.worker_socket) {
            tracing::warn!("{error}");
        }
    }

    /// Makes systemd's timers follow the schedules, after a commit. A failure is logged; the next
    /// change makes up for it, and the doctor finds it.
    pub fn wake_schedules(&self) {
        if let Err(error) = wake::schedules(&self.settings.schedules_socket) {
            tracing::warn!("{error}");
        }
    }
}
