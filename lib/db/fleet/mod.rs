//! The tables of a fleet. One file per table.

pub mod orders_out;
