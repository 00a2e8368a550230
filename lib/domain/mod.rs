//! The rules, as pure functions: no I/O, no clock. The caller passes values and `now`, and gets the
//! decision.

pub mod alert;
pub mod blueprint;
pub mod build;
pub mod calendar;
pub mod cancellation;
pub mod completions;
pub mod condition;
pub mod console;
pub mod disk;
pub mod drift;
pub mod duration;
pub mod env_file;
pub mod fleet;
pub mod game;
pub mod game_command;
pub mod history;
pub mod job;
pub mod launch;
pub mod launch_upgrade;
pub mod notices;
pub mod operation;
pub mod outcome;
pub mod plan;
pub mod reason;
pub mod retention;
pub mod schedule;
pub mod scheduled;
pub mod server;
pub mod stale;
pub mod status;
pub mod steam;
pub mod task;
pub mod unit;
pub mod update;
