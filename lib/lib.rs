//! left4me: Left 4 Dead 2 servers the systemd way.
//!
//! A wish becomes a row in one SQLite file; small sandboxed programs carry it out and write down every line they
//! saw. The library is built in floors. Imports only point down; `tests/tidy.rs` holds it.
//!
//! | floor | rooms |
//! |---|---|
//! | 1 ground | [`base`]: names, settings, clock, journal, notify, errors and exit codes |
//! | 2 domain, pure | [`domain`]: operations, plans, states, the schedule, servers, blueprints, what steamcmd's words mean |
//! | 3 store | [`db`]: the only SQL |
//! | 3 hands | [`wire`]: the line protocol of runner and helper; [`process`]: the only place that spawns; [`host`]: units, instances, layers |
//! | 4 engine | [`queue`]: enqueue, claim, run, finish, recover, the log writer; [`cancel`]: ending what runs, step by step, with proof; [`doctor`]: what is wrong here, as findings |
//! | 5 programs | [`worker`], [`poller`], [`web`], [`runner`], [`helper`], [`cli`] (`left4me-job`), [`admin`] (`left4me`), [`ctl`] (`l4d2ctl`) |
//!
//! Programs never import one another: they meet in the database and on three sockets.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod admin;
pub mod base;
pub mod cancel;
pub mod cli;
pub mod ctl;
pub mod db;
pub mod doctor;
pub mod domain;
pub mod helper;
pub mod host;
pub mod poller;
pub mod process;
pub mod queue;
pub mod runner;
pub mod web;
pub mod wire;
pub mod worker;
