//! Stories of one account in a world made of values.

mod course;
mod histories;
mod trouble;
mod world;
