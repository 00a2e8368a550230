//! The tables of a fleet. One file per table.

pub mod events;
pub mod hosts;
pub mod jobs;
pub mod orders_out;
pub mod places;
pub mod servers;
