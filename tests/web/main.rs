//! The web front as a program on a real database: pages, REST API, streams, and bad clients.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests start the programs they test"
)]

mod access;
mod admin;
mod api;
mod attacks;
mod builds;
mod downloads;
mod field;
mod fleet;
mod game;
mod limits;
mod live;
mod pages;
mod schedules;
mod subscribers;
#[path = "../support/mod.rs"]
mod support;
mod waiting;
