//! left4me runs Left 4 Dead 2 servers with systemd.
//!
//! A request becomes a job in one SQLite database. Small sandboxed programs carry the job out and
//! record every line of output. The library is divided into layers; a module imports only from its
//! own layer and the layers below, which `tests/tidy/` checks.
//!
//! | layer | modules |
//! |---|---|
//! | 1 basics | [`base`]: names, settings, clock, logging, errors and exit codes |
//! | 2 domain, pure | [`domain`]: operations, plans, states, the schedule, servers, blueprints, the meaning of steamcmd's output |
//! | 3 store | [`db`]: all SQL |
//! | 3 system | [`wire`]: the line protocol of runner, publisher and helper; [`process`]: the only module that spawns processes; [`host`]: units, instances, layers |
//! | 4 engine | [`queue`]: enqueue, claim, run, finish, recover, write logs; [`cancel`]: cancellation, step by step, up to the verified cleanup; [`doctor`]: checks of the installation |
//! | 5 programs | [`worker`], [`poller`], [`console`], [`web`], [`runner`], [`publisher`], [`helper`], [`notify`], [`gate`], [`link`], [`rollout`], [`cli`] (`left4me-job`), [`admin`] (`left4me`), [`ctl`] (`l4d2ctl`) |
//!
//! Programs never import each other. They communicate through the database and three sockets.
#![deny(unsafe_code)]

pub mod admin;
pub mod base;
pub mod cancel;
pub mod cli;
pub mod console;
pub mod ctl;
pub mod db;
pub mod doctor;
pub mod domain;
pub mod gate;
pub mod helper;
pub mod host;
pub mod link;
pub mod notify;
pub mod poller;
pub mod process;
pub mod publisher;
pub mod queue;
pub mod rollout;
pub mod runner;
pub mod web;
pub mod wire;
pub mod worker;
