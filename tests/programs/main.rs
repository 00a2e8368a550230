//! The programs of an administrator and of systemd, the examples, and what `deploy/` ships.
#![allow(
    clippy::disallowed_methods,
    reason = "tests start the programs they test"
)]

mod admin;
mod alerts;
mod builds;
mod console;
mod content;
mod ctl;
mod deploy;
mod examples;
mod fleet_operator;
mod fleet_soak;
mod fleet_take_over;
mod game;
mod gate;
mod helper;
mod helper_builds;
mod install;
mod link;
mod monitor;
mod poller;
mod prune;
mod publisher;
mod publisher_disks;
mod publisher_kills;
mod questions;
mod runner;
mod runner_check;
mod runner_room;
mod runner_steam;
mod schedules;
mod standin;
#[path = "../support/mod.rs"]
mod support;
