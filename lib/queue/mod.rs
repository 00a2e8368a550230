//! The engine: from an accepted wish to its end.
//!
//! [`enqueue`] accepts and pokes; [`claim`] decides who starts; [`run`] does one task with its [`hands`]; [`turn`] is one step of the
//! worker's story over its [`live`] jobs: write down what ended, claim, start; [`recover`] mends what a dead worker left; [`log`] writes down
//! every line. [`observe`] writes down what was seen of a server, whoever looked. [`journal`] tells the journal. [`steps`]
//! keeps ages true when the host's clock is set.

pub mod claim;
pub mod enqueue;
pub mod hands;
pub mod journal;
pub mod live;
pub mod log;
pub mod observe;
pub mod recover;
pub mod run;
pub mod settling;
mod stay_up;
pub mod steps;
pub mod turn;
pub mod work;
