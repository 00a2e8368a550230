//! What the scheduler's threads report to it.

use std::sync::mpsc::Sender;

use crate::base::names::{JobId, ServerId};
use crate::cancel::cleaner::CleanUpReport;
use crate::host::units::Observed;
use crate::queue::conditions::Answer;
use crate::queue::wake::Waker;
use crate::queue::work::Ended;

/// What other threads report to the scheduler.
pub(super) enum Report {
    /// A task has ended.
    Ended(Ended),
    /// The cleaner of a cancellation is done.
    CleanedUp(CleanUpReport),
    /// What systemd reports of a server.
    Observed(ServerId, Observed),
    /// Whether the servers of a waiting job are empty.
    Answered(Answer),
    /// A warning of a waiting job was said; what went wrong.
    Warned(JobId, Vec<String>),
}

/// Sends reports to the scheduler, and wakes it.
#[derive(Clone)]
pub(super) struct Reporter {
    pub(super) sender: Sender<Report>,
    pub(super) waker: Waker,
}

impl Reporter {
    pub(super) fn send(&self, report: Report) {
        // The scheduler is gone only while the process exits.
        drop(self.sender.send(report));
        self.waker.wake();
    }
}

/// Runs `work` in a thread. Its stack is small: an update has a thread for each server.
pub(super) fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(name);
    thread.stack_size(512 * 1024).spawn(work).map(drop)
}
