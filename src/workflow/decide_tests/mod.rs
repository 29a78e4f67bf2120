//! Runs, played in a world made of values.

mod course;
mod histories;
mod play;
mod restart;
