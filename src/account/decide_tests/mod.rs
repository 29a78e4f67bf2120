//! Stories of one account in a world made of values.

mod course;
mod doubt;
mod histories;
mod interruption;
mod login;
mod provider;
mod trouble;
mod world;
