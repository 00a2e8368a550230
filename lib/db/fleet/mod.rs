//! The tables of a fleet. One file per table.

pub mod cursors;
pub mod driving;
pub mod events;
pub mod events_out;
pub mod gaps;
pub mod here;
pub mod hosts;
pub mod jobs;
pub mod kept_blueprints;
pub mod old;
pub mod orders_in;
pub mod orders_out;
pub mod orders_to_send;
pub mod overlays;
pub mod overview;
pub mod places;
pub mod rollouts;
pub mod self_row;
pub mod servers;
pub mod told;
pub mod ulids;
