//! Stories of one account in a world made of values.

mod course;
mod histories;
mod login;
mod provider;
mod trouble;
mod world;
