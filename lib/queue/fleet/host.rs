//! The host that carries orders out, and what came of one.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use crate::base::Result;
use crate::base::config::PortRange;
use crate::base::keys::{OpeningKey, PublicKey};
use crate::base::names::{FleetHost, JobId};

/// The host that carries orders out.
pub struct Host<'a> {
    pub name: &'a FleetHost,
    /// Whose orders it obeys, by the names that root gave them.
    pub controllers: &'a BTreeMap<String, PublicKey>,
    /// Opens what is sealed to this host; None if its key cannot be read.
    pub opening: Option<&'a OpeningKey>,
    /// How many servers it takes; None for as many as there are ports.
    pub capacity: Option<u32>,
    pub ports: PortRange,
    /// left4me's data directory.
    pub root: &'a Path,
    /// Cancels a job, and says in words what came of it. Cancellation stands above the queue, so
    /// that its caller brings it along.
    pub cancel: Cancel,
}

/// Cancels a job in a transaction.
pub type Cancel = fn(&Connection, &CancelOrder<'_>, i64) -> Result<String>;

/// What is to be cancelled.
#[derive(Clone, Copy, Debug)]
pub struct CancelOrder<'a> {
    pub job: JobId,
    pub force: bool,
    pub reason: &'a str,
    pub by: &'a str,
}

/// What was done for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Performed {
    /// A job does it; its end is the order's.
    Job(JobId),
    /// It is done; in words.
    Done(String),
    /// It is under way; `receipt::end` tells its end.
    UnderWay(String),
}
