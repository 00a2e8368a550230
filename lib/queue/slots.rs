//! How many tasks run at once. A task that only waits takes no slot.

use crate::base::config::WorkerSettings;
use crate::domain::task::Readiness;
use crate::queue::active::{ActiveJob, ActiveTask};
use crate::queue::waiting::Waiting;

/// The slots of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    pub count: usize,
    /// The starts and stops of a job take one slot together: the helper bounds them.
    pub shared: bool,
}

impl Slots {
    pub fn of(settings: &WorkerSettings) -> Self {
        Self {
            count: settings.slots(),
            shared: settings.batches_take_one_slot(),
        }
    }

    /// How many slots running tasks take.
    pub fn taken(self, jobs: &[ActiveJob], waiting: &Waiting) -> usize {
        let of_job = |job: &ActiveJob| self.needed(job, |at| takes_slot(&job.tasks[at], waiting));
        jobs.iter().map(of_job).sum()
    }

    /// How many slots running and ready tasks take.
    pub fn wanted(self, jobs: &[ActiveJob], waiting: &Waiting) -> usize {
        let of_job = |job: &ActiveJob| {
            let is_ready = |at| job.readiness(at) == Some(Readiness::Ready);
            self.needed(job, |at| {
                takes_slot(&job.tasks[at], waiting) || is_ready(at)
            })
        };
        jobs.iter().map(of_job).sum()
    }

    /// Whether a batch of this job runs that further tasks can join without a slot of their own.
    pub fn has_batch(self, job: &ActiveJob, waiting: &Waiting) -> bool {
        let in_batch = |task: &ActiveTask| self.is_shared(task) && takes_slot(task, waiting);
        job.tasks.iter().any(in_batch)
    }

    /// Whether the task shares its slot.
    pub fn is_shared(self, task: &ActiveTask) -> bool {
        self.shared && task.is_batched()
    }

    /// How many slots the `chosen` tasks of a job take, given by position.
    fn needed(self, job: &ActiveJob, chosen: impl Fn(usize) -> bool) -> usize {
        let (shared, own): (Vec<_>, Vec<_>) = (0..job.tasks.len())
            .filter(|&at| chosen(at))
            .partition(|&at| self.is_shared(&job.tasks[at]));
        own.len() + usize::from(!shared.is_empty())
    }
}

fn takes_slot(task: &ActiveTask, waiting: &Waiting) -> bool {
    task.is_running() && !waiting.has(task.id)
}
