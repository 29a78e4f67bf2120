//! Runs, played in a world made of values.

mod course;
mod executor;
mod histories;
pub mod play;
mod restart;
