//! The job queue: from an accepted request to its outcome.
//!
//! [`enqueue`] accepts a job and notifies the worker. [`claim`] decides which jobs start. [`run`]
//! runs one task with its context ([`context`]). [`tick`] is the scheduler's tick over its active
//! jobs ([`active`]): it settles what ended, claims jobs and starts tasks. [`conditions`] is about
//! jobs that wait until nobody plays. [`recover`] cleans up
//! after a worker that died. [`log`] writes the lines of jobs. [`observe`] records the state of
//! servers, for worker and poller. [`journal`] writes to the journal. [`clock_steps`] keeps ages
//! correct when the host's clock is set. [`game`] sends commands to running games, [`moderation`]
//! those that are about players. [`schedules`] keeps what is done at set times. [`roll`] brings
//! another build of the game to the servers.

pub mod active;
mod build;
mod build_tasks;
pub mod claim;
pub mod clock_steps;
pub mod conditions;
pub mod context;
pub mod enqueue;
mod finish;
pub mod fleet;
pub mod game;
mod give_up;
pub mod journal;
pub mod log;
pub mod moderation;
mod moved;
pub mod observe;
pub mod recover;
pub mod retry;
pub mod roll;
pub mod run;
pub mod schedules;
pub mod slots;
mod start;
pub mod start_again;
mod stay_up;
pub mod tick;
pub mod tick_state;
pub mod waiting;
pub mod wake;
pub mod work;
