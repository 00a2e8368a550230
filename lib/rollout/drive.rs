//! Takes the next steps of a rollout. What is decided, the orders, and how far it is are written in
//! one transaction, and an order's id follows from its step: so it makes no difference when a driver
//! dies, or whether another one repeats what it did.

use super::facts::Hosts;
use super::steps::Driver;
use super::{moves, update};
use crate::base::names::FleetHost;
use crate::base::ulid::Ulid;
use crate::base::{Exit, Result};
use crate::db::Db;
use crate::db::events::{self, NewEvent};
use crate::db::fleet::rollouts;
use crate::domain::fleet::rollout::Request;
use crate::queue::fleet::withdraw::withdraw_in;

/// Where a rollout has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    pub has_ended: bool,
    /// Whether there is something for left4me-link.
    pub has_orders: bool,
    /// When something is due without news, unix ms.
    pub due: Option<i64>,
}

/// Takes the next steps of a rollout, as far as what is known allows.
///
/// Fails with 3 for an unknown one; 69 if the database cannot be written.
pub fn step(db: &mut Db, here: &FleetHost, id: Ulid, now: i64) -> Result<Stepped> {
    db.write(|tx| {
        let rollout = rollouts::find(tx, id)?;
        let is_over = rollout.state.has_ended() || rollout.driver.is_some();
        let request = rollout.request.as_ref().filter(|_| !is_over);
        // A take-over drives once the engine has it: another controller may be first.
        let Some(request) = request.filter(|_| rollout.taken_from.is_none()) else {
            let stepped = Stepped {
                has_ended: is_over,
                ..Stepped::default()
            };
            return Ok(stepped);
        };

        let mut driver = Driver {
            tx,
            here,
            rollout: &rollout,
            hosts: Hosts::read(tx, now)?,
            now,
            has_orders: false,
        };
        driver.adopt_orders()?;
        let next = match request {
            Request::Moves(request) => moves::step(&mut driver, request)?,
            Request::Update(request) => update::step(&mut driver, request)?,
        };
        let has_orders = driver.has_orders;
        rollouts::save(tx, id, &next.progress, next.state, &next.detail, now)?;
        if next.state.has_ended() {
            let kind = format!("rollout.{}", next.state);
            let detail = format!("{} {id}: {}", rollout.kind, next.detail);
            events::add(
                tx,
                now,
                &NewEvent::new(&kind, &rollout.requested_by, &detail),
            )?;
        }

        // Here, or the next driver's orders, which have the same ids, could be taken back.
        let by = (rollout.requested_by.as_str(), here);
        for order in &next.take_back {
            match withdraw_in(tx, *order, by, "the rollout was aborted", now) {
                // It has ended, or is being taken back.
                Err(error) if error.exit == Exit::Conflict => {}
                other => drop(other?),
            }
        }

        Ok(Stepped {
            has_ended: next.state.has_ended(),
            has_orders: has_orders || !next.take_back.is_empty(),
            due: next.due,
        })
    })
}
