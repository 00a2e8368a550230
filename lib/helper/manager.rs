//! The client of systemd's manager for a batch, in a thread of its own, over PID 1's private socket,
//! which systemctl uses too.
//!
//! `systemctl enable --now` reloads PID 1 each time, because it cannot know whether that is needed:
//! 0.2 to 0.4 s during which PID 1 does nothing else, and more with more units. Here the symlinks are
//! written by PID 1 without a reload, and the start follows at once. left4me-reload.timer reloads it
//! once, soon after the batch. Stops share a reload of their own, because PID 1 remembers of a loaded
//! unit whether it starts at boot.

mod calls;
mod jobs;
mod private_bus;
mod symlinks;
pub(super) mod timers;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use zbus::{MessageStream, OwnedObjectPath};
use zruntime::lock::Semaphore;
use zruntime::{SharedRuntime, Task, mpmc};

use super::commands::{overlay_unit, server_unit};
use crate::base::Result;
use crate::base::names::InstanceName;
use crate::base::systemd::UNIT;
use crate::wire::Observation;
use crate::wire::batch::BatchVerb;
pub(super) use calls::SystemdFailure;
use calls::{Bus, Done, message};
use jobs::Jobs;
use symlinks::{Change, Direction, Symlinks};

/// Reloads PID 1 a moment after it was started last.
const RELOAD: &str = "left4me-reload.timer";

/// Where drop-ins are that left4me itself writes and removes.
const DROP_INS: &str = "/run/systemd/system/";

/// How long PID 1 may take for the last request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts at once per processor. Each takes PID 1, the mount's program and the game's sandbox some
/// 0.05 to 0.2 s of processor time, and as many answers of PID 1 as are needed to keep it busy. More
/// at once would only wait in PID 1, where systemd's time-outs count.
const STARTS_PER_PROCESSOR: usize = 8;

/// Stops at once. A game may take seconds to end, but no processor time.
const STOPS: usize = 128;

/// What to do next.
pub(super) enum Ask {
    Begin(Begin),
    /// Forget this operation. What PID 1 has begun, it finishes.
    Abandon(InstanceName),
}

/// An operation on one server.
pub(super) struct Begin {
    pub verb: BatchVerb,
    pub server: InstanceName,
    /// A stopped server is started again at once.
    pub again: bool,
}

/// What happened to one server.
pub(super) struct ServerReport {
    pub server: InstanceName,
    pub what: What,
}

pub(super) enum What {
    Observed(Observation),
    End(Done),
}

/// The thread's owner.
pub(super) struct Manager {
    asks: mpmc::Sender<Ask>,
    reports: Receiver<ServerReport>,
    wake: UnixStream,
    thread: JoinHandle<()>,
}

impl Manager {
    pub(super) fn start() -> Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;

        let (asks, to_do) = mpmc::unbounded();
        let (sender, reports) = channel();
        let reporter = Reporter {
            sender,
            waker: Arc::new(waker),
        };

        let thread = thread::Builder::new().name("systemd".to_owned());
        let thread = thread.spawn(move || zruntime::block_on(serve(to_do, reporter)))?;
        Ok(Self {
            asks,
            reports,
            wake,
            thread,
        })
    }

    /// A descriptor that is readable when there are reports.
    pub(super) fn wake(&self) -> Result<OwnedFd> {
        Ok(self.wake.try_clone()?.into())
    }

    pub(super) fn ask(&self, ask: Ask) {
        // The thread ends only with this value.
        drop(self.asks.try_send(ask));
    }

    /// The reports that have come.
    pub(super) fn reports(&self) -> Vec<ServerReport> {
        // Before the reports: one that comes later wakes again.
        let mut bytes = [0; 64];
        while (&self.wake).read(&mut bytes).is_ok_and(|count| count > 0) {}
        self.reports.try_iter().collect()
    }

    /// Whether the thread has ended before its owner: a panic, which has been reported.
    pub(super) fn is_gone(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the thread, after its last request.
    pub(super) fn finish(self) {
        drop(self.asks);
        // A panic has been reported by then.
        drop(self.thread.join());
    }
}

#[derive(Clone)]
struct Reporter {
    sender: Sender<ServerReport>,
    waker: Arc<UnixStream>,
}

impl Reporter {
    fn send(&self, server: &InstanceName, what: What) {
        let server = server.clone();
        drop(self.sender.send(ServerReport { server, what }));
        // When its buffer is full, the reader has enough to wake for.
        drop((&*self.waker).write(&[0]));
    }
}

/// Serves the batch until its owner is gone.
async fn serve(to_do: mpmc::Receiver<Ask>, reporter: Reporter) {
    let systemd = match SharedRuntime::current() {
        Ok(runtime) => Systemd::connect(&runtime).await.map(Arc::new),
        Err(error) => Err(SystemdFailure::of(69, error)),
    };

    let mut tasks: HashMap<InstanceName, Task<(), zruntime::Shared>> = HashMap::new();
    while let Ok(ask) = to_do.recv().await {
        tasks.retain(|_, task| !task.is_finished());
        match (ask, &systemd) {
            (Ask::Begin(begin), Ok(systemd)) => {
                let (here, reporter) = (Arc::clone(systemd), reporter.clone());
                let (name, verb) = (begin.server.clone(), begin.verb.as_str());
                let task = systemd.bus.runtime.spawn(verb, async move {
                    let end = here.carry_out(&begin, &reporter).await;
                    reporter.send(&begin.server, What::End(end));
                });
                tasks.insert(name, task);
            }
            (Ask::Begin(begin), Err(failure)) => {
                let failure = SystemdFailure::of(failure.code, &failure.message);
                reporter.send(&begin.server, What::End(Err(failure)));
            }
            // Dropping a task cancels it.
            (Ask::Abandon(server), _) => drop(tasks.remove(&server)),
        }
    }

    // Before the process ends: until PID 1 has read it, nothing else asks for the reload.
    if let Ok(systemd) = &systemd {
        systemd.request_reload().await;
    }
}

/// PID 1, and what bounds the requests to it.
struct Systemd {
    bus: Bus,
    jobs: Jobs,
    starts: Semaphore,
    stops: Semaphore,
    links: Symlinks,
    unlinks: Symlinks,
    /// One reload for starts at a time, and how many have begun.
    reloading: zruntime::lock::Mutex<()>,
    reloads: AtomicU64,
    /// Symlinks were changed since PID 1 read them last.
    changed: AtomicBool,
}

impl Systemd {
    async fn connect(runtime: &SharedRuntime) -> Done<Self> {
        let bus = Bus::connect(runtime).await?;

        let jobs = Jobs::default();
        let (ended, signals) = (jobs.clone(), MessageStream::from(&bus.connection));
        runtime
            .spawn("jobs", async move { ended.listen(signals).await })
            .detach();

        let processors = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            bus,
            jobs,
            starts: Semaphore::new(STARTS_PER_PROCESSOR * processors),
            stops: Semaphore::new(STOPS),
            links: Symlinks::new(Direction::Link),
            unlinks: Symlinks::new(Direction::Unlink),
            reloading: zruntime::lock::Mutex::default(),
            reloads: AtomicU64::new(0),
            changed: AtomicBool::new(false),
        })
    }

    async fn carry_out(&self, begin: &Begin, reporter: &Reporter) -> Done {
        let &Begin {
            verb,
            ref server,
            again,
        } = begin;
        let end = match verb {
            BatchVerb::Enable => self.enable(server).await,
            BatchVerb::Disable => self.disable(server, again).await,
            BatchVerb::Show => Ok(()),
        };

        // Without a question that PID 1 answers from the disk.
        let enabled = match (verb, &end) {
            (BatchVerb::Enable, Ok(())) => Some("enabled"),
            (BatchVerb::Disable, Ok(())) => Some("disabled"),
            _ => None,
        };
        match self.bus.observe(server, enabled).await {
            Ok(observation) => reporter.send(server, What::Observed(observation)),
            // Only `show` has to give the reason.
            Err(failure) if verb == BatchVerb::Show => return Err(failure),
            Err(_) => {}
        }
        end
    }

    /// Enables and starts the unit. Resets the start limit first: the limit is for crashes, and an
    /// explicit start begins a new count.
    async fn enable(&self, server: &InstanceName) -> Done {
        let _permit = self.starts.acquire().await;
        let unit = server_unit(server);
        self.forget_failure(&unit).await;
        self.link(&unit).await?;

        let begun = self.reloads.load(Ordering::Relaxed);
        if self.is_stale(server).await {
            self.reload(begun).await?;
        }
        self.job("StartUnit", &unit).await
    }

    /// Disables and stops the unit of the server, then that of its overlay, and resets their failed
    /// states. A server that was never started or does not exist counts as stopped.
    async fn disable(&self, server: &InstanceName, again: bool) -> Done {
        let _permit = self.stops.acquire().await;
        let (unit, overlay) = (server_unit(server), overlay_unit(server));
        self.unlink(&unit, again).await?;
        self.job("StopUnit", &unit).await?;

        // When systemd stops the overlay's unit, that unit outlives the server's by a moment. The
        // caller must find it gone.
        self.job("StopUnit", &overlay).await?;
        self.forget_failure(&unit).await;
        self.forget_failure(&overlay).await;
        Ok(())
    }

    /// Writes the symlink that starts the unit at boot. PID 1 does it, without a reload.
    async fn link(&self, unit: &str) -> Done {
        let change = self.links.change(&self.bus, unit, true).await?;
        self.note(&change);
        Ok(())
    }

    /// Removes the symlink. Unless the server is started again, PID 1 reads that at once: of a unit
    /// that it has loaded, `systemctl show` would still say that it starts at boot.
    async fn unlink(&self, unit: &str, again: bool) -> Done {
        let change = self.unlinks.change(&self.bus, unit, again).await?;
        self.note(&change);
        Ok(())
    }

    fn note(&self, change: &Change) {
        match change {
            Change::Unread => self.changed.store(true, Ordering::Relaxed),
            Change::Read => self.changed.store(false, Ordering::Relaxed),
            Change::Nothing => {}
        }
    }

    /// Fails for a unit that is not loaded; then there is nothing to reset.
    async fn forget_failure(&self, unit: &str) {
        drop(self.bus.call("ResetFailedUnit", &(unit)).await);
    }

    /// Starts or stops a unit, and waits for the end of that.
    async fn job(&self, method: &str, unit: &str) -> Done {
        let reply = match self.bus.call(method, &(unit, "replace")).await {
            Ok(reply) => reply,
            // What does not exist is stopped.
            Err(failure) if method == "StopUnit" && failure.is_not_loaded() => return Ok(()),
            Err(failure) => return Err(failure),
        };

        let verb = method.trim_end_matches("Unit").to_lowercase();
        self.end_of(&reply, &verb, unit).await
    }

    /// Waits for the end of the job that a reply names.
    async fn end_of(&self, reply: &zbus::Message, verb: &str, unit: &str) -> Done {
        let path: OwnedObjectPath = reply
            .body()
            .deserialize()
            .map_err(|error| SystemdFailure::of(1, message(&error)))?;
        let result = self.jobs.wait(path.as_str()).await.ok_or_else(|| {
            let why = format!("the connection to systemd broke while {unit} was changed");
            SystemdFailure::of(69, why)
        })?;

        if result == "done" || (verb == "stop" && result == "skipped") {
            return Ok(());
        }
        let why = format!("the {verb} of {unit} {}", how(&result));
        Err(SystemdFailure::of(1, why))
    }

    /// Lets PID 1 reload, unless another start's reload has begun since there were `begun` of them.
    async fn reload(&self, begun: u64) -> Done {
        let _turn = self.reloading.lock().await;
        if self.reloads.load(Ordering::Relaxed) > begun {
            return Ok(());
        }

        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.bus.call("Reload", &()).await?;
        self.changed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Whether PID 1 has to reload before the start: it has loaded the unit and remembers that it
    /// does not start at boot, or it still uses a drop-in that left4me wrote for an upgrade and has
    /// removed since.
    async fn is_stale(&self, server: &InstanceName) -> bool {
        let (unit, overlay) = (server_unit(server), overlay_unit(server));
        // A question about a unit that is not loaded would load it, only to forget it again.
        if !self.bus.is_loaded(&unit).await && !self.bus.is_loaded(&overlay).await {
            return false;
        }

        // All are asked for before the first answer: each takes PID 1 a turn.
        let state = self.bus.ask(&unit, UNIT, "UnitFileState");
        let drop_ins = [&unit, &overlay].map(|unit| self.bus.ask(unit, UNIT, "DropInPaths"));

        let state = state
            .await
            .ok()
            .and_then(|state| String::try_from(state.ok()?).ok());
        let mut stale = state.is_some_and(|state| state != "enabled");
        for paths in drop_ins {
            let paths = paths
                .await
                .ok()
                .and_then(|paths| Vec::<String>::try_from(paths.ok()?).ok());
            let is_gone = |path: &String| path.starts_with(DROP_INS) && !Path::new(path).exists();
            stale |= paths.is_some_and(|paths| paths.iter().any(is_gone));
        }
        stale
    }

    /// Lets PID 1 read the changed symlinks, a moment later.
    async fn request_reload(&self) {
        if !self.changed.load(Ordering::Relaxed) {
            return;
        }
        let request = self.bus.call("RestartUnit", &(RELOAD, "replace"));
        match self.bus.runtime.timeout(PATIENCE, request).await {
            Ok(Ok(_)) => {}
            Ok(Err(failure)) => tracing::warn!("{RELOAD} cannot be started: {}", failure.message),
            Err(_) => tracing::warn!("{RELOAD} cannot be started: systemd does not answer"),
        }
    }
}

/// How a job ended other than well.
fn how(result: &str) -> String {
    match result {
        "failed" => "failed".to_owned(),
        "dependency" => "failed: a unit that it needs did not start".to_owned(),
        "timeout" => "took too long".to_owned(),
        "canceled" => "was replaced by another request to systemd".to_owned(),
        other => format!("ended with the result '{other}'"),
    }
}
